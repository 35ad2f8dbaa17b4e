"""Faults that no driver can have: the notifier core and the page tables themselves are wrong.

The driver is correct; a function of the host's model is replaced.
"""

from __future__ import annotations

import pytest
from oracle_playing import REGION, SWAP, finding_of, found, silent, thread, vps
from sound_drivers import Sound

from mshv_async.host import NotifierSubscriptions, fault, notifier
from mshv_async.hyperv.engine import Worker
from mshv_async.sim import probe

TWO_DISCARDS = (
    REGION
    + vps("write 0x200")
    + thread("host", "madvise dontneed 0x200 1")
    + thread("host", "madvise dontneed 0x201 1")
)
UNMAP = (
    REGION
    + vps("write 0x200")
    + thread("vmm", "unmap 0x200")
    + thread("host", "madvise dontneed 0x200 2")
)
SWAPPED = SWAP + REGION + vps("write 0x200", "read 0x200") + thread("reclaimer", "reclaim 0x200 2")


class EvenTooSoon:
    """Every end of a bracket turns the sequence even, whoever else has one open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        close = notifier._close

        async def close_all(subscriptions, range, refused=0):
            before = subscriptions.invalidate_seq
            await close(subscriptions, range, refused)
            if subscriptions.invalidate_seq.odd and subscriptions.invalidate_seq == before:
                subscriptions.invalidate_seq = before.next()
                probe("seq.change", subscriptions)
                subscriptions.wq.wake_all()

        monkeypatch.setattr(notifier, "_close", close_all)


class NeverOdd:
    """A colliding bracket leaves the sequence even, so nobody waits and the tree may change."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = notifier._open

        async def open_even(subscriptions, range):
            before = subscriptions.invalidate_seq
            seq, hit = await opened(subscriptions, range)
            subscriptions.invalidate_seq = before
            return seq, hit

        monkeypatch.setattr(notifier, "_open", open_even)


class StaysInTheTree:
    """A removal returns, but the tree still has the subscription."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            NotifierSubscriptions, "unlink", lambda self, mni: probe("mni.remove", mni)
        )
        monkeypatch.setattr(Sound, "region_free", _kept)


async def _kept(self: Sound, region: object) -> None:
    """Keep the memory, so that it is the callback which is noticed and not the freed object."""


class SwapLosesContents:
    """What comes back from swap is empty."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fault, "_fill_from_swap", lambda *_: None)


@pytest.mark.parametrize(
    ("plant", "scenario", "verdict"),
    [
        (EvenTooSoon, TWO_DISCARDS, "invariant:notifier-sequence"),
        (NeverOdd, TWO_DISCARDS, "invariant:notifier-sequence"),
        (StaysInTheTree, UNMAP, "invariant:notifier-tree"),
        (SwapLosesContents, SWAPPED, "invariant:guest-data"),
    ],
)
def test_the_fault_is_found(plant, scenario, verdict, monkeypatch):
    plant(monkeypatch)
    found(scenario, Sound, verdict)


@pytest.mark.parametrize("scenario", [TWO_DISCARDS, UNMAP, SWAPPED])
def test_the_oracle_is_silent_without_the_fault(scenario):
    silent(scenario, Sound)


def test_an_old_translation_that_is_never_flushed_is_found(monkeypatch):
    """The table is clean, and the guest still reaches what the host took back."""

    async def never(*_):
        pass

    monkeypatch.setattr(Worker, "_flush_late", never)
    discarded = REGION + vps(*["write 0x200"] * 4)
    discarded += thread("host", "repeat 3 madvise dontneed 0x200 1")
    late = '[hypervisor]\ntlb = "delayed"\n'
    finding = finding_of(late + discarded, Sound, "invariant:stale-mapping")
    assert finding.title == "invariant:stale-mapping: guest.access"
    assert len(finding.story) == 3
    silent(discarded, Sound)
