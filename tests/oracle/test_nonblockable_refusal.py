"""A refused non-blockable attempt takes no page and leaves the bracket to the notifier core."""

from __future__ import annotations

from oracle_playing import REGION, finding_of, silent, thread, vps
from sound_drivers import Sound

from mshv_async.host import oom

REAP = REGION + vps("write 0x200", "read 0x201", count=2) + thread("oom-reaper", "reap")
REAP_BESIDE = REAP + thread("host", "madvise dontneed 0x200 2")


def test_a_reaper_that_does_not_look_at_the_answer_is_found(monkeypatch):
    start, end = oom.invalidate_range_start, oom.invalidate_range_end
    refused = []

    async def started(range):
        if await start(range):
            refused.append(range)
        return 0

    async def ended(range):
        if not any(r is range for r in refused):
            await end(range)

    monkeypatch.setattr(oom, "invalidate_range_start", started)
    monkeypatch.setattr(oom, "invalidate_range_end", ended)
    finding = finding_of(REAP, Sound, "invariant:nonblockable-refusal")
    assert finding.title == "invariant:nonblockable-refusal: zap_range"
    assert len(finding.story) == 3


def test_a_reaper_that_ends_a_refused_bracket_is_found(monkeypatch):
    start = oom.invalidate_range_start

    async def started(range):
        ret = await start(range)
        if ret:
            await oom.invalidate_range_end(range)
        return ret

    monkeypatch.setattr(oom, "invalidate_range_start", started)
    finding = finding_of(REAP, Sound, "invariant:nonblockable-refusal")
    assert "which the core had ended already" in finding.story[1]


def test_a_reaper_that_skips_what_was_refused_and_comes_back_is_silent():
    silent(REAP, Sound)
    silent(REAP_BESIDE, Sound)
