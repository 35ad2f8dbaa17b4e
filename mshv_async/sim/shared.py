"""Objects that two threads can reach: named, instrumented, poisoned when freed.

Every slot of a :class:`Shared` subclass is state: it is in the state key, and while the checkers
run each read and write of it goes into the footprint of the current step. Checked executions
use a subclass whose slots are properties; the others pay nothing, nor does the beginning of an
execution that a search repeats (:class:`Dormant`).
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from mshv_async.sim.current import current_or_none, instrumented, report_access
from mshv_async.sim.faults import ModelFault, Place

T = TypeVar("T", bound="Shared")

_checked_variants: dict[type, type] = {}  # derived classes, not state
_freed_variants: dict[type, type] = {}


class Shared:
    """Base of every modelled object. Subclasses declare ``__slots__``.

    ``_embedded`` names slots whose objects live and die with this one (C's nested structs);
    ``_const`` names slots that are written once, at construction; ``_sync`` marks objects that
    order threads (locks, queues), whose own fields no race is looked for in; ``_not_state`` names
    slots that only count or describe the past. ``_guards`` names the guards of their operations
    that read nothing but the object, and can be asked for any thread. ``_parts``: what a step
    depends on are the slots, keys and ranges that it uses, although they order threads.
    """

    __slots__ = ("_grave", "name")
    _embedded: ClassVar[tuple[str, ...]] = ()
    _const: ClassVar[tuple[str, ...]] = ()
    _sync: ClassVar[bool] = False
    _parts: ClassVar[bool] = False
    _not_state: ClassVar[tuple[str, ...]] = ()
    _guards: ClassVar[tuple[str, ...]] = ()

    name: str
    _grave: Place | None

    def __init__(self, name: str) -> None:
        self.name = name
        self._grave = None
        mode = instrumented.get()
        if mode is True:
            _instrument(self)
        elif mode:
            mode.add(self)


class Dormant:
    """The objects of an execution that is not observed yet; from :meth:`wake` on they report.

    ``by_name``: all that were ever made, None for a name that several had: which is meant is not
    known.
    """

    __slots__ = ("_objects", "by_name")

    def __init__(self) -> None:
        self._objects: list[Shared] | None = []
        self.by_name: dict[str, Shared | None] = {}

    def add(self, obj: Shared) -> None:
        """Take in an object that was made."""
        self.by_name[obj.name] = None if obj.name in self.by_name else obj
        if self._objects is None:
            _instrument(obj)
        else:
            self._objects.append(obj)

    def wake(self) -> None:
        """Instrument all objects, and each that is made from now on."""
        objects, self._objects = self._objects or (), None
        for obj in objects:
            if not is_freed(obj):
                _instrument(obj)


def slots_of(cls: type) -> tuple[str, ...]:
    """Return all state slots of a class, base first, without the name and the grave."""
    found: list[str] = []
    for base in reversed(cls.__mro__):
        found.extend(s for s in own_slots(base) if s not in found)
    return tuple(s for s in found if s not in {"name", "_grave"})


def own_slots(cls: type) -> tuple[str, ...]:
    """Return the slots that a class adds, by the names that its objects know them by."""
    own = cls.__dict__.get("__slots__", ())
    prefix = f"_{cls.__name__.lstrip('_')}"
    return tuple(
        prefix + slot if slot.startswith("__") and not slot.endswith("__") else slot
        for slot in ((own,) if isinstance(own, str) else own)
    )


def model_class(obj: object) -> type:
    """Return the class as the model's author wrote it, of an object in any variant."""
    cls = type(obj)
    return cls.__mro__[1] if cls in _variant_set else cls


_variant_set: set[type] = set()  # membership only, never iterated
_freed_set: set[type] = set()


def _reporting(slot: str, base: type) -> property:
    descriptor = base.__dict__[slot]
    read, store = descriptor.__get__, descriptor.__set__

    def get(self: Shared) -> Any:
        report_access(self, slot, False)
        return read(self)

    def put(self: Shared, value: Any) -> None:
        report_access(self, slot, True)
        store(self, value)

    return property(get, put)


def _checked(cls: type[T]) -> type[T]:
    variant = _checked_variants.get(cls)
    if variant is None:
        body: dict[str, Any] = {"__slots__": (), "__module__": cls.__module__}
        for base in cls.__mro__:
            for slot in own_slots(base):
                if slot not in {"name", "_grave", *cls._const, *cls._not_state}:
                    body[slot] = _reporting(slot, base)
        variant = type(cls.__name__, (cls,), body)
        _checked_variants[cls] = variant
        _variant_set.add(variant)
    return variant


def _instrument(obj: Shared) -> None:
    cls = type(obj)
    obj.__class__ = _checked(cls)
    if hasattr(cls, "_tracked"):
        obj._tracked = True  # type: ignore[attr-defined]


def name_of(obj: object) -> str:
    """Return the name of a modelled object, freed or not."""
    return str(object.__getattribute__(obj, "name"))


def _use_after_free(self: Shared, *names: object) -> Any:
    if names == ("__class__",):  # isinstance() asks; the modelled code does not
        return type(self)
    _touch_freed(self)
    grave = object.__getattribute__(self, "_grave")
    raise ModelFault("use-after-free", f"{name_of(self)} used after it was freed", (self,), grave)


def _freed(cls: type) -> type:
    cls = cls.__mro__[1] if cls in _variant_set else cls
    variant = _freed_variants.get(cls)
    if variant is None:
        body = {
            "__slots__": (),
            "__module__": cls.__module__,
            "__getattribute__": _use_after_free,
            "__setattr__": _use_after_free,
        }
        for special in ("__len__", "__iter__", "__getitem__", "__setitem__", "__contains__"):
            if hasattr(cls, special):
                body[special] = _use_after_free
        variant = type(f"Freed{cls.__name__}", (cls,), body)
        _freed_variants[cls] = variant
        _variant_set.add(variant)
        _freed_set.add(variant)
    return variant


def is_freed(obj: object) -> bool:
    """Say whether the object was freed."""
    return type(obj) in _freed_set


def _touch_freed(victim: Shared) -> None:
    """Report that a step met a freed object: who freed it came first."""
    thread = current_or_none()
    if thread is not None and thread.rt.recorder is not None:
        thread.rt.recorder.touched(victim, "", False, 0, 0)


def _touch_all(victim: Shared) -> None:
    """Report that the whole of an object goes: any use of it conflicts with that."""
    for slot in ("", *slots_of(model_class(victim))):
        report_access(victim, slot, True)


def poison(obj: Shared, place: Place) -> list[Shared]:
    """Free an object and all that is embedded in it; return what was freed."""
    dead: list[Shared] = []
    stack = [obj]
    while stack:
        victim = stack.pop()
        if is_freed(victim):
            _touch_freed(victim)
            raise ModelFault(
                "use-after-free",
                f"{name_of(victim)} freed twice",
                (victim,),
                object.__getattribute__(victim, "_grave"),
            )
        for slot in model_class(victim)._embedded:  # type: ignore[attr-defined]
            inner = object.__getattribute__(victim, slot)
            if isinstance(inner, Shared) and not is_freed(inner):
                stack.append(inner)
        if instrumented.get():
            _touch_all(victim)
        victim._grave = place
        dead.append(victim)
        victim.__class__ = _freed(type(victim))
    return dead
