"""What befell the region around the fault: maps, faults, invalidations, unmaps, in order."""

from __future__ import annotations

import re
from collections import deque

import msgspec

from mshv_async.log.reading import LogEvent
from mshv_async.log.record import RegionPlace, RunHeader, RunVerdict
from mshv_async.sim.spans import span

ROWS_MAX = 40


class RegionEvent(msgspec.Struct, frozen=True):
    """One thing that befell guest pages `[gfn, gfn + pages)`."""

    step: int
    thread: str
    what: str
    gfn: int
    pages: int

    @property
    def text(self) -> str:
        """The event in words."""
        return f"{self.what} gfn {span(self.gfn, self.gfn + self.pages)}"


class RegionHistory(msgspec.Struct, frozen=True):
    """The last events of a region's pages; `left_out` earlier ones are only counted."""

    gfn: int
    pages: int
    events: list[RegionEvent]
    left_out: int


class HistoryKeeper:
    """Keeps the last events of each region of a log."""

    def __init__(self, header: RunHeader) -> None:
        self.places = list(header.regions)
        self.events: dict[RegionPlace | None, deque[RegionEvent]] = {}
        self.counts: dict[RegionPlace | None, int] = {}
        self.faulted: RegionPlace | None = None
        self.issued: dict[str, tuple[int, int]] = {}

    def take(self, event: LogEvent) -> None:
        """Keep the event if it concerns guest pages."""
        found = self._event(event)
        if found is None:
            return
        place = self._place(found.gfn)
        if event.event == "guest.intercept":
            self.faulted = place
        self.events.setdefault(place, deque(maxlen=ROWS_MAX)).append(found)
        self.counts[place] = self.counts.get(place, 0) + 1

    def result(self, verdict: RunVerdict | None) -> RegionHistory | None:
        """Return the history of the region that the finding names, else of the last fault."""
        place = self._named(verdict) or self.faulted or next(iter(self.events), None)
        kept = self.events.get(place)
        if not kept:
            return None
        low = min(e.gfn for e in kept)
        high = max(e.gfn + e.pages for e in kept)
        gfn, pages = (place.gfn, place.pages) if place else (low, high - low)
        return RegionHistory(gfn, pages, list(kept), self.counts[place] - len(kept))

    def _named(self, verdict: RunVerdict | None) -> RegionPlace | None:
        if verdict is None:
            return None
        text = " ".join((verdict.title, *verdict.story, *verdict.waits))
        found = re.search(r"region@(0x[0-9a-f]+)|gfns? (0x[0-9a-f]+)", text)
        return self._place(int(found[1] or found[2], 16)) if found else None

    def _place(self, gfn: int) -> RegionPlace | None:
        for place in self.places:
            if place.gfn <= gfn < place.gfn + place.pages:
                return place
        return None

    def _event(self, event: LogEvent) -> RegionEvent | None:
        gfn, reps = event.gfn, event.reps
        if event.event == "notifier.start":
            return self._invalidation(event)
        if not isinstance(gfn, int) or isinstance(gfn, bool):
            return self._answer(event)
        match event.event:
            case "ioctl.begin" if isinstance(event.bytes, int):
                pages = max(1, event.bytes >> 12)
                return self._of(event, f"ioctl {event.ioctl}", gfn, pages)
            case "guest.intercept" if event.type in {"GPA_INTERCEPT", "UNMAPPED_GPA"}:
                return self._of(event, f"guest {str(event.access).lower()} stopped,", gfn, 1)
            case "hypercall.issue" if event.code in {"MAP_GPA", "UNMAP_GPA"}:
                pages = reps if isinstance(reps, int) else 1
                self.issued[event.actor] = (gfn, max(1, pages))
                return self._of(event, f"{event.code} issued,", gfn, max(1, pages))
        return None

    def _answer(self, event: LogEvent) -> RegionEvent | None:
        if event.event != "hypercall.return" or event.code not in {"MAP_GPA", "UNMAP_GPA"}:
            return None
        gfn, pages = self.issued.pop(event.actor, (0, 0))
        if not pages:
            return None
        return self._of(event, f"{event.code} {event.status}, done {event.done},", gfn, pages)

    def _invalidation(self, event: LogEvent) -> RegionEvent | None:
        if not isinstance(event.start, int) or not isinstance(event.end, int):
            return None
        lo, hi = event.start >> 12, event.end >> 12
        for place in self.places:
            first, last = max(lo, place.vpn), min(hi, place.vpn + place.pages)
            if first < last:
                gfn = place.gfn + first - place.vpn
                return self._of(event, f"invalidate {event.event_type},", gfn, last - first)
        return None

    @staticmethod
    def _of(event: LogEvent, what: str, gfn: int, pages: int) -> RegionEvent:
        return RegionEvent(event.step, event.actor, what, gfn, pages)
