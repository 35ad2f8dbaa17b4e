"""Which locals of a suspended coroutine can still be read: the others are no state.

A variable that is assigned again, or never looked at, before anything reads it makes two states
differ that go on alike: the request of the last call, the status of the last attempt. The usual
backward analysis (Aho, Lam, Sethi, Ullman, *Compilers*, 9.2.5) over the bytecode tells which can
still be read. Where the code cannot be understood, all can.
"""

from __future__ import annotations

import dis
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

Names = frozenset[str]

#: After these nothing follows but what they jump to.
_ENDS = frozenset(
    (
        "RETURN_VALUE",
        "RETURN_CONST",
        "RAISE_VARARGS",
        "RERAISE",
        "INTERPRETER_EXIT",
        "JUMP_FORWARD",
        "JUMP_BACKWARD",
        "JUMP_BACKWARD_NO_INTERRUPT",
        "JUMP_ABSOLUTE",
    )
)
_TABLES: dict[int, tuple[CodeType, dict[int, tuple[str, ...]]]] = {}  # derived, so no state


def live_locals(code: CodeType, lasti: int) -> tuple[str, ...] | None:
    """Return the locals, sorted, that can be read after the instruction at ``lasti``.

    None: nothing is known, as of a coroutine that has not begun.
    """
    known = _TABLES.get(id(code))
    if known is None:
        known = _TABLES[id(code)] = (code, _analysed(code))
    return known[1].get(lasti)


def _analysed(code: CodeType) -> dict[int, tuple[str, ...]]:
    instructions = list(dis.get_instructions(code))
    after = _successors(code, instructions)
    always = frozenset(code.co_cellvars) | frozenset(code.co_freevars)
    before: list[Names] = [always] * len(instructions)
    behind: list[Names] = [always] * len(instructions)
    effects = [_effect(instruction) for instruction in instructions]
    changed = True
    while changed:
        changed = False
        for index in range(len(instructions) - 1, -1, -1):
            out = always.union(*(before[n] for n in after[index]))
            reads, writes = effects[index]
            into = reads | (out - writes)
            if into != before[index] or out != behind[index]:
                before[index], behind[index], changed = into, out, True
    return {i.offset: tuple(sorted(behind[n])) for n, i in enumerate(instructions)}


def _successors(code: CodeType, instructions: list[dis.Instruction]) -> list[list[int]]:
    """Return where each instruction may go on, a handler of an exception in it included."""
    at = {instruction.offset: index for index, instruction in enumerate(instructions)}
    jumps = {*dis.hasjrel, *dis.hasjabs}
    # The table of exceptions has no public reader before 3.13.
    handlers: Any = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    found = []
    for index, instruction in enumerate(instructions):
        ends = instruction.opname in _ENDS or index + 1 == len(instructions)
        nexts = [] if ends else [index + 1]
        if instruction.opcode in jumps:
            nexts.append(at[instruction.argval])
        nexts += [at[h.target] for h in handlers if h.start <= instruction.offset < h.end]
        found.append(nexts)
    return found


def _effect(instruction: dis.Instruction) -> tuple[Names, Names]:
    """Return the locals that an instruction reads, and those that it writes."""
    opname, value = instruction.opname, instruction.argval
    if "_FAST" not in opname:
        return frozenset(), frozenset()
    names = value if isinstance(value, tuple) else (value,)
    if opname.startswith("STORE_FAST_LOAD_FAST"):
        return frozenset(names[1:]) - {names[0]}, frozenset(names[:1])
    if opname.startswith("STORE_FAST"):
        return frozenset(), frozenset(names)
    return frozenset(names), frozenset()
