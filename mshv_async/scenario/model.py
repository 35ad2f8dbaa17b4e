"""What a scenario file can say: one frozen structure for each of its tables.

Field names are the keys of the file, defaults are what a file that leaves a key out gets. Sizes
are bytes, ``gfn`` guest page numbers, ``uaddr`` addresses in the VMM's process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mshv_async.scenario.quantities import (
    GFN_ALLOWED,
    GFN_LIMIT,
    SIZE_ALLOWED,
    UADDR_ALLOWED,
    UADDR_LIMIT,
    UADDR_MIN,
)
from mshv_async.sim.bounds import Bounds
from mshv_async.sim.inject import Injection

VPS_MAX = 256
"""Virtual processors of a partition (spec.md 8)."""

Size = Annotated[int, Meta(extra={"size": True, "allowed": SIZE_ALLOWED})]
Gfn = Annotated[int, Meta(ge=0, lt=GFN_LIMIT, extra={"allowed": GFN_ALLOWED})]
Uaddr = Annotated[int, Meta(ge=UADDR_MIN, lt=UADDR_LIMIT, extra={"allowed": UADDR_ALLOWED})]
Count = Annotated[int, Meta(ge=0, lt=1 << 40)]
Reserved = Annotated[int, Meta(ge=0, le=4096)]
Positive = Annotated[int, Meta(ge=1, lt=1 << 40)]

BackingKind = Literal["anon", "thp", "hugetlb-2m", "hugetlb-1g", "shared", "file", "device"]
RegionFlag = Literal["writable", "executable"]
ThreadKind = Literal["host", "vmm", "reclaimer", "oom-reaper", "khugepaged"]
WorkloadKind = Literal["sequential", "uniform", "zipf", "trace"]


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """The host's memory and who watches over it.

    ``memory`` and ``swap`` in bytes; ``hugetlb_2m`` and ``hugetlb_1g``: huge pages beside them;
    ``watermark``: free pages below which an allocation reclaims first; ``kswapd``: a thread
    reclaims before that; ``oom_killer``: a process is killed when reclaim finds nothing.
    """

    memory: Size = 64 << 20
    thp: Literal["never", "madvise", "always"] = "never"
    swap: Size = 0
    hugetlb_2m: Reserved = 0
    hugetlb_1g: Reserved = 0
    watermark: Count = 0
    kswapd: bool = False
    oom_killer: bool = False


class Hypervisor(msgspec.Struct, frozen=True, kw_only=True):
    """The hypervisor: who schedules VPs, its pools of pages, grain of reps, open points.

    ``pool`` and ``root_pool``: spare pages of the partition's pool and of the root's; ``tables``:
    which of them pays for table pages. The keys from ``split`` on are the switches of
    ``hyperv.SlatRules``, ``failed_deposit`` is the hypervisor's of that name.
    """

    scheduler: Literal["root", "hypervisor"] = "root"
    pool: Count = 0
    root_pool: Count = 0
    tables: Literal["partition", "root"] = "partition"
    failed_deposit: Literal["kept", "returned"] = "kept"
    reps: Literal["grouped", "exact"] = "grouped"
    split: Literal["page", "free", "refused"] = "page"
    large_over_small: Literal["replaced", "refused"] = "replaced"
    misaligned_large: Literal["INVALID_PARAMETER", "INVALID_ALIGNMENT"] = "INVALID_PARAMETER"
    no_access_tables: bool = True
    unmap_large_over_small: Literal["removed", "refused"] = "removed"
    promotion: bool = False
    adjustable: Literal["stored", "enforced"] = "stored"
    tlb: Literal["flushed", "delayed"] = "flushed"


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """The guest's partition, and how its host's kernel is configured."""

    encrypted: bool = False
    mmu_notifier: bool = True
    arch: Literal["x86_64", "arm64"] = "x86_64"


class BackingRun(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a region with one kind of backing; ``pages`` of 4 KiB."""

    backing: BackingKind
    pages: Positive


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """A region of guest memory that exists when exploration begins."""

    gfn: Gfn
    size: Size
    backing: BackingKind | tuple[BackingRun, ...] = "anon"
    flags: tuple[RegionFlag, ...] = ("writable", "executable")
    uaddr: Uaddr | None = None

    @property
    def pages(self) -> int:
        """Pages of 4 KiB."""
        return self.size >> 12

    @property
    def backing_runs(self) -> tuple[BackingRun, ...]:
        """The backing as runs, also where the file names one kind for all of the region."""
        if isinstance(self.backing, str):
            return (BackingRun(backing=self.backing, pages=self.pages),)
        return self.backing


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """Guest accesses that are computed instead of listed (``mshv_async.guest``).

    ``trace`` replays ``file`` (relative to the scenario's folder), its page 0 being guest page
    ``base``. The others make ``accesses`` accesses to ``pages`` pages from ``base`` on, of which
    ``writes_percent`` are writes. ``base`` is the first region's, ``pages`` reach to its end. The
    VPs of a group count up from ``seed``; by default each VP has a seed of its own. ``forever``:
    begin again at the end.
    """

    kind: WorkloadKind
    file: str | None = None
    base: Gfn | None = None
    pages: Positive | None = None
    accesses: Positive | None = None
    writes_percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    skew: Annotated[float, Meta(ge=0, le=4)] | None = None
    seed: Count | None = None
    forever: bool = False


class VpGroup(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` virtual processors that run the same program or workload.

    ``process``: their descriptors were duplicated into that process, whose threads run them.
    """

    count: Annotated[int, Meta(ge=1, le=VPS_MAX)] = 1
    program: tuple[str, ...] | None = None
    workload: Workload | None = None
    process: str | None = None


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A process beside the VMM, with ``memory`` bytes of anonymous memory that it has touched.

    Its main thread, of the same name, sleeps until a fatal signal comes.
    """

    name: str
    memory: Size = 0


class ThreadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A thread beside the VPs; ``name`` is its kind (with a number from the second on) if unset.

    ``process``: whose thread it is, for kinds ``vmm`` and ``host``; by default the VMM's.
    """

    kind: ThreadKind
    program: tuple[str, ...]
    name: str | None = None
    process: str | None = None


class Situation(msgspec.Struct, frozen=True, kw_only=True):
    """A whole scenario file.

    ``time`` overrides costs of timed mode (virtual ns by label or label prefix), ``expect`` maps
    a driver to the verdicts that it is expected to show.
    """

    summary: str
    bugs: tuple[str, ...] = ()
    panic_on_warn: bool = False
    host: Host = Host()
    hypervisor: Hypervisor = Hypervisor()
    partition: Partition = Partition()
    region: tuple[Region, ...] = ()
    vp: tuple[VpGroup, ...] = ()
    process: tuple[ProcessSpec, ...] = ()
    thread: tuple[ThreadSpec, ...] = ()
    inject: tuple[Injection, ...] = ()
    bounds: Bounds = Bounds()
    time: Mapping[str, Count] = msgspec.field(default_factory=dict)
    expect: Mapping[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
