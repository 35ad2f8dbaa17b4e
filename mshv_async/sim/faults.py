"""How an execution stops: faults of the modelled code, and the end of the execution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

from mshv_async.sim.current import current_or_none


class SimulationEnded(BaseException):
    """Unwinds the threads that are still alive when an execution is over. Never catch it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something happened: who, at which step, in which functions.

    ``functions``: first those of the driver, then the others, the innermost first in both.
    ``drivers``: how many are the driver's.
    """

    thread: str
    step: int
    functions: tuple[str, ...]
    drivers: int = 0

    @property
    def driver(self) -> tuple[str, ...]:
        """The driver's functions, the innermost first."""
        return self.functions[: self.drivers]


@dataclass(frozen=True, slots=True)
class Finding:
    """What an execution came to, with all that a report needs.

    ``title`` is stable for the same bug; ``story`` says who did what to which object; ``waits``
    who waits for whom; ``stacks`` the functions of each thread involved, innermost first; ``loop``
    the first step of what repeats for ever, and the first step after it.
    """

    verdict: str
    title: str
    story: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    stacks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    step: int = 0
    threads: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    loop: tuple[int, int] | None = None


class ModelFault(Exception):
    """The modelled code did what crashes a kernel: unwinds its thread and ends the execution."""

    def __init__(
        self, verdict: str, what: str, objects: tuple[Any, ...] = (), other: Place | None = None
    ) -> None:
        super().__init__(f"{verdict}: {what}")
        self.verdict = verdict
        self.what = what
        self.objects = objects
        self.other = other


def oops(what: str, *objects: object) -> NoReturn:
    """Fault as a kernel does on a NULL, uninitialised or wrongly released object."""
    raise ModelFault("oops", what, objects)


class _Uninitialised:
    """The value of a C local that nothing was assigned to; any use is an ``oops``."""

    __slots__ = ()

    def _use(self, *_: object) -> NoReturn:
        raise ModelFault("oops", "use of an uninitialised value")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _use
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _use
    __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = __neg__ = __invert__ = _use
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __divmod__ = _use
    __lt__ = __le__ = __gt__ = __ge__ = _use
    __bool__ = __index__ = __int__ = __len__ = __iter__ = __call__ = _use
    __getitem__ = __setitem__ = __contains__ = __setattr__ = _use

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python asking what it is, not the model following it
            raise AttributeError(name)
        self._use()

    def __eq__(self, other: object) -> bool:
        return self._use()

    def __ne__(self, other: object) -> bool:
        return self._use()

    __hash__ = object.__hash__

    def __str__(self) -> str:
        if current_or_none() is None:
            return "UNINIT"
        return self._use()

    def __format__(self, spec: str) -> str:
        return self._use()

    def __repr__(self) -> str:
        return "UNINIT"


UNINIT: Any = _Uninitialised()
