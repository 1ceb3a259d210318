"""Which copies are kept: so many hourly, and so many daily ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from storage.catalog.clock import SKEW_MS

_SKEW = timedelta(milliseconds=SKEW_MS)
_PART = re.compile(r"([1-9][0-9]{0,4})([hd])")


@dataclass(frozen=True)
class Keep:
    """How many hours and days that have copies keep the newest one of each."""

    hours: int
    days: int

    @classmethod
    def parse(cls, text: str) -> "Keep":
        """What `24h,14d` says. Raises: ValueError, with a reason for people."""
        counts: dict[str, int] = {}
        for word in text.split(","):
            found = _PART.fullmatch(word.strip())
            if found is None or found[2] in counts:
                raise ValueError("must be a number of hourly and of daily copies, as in 24h,14d")
            counts[found[2]] = int(found[1])
        return cls(counts.get("h", 0), counts.get("d", 0))

    def surplus(self, times: Sequence[datetime], now: datetime) -> Sequence[datetime]:
        """Those of `times` whose copies may go; never the newest one.

        What a clock has made that was ahead of `now` neither goes nor takes the place of another.
        """
        newest_first = sorted((time for time in times if time <= now + _SKEW), reverse=True)
        kept = set(newest_first[:1])
        kept |= _newest_of_each(newest_first, "%Y%m%d%H", self.hours)
        kept |= _newest_of_each(newest_first, "%Y%m%d", self.days)
        return [time for time in newest_first if time not in kept]


def _newest_of_each(newest_first: Sequence[datetime], form: str, count: int) -> set[datetime]:
    found: dict[str, datetime] = {}
    for time in newest_first:
        found.setdefault(time.strftime(form), time)
    return set(list(found.values())[:count])
