"""From TOML values to typed structures, with errors that a user can act on.

``msgspec.convert`` does this too, but says neither what it found nor which keys it knows. The
structures' own type descriptions (``msgspec.inspect``) drive the reading, so that a new key is
declared once, in the model.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from msgspec import inspect

from mshv_async.scenario.errors import Misfit, ScenarioError, close_match, listed, quoted, show
from mshv_async.scenario.quantities import parse_size

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")
NumberType = inspect.IntType | inspect.FloatType
TableType = inspect.StructType | inspect.DataclassType


def read(file: str, kind: type[T], raw: dict[str, Any]) -> T:
    """Return ``raw`` as a ``kind``; ``ScenarioError`` at the first key that does not fit."""
    return cast("T", _Reader(file).value(_description(cast("Hashable", kind)), raw, ""))


@cache
def _description(kind: Hashable) -> inspect.Type:
    """Return the description of a structure: that of a scenario takes longer than reading one."""
    return inspect.type_info(kind)


class _Reader:
    """Carries the file's name through the structure."""

    __slots__ = ("file",)

    def __init__(self, file: str) -> None:
        self.file = file

    def value(self, kind: inspect.Type, raw: object, key: str) -> object:
        """Return one value as ``kind``."""
        if isinstance(kind, inspect.UnionType):
            kind = self._member(kind, raw, key)
        plain = _plain(kind)
        if isinstance(kind, inspect.Metadata) and (kind.extra or {}).get("size"):
            return self._size(raw, key)
        if not _fits(plain, raw) or not _inside(plain, raw):
            raise ScenarioError(self.file, key, show(raw) + _hint(plain, raw), allowed(kind))
        if isinstance(raw, dict):
            if isinstance(plain, TableType):
                return self._table(plain, raw, key)
            item = cast("inspect.DictType", plain).value_type
            return {k: self.value(item, v, f"{key}.{quoted(k)}") for k, v in raw.items()}
        if isinstance(raw, list):
            item = cast("inspect.VarTupleType", plain).item_type
            return tuple(self.value(item, v, f"{key}[{i}]") for i, v in enumerate(raw))
        return raw

    def _member(self, kind: inspect.UnionType, raw: object, key: str) -> inspect.Type:
        for member in _members(kind):
            if _fits(_plain(member), raw):
                return member
        raise ScenarioError(self.file, key, show(raw), allowed(kind))

    def _size(self, raw: object, key: str) -> int:
        try:
            return parse_size(raw)
        except Misfit as misfit:
            raise misfit.at(self.file, key) from None

    def _table(self, kind: TableType, raw: dict[str, object], key: str) -> object:
        fields = {field.encode_name: field for field in kind.fields}
        prefix = f"{key}." if key else ""
        for name in raw:
            if name not in fields:
                found = f"an unknown key{close_match(name, fields)}"
                raise ScenarioError(self.file, prefix + _bare(name), found, listed(fields))
        values = {}
        for name, field in fields.items():
            if name in raw:
                values[name] = self.value(field.type, raw[name], prefix + name)
            elif field.required:
                wanted = f"{allowed(field.type)} (required)"
                raise ScenarioError(self.file, prefix + name, "nothing", wanted)
        return kind.cls(**values)


def allowed(kind: inspect.Type) -> str:
    """Say in words what a value of this type may be."""
    if isinstance(kind, inspect.Metadata):
        text = (kind.extra or {}).get("allowed")
        return str(text) if text else allowed(kind.type)
    if isinstance(kind, inspect.UnionType):
        return " or ".join(allowed(member) for member in _members(kind))
    if isinstance(kind, inspect.LiteralType):
        return listed(f'"{word}"' for word in kind.values)
    if isinstance(kind, NumberType):
        whole = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        return f"{whole}{_limits(kind)}"
    return _allowed_container(kind)


def _allowed_container(kind: inspect.Type) -> str:
    if isinstance(kind, TableType):
        return f"a table with {listed(field.encode_name for field in kind.fields)}"
    if isinstance(kind, inspect.DictType):
        return f"a table of: {allowed(kind.value_type)}"
    if isinstance(kind, inspect.VarTupleType):
        tables = isinstance(kind.item_type, TableType)
        return "an array of tables" if tables else f"an array of: {allowed(kind.item_type)}"
    return "true or false" if isinstance(kind, inspect.BoolType) else "text"


def _limits(kind: NumberType) -> str:
    last = kind.le if kind.lt is None else kind.lt - 1
    low = "" if kind.ge is None else f" from {kind.ge}"
    return low if last is None else f"{low} to {last}"


def _members(kind: inspect.UnionType) -> list[inspect.Type]:
    return [t for t in kind.types if not isinstance(t, inspect.NoneType)]


def _plain(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _fits(kind: inspect.Type, raw: object) -> bool:
    """Whether a value has the TOML type, whatever its content."""
    if isinstance(kind, TableType | inspect.DictType):
        return isinstance(raw, dict)
    if isinstance(kind, inspect.VarTupleType):
        return isinstance(raw, list)
    if isinstance(kind, inspect.BoolType):
        return isinstance(raw, bool)
    if isinstance(kind, inspect.IntType):
        return isinstance(raw, int) and not isinstance(raw, bool)
    if isinstance(kind, inspect.FloatType):
        return isinstance(raw, int | float) and not isinstance(raw, bool)
    return isinstance(raw, str)


def _inside(kind: inspect.Type, raw: object) -> bool:
    """Whether a value of the right type is also within its limits."""
    if isinstance(kind, inspect.LiteralType):
        return raw in kind.values
    if isinstance(kind, NumberType) and isinstance(raw, int | float):
        return (
            (kind.ge is None or raw >= kind.ge)
            and (kind.le is None or raw <= kind.le)
            and (kind.lt is None or raw < kind.lt)
        )
    return True


def _hint(kind: inspect.Type, raw: object) -> str:
    if isinstance(kind, inspect.LiteralType) and isinstance(raw, str):
        return close_match(raw, [str(word) for word in kind.values])
    return ""


def _bare(name: str) -> str:
    return name if name.replace("-", "_").isidentifier() else quoted(name)
