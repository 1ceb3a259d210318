"""A Redis that refuses: `media doctor` reports it, and a worker that starts ends with it."""

import pytest

from worker.doctor.broker import check_redis
from worker.lifecycle import start_up
from worker.queue import connect, job_queue_of
from worker.settings import Settings
from worker.shutdown import Shutdown

SECRET = "hunter2"
"""The password of tests, which no message may show."""


async def refused_at_start(url: str, words: str) -> None:
    """Check that doctor reports `words`, and that a worker ends."""
    settings = Settings(redis_url=url)
    [found] = (await check_redis(settings)).findings
    with pytest.raises(SystemExit):
        await start(settings)

    assert found.level == "error"
    assert words in f"{found.detail}. {found.advice}"
    assert SECRET not in str(found)


async def start(settings: Settings) -> None:
    """Start a worker, which does not come further than its Redis."""
    client = connect(settings.redis_url, job_queue_of(settings.stream))
    ctx = {"settings": settings, "redis": client, "instance": "me", "burst": False}
    try:
        await start_up({**ctx, "shutdown": Shutdown()})
    finally:
        await client.aclose(close_connection_pool=True)
