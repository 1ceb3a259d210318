"""What Redis refuses, by name and with its remedy, as everything that talks to it hears it."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.exceptions import ResponseError

from scripts.redis_server import RedisServer, temporary_redis
from tests.chaos.own_redis import OwnRedis
from tests.support.redis_urls import as_user
from tests.support.refused_starts import SECRET, refused_at_start, start
from tests.support.workplace import eventually
from worker.doctor.broker import check_redis
from worker.findings import inspect_redis
from worker.queue import Queue, QueueUnavailable, Refusal, ServerInfo, connect, job_queue_of, open_queue
from worker.queue.refusals import refusal_of
from worker.queue.rights import attempts
from worker.settings import Settings

STREAM = "media:uploads"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with temporary_redis() as own:
        yield own


@pytest.fixture
def admin(server: RedisServer) -> Iterator[Any]:
    client: Any = redis.Redis.from_url(server.url)
    yield client
    client.config_set("requirepass", urlsplit(server.url).password)
    client.flushall()
    client.close()


async def refused(url: str) -> Refusal:
    """What a worker is refused there, within the time that it may take to say so."""
    client = connect(url, job_queue_of(STREAM))
    try:
        async with asyncio.timeout(5):
            found = await Queue(client, STREAM, "me", 1000).server.refusal()
    except QueueUnavailable as error:
        found = error.refusal
    finally:
        await client.aclose(close_connection_pool=True)
    assert found is not None
    assert SECRET not in str(found)
    return found


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Queue]:
    client = connect(server.url, job_queue_of(STREAM))
    yield Queue(client, STREAM, "me", 1000)
    await client.aclose(close_connection_pool=True)


async def test_trying_what_a_worker_does_leaves_nothing_behind(queue: Queue, admin: Any) -> None:
    assert await queue.server.refusal() is None
    assert admin.keys() == []

    await queue.stream.make_group()
    await queue.stream.add({"source": "uploads/a.jpg"})
    before = [admin.dump(STREAM), admin.xinfo_consumers(STREAM, "workers"), admin.keys()]

    assert await queue.server.refusal() is None
    assert [admin.dump(STREAM), admin.xinfo_consumers(STREAM, "workers"), admin.keys()] == before


@pytest.mark.parametrize(
    ("user", "answer"),
    [
        ("", "requires a password"),
        (":other@", "password is wrong"),
        ("nobody:other@", "password is wrong"),
        (f"nobody:{SECRET}@", "password is wrong"),
    ],
)
async def test_a_password_that_is_missing_or_wrong_is_reported_at_once(
    server: RedisServer, admin: Any, user: str, answer: str
) -> None:
    admin.config_set("requirepass", SECRET)

    found = await refused(as_user(server.url).replace("//", f"//{user}"))

    assert answer in found.what
    assert "redis://user:password@" in found.remedy
    assert "the user is `default`" in found.remedy


async def test_a_password_for_a_redis_that_has_none_is_reported_as_one(
    server: RedisServer, admin: Any
) -> None:
    admin.config_set("requirepass", "")

    assert "has no password" in (await refused(as_user(server.url, password=SECRET))).what


@pytest.mark.parametrize(
    ("rules", "what", "remedy"),
    [
        ("~media:* +@all", "touch the keys arq:*", "~arq:*"),
        (f"~arq:* ~{STREAM} ~{STREAM}:* +@all", "touch the keys media:events", "~media:events"),
        (f"~arq:* ~{STREAM} ~media:events +@all", f"touch the keys {STREAM}:*", f"~{STREAM}:*"),
        ("~* +@all -xclaim", "run XCLAIM", "+xclaim"),
        ("~* +@all -psetex -zadd", "run ZADD, PSETEX", "+psetex"),
        ("~* +@all -watch", "run WATCH", "+watch"),
        ("~* +@all -ping", "run PING", "+ping"),
        ("~* +@all -xgroup", "run XGROUP CREATE", "+xgroup|create"),
        ("~* -@all +ping", " more", "docs/redis.md"),
        ("~media:events +xread", " more", "docs/redis.md"),
    ],
)
async def test_a_right_that_is_missing_is_named_with_its_rule(
    server: RedisServer, admin: Any, rules: str, what: str, remedy: str
) -> None:
    admin.execute_command(f"ACL SETUSER limited reset on >{SECRET} {rules}")

    found = await refused(as_user(server.url, "limited", SECRET))

    assert what in found.what
    assert remedy in found.remedy
    assert not found.transient


@pytest.mark.parametrize("command", sorted({one.command for one in attempts(STREAM, "media:events")}))
async def test_each_command_of_a_worker_is_named_where_it_alone_may_not_be_run(
    server: RedisServer, admin: Any, command: str
) -> None:
    name = command.lower().replace(" ", "|")
    admin.execute_command(f"ACL SETUSER limited reset on >{SECRET} ~* +@all -{name.partition('|')[0]}")

    found = await refused(as_user(server.url, "limited", SECRET))

    assert f"run {command}" in found.what or f", {command}" in found.what
    assert f"+{name}" in found.remedy.replace(";", "").split()


async def test_a_transaction_that_can_be_begun_but_not_ended_holds_up_no_connection(
    server: RedisServer, admin: Any
) -> None:
    admin.execute_command(f"ACL SETUSER limited reset on >{SECRET} ~* +@all -exec -discard")
    client = connect(as_user(server.url, "limited", SECRET), job_queue_of(STREAM))

    found = await Queue(client, STREAM, "me", 1000).server.refusal()

    assert found is not None
    assert "run EXEC" in found.what
    assert await client.get("nothing") is None
    await client.aclose(close_connection_pool=True)


def test_an_end_of_a_transaction_that_could_not_begin_is_reported_as_the_missing_right() -> None:
    found = refusal_of(ResponseError("EXEC without MULTI"))

    assert found is not None
    assert "+multi" in found.remedy


def own_redis(folder: Path, line: str) -> OwnRedis:
    """One with that line in its configuration."""
    config = folder / "extra.conf"
    config.write_text(line)
    return OwnRedis(folder / "redis", include=str(config))


@pytest.mark.parametrize("slots", [0, 16384])
async def test_a_cluster_is_reported_as_not_supported_and_ends_a_worker(tmp_path: Path, slots: int) -> None:
    server = own_redis(tmp_path, "cluster-enabled yes")
    if slots:
        client: Any = server.client
        client.execute_command("CLUSTER", "ADDSLOTS", *range(slots))
        eventually(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")

    for database in ("0", "1"):
        url = server.url.replace("/0", f"/{database}")
        await refused_at_start(url, "cluster mode, which is not supported")

    server.close()


async def test_a_command_that_was_renamed_is_named(tmp_path: Path) -> None:
    server = own_redis(tmp_path, "rename-command XADD something-else")

    found = await refused(server.url)

    server.close()
    assert "no command XADD" in found.what
    assert "rename-command" in found.remedy


async def test_a_redis_without_info_config_and_scan_is_good_enough(tmp_path: Path) -> None:
    server = own_redis(
        tmp_path, "".join(f'rename-command {name} ""\n' for name in ("CONFIG", "SCAN", "KEYS"))
    )
    client = connect(server.url, job_queue_of(STREAM))

    assert await Queue(client, STREAM, "me", 1000).server.refusal() is None

    await client.aclose(close_connection_pool=True)
    server.close()


async def test_what_redis_says_of_itself_may_be_missing(server: RedisServer, admin: Any) -> None:
    admin.execute_command(f"ACL SETUSER limited reset on >{SECRET} ~* +@all -info -config -xinfo -time")
    client = connect(as_user(server.url, "limited", SECRET), job_queue_of(STREAM))
    queue = Queue(client, STREAM, "me", 1000)
    await queue.stream.make_group()
    await queue.stream.add({"source": "uploads/a.jpg"})

    info = await queue.server.info()
    await queue.stream.forget_consumers(0)

    assert await queue.server.refusal() is None
    assert info == ServerInfo(None, None, None, None, None, 0)
    assert {finding.level for finding in inspect_redis(info)} == {"ok"}
    assert await queue.stream.oldest_age_s() == 0
    await client.aclose(close_connection_pool=True)


async def test_what_is_no_redis_is_reported_as_that() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as web:
        found = await refused(f"redis://127.0.0.1:{web.sockets[0].getsockname()[1]}/0")

    assert "does not speak Redis' protocol" in found.what


async def test_a_database_that_is_not_there_is_reported_as_that(server: RedisServer) -> None:
    assert "no database of that number" in (await refused(server.url.replace("/0", "/99"))).what


@pytest.mark.parametrize("key", [STREAM, "media:events"])
async def test_a_stream_that_is_none_is_named_by_its_key(server: RedisServer, admin: Any, key: str) -> None:
    admin.lpush(key, "something of another program")

    assert f"the key {key} is no stream" in (await refused(server.url)).what


async def test_a_full_redis_and_a_replica_are_reported_as_what_passes(
    server: RedisServer, admin: Any
) -> None:
    admin.config_set("maxmemory", 1)
    full = await refused(server.url)
    admin.config_set("maxmemory", 0)
    admin.replicaof("127.0.0.1", "1")
    replica = await refused(server.url)
    admin.replicaof("NO", "ONE")

    assert "maxmemory" in full.what
    assert "replica" in replica.what
    assert full.transient
    assert replica.transient


@pytest.mark.parametrize(
    "options", ["?protocol=3", "?decode_responses=True&protocol=3", "?socket_timeout=0.001"]
)
async def test_what_a_shared_url_says_of_a_client_is_not_this_ones(
    queue: Queue, options: str, server: RedisServer
) -> None:
    client = connect(server.url + options, job_queue_of(STREAM))
    shared = Queue(client, STREAM, "me", 1000)
    await shared.stream.make_group()
    await queue.stream.add({"source": "uploads/a.jpg"})

    [entry] = await shared.stream.read(10, 1000)

    await client.aclose(close_connection_pool=True)
    assert entry.event == b'{"source":"uploads/a.jpg"}'


async def test_a_redis_that_nobody_runs_is_away_and_refuses_nothing(free_port: int) -> None:
    client = connect(f"redis://127.0.0.1:{free_port}/0", job_queue_of(STREAM))

    with pytest.raises(QueueUnavailable) as away:
        await Queue(client, STREAM, "me", 1000).server.refusal()

    await client.aclose(close_connection_pool=True)
    assert away.value.refusal is None


async def test_every_part_of_the_queue_raises_its_own_error_where_nobody_runs_a_redis(free_port: int) -> None:
    client = connect(f"redis://127.0.0.1:{free_port}/0", job_queue_of(STREAM))
    queue = Queue(client, STREAM, "me", 1000)

    ends = await asyncio.gather(
        queue.stream.depth(),
        queue.jobs.waiting(),
        queue.messages.last_id(),
        queue.ownership.owner(),
        queue.server.info(),
        queue.heartbeats.living(),
        return_exceptions=True,
    )

    await client.aclose(close_connection_pool=True)
    assert {type(end) for end in ends} == {QueueUnavailable}


@pytest.mark.parametrize(
    ("scheme", "other"),
    [("redis", "rediss"), ("rediss", "redis"), ("redis+sentinel", "rediss+sentinel")],
)
async def test_what_accepts_and_never_answers_is_reported_within_seconds_with_the_other_scheme(
    scheme: str, other: str
) -> None:
    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as silent:
        address = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        settings = Settings(redis_url=f"{scheme}://{address}/0")
        async with asyncio.timeout(10):
            looked, worker, command = await asyncio.gather(
                check_redis(settings), start(settings), ping_through(settings), return_exceptions=True
            )

    assert not isinstance(looked, BaseException)
    for answer in (looked.findings[0].detail, str(worker), str(command)):
        assert f"{other}://" in answer


@pytest.mark.parametrize(
    ("code", "remedy"), [(62, "name in the certificate"), (64, "name in the certificate")]
)
def test_a_certificate_of_another_name_is_reported_as_that_and_not_as_an_unknown_authority(
    code: int, remedy: str
) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code, error.verify_message = code, "Hostname mismatch"

    found = refusal_of(error)

    assert found is not None
    assert remedy in found.remedy
    assert "ssl_ca_certs" not in str(found)


async def ping_through(settings: Settings) -> None:
    async with asyncio.timeout(5), open_queue(settings):
        pass


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_refused_command_is_refused_alike_alone_and_in_a_pipeline(
    server: RedisServer, admin: Any
) -> None:
    """The log has a refusal once, however it was met."""
    admin.config_set("min-replicas-to-write", "1")
    client: Any = connect(server.url, job_queue_of(STREAM))
    try:
        with pytest.raises(ResponseError) as alone:
            await client.set("key", "value")
        with pytest.raises(ResponseError) as in_pipeline:
            await client.pipeline().set("key", "value").execute()
    finally:
        await client.aclose(close_connection_pool=True)
        admin.config_set("min-replicas-to-write", "0")

    assert str(refusal_of(alone.value)) == str(refusal_of(in_pipeline.value))
    assert ".. " not in str(refusal_of(alone.value))
