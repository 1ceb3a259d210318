"""How the console words numbers, times and what strangers wrote."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pipelines.formats import MIB
from worker import visible_text

_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799  # of the years that have four digits
_MARKDOWN = re.compile(r"\[(?P<link>[^]]+)]\([^)]*\)|(?P<code>`[^`]*`)")
_KIB = 1024
visible, visible_lines = visible_text.visible, visible_text.visible_lines
_UNITS = ((60, "s"), (3600, "min"), (86_400, "h"))


@dataclass(frozen=True)
class Number:
    """A number of things that were counted; `is_least`: there may be more; None: nobody knows."""

    count: int | None
    is_least: bool = False

    @classmethod
    def of(cls, count: int | None, most: int) -> "Number":
        """What was counted up to `most`."""
        return cls(count, count is not None and count >= most)

    def __str__(self) -> str:
        """As people read it, such as `5,000+`; empty where nobody knows."""
        if self.count is None:
            return ""
        return f"{self.count:,}{'+' if self.is_least else ''}"


def count(number: int | None) -> str:
    """A number with separators, such as `48,210`; a dash for what is not known."""
    return "–" if number is None else f"{number:,}"  # noqa: RUF001 (a dash for people)


def size(number: float | None) -> str:
    """Bytes as people read them, such as `5.2 kB`."""
    if number is None:
        return "–"  # noqa: RUF001 (a dash for people)
    if number < 1000:
        return f"{number:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        number /= 1000
        if number < 999.95:
            return f"{number:,.1f} {unit}"
    return f"{number / 1000:,.1f} PB"


def limit(number: int) -> str:
    """Bytes as limits are set, such as `10 MiB`; what is none of those, exactly."""
    for unit, name in ((MIB, "MiB"), (_KIB, "KiB")):
        if number and number % unit == 0:
            return f"{number // unit:,} {name}"
    return f"{number:,} bytes"


def memory(number: float) -> str:
    """Bytes of memory in the unit of its limits, such as `118 MiB`."""
    return f"{number / MIB:,.0f} MiB"


def duration(seconds: float | None) -> str:
    """So many seconds in one unit, such as `3 min`, a float also in tenths; a dash for what is not known."""
    if seconds is None:
        return "–"  # noqa: RUF001 (a dash for people)
    if isinstance(seconds, float) and 0 < seconds < 10:
        return f"{seconds:.1f} s"
    before = 1
    for unit, name in _UNITS:
        if seconds < unit:
            return f"{int(seconds // before)} {name}"
        before = unit
    days = int(seconds // before)
    return "1 day" if days == 1 else f"{days:,} days"


def latency(seconds: float | None) -> str:
    """How long something quick took, such as `40 ms`; a dash for what is not known."""
    if seconds is not None and seconds < 0.995:
        return f"{seconds * 1000:,.0f} ms"
    return duration(seconds)


def rate(per_second: float | None) -> str:
    """How many a second, or a minute where it is less than one a second; a dash for what is not known."""
    if per_second is None:
        return "–"  # noqa: RUF001 (a dash for people)
    if per_second >= 0.995:
        return f"{per_second:,.1f}/s" if per_second < 99.95 else f"{per_second:,.0f}/s"
    return f"{max(1, round(per_second * 60))}/min" if per_second else "0/min"


def ago(moment_ms: int, now_ms: int | None = None) -> str:
    """How long ago a moment is, such as `3 min ago`; or in how long it will be."""
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    seconds = (now_ms - moment_ms) / 1000
    if abs(seconds) < 1:
        return "now"
    whole = int(abs(seconds))
    said = f"{whole} s" if whole < 10 else duration(whole)
    return f"{said} ago" if seconds > 0 else f"in {said}"


def moment(moment_ms: int) -> str:
    """A moment as ISO 8601 in UTC, to the second."""
    seconds = min(max(moment_ms // 1000, _FIRST_S), _LAST_S)
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def moment_ms(text: str) -> int:
    """The moment of such a text, in ms since 1970."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def earlier_ms(seconds: float) -> int:
    """The moment so many seconds ago, in ms since 1970."""
    return int((time.time() - seconds) * 1000)


def words_of(description: str) -> Sequence[tuple[str, bool]]:
    """The parts of a description in Markdown, without its links, each with whether it is code."""
    parts, place = [], 0
    for found in _MARKDOWN.finditer(description):
        parts.append((description[place : found.start()], False))
        parts.append((found["link"], False) if found["link"] else (found["code"].strip("`"), True))
        place = found.end()
    parts.append((description[place:], False))
    return [(text, is_code) for text, is_code in parts if text]
