"""Growth: how much more is stored each day, and until when the disk takes it."""

from collections.abc import Sequence
from dataclasses import dataclass

from storage.totals import Snapshot

DAY_MS = 86_400_000
_SPAN_DAYS = 7  # long enough for a week's rhythm, short enough to be of now
_LEAST_DAYS = 0.5  # a few hours say nothing about a day


@dataclass(frozen=True)
class Growth:
    """Bytes that came each day lately, and days until nothing is free; None: not known, or never."""

    bytes_per_day: int | None
    days_until_full: float | None


def growth(snapshots: Sequence[Snapshot], stored: int, free: int | None, now_ms: int) -> Growth:
    """How `stored` bytes compare with the snapshots of the last days, and what `free` bytes allow."""
    lately = [one for one in snapshots if now_ms - one.time_ms <= _SPAN_DAYS * DAY_MS]
    days = (now_ms - lately[0].time_ms) / DAY_MS if lately else 0.0
    if days < _LEAST_DAYS:
        return Growth(None, None)
    rate = (stored - lately[0].bytes) / days
    left = round(free / rate, 1) if free is not None and rate > 0 else None
    return Growth(round(rate), left)
