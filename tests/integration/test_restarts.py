"""What a worker that starts anew after an outage keeps of the start before."""

import weakref
from pathlib import Path

import pytest
from sqlalchemy import Engine

from scripts.redis_server import RedisServer
from tests.conftest import url_of
from tests.support.clients import WITH_SERVICES
from tests.support.stub_worker import STUB
from worker.lifecycle import shut_down, start_up
from worker.main import worker_settings
from worker.settings import Settings
from worker.shutdown import Shutdown


@WITH_SERVICES
async def test_a_worker_that_starts_anew_keeps_no_catalog_of_the_start_before(
    server: RedisServer, tmp_path: Path
) -> None:
    settings = Settings(
        redis_url=server.url,
        catalog_url=url_of(tmp_path / "catalog.db"),
        storage_url=f"file:{tmp_path}/media",
        cpus=1,
    )
    before, _ = [await _catalog_of_a_start(settings) for _ in range(2)]

    assert before() is None


async def test_a_storage_that_is_sealed_while_a_worker_starts_ends_it(
    server: RedisServer, tmp_path: Path
) -> None:
    settings = Settings(
        redis_url=server.url,
        stream="media:sealed",
        catalog_url=url_of(tmp_path / "catalog.db"),
        storage_url=f"file:{tmp_path}/media",
        cpus=1,
    )
    marker = tmp_path / "media/.media-root.json"
    sealing = rf"""sed -i 's/"\([0-9a-f-]\{{36\}}\)"/"\1 (moves to file:new)"/' {marker}"""
    options = worker_settings(settings, decoder=("sh", "-c", f'{sealing}; exec "$@"', "sh", *STUB))
    ctx = {**options["ctx"], "redis": options["redis_pool"], "shutdown": Shutdown()}

    with pytest.raises(SystemExit) as ended:
        await start_up(ctx)

    assert "moves to file:new" in str(ended.value.__cause__)
    assert await ctx["app"].queue.heartbeats.living() == []
    await shut_down(ctx)
    await options["redis_pool"].aclose(close_connection_pool=True)


async def _catalog_of_a_start(settings: Settings) -> weakref.ref[Engine]:
    options = worker_settings(settings, decoder=STUB)
    ctx = {**options["ctx"], "redis": options["redis_pool"], "shutdown": Shutdown()}
    await start_up(ctx)
    found = weakref.ref(ctx["app"].catalog.database._engine.sync_engine)  # which is in cycles
    await shut_down(ctx)
    await options["redis_pool"].aclose(close_connection_pool=True)
    return found
