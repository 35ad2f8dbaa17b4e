"""An execution told in ten lines: who began what, what failed, what it came to.

Every event that a reader may need is worded and weighed. What is said again is counted where it
was said first, which folds loops, however irregular; then the lightest go until ten are left.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from mshv_async.log.reading import LogEvent, is_step
from mshv_async.sim.spans import span

LINES_MAX = 10
# A long log says more than this; what weighs little is then no longer taken up.
REMEMBERED = 5000

ALWAYS, FAILURE, LIFE, WORK, DETAIL = 5, 4, 3, 2, 1

# Notes that speak for themselves: what they mean, and their weight.
_PLAIN = {
    "mm.exit": ("tears the address space down", LIFE),
    "process.exit": ("exits", LIFE),
    "process.closes": ("closes its descriptors", WORK),
    "vmm.kill": ("sends a fatal signal", LIFE),
    "vp.killed": ("leaves: it was killed", LIFE),
    "notifier.insert": ("inserts the notifier", WORK),
    "notifier.remove": ("removes the notifier", LIFE),
    "region.invalidate_failed": ("fails to invalidate the region", FAILURE),
    "region.unmap_failed": ("fails to unmap the region", FAILURE),
}


@dataclass(slots=True)
class _Line:
    """One line of the story, and how often it was said, from `step` to `last`."""

    step: int
    actor: str
    text: str
    weight: int
    times: int = 1
    last: int = 0

    def __str__(self) -> str:
        again = f" ({self.times} times, last at step {self.last})" if self.times > 1 else ""
        return f"step {self.step}: {self.actor} {self.text}{again}"


class StoryTeller:
    """Collects the story from a log's events."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, str], _Line] = {}
        self.left_out = 0

    def take(self, event: LogEvent) -> None:
        """Remember the event if it is worth telling."""
        told = _step(event) if is_step(event) else _note(event)
        if told is None:
            return
        text, weight = told
        line = self.lines.get((event.actor, text))
        if line is not None:
            line.times += 1
            line.last = event.step
        elif len(self.lines) < REMEMBERED or weight > WORK:
            self.lines[event.actor, text] = _Line(event.step, event.actor, text, weight)
        else:
            self.left_out += 1

    def result(self) -> list[str]:
        """Return at most ten lines in order."""
        lines = list(self.lines.values())
        if self.left_out + len(lines) > LINES_MAX:
            # Of equal weight the later ones stay: they are nearer to what went wrong.
            by_weight = sorted(range(len(lines)), key=lambda i: (lines[i].weight, lines[i].step))
            stay = set(by_weight[-(LINES_MAX - 1) :])
            told = [str(line) for i, line in enumerate(lines) if i in stay]
            return [*told, f"({self.left_out + len(lines) - len(told)} lesser events left out)"]
        return [str(line) for line in lines]


def _step(event: LogEvent) -> tuple[str, int] | None:
    """Word a failure that the strategy chose, and the end of an object."""
    if isinstance(event.decision, list) and len(event.decision) == 3 and event.decision[1]:
        return f"meets a chosen failure: {event.decision[0]} at {event.event}", ALWAYS
    return (f"frees {event.object}", LIFE) if event.event == "free" and event.object else None


def _note(event: LogEvent) -> tuple[str, int] | None:  # noqa: C901, PLR0911 - one case an event
    match event.event:
        case "op.begin":
            return f"begins `{event.op}`", LIFE
        case "op.end":
            return f"ends `{event.op}`: {event.ret}", FAILURE if event.failed is True else DETAIL
        case "ioctl.return" if _negative(event.ret):
            return f"gets {_errno(event.ret)} from ioctl {event.ioctl}", FAILURE
        case "guest.intercept" if event.type in {"GPA_INTERCEPT", "UNMAPPED_GPA"}:
            access = str(event.access).lower()
            return f"is stopped: {access} of gfn {_hex(event.gfn)}, {event.type}", WORK
        case "hmm.range_fault" if _negative(event.ret):
            return f"gets {_errno(event.ret)} from hmm_range_fault", FAILURE
        case "hypercall.return" if event.status != "SUCCESS":
            return f"gets {event.status} from {event.code} after {event.done} reps", FAILURE
        case "hypercall.return" if event.code in {"MAP_GPA", "UNMAP_GPA"}:
            return f"has {event.code} done up to rep {event.done}", DETAIL
        case "notifier.start" if isinstance(event.start, int) and isinstance(event.end, int):
            pages = span(event.start >> 12, event.end >> 12)
            return f"begins to invalidate vpn {pages} ({event.event_type})", WORK
        case "lock.wait":
            return f"waits for {event.lock}", WORK
        case "warn":
            return f"fires WARN: {event.site}", FAILURE
        case "oom.kill":
            return f"kills the process of {event.mm}", LIFE
    return _PLAIN.get(event.event)


def _hex(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) else str(value)


def _negative(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value < 0


def _errno(value: object) -> str:
    return f"-{errno.errorcode.get(-value, -value)}" if isinstance(value, int) else str(value)
