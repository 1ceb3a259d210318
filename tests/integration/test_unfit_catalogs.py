"""A catalog that cannot be used: a worker waits for it, or ends, and `media doctor` says why."""

import asyncio
import os
from pathlib import Path

import pytest
from sqlalchemy import make_url

from pipelines.sandbox import DECODER
from scripts.postgres_server import PostgresServer
from scripts.redis_server import RedisServer
from storage.catalog import postgres
from storage.catalog.opening import Catalog, open_catalog
from storage.errors import CatalogUnfit
from tests.support.polling import until
from tests.support.postgres import execute
from worker.doctor.rows import check_catalog
from worker.findings import Finding
from worker.lifecycle import start_up
from worker.queue import connect, job_queue_of, open_queue
from worker.settings import Settings
from worker.shutdown import Shutdown


@pytest.fixture
def database_kind() -> str:
    return "postgres"


async def start_again(redis_url: str, catalog_url: str, root: Path) -> None:
    settings = Settings(redis_url=redis_url, catalog_url=catalog_url, storage_url=f"file:{root}")
    client = connect(redis_url, job_queue_of(settings.stream))
    worker = {"settings": settings, "redis": client, "instance": "me", "shutdown": Shutdown()}
    try:
        await start_up({**worker, "decoder": DECODER, "burst": False, "worked_before": True})
    finally:
        await client.aclose(close_connection_pool=True)


async def test_a_worker_ends_where_its_database_is_unfit_by_now(
    catalog: Catalog,
    catalog_url: str,
    server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres, "OLDEST", 99)
    with pytest.raises(SystemExit) as ended:
        await start_again(server.url, catalog_url, tmp_path / "media")

    assert isinstance(ended.value.__cause__, CatalogUnfit)


async def test_a_worker_waits_for_a_database_that_does_not_answer(
    server: RedisServer, tmp_path: Path
) -> None:
    nobody = "postgresql+asyncpg://media@127.0.0.1:1/media"
    async with open_queue(Settings(redis_url=server.url)) as queue:

        async def says_so() -> bool:
            return [beat.healthy for beat in await queue.heartbeats.living()] == [False]

        starting = asyncio.create_task(start_again(server.url, nobody, tmp_path / "media"))
        await until(says_so)
        [worker] = await queue.heartbeats.reporting()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

        assert await queue.heartbeats.living() == []
    assert worker.info is not None
    assert (worker.info.state, worker.info.pid) == ("starting", os.getpid())


async def doctor(catalog_url: str, root: Path) -> Finding:
    """What is said of the catalog there."""
    settings = Settings(catalog_url=catalog_url, storage_url=f"file:{root}")
    [found] = [each async for each in check_catalog(settings) if each.what == "Catalog"]
    return found


async def test_the_doctor_is_well_where_a_worker_can_make_a_catalog_and_makes_none(
    postgres_url: str, tmp_path: Path
) -> None:
    found = [await doctor(postgres_url, tmp_path) for _ in range(2)]

    assert [(each.level, "has no tables yet" in each.detail) for each in found] == [("ok", True)] * 2


async def test_the_doctor_names_an_empty_database_where_a_worker_may_make_no_tables(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    url = make_url(postgres_url)
    await execute(postgres_server, "DROP ROLE IF EXISTS guest")
    await execute(postgres_server, "CREATE ROLE guest LOGIN PASSWORD 'secret'")
    await execute(postgres_server, "REVOKE CREATE ON SCHEMA public FROM public", str(url.database))
    as_guest = url.set(username="guest", password="secret").render_as_string(hide_password=False)
    found = await doctor(as_guest, tmp_path)

    assert found.level == "error"
    assert "permission denied for schema public" in found.detail
    assert "OWNER TO" in found.detail


@pytest.mark.parametrize("used", [False, True])
async def test_the_doctor_names_a_server_that_takes_no_writes(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path, *, used: bool
) -> None:
    if used:
        async with open_catalog(postgres_url):
            pass
    read_only = f"ALTER DATABASE {make_url(postgres_url).database} SET default_transaction_read_only = on"
    await execute(postgres_server, read_only)
    found = await doctor(postgres_url, tmp_path)

    assert found.level == "error"
    assert "takes no writes" in found.detail


async def test_the_doctor_names_a_table_that_is_gone(
    catalog: Catalog, catalog_url: str, tmp_path: Path
) -> None:
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("DROP TABLE uploads, variants CASCADE")

    found = await doctor(catalog_url, tmp_path)
    assert found.level == "error"
    assert "tables are gone: restore a backup (media restore)" in found.detail
