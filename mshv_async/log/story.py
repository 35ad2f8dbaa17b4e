"""An execution told in ten lines: who began what, what failed, what it came to.

Every event that a reader may need is worded and weighed; loops are folded; then the lightest go
until ten are left.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mshv_async.log.reading import LogEvent, is_step
from mshv_async.log.repeats import fold_repeats
from mshv_async.sim.spans import span

LINES_MAX = 10
# What is remembered of a long log: its end, where things went wrong.
REMEMBERED = 3000

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


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the story; `step` 0 where it stands for several."""

    step: int
    actor: str
    text: str
    weight: int

    def __str__(self) -> str:
        """Return it as printed."""
        where = f"step {self.step}: " if self.step else ""
        return f"{where}{self.actor} {self.text}".rstrip() if self.actor else self.text


class StoryTeller:
    """Collects the story from a log's events."""

    def __init__(self) -> None:
        self.lines: deque[Line] = deque(maxlen=REMEMBERED)

    def take(self, event: LogEvent) -> None:
        """Remember the event if it is worth telling."""
        told = _step(event) if is_step(event) else _note(event)
        if told is not None:
            self.lines.append(Line(event.step, event.actor, *told))

    def result(self) -> list[str]:
        """Return at most ten lines in order."""
        folded = fold_repeats(
            list(self.lines),
            key=lambda line: (line.actor, line.text),
            fold=lambda period, times: Line(
                0, "", f"… the {_count(period)} above {times} times more …", FAILURE
            ),
        )
        left_out = 0
        while len(folded) > LINES_MAX - (left_out > 0):
            lightest = min(line.weight for line in folded)
            folded.remove(next(line for line in folded if line.weight == lightest))
            left_out += 1
        lines = [str(line) for line in folded]
        return [*lines, f"({left_out} lesser events left out)"] if left_out else lines


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
            return f"gets {event.ret} from ioctl {event.ioctl}", FAILURE
        case "guest.intercept" if event.type in {"GPA_INTERCEPT", "UNMAPPED_GPA"}:
            access = str(event.access).lower()
            return f"is stopped: {access} of gfn {_hex(event.gfn)}, {event.type}", WORK
        case "hmm.range_fault" if _negative(event.ret):
            return f"gets {event.ret} from hmm_range_fault", FAILURE
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


def _count(n: int) -> str:
    return "line" if n == 1 else f"{n} lines"
