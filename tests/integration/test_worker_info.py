"""What a worker tells operators of itself with each heartbeat: its state, since when, and what fails."""

import asyncio
import os
import socket
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

from pipelines.formats import MIB
from pipelines.recipe import BUILT_IN, digest_of
from scripts.redis_server import RedisServer
from tests.conftest import url_of
from tests.support.stub_worker import STUB
from worker.app import App
from worker.degradation import resident
from worker.health import Check, Health
from worker.lifecycle import shut_down, start_up
from worker.main import worker_settings
from worker.queue import Queue
from worker.queue.heartbeats import WorkerInfo
from worker.settings import Settings
from worker.shutdown import Shutdown
from worker.status import Status


def check_of(problems: list[str]) -> Check:
    async def check() -> str | None:
        return problems[0] if problems else None

    return check


def health_on(queue: Queue, checks: Mapping[str, Check], status: Status) -> Health:
    """The health of a worker that is called `one`."""
    return Health("one", queue, checks, asyncio.Event(), status, lambda: WorkerInfo(host="pictures-1"))


async def told(queue: Queue) -> WorkerInfo:
    [worker] = await queue.heartbeats.reporting()
    assert worker.info is not None
    return worker.info


async def test_a_worker_tells_its_state_and_each_check_that_fails(queue: Queue) -> None:
    catalog, status = ["it is away"], Status()
    health = health_on(queue, {"storage": check_of([]), "catalog": check_of(catalog)}, status)

    await health.announce()
    starting = await told(queue)
    await health.report()
    ill = await told(queue)
    catalog.clear()
    await health.report()
    well = await told(queue)
    status.found_degraded({"space": "90% of its file system are taken"})
    await health.report()

    assert [one.state for one in (starting, ill, well, await told(queue))] == [
        "starting",
        "unhealthy",
        "ok",
        "degraded",
    ]
    assert (ill.failing, well.failing) == (("catalog: it is away",), ())
    assert {one.host for one in (starting, ill, well)} == {"pictures-1"}


async def test_a_worker_tells_for_how_long_it_has_been_in_its_state(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("worker.health.time.monotonic", lambda: now)
    problems: list[str] = []
    health = health_on(queue, {"storage": check_of(problems)}, Status())

    await health.report()
    now += 61
    await health.report()
    lasting = await told(queue)
    problems.append("the disk is gone")
    await health.report()

    assert (lasting.state_s, (await told(queue)).state_s) == (61, 0)


async def test_a_worker_that_works_tells_who_it_is_and_what_its_decoders_have_to_do(
    server: RedisServer, tmp_path: Path
) -> None:
    settings = Settings(
        redis_url=server.url,
        stream="media:telling",
        catalog_url=url_of(tmp_path / "catalog.db"),
        storage_url=f"file:{tmp_path}/media",
        cpus=1,
    )
    options = worker_settings(settings, decoder=STUB)
    ctx = {**options["ctx"], "redis": options["redis_pool"], "shutdown": Shutdown()}
    await start_up(ctx)
    app: App = ctx["app"]
    info = await told(app.queue)
    await shut_down(ctx)
    await options["redis_pool"].aclose(close_connection_pool=True)

    assert (info.host, info.pid, info.version) == (
        socket.gethostname(),
        os.getpid(),
        version("media-worker"),
    )
    assert info.consumer == app.batch.holder  # as the catalog names who works on an upload
    assert (info.decoders, info.busy, info.budget) == (1, 0, settings.budget_mb * MIB)
    assert info.memory is not None
    assert resident() // 2 < info.memory < resident() + 2**30
    assert "pyvips-binary" in (info.decoders_version or "")
    assert info.recipes == digest_of(BUILT_IN)
