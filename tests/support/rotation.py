"""Tests with many costly cases: the suite runs some a day and others the next, `pytest -m campaign` all.

A module of many costly tests of one kind is marked with `rotating(count, of="module")`: so many of its tests
have their turn a day. One with a mark of its own goes by that: a test with `rotating(1)` runs each day.

What is above the storage and runs on both databases does so on one a day, where there are both: the storage's
own tests and the contracts prove that they are alike.
"""

import os
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime

import pytest

from tests.support.clients import SERVICES

DAY = "MEDIA_TESTS_DAY"
_ON_BOTH_EACH_DAY = ("tests/contracts/", "tests/unit/storage/", "tests/chaos/")


def today() -> date:
    """The day that all processes of a run go by; `MEDIA_TESTS_DAY=2026-03-01` repeats one."""
    return date.fromisoformat(os.environ.setdefault(DAY, str(datetime.now(UTC).date())))


def of_day(cases: Sequence[str], count: int, day: date) -> set[str]:
    """So many of the cases that each has its turn within `len(cases) / count` days."""
    order = sorted(cases)
    random.Random(order[0]).shuffle(order)  # neighbours are much alike
    first = day.toordinal() * count
    return {order[(first + at) % len(order)] for at in range(count)}


def rotate(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases that it is not the day of, unless the command line names a test."""
    turns = _turns(items)
    if "campaign" in str(config.getoption("markexpr")):
        for item in items:
            if item.nodeid in turns:
                item.add_marker(pytest.mark.campaign)
    elif not config.getoption("keyword") and not any("::" in str(word) for word in config.args):
        left_out = [item for item in items if not turns.get(item.nodeid, True)]
        items[:] = [item for item in items if turns.get(item.nodeid, True)]
        config.hook.pytest_deselected(items=left_out)


def _database_of(item: pytest.Item) -> str | None:
    """The database of a test that need not run on both each day."""
    call = getattr(item, "callspec", None)
    if call is None or not SERVICES or item.nodeid.startswith(_ON_BOTH_EACH_DAY):
        return None
    if any(item.get_closest_marker(name) for name in ("rotating", "campaign", "sqlite")):
        return None
    kind = call.params.get("database_kind")
    return None if kind is None else str(kind)


def _count(count: int) -> int:
    """How many of them: where large servers are not asked for, half as many, for somebody waits."""
    return count if SERVICES else max(1, count // 2)


def _turns(items: Sequence[pytest.Item]) -> dict[str, bool]:
    """Of each case of a test that is marked with `rotating`, whether this is its day."""
    families: dict[str, list[str]] = defaultdict(list)
    counts: dict[str, int] = {}
    for item in items:
        if (database := _database_of(item)) is not None:
            family = item.nodeid.replace(database, "DATABASE")
            families[family].append(item.nodeid)
            counts[family] = 1
            continue
        marker = item.get_closest_marker("rotating")
        if marker is not None and item.get_closest_marker("campaign") is None:
            family = item.nodeid.partition("::" if marker.kwargs.get("of") == "module" else "[")[0]
            families[family].append(item.nodeid)
            counts[family] = _count(*marker.args)
    turns: dict[str, bool] = {}
    for family, cases in families.items():
        chosen = of_day(cases, counts[family], today())
        turns |= {case: case in chosen for case in cases}
    return turns
