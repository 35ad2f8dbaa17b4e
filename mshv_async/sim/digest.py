"""The trace as text, and its digest: what must be equal for two executions to be the same one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mshv_async.sim.runtime import Runtime


def step_lines(rt: Runtime) -> list[str]:
    """Return one line a step: thread, label, object, range, read or write."""
    names = [t.name for t in rt.all_threads]
    return [f"{names[tid]} {op.line()}" for tid, op in rt.trace]


def digest(rt: Runtime) -> str:
    """Return the SHA-256 over the steps in order and the decisions, in hex.

    Nothing of versions, paths, time or log enters it.
    """
    sha = hashlib.sha256()
    for line in step_lines(rt):
        sha.update(line.encode())
        sha.update(b"\n")
    for label, value, bound in rt.tape:
        sha.update(f"{label}={value}/{bound}\n".encode())
    return sha.hexdigest()
