"""What a test names: pages, modelled one by one from then on, and the addresses behind them."""

from __future__ import annotations

from bisect import insort
from typing import TYPE_CHECKING, Final

import msgspec

from mshv_async.scenario.errors import Misfit
from mshv_async.scenario.model import BackingRun
from mshv_async.scenario.named import guest_ranges
from mshv_async.scenario.operations import parse_operation
from mshv_async.sim import Grain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mshv_async.scenario.addresses import Addresses
    from mshv_async.scenario.operations import Operation

_NOT_MODELLED: Final = ("shared", "file")


class GrowingGrain(Grain):
    """A grain that learns names: nobody knows beforehand what a test will look at.

    A range operation that is under way keeps the pieces that it began with.
    """

    __slots__ = ()

    @classmethod
    def of(cls, grain: Grain) -> GrowingGrain:
        """Return a grain that begins as another one."""
        return cls(grain.named, exact=grain.exact)

    def name(self, keys: Iterable[int]) -> None:
        """Give keys steps of their own."""
        named = list(self.named)
        for key in sorted(set(keys).difference(named)):
            insort(named, key)
        self.named = tuple(named)


class Places:
    """The address table of a scenario, which grows by what a test maps."""

    def __init__(self, table: Addresses) -> None:
        self.table = table

    def address(self, gfn: int, pages: int = 1) -> int:
        """Return the address (bytes) of guest pages; Misfit where there is none or several."""
        return self.table.address(gfn, pages)

    def candidates(self, gfn: int) -> tuple[int, ...]:
        """Return every address that a guest page has."""
        return self.table.candidates(gfn)

    def ranges(self, operation: Operation) -> list[tuple[int, int]]:
        """Return the guest pages that an operation names, as (first gfn, pages)."""
        return guest_ranges(operation, self.table)

    def operation(self, text: str, kind: str) -> Operation:
        """Read an operation of a kind of thread, with its addresses. Raises ValueError."""
        try:
            operation = parse_operation(text, kind)
            return self._mapped(operation) if operation.kind == "map" else self._placed(operation)
        except Misfit as misfit:
            raise ValueError(f"{text!r}: {misfit}") from None

    def _placed(self, operation: Operation) -> Operation:
        """Give host memory its address; `unmap` and what names no memory have none."""
        if operation.gfn is None or operation.kind == "unmap":
            return operation
        try:
            address = self.address(operation.gfn, operation.pages)
        except Misfit:  # a range may go on where nothing is mapped, as in any program
            address = self.address(operation.gfn)
        return msgspec.structs.replace(operation, address=address)

    def _mapped(self, operation: Operation) -> Operation:
        """Give a map its address: its own, the one that its pages have, or a free one."""
        gfn, pages, uaddr = operation.gfn, operation.pages, operation.uaddr
        assert gfn is not None
        if operation.backing in _NOT_MODELLED:
            raise Misfit(operation.backing, "memory that is not shared: that is not modelled")
        known = self.table.candidates(gfn, pages)
        if uaddr is None and len(known) > 1:
            raise Misfit(f"{gfn:#x}, which has several addresses", "uaddr=… here")
        if uaddr is None and known:
            return msgspec.structs.replace(operation, uaddr=known[0])
        run = msgspec.convert({"backing": operation.backing, "pages": pages}, BackingRun)
        self.table = self.table.place(gfn, (run,), f"test[{len(self.table.placed)}]", uaddr)
        return msgspec.structs.replace(operation, uaddr=self.table.placed[-1].uaddr)
