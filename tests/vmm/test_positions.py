"""A program's position is three counters, and they lead through repeats and endless lines."""

from __future__ import annotations

from vmm_toys import ToyLine, ToyProgram

from mshv_async.vmm.operations import Position, following, operation_at


def walk(program: ToyProgram, steps: int) -> list[str]:
    position, seen = Position(), []
    for _ in range(steps):
        operation = operation_at(program, position)
        if operation is None:
            break
        seen.append(operation)
        position = following(program, position)
    return seen


def test_lines_run_in_order_and_as_often_as_they_say():
    program = ToyProgram((ToyLine(("a",)), ToyLine(("b", "c"), 2), ToyLine(("d",))))
    assert walk(program, 99) == ["a", "b", "c", "b", "c", "d"]


def test_an_endless_line_comes_round_to_the_same_position():
    program = ToyProgram((ToyLine(("a",)), ToyLine(("b", "c"), None)))
    assert walk(program, 6) == ["a", "b", "c", "b", "c", "b"]
    start = Position(1, 0, 0)
    assert following(program, following(program, start)) == start
