"""Programs of the literature on partial order reduction, whose number of traces is known.

``filesystem`` and ``indexer``: Flanagan and Godefroid (POPL 2005). ``readers`` and ``last_zero``:
Abdulla, Aronis, Jonsson and Sagonas (POPL 2014), whose table 1 gives the numbers of all four.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from playing import operation

from mshv_async.sim import Mutex, Shared, point

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from mshv_async.sim import Runtime

    Build = Callable[[Runtime], None]
    Body = Callable[[], Coroutine[Any, Any, None]]


class Variable(Shared):
    """A shared variable; each read and each write is a step."""

    __slots__ = ("value",)

    def __init__(self, name: str, value: int = 0) -> None:
        super().__init__(name)
        self.value = value

    async def read(self) -> int:
        await point("read", self, write=False)
        return self.value

    async def write(self, value: int) -> None:
        await point("write", self)
        self.value = value

    async def swap(self, expected: int, value: int) -> bool:
        """Compare and exchange."""
        await point("cas", self)
        if self.value != expected:
            return False
        self.value = value
        return True


def _spawn(rt: Runtime, bodies: list[Body]) -> None:
    for n, body in enumerate(bodies):
        rt.spawn(f"t{n}", partial(_run, body))


async def _run(body: Body) -> None:
    await operation(body())


def lockers(n: int) -> Build:
    """Each takes one lock and releases it: n! orders."""

    async def body(mutex: Mutex) -> None:
        await mutex.lock()
        await mutex.unlock()

    return lambda rt: _spawn(rt, [partial(body, Mutex("mutex", "MUTEX"))] * n)


def writers(n: int) -> Build:
    """Each writes a variable of its own, twice: all orders are one."""

    async def body(own: Variable) -> None:
        await own.write(1)
        await own.write(2)

    return lambda rt: _spawn(rt, [partial(body, Variable(f"own{i}")) for i in range(n)])


def readers(n: int) -> Build:
    """One writes what the others read: each of them before or after it."""

    def build(rt: Runtime) -> None:
        x = Variable("x")
        _spawn(rt, [partial(x.write, 1), *([partial(_read, x)] * n)])

    return build


async def _read(variable: Variable) -> None:
    await variable.read()


def counter(n: int) -> Build:
    """Each adds one to a variable in two steps, a read and a write."""

    async def body(x: Variable) -> None:
        await x.write(await x.read() + 1)

    return lambda rt: _spawn(rt, [partial(body, Variable("x"))] * n)


def last_zero(n: int) -> Build:
    """One looks for the last zero of an array, while each other adds one from its left."""

    async def look(array: list[Variable]) -> None:
        index = n
        while await array[index].read():
            index -= 1

    async def add(left: Variable, right: Variable) -> None:
        await right.write(await left.read() + 1)

    def build(rt: Runtime) -> None:
        array = [Variable(f"array{i}") for i in range(n + 1)]
        pairs = pairwise(array)
        _spawn(rt, [partial(look, array), *(partial(add, *pair) for pair in pairs)])

    return build


def indexer(n: int) -> Build:
    """Each enters four messages into a hash table of 128; the first 11 threads never meet."""
    size, messages = 128, 4

    async def body(tid: int, table: list[Variable]) -> None:
        for m in range(1, messages + 1):
            word = m * 11 + tid
            at = word * 7 % size
            while not await table[at].swap(0, word):
                at = (at + 1) % size

    def build(rt: Runtime) -> None:
        table = [Variable(f"table{i}") for i in range(size)]
        _spawn(rt, [partial(body, tid, table) for tid in range(n)])

    return build


def filesystem(n: int) -> Build:
    """Each takes an inode and finds it a free block; the first 13 threads never meet."""
    inodes, blocks = 32, 26

    def build(rt: Runtime) -> None:
        locks_i = [Mutex(f"locki{i}", "I") for i in range(inodes)]
        locks_b = [Mutex(f"lockb{i}", "B") for i in range(blocks)]
        inode = [Variable(f"inode{i}") for i in range(inodes)]
        busy = [Variable(f"busy{i}") for i in range(blocks)]

        async def body(tid: int) -> None:
            i = tid % inodes
            await locks_i[i].lock()
            if inode[i].value == 0:
                b = i * 2 % blocks
                while True:
                    await locks_b[b].lock()
                    if not busy[b].value:
                        busy[b].value = 1
                        inode[i].value = b + 1
                        await locks_b[b].unlock()
                        break
                    await locks_b[b].unlock()
                    b = (b + 1) % blocks
            await locks_i[i].unlock()

        _spawn(rt, [partial(body, tid) for tid in range(n)])

    return build
