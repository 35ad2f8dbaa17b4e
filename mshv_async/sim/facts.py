"""What one execution tells: facts for its watchers, notes for its log, findings for its verdict.

Models tell facts (`probe`), the oracle watches them and reports findings. What a watcher looks at
and keeps is no access of the model: only checkers that ask for it hear of it. Findings are judged
when the step ends in which they were seen.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from mshv_async.sim import verdicts
from mshv_async.sim.accesses import WRITE, AccessRecorder
from mshv_async.sim.checkers import ShadowChecker
from mshv_async.sim.current import current_or_none, judging
from mshv_async.sim.faults import Finding, Place
from mshv_async.sim.shared import Dormant
from mshv_async.sim.stacks import StackFrame, stack_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mshv_async.sim.accesses import Change
    from mshv_async.sim.checkers import StepChecker
    from mshv_async.sim.thread import Thread

Subscription = tuple[int, "Callable[..., None]"]
"""The place of a listener, and a function of its class."""

Watchers = list["Callable[..., None]"]


class Facts:
    """Watchers, notes and findings of one execution.

    ``pending``: findings of this step, each of which ends the execution. ``noted``: those that do
    not, the first of each title. ``later``: judgements due when the step ends. ``instruments``:
    the value of ``instrumented`` while its threads run.
    """

    __slots__ = (
        "_listeners", "checkers", "instruments", "is_driver", "later", "noted", "notes",
        "observing", "pending", "recorder", "shadow_checkers", "steps", "watchers",
    )  # fmt: skip

    def __init__(
        self,
        is_driver: Callable[[str], bool],
        checkers: tuple[StepChecker, ...],
        *,
        records: bool,
        keep: bool,
    ) -> None:
        self.is_driver = is_driver
        self.instruments: bool | Dormant = bool(checkers)
        self.recorder: AccessRecorder | None = None
        if records:
            dormant = None
            if not checkers:  # nobody else looks, so nothing reports before it records
                dormant = self.instruments = Dormant()
            self.recorder = AccessRecorder(dormant)
            checkers = (*checkers, self.recorder)
        self.checkers = checkers
        self.shadow_checkers = tuple(c for c in checkers if isinstance(c, ShadowChecker))
        self.notes: list[tuple[int, int, str, dict[str, Any]]] | None = [] if keep else None
        self.watchers: dict[str, Watchers | tuple[Subscription, ...]] = {}
        self._listeners: Sequence[object] = ()
        self.observing = False
        self.pending: list[Finding] = []
        self.noted: dict[str, Finding] = {}
        self.later: list[Callable[[], None]] = []
        self.steps = 0

    def watch(self, name: str, watcher: Callable[..., None]) -> None:
        """Subscribe to the facts of one name that the models tell."""
        known = self.watchers.get(name)
        if known is None:
            self.watchers[name] = [watcher]
        else:
            (self._bound(name, known) if isinstance(known, tuple) else known).append(watcher)

    def listen(
        self, subscriptions: Mapping[str, tuple[Subscription, ...]], listeners: Sequence[object]
    ) -> None:
        """Subscribe methods of some listeners, before all who are not among them."""
        others, self.watchers = self.watchers, dict(subscriptions)
        self._listeners = listeners
        for name, watchers in others.items():
            assert isinstance(watchers, list), "there is one set of listeners"
            for watcher in watchers:
                self.watch(name, watcher)

    def _bound(self, name: str, subscribed: tuple[Subscription, ...]) -> Watchers:
        """Bind the functions that are called for a fact, now that others are to follow them."""
        listeners = self._listeners
        bound = self.watchers[name] = [partial(watch, listeners[at]) for at, watch in subscribed]
        return bound

    def probe(self, name: str, *args: Any) -> None:
        """Tell the watchers a fact. What they look at is not the model's doing."""
        watchers = self.watchers.get(name)
        if watchers:
            self.tell(watchers, args)

    def tell(self, watchers: Watchers | tuple[Subscription, ...], args: tuple[Any, ...]) -> None:
        """Tell a fact to its watchers; not all who begin to watch it now hear of it."""
        self.observing = True
        if isinstance(watchers, tuple):
            listeners = self._listeners
            for at, watch in watchers:
                watch(listeners[at], *args)
        else:
            for watcher in watchers:
                watcher(*args)
        self.observing = False

    def note(self, event: str, fields: dict[str, Any]) -> None:
        """Record a log event of the running thread, if this execution is kept."""
        if self.notes is not None:
            thread = current_or_none()
            name = thread.name if thread is not None else "setup"
            t_ns = thread.clock_ns if thread is not None else 0
            self.notes.append((self.steps, t_ns, name, {"event": event, **fields}))

    def touched(self, obj: Any, what: str, write: bool, lo: int = 0, hi: int = 0) -> None:
        """Add an access to the footprint of the current step, or of the oracle that judges it."""
        if self.observing:
            for judge in self.shadow_checkers:
                judge.observed(obj, what, write, lo, hi)
        else:
            for checker in self.checkers:
                checker.touched(obj, what, write, lo, hi)

    def counted(self, obj: Any, lo: int, hi: int) -> None:
        """Add a change to the footprint that commutes with others of its kind."""
        for checker in self.checkers:
            if checker is self.recorder:
                self.recorder.counted(obj, lo, hi)
            else:
                checker.touched(obj, "", True, lo, hi)

    def changed(self, obj: Any, lo: int, hi: int, pieces: Sequence[Change]) -> None:
        """Add a write into a map to the footprint."""
        if self.recorder is not None:
            self.recorder.changed(obj, pieces)
        if self.observing:
            for judge in self.shadow_checkers:
                if judge is not self.recorder:
                    judge.observed(obj, "", True, lo, hi)
        else:
            for checker in self.checkers:
                if checker is not self.recorder:
                    checker.touched(obj, "", True, lo, hi)

    def told(self, place: tuple[str, str], mode: str = WRITE) -> None:
        """Add an access to what is no modelled object, such as a thread's signals."""
        if self.recorder is not None:
            self.recorder.told(place, mode)

    def stack_of(self, thread: Thread) -> tuple[str, ...]:
        """Return the names of the functions on a thread's stack, innermost first."""
        return tuple(f.function for f in stack_of(thread, current_or_none()))

    def place(self, thread: Thread | None = None, frames: list[StackFrame] | None = None) -> Place:
        """Return where a thread is now: the functions worth naming first."""
        thread = thread or current_or_none()
        if thread is None:
            return Place("setup", 0, ())
        frames = stack_of(thread, current_or_none()) if frames is None else frames
        driver = [f.function for f in frames if self.is_driver(f.module)]
        if not driver and thread.serves is not None:
            served = stack_of(thread.serves, None)
            driver = [f.function for f in served if self.is_driver(f.module)]
        rest = [f.function for f in frames if not self.is_driver(f.module)]
        return Place(thread.name, self.steps, (*driver, *rest), len(driver))

    def report(self, finding: Finding) -> None:
        """Take a finding of the oracle; it ends the execution when the current step ends.

        Those that end none (``warn``, ``reclaim-under-lock``) are kept, and are what an
        execution came to that ends without another.
        """
        if finding.verdict in verdicts.NOTED:
            # Which title came first can decide what the execution came to.
            self.told(("runtime", "noted"), f"note {finding.title}")
            self.noted.setdefault(finding.title, finding)
        else:
            self.pending.append(finding)

    def judge_later(self, judge: Callable[[], None]) -> None:
        """Have the oracle look when the current step ends, once however often it is asked."""
        if judge not in self.later:
            self.later.append(judge)

    def _judge(self) -> None:
        """Make the judgements that are due."""
        due, self.later = self.later, []
        self.observing = True
        token = judging.set(self)  # the thread may be suspended by now
        for judge in due:
            judge()
        judging.reset(token)
        self.observing = False
