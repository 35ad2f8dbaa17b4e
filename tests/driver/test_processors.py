"""Virtual processors: created by ioctl, run, kicked, interrupted by signals, given up."""

from __future__ import annotations

import pytest
from driver_world import GFN, HostPages, Machine, Planted, argument, read, touches, verdict, write

from mshv_async.driver import PartitionIoctl, VpIoctl
from mshv_async.guest import GuestProcessor
from mshv_async.hyperv import SchedulerType
from mshv_async.sim import Injection, current, is_freed
from mshv_async.sim.strategies import RandomWalk

PROFILES = ["v6", "v7", "v9", "fix1"]
HYP = SchedulerType.CLASSIC_LP


def create(index):
    return lambda m: m.driver.partition_ioctl(m.partition, PartitionIoctl.CREATE_VP, index)


def create_vps(machine, *indexes, **options):
    return machine.call(*[lambda _, i=i: create(i)(machine) for i in indexes], **options)


# -- CREATE_VP -----------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", PROFILES)
def test_arguments_of_create_vp(driver):
    machine = Machine(driver, guests=[touches(write(GFN))], regions=[argument()])
    # Descriptors 3 and 4 are the partition's and vp0's.
    assert create_vps(machine, 0, -1, 256, 255, 1, 1) == [-17, -22, -22, 5, 6, -17]
    assert sorted(machine.partition.pt_vp_array) == [0, 1, 255]
    assert machine.partition.pt_ref_count.count == 4
    assert sorted(machine.hv_partition.vps) == [0, 1, 255]


@pytest.mark.parametrize(
    ("injection", "ret"),
    [
        (Injection(at="hypercall.create_vp", status="INVALID_PARAMETER", force=True), -22),
        (Injection(at="hypercall.create_vp", status="INVALID_PARTITION_STATE", force=True), -22),
        (Injection(at="alloc.deposit", errno="ENOMEM", force=True), -12),
        (Injection(at="alloc.vp", errno="ENOMEM", force=True), 0),  # G06: no error code
        (Injection(at="alloc.vp.file", errno="ENOMEM", force=True), -12),
    ],
)
@pytest.mark.parametrize("driver", ["fix1", "v6+publish-before-fd"])
def test_a_processor_that_cannot_be_created_leaves_nothing(driver, injection, ret):
    machine = Machine(driver)
    used = machine.hv_partition.pool.used
    assert create_vps(machine, 0, injections=(injection,)) == [ret]
    assert list(machine.partition.pt_vp_array) == []
    assert list(machine.hv_partition.vps) == []
    assert machine.hv_partition.pool.used == used
    assert machine.partition.pt_ref_count.count == 1
    assert machine.vmm.files.fd_of("vp", 0) is None


@pytest.mark.parametrize("driver", PROFILES)
def test_a_pool_that_is_short_gets_90_pages_and_one_at_a_time(driver):
    machine = Machine(driver, pool=0)
    short = Injection(at="hypercall.create_vp", status="INSUFFICIENT_MEMORY", force=True)
    assert create_vps(machine, 0, injections=(short,)) == [4]
    assert machine.hv_partition.pool.frames.total(0, 4096) == 91


# -- G01 -----------------------------------------------------------------------------------------


def run_before_it_is_published(driver):
    """The VMM's thread runs the new VP as soon as it has the descriptor."""
    machine = Machine(driver, regions=[argument()], scheduler=HYP)
    source = touches(write(GFN, "a"))

    def start(rt):
        machine.vmm.start_late_vp(
            rt, 0, lambda vp: GuestProcessor(vp, source, HostPages(machine.host))
        )

    # Between descriptor and array: the VP is run and its first kick sent.
    plan = [("vmm", "vp.publish"), ("vp0", "waitqueue.wait"), ("guest0", None), ("hv-isr", None)]
    rt = machine.play({"vmm": ["create-vp 0"]}, strategy=Planted(plan), before=start)
    return machine, rt


@pytest.mark.parametrize("driver", PROFILES)
def test_g01_the_kick_of_a_vp_without_a_place_is_dropped(driver):
    machine, rt = run_before_it_is_published(driver)
    assert verdict(rt) in {"deadlock", "starvation"}
    assert machine.accesses == []


@pytest.mark.parametrize("driver", PROFILES)
def test_g01_mended(driver):
    machine, rt = run_before_it_is_published(f"{driver}+publish-before-fd")
    assert verdict(rt) == "clean"
    assert len(machine.accesses) == 1


# -- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", [SchedulerType.ROOT, HYP])
@pytest.mark.parametrize("driver", PROFILES)
def test_a_signal_ends_run_vp_and_the_vp_can_be_run_again(driver, scheduler):
    machine = Machine(
        driver,
        guests=[touches(*[read(GFN)] * 3, write(GFN, "b"))],
        regions=[argument()],
        scheduler=scheduler,
    )
    rt = machine.play({"vmm": ["signal vp0", "signal vp0"]}, strategy=RandomWalk(3))
    assert verdict(rt) == "clean"
    assert [kind for kind, _, _ in machine.accesses] == ["0r", "0r", "0r", "0w"]


@pytest.mark.parametrize("scheduler", [SchedulerType.ROOT, HYP])
@pytest.mark.parametrize("seed", range(8))
def test_signals_at_any_moment_lose_no_access_and_no_kick(scheduler, seed):
    machine = Machine(
        "fix1",
        guests=[touches(write(GFN), read(GFN)), touches(write(GFN + 1), read(GFN))],
        regions=[argument()],
        scheduler=scheduler,
    )
    programs = {"vmm": ["repeat 3 signal vp0", "signal vp1"]}
    rt = machine.play(programs, strategy=RandomWalk(seed))
    assert verdict(rt) == "clean"
    assert len(machine.accesses) == 4
    assert machine.unhandled == []
    for vp in machine.partition.pt_vp_array.values():
        assert vp.vp_signaled_count == vp.vp_intercept_msg_page.signal_count


@pytest.mark.parametrize("scheduler", [SchedulerType.ROOT, HYP])
def test_run_vp_says_eintr_for_a_signal_that_does_not_kill(scheduler):
    machine = Machine("fix1", regions=[argument()], scheduler=scheduler)

    async def run(d):
        await create(0)(machine)
        current().signal()
        ret = await d.vp_ioctl(machine.partition.pt_vp_array[0], VpIoctl.RUN_VP)
        current().take_signal()
        return ret

    assert machine.call(run) == [(-4, None)]
    assert machine.hv_partition.vps[0].explicit_suspend


# -- the end -------------------------------------------------------------------------------------

CLOSES = [
    ["close partition", "close vp 0"],
    ["close vp 0", "close partition"],
]


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize("scheduler", [SchedulerType.ROOT, HYP])
@pytest.mark.parametrize("closes", CLOSES)
@pytest.mark.parametrize("pool", [0, 64])
def test_the_last_close_destroys_the_partition(driver, scheduler, closes, pool):
    machine = Machine(driver, guests=[touches(write(GFN, "a"))], scheduler=scheduler, pool=pool)
    hv_partition, partition = machine.hv_partition, machine.partition
    gone = []
    plan = [("vmm", "file.close"), ("vp0", None)]
    rt = machine.play(
        {"vmm": ["map 0x200 8KiB", *closes]},
        strategy=Planted(plan),
        watch={"object.free": gone.append},
    )
    assert verdict(rt) == "clean"
    assert is_freed(partition)
    assert machine.hv.partition(2) is None
    assert hv_partition.pool.deposited == 0
    assert hv_partition.slat.runs(0, 1 << 40) == []
    assert machine.mm.subscriptions.itree == ()
    # Only the two pages of the guest are still the process's.
    assert machine.host.pages - 1 - machine.host.nr_free == 2
    assert not [s for _, _, s in machine.host.frames.runs(1, machine.host.pages) if s.pins]


@pytest.mark.parametrize("driver", PROFILES)
@pytest.mark.parametrize("config", [{}, {"mmu_notifier": False}])
def test_process_exit_gives_everything_back(driver, config):
    """The address space goes first, then the descriptors, and with them the partition."""
    machine = Machine(driver, guests=[touches(write(GFN, "a"))], regions=[argument()], **config)
    plan = [("vp0", None)]
    rt = machine.play({"vmm": ["exit"]}, strategy=Planted(plan))
    assert verdict(rt) == "clean"
    assert is_freed(machine.partition)
    assert machine.hv_partition.pool.deposited == 0
    assert machine.host.nr_free == machine.host.pages - 1


def test_a_partition_that_was_never_initialised_goes_too():
    machine = Machine("fix1")
    free = machine.host.nr_free

    async def act(d):
        ret, partition = await d.ioctl_create_partition()
        assert not ret
        assert await d.hv_call_deposit_pages(partition.pt_id, 3) == 0
        await d.partition_release(partition)
        return is_freed(partition)

    assert machine.call(act) == [True]
    assert len(machine.hv.partitions) == 2
    assert machine.host.nr_free == free
