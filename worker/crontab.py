"""Crontab lines, as operators write them."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from arq.cron import next_cron

_FIELDS = {"minute": (0, 59), "hour": (0, 23), "day": (1, 31), "month": (1, 12), "weekday": (0, 7)}
_PART = re.compile(r"(?:\*|(\d{1,2})(?:-(\d{1,2}))?)(?:/(\d{1,2}))?")
_LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}  # days of a month, where they are not 31


def check_crontab(line: str) -> None:
    """Raises: ValueError, with a reason that the operator understands."""
    _parse(line)


def next_after(line: str, moment: datetime) -> datetime:
    """The first time after `moment` that a crontab line names."""
    when: dict[str, Any] = dict(_parse(line))
    return next_cron(moment, second=0, microsecond=0, **when)


def _parse(line: str) -> Mapping[str, set[int]]:
    """The sets of those fields that are not `*`, as arq takes them. Raises: ValueError."""
    words = line.split()
    if len(words) != len(_FIELDS):
        raise ValueError("must be five fields: minute, hour, day, month and weekday, as in 0 3 * * *")
    fields = zip(_FIELDS, words, strict=True)
    found = {name: _numbers(word, *_FIELDS[name]) for name, word in fields if word != "*"}
    if "day" in found and "weekday" in found:
        raise ValueError("names days of the month or of the week, not both")
    if "weekday" in found:
        found["weekday"] = {(day - 1) % 7 for day in found["weekday"]}  # a crontab's week begins on Sunday
    months = found.get("month", set(range(1, 13)))
    if min(found.get("day", {1})) > max(_LONGEST.get(month, 31) for month in months):
        raise ValueError("names a day that never comes")
    return found


def _numbers(word: str, lowest: int, highest: int) -> set[int]:
    numbers: set[int] = set()
    for part in word.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"has {part!r} where a number, a range or * is expected")
        first, last, step = match.groups()
        begin = int(first) if first else lowest
        end = int(last) if last else begin if first and not step else highest
        if not lowest <= begin <= end <= highest or step == "0":
            raise ValueError(f"has {part!r} where numbers from {lowest} to {highest} are expected")
        numbers |= set(range(begin, end + 1, int(step or 1)))
    return numbers
