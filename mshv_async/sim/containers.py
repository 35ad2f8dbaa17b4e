"""Dictionaries and lists that two threads can reach."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from mshv_async.sim.current import instrumented, report_access
from mshv_async.sim.shared import Shared

if TYPE_CHECKING:
    from collections.abc import Iterator

_key = itemgetter(0)

K = TypeVar("K")
V = TypeVar("V")


class _Container(Shared):
    __slots__ = ("_tracked",)
    _const: ClassVar[tuple[str, ...]] = ("_tracked",)

    def __init__(self, name: str) -> None:
        self._tracked = False  # before the base, which may set it
        super().__init__(name)

    def _touch(self, what: str, write: bool) -> None:
        report_access(self, what, write)


class SharedDict(_Container, Generic[K, V]):
    """A dictionary; iteration is in the order of the keys, over a copy: who came first is no state.

    ``listed=False``: nobody may ask for its size or go through it, so that keys which come and
    go have nothing to do with each other.
    """

    __slots__ = ("_items", "_listed")
    _const = ("_items", "_listed", "_tracked")

    def __init__(self, name: str, *, listed: bool = True) -> None:
        self._tracked = False  # before the base, which may set it
        if instrumented.get():
            super().__init__(name)
        else:  # the same without the calls: a world has dozens
            self.name = name
            self._grave = None
        self._items: dict[K, V] = {}
        self._listed = listed

    def _resized(self) -> None:
        if self._listed:
            self._touch("", True)

    def _walked(self) -> None:
        assert self._listed, f"{self.name} is not to be gone through"
        if self._tracked:
            self._touch("", False)

    @property
    def worth_asking(self) -> bool:
        """Whether anything may be found. That is no look at any key: use it to save time only."""
        return self._tracked or bool(self._items)

    def get(self, key: K, default: V | None = None) -> V | None:
        """Return the value, or the default."""
        if self._tracked:
            self._touch(repr(key), False)
        return self._items.get(key, default)

    def __getitem__(self, key: K) -> V:
        if self._tracked:
            self._touch(repr(key), False)
        return self._items[key]

    def __setitem__(self, key: K, value: V) -> None:
        if self._tracked:
            self._touch(repr(key), True)
            if key not in self._items:
                self._resized()
        self._items[key] = value

    def pop(self, key: K, default: V | None = None) -> V | None:
        """Remove a key and return its value, or the default."""
        if self._tracked:
            self._touch(repr(key), key in self._items)
            if key in self._items:
                self._resized()
        return self._items.pop(key, default)

    def __contains__(self, key: object) -> bool:
        if self._tracked:
            self._touch(repr(key), False)
        return key in self._items

    def __len__(self) -> int:
        self._walked()
        return len(self._items)

    def __iter__(self) -> Iterator[K]:
        return iter(self.keys())

    def keys(self) -> list[K]:
        """Return the keys."""
        self._walked()
        return sorted(self._items)  # type: ignore[type-var]

    def values(self) -> list[V]:
        """Return the values."""
        self._walked()
        return [value for _, value in self._sorted()]

    def items(self) -> list[tuple[K, V]]:
        """Return the pairs."""
        self._walked()
        return self._sorted()

    def _sorted(self) -> list[tuple[K, V]]:
        return sorted(self._items.items(), key=_key)


class SharedList(_Container, Generic[V]):
    """A list, such as a kernel hlist of regions; iteration is over a copy."""

    __slots__ = ("_items",)
    _const = ("_items", "_tracked")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._items: list[V] = []

    def append(self, value: V) -> None:
        """Add at the end."""
        if self._tracked:
            self._touch("", True)
        self._items.append(value)

    def insert(self, index: int, value: V) -> None:
        """Add before an index (0: at the head)."""
        if self._tracked:
            self._touch("", True)
        self._items.insert(index, value)

    def remove(self, value: V) -> None:
        """Remove the first element that is this object."""
        if self._tracked:
            self._touch("", True)
        for index, item in enumerate(self._items):
            if item is value:
                del self._items[index]
                return
        raise ValueError(f"{self.name} does not hold it")

    def __getitem__(self, index: int) -> V:
        if self._tracked:
            self._touch("", False)
        return self._items[index]

    def __contains__(self, value: object) -> bool:
        if self._tracked:
            self._touch("", False)
        return any(item is value for item in self._items)

    def __len__(self) -> int:
        if self._tracked:
            self._touch("", False)
        return len(self._items)

    def __iter__(self) -> Iterator[V]:
        if self._tracked:
            self._touch("", False)
        return iter(list(self._items))
