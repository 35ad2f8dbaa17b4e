"""Random small programs of two to four threads, for comparing exhaustive searches."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from playing import operation

from mshv_async.sim import (
    Mailbox,
    Mutex,
    Shared,
    WaitQueue,
    choose,
    point,
    tell,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.sim import Runtime

CELLS = 2
MUTEXES = 2


class Word(NamedTuple):
    """One statement: what, and on which of the few objects of its kind."""

    what: str
    which: int = 0


Program = tuple[tuple[Word, ...], ...]


class Cells(Shared):
    """Integers that all threads reach, each a point of its own."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        super().__init__("cells")
        self.values = (0,) * CELLS

    def put(self, index: int, value: int) -> None:
        values = list(self.values)
        values[index] = value
        self.values = tuple(values)


def generate(seed: int) -> Program:
    """Return a program of 2 to 4 threads that dfs can exhaust."""
    rng = random.Random(seed)
    threads = rng.choice((2, 2, 2, 3, 3, 4))
    words = {2: 3, 3: 2, 4: 1}[threads]
    return tuple(_thread(rng, rng.randint(1, words)) for _ in range(threads))


def _thread(rng: random.Random, words: int) -> tuple[Word, ...]:
    found: list[Word] = []
    while len(found) < words:
        what = rng.choice(
            ("add", "add", "copy", "lock", "choose", "tell", "receive", "wait", "set")
        )
        if what == "lock":
            which = rng.randrange(MUTEXES)
            inside = [Word("add", rng.randrange(CELLS))]
            if rng.random() < 0.3:
                inside = [Word("lock", 1 - which), *inside, Word("unlock", 1 - which)]
            found += [Word("lock", which), *inside, Word("unlock", which)]
        else:
            found.append(Word(what, rng.randrange(CELLS)))
    return tuple(found)


class Machine:
    """What a program runs on."""

    def __init__(self) -> None:
        self.cells = Cells()
        self.mutexes = [Mutex(f"m{i}", f"M{i}") for i in range(MUTEXES)]
        self.box: Mailbox[int] = Mailbox("box", 8)
        self.queue = WaitQueue("queue")
        self.flag = Cells()

    async def run(self, words: tuple[Word, ...], me: int) -> None:
        for word in words:
            await self._do(word, me)

    async def _do(self, word: Word, me: int) -> None:
        cells, which = self.cells, word.which
        match word.what:
            case "add":  # not atomic: a read and a write
                await point("cell.read", cells, which, which + 1, write=False)
                seen = cells.values[which]
                await point("cell.write", cells, which, which + 1)
                cells.put(which, seen * 3 + me)
            case "copy":
                await point("cell.read", cells, 1 - which, 2 - which, write=False)
                seen = cells.values[1 - which]
                await point("cell.write", cells, which, which + 1)
                cells.put(which, seen)
            case "lock":
                await self.mutexes[which].lock()
            case "unlock":
                await self.mutexes[which].unlock()
            case "choose":
                cells.put(which, cells.values[which] * 3 + choose("pick", 2))
            case "tell":
                await tell(self.box, me)
            case "receive":
                got = await self.box.receive()
                await point("cell.write", cells, which, which + 1)
                cells.put(which, got)
            case "wait":
                await self.queue.wait_event(self.raised)
            case "set":
                await point("flag.set", self.flag, 0, 1)
                self.flag.put(0, 1)
                self.queue.wake_all()

    def raised(self) -> bool:
        return self.flag.values[0] == 1


def builder(program: Program) -> Callable[[Runtime], Callable[[], object]]:
    """Return what spawns a program's threads; the result is what the cells hold at the end."""

    def build(rt: Runtime) -> Callable[[], object]:
        machine = Machine()
        for me, words in enumerate(program, 1):
            rt.spawn(f"t{me}", lambda words=words, me=me: operation(machine.run(words, me)))
        rt.roots = lambda: (
            machine.cells,
            *machine.mutexes,
            machine.box,
            machine.queue,
            machine.flag,
        )
        rt.opaque = (Machine,)
        return lambda: machine.cells.values

    return build
