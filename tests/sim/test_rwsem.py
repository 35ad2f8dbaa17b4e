"""The reader/writer semaphore does what the kernel's does, over all schedules of small programs."""

from __future__ import annotations

import errno

import pytest
from playing import CLEAN, exhaust, operation, play_once, random_runs

from mshv_async.sim import RwSem, current, point, step

EINTR = -errno.EINTR


async def read(sem, log):
    await sem.down_read()
    log.append(f"+{current().name}")
    await step("reading")
    log.append(f"-{current().name}")
    await sem.up_read()


async def write(sem, log):
    await sem.down_write()
    log.append(f"+{current().name}")
    await step("writing")
    log.append(f"-{current().name}")
    await sem.up_write()


def test_readers_share_and_writers_exclude():
    def build(rt):
        sem, log = RwSem("s", "S"), []
        rt.spawn("w", lambda: write(sem, log))
        rt.spawn("r1", lambda: read(sem, log))
        rt.spawn("r2", lambda: read(sem, log))
        return lambda: tuple(log)

    seen = exhaust(build, 2)
    assert {v for v, _ in seen} == {CLEAN}
    together = 0
    for _, log in seen:
        at = log.index("+w")
        assert log[at + 1] == "-w"
        together += "+r1 +r2" in " ".join(log)
    assert together


def held_by_a_reader_while_a_writer_waits(barging, second):
    """``second`` arrives once the writer queues behind a reader."""

    def build(rt):
        sem, log = RwSem("s", "S", barging=barging), []

        async def first():
            await sem.down_read()
            current().rt.spawn("w", lambda: write(sem, log))
            while not sem.queue:
                await step("first.waits")
            spawned = current().rt.spawn("second", lambda: second(sem, log))
            while not spawned.finished and spawned.op.label != "rwsem.read_lock":
                await step("first.waits")
            for _ in range(5):
                await step("first.works")
            log.append("-first")
            await sem.up_read()

        rt.spawn("first", first)
        return lambda: tuple(log)

    return build


def logs(build, n=60):
    found = set()

    def wrapped(rt):
        result = build(rt)
        rt.later_result = result  # type: ignore[attr-defined]

    for rt in random_runs(wrapped, n):
        assert rt.finding is None
        found.add(rt.later_result())
    return found


def test_a_reader_that_arrives_behind_a_waiting_writer_waits_for_it():
    found = logs(held_by_a_reader_while_a_writer_waits(False, read))
    assert found == {("-first", "+w", "-w", "+second", "-second")}


def test_with_barging_a_reader_may_pass_a_waiting_writer():
    found = logs(held_by_a_reader_while_a_writer_waits(True, read))
    assert any(log.index("+second") < log.index("-first") for log in found)


def test_a_read_trylock_fails_behind_a_waiting_writer():
    async def trier(sem, log):
        log.append(await sem.down_read_trylock())

    found = logs(held_by_a_reader_while_a_writer_waits(False, trier))
    assert {log[0] for log in found} == {False}


def test_readers_that_queued_before_a_writer_may_go_before_it():
    """w1 holds, r queues, w2 queues: r need not wait for w2, though w2 may be quicker."""

    def build(rt):
        sem, log = RwSem("s", "S"), []

        async def holder():
            await sem.down_write()
            reader = current().rt.spawn("r", lambda: read(sem, log))
            while reader.op.label != "rwsem.read_lock":
                await step("holder.waits")
            writer = current().rt.spawn("w2", lambda: write(sem, log))
            while writer.op.label != "rwsem.write_lock":
                await step("holder.waits")
            await sem.up_write()

        rt.spawn("w1", holder)
        return lambda: tuple(log)

    assert logs(build) == {("+r", "-r", "+w2", "-w2"), ("+w2", "-w2", "+r", "-r")}


def test_a_reader_between_two_writers_waits_for_the_first_only():
    """A reader holds; w1, r, w2 queue in this order, w2 stays away: r goes after w1 or w2."""

    def build(rt):
        sem, log = RwSem("s", "S"), []

        async def holder():
            await sem.down_read()
            for name, body, label in (
                ("w1", write, "rwsem.write_lock"),
                ("r", read, "rwsem.read_lock"),
                ("w2", write, "rwsem.write_lock"),
            ):
                thread = current().rt.spawn(name, lambda body=body: body(sem, log))
                while thread.op.label != label:
                    await step("holder.waits")
            await sem.up_read()

        rt.spawn("holder", holder)
        return lambda: tuple(word for word in log if word[0] == "+")

    found = logs(build, 200)
    assert ("+w1", "+r", "+w2") in found
    assert ("+r", "+w1", "+w2") not in found


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_killed_waiter_leaves_the_semaphore_usable(kind):
    def build(rt):
        sem, got, log = RwSem("s", "S"), [], []

        async def victim():
            got.append(await getattr(sem, f"down_{kind}_killable")())
            if got[0] == 0:
                await getattr(sem, f"up_{kind}")()

        async def killer():
            await sem.down_write()
            await point("signal.send")
            thread.signal_fatal()
            await sem.up_write()
            await read(sem, log)

        thread = rt.spawn("victim", victim)
        rt.spawn("killer", killer)
        return lambda: (got[0], tuple(log), sem.queue, sem.readers, sem.writer)

    def freeze(rt):
        result = build(rt)
        return lambda: (*result()[:3], tuple(result()[3]), result()[4])

    rest = (("+killer", "-killer"), (), (), None)
    assert set(exhaust(freeze)) == {(CLEAN, (0, *rest)), (CLEAN, (EINTR, *rest))}


def test_readers_behind_a_killed_writer_go_on():
    def build(rt):
        sem, log = RwSem("s", "S"), []

        async def victim():
            assert await sem.down_write_killable() == EINTR
            log.append("killed")

        async def holder():
            await sem.down_read()
            writer = current().rt.spawn("victim", victim)
            while writer.op.label != "rwsem.write_lock":
                await step("holder.waits")
            current().rt.spawn("r", lambda: read(sem, log))
            await point("signal.send")
            writer.signal_fatal()
            while "-r" not in log:  # would wait for ever if the dead writer still blocked
                await step("holder.waits")
            await sem.up_read()

        rt.spawn("holder", lambda: operation(holder()))
        return lambda: tuple(log)

    assert logs(build) == {("killed", "+r", "-r")}


def test_a_downgrade_lets_readers_in_and_writers_not():
    def build(rt):
        sem, log = RwSem("s", "S"), []

        async def downgrader():
            await sem.down_write()
            await step("d.writes")
            await sem.downgrade_write()
            log.append("+d")
            await step("d.reads")
            log.append("-d")
            await sem.up_read()

        rt.spawn("d", downgrader)
        rt.spawn("r", lambda: read(sem, log))
        rt.spawn("w", lambda: write(sem, log))
        return lambda: " ".join(log)

    seen = exhaust(build, 2)
    assert {v for v, _ in seen} == {CLEAN}
    assert any("+d +r" in log for _, log in seen)
    assert not any("+d +w" in log or "+w +d" in log for _, log in seen)


@pytest.mark.parametrize("release", ["up_read", "up_write", "downgrade_write"])
def test_releasing_a_semaphore_that_is_not_held_is_an_oops(release):
    async def user():
        await getattr(RwSem("s", "S"), release)()

    def build(rt):
        rt.spawn("one", user)

    assert play_once(build).finding.verdict == "oops"
