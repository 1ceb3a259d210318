"""The limits of uploads on Redis, as apps read them for their forms."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from scripts.redis_server import RedisServer
from tests.support.face import Opening, settings_in
from tests.support.redis_urls import as_user
from worker.domains import parse_domains
from worker.queue import Queue, connect, job_queue_of
from worker.queue.limits import limits_key
from worker.queue.ownership import Ownership
from worker.upload_limits import LimitsPublisher


@pytest.mark.parametrize(
    ("stream", "key"),
    [
        ("media:uploads", "media:limits"),
        ("shop:media:uploads", "shop:media:limits"),
        ("media:uploads:shop", "media:uploads:shop:limits"),
        ("pictures", "pictures:limits"),
        ("uploads", "uploads:limits"),
        (":uploads", ":uploads:limits"),
    ],
)
def test_the_key_of_the_limits_follows_from_the_stream(stream: str, key: str) -> None:
    assert limits_key(stream) == key


async def test_redis_has_the_document_of_the_http_server(
    queue: Queue, opening: Opening, server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_in(tmp_path, server.url, max_pixels=40_000_000, formats="jpeg,png")
    async with opening(max_pixels=40_000_000, formats="jpeg,png") as opened:
        over_http = (await opened.client.get("/v1/limits")).json()
    await LimitsPublisher(settings, queue).publish()

    limits = orjson.loads(await queue.redis.get("media:limits"))
    assert limits == over_http
    assert (limits["max_pixels"], limits["formats"]) == (40_000_000, ["jpeg", "png"])
    assert await queue.redis.ttl("media:limits") == -1


async def test_each_app_with_a_stream_of_its_own_has_them_beside_that(
    queue: Queue, server: RedisServer, tmp_path: Path
) -> None:
    streams = "media:uploads:shop=uploads/shop/,media:uploads:blog=uploads/blog/"
    domains = parse_domains(streams, "media:uploads", "media:events")
    apart = Queue(queue.redis, "media:uploads", "me", 1000, domains=domains)
    await LimitsPublisher(settings_in(tmp_path, server.url), apart).publish()

    keys = ["media:limits", "media:uploads:shop:limits", "media:uploads:blog:limits"]
    assert len({await queue.redis.get(key) for key in keys} - {None}) == 1
    assert apart.limits.keys == keys


async def test_no_stream_of_an_app_is_taken_for_the_place_of_the_limits(queue: Queue) -> None:
    domains = parse_domains("pictures:limits=uploads/a/", "pictures", "told")

    assert Queue(queue.redis, "pictures", "me", 1000, "told", domains=domains).limits.keys == [
        "pictures:limits:limits"
    ]


async def test_a_redis_that_refuses_them_is_logged_once_and_they_are_there_once_it_allows_them(
    queue: Queue, server: RedisServer, tmp_path: Path
) -> None:
    publisher = LimitsPublisher(settings_in(tmp_path, server.url), queue)
    await queue.redis.config_set("maxmemory", 1)
    try:
        with capture_logs() as logged:
            for _ in range(2):
                await publisher.publish()
    finally:
        await queue.redis.config_set("maxmemory", 0)
    await publisher.publish()

    assert [line["event"] for line in logged] == ["limits_not_published"]
    assert await queue.redis.exists("media:limits")


async def test_a_worker_whose_stream_is_another_catalogs_by_now_writes_no_limits(
    queue: Queue, server: RedisServer, tmp_path: Path
) -> None:
    await queue.ownership.bind("the first")
    publisher = LimitsPublisher(settings_in(tmp_path, server.url), queue)
    await publisher.publish()
    await queue.ownership.rebind("another", "the first")
    await queue.redis.set("media:limits", "of another")
    with capture_logs() as logged:
        await publisher.publish()

    assert await queue.redis.get("media:limits") == b"of another"
    assert [line["event"] for line in logged] == ["limits_not_published"]


async def test_a_key_that_may_not_be_written_keeps_the_limits_from_no_other(
    queue: Queue, server: RedisServer, tmp_path: Path
) -> None:
    rights = ("~media:uploads", "~media:uploads:*", "+@all")
    admin: Any = queue.redis
    await admin.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", *rights)
    client = connect(as_user(server.url, "limited", "secret"), job_queue_of("media:uploads"))
    domains = parse_domains("media:uploads:shop=uploads/shop/", "media:uploads", "media:events")
    apart = Queue(client, "media:uploads", "me", 1000, domains=domains)
    publisher = LimitsPublisher(settings_in(tmp_path, server.url), apart)
    with capture_logs() as logged:
        for _ in range(2):
            await publisher.publish()
    await client.aclose(close_connection_pool=True)

    assert await queue.redis.exists("media:uploads:shop:limits")
    assert [(line["event"], line["keys"]) for line in logged] == [("limits_not_published", ["media:limits"])]


class LosesItsStream(Ownership):
    """Another catalog's worker takes the stream between a check and what is done after it."""

    async def check(self, *, lately: bool = False) -> None:
        await super().check(lately=lately)
        if await self.owner() == "the first":
            await self.rebind("another", "the first")
            await self._redis.set("media:limits", "of another")


async def test_a_stream_that_becomes_another_catalogs_after_the_check_keeps_the_limits_of_that(
    queue: Queue, server: RedisServer, tmp_path: Path
) -> None:
    await queue.ownership.bind("the first")
    queue.ownership = LosesItsStream(queue.redis, "media:uploads")
    queue.ownership._catalog_id = "the first"
    with capture_logs() as logged:
        await LimitsPublisher(settings_in(tmp_path, server.url), queue).publish()

    assert await queue.redis.get("media:limits") == b"of another"
    assert [line["event"] for line in logged] == ["limits_not_published"]
