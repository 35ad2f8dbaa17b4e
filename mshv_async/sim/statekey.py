"""State keys: what a world and its threads can still do, as one value.

The key walks everything that the roots and the threads' coroutines reach: slots of modelled
objects, containers, and for each suspended coroutine its code, instruction and locals, with what
lies on its evaluation stack. Objects are numbered by first visit, so aliasing counts and memory
addresses do not. Sequence numbers, generations and page tags are renamed by first occurrence.
What the walk does not know it refuses (:class:`HiddenState`): state must not hide.
"""

from __future__ import annotations

import enum
import gc
import hashlib
import types
from collections import deque
from typing import TYPE_CHECKING, Any

from mshv_async.sim.op import Op
from mshv_async.sim.shared import Shared, is_freed, model_class, slots_of
from mshv_async.sim.thread import Parker, Thread
from mshv_async.sim.tokens import Seq, Tag, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mshv_async.sim.runtime import Runtime


class HiddenState(Exception):
    """Something reachable cannot be put into a state key."""


#: Objects that hold no state of the modelled world.
_OUTSIDE: tuple[type, ...] = (Parker, types.ModuleType, type, types.BuiltinFunctionType)
_PLAIN = (int, str, bytes, float, bool, type(None))


class KeyWriter:
    """Writes the canonical form of a state, piece by piece."""

    def __init__(self, opaque: tuple[type, ...] = ()) -> None:
        self.out: list[str] = []
        self._numbers: dict[int, int] = {}
        self._keep: list[Any] = []
        self._names: dict[tuple[str, Any], int] = {}
        self._opaque = opaque

    def _rename(self, kind: str, value: Any) -> int:
        return self._names.setdefault((kind, value), len(self._names))

    def _first_visit(self, obj: Any) -> bool:
        number = self._numbers.get(id(obj))
        if number is not None:
            self.out.append(f"@{number}")
            return False
        self._numbers[id(obj)] = len(self._numbers)
        self._keep.append(obj)
        return True

    def write(self, root: Any) -> None:
        """Write one value and all that it reaches."""
        stack: list[Any] = [root]
        while stack:
            value = stack.pop()
            if isinstance(value, _Text):
                self.out.append(value)
            else:
                inner = self._one(value)
                if inner:
                    stack.extend(reversed(inner))

    def _one(self, value: Any) -> list[Any] | None:  # noqa: C901, PLR0911, PLR0912 - a dispatch table
        cls = type(value)
        if isinstance(value, enum.Enum):
            self.out.append(f"{cls.__name__}.{value.name}")
            return None
        if cls is Tag:
            self.out.append(f"tag{self._rename('tag', str(value))}")
            return None
        if cls in _PLAIN:
            self.out.append(repr(value))
            return None
        if cls is Seq:
            self.out.append(f"seq{value.n & 1}:{self._rename('seq', value.n)}")
            return None
        if cls is Token:
            self.out.append(f"tok{self._rename('tok', value.n)}")
            return None
        if isinstance(value, Thread):
            self.out.append(f"thread:{value.name}")
            return None
        if cls is Op:
            return [_Text(f"op:{value.label}:{value.lo}:{value.hi}"), value.obj]
        if isinstance(value, _OUTSIDE) or isinstance(value, self._opaque):
            return None
        if isinstance(value, tuple):
            return [_Text(f"({cls.__name__}"), *value, _Text(")")]
        if isinstance(value, frozenset):
            return [_Text("{"), *sorted(value, key=repr), _Text("}")]
        if isinstance(value, types.CodeType):
            self.out.append(f"code:{value.co_qualname}")
            return None
        if not self._first_visit(value):
            return None
        return self._compound(value, cls)

    def _compound(self, value: Any, cls: type) -> list[Any]:  # noqa: C901, PLR0911
        if isinstance(value, Shared):
            plain = model_class(value)
            text = _Text(f"{'freed ' if is_freed(value) else ''}{plain.__name__}[")
            if is_freed(value):
                return [text]
            return [text, *_fields(value, slots_of(plain)), _Text("]")]
        if isinstance(value, list | deque):
            return [_Text("["), *value, _Text("]")]
        if isinstance(value, dict):
            return [_Text("{"), *(x for pair in value.items() for x in pair), _Text("}")]
        if isinstance(value, types.MethodType):
            return [_Text(f"method:{value.__func__.__qualname__}"), value.__self__]
        if isinstance(value, types.FunctionType):
            cells = [_cell(c) for c in value.__closure__ or ()]
            return [_Text(f"function:{value.__qualname__}"), *cells]
        if isinstance(value, types.CoroutineType | types.GeneratorType):
            return _coroutine(value)
        if hasattr(value, "__reduce__") and cls.__name__.endswith("iterator"):
            return [_Text(cls.__name__), *value.__reduce__()[1:]]
        if hasattr(cls, "__dataclass_fields__"):
            names = tuple(cls.__dataclass_fields__)
            return [_Text(f"{cls.__name__}<"), *_fields(value, names), _Text(">")]
        if hasattr(cls, "__struct_fields__"):
            return [_Text(f"{cls.__name__}<"), *_fields(value, cls.__struct_fields__), _Text(">")]
        slots = slots_of(cls)
        if slots or hasattr(value, "__dict__"):
            fields = [_Text(f"{cls.__name__}<"), *_fields(value, slots)]
            if hasattr(value, "__dict__"):
                fields.append(value.__dict__)
            return fields
        raise HiddenState(f"a {cls.__module__}.{cls.__name__} hides state")


class _Text(str):
    """Canonical text that is written as it is."""

    __slots__ = ()


def _fields(value: Any, names: Iterable[str]) -> list[Any]:
    missing = _Text("-")
    found = []
    for name in names:
        try:
            found.append(object.__getattribute__(value, name))
        except AttributeError:
            found.append(missing)
    return found


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _Text("empty")


def _coroutine(coro: Any) -> list[Any]:
    frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
    if frame is None:
        return [_Text("done")]
    code = frame.f_code
    parts: list[Any] = [_Text(f"{code.co_qualname}@{frame.f_lasti}<")]
    local = frame.f_locals
    for name in sorted(local):
        parts.extend((_Text(name), local[name]))
    # Iterators of running for-loops lie on the evaluation stack, not in a local.
    parts.extend(
        thing
        for thing in gc.get_referents(coro)
        if type(thing).__name__.endswith("iterator") or isinstance(thing, types.GeneratorType)
    )
    parts.append(getattr(coro, "cr_await", None))
    parts.append(_Text(">"))
    return parts


def thread_parts(thread: Thread) -> list[Any]:
    """Return what of a thread is state."""
    return [
        _Text(f"thread {thread.name} {int(thread.finished)}{int(thread.fatal_pending)}"),
        _Text(f"{thread.spins}{thread.irqs_off}{thread.nonblock_depth}{int(thread.woken)}"),
        _Text(f"{int(thread.timer_fired)}{int(thread.ledger.owes)}"),
        list(thread.held),
        thread.op,
        thread.coro if not thread.finished else None,
    ]


def state_text(rt: Runtime, roots: Iterable[Any], opaque: tuple[type, ...] = ()) -> list[str]:
    """Return the canonical form of the current state, for comparing two of them in full."""
    writer = KeyWriter((type(rt), type(rt.strategy), *opaque))
    for root in roots:
        writer.write(root)
    for thread in rt.all_threads:
        for part in thread_parts(thread):
            writer.write(part)
    running = rt.running.name if rt.running is not None else "-"
    writer.out.append(f"{running} {int(rt.fair)} {int(rt.closing)} {rt.pending_timers()}")
    writer.write(sorted(rt.injector.used.items()))
    writer.write(sorted(rt.warnings))
    return writer.out


def state_key(rt: Runtime, roots: Iterable[Any], opaque: tuple[type, ...] = ()) -> bytes:
    """Return a 160-bit key of the current state. Call it at a decision, between two steps."""
    text = "\x1f".join(state_text(rt, roots, opaque))
    return hashlib.blake2b(text.encode(), digest_size=20).digest()


KeyFunction = "Callable[[Runtime], bytes]"
