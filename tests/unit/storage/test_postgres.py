"""A catalog on Postgres: what is said when it cannot be used, and units of work that the server undid."""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4, uuid5

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from asyncpg.exceptions import (
    CannotConnectNowError,
    InternalServerError,
    InvalidPasswordError,
    ProtocolViolationError,
)
from sqlalchemy import Connection, MetaData, inspect, make_url, select, text

from scripts.postgres_server import PostgresServer
from storage.catalog import postgres, schema, servers
from storage.catalog.address import Address
from storage.catalog.database import open_to_read
from storage.catalog.locks import lock_uploads
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.postgres_errors import ServerCondition
from storage.catalog.records import DeadLetter, State, StreamId, UploadRequested
from storage.catalog.servers import Servers
from storage.catalog.tables import metadata, totals, totals_delta
from storage.errors import (
    CatalogAway,
    CatalogConflict,
    CatalogDamaged,
    CatalogTooOld,
    CatalogUnavailable,
    CatalogUnfit,
    NoCatalog,
)
from tests.support.catalogs import (
    CAT,
    SHA,
    claim,
    commit,
    delete_event,
    key,
    ready,
    statements,
    take,
    upload,
    upload_event,
)
from tests.support.old_catalogs import NEXT, NOW
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres import connect, execute

DOG, COW = uuid5(CAT, "dog"), uuid5(CAT, "cow")
FOREVER = 2.0**60
LETTER = DeadLetter("1-0", "invalid_event", "no", b"{}")


@pytest.fixture
def database_kind() -> str:
    return "postgres"


def changed(url: str, **parts: Any) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


async def refusal(url: str, kind: type[CatalogUnavailable] = CatalogUnavailable) -> str:
    """Why the catalog there cannot be opened."""
    with pytest.raises(kind) as refused:
        async with open_catalog(url):
            pass
    return str(refused.value)


# -- settings that are wrong


async def test_a_wrong_password_is_reported_with_the_user_and_without_the_password(postgres_url: str) -> None:
    reason = await refusal(changed(postgres_url, password="hunter2"))

    assert "correct user and password in MEDIA_CATALOG_URL" in reason
    assert 'user "media"' in reason
    assert "hunter2" not in reason


async def test_an_unknown_user_is_reported_by_name(postgres_url: str) -> None:
    assert 'user "nobody"' in await refusal(changed(postgres_url, username="nobody"))


async def test_a_database_that_is_not_there_is_reported_by_name(postgres_url: str) -> None:
    reason = await refusal(changed(postgres_url, database="elsewhere"))

    assert 'database "elsewhere" does not exist' in reason
    assert "CREATE DATABASE" in reason


async def test_a_host_where_nobody_listens_is_reported_without_the_password(postgres_url: str) -> None:
    reason = await refusal(changed(postgres_url, port=1, password="hunter2"))

    assert "nobody listens where the catalog postgresql://media@127.0.0.1:1/" in reason
    assert "hunter2" not in reason


async def test_a_server_that_speaks_no_tls_has_answered_and_the_remedy_is_named(postgres_url: str) -> None:
    reason = await refusal(f"{postgres_url}?sslmode=require")

    assert "speaks no TLS" in reason
    assert "correct sslmode= in MEDIA_CATALOG_URL" in reason


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ConnectionRefusedError(111, "no"), CatalogAway, "nobody listens where the catalog"),
        (TimeoutError(), CatalogAway, "did not answer in time: is a Postgres on that port?"),
        (ProtocolViolationError("server login has been failing (server_login_retry)"), CatalogAway, "pooler"),
        (CannotConnectNowError("the database system is starting up"), CatalogAway, "is starting up"),
        (InvalidPasswordError("no"), CatalogUnavailable, "correct user and password"),
        (InternalServerError("no"), CatalogUnavailable, "did not answer: no"),
    ],
)
def test_a_server_that_is_away_is_told_from_one_that_refuses(
    error: Exception, kind: type[CatalogUnavailable], words: str
) -> None:
    named = ServerCondition("postgresql://db/media").named(error)

    assert type(named) is kind
    assert words in str(named)


async def test_a_user_who_may_make_no_tables_is_reported_with_a_remedy(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = str(make_url(postgres_url).database)
    await execute(postgres_server, "DROP ROLE IF EXISTS reader")
    await execute(postgres_server, "CREATE ROLE reader LOGIN PASSWORD 'secret'")
    await execute(postgres_server, "REVOKE CREATE ON SCHEMA public FROM public", database)
    reason = await refusal(changed(postgres_url, username="reader", password="secret"))

    assert "permission denied for schema public" in reason
    assert "OWNER TO" in reason


async def test_a_database_of_another_encoding_is_refused_with_a_remedy(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = f"ascii_{make_url(postgres_url).database}"
    await execute(
        postgres_server,
        f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
    )

    reason = await refusal(changed(postgres_url, database=name), CatalogUnfit)

    assert "the encoding SQL_ASCII" in reason
    assert "ENCODING 'UTF8'" in reason


async def test_a_server_that_is_too_old_is_refused_by_its_version(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.postgres.OLDEST", 99)

    assert "99 is the oldest" in await refusal(postgres_url, CatalogUnfit)


async def test_numbers_of_messages_that_connections_take_in_advance_are_refused(
    catalog: Catalog, catalog_url: str
) -> None:
    async with catalog.database.writing() as connection:
        await connection.execute(text("ALTER SEQUENCE outbox_seq_seq CACHE 20"))

    assert "ALTER SEQUENCE outbox_seq_seq CACHE 1" in await refusal(catalog_url, CatalogUnfit)


async def test_a_pooler_that_is_in_no_setting_is_reported_with_the_setting(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    with pgbouncer(postgres_server, connections=1) as port:
        for hosts in (f"127.0.0.1:{port}", f"127.0.0.1:1,127.0.0.1:{port}"):
            url = postgres_url.replace(f"127.0.0.1:{postgres_server.port}", hosts)

            assert "set MEDIA_CATALOG_POOLER=1" in await refusal(url, CatalogUnfit)


async def test_a_certificate_that_is_nowhere_is_a_mistake_in_the_url(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    reason = await refusal(f"{postgres_url}?sslmode=verify-full", CatalogUnfit)

    assert "see MEDIA_CATALOG_URL" in reason


async def test_a_database_with_tables_of_another_program_is_refused(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    await execute(postgres_server, "CREATE TABLE uploads (id int)", str(make_url(postgres_url).database))

    assert "belongs to another program (it has a table uploads)" in await refusal(postgres_url, CatalogUnfit)


async def test_of_workers_that_start_at_once_on_nothing_one_makes_the_tables(postgres_url: str) -> None:
    async def opened() -> str:
        async with open_catalog(postgres_url) as catalog:
            return catalog.id

    assert len(set(await asyncio.gather(*(opened() for _ in range(4))))) == 1


async def test_a_catalog_leaves_the_migrations_of_another_program_alone(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = str(make_url(postgres_url).database)
    made = "CREATE TABLE alembic_version AS SELECT 'ae1027a6acf0' AS version_num"
    await execute(postgres_server, made, database)
    for _ in range(2):
        async with open_catalog(postgres_url) as catalog:
            theirs = text("SELECT version_num FROM alembic_version")
            async with catalog.database.reading() as connection:
                assert (await connection.execute(theirs)).scalar_one() == "ae1027a6acf0"


async def test_before_a_migration_a_backup_is_the_operators_to_make(
    catalog: Catalog, catalog_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "SCHEMAS", (NOW, NEXT))
    with pytest.raises(CatalogTooOld, match=f"to {NEXT} is pending: make a copy"):
        async with open_catalog(catalog_url):
            pass


# -- several servers


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Where every connection is taken, and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


async def test_a_first_server_that_does_not_answer_keeps_nobody_from_the_second(
    postgres_url: str, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_three = Servers(
        Address(postgres_url.replace("127.0.0.1", f"127.0.0.1:{silent_port},127.0.0.1:1,127.0.0.1"))
    )
    connection = None
    for patience_s in (0.3, 3, 30):  # the one that is well may be slow
        monkeypatch.setattr(servers, "CONNECT_S", patience_s)
        with suppress(OSError):
            connection = connection or await all_three.connect()
    assert connection is not None
    await connection.close()

    async with asyncio.timeout(25):  # whoever has answered last is asked first
        again = await all_three.connect()
    assert await again.fetchval("SHOW transaction_read_only") == "off"
    await again.close()


async def test_of_several_servers_that_do_not_answer_each_is_reported(
    postgres_url: str, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "CONNECT_S", 0.2)
    reason = await refusal(
        f"postgresql://media:hunter2@127.0.0.1:{silent_port},127.0.0.1:1/media?target_session_attrs=primary"
    )

    assert f"127.0.0.1:{silent_port}: TimeoutError; 127.0.0.1:1: " in reason
    assert "hunter2" not in reason


@pytest.mark.parametrize("others", ["127.0.0.1:1,", ""])
async def test_a_server_that_takes_no_writes_is_not_the_one(
    postgres_server: PostgresServer, postgres_url: str, others: str
) -> None:
    database = str(make_url(postgres_url).database)
    await execute(postgres_server, f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    url = postgres_url.replace("@", f"@{others}")
    reason = await refusal(url if others else f"{url}?target_session_attrs=read-write")

    assert "'read-write'" in reason


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u:p@one,two:6/m", [("one", 5432), ("two", 6)]),
        ("postgresql://[::1]:7,[fe80::1]/m", [("::1", 7), ("fe80::1", 5432)]),
        ("postgresql://u@%2Frun%2Fpostgresql/m", [("/run/postgresql", 5432)]),
        ("postgresql:///m?host=/run/postgresql", [("/run/postgresql", 5432)]),
        ("postgresql:///m?host=one,two&port=6", [("one", 6), ("two", 6)]),
        ("postgresql:///m?host=one,two&port=6,7", [("one", 6), ("two", 7)]),
    ],
)
def test_the_servers_of_a_url_are_in_its_order(url: str, hosts: Sequence[tuple[str, int]]) -> None:
    assert list(Address(url).hosts) == hosts


async def test_an_empty_database_has_no_catalog_until_one_is_made(postgres_url: str) -> None:
    with pytest.raises(NoCatalog, match="There is no catalog at postgresql://media@"):
        async with open_to_read(postgres_url):
            pass


# -- the schema


def differences(connection: Connection) -> Sequence[object]:
    declared = MetaData()
    for table in metadata.sorted_tables:
        if table is not totals:  # a view here
            table.to_metadata(declared)
    totals_delta.to_metadata(declared)
    opts = {"compare_type": True, "version_table": schema.version_table(connection)}
    return list(compare_metadata(MigrationContext.configure(connection, opts=opts), declared))


async def test_the_migrated_schema_is_the_declared_one(catalog: Catalog) -> None:
    async with catalog.database.reading() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_view_of_the_totals_has_the_columns_of_their_table(catalog: Catalog) -> None:
    async with catalog.database.reading() as connection:
        found = await connection.run_sync(lambda opened: inspect(opened).get_columns("totals"))

    assert [column["name"] for column in found] == totals.columns.keys()


async def test_keys_and_ids_are_in_the_order_of_their_bytes(catalog: Catalog) -> None:
    query = """SELECT table_name || '.' || column_name FROM information_schema.columns
        WHERE table_name IN ('uploads', 'variants', 'deletion_marks')
        AND column_name IN ('key', 'id', 'source', 'upload_id')
        AND collation_name IS DISTINCT FROM 'C'"""
    async with catalog.database.reading() as connection:
        assert (await connection.exec_driver_sql(query)).all() == []


# -- transactions


@pytest.mark.parametrize("pool", [1, 2])
async def test_no_more_connections_are_opened_than_the_pool_has(
    postgres_server: PostgresServer, postgres_url: str, pool: int
) -> None:
    database, role = make_url(postgres_url).database, f"limited_{pool}"
    await execute(postgres_server, f"CREATE ROLE {role} LOGIN PASSWORD 'secret' CONNECTION LIMIT {pool}")
    await execute(postgres_server, f"ALTER DATABASE {database} OWNER TO {role}")
    address = Address(changed(postgres_url, username=role, password="secret"), pool=pool)
    async with open_catalog(address) as catalog:
        catalog.outbox.stay_above(lambda: asyncio.sleep(0, 41))
        before = await asyncio.gather(*(seq_of(catalog, ms) for ms in range(1, 6)))
        counted = await asyncio.gather(*(catalog.reports.check_totals() for _ in range(3)))
        await outage(catalog, postgres_server)
        after = await seq_of(catalog, 6)

    assert (sorted(before), counted, after) == ([1, 2, 3, 4, 5], [[]] * 3, 42)


@pytest.mark.parametrize("limit", ["COMMAND_S", "TRANSACTION_S"])
async def test_a_count_of_all_rows_may_take_longer_than_other_statements(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(postgres, limit, 0.3)
    await catalog.database.backend.engine.dispose()  # new connections have that limit
    slow = text("SELECT pg_sleep(0.6)")
    async with catalog.database.reading(patient=True) as connection:
        await connection.execute(slow)

    with pytest.raises(CatalogUnavailable):
        async with catalog.database.reading() as connection:
            await connection.execute(slow)


async def test_damage_is_reported_for_a_while_after_it_was_met(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.database.met(CatalogDamaged("a page is damaged"))

    assert await catalog.database.problem() == "a page is damaged"

    monkeypatch.setattr("storage.catalog.postgres.DAMAGE_KEPT_S", 0)
    assert await catalog.database.problem() is None


@pytest.mark.parametrize("pooler", [False, True])
async def test_a_transaction_that_its_host_leaves_open_keeps_nobody_out_for_long(
    catalog: Catalog, catalog_url: str, pooler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "IDLE_S", 0.3)
    await take(catalog, upload_event(1))
    has_rows, goes_on = asyncio.Event(), asyncio.Event()

    async def stand_still(cut_off: Catalog) -> None:
        async with cut_off.database.writing() as connection:
            await lock_uploads(connection, [CAT])
            has_rows.set()
            await goes_on.wait()
            await lock_uploads(connection, [CAT])

    async with open_catalog(Address(catalog_url, pooler=pooler)) as cut_off:
        standing = asyncio.create_task(stand_still(cut_off))
        await has_rows.wait()
        async with asyncio.timeout(5):
            assert (await claim(catalog)).upload.claims == 1
        goes_on.set()
        with pytest.raises(CatalogUnavailable):
            await standing


@pytest.mark.parametrize("pooler", [False, True])
async def test_a_transaction_of_which_half_a_batch_has_come_keeps_nobody_out_for_long(
    catalog: Catalog, catalog_url: str, pooler: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "TRANSACTION_S", 0.5)
    async with catalog.database.reading() as connection:
        if (await connection.execute(text("SHOW server_version_num"))).scalar_one() < "170000":
            pytest.skip("an older PostgreSQL knows no transaction_timeout")
    await take(catalog, upload_event(1))
    has_rows = asyncio.Event()

    async def send_for_ever(cut_off: Catalog) -> None:
        async with cut_off.database.writing() as connection:
            await lock_uploads(connection, [CAT])
            has_rows.set()
            while True:
                await lock_uploads(connection, [CAT])  # so that it is never idle for long

    async with open_catalog(Address(catalog_url, pooler=pooler)) as cut_off:
        sending = asyncio.create_task(send_for_ever(cut_off))
        await has_rows.wait()
        async with asyncio.timeout(5):
            assert (await claim(catalog)).upload.claims == 1
        with pytest.raises(CatalogUnavailable):
            await sending


async def test_a_reader_sees_one_moment_however_many_statements_it_has(catalog: Catalog) -> None:
    count = "SELECT count(*) FROM uploads"
    async with catalog.database.reading() as connection:
        before = (await connection.exec_driver_sql(count)).scalar_one()
        await take(catalog, upload_event(1))
        after = (await connection.exec_driver_sql(count)).scalar_one()

    assert (before, after) == (0, 0)


async def outage(catalog: Catalog, server: PostgresServer) -> None:
    """Have the catalog meet a server that has ended all its connections."""
    await execute(
        server,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE datname = '{catalog.database.condition.name.rpartition('/')[2]}'",
    )
    with pytest.raises(CatalogUnavailable):
        await catalog.database.check_writable()


async def seq_of(catalog: Catalog, ms: int) -> int:
    """The `seq` of a message that is made now."""
    [message] = (await take(catalog, delete_event(ms, uuid4()))).messages
    return message.seq


async def test_after_an_outage_no_seq_comes_that_a_replica_has_forgotten(
    catalog: Catalog, postgres_server: PostgresServer
) -> None:
    asked: list[int] = []

    async def newest() -> int:
        asked.append(41)
        return 41

    catalog.outbox.stay_above(newest)
    before = await seq_of(catalog, 1), len(asked)
    await outage(catalog, postgres_server)
    after = await asyncio.gather(*(seq_of(catalog, ms) for ms in (2, 3)))

    assert (before, sorted(after), asked) == ((1, 0), [42, 43], [41])


async def test_nothing_is_written_after_an_outage_before_the_newest_message_is_known(
    catalog: Catalog, postgres_server: PostgresServer
) -> None:
    answers: list[int] = []

    async def newest() -> int:
        if not answers:
            raise CatalogUnavailable("who knows")
        return answers[0]

    catalog.outbox.stay_above(newest)
    await outage(catalog, postgres_server)
    with pytest.raises(CatalogUnavailable, match="who knows"):
        await seq_of(catalog, 1)
    answers.append(41)

    assert await seq_of(catalog, 2) == 42


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_unit_of_work_that_the_server_undid_is_done_again(
    catalog: Catalog, postgres_server: PostgresServer, catalog_url: str, state: str
) -> None:
    await fail_outcomes(postgres_server, catalog_url, state, times=4)
    await take(catalog, upload_event(1))
    committed = await commit(catalog, ready(await claim(catalog)))

    assert (committed.state, (await upload(catalog)).state) == ("ready", "ready")


async def test_a_unit_of_work_that_is_undone_each_time_is_given_up_for_now(
    catalog: Catalog, postgres_server: PostgresServer, catalog_url: str
) -> None:
    await fail_outcomes(postgres_server, catalog_url, "40001", times=100)
    await take(catalog, upload_event(1))
    with pytest.raises(CatalogConflict):
        await commit(catalog, ready(await claim(catalog)))


async def fail_outcomes(server: PostgresServer, url: str, state: str, times: int) -> None:
    """Have the server undo so many transactions that would make an upload ready."""
    database = str(make_url(url).database)
    connection = await connect(server, database)
    try:
        await connection.execute(f"""
            CREATE SEQUENCE failures;
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF NEW.state = 'ready' AND nextval('failures') <= {times}
                THEN RAISE EXCEPTION 'met another' USING ERRCODE = '{state}'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER fails BEFORE UPDATE ON uploads FOR EACH ROW EXECUTE FUNCTION fail();
        """)
    finally:
        await connection.close()


# -- how long others wait, and in which order


@pytest.mark.parametrize("mark", ["mark_for_deletion", "mark_superseded"])
async def test_a_sweep_keeps_others_out_for_as_few_statements_as_there_can_be(
    catalog: Catalog, mark: str
) -> None:
    keys = [key(CAT, SHA, str(number)) for number in range(50)]
    assert await catalog.sweeps.lease("sweeper", 60)
    before = [FOREVER] if mark == "mark_superseded" else []
    with statements(catalog) as seen:
        marked = await getattr(catalog.sweeps, mark)("sweeper", keys, *before)

    assert marked == frozenset(keys)
    assert len([each for each in seen if "deletion_marks" in each or "variants" in each]) == 1 + len(before)


async def test_a_batch_of_events_locks_all_that_it_changes_at_once(catalog: Catalog) -> None:
    await take(catalog, upload_event(1), replace(upload_event(2, DOG, "uploads/dog.jpg"), adopted=True))
    with statements(catalog) as seen:
        taken = await take(catalog, upload_event(3), upload_event(4, COW, "uploads/dog.jpg"))

    assert len([each for each in seen if "FOR NO KEY UPDATE" in each]) == 1
    assert list(taken.jobs.values()) == [[COW]]
    assert (await upload(catalog, DOG)).state is State.DELETING


async def test_uploads_of_damaged_files_are_locked_before_their_variants(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    made = ready(await claim(catalog))
    await commit(catalog, made)
    with statements(catalog) as seen:
        queued = await catalog.requeuer.requeue_damaged({one.key: one.sha256 for one in made.variants})

    steps = ("FOR NO KEY", "UPDATE variants")
    places = [next(place for place, sql in enumerate(seen) if step in sql) for step in steps]
    assert queued == [CAT]
    assert places == sorted(places)


# -- values that a server refuses


@pytest.mark.parametrize("recipe", ["x" * 65, "with \0 inside"])
async def test_an_event_that_does_not_fit_is_no_outage_of_the_catalog(catalog: Catalog, recipe: str) -> None:
    event = UploadRequested(StreamId(1, 0), CAT, "uploads/cat.jpg", recipe)
    with pytest.raises(Exception) as refused:  # noqa: PT011 (of the driver: it is ours that nobody catches)
        await catalog.intake.take([(event, LETTER)], [])

    assert not isinstance(refused.value, CatalogUnavailable)
    assert await catalog.reports.find(CAT) is None


async def test_a_statement_that_the_driver_does_not_send_is_no_outage(
    catalog: Catalog,
) -> None:
    with pytest.raises(Exception, match="cannot exceed") as refused:
        async with catalog.database.reading() as connection:
            await connection.execute(select(totals).where(totals.c.what.in_(map(str, range(40_000)))))

    assert not isinstance(refused.value, CatalogUnavailable)


async def test_a_nul_in_a_reason_is_kept_as_another_character(catalog: Catalog) -> None:
    await catalog.intake.take([], [DeadLetter("1-0", "invalid_event", "a \0 b", b"\0")])

    [kept] = await catalog.dead_letters.newest(1)
    assert (kept.message, kept.body) == ("a \ufffd b", b"\0")


async def test_ids_of_the_stream_have_64_bits_without_a_sign(catalog: Catalog) -> None:
    for ms in (2**63 - 1, 2**63, 2**64 - 1):
        await take(catalog, upload_event(ms))
        taken = await take(catalog, upload_event(ms))

        assert taken.outdated, ms
