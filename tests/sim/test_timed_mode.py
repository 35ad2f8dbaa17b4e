"""Timed mode: a step takes its time, and who could go on first does."""

from __future__ import annotations

from playing import CLEAN, operation, play_once, schedule, verdict_of

from mshv_async.sim import Bounds, CostTable, Mutex, RwSem, Shared, current, point, sleep_ns, step
from mshv_async.sim.digest import digest
from mshv_async.sim.strategies import Fifo

COSTS = CostTable({"fast": 10, "slow": 1_000, "lock": 0, "mutex": 0, "rwsem": 0, "thread": 0})


def timed(build, **options):
    return play_once(build, Fifo(), mode="timed", **({"costs": COSTS} | options))


async def walk(*labels):
    for label in labels:
        await step(label)


def spawn_all(**bodies):
    def build(rt):
        for name, body in bodies.items():
            rt.spawn(name, body)

    return build


def test_threads_run_in_the_order_of_their_clocks():
    rt = timed(
        spawn_all(
            slow=lambda: walk("slow", "slow.again"),
            quick=lambda: walk(*["fast"] * 5),
        )
    )
    words = [w for w in schedule(rt).split() if "start" not in w]
    # Both begin at 0; the quick one's five steps of 10 ns end before the slow one's first.
    assert sorted(words[:2]) == ["quick.fast", "slow.slow"]
    assert words[2:] == ["quick.fast"] * 4 + ["slow.slow.again"]


def test_the_clock_of_a_step_is_when_it_begins_and_never_goes_back():
    rt = timed(spawn_all(one=lambda: walk("slow", "fast", "fast")))
    assert rt.clock_trace == [0, 0, 1_000, 1_010]
    assert rt.clock_trace == sorted(rt.clock_trace)
    assert len(rt.clock_trace) == len(rt.trace)


def test_a_cost_is_looked_up_by_the_longest_prefix():
    costs = CostTable({"a": 1, "a.b": 2, "a.b.c": 3})
    assert [costs.ns(x) for x in ("a", "a.x", "a.b", "a.b.x", "a.b.c.d")] == [1, 1, 2, 2, 3]
    assert costs.ns("unheard.of") == 100


def test_a_sleep_takes_its_time_and_ends_in_order():
    log = []

    async def sleeper(ns):
        await sleep_ns(ns)
        log.append((current().name, current().rt.now_ns))

    costs = CostTable({"thread": 0, "sleep": 0})
    timed(spawn_all(late=lambda: sleeper(5_000), early=lambda: sleeper(2_000)), costs=costs)
    assert log == [("early", 2_000), ("late", 5_000)]


def test_a_lock_is_handed_over_in_order_of_arrival():
    def build(rt):
        mutex, got = Mutex("m", "M"), []

        async def holder():
            await mutex.lock()
            await sleep_ns(100_000)
            await mutex.unlock()
            await mutex.lock()  # at once again, but behind those that wait
            got.append("holder")
            await mutex.unlock()

        async def waiter(after_ns):
            await sleep_ns(after_ns)
            await mutex.lock()
            got.append(current().name)
            await step("slow")
            await mutex.unlock()

        rt.spawn("holder", holder)
        for name, after_ns in (("third", 30), ("first", 10), ("second", 20)):
            rt.spawn(name, lambda after_ns=after_ns: waiter(after_ns))
        rt.watch("world.end", lambda: got.append("end"))
        rt.later_result = got

    for seed in range(5):
        rt = timed(build, seed=seed)
        assert rt.later_result == ["first", "second", "third", "holder", "end"]


def test_a_semaphore_is_handed_over_in_order_of_arrival_readers_in_a_batch():
    def build(rt):
        sem, got = RwSem("s", "S"), []

        async def holder():
            await sem.down_write()
            await sleep_ns(100_000)
            await sem.up_write()

        async def user(kind, after_ns):
            await sleep_ns(after_ns)
            await getattr(sem, f"down_{kind}")()
            got.append(current().name)
            await step("slow")
            await getattr(sem, f"up_{kind}")()

        rt.spawn("holder", holder)
        for name, kind, after_ns in (
            ("w2", "write", 20),
            ("r1", "read", 10),
            ("r3", "read", 30),
        ):
            rt.spawn(name, lambda kind=kind, after_ns=after_ns: user(kind, after_ns))
        rt.later_result = got

    # A reader stands at the head when the writer leaves: all queued readers are woken at once.
    assert timed(build).later_result == ["r1", "r3", "w2"]


def test_ties_are_broken_by_the_seed_and_repeat_with_it():
    def build(rt):
        for name in "abcd":
            rt.spawn(name, lambda: walk(*["fast"] * 5))

    digests = [digest(timed(build, seed=seed)) for seed in (1, 2, 3, 1)]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


class Flag(Shared):
    __slots__ = ("up",)

    def __init__(self):
        super().__init__("flag")
        self.up = False


SECOND = 1_000_000_000


def held_for(*naps_s, wait="lock"):
    def build(rt):
        mutex = Mutex("m", "M")

        async def holder():
            await mutex.lock()
            for nap_s in naps_s:
                await sleep_ns(nap_s * SECOND)
            await mutex.unlock()

        async def waiter():
            await sleep_ns(10)
            await getattr(mutex, wait)()
            await mutex.unlock()

        rt.spawn("holder", lambda: operation(holder()))
        rt.spawn("waiter", lambda: operation(waiter()))

    return build


def test_a_thread_blocked_for_longer_than_the_limit_is_a_hung_task():
    rt = timed(held_for(130))
    assert rt.finding.verdict == "hung-task"
    assert rt.finding.threads == ("waiter",)
    assert rt.finding.waits == ("waiter waits for holder at mutex.lock m",)


def test_a_hung_task_is_seen_though_no_single_pause_is_that_long():
    assert verdict_of(timed(held_for(50, 50, 50))) == "hung-task"


def test_shorter_waits_killable_waits_and_long_sleeps_are_no_hung_tasks():
    assert verdict_of(timed(held_for(50, 50))) == CLEAN
    assert verdict_of(timed(held_for(130, wait="lock_killable"))) == CLEAN
    assert verdict_of(timed(spawn_all(one=lambda: sleep_ns(500 * SECOND)))) == CLEAN


def test_the_limit_is_the_scenarios():
    assert verdict_of(timed(held_for(50), bounds=Bounds(hung_task_ns=30 * SECOND))) == "hung-task"


def test_exploration_never_judges_hung_tasks():
    assert verdict_of(play_once(held_for(500))) == CLEAN


def test_nothing_is_written_to_the_tape_but_values():
    def build(rt):
        flag = Flag()

        async def user():
            await point("flag.up", flag)
            flag.up = bool(rt.choose("up.fails", 2))

        rt.spawn("one", user)
        rt.spawn("two", user)

    assert [label for label, *_ in timed(build).tape] == ["up.fails", "up.fails"]
