"""Each defect of v6 by a schedule written by hand, and the patch that mends it, silent on it.

Nothing but the runtime judges here: what crashes, hangs or leaves a lock behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from driver_world import GFN, Machine, Planted, argument, read, touches, verdict, write

from mshv_async.driver import MSHV_SET_MEM_EXECUTABLE
from mshv_async.sim import Injection


@dataclass
class Case:
    """A machine, programs, and the schedule; ``wrong``: the verdict where the bug is present."""

    guests: list[Any] = field(default_factory=list)
    regions: list[Any] = field(default_factory=list)
    programs: dict[str, list[str]] = field(default_factory=dict)
    plan: list[tuple[str, str | None]] = field(default_factory=list)
    injections: tuple[Injection, ...] = ()
    wrong: str = "clean"

    def play(self, driver: str) -> tuple[Machine, str]:
        machine = Machine(driver, guests=self.guests, regions=self.regions)
        rt = machine.play(self.programs, strategy=Planted(self.plan), injections=self.injections)
        return machine, verdict(rt)


def failing(within: str, rep: int | None = None) -> Injection:
    return Injection(
        at="hypercall.map_gpa", status="OPERATION_FAILED", within=within, rep=rep, force=True
    )


A01 = Case(
    guests=[touches(write(GFN))],
    regions=[argument()],
    programs={"host": ["madvise dontneed 0x200 1"]},
    plan=[("vp0", None)],
    injections=(failing("region_interval_invalidate"),),
    wrong="lost-unlock",
)
A07 = Case(
    guests=[touches(write(GFN))],
    regions=[argument()],
    programs={"oom-reaper": ["reap"]},
    # The fault holds the region mutex when the reaper's callback tries it.
    plan=[("vp0", "mutex.lock"), ("vp0", "hypercall.map_gpa"), ("oom-reaper", "mutex.trylock")],
    wrong="oops",
)
C01 = Case(
    guests=[touches(read(GFN), write(GFN))],
    regions=[argument(flags=MSHV_SET_MEM_EXECUTABLE)],
    wrong="livelock",
)
D01 = Case(
    guests=[touches(write(GFN))],
    regions=[argument()],
    programs={"vmm": ["unmap 0x200"]},
    # The look-up is done and the array is about to be allocated.
    plan=[("vp0", "alloc.fault.pfns"), ("vmm", None)],
    wrong="use-after-free",
)
D06_PARTITION = Case(
    programs={"vmm": ["map 0x200 8KiB"], "host": ["madvise dontneed 0x200 1"]},
    plan=[("vmm", "mutex.lock"), ("vmm", "notifier.insert_return"), ("host", None)],
    wrong="oops",
)
D06_MUTEX = Case(
    programs={"vmm": ["map 0x200 8KiB"], "host": ["madvise dontneed 0x200 1"]},
    # The callback holds the zeroed mutex while it is initialised.
    plan=[
        ("vmm", "notifier.insert_return"),
        ("host", "notifier.set_seq"),
        ("vmm", "region.set_partition"),
        ("host", None),
    ],
    wrong="oops",
)
D07 = Case(
    programs={"vmm": ["map 0x200 8KiB", "madvise dontneed 0x200 1"]},
    injections=(failing("map_user_memory", rep=0),),
    wrong="use-after-free",
)


@pytest.mark.parametrize(
    ("case", "driver"),
    [
        (A01, "v6"), (A01, "v7"), (A01, "v9"), (A01, "v6+range-before-lock"),
        (A07, "v6"), (A07, "v7"), (A07, "v9"), (A07, "v6+unlock-on-failure"),
        (C01, "v6"), (C01, "v7"), (C01, "v9"), (C01, "v6+region-refcount"),
        (D01, "v6"), (D01, "v6+check-access"),
        (D06_PARTITION, "v6"), (D06_MUTEX, "v6"), (D06_MUTEX, "v7"), (D06_MUTEX, "fix1"),
        (D07, "v6"), (D07, "v7"), (D07, "v9"),
    ],
)  # fmt: skip
def test_the_bug_is_there(case, driver):
    assert case.play(driver)[1] == case.wrong


@pytest.mark.parametrize(
    ("case", "driver"),
    [
        (A01, "fix1"),
        (A01, "v6+unlock-on-failure"), (A01, "v7+unlock-on-failure"),
        (A01, "v9+range-before-lock+unlock-on-failure"),
        (A01, "v6+unlock-on-failure+range-before-lock"),
        (A07, "fix1"), (A07, "v6+range-before-lock"), (A07, "v9+range-before-lock"),
        (A07, "v6+quiet-trylock-failure"), (A07, "fix1+quiet-trylock-failure"),
        (C01, "fix1"), (C01, "v6+check-access"), (C01, "v9+check-access"),
        (C01, "v6+region-refcount+check-access"),
        (D01, "v7"), (D01, "v9"), (D01, "fix1"), (D01, "v6+region-refcount"),
        (D06_PARTITION, "v6+init-before-insert"), (D06_MUTEX, "v6+init-before-insert"),
        (D06_MUTEX, "v7+init-before-insert"), (D06_MUTEX, "fix1+init-before-insert"),
        (D07, "fix1"), (D07, "v6+put-on-map-error"), (D07, "v9+put-on-map-error"),
        (D07, "v6+region-refcount+put-on-map-error"), (D07, "v6+list-before-map"),
    ],
)  # fmt: skip
def test_the_patch_mends_it(case, driver):
    assert case.play(driver)[1] == "clean"


def test_a07_a_quiet_refusal_does_not_warn():
    """A08: the refusal is legal, so a host that panics on warnings must survive it."""
    machine = Machine("fix1+quiet-trylock-failure", guests=A07.guests, regions=A07.regions)
    rt = machine.play(A07.programs, strategy=Planted(A07.plan))
    assert rt.warnings == {}
    loud = Machine("fix1", guests=A07.guests, regions=A07.regions)
    assert loud.play(A07.programs, strategy=Planted(A07.plan)).warnings


# -- D05: what the VMM gets, not what crashes --------------------------------------------------


def touch_during_map(driver: str, before: str) -> list[int]:
    """Let a VP touch the page when it is NO_ACCESS already and the ioctl stands at ``before``."""
    machine = Machine(driver, guests=[touches(write(GFN))])
    plan = [("vmm", "hypercall.map_gpa"), ("vmm", before), ("vp0", None)]
    rt = machine.play({"vmm": ["map 0x200 8KiB"]}, strategy=Planted(plan))
    assert verdict(rt) == "clean"
    assert len(machine.accesses) == 1 - len(machine.unhandled)
    return machine.unhandled


@pytest.mark.parametrize(
    ("driver", "before"),
    [("v6", "region.link"), ("v7", "spin.lock"), ("v9", "spin.lock"), ("fix1", "spin.lock")],
)
def test_d05_a_touch_between_map_and_list_is_left_to_the_vmm(driver, before):
    assert touch_during_map(driver, before) == [GFN]


@pytest.mark.parametrize(
    "driver",
    [
        "v6+list-before-map",
        "v7+list-before-map",
        "fix1+list-before-map",
        "v6+region-refcount+list-before-map",
        "v6+put-on-map-error+list-before-map",
    ],
)
def test_d05_with_the_list_first_the_touch_waits_and_is_served(driver):
    assert touch_during_map(driver, "region.pending") == []


@pytest.mark.parametrize("driver", ["v6+list-before-map", "v6+region-refcount+list-before-map"])
def test_d05_a_failed_map_leaves_the_waiting_vp_without_a_region(driver):
    """The waiter must not touch the region that is taken away again."""
    machine = Machine(driver, guests=[touches(write(GFN))], named_reps=[300])
    plan = [
        ("vmm", "hypercall.map_gpa"),
        ("lp-vmm", "hypercall.map_gpa.rep"),
        ("lp-vmm", "mailbox.receive"),
        ("vp0", None),
    ]
    rt = machine.play(
        {"vmm": ["map 0x200 4MiB", "madvise dontneed 0x200 1"]},
        strategy=Planted(plan),
        injections=(failing("map_user_memory", rep=300),),
    )
    assert verdict(rt) == "clean"
    assert machine.ioctls == [("map_user_memory", -5)]
    assert machine.regions() == []
    assert machine.unhandled == [GFN]


# -- D08: what is accepted -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "ret"),
    [
        ("v6", 0), ("v7", 0), ("v9", -17), ("fix1", -17),
        ("v6+interval-overlap", -17), ("v7+interval-overlap", -17),
    ],
)  # fmt: skip
def test_d08_a_map_around_a_region(driver, ret):
    machine = Machine(driver, regions=[argument(GFN, 2)])
    program = ["map 0x1ff 16KiB uaddr=0x50000000"]
    assert verdict(machine.play({"vmm": program})) == "clean"
    assert machine.ioctls == [("map_user_memory", ret)]


@pytest.mark.parametrize("driver", ["v6", "v7", "v9", "fix1", "v6+interval-overlap"])
@pytest.mark.parametrize("line", ["map 0x201 8KiB", "map 0x1ff 8KiB"])
def test_d08_partial_overlap_is_always_refused(driver, line):
    machine = Machine(driver, regions=[argument(GFN, 2)])
    machine.play({"vmm": [f"{line} uaddr=0x50000000"]})
    assert machine.ioctls == [("map_user_memory", -17)]


# -- C02: what a killed thread still does ----------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "walks"),
    [("v6", 2), ("fix1", 2), ("v6+killable-retry", 1), ("fix1+killable-retry", 1)],
)
def test_c02_a_killed_thread_does_not_fault_again(driver, walks):
    """An invalidation makes the fault start over; the signal came before that."""
    machine = Machine(driver, guests=[touches(write(GFN))], regions=[argument()])
    plan = [("vp0", "hmm.walk"), ("vp0", "mutex.lock"), ("host", None), ("vmm", None)]
    machine.mm.populate(argument().userspace_addr, 2)
    rt = machine.play({"host": ["madvise free 0x200 1"], "vmm": ["kill"]}, strategy=Planted(plan))
    assert verdict(rt) == "clean"
    assert rt.warnings == {}
    assert sum(op.label == "hmm.walk" for _, op in rt.trace) == walks
