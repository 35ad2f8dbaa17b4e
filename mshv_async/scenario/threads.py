"""The threads of a scenario: their names and what they execute."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from mshv_async.guest import OperationSource
from mshv_async.scenario.checks import VMM
from mshv_async.scenario.errors import ScenarioError, quoted
from mshv_async.scenario.model import VPS_MAX
from mshv_async.scenario.programs import Program, parse_program
from mshv_async.scenario.sources import guest_program, guest_workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mshv_async.scenario.model import Situation
    from mshv_async.scenario.operations import Operation

_NAME: Final = re.compile(r"[a-z][a-z0-9-]*")
_RESERVED: Final = re.compile(r"(vp|guest|lp)-?[0-9]*(-.*)?|kswapd0")


class ThreadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One thread to start; ``kind`` is ``vp`` or the kind of its ``[[thread]]``.

    ``program`` is what the file lists (empty beside a workload); ``source`` what the guest of a
    VP executes, from either. ``key`` is the dotted key in the file, ``process`` the process that
    it is a thread of (None: the VMM).
    """

    name: str
    kind: str
    key: str
    program: Program = Program()
    source: OperationSource | None = None
    process: str | None = None

    @property
    def forever(self) -> bool:
        """Whether it never ends by itself, and so owes no progress."""
        return self.source.forever if self.source is not None else self.program.forever


def plan_threads(
    file: str, situation: Situation, traces: Mapping[str, str]
) -> tuple[ThreadPlan, ...]:
    """Return every thread, VPs first, in file order; ``traces``: texts by the path given.

    Raises ``ScenarioError`` for a line that is no operation, a bad name or a broken trace.
    """
    plans = [*_vps(file, situation, traces), *_others(file, situation)]
    seen = {process.name for process in situation.process}
    for plan in plans:
        if plan.name in seen:
            allowed = "a name that no other thread or process has"
            raise ScenarioError(file, f"{plan.key}.name", quoted(plan.name), allowed)
        seen.add(plan.name)
    return tuple(plans)


def _vps(file: str, situation: Situation, traces: Mapping[str, str]) -> Iterator[ThreadPlan]:
    index = 0
    for number, group in enumerate(situation.vp):
        key = f"vp[{number}]"
        program = Program()
        if group.program is not None:
            program = parse_program(file, f"{key}.program", group.program, "vp")
        for member in range(group.count):
            if index == VPS_MAX:
                raise ScenarioError(file, f"{key}.count", "more VPs", f"{VPS_MAX} in all")
            source: OperationSource = guest_program(program.lines)
            if group.workload is not None:
                first = group.workload.seed
                seed = index + 1 if first is None else first + member
                source = guest_workload(
                    file,
                    f"{key}.workload",
                    group.workload,
                    seed=seed,
                    regions=situation.region,
                    traces=traces,
                )
            yield ThreadPlan(
                name=f"vp{index}",
                kind="vp",
                key=key,
                program=program,
                source=source,
                process=_other(group.process),
            )
            index += 1


def _others(file: str, situation: Situation) -> Iterator[ThreadPlan]:
    of_kind: dict[str, int] = {}
    for number, spec in enumerate(situation.thread):
        key = f"thread[{number}]"
        earlier = of_kind.get(spec.kind, 0)
        of_kind[spec.kind] = earlier + 1
        name = spec.name or (f"{spec.kind}{earlier}" if earlier else spec.kind)
        if not _NAME.fullmatch(name) or _RESERVED.fullmatch(name):
            allowed = "small letters, digits and -, not the name of a VP or processor"
            raise ScenarioError(file, f"{key}.name", quoted(name), allowed)
        program = parse_program(file, f"{key}.program", spec.program, spec.kind)
        process = _other(spec.process)
        yield ThreadPlan(name=name, kind=spec.kind, key=key, program=program, process=process)


def _other(process: str | None) -> str | None:
    """Return the name of a process, None for the VMM's own."""
    return None if process == VMM else process


def operations(threads: Sequence[ThreadPlan]) -> Iterator[tuple[str, Operation]]:
    """Yield each operation of the programs once, with the dotted key of its line."""
    seen: set[str] = set()
    for thread in threads:
        if thread.key in seen:
            continue
        seen.add(thread.key)
        for number, line in enumerate(thread.program.lines):
            for op in line.operations:
                yield f"{thread.key}.program[{number}]", op
