"""What a kept run says of itself: its steps, its notes, its header, its verdict, its finding.

These are the values that cross from the runtime into logs, columns and reports. They are plain
and frozen: the runtime's trace is copied into them once, after the run.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

LOG_SCHEMA = "mshv-async.log/1"

FieldValue: TypeAlias = int | str | bool


class LogError(Exception):
    """A file that cannot be read as a log. Its text is one line that names the file."""


class StepRecord(msgspec.Struct, frozen=True, gc=False):
    """One step of one thread: what it did to which object, from one point to the next.

    `t_ns` is virtual nanoseconds, None in exploration. `lo` and `hi` are a half-open range of the
    object's keys (gfns, page numbers; 0, 0 where there is none). `preempted`: another thread that
    could have gone on was passed over for this one. `decision` is the data choice taken in the
    step, as (label, value, bound), where there was one. `depends`: the finding depends on it; None
    where that is not known.
    """

    step: int
    t_ns: int | None
    actor: str
    label: str
    object: str = ""
    lo: int = 0
    hi: int = 0
    write: bool = True
    preempted: bool = False
    decision: tuple[str, int, int] | None = None
    depends: bool | None = None


class NoteRecord(msgspec.Struct, frozen=True):
    """One event that modelled code noted (`note("fault.begin", gfn=...)`) during a step."""

    step: int
    t_ns: int | None
    actor: str
    event: str
    fields: dict[str, FieldValue] = msgspec.field(default_factory=dict)


Record: TypeAlias = StepRecord | NoteRecord


class RegionPlace(msgspec.Struct, frozen=True):
    """Where the VMM has guest pages: ``pages`` of 4 KiB from ``gfn`` on lie at page ``vpn`` on."""

    gfn: int
    vpn: int
    pages: int


class RunHeader(msgspec.Struct, frozen=True):
    """What was run: the first line of a log.

    `command` runs it again, `regions` says where guest pages lie; either may be unknown (empty).
    """

    schema: str
    scenario: str
    driver: str
    strategy: str
    seed: int
    package_version: str
    command: str = ""
    regions: tuple[RegionPlace, ...] = ()


class RunVerdict(msgspec.Struct, frozen=True):
    """What a run came to: the last line of a log.

    `digest` is null in real time; `virtual_ns` is null in exploration. The rest is the finding's,
    as in `Finding`, empty where there is none.
    """

    verdict: str
    title: str
    digest: str | None
    steps: int
    virtual_ns: int | None
    story: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    stacks: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    threads: tuple[str, ...] = ()
    loop: tuple[int, int] | None = None


class Finding(msgspec.Struct, frozen=True):
    """What a reader has to be told of one failing run, apart from its steps.

    `title` stays the same for the same bug. `story`: who did what to which object, three lines.
    `waits`: the shortest cycle and who waits for whom, or where the page was mapped, freed and
    used. `stacks`: for each thread that is inside the driver its modelled functions, innermost
    first. `threads`: those that took part; others in `stacks` are bystanders. `objects`: what it is
    about, by name; steps on them are always shown. `step`: where it was seen; the execution may
    have gone on. `loop`: of a run without progress, the first step of those that repeat for ever,
    and the first step after them, where a repeated state tells.
    """

    verdict: str
    title: str
    story: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    stacks: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    threads: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    step: int = 0
    loop: tuple[int, int] | None = None
