"""The catalog's file: made once, migrated, shared by processes, quick to ask, and never half open."""

import asyncio
import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, insert, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from scripts.storage_stats import stored
from storage.catalog import schema
from storage.catalog.database import Database
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import State
from storage.catalog.schema import SCHEMAS
from storage.catalog.tables import kv, metadata
from storage.errors import (
    CatalogObsolete,
    CatalogTooNew,
    CatalogTooOld,
    CatalogUnavailable,
    CatalogUnfit,
    NoCatalog,
)
from tests.support.catalogs import (
    CAT,
    SOURCE,
    claim,
    commit,
    delete_event,
    ready,
    take,
    upload_event,
    work,
)
from tests.support.old_catalogs import NEXT, NOW, make_development, make_old, next_migrations, schema_in
from worker.settings import Settings

_SETTINGS, _FULL = ("synchronous", "wal_autocheckpoint", "busy_timeout"), 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


async def opened(url: str, **how: Any) -> str:
    async with open_catalog(url, **how) as catalog:
        return catalog.id


async def _threads_left(before: Sequence[threading.Thread]) -> Sequence[threading.Thread]:
    """Those that were begun since, and do not end; of those before, that of another test may have."""
    begun = [each for each in set(threading.enumerate()) - set(before) if "asyncio" not in each.name]
    for thread in begun:
        await asyncio.to_thread(thread.join, 5)
    return [each for each in begun if each.is_alive()]


# -- making and opening


async def test_a_catalog_keeps_its_id_and_is_new_until_it_has_a_root(catalog_url: str) -> None:
    found = []
    for _ in range(3):
        async with open_catalog(catalog_url) as catalog:
            found.append((catalog.id, catalog.is_new))
            if len(found) == 2:
                await catalog.database.mark_bound()

    assert [is_new for _, is_new in found] == [True, True, False]
    assert len({catalog_id for catalog_id, _ in found}) == 1


async def test_folders_of_a_new_catalog_are_made(tmp_path: Path) -> None:
    await opened(f"sqlite+aiosqlite:///{tmp_path}/var/lib/catalog.db")

    assert (tmp_path / "var/lib/catalog.db").exists()


async def test_a_path_is_taken_as_it_stands(tmp_path: Path) -> None:
    await opened(f"sqlite+aiosqlite:///{tmp_path}/per%20cent h#sh/catalog.db")

    assert (tmp_path / "per%20cent h#sh/catalog.db").exists()


async def test_what_was_committed_is_there_after_closing(catalog_url: str) -> None:
    async with open_catalog(catalog_url) as catalog:
        await take(catalog, upload_event(1))
    async with open_catalog(catalog_url, create=False) as catalog:
        assert await catalog.reports.find(CAT) is not None


async def test_who_writes_while_the_catalog_closes_still_commits_and_leaves_nothing_open(
    catalog_url: str, path: Path
) -> None:
    before = threading.enumerate()
    inside, closed = asyncio.Event(), asyncio.Event()

    async def write(database: Database, name: str) -> None:
        async with database.writing() as connection:
            await connection.execute(insert(kv).values(name=name, value=name))
            inside.set()
            await closed.wait()

    async with open_catalog(catalog_url) as catalog:
        writing = asyncio.create_task(write(catalog.database, "in work"))
        await inside.wait()
        waiting = asyncio.create_task(write(catalog.database, "waits"))
        await asyncio.sleep(0)
    closed.set()
    await asyncio.gather(writing, waiting)

    with closing(sqlite3.connect(path)) as written:
        found = written.execute("SELECT count(*) FROM kv WHERE name IN ('in work', 'waits')").fetchone()
    assert found == (2,)
    assert await _threads_left(before) == []


async def test_a_catalog_that_should_exist_and_does_not_is_not_made(catalog_url: str, path: Path) -> None:
    with pytest.raises(NoCatalog, match=str(path)):
        await opened(catalog_url, create=False)

    assert not path.exists()


@pytest.mark.fault(55)
async def test_a_newer_schema_is_refused_in_words(catalog_url: str, path: Path) -> None:
    await opened(catalog_url)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(CatalogTooNew, match=f"schema is 9999; .* up to {NOW}. Update the program"):
        await opened(catalog_url)


async def test_a_file_that_is_no_database_is_a_catalog_that_does_not_answer(
    catalog_url: str, path: Path
) -> None:
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(CatalogUnavailable, match="not a database"):
        await opened(catalog_url)


async def test_a_catalog_that_cannot_be_opened_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.enumerate()
    with pytest.raises(CatalogUnavailable, match="unable to open"):
        await opened(f"sqlite+aiosqlite:///{tmp_path}")

    assert await _threads_left(before) == []


async def test_the_settings_that_keep_rows_safe_are_on(catalog: Catalog) -> None:
    pragmas = ("journal_mode", "synchronous", "foreign_keys")
    async with catalog.database.reading() as connection:
        found = [(await connection.execute(text(f"PRAGMA {name}"))).scalar_one() for name in pragmas]

    assert found == ["wal", 2, 1]


# -- migrations


@pytest.mark.filterwarnings("ignore:.*expression-based index")
async def test_the_migrations_make_exactly_the_tables(catalog: Catalog) -> None:
    def difference(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with catalog.database._engine.connect() as connection:
        assert await connection.run_sync(difference) == []


async def test_the_partial_indexes_of_the_migrations_are_those_of_the_tables(catalog: Catalog) -> None:
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    with closing(sqlite3.connect(":memory:")) as memory:
        async with catalog.database._engine.connect() as connection:
            migrated = {row.name: _squeezed(row.sql) for row in await connection.execute(text(query))}
        for statement in _ddl():
            memory.execute(statement)
        declared = {name: _squeezed(sql) for name, sql in memory.execute(query)}

    assert migrated == declared


def _ddl() -> list[str]:
    tables = metadata.sorted_tables
    statements: list[ExecutableDDLElement] = [CreateTable(each) for each in tables]
    statements += [CreateIndex(index) for each in tables for index in each.indexes]
    return [str(statement.compile(dialect=sqlite.dialect())) for statement in statements]


def _squeezed(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).strip()


def test_the_schemas_that_are_known_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    revisions = ScriptDirectory.from_config(config).walk_revisions()

    assert tuple(reversed([each.revision for each in revisions])) == SCHEMAS


@pytest.mark.parametrize("migrate", [False, True])
@pytest.mark.parametrize("version", ["0001", "0006", "0010"])
async def test_a_catalog_of_a_development_version_is_refused_in_a_sentence_and_left_as_it_is(
    catalog_url: str, path: Path, version: str, migrate: bool
) -> None:
    make_development(path, version)
    before = path.read_bytes()
    settings = Settings(redis_url="redis://localhost:1/0", catalog_url=catalog_url)

    for asked in (opened(catalog_url, migrate=migrate), stored(settings)):
        with pytest.raises(CatalogObsolete, match=f"is {version}\\).* move it away.* run `media rebuild`"):
            await asked

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "content",
    [
        "CREATE TABLE uploads (id int)",
        "CREATE TABLE alembic_version AS SELECT 'ae1027a6acf0' AS version_num",
        "CREATE TABLE alembic_version AS SELECT '0a1b2c3d4e5f' AS version_num",
    ],
)
async def test_a_file_of_another_program_is_refused(catalog_url: str, path: Path, content: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(content)
        before = list(database.iterdump())

        with pytest.raises(CatalogUnfit, match=f"{path} belongs to another program .*: create one"):
            await opened(catalog_url, migrate=True)

        assert list(database.iterdump()) == before


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """This program knows one schema more than it does."""
    migrations = next_migrations(tmp_path_factory.mktemp("next"))
    monkeypatch.setattr("storage.catalog.schema.MIGRATIONS", migrations)
    monkeypatch.setattr("storage.catalog.schema.SCHEMAS", (NOW, NEXT))


@pytest.mark.usefixtures("next_version")
async def test_a_catalog_of_an_older_schema_is_migrated_with_its_rows(catalog_url: str, path: Path) -> None:
    make_old(path)
    async with open_catalog(catalog_url, create=False, migrate=True) as catalog:
        states = await catalog.reports.states()

        assert catalog.id == "old"
        assert (states[State.READY], states[State.FAILED]) == (2, 1)
        assert await catalog.reports.check_totals() == []
    assert schema_in(path) == NEXT


@pytest.mark.usefixtures("next_version")
async def test_only_who_may_migrate_changes_an_older_schema(catalog_url: str, path: Path) -> None:
    make_old(path)
    before = path.read_bytes()

    with pytest.raises(CatalogTooOld, match=f"schema is {NOW}, and the migration to {NEXT} is pending"):
        await opened(catalog_url)

    assert schema_in(path) == NOW
    assert len(path.read_bytes()) == len(before)
    assert list(path.parent.glob("*before*")) == []


@pytest.mark.parametrize("content", ["", "CREATE TABLE notes (text)"], ids=["empty", "somebody else's"])
async def test_a_file_that_is_no_catalog_yet_is_reported_and_left_as_it_is(
    catalog_url: str, path: Path, content: str
) -> None:
    path.touch()
    with closing(sqlite3.connect(path)) as database:
        database.execute(content)
    before = path.read_bytes()
    settings = Settings(redis_url="redis://localhost:1/0", catalog_url=catalog_url)

    for asked in (
        opened(catalog_url, create=False),
        opened(catalog_url, create=False, migrate=True),
        stored(settings),
    ):
        with pytest.raises(NoCatalog, match=f"There is no catalog at {path}"):
            await asked

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.usefixtures("next_version")
async def test_before_a_migration_the_catalog_is_copied_as_it_was(catalog_url: str, path: Path) -> None:
    make_old(path)
    path.chmod(0o640)
    path.with_name("catalog.db.before-0005").touch()
    async with open_catalog(catalog_url, migrate=True) as catalog:
        migrated = catalog.database.migrated

    [copy] = path.parent.glob("*before*")
    assert migrated is not None
    assert (migrated.before, migrated.after, migrated.copy) == (NOW, NEXT, copy)
    assert (schema_in(copy), schema_in(path)) == (NOW, NEXT)
    assert copy.stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT count(*) FROM uploads").fetchone() == (3,)


@pytest.mark.usefixtures("next_version")
async def test_a_copy_that_somebody_else_made_stays(catalog_url: str, path: Path) -> None:
    make_old(path)
    theirs = [path.with_name(f"catalog.db.before-{name}") for name in ("upgrade", "2026-11-28", "0005.gz")]
    for one in theirs:
        one.touch()

    await opened(catalog_url, migrate=True)

    assert set(path.parent.glob("*before*")) == {*theirs, path.with_name(f"catalog.db.before-{NEXT}")}


@pytest.mark.usefixtures("next_version")
async def test_nobody_else_can_read_a_copy_before_it_has_the_catalogs_mode(
    catalog_url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(path)
    modes: list[int] = []
    real = os.fchmod

    def note(fd: int, mode: int) -> None:
        modes.append(os.fstat(fd).st_mode & 0o777)
        real(fd, mode)

    monkeypatch.setattr(os, "fchmod", note)
    before = os.umask(0)
    try:
        await opened(catalog_url, migrate=True)
    finally:
        os.umask(before)

    assert modes == [0o600]


@pytest.mark.usefixtures("next_version")
async def test_a_catalog_is_not_migrated_where_there_is_no_room_for_its_copy(
    catalog_url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.copying._FACTOR", 10**12)
    make_old(path)

    with pytest.raises(CatalogUnavailable, match=f"MiB of room in {path.parent}"):
        await opened(catalog_url, migrate=True)

    assert schema_in(path) == NOW


# -- processes beside each other

OPENER = """
import asyncio, sys
from storage.catalog.opening import open_catalog

async def main():
    print("ready", flush=True)
    sys.stdin.read()
    async with open_catalog(sys.argv[1]) as catalog:
        print(catalog.id, flush=True)

asyncio.run(main())
"""


def test_processes_that_open_a_new_catalog_at_once_find_the_same_one(catalog_url: str) -> None:
    start, go = os.pipe()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, catalog_url],
            stdin=start,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    os.close(start)
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    os.close(go)
    answers = [process.communicate(timeout=30) for process in processes]

    assert [(len(said), errors) for said, errors in answers] == [(37, "")] * 3
    assert len({said for said, _ in answers}) == 1


@pytest.fixture
async def impatient(catalog: Catalog, catalog_url: str) -> AsyncIterator[Catalog]:
    """The catalog, opened by somebody who waits 0.2 s for another writer."""
    async with open_catalog(catalog_url, busy_timeout_s=0.2) as opened:
        yield opened


async def test_a_writer_in_another_process_is_waited_for(catalog: Catalog, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        asyncio.get_running_loop().call_later(1, other.execute, "COMMIT")
        taken = await take(catalog, upload_event(1))

    assert len(taken.jobs) == 1


async def test_a_writer_in_another_process_holds_up_a_claim_and_nothing_else(
    catalog: Catalog, path: Path
) -> None:
    await take(catalog, upload_event(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        claiming = asyncio.create_task(claim(catalog))
        await asyncio.wait({claiming}, timeout=0.3)
        still_waiting = not claiming.done()
        other.execute("COMMIT")
        claimed = await claiming

    assert still_waiting
    assert (await commit(catalog, ready(claimed))).state is State.READY


async def test_a_claim_is_seen_by_other_processes_at_once_and_what_follows_is_durable(
    catalog: Catalog, path: Path
) -> None:
    await take(catalog, upload_event(1))
    claimed = await claim(catalog)
    with closing(sqlite3.connect(path)) as other:
        seen = other.execute("SELECT claim, state FROM uploads").fetchall()
    async with catalog.database.writing(inline=True) as connection:
        asked = [await connection.exec_driver_sql(f"PRAGMA {name}") for name in _SETTINGS]
        found = [answer.scalar_one() for answer in asked]

    assert seen == [(claimed.token, "processing")]
    assert found == [_FULL, 1000, 10_000]


async def test_a_writer_that_never_ends_makes_the_catalog_unavailable(impatient: Catalog, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogUnavailable, match="locked"):
            await take(impatient, upload_event(1))
        other.execute("ROLLBACK")

    assert len((await take(impatient, upload_event(1))).jobs) == 1


async def test_readers_do_not_wait_for_a_writer(impatient: Catalog, path: Path) -> None:
    await take(impatient, upload_event(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        assert await impatient.reports.find(CAT) is not None


async def test_many_writers_of_one_process_take_turns(impatient: Catalog) -> None:
    ids = [uuid4() for _ in range(30)]
    await asyncio.gather(*(take(impatient, upload_event(1, each, f"uploads/{each}")) for each in ids))

    assert sum((await impatient.reports.states()).values()) == 30


async def test_a_writer_that_is_cancelled_while_it_waits_leaves_the_catalog_usable(
    catalog: Catalog, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(take(catalog, upload_event(1)))
        done, _ = await asyncio.wait({waiting}, timeout=0.1)
        waiting.cancel()
        other.execute("COMMIT")
        with suppress(asyncio.CancelledError):
            await waiting

    assert done == set()
    assert await catalog.reports.find(CAT) is None
    assert len((await take(catalog, upload_event(1))).jobs) == 1


# -- speed


async def asking_claim(catalog: Catalog) -> None:
    await claim(catalog)


async def asking_commit(catalog: Catalog) -> None:
    await commit(catalog, ready(await claim(catalog)))


async def asking_release(catalog: Catalog) -> None:
    await catalog.claims.release([await claim(catalog)])


async def asking_requeue(catalog: Catalog) -> None:
    stalled = await catalog.requeuer.overdue(-1000, 10)
    await catalog.requeuer.requeue_stalled(stalled)


async def asking_removal(catalog: Catalog) -> None:
    await take(catalog, delete_event(2))
    await catalog.claims.keys_of(CAT)
    await work(catalog)


async def asking_sent(catalog: Catalog) -> None:
    await asking_commit(catalog)
    await catalog.outbox.mark_sent(await catalog.outbox.since(0))


FREQUENT: dict[str, Callable[[Catalog], Awaitable[object]]] = {
    "take": lambda catalog: take(catalog, upload_event(3)),
    "claim": asking_claim,
    "commit": asking_commit,
    "release": asking_release,
    "stalled": lambda catalog: catalog.requeuer.overdue(0, 10),
    "requeue": asking_requeue,
    "remove": asking_removal,
    "others": lambda catalog: catalog.claims.others_with([SOURCE], CAT),
    "unsent": lambda catalog: catalog.outbox.unsent(0, 10),
    "mark sent": asking_sent,
    "since": lambda catalog: catalog.outbox.since(5, 10),
    "prune": lambda catalog: catalog.outbox.prune(5),
    "find": lambda catalog: catalog.reports.find(CAT),
    "failed": lambda catalog: catalog.failures.newest(10),
    "letters": lambda catalog: catalog.dead_letters.newest(10),
}


@pytest.mark.parametrize("ask", FREQUENT.values(), ids=FREQUENT.keys())
async def test_no_frequent_question_reads_a_whole_table(
    catalog: Catalog, path: Path, ask: Callable[[Catalog], Awaitable[object]]
) -> None:
    asked: list[tuple[str, Any]] = []
    engine = catalog.database._engine.sync_engine
    event.listen(
        engine,
        "before_cursor_execute",
        lambda _c, _u, sql, values, _x, many: asked.append((sql, values[0] if many else values)),
    )
    await take(catalog, upload_event(1))
    await ask(catalog)
    with closing(sqlite3.connect(path)) as database:
        statements = [each for each in asked if each[0].startswith(("SELECT", "UPDATE", "DELETE"))]
        plans = [
            step[3]
            for sql, values in statements
            for step in database.execute(f"EXPLAIN QUERY PLAN {sql}", values)
        ]

    scans = [step for step in plans if step.startswith("SCAN") and not _is_short(step)]
    assert plans != []
    assert scans == []


def _is_short(step: str) -> bool:
    """What is unsent, by its index; the newest by number, up to a limit; the list in a statement itself."""
    return step in ("SCAN outbox USING INDEX outbox_unsent", "SCAN dead_letters", "SCAN CONSTANT ROW")
