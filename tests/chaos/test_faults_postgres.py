"""A Postgres that stops, is killed, loses commits, turns read-only, or has a pooler before it."""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from scripts.postgres_server import USER, PostgresNotFoundError, PostgresServer, temporary_postgres
from scripts.redis_server import RedisServer
from storage.catalog.opening import open_catalog
from tests.support import pictures, processes
from tests.support.clients import missing, skip_without_services
from tests.support.disks import quickest_disk
from tests.support.pgbouncer import pgbouncer
from tests.support.polling import until
from tests.support.postgres import connect, execute
from tests.support.postgres_proxy import CommitProxy, Loss
from tests.support.workplace import WorkerProcess, Workplace, database_on

UPLOADS = 12
DATABASE = "media"
END_WITHIN_S = 60.0
# An upload that is ready has no attempts any more: what was counted on the way is noted here.
NOTE_COUNTED = """
    CREATE TABLE counted (id text);
    CREATE FUNCTION note_counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO counted VALUES (NEW.id);
        RETURN NULL;
    END $$;
    CREATE TRIGGER note_counted AFTER UPDATE ON uploads FOR EACH ROW WHEN (NEW.attempts > 0)
    EXECUTE FUNCTION note_counted();
"""


@dataclass(frozen=True)
class PostgresPlace:
    """A workplace whose catalog is on a Postgres of its own."""

    place: Workplace
    server: PostgresServer

    def start(self, port: int | None = None, **settings: str) -> WorkerProcess:
        """A worker, at `port` if a proxy is between the two."""
        url = self.server.url(DATABASE).replace(f":{self.server.port}/", f":{port or self.server.port}/")
        self.place.settings |= {"MEDIA_CATALOG_URL": url, **settings}
        return self.place.start()

    def upload(self, name: str, count: int = UPLOADS) -> list[str]:
        """Send uploads; returns their sources."""
        sources = [
            self.place.put(f"uploads/{name}-{number}.jpg", pictures.medium()) for number in range(count)
        ]
        self.place.send_all({"source": source} for source in sources)
        return sources

    def check_all_ready(self, sources: list[str], worker: WorkerProcess) -> None:
        """Each upload is ready once, with its files and no attempt counted; the worker still runs."""
        self.place.await_end_of(*sources, within=END_WITHIN_S)
        assert worker.process.poll() is None, worker.text
        assert worker.stop() == 0
        uploads, variants, counted = asyncio.run(_rows(self.server))
        assert Counter(uploads) == {"ready": len(sources)}, worker.text
        assert set(Counter((upload, name) for upload, name, _ in variants).values()) == {1}
        assert counted == []
        assert len(variants) == 3 * len(sources)
        assert all((self.place.root / key).is_file() for _, _, key in variants)
        assert asyncio.run(_wrong_totals(self.server)) == []


async def _rows(server: PostgresServer) -> tuple[list[str], list[Any], list[Any]]:
    connection = await connect(server, DATABASE)
    try:
        uploads = await connection.fetch("SELECT state FROM uploads")
        variants = await connection.fetch("SELECT upload_id, name, key FROM variants")
        counted = await connection.fetch("SELECT id FROM counted")
        return [row["state"] for row in uploads], [tuple(row) for row in variants], counted
    finally:
        await connection.close()


async def _wrong_totals(server: PostgresServer) -> list[Any]:
    async with open_catalog(server.url(DATABASE), create=False) as catalog:
        return list(await catalog.reports.check_totals())


@contextmanager
def _server_with_catalog() -> Iterator[PostgresServer]:
    async def migrate() -> None:
        await execute(server, f"CREATE DATABASE {DATABASE}")
        async with open_catalog(server.url(DATABASE)):
            await execute(server, NOTE_COUNTED, DATABASE)

    skip_without_services()
    try:
        with temporary_postgres(beneath=quickest_disk()) as server:
            asyncio.run(migrate())
            yield server
    except PostgresNotFoundError as error:
        missing(str(error))


@pytest.fixture
def at_postgres(redis_server: RedisServer, tmp_path: Path) -> Iterator[PostgresPlace]:
    with _server_with_catalog() as server:
        place = Workplace(tmp_path, database_on(redis_server.url))
        try:
            yield PostgresPlace(place, server)
        finally:
            place.close()


@contextmanager
def _decoders_frozen(worker: WorkerProcess) -> Iterator[None]:
    """What is in work then stays so, and has something to write when the server has gone."""
    pids = processes.children_of(worker.pid)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


async def _is_at_work(server: PostgresServer) -> bool:
    return "processing" in (await _rows(server))[0]


def _survives_its_absence(at: PostgresPlace, end: Callable[[], None], away_s: float) -> None:
    worker = at.start()
    sources = at.upload("before")
    at.place.listen(lambda messages: len(messages) >= 2)
    with _decoders_frozen(worker):
        sources += at.upload("amid", 2)
        asyncio.run(until(partial(_is_at_work, at.server)))
        end()
    try:
        sources += at.upload("while", 4)
        worker.await_log("intake_paused")
        worker.await_log("catalog_unavailable")  # of an outcome, or a claim
        threading.Event().wait(away_s)
    finally:
        at.server.start()
    at.check_all_ready(sources, worker)
    assert not [line for line in worker.log if "exception" in line]
    begun, over = worker.logged("catalog_unavailable"), worker.logged("catalog_available")
    assert len(begun) == len(over) > 0
    assert over[0]["away_s"] > 0


@pytest.mark.fault(30)
@pytest.mark.parametrize("way", ["stop", "kill"])
@pytest.mark.parametrize("away_s", [3.0, pytest.param(6.0, marks=pytest.mark.campaign)])
@pytest.mark.rotating(1)
def test_a_worker_goes_on_when_its_postgres_is_back(
    at_postgres: PostgresPlace, way: str, away_s: float
) -> None:
    ways = {"stop": at_postgres.server.stop, "kill": at_postgres.server.kill}
    _survives_its_absence(at_postgres, ways[way], away_s)


@pytest.mark.fault(31)
@pytest.mark.parametrize("loss", ["before", "after"])
@pytest.mark.rotating(1)
def test_a_connection_lost_at_commit_makes_nothing_twice_and_loses_nothing(
    at_postgres: PostgresPlace, loss: Loss
) -> None:
    proxy = CommitProxy(at_postgres.server.port)
    try:
        worker = at_postgres.start(proxy.port)
        proxy.lose(*[loss] * 8)
        sources = at_postgres.upload("lost")
        at_postgres.check_all_ready(sources, worker)
        assert proxy.lost == [loss] * 8
    finally:
        proxy.close()


@pytest.mark.fault(30)
def test_two_lanes_with_one_connection_are_slow_but_right(at_postgres: PostgresPlace) -> None:
    worker = at_postgres.start(MEDIA_CATALOG_POOL="1", MEDIA_CPUS="2")

    at_postgres.check_all_ready(at_postgres.upload("narrow"), worker)


@pytest.mark.fault(30)
def test_a_worker_goes_through_pgbouncer_in_transaction_mode(at_postgres: PostgresPlace) -> None:
    with pgbouncer(at_postgres.server, connections=2) as port:
        worker = at_postgres.start(port, MEDIA_CATALOG_POOLER="1")

        at_postgres.check_all_ready(at_postgres.upload("pooled"), worker)


@pytest.mark.fault(30)
def test_a_worker_leaves_a_server_that_takes_no_writes_any_more(at_postgres: PostgresPlace) -> None:
    with _server_with_catalog() as second:
        asyncio.run(_become_the_same_catalog(at_postgres.server, second))
        worker = at_postgres.start(
            MEDIA_CATALOG_URL=f"postgresql+asyncpg://{USER}:{at_postgres.server.password}@"
            f"127.0.0.1:{at_postgres.server.port},127.0.0.1:{second.port}/{DATABASE}"
            "?target_session_attrs=read-write"
        )
        at_postgres.place.await_end_of(*at_postgres.upload("first", 2))
        asyncio.run(_shut_for_writes(at_postgres.server))

        PostgresPlace(at_postgres.place, second).check_all_ready(at_postgres.upload("second"), worker)


async def _become_the_same_catalog(first: PostgresServer, second: PostgresServer) -> None:
    """What a promoted replica has: the user's password, and the identity of the catalog."""
    await execute(second, f"ALTER ROLE {USER} PASSWORD '{first.password}'")
    second.password = first.password
    connection = await connect(first, DATABASE)
    try:
        identity = await connection.fetchval("SELECT value FROM kv WHERE name = 'id'")
    finally:
        await connection.close()
    await execute(second, f"UPDATE kv SET value = '{identity}' WHERE name = 'id'", DATABASE)


async def _shut_for_writes(server: PostgresServer) -> None:
    await execute(server, "ALTER SYSTEM SET default_transaction_read_only = on")
    await execute(server, "SELECT pg_reload_conf()")

    async def is_shut() -> bool:
        """Whether the server itself has read that, which has then told all connections."""
        connection = await connect(server, DATABASE)
        try:
            return bool(await connection.fetchval("SHOW default_transaction_read_only") == "on")
        finally:
            await connection.close()

    await until(is_shut)
