"""A worker that has worked before waits for its catalog, unless no waiting makes the database fit."""

from pathlib import Path

import pytest

from pipelines.sandbox import DECODER
from scripts.redis_server import RedisServer
from storage.catalog import postgres
from storage.catalog.opening import Catalog
from storage.errors import CatalogUnavailable, CatalogUnfit
from worker.lifecycle import start_up
from worker.queue import connect, job_queue_of
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
    with pytest.raises(CatalogUnavailable) as away:
        await start_again(server.url, nobody, tmp_path / "media")

    assert not isinstance(away.value, CatalogUnfit)
