"""A world that a test drives: a scenario's set-up, with the test in the place of its programs."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel
import msgspec

from mshv_async.explore.catalogue import check_strategy, make_strategy
from mshv_async.explore.playing import Subject, log_finding, records
from mshv_async.explore.results import step_records
from mshv_async.explore.verdict import Verdict
from mshv_async.log import columns, report
from mshv_async.scenario.programs import Program
from mshv_async.scenario.references import created_vps
from mshv_async.scenario.world import WorldPlan, build_runtime
from mshv_async.sim import Token, current, on_stage
from mshv_async.sim.driven import DrivenRuntime, ExecutionEnded
from mshv_async.sim.loop import SimLoop
from mshv_async.sim.stage import Interrupted
from mshv_async.sim.strategies import Pct
from mshv_async.sim.strategies.portfolio import turn_of
from mshv_async.testing.callers import Host, Khugepaged, OomReaper, Reclaimer, Vmm, Vp
from mshv_async.testing.failure import WorldFailure
from mshv_async.testing.guests import CallSource, DrivenGuest
from mshv_async.testing.naming import GrowingGrain, Places
from mshv_async.testing.operations import CallThread
from mshv_async.vmm.process import OF_A_PROCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from mshv_async.driver import DriverSpec
    from mshv_async.guest import GuestAccess, GuestProcessor
    from mshv_async.scenario import Scenario
    from mshv_async.scenario.world import World as Inside
    from mshv_async.sim import Stage, Thread
    from mshv_async.vmm.process import Process

SAMPLING = ("portfolio", "pct", "random", "fair", "fifo", "pos", "urw", "starve")
"""Strategies that one execution makes sense with; the others need a campaign."""


class World:
    """One execution that a coroutine on the simulated loop drives, as an async context manager.

    Regions, VPs, host, hypervisor, injections and bounds are the scenario's. Of its programs only
    those named in `programs` run beside the test, from its first call on; the other VPs are the
    test's. Calls that are under way at the same time interleave as `strategy` and `seed` decide.
    Raises DriverError, ScenarioError, StrategyError for what cannot be built.
    """

    def __init__(
        self,
        scenario: Scenario,
        driver: DriverSpec,
        *,
        seed: int = 1,
        strategy: str = "portfolio",
        programs: bool | Collection[str] = False,
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        check_strategy(strategy)
        # There is one execution: of a portfolio, one member plays it.
        name = turn_of(seed)[0] if strategy == "portfolio" else strategy
        # It measures no length, and a storm of some calls has so many decisions.
        chosen = Pct(seed, length=128) if name == "pct" else make_strategy(name, seed=seed)
        chosen.begin(0)
        plan, sources = _driven(Subject(scenario, driver).plan, programs)
        gfns, vpns = GrowingGrain.of(plan.gfns), GrowingGrain.of(plan.vpns)
        plan = replace(plan, gfns=gfns, vpns=vpns)
        rt = build_runtime(plan, chosen, mode="driven", seed=seed, keep=True)
        assert isinstance(rt, DrivenRuntime)
        self._rt = rt
        self._inside: Inside = rt.world
        self._places = Places(scenario.addresses)
        self._gfns, self._vpns = gfns, vpns
        self._inside.vmm.addresses = self._places
        self._names: dict[str, Thread] = {}
        self._serials: dict[str, Token] = {}
        self._vps = {i: Vp(self, guest) for i, guest in self._take_guests(sources).items()}
        self._host: asyncio.Task[Any] | None = None
        self.host = Host(self)
        self.vmm = Vmm(self)
        self.reclaimer = Reclaimer(self)
        self.oom_reaper = OomReaper(self)
        self.khugepaged = Khugepaged(self)

    # -- what a test uses ------------------------------------------------------------------

    def vp(self, index: int) -> Vp:
        """Return a virtual processor. LookupError: there is none, or it runs its own program."""
        if index not in self._vps:
            mine = ", ".join(map(str, self._vps)) or "none"
            why = "the test has no such VP"
            if f"vp{index}" in [thread.name for thread in self.scenario.threads]:
                why = f"vp{index} runs its program, as `programs` says"
            raise LookupError(f"vp({index}): {why}; the test's own are: {mine}")
        return self._vps[index]

    async def settle(self) -> None:
        """Wait until all programs that come to an end, and all calls of other tasks, have."""
        await self._result(self._rt.settled())

    @property
    def steps(self) -> int:
        """How many scheduler steps the execution took so far."""
        return self._rt.steps

    @property
    def warnings(self) -> dict[str, int]:
        """How often each WARN site fired."""
        return dict(self._rt.warnings)

    def columns(self) -> str:
        """Return what happened so far, a column for each thread."""
        return "\n".join(columns(step_records(records(self._rt))))

    def report(self, command: str | None = None) -> str:
        """Return the report of the finding, or why the execution was cut short.

        `command`: what replays it. Empty while nothing was found.
        """
        found = log_finding(self._rt)
        if found is not None:
            return report(found, step_records(records(self._rt)), command=command)
        if self._rt.cut is not None:
            return f"the execution was cut short at step {self._rt.steps}: {self._rt.cut}"
        return ""

    # -- its life --------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the world on the running loop, which has to be a simulated one."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop, SimLoop):
            raise TypeError("a world is driven on the simulated loop: mark the test with mshv")
        if loop.on_idle is not None:
            raise RuntimeError("a loop drives one world at a time, and one is open already")
        self._host = loop.create_task(on_stage(self._play))
        while self._rt.loop is None and not self._host.done():  # noqa: ASYNC110 - a turn or two
            await asyncio.sleep(0)
        return self

    async def _play(self, stage: Stage) -> None:
        await stage.play(self._rt)

    async def end(self) -> None:
        """Let everything that was begun end, and have the world judged. Raises WorldFailure."""
        assert self._host is not None
        if not self._rt.ended:
            self._rt.no_more_calls()
        await asyncio.wait([self._host])
        self._check()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Judge the world if the block went well; leave no task behind in any case."""
        assert self._host is not None
        try:
            if error is None:
                await self.end()
        finally:
            await self.close()

    async def close(self) -> None:
        """Abandon what still runs."""
        assert self._host is not None
        if not self._rt.ended:
            self._rt.cut = "abandoned"
            self._rt.finish(None)
        await asyncio.wait([self._host])
        self._host.exception()  # every call has told it, or end()
        if self._rt.loop is not None:
            self._rt.loop.on_idle = None

    def _check(self) -> None:
        if self._rt.error is not None:
            raise self._rt.error
        if self._rt.finding is not None or self._rt.cut is not None:
            raise WorldFailure(self.report(), log_finding(self._rt))

    @property
    def verdict(self) -> Verdict | None:
        """What was found so far."""
        return None if self._rt.finding is None else Verdict(self._rt.finding.verdict)

    @property
    def failed(self) -> bool:
        """Whether the execution came to a finding or was cut short."""
        return bool(self.report()) and self._rt.cut != "abandoned"

    # -- calls -----------------------------------------------------------------------------

    async def run_guest(self, guest: DrivenGuest, access: GuestAccess) -> str | int:
        """Run a VP until one access is over; see :class:`Vp`."""
        self._name_pages([(access.gfn, 1)])
        name = f"vp{guest.index}"
        return await self._call("vp", name, lambda t: guest.run(t, access), guest.process)

    async def perform(self, kind: str, text: str) -> str | int:
        """Perform an operation as a thread of a kind; see :class:`Caller`."""
        operation = self._places.operation(text, kind)
        self._name_pages(self._places.ranges(operation))
        if operation.address is not None:
            first = operation.address >> 12
            self._vpns.name({first, first + operation.pages - 1})

        async def _run(thread: Thread) -> str | int:
            body = CallThread(self._inside.vmm, thread.name, operation)
            body.serial = self._serials.get(thread.name, body.serial)
            await body.run()
            self._serials[thread.name] = body.serial
            return body.result

        return await self._call(kind, kind, _run, self._inside.vmm)

    async def _call(
        self,
        kind: str,
        name: str,
        body: Callable[[Thread], Coroutine[Any, Any, str | int]],
        process: Process,
    ) -> str | int:
        rt = self._rt
        if rt.ended:
            self._check()
            raise WorldFailure("the world was closed before this call")
        gone = process.left or any(t.fatal_pending for t in process.mm.threads)
        if gone and kind in OF_A_PROCESS:
            return -errno.EINTR  # the process is dead or dying: nobody of it calls any more

        async def _enter() -> str | int:
            return await body(current())

        thread, future = rt.enter(self._free_name(name), _enter, kind=kind)
        process.join(thread)
        self._inherit(thread)
        result: str | int = await self._result(future)
        return result

    def _free_name(self, name: str) -> str:
        """Return the name itself, or with a number while other calls have it."""
        number = 0
        taken = name
        while taken in self._names and not self._names[taken].finished:
            number += 1
            taken = f"{name}{number}"
        return taken

    def _inherit(self, thread: Thread) -> None:
        """Let the actors that worked for an earlier call of this name work for this one."""
        earlier = self._names.get(thread.name)
        self._names[thread.name] = thread
        if earlier is None:
            return
        for other in self._rt.all_threads:
            if other.serves is earlier:
                other.work_for(thread)
        lp = self._inside.hv.processors.get(thread.name)
        if lp is not None:
            lp.caller = thread

    async def _result(self, future: asyncio.Future[Any]) -> Any:
        """Wait for a call. It cannot be cancelled, as nothing takes a thread out of a kernel.

        A cancellation that comes meanwhile takes effect when the call has returned.
        """
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError as error:
                    cancelled = error
        try:
            result = future.result()
        except Interrupted:
            raise KeyboardInterrupt from None
        except ExecutionEnded as ended:
            raise WorldFailure(self.report() or str(ended), log_finding(self._rt)) from None
        if cancelled is not None:
            raise cancelled
        await anyio.lowlevel.checkpoint_if_cancelled()
        return result

    # -- set-up ----------------------------------------------------------------------------

    def _take_guests(self, sources: dict[int, CallSource]) -> dict[int, DrivenGuest]:
        """Take the VPs that are the test's from the threads that the set-up made for them."""
        rt, inside = self._rt, self._inside
        guests: dict[int, DrivenGuest] = {}
        for guest in inside.guests:
            index = guest.vp.index
            if index not in sources:
                continue
            thread = inside.vmm.vp_threads[index]
            processes = (inside.vmm, *inside.vmm.others.values())
            owner = next(process for process in processes if thread in process.mm.threads)
            guests[index] = DrivenGuest(inside.vmm, owner, guest, sources[index])
            rt.live.remove(thread)
            thread.finished = True
            self._names[thread.name] = thread

        def accessed(guest: GuestProcessor, *fact: Any) -> None:
            if guest.vp.index in guests:
                guests[guest.vp.index].accessed(fact[-1])

        rt.watch("guest.access", accessed)
        return guests

    def _name_pages(self, ranges: list[tuple[int, int]]) -> None:
        for gfn, pages in ranges:
            ends = {gfn, gfn + pages - 1}
            self._gfns.name(ends)
            self._vpns.name(a >> 12 for g in ends for a in self._places.candidates(g))


def check_programs(scenario: Scenario, programs: bool | Collection[str]) -> tuple[str, ...]:
    """Return the names of the programs that run beside a test. Raises LookupError."""
    known = [thread.name for thread in scenario.threads]
    if isinstance(programs, bool):
        return tuple(known) if programs else ()
    if isinstance(programs, str) or not isinstance(programs, Collection):
        allowed = "True, False or a list of names"
        raise LookupError(f"programs: found {programs!r}; allowed: {allowed}")  # noqa: TRY004
    for name in programs:
        if name not in known:
            raise LookupError(f"programs: found {name!r}; allowed: {', '.join(known)}")
    return tuple(programs)


def _driven(
    plan: WorldPlan, programs: bool | Collection[str]
) -> tuple[WorldPlan, dict[int, CallSource]]:
    """Return the plan of a world with only those programs, and what the other VPs execute."""
    threads, sources = [], {}
    wanted = check_programs(plan.scenario, programs)
    for thread in plan.scenario.threads:
        if thread.name in wanted:
            threads.append(thread)
        elif thread.kind == "vp":
            source = sources[int(thread.name.removeprefix("vp"))] = CallSource()
            threads.append(msgspec.structs.replace(thread, program=Program(), source=source))
    scenario = msgspec.structs.replace(plan.scenario, threads=tuple(threads))
    created = created_vps(scenario.threads)
    return replace(plan, scenario=scenario, created=created), sources
