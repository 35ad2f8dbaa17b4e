"""Runs made by hand, small enough to count in the head."""

from mshv_async.log import LOG_SCHEMA, NoteRecord, RunHeader, RunVerdict, StepRecord

HEADER = RunHeader(LOG_SCHEMA, "litmus/one-page", "v6", "pct", 7, "0.1.0")
VERDICT = RunVerdict("lost-unlock", "lost-unlock: region_interval_invalidate", "ab" * 32, 9, None)
TIMED = RunVerdict("clean", "", "cd" * 32, 9, 12_000)


def step(number, actor, label, *where, t_ns=None, **more):
    """`where`: object, lo, hi, as far as the step has them."""
    return StepRecord(number, t_ns, actor, label, *where, **more)


def note(number, t_ns, actor, event, **fields):
    return NoteRecord(number, t_ns, actor, event, fields)


RACE = [
    step(1, "vp0", "thread.start"),
    step(2, "guest0", "guest.write", "slat1", 0x200, 0x201, write=False),
    step(3, "vp0", "mutex.lock", "region@0x200.mutex"),
    step(4, "madvise", "notifier.start", "mm0.subscriptions", 0x7F200, 0x7F202, preempted=True),
    step(5, "lp-vp0", "hypercall.map_gpa.rep", "slat1", 0x200, 0x202, preempted=True),
    step(6, "vp0", "mutex.unlock", "region@0x200.mutex"),
    step(7, "madvise", "mutex.trylock", "region@0x200.mutex"),
    step(
        8,
        "lp-madvise",
        "hypercall.unmap_gpa.rep",
        "slat1",
        0x200,
        0x201,
        decision=("hypercall.unmap_gpa", 1, 2),
    ),
    step(9, "madvise", "page.free", "host", 5, 6),
]
