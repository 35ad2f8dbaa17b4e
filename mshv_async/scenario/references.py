"""That what operations refer to exists: virtual processors, processes, memory of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mshv_async.scenario.checks import VMM
from mshv_async.scenario.errors import ScenarioError, close_match, listed, quoted
from mshv_async.scenario.threads import operations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mshv_async.scenario.model import Situation
    from mshv_async.scenario.operations import Operation
    from mshv_async.scenario.threads import ThreadPlan


def created_vps(threads: Sequence[ThreadPlan]) -> frozenset[int]:
    """Return the indices that programs create, so that set-up leaves them out."""
    found = (op.vp for _, op in operations(threads) if op.kind == "create-vp")
    return frozenset(index for index in found if index is not None)


def check_references(file: str, situation: Situation, threads: Sequence[ThreadPlan]) -> None:
    """Raise ``ScenarioError`` for the first operation that names what there is not."""
    vps = sum(thread.kind == "vp" for thread in threads)
    known = created_vps(threads) | frozenset(range(vps))
    processes = (VMM, *(process.name for process in situation.process))
    for key, op in operations(threads):
        if op.process is not None and op.process not in processes:
            found = quoted(op.process) + close_match(op.process, processes)
            raise ScenarioError(file, key, found, f"a process: {listed(processes)}")
        if op.kind == "signal" and (op.vp is None or op.vp >= vps):
            allowed = f"a VP of the scenario: vp0 to vp{vps - 1}" if vps else "nothing: no [[vp]]"
            raise ScenarioError(file, key, f"vp{op.vp}", allowed)
        if op.file == "vp" and op.vp not in known:
            allowed = f"a VP of [[vp]] or of a create-vp: {listed(map(str, sorted(known)))}"
            raise ScenarioError(file, key, f"{op.kind} vp {op.vp}", allowed)
    for thread in threads:
        if thread.process is not None:
            _check_own_memory(file, thread)


def _check_own_memory(file: str, thread: ThreadPlan) -> None:
    """Refuse guest pages in another process: they stand for addresses of the VMM."""
    for number, line in enumerate(thread.program.lines):
        for op in line.operations:
            if op.gfn is not None and thread.kind != "vp" and not _of_the_partition(op):
                found = f"{op.gfn:#x}, a guest page, in process {thread.process}"
                allowed = "@ADDR, an address of that process"
                raise ScenarioError(file, f"{thread.key}.program[{number}]", found, allowed)


def _of_the_partition(op: Operation) -> bool:
    return op.kind in {"map", "unmap"}
