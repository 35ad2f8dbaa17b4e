"""Permitted failures: where one may happen, how often, and what it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mshv_async.sim.accesses import READ

if TYPE_CHECKING:
    from mshv_async.sim.thread import Thread


@dataclass(frozen=True, slots=True)
class Injection:
    """Permits ``times`` failures for each thread and call site at the points named ``at``.

    ``status`` is a hypercall status name, ``errno`` an errno name; one of them is set. ``within``
    restricts it to a function on the calling thread's stack, ``rep`` to one element of a call.
    ``force``: fail at the first match instead of letting the strategy choose.
    """

    at: str
    status: str | None = None
    errno: str | None = None
    within: str | None = None
    rep: int | None = None
    times: int = 1
    force: bool = False


class Injector:
    """Holds the injections of an execution and what is left of their budgets."""

    __slots__ = ("fired", "injections", "sites", "used")

    def __init__(self, injections: tuple[Injection, ...] = ()) -> None:
        self.injections = injections
        self.sites = frozenset(i.at for i in injections)
        self.used: dict[tuple[int, str], int] = {}
        self.fired: dict[str, int] = {}  # by calling thread

    def ask(self, at: str, caller: Thread, rep: int | None) -> Injection | None:
        """Return the failure to show at this point, or None; one decision for each match."""
        for index, injection in enumerate(self.injections):
            if injection.at != at or injection.rep not in (None, rep):
                continue
            if injection.within is not None and injection.within not in caller.rt.stack_of(caller):
                continue
            caller.rt.told(("injected", caller.name), READ)
            key = (index, f"{caller.name}/{injection.within or at}")
            if self.used.get(key, 0) >= injection.times or caller.rt.settled_at is not None:
                continue
            if injection.force or caller.rt.choose(f"{at}.fails", 2):
                caller.rt.told(("injected", caller.name))
                self.used[key] = self.used.get(key, 0) + 1
                self.fired[caller.name] = self.fired.get(caller.name, 0) + 1
                return injection
        return None
