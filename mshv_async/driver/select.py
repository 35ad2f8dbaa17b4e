"""Which driver a name means: a profile, a profile with patches, or a class in a user's file."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from inspect import iscoroutinefunction
from pathlib import Path
from types import ModuleType
from typing import Final

from mshv_async.driver.patches import (
    aligned_stride,
    check_access,
    contiguous_stride,
    count_before_status,
    deposit_by_status,
    deposit_outside_mutex,
    huge_order_stride,
    init_before_insert,
    interval_overlap,
    killable_retry,
    list_before_map,
    mmget_in_fault,
    no_deposit_in_callback,
    per_chunk_stride,
    publish_before_fd,
    put_on_map_error,
    quiet_fault_failure,
    quiet_trylock_failure,
    range_before_lock,
    range_retry,
    region_refcount,
    regions_before_finalize,
    retry_no_access,
    return_map_error,
    rollback_in_pages,
    rollback_to_no_access,
    unlock_on_failure,
    unmap_before_notifier_removal,
    unmap_mmio,
    unmap_waits,
)
from mshv_async.driver.patches.base import FACTORIES, Patch, Variant
from mshv_async.driver.profiles import PROFILES, V6

PATCHES: Final[dict[str, Patch]] = {
    module.PATCH.name: module.PATCH
    for module in (
        unlock_on_failure,
        retry_no_access,
        range_before_lock,
        quiet_trylock_failure,
        no_deposit_in_callback,
        per_chunk_stride,
        aligned_stride,
        huge_order_stride,
        contiguous_stride,
        check_access,
        killable_retry,
        range_retry,
        rollback_to_no_access,
        mmget_in_fault,
        quiet_fault_failure,
        deposit_outside_mutex,
        region_refcount,
        unmap_waits,
        list_before_map,
        init_before_insert,
        put_on_map_error,
        interval_overlap,
        return_map_error,
        unmap_before_notifier_removal,
        regions_before_finalize,
        unmap_mmio,
        rollback_in_pages,
        count_before_status,
        deposit_by_status,
        publish_before_fd,
    )
}
"""By name, in the order of the bugs that they mend."""


class DriverError(ValueError):
    """A driver specification means nothing, or its parts do not go together. One line."""


@dataclass(frozen=True, slots=True)
class DriverSpec:
    """A driver to run: its class, the profile below it, the patches on it, a user's source."""

    name: str
    cls: type[V6]
    base: str
    patches: tuple[str, ...] = ()
    source: str | None = None


def list_drivers() -> list[tuple[str, str, str | None]]:
    """Return (name, summary, name of the profile it builds on) of every profile."""
    names = list(PROFILES)
    return [
        (name, _summary(cls), names[i - 1] if i else None)
        for i, (name, cls) in enumerate(PROFILES.items())
    ]


def list_patches() -> list[Patch]:
    """Return every patch; see :class:`Patch` for what each says."""
    return list(PATCHES.values())


def resolve_driver(spec: str, source: str | None = None) -> DriverSpec:
    """Return the driver that ``spec`` means.

    ``v6``, ``v9+check-access``, or ``file.py:Class``; with ``source`` the file's text is taken
    from there instead. Raises :class:`DriverError` with what is wrong and what is allowed.
    """
    if ".py:" in spec:
        return _user_driver(spec, source)
    base, *patches = spec.split("+")
    if base not in PROFILES:
        raise DriverError(f"unknown driver {base!r}; known: {', '.join(PROFILES)}, file.py:Class")
    variants = _stack(base, patches)
    cls = PROFILES[base]
    if variants:
        bases = (*(v.cls for v in reversed(variants)), cls)
        cls = type(_class_name(base, patches), bases, {"__doc__": f"{spec}."})
    return DriverSpec(spec, cls, base, tuple(patches))


def _summary(cls: type[V6]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]


def _class_name(base: str, patches: list[str]) -> str:
    words = [word for patch in patches for word in patch.split("-")]
    return PROFILES[base].__name__ + "".join(word.capitalize() for word in words)


# -- patches -------------------------------------------------------------------------------


def _stack(base: str, names: list[str]) -> list[Variant]:
    """Choose the variant of each patch, and refuse stacks that undo one another."""
    chosen: list[tuple[str, Variant]] = []
    for name in names:
        patch = PATCHES.get(name)
        if not name:
            spec = "+".join([base, *names])
            raise DriverError(f"{spec}: a patch is missing after +; `list patches` shows them")
        if patch is None:
            raise DriverError(f"unknown patch {name!r}; known: {', '.join(PATCHES)}")
        if base not in patch.applies_to:
            allowed = ", ".join(patch.applies_to)
            raise DriverError(f"patch {name} is not for {base}; it is for: {allowed}")
        if any(name == earlier for earlier, _ in chosen):
            raise DriverError(f"patch {name} is named twice")
        variant = _variant(base, patch, [earlier for earlier, _ in chosen])
        for earlier, other in chosen:
            _refuse_conflict(patch, variant, earlier, other)
        chosen.append((name, variant))
    return [variant for _, variant in chosen]


def _variant(base: str, patch: Patch, earlier: list[str]) -> Variant:
    fits = [v for v in patch.variants if base in v.on and all(a in earlier for a in v.after)]
    if not fits:
        needed = " or ".join("+".join(v.after) for v in patch.variants if base in v.on)
        raise DriverError(f"patch {patch.name} on {base} comes after {needed}")
    return max(fits, key=lambda v: len(v.after))


def _refuse_conflict(patch: Patch, variant: Variant, earlier: str, other: Variant) -> None:
    if earlier in variant.after:
        return
    extending = PATCHES[earlier].extends
    replaced = functions_of(variant) - set(patch.extends)
    both = sorted(replaced & functions_of(other))
    if not both:
        return
    why = "would undo" if both[0] in extending else "both replace"
    known = f"; {patch.name} comes after {', '.join(patch.after)} only" if patch.after else ""
    if why == "both replace":
        raise DriverError(f"{earlier} and {patch.name} both replace {', '.join(both)}{known}")
    raise DriverError(f"{patch.name} would undo {earlier} in {', '.join(both)}; put it first")


def functions_of(variant: Variant) -> set[str]:
    """Return the driver functions that a patch's class defines, those of its mix-ins included."""
    found: set[str] = set()
    for cls in variant.cls.__mro__:
        if cls.__module__.startswith("mshv_async.driver.patches.") and _own(cls, variant.cls):
            found.update(n for n, v in vars(cls).items() if callable(v) and _known(n))
    return found - FACTORIES


def _known(function: str) -> bool:
    return any(hasattr(profile, function) for profile in PROFILES.values())


def _own(cls: type, of: type) -> bool:
    return cls.__module__ == of.__module__


# -- a user's file -------------------------------------------------------------------------


def _user_driver(spec: str, source: str | None) -> DriverSpec:
    path, _, class_name = spec.rpartition(":")
    if source is None:
        try:
            source = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise DriverError(f"{path}: no such file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DriverError(f"{path}: cannot be read: {_one_line(error)}") from error
    module = _load(path, source)
    cls = getattr(module, class_name, None)
    if cls is None:
        drivers = ", ".join(_drivers_of(module))
        has = f"it has: {drivers}" if drivers else "it has no class derived from V6 or a later one"
        raise DriverError(f"{path} has no class {class_name}; {has}")
    if not (isinstance(cls, type) and issubclass(cls, V6)):
        raise DriverError(f"{path}: {class_name} is not a driver; derive it from V6 or a later one")
    base = next(name for name, known in reversed(PROFILES.items()) if issubclass(cls, known))
    _check_methods(path, cls, PROFILES[base])
    return DriverSpec(spec, cls, base, source=source)


def _drivers_of(module: ModuleType) -> list[str]:
    """Return the names of the drivers that a file defines itself."""
    return [
        name
        for name, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, V6) and cls.__module__ == module.__name__
    ]


def _check_methods(path: str, cls: type[V6], base: type[V6]) -> None:
    """Refuse methods that would silently override nothing, or that cannot be awaited."""
    known = [name for name in dir(base) if not name.startswith("_")]
    for name, method in vars(cls).items():
        if not callable(method) or name.startswith("_"):
            continue
        if name not in known:
            if meant := get_close_matches(name, known, n=1, cutoff=0.85):
                raise DriverError(f"{path}: {cls.__name__}.{name} is unknown; mean {meant[0]}?")
        elif iscoroutinefunction(getattr(base, name)) and not iscoroutinefunction(method):
            raise DriverError(f"{path}: {cls.__name__}.{name} must be `async def`")


def _load(path: str, source: str) -> ModuleType:
    module = ModuleType(f"mshv_async_user_{Path(path).stem}")
    module.__file__ = path
    try:
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - it is the user's driver
    except Exception as error:
        raise DriverError(f"{path} does not import: {_one_line(error)}") from error
    return module


def _one_line(error: BaseException) -> str:
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}".rstrip(": ")
