"""The canonical form of a state, piece by piece: what each kind of value says of itself.

Written is everything that a value reaches: slots of modelled objects, containers, and for each
suspended coroutine its code, instruction and the locals that can still be read, with what lies on
its evaluation stack. Objects are numbered by first visit, so aliasing counts and memory addresses
do not. Sequence numbers, serial numbers and page tags are renamed by first occurrence. What the
walk does not know it refuses (:class:`HiddenState`): state must not hide.

A class may name, in ``_not_state``, attributes that only count or describe the past.
"""

from __future__ import annotations

import enum
import gc
import struct
import types
from collections import deque
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from mshv_async.sim.containers import SharedDict
from mshv_async.sim.faults import UNINIT
from mshv_async.sim.livelocals import live_locals
from mshv_async.sim.op import Op
from mshv_async.sim.rangemap import RangeMap
from mshv_async.sim.shared import Shared, is_freed, model_class, own_slots, slots_of
from mshv_async.sim.thread import Parker, Thread
from mshv_async.sim.tokens import Seq, Tag, Token


class HiddenState(Exception):
    """Something is reachable of which the walk cannot tell what is state.

    Make its class opaque, or name what is no state in its ``_not_state``.
    """


Handler = Callable[["KeyWriter", Any], None]
Getter = Callable[[Any], Any]


class KeyWriter:
    """Writes the canonical form of a state, piece by piece, into ``out``.

    ``opaque``: classes whose instances never change, so that nothing of them is state.
    """

    __slots__ = ("_keep", "_names", "_numbers", "handlers", "out")

    def __init__(self, opaque: tuple[type, ...] = ()) -> None:
        self.out: list[str] = []
        self._numbers: dict[int, int] = {}  # by identity
        self._keep: list[Any] = []
        self._names: dict[Any, int] = {}
        self.handlers = {**_LEARNED, **dict.fromkeys(opaque, _nothing)}

    def write(self, value: Any) -> None:
        """Write one value and all that it reaches."""
        handler = self.handlers.get(type(value)) or self.learn(value)
        handler(self, value)

    def learn(self, value: Any) -> Handler:
        """Find out what writes values of this one's class."""
        cls = type(value)
        handler = self.handlers[cls] = _LEARNED[cls] = _handler_of(value, cls)
        return handler

    def rename(self, kind: str, value: Any) -> int:
        """Return the number of a token: the order of its first occurrence."""
        names = self._names
        return names.setdefault((kind, value), len(names))

    def first_visit(self, obj: Any) -> bool:
        """Say whether an object is met for the first time; else write which one it is."""
        numbers, identity = self._numbers, id(obj)
        number = numbers.get(identity)
        if number is not None:
            self.out.append(f"@{number}")
            return False
        numbers[identity] = len(numbers)
        self._keep.append(obj)  # so that nothing else takes its identity meanwhile
        return True


_PLAIN: frozenset[type] = frozenset((int, str, bytes, float, bool, type(None), range))
_LEARNED: dict[type, Handler] = {}  # derived from classes, so no state


# -- what is written for each kind of value ----------------------------------------------------


def _nothing(writer: KeyWriter, value: Any) -> None:
    del writer, value


def _plain(writer: KeyWriter, value: Any) -> None:
    writer.out.append(repr(value))


def _enum(cls: type) -> Handler:
    name = f"{cls.__name__}."

    def handle(writer: KeyWriter, value: Any) -> None:
        writer.out.append(name + value._name_)

    return handle


def _tag(writer: KeyWriter, value: Any) -> None:
    writer.out.append(f"tag{writer.rename('tag', str(value))}")


def _seq(writer: KeyWriter, value: Any) -> None:
    writer.out.append(f"seq{value.n & 1}:{writer.rename('seq', value.n)}")


def _token(writer: KeyWriter, value: Any) -> None:
    writer.out.append(f"tok{writer.rename('tok', value.n)}")


def _thread(writer: KeyWriter, value: Any) -> None:
    writer.out.append(f"thread:{value.name}")


def _op(writer: KeyWriter, value: Any) -> None:
    writer.out.append(f"op:{value.label}:{value.lo}:{value.hi}")
    writer.write(value.obj)


def _code(writer: KeyWriter, value: Any) -> None:
    writer.out.append(f"code:{value.co_qualname}")


def _tuple(writer: KeyWriter, value: Any) -> None:
    out, handlers = writer.out, writer.handlers
    cls = type(value)
    out.append("(" if cls is tuple else cls.__name__)
    for item in value:  # as write() does, without its calls
        kind = type(item)
        if kind in _PLAIN:
            out.append(repr(item))
        else:
            (handlers.get(kind) or writer.learn(item))(writer, item)
    out.append(")")


def _frozenset(writer: KeyWriter, value: Any) -> None:
    writer.out.append("{")
    for item in sorted(value, key=repr):
        writer.write(item)
    writer.out.append("}")


def _sequence(writer: KeyWriter, value: Any) -> None:
    if writer.first_visit(value):
        out, write = writer.out, writer.write
        out.append("[")
        for item in value:
            write(item)
        out.append("]")


def _dict(writer: KeyWriter, value: Any) -> None:
    if writer.first_visit(value):
        out, write = writer.out, writer.write
        out.append("{")
        for key, item in value.items():
            write(key)
            write(item)
        out.append("}")


_ITEMS: Getter = SharedDict.__dict__["_items"].__get__


def _shared_dict(writer: KeyWriter, value: Any) -> None:
    """Write a dictionary in the order of its keys: in which they came is no state."""
    if writer.first_visit(value):
        writer.out.append("{")
        for key, item in sorted(_ITEMS(value).items()):
            writer.write(key)
            writer.write(item)
        writer.out.append("}")


_OF_MAPS = slots_of(RangeMap)
_RUNS: tuple[Getter, ...] = tuple(
    RangeMap.__dict__[slot].__get__ for slot in ("_starts", "_ends", "_values")
)


def _range_map(cls: type) -> Handler:
    """Return what writes the runs of a map, its bounds at once, as there are many maps."""
    more = tuple(_raw_getter(cls, slot) for slot in slots_of(cls) if slot not in _OF_MAPS)

    def handle(writer: KeyWriter, value: Any) -> None:
        if not writer.first_visit(value):
            return
        starts, ends, values = (get(value) for get in _RUNS)
        # One that was never filled is like one that was cleared.
        writer.out.append(f"{starts}{ends}" if starts else "[][]")
        for item in values:
            writer.write(item)
        for get in more:
            writer.write(get(value))

    return handle


def _method(writer: KeyWriter, value: Any) -> None:
    writer.out.append(f"method:{value.__func__.__qualname__}")
    writer.write(value.__self__)


def _function(writer: KeyWriter, value: Any) -> None:
    if writer.first_visit(value):
        code = value.__code__
        # Two functions of one function may have the same name, and stand on the same line.
        writer.out.append(f"function:{value.__qualname__}:{code.co_firstlineno}:{_texts(code)}")
        for cell in value.__closure__ or ():
            try:
                writer.write(cell.cell_contents)
            except ValueError:
                writer.out.append("-")
        writer.write(value.__defaults__)
        writer.write(value.__kwdefaults__)
        writer.write(value.__dict__)


@cache
def _texts(code: types.CodeType) -> str:
    consts = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
    return f"{code.co_code.hex()}{code.co_names}{consts}"


def _partial(writer: KeyWriter, value: Any) -> None:
    if writer.first_visit(value):
        writer.out.append("partial")
        writer.write(value.func)
        writer.write(value.args)
        writer.write(value.keywords)


def _builtin(writer: KeyWriter, value: Any) -> None:
    writer.out.append(f"builtin:{value.__qualname__}")
    writer.write(value.__self__)


def _exception(writer: KeyWriter, value: Any) -> None:
    if writer.first_visit(value):
        writer.out.append(f"exception:{type(value).__name__}")
        writer.write(value.args)
        writer.write(value.__dict__)


def _coroutine(writer: KeyWriter, coro: Any) -> None:
    if not writer.first_visit(coro):
        return
    frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
    if frame is None:
        writer.out.append("done")
        return
    writer.out.append(f"{frame.f_code.co_qualname}@{frame.f_lasti}<")
    local = frame.f_locals
    live = live_locals(frame.f_code, frame.f_lasti)
    out, handlers = writer.out, writer.handlers
    for name in sorted(local) if live is None else live:
        if name in local:
            value = local[name]
            out.append(name)
            (handlers.get(type(value)) or writer.learn(value))(writer, value)
    # Iterators of running for-loops lie on the evaluation stack, not in a local.
    for thing in gc.get_referents(coro):
        if _iterates(type(thing)):  # type: ignore[arg-type]
            writer.write(thing)
    writer.write(getattr(coro, "cr_await", None))
    out.append(">")


@cache
def _iterates(cls: type) -> bool:
    return cls not in _BY_TYPE and _is_iterator(cls)


def _iterator(writer: KeyWriter, value: Any) -> None:
    if writer.first_visit(value):
        writer.out.append(type(value).__name__)
        for part in value.__reduce__()[1:]:
            writer.write(part)


def _object(
    name: str, getters: tuple[Getter, ...], has_dict: bool, hidden: frozenset[str]
) -> Handler:
    def handle(writer: KeyWriter, value: Any) -> None:
        if not writer.first_visit(value):
            return
        out, handlers = writer.out, writer.handlers
        out.append(name)
        for get in getters:
            try:
                item = get(value)
            except AttributeError:
                out.append("-")
                continue
            cls = type(item)
            if cls in _PLAIN:
                out.append(repr(item))
            elif cls is not Op or item.obj is not value:  # an object's own prepared operation
                (handlers.get(cls) or writer.learn(item))(writer, item)
        if has_dict:
            for key, item in value.__dict__.items():
                if key not in hidden:
                    out.append(key)
                    writer.write(item)
        out.append("]")

    return handle


def _freed(writer: KeyWriter, value: Any) -> None:
    if writer.first_visit(value):
        writer.out.append(f"freed {model_class(value).__name__}")


_BY_TYPE: dict[type, Handler] = {
    **dict.fromkeys(_PLAIN, _plain),
    Tag: _tag,
    Seq: _seq,
    Token: _token,
    Thread: _thread,
    Op: _op,
    Parker: _nothing,
    type(UNINIT): _plain,
    types.ModuleType: _nothing,
    types.BuiltinFunctionType: _builtin,
    partial: _partial,
    types.CodeType: _code,
    tuple: _tuple,
    frozenset: _frozenset,
    list: _sequence,
    deque: _sequence,
    dict: _dict,
    types.MethodType: _method,
    types.FunctionType: _function,
    types.CoroutineType: _coroutine,
    types.GeneratorType: _coroutine,
}


_OF_PYTHON = frozenset(("__dict__", "__weakref__"))
_WORD = struct.calcsize("P")
_LAZY = frozenset((zip, enumerate, reversed, map, filter))


def _is_iterator(cls: type) -> bool:
    return cls.__name__.endswith("iterator") or cls in _LAZY


def _handler_of(value: Any, cls: type) -> Handler:  # noqa: PLR0911 - a table of kinds
    """Return what writes values of a class; HiddenState if nothing can."""
    known = _BY_TYPE.get(cls)
    if known is not None:
        return known
    if isinstance(value, type):
        return _nothing
    if isinstance(value, enum.Enum):
        return _enum(cls)
    if isinstance(value, tuple):
        return _tuple
    if isinstance(value, str | int):
        return _plain
    if is_freed(value):
        return _freed
    if isinstance(value, SharedDict):
        return _shared_dict
    if isinstance(value, RangeMap):
        return _range_map(model_class(value))
    if _is_iterator(cls):
        return _iterator
    return _handler_of_object(value, cls)


def _handler_of_object(value: Any, cls: type) -> Handler:
    if isinstance(value, BaseException):
        return _exception
    model = model_class(value) if isinstance(value, Shared) else cls
    if hasattr(cls, "__struct_fields__"):
        slots: tuple[str, ...] = tuple(cls.__struct_fields__)
    else:
        slots = slots_of(model)
    has_dict = hasattr(value, "__dict__")
    if (not slots and not has_dict and not _is_bare(cls)) or _holds_more(cls):
        raise HiddenState(f"a {cls.__module__}.{cls.__name__} hides state")
    hidden = frozenset(getattr(cls, "_not_state", ()))
    getters = tuple(
        _raw_getter(model, slot) for slot in slots if slot not in hidden and slot not in _OF_PYTHON
    )
    return _object(f"{model.__name__}[", getters, has_dict, hidden)


def _is_bare(cls: type) -> bool:
    """Say whether a class is written in Python and its objects hold nothing."""
    return "__slots__" in cls.__dict__ and cls.__bases__ == (object,)


def _holds_more(cls: type) -> bool:
    """Say whether objects hold more than slots and a dictionary: a list's items, for instance."""
    if hasattr(cls, "__struct_fields__"):
        return False
    slots = sum(slot not in _OF_PYTHON for base in cls.__mro__ for slot in own_slots(base))
    size = cls.__basicsize__ - object.__basicsize__
    return bool(cls.__itemsize__) or size > _WORD * (slots + len(_OF_PYTHON))


def _raw_getter(cls: type, slot: str) -> Getter:
    """Return the slot's own descriptor, past the reporting one of a checked class."""
    for base in cls.__mro__:
        descriptor = base.__dict__.get(slot)
        if descriptor is not None and hasattr(descriptor, "__get__"):
            return descriptor.__get__  # type: ignore[no-any-return]
    return lambda value: getattr(value, slot)
