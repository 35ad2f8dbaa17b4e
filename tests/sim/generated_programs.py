"""Random small programs of two to four threads, for comparing exhaustive searches."""

from __future__ import annotations

import random
from functools import partial
from itertools import accumulate
from math import comb
from typing import TYPE_CHECKING, Any, NamedTuple

from playing import operation

from mshv_async.sim import (
    INTERRUPTIBLE,
    Completion,
    Mailbox,
    Mutex,
    RangeMap,
    Reply,
    RwSem,
    Shared,
    WaitQueue,
    choose,
    current,
    point,
    sleep_ns,
    tell,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mshv_async.sim import Runtime, Thread

CELLS = 2
MUTEXES = 2


class Word(NamedTuple):
    """One statement: what, on which of the few objects of its kind, and what it encloses."""

    what: str
    which: int = 0
    inside: tuple[Any, ...] = ()


Program = tuple[tuple[Word, ...], ...]

SECTIONS = ("lock", "trylock", "killable", "read", "write", "downgrade")
MEETINGS = ("sleep", "nap", "spawn", "daemon", "kill", "signal", "complete", "await", "ask", "say")
#: What threads do to a map, as faults and reclaim do to a page table.
MAP_THEMES = (("fill", "drop", "look"), ("fill", "turn", "look"), ("fill", "drop", "turn"))
#: Words that have to do with each other; a program takes its words from two of these.
THEMES = (
    ("add", "copy", "choose"),
    ("lock", "lock", "add"),
    ("lock", "trylock", "choose"),
    ("lock", "killable", "kill"),
    ("read", "write", "add"),
    ("read", "downgrade", "kill"),
    ("tell", "receive", "choose"),
    ("wait", "set", "signal"),
    ("complete", "await", "add"),
    ("ask", "say", "choose"),
    ("sleep", "nap", "signal"),
    ("sleep", "add", "kill"),
    ("spawn", "daemon", "add"),
    *MAP_THEMES,
)

#: Steps that a word takes, for a guess at how many schedules a program has.
STEPS = {
    "add": 2, "copy": 2, "choose": 0, "tell": 1, "receive": 2, "wait": 2, "set": 1, "lock": 2,
    "trylock": 2, "killable": 2, "read": 2, "write": 3, "downgrade": 4, "sleep": 2, "nap": 2,
    "spawn": 0, "daemon": 0, "kill": 1, "signal": 1, "complete": 1, "await": 1, "ask": 2, "say": 1,
    "fill": 2, "drop": 1, "turn": 1, "look": 2,
}  # fmt: skip
SCHEDULES_MAX = 3_000


def generate(seed: int, themes: tuple[tuple[str, ...], ...] = THEMES) -> Program:
    """Return a program of 2 to 4 threads; of nearly all dfs can play each schedule."""
    rng = random.Random(seed)
    while True:
        words_of = rng.choice(themes) + rng.choice(themes)
        threads = rng.choice((2, 2, 2, 3, 3, 4))
        words = {2: 4, 3: 3, 4: 2}[threads]
        program = tuple(
            tuple(_word(rng, words_of) for _ in range(rng.randint(1, words)))
            for _ in range(threads)
        )
        if _schedules(program) <= SCHEDULES_MAX:
            return program


def _schedules(program: Program) -> int:
    """Return about how many schedules there are: as if nobody ever waited."""
    lengths = [1 + sum(_steps(word) for word in words) for words in program]
    words = [word.what for thread in program for word in thread]
    lengths += [3] * sum(what in {"spawn", "daemon"} for what in words)
    lengths += [1] * sum(what in {"sleep", "nap"} for what in words)
    found = 1 << words.count("choose")
    for length, before in zip(lengths, accumulate(lengths, initial=0), strict=False):
        found *= comb(before + length, length)
    return found


def _steps(word: Word) -> int:
    return STEPS[word.what] + sum(_steps(inner) for inner in word.inside)


def _word(rng: random.Random, themes: tuple[str, ...]) -> Word:
    what = rng.choice(themes)
    which = rng.choice((0, 0, 1))
    if what not in SECTIONS:
        return Word(what, which)
    inside = Word("add", rng.choice((0, 0, 1)))
    if what == "lock" and rng.random() < 0.3:
        inside = Word("lock", 1 - which, (inside,))
    return Word(what, which, (inside,))


class Cells(Shared):
    """Integers that all threads reach, each a point of its own."""

    __slots__ = ("values",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.values = (0,) * CELLS

    def put(self, index: int, value: int) -> None:
        values = list(self.values)
        values[index] = value
        self.values = tuple(values)


class Entry(NamedTuple):
    """What the map holds: who put it there, and which way round it is."""

    owner: int
    turned: bool = False

    @property
    def kind_of_value(self) -> str:
        return "turned" if self.turned else "straight"


class Machine:
    """What a program runs on."""

    def __init__(self) -> None:
        self.cells = Cells("cells")
        self.mutexes = [Mutex(f"m{i}", f"M{i}") for i in range(MUTEXES)]
        self.sem = RwSem("sem", "SEM")
        self.box: Mailbox[int] = Mailbox("box", 8)
        self.queue = WaitQueue("queue", together=True)
        self.done = Completion("done")
        self.reply: Reply[int] = Reply("reply")
        self.flags = Cells("flags")
        self.map: RangeMap[Entry] = RangeMap("map")
        self.threads: list[Thread] = []

    def roots(self) -> tuple[Shared, ...]:
        """Return what the state of the world is reached from."""
        own = (
            self.cells,
            self.sem,
            self.box,
            self.queue,
            self.done,
            self.reply,
            self.flags,
            self.map,
        )
        return (*own, *self.mutexes)

    async def run(self, words: tuple[Word, ...], me: int) -> None:
        """Do one statement after the other."""
        for at, word in enumerate(words):
            if word.inside:
                await self._section(word, me)
            elif word.what in {"fill", "drop", "turn", "look"}:
                await self._use_map(word.what, word.which, me)
            elif word.what in MEETINGS:
                await self._meet(word, me, at)
            else:
                await self._do(word, me)

    async def _put(self, which: int, value: int) -> None:
        await point("cell.write", self.cells, which, which + 1)
        self.cells.put(which, value)

    async def _do(self, word: Word, me: int) -> None:
        cells, which = self.cells, word.which
        match word.what:
            case "add":  # not atomic: a read and a write
                await point("cell.read", cells, which, which + 1, write=False)
                await self._put(which, cells.values[which] * 3 + me)
            case "copy":
                await point("cell.read", cells, 1 - which, 2 - which, write=False)
                await self._put(which, cells.values[1 - which])
            case "choose":
                cells.put(which, cells.values[which] * 3 + choose("pick", 2))
            case "tell":
                await tell(self.box, me)
            case "receive":
                await self._put(which, await self.box.receive())
            case "wait":
                wait = {"wait": INTERRUPTIBLE} if which else {}
                await self.queue.wait_event(self._raised, **wait)
            case "set":
                await point("flag.set", self.flags, 0, 1)
                self.flags.put(0, 1)
                self.queue.wake_all()

    async def _use_map(self, what: str, key: int, me: int) -> None:
        entries = self.map
        if what in {"fill", "look"}:
            await point("map.read", entries, key, key + 1, write=False)
            held = entries.get(key)
            if what == "look":
                await self._put(key, 0 if held is None else 2 * held.owner + held.turned)
                return
            if held is not None:
                return
        await point("map.write", entries, key, key + 1)
        held = entries.get(key)
        if what == "drop":
            entries.clear(key, key + 1)
        elif what == "fill" and held is None:
            entries.set(key, key + 1, Entry(me))
        elif what == "turn" and held is not None:
            entries.set(key, key + 1, Entry(held.owner, turned=not held.turned))

    def _raised(self) -> bool:
        return self.flags.values[0] == 1

    async def _section(self, word: Word, me: int) -> None:
        """Take a lock, do what it encloses, and release it."""
        if not await self._enter(word):
            return
        await self.run(word.inside, me)
        match word.what:
            case "read":
                await self.sem.up_read()
            case "write":
                await self.sem.up_write()
            case "downgrade":
                await self.sem.downgrade_write()
                await self.sem.up_read()
            case _:
                await self.mutexes[word.which].unlock()

    async def _enter(self, word: Word) -> bool:
        mutex = self.mutexes[word.which]
        match word.what:
            case "lock":
                await mutex.lock()
            case "trylock":
                return await mutex.trylock()
            case "killable":
                return await mutex.lock_killable() == 0
            case "read":
                await self.sem.down_read()
            case "write" | "downgrade":
                await self.sem.down_write()
        return True

    async def _meet(self, word: Word, me: int, at: int) -> None:
        """Do a statement that time or other threads take part in."""
        which = word.which
        match word.what:
            case "sleep":
                await sleep_ns(10 * me)
            case "nap":
                await self._put(which, await sleep_ns(10, INTERRUPTIBLE))
            case "spawn" | "daemon":
                child = partial(self._do, Word("add", which), 5 + me)
                daemon = word.what == "daemon"
                current().rt.spawn(f"t{me}.{at}", lambda: operation(child()), daemon=daemon)
            case "kill" | "signal":
                await point("signal.send")
                victim = self.threads[which]
                (victim.signal_fatal if word.what == "kill" else victim.signal)()
            case "complete":
                await self.done.complete()
            case "await":
                await self.done.wait()
            case "ask":
                await self._put(which, await self.reply.get() or 0)
            case "say":
                await self._answer(me)

    async def _answer(self, me: int) -> None:
        await point("reply.set")
        if not self.flags.values[1]:
            self.flags.put(1, 1)
            self.reply.set(me)


def builder(program: Program) -> Callable[[Runtime], Callable[[], object]]:
    """Return what spawns a program's threads; the result is what cells and map hold at the end."""

    def build(rt: Runtime) -> Callable[[], object]:
        machine = Machine()
        for me, words in enumerate(program, 1):
            body = partial(machine.run, words, me)
            machine.threads.append(rt.spawn(f"t{me}", lambda body=body: operation(body())))
        rt.roots = machine.roots
        rt.opaque = (Machine,)
        return lambda: (machine.cells.values, tuple(machine.map))

    return build
