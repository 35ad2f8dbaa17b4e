import pytest
from hypothesis import given
from hypothesis import strategies as st

from mshv_async.guest import Group, Program, execute, read, write
from mshv_async.hyperv import Access


def walk(source, most=1000):
    """Return the operations in the order in which a guest executes them."""
    position, found = 0, []
    while len(found) < most and (operation := source.at(position)) is not None:
        found.append(operation)
        position = source.after(position)
    return found


def test_a_program_ends_after_its_last_operation():
    assert walk(Program.of(write(1), read(1), execute(2))) == [write(1), read(1), execute(2)]
    assert walk(Program.of()) == []


def test_operations_carry_what_the_intercept_message_will_say():
    accesses = [op.access for op in (read(1), write(1), execute(1))]
    assert accesses == [Access.READ, Access.WRITE, Access.EXECUTE]


def test_repeat_executes_its_group_as_often_as_it_says_and_zero_skips_it():
    program = Program((Group((read(1),)), Group((write(2), read(2)), 3), Group((read(9),), 0)))
    assert walk(program) == [read(1), *[write(2), read(2)] * 3]


def test_a_million_repetitions_take_no_memory():
    program = Program((Group((read(1), read(2)), 1_000_000), Group((read(3),))))
    assert program.at(1_999_999) == read(2)
    assert program.at(2_000_000) == read(3)
    assert program.at(2_000_001) is None


def test_forever_repeats_the_group_and_its_positions_come_again():
    """A search that knows the states it has seen can only then come to an end."""
    program = Program((Group((write(0),), 2), Group((read(1), read(2)), None)))
    assert program.forever
    assert walk(program, 7) == [write(0), write(0), read(1), read(2), read(1), read(2), read(1)]
    position, seen = 0, set()
    for _ in range(50):
        seen.add(position)
        position = program.after(position)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize(
    "groups",
    [
        (Group(()),),
        (Group((read(1),), -1),),
        (Group((read(1),), None), Group((read(2),))),
    ],
)
def test_programs_that_cannot_be_meant_are_refused(groups):
    with pytest.raises(ValueError, match="group 0 of the program"):
        Program(groups)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4)), max_size=5))
def test_counting_agrees_with_unrolling(shapes):
    groups = tuple(
        Group(tuple(read(index * 10 + i) for i in range(size)), times)
        for index, (size, times) in enumerate(shapes)
    )
    unrolled = [op for group in groups for _ in range(group.times) for op in group.operations]
    assert walk(Program(groups)) == unrolled
