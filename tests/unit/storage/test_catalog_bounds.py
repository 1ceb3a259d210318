"""The catalog's file stays as small as what is in it, whatever apps send and whoever reads."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import Catalog
from storage.catalog.database import log_bytes
from storage.catalog.facts import DeadLetter
from storage.ledger import read_account
from tests.support.catalogs import new_ticket, take, wish
from tests.support.damage import settle

KIB = 1024
MIB = 1024 * KIB
RETRIED = ("unknown_recipe", "internal_error")  # of events that can be read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


async def refuse(catalog: Catalog, start: int, count: int, size: int) -> None:
    """Keep so many refused events of that size."""
    letters = [
        DeadLetter(f"{start + number}-0", "invalid_event", "no event", bytes(size)) for number in range(count)
    ]
    await catalog.intake.take([], letters, per_ticket=1, new_ticket=new_ticket)


async def test_large_refused_events_are_kept_short_once_they_take_half_of_the_room(
    catalog: Catalog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.letters.MOST_BYTES", MIB)
    for start in range(0, 200, 10):
        await refuse(catalog, start, 10, 128 * KIB)

    account = await read_account(path)
    assert account is not None
    assert account.amount("letter").count == 200
    assert account.amount("letter").bytes < 3 * MIB
    assert await catalog.reports.prove() == []


async def test_what_can_be_sent_once_more_is_kept_whole_however_little_room_is_left(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bytes(60 * KIB)
    await take(catalog, wish(1))
    await refuse(catalog, 10, 10, KIB)
    monkeypatch.setattr("storage.catalog.letters.MOST_BYTES", KIB)
    for_later = [DeadLetter(f"20-{n}", code, "", body) for n, code in enumerate(RETRIED)]
    of_anothers_id = wish(30, source="uploads/other.jpg"), DeadLetter("30-0", "invalid_event", "", body)
    await catalog.intake.take([of_anothers_id], for_later, per_ticket=1, new_ticket=new_ticket)

    kept = {letter.stream_id: len(letter.body) for letter in await catalog.letters.newest(3)}
    assert kept == {"20-0": len(body), "20-1": len(body), "30-0": len(body)}


async def test_the_oldest_refused_events_go_first_by_number(catalog: Catalog) -> None:
    await refuse(catalog, 0, 100, 10)

    assert await catalog.letters.prune_surplus(most=100) == 0
    assert await catalog.letters.prune_surplus(most=50) == 55
    left = [letter.stream_id for letter in await catalog.letters.newest(100)]
    assert left == [f"{number}-0" for number in range(99, 54, -1)]
    assert await catalog.reports.prove() == []


async def test_the_oldest_refused_events_go_first_by_bytes(catalog: Catalog) -> None:
    await refuse(catalog, 0, 100, KIB)

    assert await catalog.letters.prune_surplus(most_bytes=100 * KIB) == 0
    assert await catalog.letters.prune_surplus(most_bytes=50 * KIB) == 55
    assert await catalog.letters.count() == 45


async def test_space_that_is_not_used_any_more_goes_back_to_the_disk(catalog: Catalog, path: Path) -> None:
    await refuse(catalog, 0, 200, 128 * KIB)
    settle(path)
    before = path.stat().st_size
    await catalog.letters.prune_surplus(most=10)
    for _ in range(10):
        await catalog.database.give_back()
    settle(path)

    assert before > 25 * MIB
    assert path.stat().st_size < 8 * MIB


async def test_a_step_gives_back_a_bounded_number_of_pages(
    catalog: Catalog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.database._PAGES_AT_ONCE", 100)
    await refuse(catalog, 0, 100, 128 * KIB)
    await catalog.letters.prune_surplus(most=10)
    before = _pragma(path, "page_count")

    await catalog.database.give_back()

    assert before - 105 <= _pragma(path, "page_count") <= before - 100


async def test_a_catalog_that_cannot_give_back_lets_no_writer_wait_for_it(
    catalog: Catalog, path: Path
) -> None:
    await refuse(catalog, 0, 100, 128 * KIB)
    await catalog.letters.prune_surplus(most=10)
    settle(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript("PRAGMA auto_vacuum=NONE; VACUUM")
    await refuse(catalog, 100, 100, 128 * KIB)
    await catalog.letters.prune_surplus(most=10)
    assert _pragma(path, "freelist_count") > 1024

    async with catalog.database.writing(), asyncio.timeout(2):
        await catalog.database.give_back()


async def test_the_log_is_told_while_a_reader_makes_it_grow_and_shrinks_once_it_is_gone(
    catalog: Catalog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.database.LARGE_LOG", 20 * MIB)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM uploads").fetchone()
        await refuse(catalog, 0, 200, 128 * KIB)
        grown = log_bytes(path)
        told = [catalog.database.large_log(), catalog.database.large_log()]
        reader.execute("ROLLBACK")
    for ms in range(3):
        await take(catalog, wish(ms + 1))

    assert grown > 25 * MIB
    assert "read transaction open" in (told[0] or "")
    assert told[1] is None
    assert log_bytes(path) <= 16 * MIB
    assert catalog.database.large_log() is None


def _pragma(path: Path, name: str) -> Any:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"PRAGMA {name}").fetchone()[0]
