import pytest

from mshv_async.guest import Group, Program, Replay, Sleep, Yield, execute, parse_trace, read, write
from mshv_async.hyperv import MMIO, NO_ACCESS_ENTRY, Access, HvMessageType, SlatEntry
from mshv_async.sim import Tag
from mshv_async.sim.current import instrumented
from mshv_async.sim.footprints import FootprintChecker
from mshv_async.sim.races import RaceChecker
from mshv_async.sim.statekey import state_key
from mshv_async.sim.strategies import RandomWalk

GFN = 0x200
HALT = HvMessageType.HALT


def test_a_refused_access_is_tried_again_and_completes_once(small_world):
    world = small_world(Program.of(write(GFN, "a"), read(GFN)))
    rt = world.play()
    assert rt.finding is None
    done = [(access, gfn, tag) for _, access, gfn, _, tag in world.facts_of("guest.access")]
    assert done == [(Access.WRITE, GFN, "a"), (Access.READ, GFN, "a")]
    assert len(world.facts_of("guest.refused")) == 1
    assert world.exits == [HvMessageType.GPA_INTERCEPT, HALT]


def test_an_access_is_issued_once_however_often_it_is_refused(small_world):
    """Whether an access was legal is judged from its issue on."""
    world = small_world(Program.of(write(GFN), write(GFN + 1)))

    async def refuse_twice(guest, vp, serve=world.serve):
        gfn = vp.intercept_message.gfn
        if len(world.facts_of("guest.refused")) >= 3:
            await serve(guest, vp)
        else:
            assert world.partition.slat.get(gfn) == NO_ACCESS_ENTRY

    world.serve = refuse_twice
    world.play()
    assert [args[2] for args in world.facts_of("guest.issue")] == [GFN, GFN + 1]
    assert [args[2] for args in world.facts_of("guest.refused")] == [GFN] * 3 + [GFN + 1]


def test_a_page_that_was_never_mapped_is_unmapped_gpa_and_the_vmm_may_skip_it(small_world):
    world = small_world(Program.of(read(0x10), read(GFN)))
    rt = world.play()
    assert rt.finding is None
    assert world.exits == [HvMessageType.UNMAPPED_GPA, HvMessageType.GPA_INTERCEPT, HALT]
    assert [args[2] for args in world.facts_of("guest.access")] == [GFN]
    labels = [op.label for _, op in rt.trace if op.label.startswith("guest") and op.lo == 0x10]
    assert labels == ["guest.read"]


def test_skipping_the_last_operation_ends_the_program(small_world):
    world = small_world(Program.of(write(0x10)))
    assert world.play().finding is None
    assert world.exits == [HvMessageType.UNMAPPED_GPA, HALT]


@pytest.mark.parametrize(
    ("operation", "rights"), [(write(GFN), 0x1), (execute(GFN), 0x3), (read(GFN), 0x0)]
)
def test_a_missing_right_raises_gpa_intercept_with_the_access(small_world, operation, rights):
    world = small_world(Program.of(operation), rights=rights)
    entry = SlatEntry("ram", 0x1200, rights) if rights else NO_ACCESS_ENTRY
    world.partition.map_direct(GFN, 1, entry)
    world.serve = _skip_all
    world.play()
    (_, access, gfn, message) = world.facts_of("guest.refused")[0]
    assert (access, gfn) == (operation.access, GFN)
    assert (message.type, message.access) == (HvMessageType.GPA_INTERCEPT, operation.access)
    assert not world.facts_of("guest.access")


async def _skip_all(guest, vp):
    guest.skip()


def test_a_value_written_by_one_processor_is_read_by_the_other(small_world):
    world = small_world(Program((Group((write(GFN),), 3),)), Program((Group((read(GFN),), 3),)))
    world.play(RandomWalk(5))
    written = set()
    for _, access, _, _, tag in world.facts_of("guest.access"):
        assert isinstance(tag, Tag) or tag == 0
        if access is Access.WRITE:
            written.add(tag)
            last = tag
        else:
            assert tag == (last if written else 0)
    assert written == {"vp0.1", "vp0.2", "vp0.3"}


def test_device_pages_hold_no_content(small_world):
    world = small_world(Program.of(write(0x900), read(0x900)))
    world.partition.map_direct(0x900, 1, SlatEntry(MMIO, 5, 0x3))
    world.play()
    assert not world.frames.content
    assert world.facts_of("guest.access")[1][4] == 0


def test_sleeping_and_yielding_guests_go_on(small_world):
    for mode in ("explore", "timed"):
        world = small_world(Program.of(Sleep(1000), read(GFN), Yield(), read(GFN)))
        assert world.play(mode=mode).finding is None
        assert len(world.facts_of("guest.access")) == 2


def test_an_endless_program_stops_when_the_others_are_done(small_world):
    world = small_world(
        Program.of(write(GFN), read(GFN + 1), times=None), Program.of(*[read(GFN + 2)] * 5)
    )
    rt = world.play(RandomWalk(3))
    assert rt.finding is None
    assert rt.cut is None
    assert world.exits[-1] is HALT
    assert world.exits.count(HALT) == 2


@pytest.mark.parametrize("seed", range(10))
def test_a_virtual_processor_that_is_not_run_executes_nothing(small_world, seed):
    world = small_world(Program.of(read(GFN)), Program.of(read(GFN)))

    async def never(guest):
        return

    run = world.run_vp
    world.run_vp = lambda guest: never(guest) if guest.name == "guest1" else run(guest)
    assert world.play(RandomWalk(seed)).finding is None
    assert {args[0].name for args in world.facts_of("guest.access")} == {"guest0"}


def test_a_guest_that_faults_for_ever_is_a_livelock_of_its_processor(small_world):
    """RUN_VP returning again and again is no progress."""
    world = small_world(Program.of(write(GFN)))

    async def nothing(guest, vp):
        return

    world.serve = nothing
    rt = world.play()
    assert rt.finding is not None
    assert rt.finding.verdict == "livelock"


def test_a_replayed_trace_touches_every_page_in_order(small_world):
    trace = parse_trace("w 0\nr 0\nx 3\nr 7\n", "t")
    world = small_world(Replay(trace, GFN))
    assert world.play().finding is None
    gfns = [args[2] - GFN for args in world.facts_of("guest.access")]
    assert gfns == [0, 0, 3, 7]


def checked_world(small_world):
    token = instrumented.set(True)
    world = small_world(
        Program.of(write(GFN), read(GFN + 1), write(0x10)), Program.of(write(GFN), read(GFN))
    )
    return world, token


@pytest.mark.parametrize("seed", range(12))
def test_no_state_hides_and_no_point_is_missing_between_guests_and_hypervisor(small_world, seed):
    """Else the search would cut schedules that matter."""
    world, token = checked_world(small_world)
    try:
        races = RaceChecker()
        changes = FootprintChecker()
        rt = world.play(RandomWalk(seed), checkers=(races, changes))
    finally:
        instrumented.reset(token)
    assert rt.finding is None
    # The content of the frames is the test's own; nothing else may be left over.
    found = [*races.races.values(), *changes.missing.values()]
    assert [str(f) for f in found if not f.state.startswith("frames.content")] == []
    assert changes.checked_steps > 20


def test_the_world_of_guests_and_hypervisor_has_a_state_key_at_every_step(small_world):
    """A key is refused where state hides; equal schedules give equal keys."""

    def keys():
        world = small_world(Program.of(write(GFN), read(GFN + 1)), Program.of(write(GFN)))
        found = []

        class Recorder(RandomWalk):
            def pick(self, enabled, current):
                found.append(state_key(enabled[0].rt, [world.hv, world.frames, world.guests]))
                return super().pick(enabled, current)

        world.play(Recorder(4))
        return found

    first = keys()
    assert first == keys()
    assert len(set(first)) > 10
