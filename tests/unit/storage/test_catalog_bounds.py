"""The catalog's file stays as small as what is in it, whatever apps send and whoever reads."""

import asyncio
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import DeadLetter, State
from storage.catalog.sqlite_file import REWRITE, find_damage, log_bytes
from storage.errors import CatalogUnavailable
from tests.conftest import url_of
from tests.support.catalogs import take, upload, upload_event, work
from tests.support.damage import settle
from tests.unit.storage.test_local_blobs import another_process

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
    await catalog.intake.take([], letters)


async def test_large_refused_events_are_kept_short_once_they_take_half_of_the_room(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.dead_letters.MOST_BYTES", MIB)
    for start in range(0, 200, 10):
        await refuse(catalog, start, 10, 128 * KIB)

    totals = await catalog.reports.totals()
    assert totals.count("dead_letter").count == 200
    assert totals.count("dead_letter").bytes < 3 * MIB
    assert await catalog.reports.check_totals() == []


async def test_what_can_be_sent_once_more_is_kept_whole_however_little_room_is_left(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bytes(60 * KIB)
    await take(catalog, upload_event(1))
    await refuse(catalog, 10, 10, KIB)
    monkeypatch.setattr("storage.catalog.dead_letters.MOST_BYTES", KIB)
    for_later = [DeadLetter(f"20-{n}", code, "", body) for n, code in enumerate(RETRIED)]
    of_anothers_id = (
        upload_event(30, source="uploads/other.jpg"),
        DeadLetter("30-0", "invalid_event", "", body),
    )
    await catalog.intake.take([of_anothers_id], for_later)

    kept = {letter.stream_id: len(letter.body) for letter in await catalog.dead_letters.newest(3)}
    assert kept == {"20-0": len(body), "20-1": len(body), "30-0": len(body)}


async def test_the_oldest_refused_events_go_first_by_number(catalog: Catalog) -> None:
    await refuse(catalog, 0, 100, 10)

    assert await catalog.dead_letters.prune_surplus(most=100) == 0
    assert await catalog.dead_letters.prune_surplus(most=50) == 55
    left = [letter.stream_id for letter in await catalog.dead_letters.newest(100)]
    assert left == [f"{number}-0" for number in range(99, 54, -1)]
    assert await catalog.reports.check_totals() == []


async def test_the_oldest_refused_events_go_first_by_bytes(catalog: Catalog) -> None:
    await refuse(catalog, 0, 100, KIB)

    assert await catalog.dead_letters.prune_surplus(most_bytes=100 * KIB) == 0
    assert await catalog.dead_letters.prune_surplus(most_bytes=50 * KIB) == 55
    assert await catalog.dead_letters.count() == 45


async def test_space_that_is_not_used_any_more_goes_back_to_the_disk(catalog: Catalog, path: Path) -> None:
    await refuse(catalog, 0, 200, 128 * KIB)
    settle(path)
    before = path.stat().st_size
    await catalog.dead_letters.prune_surplus(most=10)
    for _ in range(10):
        await catalog.database.compact()
    settle(path)

    assert before > 25 * MIB
    assert path.stat().st_size < 8 * MIB


async def test_a_step_gives_back_a_bounded_number_of_pages(
    catalog: Catalog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.sqlite_file.CUT_OFF", "PRAGMA incremental_vacuum(100)")
    await refuse(catalog, 0, 100, 128 * KIB)
    await catalog.dead_letters.prune_surplus(most=10)
    before = _pragma(path, "page_count")

    await catalog.database.compact()

    assert before - 105 <= _pragma(path, "page_count") <= before - 100


async def test_a_catalog_that_cannot_give_back_lets_no_writer_wait_for_it(
    catalog: Catalog, path: Path
) -> None:
    await refuse(catalog, 0, 100, 128 * KIB)
    await catalog.dead_letters.prune_surplus(most=10)
    settle(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript("PRAGMA auto_vacuum=NONE; VACUUM")
    await refuse(catalog, 100, 100, 128 * KIB)
    await catalog.dead_letters.prune_surplus(most=10)
    assert _pragma(path, "freelist_count") > 1024

    async with catalog.database.writing(), asyncio.timeout(2):
        await catalog.database.compact()


@pytest.fixture
async def old(migrated: Path, path: Path) -> AsyncIterator[Catalog]:
    """A catalog of before space could be given back, of which most is free by now."""
    shutil.copy(migrated, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript("PRAGMA auto_vacuum=NONE; VACUUM")
    async with open_catalog(url_of(path)) as catalog:
        await refuse(catalog, 0, 100, 128 * KIB)
        await catalog.dead_letters.prune_surplus(most=10)
        await take(catalog, upload_event(1))
        yield catalog


@pytest.fixture
def little_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.catalog.sqlite_file.MUCH_FREE", 4 * MIB)


@pytest.mark.usefixtures("little_is_much")
async def test_an_old_catalog_is_rewritten_once_nothing_waits_and_gives_space_back_from_then_on(
    old: Catalog, path: Path
) -> None:
    while_one_waits = await old.database.compact()
    await work(old)
    given = await old.database.compact()
    settle(path)

    assert while_one_waits == 0
    assert given > 8 * MIB
    assert path.stat().st_size < 4 * MIB
    assert (_pragma(path, "auto_vacuum"), _pragma(path, "quick_check")) == (2, "ok")
    assert (await old.database.problem(), await old.database.compact()) == (None, 0)


@pytest.mark.usefixtures("little_is_much")
@pytest.mark.parametrize("why", ["much is in it", "the disk is full", "little is free"])
async def test_an_old_catalog_is_left_as_it_is_where(
    old: Catalog, path: Path, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await work(old)
    if why == "much is in it":
        monkeypatch.setattr("storage.catalog.sqlite_file.SMALL", MIB)
    elif why == "little is free":
        monkeypatch.setattr("storage.catalog.sqlite_file.MUCH_FREE", 64 * MIB)
    else:
        monkeypatch.setattr("shutil.disk_usage", lambda _path: shutil._ntuple_diskusage(MIB, MIB, 0))

    assert await old.database.compact() == 0
    assert _pragma(path, "auto_vacuum") == 0


@pytest.mark.usefixtures("little_is_much")
async def test_a_rewrite_waits_for_who_writes_and_is_tried_again_much_later(old: Catalog, path: Path) -> None:
    await work(old)
    async with open_catalog(url_of(path), busy_timeout_s=0.1) as impatient:
        async with old.database.writing():
            with pytest.raises(CatalogUnavailable, match="locked"):
                await impatient.database.compact()

        assert await impatient.database.compact() == 0
    assert _pragma(path, "auto_vacuum") == 0


async def test_a_rewrite_keeps_the_numbers_of_rows(old: Catalog, path: Path) -> None:
    for ms in range(2, 12):
        await take(old, upload_event(ms, uuid4(), f"uploads/{ms}.jpg"))
    query = "SELECT number, id FROM uploads ORDER BY number"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("DELETE FROM uploads WHERE number IN (1, 5)")
        before = other.execute(query).fetchall()
        other.executescript(REWRITE)

        assert other.execute(query).fetchall() == before
        assert len(before) == 9


REWRITER = """
import asyncio, os, signal, sys, threading
from pathlib import Path
from storage.catalog import sqlite_file
from storage.catalog.opening import open_catalog

sqlite_file.MUCH_FREE = 1 << 22
path = Path(sys.argv[1])

def kill():
    while sqlite_file.log_bytes(path) < int(sys.argv[2]):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with open_catalog(f"sqlite+aiosqlite:///{path}") as catalog:
        threading.Thread(target=kill, daemon=True).start()
        await catalog.database.compact()
        await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("log", [0, 32 * KIB, MIB])
async def test_a_worker_that_is_killed_while_it_rewrites_a_catalog_has_harmed_nothing(
    old: Catalog, path: Path, log: int
) -> None:
    await work(old)
    settle(path)
    kept = await old.dead_letters.newest(100)
    with another_process(REWRITER, str(path), str(log)) as rewriter:
        assert rewriter.wait(60) == -signal.SIGKILL

    assert await find_damage(path, 60) == []
    assert await old.dead_letters.newest(100) == kept
    assert (await upload(old)).state is State.READY
    await take(old, upload_event(2))


async def test_the_log_is_reported_while_a_reader_makes_it_grow_and_shrinks_once_it_is_gone(
    catalog: Catalog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.sqlite.LARGE_LOG", 20 * MIB)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM uploads").fetchone()
        await refuse(catalog, 0, 200, 128 * KIB)
        grown = log_bytes(path)
        answer = [catalog.database.large_log(), catalog.database.large_log()]
        reader.execute("ROLLBACK")
    for ms in range(3):
        await take(catalog, upload_event(ms + 1))

    assert grown > 25 * MIB
    assert "read transaction open" in (answer[0] or "")
    assert answer[1] is None
    assert log_bytes(path) <= 16 * MIB
    assert catalog.database.large_log() is None


def _pragma(path: Path, name: str) -> Any:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"PRAGMA {name}").fetchone()[0]
