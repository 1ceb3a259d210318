"""What a Redis, or what stands at its port, may say instead of working: each by name, with the remedy."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import DataError

from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog
from tests.support.commands import forked
from tests.support.fake_redis import saying
from worker.doctor.broker import check_redis
from worker.doctor.rows import check_catalog
from worker.lifecycle import start_up
from worker.queue import (
    Queue,
    QueueRefused,
    QueueUnavailable,
    check_answers,
    connect,
    job_queue_of,
    open_queue,
)
from worker.settings import Settings
from worker.shutdown import Shutdown
from worker.status import Status

STREAM = "media:uploads"
PONG = {"PING": b"+PONG\r\n", "CLIENT": b"+OK\r\n"}
SENTINEL = {**PONG, "INFO": b"$23\r\nredis_mode:sentinel\r\nx:1\r\n"}

# What is said, to which commands something else, whether the connection is closed; the report and its remedy.
SAYS: Mapping[str, tuple[bytes, Mapping[str, bytes], bool, str, str]] = {
    "loading": (b"-LOADING Redis is loading the dataset in memory\r\n", {}, False, "loading", "Wait"),
    "loading Valkey": (b"-LOADING Valkey is loading the dataset in memory\r\n", {}, False, "loading", "Wait"),
    "clients": (b"-ERR max number of clients reached\r\n", {}, True, "reached `maxclients`", "maxclients"),
    "busy": (
        b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n",
        {},
        False,
        "busy with a script",
        "SCRIPT KILL",
    ),
    "busy after PING": (b"-BUSY Redis is busy running a module command.\r\n", PONG, False, "busy", "Wait"),
    "master down": (
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        PONG,
        False,
        "lost its primary",
        "MEDIA_REDIS_URL at the primary",
    ),
    "no replicas": (b"-NOREPLICAS Not enough good replicas to write.\r\n", PONG, False, "no writes", "log"),
    "a proxy": (b"-upstream failure\r\n", {}, False, "upstream failure", "proxy"),
    "a limit": (b"-ERR max daily request limit exceeded.\r\n", PONG, False, "daily request limit", "log"),
    "protected": (
        b"-DENIED Redis is running in protected mode because protected mode is enabled and\r\n",
        {},
        True,
        "protected mode",
        "password",
    ),
    "sentinel": (
        b"-ERR unknown command 'X', with args beginning with: \r\n",
        SENTINEL,
        False,
        "Sentinel",
        "",
    ),
    "memcached": (b"ERROR\r\n", {}, False, "does not speak Redis' protocol", "host and port"),
    "web": (b"HTTP/1.1 400 Bad Request\r\n\r\n", {}, True, "does not speak Redis' protocol", "port"),
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", {}, False, "does not speak Redis' protocol", "port"),
}
STAYS = {"protected", "sentinel", "memcached", "web", "ssh"}


@pytest.fixture(params=SAYS)
async def said(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Settings, str, str, bool]]:
    """Settings for what says that, the words of the report, and whether it may pass."""
    answer, others, closes, what, remedy = SAYS[request.param]
    async with saying(answer, others, closes=closes) as fake:
        yield Settings(redis_url=fake.url), what, remedy, request.param not in STAYS


Said = tuple[Settings, str, str, bool]


async def test_doctor_names_it_with_its_remedy(said: Said) -> None:
    settings, what, remedy, _ = said

    found = (await check_redis(settings)).findings[0]

    assert found.level == "error"
    assert what in found.detail
    assert remedy in (found.advice or "")
    assert "rediss://" not in str(found)


async def test_a_worker_ends_at_start_or_waits_where_it_may_pass(
    said: Said, capfd: pytest.CaptureFixture[str]
) -> None:
    settings, what, _, transient = said
    client = connect(settings.redis_url, job_queue_of(STREAM))
    ctx = {"settings": settings, "redis": client, "instance": "me"}

    with pytest.raises(QueueUnavailable if transient else SystemExit) as ended:
        await start_up({**ctx, "shutdown": Shutdown(), "status": Status()})

    await client.aclose(close_connection_pool=True)
    if transient:
        assert isinstance(ended.value, QueueUnavailable)
        assert what in ended.value.explain()
        assert getattr(ended.value.refusal, "transient", False)


async def test_the_health_check_names_it(said: Said, tmp_path: Path) -> None:
    settings, what, _, _ = said

    ended = await asyncio.to_thread(
        forked,
        ["arq", "worker.main.WorkerSettings", "--check"],
        {"MEDIA_REDIS_URL": settings.redis_url},
        tmp_path,
    )

    assert ended.returncode == 1
    assert "Health check failed: " in ended.stderr
    assert what in ended.stderr


async def test_a_sentinel_is_reported_as_one_also_where_the_url_names_a_database() -> None:
    async with saying(b"-ERR unknown command 'SELECT', with args beginning with: \r\n", PONG) as fake:
        [found] = (await check_redis(Settings(redis_url=fake.url.replace("/0", "/1")))).findings

    assert "Sentinel" in found.detail


async def test_a_port_that_closes_each_connection_is_reported_with_the_other_scheme() -> None:
    async with saying(b"", closes=True) as fake:
        [found] = (await check_redis(Settings(redis_url=fake.url))).findings

    assert "closes" in found.detail
    assert "rediss://" in found.detail


async def test_a_redis_that_has_answered_before_is_not_taken_for_one_by_another_scheme() -> None:
    async with saying(b"", closes=True) as fake:
        client = connect(fake.url, job_queue_of(STREAM))
        with pytest.raises(QueueUnavailable, match="closes each connection") as caught:
            await check_answers(client, fake.url, answered=True)
        await client.aclose(close_connection_pool=True)

    assert "rediss://" not in str(caught.value)


def test_what_says_itself_that_redis_does_not_answer_is_told_once() -> None:
    said = [QueueUnavailable(reason).explain() for reason in ("Redis does not answer", "refused.")]

    assert said == ["Redis does not answer", "Redis does not answer: refused"]


async def test_a_redis_that_is_loading_for_a_moment_is_not_reported_at_all() -> None:
    answers = {"PING": b"-LOADING Redis is loading the dataset in memory\r\n"}

    async with saying(b"+OK\r\n", answers) as fake:
        asyncio.get_running_loop().call_later(0.05, answers.update, {"PING": b"+PONG\r\n"})
        async with open_queue(Settings(redis_url=fake.url)):
            pass


async def test_a_redis_that_takes_no_more_clients_is_reported_at_once(
    queue: Queue, server: RedisServer
) -> None:
    await queue.redis.ping()
    before: Any = await queue.redis.config_get("maxclients")
    await queue.redis.config_set("maxclients", 1)

    [found] = (await check_redis(Settings(redis_url=server.url))).findings

    await queue.redis.config_set("maxclients", before["maxclients"])
    assert "reached `maxclients`" in found.detail


@pytest.mark.parametrize("answers", [{}, PONG], ids=["from the start", "after its first answer"])
async def test_doctor_asks_a_redis_that_hangs_no_second_time(
    answers: Mapping[str, bytes], catalog_url: str, catalog: Catalog, root: Path
) -> None:
    async with saying(None, answers) as fake, asyncio.timeout(20):
        settings = Settings(redis_url=fake.url, catalog_url=catalog_url, storage_url=f"file:{root}")
        redis = await check_redis(settings)
        after = [found.what async for found in check_catalog(settings, redis)]

    assert "Catalog" in after
    assert fake.connections == 1
    [found] = redis.findings
    assert "does not answer" in found.detail
    assert found.advice


JOB = b"*2\r\n$32\r\n" + b"a" * 32 + b"\r\n$1\r\n1\r\n"


@pytest.mark.parametrize("answer", [{}, {"ZRANGE": JOB}], ids=["no jobs", "no payload"])
async def test_jobs_that_a_busy_redis_does_not_show_are_not_taken_for_unreadable_ones(
    answer: Mapping[str, bytes],
) -> None:
    async with (
        saying(SAYS["busy"][0], {**PONG, **answer}) as fake,
        open_queue(Settings(redis_url=fake.url)) as queue,
    ):
        with pytest.raises(QueueRefused, match="busy"):
            await queue.jobs.queues.remove_corrupt()

    assert not {"DEL", "ZREM", "MULTI"} & set(fake.commands)


async def test_what_no_command_can_have_is_an_error_of_the_client_as_others_are(queue: Queue) -> None:
    with pytest.raises(DataError):
        await queue.redis.set("key", None)  # type: ignore[arg-type]
