"""A catalog moves to another database: everything is there, and nobody writes the old one any more."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select, tuple_

from storage.catalog.database import Database, identity, open_database
from storage.catalog.http_keys import HttpKey
from storage.catalog.moving import CatalogMove, MoveRefused, RowsCopied, cancel, count_rows
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.outbox import Outbox
from storage.catalog.reports import Reports
from storage.catalog.tables import totals_delta
from storage.errors import CatalogMoved, CatalogUnavailable
from tests.conftest import url_of
from tests.support.catalogs import claim, commit, failed, letter, ready, take, upload, upload_event
from tests.support.polling import until
from tests.support.races import waits_for_a_lock

IDS = [UUID(int=number) for number in range(1, 6)]
LATE = UUID(int=30)
pytestmark = pytest.mark.rotating(1)  # one direction a day
KEY = HttpKey("shop", "a" * 64, frozenset({"read", "upload"}), "mia", "uploads/shop/", 1)


@pytest.fixture(params=["sqlite-postgres", "postgres-sqlite"])
def urls(request: pytest.FixtureRequest, tmp_path: Path, migrated: Path) -> tuple[str, str]:
    """Where a new catalog is, and where it moves."""
    if request.param == "postgres-sqlite":
        return str(request.getfixturevalue("postgres_catalog_url")), url_of(tmp_path / "new.db")
    return url_of(Path(shutil.copy(migrated, tmp_path / "old.db"))), request.getfixturevalue("postgres_url")


@pytest.fixture
async def source(urls: tuple[str, str]) -> AsyncIterator[Catalog]:
    """A catalog that has seen something of everything."""
    async with open_catalog(urls[0]) as catalog:
        for number, one in enumerate(IDS, 1):
            await take(catalog, upload_event(number, one, f"uploads/{number}.jpg", owner="\N{SNOWMAN}"))
        await commit(catalog, ready(await claim(catalog, IDS[0])))
        await take(catalog, upload_event(10, IDS[0], "uploads/1.jpg"))
        await commit(catalog, ready(await claim(catalog, IDS[0]), sha256="b" * 64))  # others are superseded
        await commit(catalog, failed(await claim(catalog, IDS[1])))
        await claim(catalog, IDS[2])
        await catalog.intake.take([], [letter("11-0", "with a \N{SNOWMAN}")])
        await catalog.checkpoint("a").save({"after": "x"})
        await catalog.reports.snapshot(1, None)
        await catalog.http_keys.add(KEY)
        await take(catalog, replace(upload_event(12, IDS[4], "uploads/5.jpg"), owner="mia"))
        await catalog.database.mark_bound()
        yield catalog


@pytest.fixture
async def target(urls: tuple[str, str]) -> AsyncIterator[Database]:
    async with open_database(urls[1], create=True, migrate=False) as database:
        yield database


async def is_used(catalog: Catalog) -> bool:
    """Whether events are taken into it."""
    await take(catalog, upload_event(30, LATE, "uploads/30.jpg"))
    return await catalog.reports.find(LATE) is not None


async def write(database: Database, statement: str) -> None:
    async with database.writing() as connection:
        await connection.exec_driver_sql(statement)


def move_of(source: Catalog | Database, target: Database) -> CatalogMove:
    database = source.database if isinstance(source, Catalog) else source
    return CatalogMove(database, target, source_name="old", target_name="new")


async def run(move: CatalogMove) -> list[RowsCopied]:
    return [step async for step in move.run()]


async def test_all_rows_the_totals_and_the_identity_arrive(source: Catalog, target: Database) -> None:
    before, rows = await source.reports.totals(), await count_rows(source.database)
    given = await source.outbox.given_seq()

    await run(move_of(source, target))

    assert await count_rows(target) == rows
    assert min(rows[name] for name in ("uploads", "variants", "outbox", "dead_letters", "snapshots")) > 0
    reports = Reports(target)
    assert set((await reports.totals()).totals) == set(before.totals)
    assert (await reports.totals()).snapshots == before.snapshots
    assert await reports.check_totals() == []
    assert await identity(target) == (source.id, False)
    assert await Outbox(target).given_seq() == given


async def test_the_new_catalog_goes_on_where_the_old_one_was(
    source: Catalog, target: Database, urls: tuple[str, str]
) -> None:
    await run(move_of(source, target))

    async with open_catalog(urls[1]) as moved:
        assert await moved.checkpoint("a").load() == {"after": "x"}
        assert await moved.http_keys.all() == [KEY]
        assert [(await upload(moved, each)).owner for each in IDS[3:]] == ["", "mia"]
        seqs = [one.seq for one in await moved.outbox.since(0)]
        assert await is_used(moved)
        await moved.intake.take([], [letter("12-0")])
        await commit(moved, ready(await claim(moved, IDS[3])))
        assert IDS[3] in {one.id for one in await moved.outbox.since(seqs[-1])}
        assert await moved.reports.check_totals() == []


async def test_whoever_still_has_the_old_catalog_open_cannot_write_it(
    source: Catalog, target: Database
) -> None:
    frozen = await claim(source, IDS[3])
    await run(move_of(source, target))

    with pytest.raises(CatalogUnavailable, match="the catalog old moves to new"):
        await commit(source, ready(frozen))
    with pytest.raises(CatalogUnavailable, match="the catalog old moves to new"):
        await is_used(source)
    with pytest.raises(CatalogUnavailable, match="the catalog old moves to new"):
        await source.database.check_writable()
    with pytest.raises(CatalogUnavailable, match="the catalog old moves to new"):
        await source.http_keys.revoke("shop")


async def test_the_old_catalog_is_refused_with_the_new_place(
    source: Catalog, target: Database, urls: tuple[str, str]
) -> None:
    await run(move_of(source, target))

    with pytest.raises(CatalogMoved, match="was moved to new: set MEDIA_CATALOG_URL"):
        async with open_catalog(urls[0]):
            pass
    with pytest.raises(CatalogMoved, match="was moved to new: set MEDIA_CATALOG_URL"):
        await run(move_of(source, target))


@pytest.mark.parametrize("steps", [1, 2])
async def test_a_move_that_ends_early_leaves_the_old_catalog_in_use_and_begins_again(
    source: Catalog, target: Database, urls: tuple[str, str], steps: int
) -> None:
    running = move_of(source, target).run()
    for _ in range(steps):
        await anext(running)
    for url, message in zip(urls, ("moves to new: wait", "is filled from old"), strict=True):
        with pytest.raises(CatalogMoved, match=message):
            async with open_catalog(url):
                pass
    await running.aclose()

    assert await is_used(source)
    await run(move_of(source, target))
    assert await Reports(target).find(LATE) is not None


async def test_a_move_that_was_killed_begins_again_or_is_taken_back(
    source: Catalog, target: Database, urls: tuple[str, str]
) -> None:
    killed = move_of(source, target).run()
    await anext(killed)  # and never more: another process has to do with what is left

    async with AsyncExitStack() as stack:
        old, new = [
            await stack.enter_async_context(
                open_database(url, create=False, migrate=False, even_if_moved=True)
            )
            for url in urls
        ]
        await cancel(old)
        assert await is_used(source)
        await run(move_of(old, new))
        assert await count_rows(new) == await count_rows(old)
    await killed.aclose()
    with pytest.raises(CatalogUnavailable):
        await source.database.check_writable()


async def test_only_the_last_mark_is_missing_after_a_kill_at_the_very_end(
    source: Catalog, target: Database
) -> None:
    await run(move_of(source, target))
    mark = "replace(value, '\"done\":true', '\"done\":false')"
    await write(source.database, f"UPDATE kv SET value = {mark} WHERE name = 'moved'")

    with pytest.raises(MoveRefused, match="run the move again"):
        await cancel(source.database)
    assert await run(move_of(source, target)) == []  # nothing is copied over what workers may have written
    with pytest.raises(MoveRefused, match="moving back"):
        await cancel(source.database)


@pytest.mark.parametrize("urls", ["sqlite-postgres"], indirect=True)
async def test_the_old_catalog_stays_sealed_once_the_new_one_may_be_in_use(
    source: Catalog, target: Database, urls: tuple[str, str]
) -> None:
    await write(
        source.database,
        "CREATE TRIGGER full BEFORE UPDATE ON kv WHEN NEW.value LIKE '%\"done\":true%' "
        "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END",
    )
    with pytest.raises(CatalogUnavailable, match="the disk is full"):
        await run(move_of(source, target))

    with pytest.raises(CatalogUnavailable, match="nothing is written here"):
        await is_used(source)
    with pytest.raises(CatalogMoved, match="killed, run it again\\."):
        async with open_catalog(urls[0]):
            pass
    async with open_catalog(urls[1]) as moved:
        assert await is_used(moved)
    await write(source.database, "DROP TRIGGER full")
    with pytest.raises(MoveRefused, match="new may be the catalog already"):
        await run(CatalogMove(source.database, target, source_name="old", target_name="another"))
    assert await run(move_of(source, target)) == []
    assert await Reports(target).find(LATE) is not None


async def test_a_move_that_was_cancelled_meanwhile_does_not_end(
    source: Catalog, target: Database, urls: tuple[str, str]
) -> None:
    running = move_of(source, target).run()
    await anext(running)
    await cancel(source.database)
    assert await is_used(source)

    with pytest.raises(MoveRefused, match="was cancelled"):
        [step async for step in running]

    assert await is_used(source)
    with pytest.raises(CatalogMoved, match="is filled from old"):
        async with open_catalog(urls[1]):
            pass
    await run(move_of(source, target))
    assert await Reports(target).find(LATE) is not None


async def test_of_two_moves_at_once_one_ends(source: Catalog, target: Database, tmp_path: Path) -> None:
    first = move_of(source, target).run()
    await anext(first)
    async with open_database(url_of(tmp_path / "third.db"), create=True, migrate=False) as third:
        await run(move_of(source, third))

        with pytest.raises(MoveRefused, match="another one has begun"):
            [step async for step in first]
        assert await count_rows(third) == await count_rows(source.database)
    with pytest.raises(CatalogUnavailable, match="nothing is written here"):
        await is_used(source)


async def test_of_two_moves_into_one_database_the_later_ends(source: Catalog, target: Database) -> None:
    first, second = move_of(source, target).run(), move_of(source, target)
    await anext(first)
    later = second.run()
    await anext(later)

    with pytest.raises(MoveRefused, match="Another move"):
        await anext(first)
    assert [step async for step in later]
    assert await count_rows(target) == await count_rows(source.database)


@pytest.mark.parametrize("urls", ["sqlite-postgres"], indirect=True)
async def test_a_copy_that_was_filled_from_another_copy_is_not_taken_for_this_one(
    source: Catalog, target: Database, tmp_path: Path
) -> None:
    rehearsal = tmp_path / "rehearsal.db"
    with closing(sqlite3.connect(tmp_path / "old.db")) as old:
        old.execute("VACUUM INTO ?", [str(rehearsal)])
    async with open_database(url_of(rehearsal), create=False, migrate=False) as copy:
        await run(move_of(copy, target))
    assert await is_used(source)

    for _ in range(2):
        with pytest.raises(MoveRefused, match="may have been used since: choose an empty database"):
            await run(move_of(source, target))
    assert await is_used(source)


async def test_a_catalog_moves_back_into_the_one_that_it_came_from(source: Catalog, target: Database) -> None:
    await run(move_of(source, target))
    await Outbox(target).begin_above(1000)

    await run(CatalogMove(target, source.database, source_name="new", target_name="old"))

    assert await source.outbox.given_seq() == 1000
    assert await source.reports.check_totals() == []
    assert await is_used(source)
    with pytest.raises(MoveRefused):
        await cancel(target)


async def test_a_catalog_never_moves_over_another_one(source: Catalog, urls: tuple[str, str]) -> None:
    async with open_catalog(urls[1]) as other:
        await take(other, upload_event(1))

        with pytest.raises(MoveRefused, match="choose an empty database"):
            await run(move_of(source, other.database))
        assert await other.reports.find(upload_event(1).id) is not None
    assert await is_used(source)


async def test_a_catalog_does_not_move_onto_itself(source: Catalog) -> None:
    with pytest.raises(MoveRefused, match="the very catalog"):
        await run(move_of(source, source.database))

    assert await is_used(source)


async def test_a_copy_that_adds_up_to_something_else_is_not_used(source: Catalog, target: Database) -> None:
    async def run_beside_another() -> None:
        async for step in move_of(source, target).run():
            if step.table == "variants":
                await write(target, "UPDATE variants SET bytes = bytes + 1")

    with pytest.raises(MoveRefused, match="nothing has moved"):
        await run_beside_another()

    assert await is_used(source)


@pytest.mark.parametrize("urls", ["sqlite-postgres"], indirect=True)
async def test_what_a_move_adds_to_the_totals_is_folded_long_before_its_end(
    source: Catalog, target: Database
) -> None:
    move = CatalogMove(source.database, target, source_name="old", target_name="new", folded_after=1)
    places = tuple_(*totals_delta.c["what", "name", "detail", "day"])
    counts = select(func.count(), func.count(places.distinct())).select_from(totals_delta)

    seen = set()
    async for step in move.run():
        async with target.reading() as connection:
            added, several = (await connection.execute(counts)).one()
        seen.add(step.table)
        assert added == several > 0

    assert {"uploads", "variants"} <= seen


@pytest.mark.parametrize("urls", ["sqlite-postgres"], indirect=True)
async def test_a_nul_that_postgres_does_not_take_becomes_a_replacement_character(
    source: Catalog, target: Database
) -> None:
    await write(source.database, "UPDATE uploads SET error_message = 'a' || char(0) || 'b'")

    await run(move_of(source, target))

    found = await Reports(target).find(IDS[1])
    assert found is not None
    assert found.error_message == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("urls", ["postgres-sqlite"], indirect=True)
async def test_a_writer_that_is_in_the_way_of_the_seal_does_not_end_the_move(
    source: Catalog, target: Database
) -> None:
    rows = await count_rows(source.database)
    async with source.database.writing() as connection:
        await connection.exec_driver_sql("SET LOCAL deadlock_timeout = '1min'")  # it is not the one undone
        await connection.exec_driver_sql("LOCK TABLE kv IN ROW EXCLUSIVE MODE")
        moving = asyncio.ensure_future(run(move_of(source, target)))
        await until(partial(waits_for_a_lock, source))
        await connection.exec_driver_sql("LOCK TABLE uploads IN ROW EXCLUSIVE MODE")

    await moving
    assert await count_rows(target) == rows
