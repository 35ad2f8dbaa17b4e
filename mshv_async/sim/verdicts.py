"""The verdicts that the runtime itself can reach, and how their findings are worded.

A title is what stays the same for the same bug: the verdict and the functions that met.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mshv_async.sim import waitfor
from mshv_async.sim.current import current_or_none
from mshv_async.sim.faults import Finding, ModelFault, Place
from mshv_async.sim.shared import name_of
from mshv_async.sim.stacks import stack_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.sim.op import Op
    from mshv_async.sim.runtime import Runtime
    from mshv_async.sim.stacks import StackFrame
    from mshv_async.sim.thread import Thread

#: From the worst; ``invariant:<name>`` stands as ``invariant``.
ORDER = (
    "oops",
    "use-after-free",
    "lost-unlock",
    "sleep-in-atomic",
    "deadlock",
    "invariant",
    "unkillable",
    "livelock",
    "starvation",
    "hung-task",
    "guest-killed",
    "warn",
    "clean",
)


#: Findings that are noted while the execution goes on.
NOTED = frozenset({"warn", "invariant:reclaim-under-lock"})


def severity(verdict: str) -> int:
    """Return the rank of a verdict, 0 the worst."""
    return ORDER.index(verdict.partition(":")[0])


def kind_of(obj: object) -> str:
    """Return an object's name without its number or address: stable between runs of one bug."""
    name = name_of(obj)
    stem, _, field = name.partition(".")
    stem = stem.partition("@")[0].rstrip("0123456789")
    return f"{stem}.{field}" if field else stem


def title(verdict: str, functions: Sequence[str], about: str = "") -> str:
    """Return the one-line title of a finding."""
    met: list[str] = []
    for function in functions:
        if function and function not in met:
            met.append(function)
    return f"{verdict}: {' / '.join(met)}" + (f" ({about})" if about else "")


def innermost(place: Place) -> str:
    """Return the function that a title names for a place: not the way into a hypercall."""
    named = (f for f in place.functions if not f.startswith("hv_do_"))
    return next(named, place.thread)


def _stacks(rt: Runtime, threads: Sequence[Thread]) -> dict[str, tuple[str, ...]]:
    return {t.name: rt.stack_of(t) for t in threads}


def with_bystanders(rt: Runtime, finding: Finding) -> Finding:
    """Add the stacks of the other threads that are inside a driver call as the execution ends."""
    running = current_or_none()
    stacks = {}
    for thread in rt.live:
        if thread.name not in finding.stacks:
            frames = stack_of(thread, running)
            inner = next((i for i, f in enumerate(frames) if rt.is_driver(f.module)), None)
            if inner is not None:  # from the function that the driver called on
                stacks[thread.name] = tuple(f.function for f in frames[max(0, inner - 1) :])
    return replace(finding, stacks=finding.stacks | stacks) if stacks else finding


def of_fault(rt: Runtime, thread: Thread, fault: ModelFault, frames: list[StackFrame]) -> Finding:
    """Word the finding of a fault that modelled code raised."""
    here = rt.place(thread, frames)
    objects = tuple(name_of(o) for o in fault.objects)
    story = [f"{thread.name} in {innermost(here)}: {fault.what}"]
    met = [innermost(here)]
    if fault.other is not None:
        met.append(innermost(fault.other))
        story.append(
            f"{fault.other.thread} freed it at step {fault.other.step} in {innermost(fault.other)}"
        )
    about = kind_of(fault.objects[0]) if fault.objects else fault.what
    others = [t for t in rt.live if fault.other is not None and t.name == fault.other.thread]
    return Finding(
        fault.verdict,
        title(fault.verdict, met, about),
        tuple(story),
        stacks={thread.name: tuple(f.function for f in frames)} | _stacks(rt, others),
        step=rt.steps,
        threads=(thread.name, *([fault.other.thread] if fault.other else [])),
        objects=objects,
    )


def sleep_in_atomic(rt: Runtime, thread: Thread, op: Op) -> None:
    """Report that a thread would sleep where it must not; a worse finding of the step wins."""
    here = rt.place(thread)
    why = []
    if thread.spins:
        why.append("it holds a spinlock")
    if thread.irqs_off:
        why.append("interrupts are off")
    if thread.nonblock_depth:
        why.append("it is in a callback that may not block")
    rt.report(
        Finding(
            "sleep-in-atomic",
            title("sleep-in-atomic", [innermost(here)], op.label),
            (f"{thread.name} may sleep at {op.label} {op.object_name}".rstrip(), *why),
            stacks=_stacks(rt, [thread]),
            step=rt.steps,
            threads=(thread.name,),
            objects=(op.object_name,) if op.obj is not None else (),
        )
    )


def left_holding(rt: Runtime, thread: Thread, locks: Sequence[Any], frame: str) -> None:
    """Report ``lost-unlock``: the thread leaves a frame with locks it did not bring."""
    lock = locks[-1]
    body = getattr(thread.coro, "__name__", thread.name)
    function = body if frame == "exit" else frame
    rt.report(
        Finding(
            "lost-unlock",
            title("lost-unlock", [function], kind_of(lock)),
            (f"{thread.name} leaves {function} and still holds {name_of(lock)}",),
            stacks=_stacks(rt, [thread]),
            step=rt.steps,
            threads=(thread.name,),
            objects=tuple(name_of(x) for x in locks),
        )
    )


def deadlock(rt: Runtime, cycle: list[Thread], waiting: list[Thread]) -> Finding:
    """Word a deadlock: the cycle if there is one, else all who wait."""
    shown = cycle or waiting
    places = [rt.place(t) for t in shown]
    ends = sorted(f"{innermost(p)}({t.op.label})" for p, t in zip(places, shown, strict=True))
    return Finding(
        "deadlock",
        title("deadlock", ends),
        tuple(f"{t.name} waits at {t.op.label} {t.op.object_name}" for t in shown[:3]),
        waits=waitfor.wait_lines(shown),
        stacks=_stacks(rt, shown),
        step=rt.steps,
        threads=tuple(t.name for t in shown),
        objects=tuple(t.op.object_name for t in shown if t.op.obj is not None),
    )


def _serving(rt: Runtime, thread: Thread) -> list[Thread]:
    """Return the threads that work on the same program operation."""
    return [t for t in rt.live if t.ledger is thread.ledger] or [thread]


def _looping_function(rt: Runtime, thread: Thread) -> str:
    """Return the innermost of the calls that a thread has not left since the tail began.

    The loop is in it, or below it. The driver's, if one of those that serve the operation is in
    the driver all the time; a coroutine's own machinery (``_name``) is passed over.
    """
    for t in (thread, *_serving(rt, thread)):
        driver = set(rt.place(t).driver)
        lasting = [f for f in rt.lasting_calls.get(t.tid, ()) if f in driver]
        if lasting:
            return lasting[-1]
    named = [f for f in rt.lasting_calls.get(thread.tid, ()) if not f.startswith("_")]
    return named[-1] if named else thread.name


def livelock(rt: Runtime, thread: Thread) -> Finding:
    """Word a livelock: the thread steps, fairly scheduled, and its operation does not end."""
    steps = f"{thread.ledger.own_steps} steps since turning fair"
    told = f"{thread.name} took {steps} without finishing its operation"
    return _endless(rt, thread, "livelock", told)


def unkillable(rt: Runtime, thread: Thread) -> Finding:
    """Word a killed thread that does not leave, though it and all others run equally often."""
    steps = f"{thread.ledger.own_steps} steps since turning fair"
    told = f"{thread.name} has a fatal signal pending, took {steps} and has not left"
    return _endless(rt, thread, "unkillable", told)


def _endless(rt: Runtime, thread: Thread, verdict: str, told: str) -> Finding:
    serving = _serving(rt, thread)
    stand = [f"{t.name} stands at {t.op.label} {t.op.object_name}".rstrip() for t in serving[:2]]
    return Finding(
        verdict,
        title(verdict, [_looping_function(rt, thread)]),
        (told, *stand),
        stacks=_stacks(rt, serving),
        step=rt.steps,
        threads=tuple(t.name for t in serving),
    )


def repeating(rt: Runtime, thread: Thread, loop: tuple[int, int], *, closed: bool) -> str:
    """Tell the steps (the first, the one after the last) that can go on for ever."""
    first, end = loop
    counts: dict[str, int] = {}
    for tid, _ in rt.trace[first - 1 : end - 1]:
        name = rt.all_threads[tid].name
        counts[name] = counts.get(name, 0) + 1
    who = ", ".join(f"{name} {n}" for name, n in counts.items())
    n = end - first
    steps = "1 step" if n == 1 else f"{n} steps"
    goes = ("repeats" if n == 1 else "repeat") if closed else "could fairly repeat"
    return f"{steps} from step {first} on {goes} for ever ({who}): {thread.name} makes no progress"


def bounded(rt: Runtime) -> str:
    """Tell that a verdict is a bound, since no loop was seen."""
    loops = rt.loops
    if loops is None or loops.why_not:
        why = f", {loops.why_not}" if loops is not None else ""
        return f"a bound: {rt.steps - rt.fair_since} steps without progress{why}"
    return f"a bound: no state repeated in {loops.steps} steps"


def adversary(names: Sequence[str]) -> str:
    """Tell which threads have to go on for ever, if any, for nobody else to make progress."""
    if not names:
        return "needs no endless adversary"
    threads = "thread" if len(names) == 1 else "threads"
    return f"needs an endless adversary: {threads} {' and '.join(names)}, marked forever"


#: Verdicts of who makes no progress.
WAITING = frozenset({"deadlock", "unkillable", "livelock", "starvation"})


def in_second_phase(finding: Finding, settled_at: int) -> Finding:
    """Add to a finding of who makes no progress that nothing disturbed it any more."""
    if finding.verdict not in WAITING:
        return finding
    told = f"in the second phase: from step {settled_at + 1} on nothing fails or interferes"
    return replace(finding, story=(*finding.story, told))


def starved(rt: Runtime, thread: Thread, *, came: bool) -> Finding:
    """Word a wait that never ended although the others went on for the whole bound."""
    verdict = "starvation" if came else "deadlock"
    here = rt.place(thread)
    return Finding(
        verdict,
        title(verdict, [innermost(here)], thread.op.label),
        (f"{thread.name} waits at {thread.op.label} {thread.op.object_name}",),
        waits=waitfor.wait_lines([thread]),
        stacks=_stacks(rt, [thread]),
        step=rt.steps,
        threads=(thread.name,),
    )


def hung(rt: Runtime, thread: Thread, blocked_ns: int) -> Finding:
    """Word a thread blocked uninterruptibly for more than the limit of virtual time."""
    here = rt.place(thread)
    return Finding(
        "hung-task",
        title("hung-task", [innermost(here)], thread.op.label),
        (f"{thread.name} blocked for {blocked_ns} ns at {thread.op.label}",),
        waits=waitfor.wait_lines([thread]),
        stacks=_stacks(rt, [thread]),
        step=rt.steps,
        threads=(thread.name,),
    )


def warning(rt: Runtime, site: str) -> None:
    """Count a WARN; it is a finding only with ``panic_on_warn``."""
    rt.warnings[site] = rt.warnings.get(site, 0) + 1
    if rt.panic_on_warn:
        thread = current_or_none()
        here = rt.place(thread)
        rt.report(
            Finding(
                "warn",
                title("warn", [innermost(here)], site),
                (f"{here.thread} in {innermost(here)}: WARN {site}",),
                stacks=_stacks(rt, [thread] if thread else []),
                step=rt.steps,
                threads=(here.thread,),
            )
        )
