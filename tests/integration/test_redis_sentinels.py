"""Redis by its Sentinels: they are asked for the primary, and a failover is followed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.processes import free_port
from tests.chaos.own_redis import OwnRedis
from tests.support.fake_redis import FakeRedis, saying
from tests.support.refused_starts import SECRET, refused_at_start, start
from tests.support.sentinels import NAME, PASSWORD, ReplicatedRedis, replicated
from tests.support.tls import CA, OTHER_CA, TlsProxy, make_certificates
from tests.support.workplace import eventually
from worker.doctor.broker import check_redis
from worker.queue import Queue, QueueRefused, QueueUnavailable, connect, job_queue_of, open_queue
from worker.settings import Settings

SIGN_IN = f":{PASSWORD}@"
STREAM = "media:uploads"
Two = tuple[OwnRedis, OwnRedis]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReplicatedRedis]:
    """A primary and a Sentinel; without a replica, the primary stays one however busy the machine is."""
    with replicated(tmp_path_factory.mktemp("watched"), replicas=0) as both:
        yield both


@asynccontextmanager
async def queue_at(url: str) -> AsyncIterator[Queue]:
    client = connect(url, job_queue_of(STREAM))
    try:
        yield Queue(client, STREAM, "me", 1000)
    finally:
        await client.aclose(close_connection_pool=True)


async def test_the_primary_that_a_sentinel_names_is_used(watched: ReplicatedRedis) -> None:
    async with open_queue(Settings(redis_url=watched.url)) as queue:
        info = await queue.server.info()

        assert info.role == "master"
        assert await queue.server.refusal() is None
    [found, *_] = (await check_redis(Settings(redis_url=watched.url))).findings
    assert found.level == "ok"


async def test_a_primary_that_became_a_replica_is_left_by_its_first_answer(two: Two) -> None:
    """No connection broke."""
    former, chosen = two
    async with naming(former) as sentinel, queue_at(sentinel.url) as queue:
        await at_once(queue, 1)
        sentinel.name(chosen)
        former.client.replicaof("127.0.0.1", str(chosen.port))

        await at_once(queue, 2)

    assert chosen.client.get("key") == b"2"


async def test_each_try_of_a_connection_asks_for_the_primary_anew(two: Two) -> None:
    """A failover may take place between two."""
    former, chosen = two
    former.kill()
    async with naming(former) as sentinel, queue_at(sentinel.url) as queue:
        depth = asyncio.create_task(queue.stream.depth())
        await sentinel.asked.wait()
        sentinel.name(chosen)

        assert await depth == 0


async def test_idle_connections_to_a_former_primary_are_closed(two: Two) -> None:
    """It may not know that it is none any more, and would take what is lost with it."""
    former, chosen = two
    async with naming(former) as sentinel, queue_at(sentinel.url) as queue:
        await at_once(queue, 1)
        sentinel.name(chosen)
        former.client.client_kill_filter(_id=str(await queue.redis.client_id()))
        await queue.redis.ping()  # by the connection that was used last, which is the one that broke

        await at_once(queue, 2)

    assert (former.client.get("key"), chosen.client.get("key")) == (b"1", b"2")


async def test_a_connection_that_is_at_work_is_closed_after_its_last_answer(two: Two) -> None:
    former, chosen = two
    async with naming(former) as sentinel, queue_at(sentinel.url) as queue:
        waits = asyncio.create_task(queue.messages.after("0", block_ms=4000))
        await asyncio.to_thread(eventually, lambda: "xread" in str(former.client.client_list()))
        sentinel.name(chosen)
        await queue.redis.ping()  # by a new connection, which asks
        former.client.xadd("media:events", {"event": "{}"})
        assert len(await waits) == 1

        await at_once(queue, 2)

    assert (former.client.get("key"), chosen.client.get("key")) == (None, b"2")


async def test_sentinels_that_are_away_hold_nothing_up(watched: ReplicatedRedis) -> None:
    async def be_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    [up] = watched.sentinels
    async with await asyncio.start_server(be_silent, "127.0.0.1", 0) as silent:
        away = f"127.0.0.1:{free_port()},127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        url = f"redis+sentinel://{SIGN_IN}{away},127.0.0.1:{up.port}/{NAME}/0"
        async with queue_at(url) as queue, asyncio.timeout(6):
            assert await queue.redis.ping()


async def test_the_newest_answer_of_more_than_half_of_them_counts(two: Two) -> None:
    """A Sentinel that was cut off names a former primary: the epoch of its answer is older."""
    former, chosen = two
    async with (
        saying(state(former.port, epoch=1)) as cut_off,
        saying(state(chosen.port, epoch=2)) as one,
        saying(state(chosen.port, epoch=2)) as other,
        queue_at(
            f"redis+sentinel://{SIGN_IN}{cut_off.address},{one.address},{other.address}/{NAME}"
        ) as queue,
    ):
        await at_once(queue, 2)

    assert (former.client.get("key"), chosen.client.get("key")) == (None, b"2")


async def test_no_sentinel_at_all_is_unreachable_and_waited_for() -> None:
    settings = Settings(redis_url=f"redis+sentinel://127.0.0.1:{free_port()}/{NAME}")

    [found] = (await check_redis(settings)).findings
    with pytest.raises(QueueUnavailable) as waits:
        await start(settings)

    assert "no Sentinel names the primary" in found.detail
    assert waits.value.refusal is None


async def test_a_name_that_no_sentinel_knows_is_reported_and_ends_a_worker(watched: ReplicatedRedis) -> None:
    """Also where one of them is away: it would say the same."""
    up = f"127.0.0.1:{watched.sentinels[0].port}"
    for hosts in (up, f"127.0.0.1:{free_port()},{up},{up}"):
        await refused_at_start(f"redis+sentinel://{SIGN_IN}{hosts}/other", "no primary with the name other")


async def test_a_redis_that_is_no_sentinel_is_reported_as_that(watched: ReplicatedRedis) -> None:
    port = watched.servers[0].port

    await refused_at_start(f"redis+sentinel://127.0.0.1:{port}/{NAME}", f"127.0.0.1:{port} is no Sentinel")


@pytest.mark.parametrize(
    "answer",
    [
        b"+OK\r\n",
        b":1\r\n",
        b"*-1\r\n",
        b"$-1\r\n",
        b"*1\r\n$2\r\nip\r\n",
        b"*2\r\n$2\r\nip\r\n$9\r\n127.0.0.1\r\n",
        b"*6\r\n+ip\r\n:1\r\n+port\r\n:2\r\n+config-epoch\r\n:3\r\n",
        b"*6\r\n+ip\r\n+h\r\n+port\r\n+65536\r\n+config-epoch\r\n+1\r\n",
        b"*6\r\n+ip\r\n+\xff\r\n+port\r\n+1\r\n+config-epoch\r\n+1\r\n",
    ],
)
async def test_what_answers_as_no_sentinel_does_is_reported_as_that(answer: bytes) -> None:
    async with (
        saying(b"+OK\r\n", {"SENTINEL": answer}) as fake,
        queue_at(f"redis+sentinel://{fake.address}/{NAME}") as queue,
    ):
        with pytest.raises(QueueRefused, match=f"{fake.address} is no Sentinel"):
            await queue.stream.depth()


async def test_a_sentinel_named_as_the_redis_is_reported_with_the_url_to_write(
    watched: ReplicatedRedis,
) -> None:
    for database in ("0", "1"):
        url = f"redis://127.0.0.1:{watched.sentinels[0].port}/{database}"
        await refused_at_start(url, "redis+sentinel://")


async def test_a_sentinels_own_password_is_an_option(watched: ReplicatedRedis) -> None:
    admin = watched.sentinels[0].client
    admin.execute_command("ACL SETUSER default resetpass", f">{SECRET}")
    try:
        async with queue_at(f"{watched.url}?sentinel_password={SECRET}") as queue:
            assert await queue.redis.ping()
        for wrong in ("", "?sentinel_password=other"):
            await refused_at_start(f"{watched.url}{wrong}", "sentinel_password")
    finally:
        admin.execute_command("ACL SETUSER default nopass")


async def test_a_sentinels_own_user_needs_one_right(watched: ReplicatedRedis) -> None:
    admin = watched.sentinels[0].client
    url = f"{watched.url}?sentinel_username=asking&sentinel_password={SECRET}"
    admin.execute_command("ACL SETUSER asking reset on", f">{SECRET}")
    try:
        await refused_at_start(url, "+sentinel|master")
        admin.execute_command("ACL SETUSER asking +sentinel|master")
        async with queue_at(url) as queue:
            assert await queue.redis.ping()
    finally:
        admin.execute_command("ACL DELUSER asking")


async def test_a_password_before_the_hosts_is_the_primarys(watched: ReplicatedRedis) -> None:
    async with queue_at(watched.url) as queue:
        assert await queue.redis.ping()
    await refused_at_start(watched.url.replace(SIGN_IN, ""), "it requires a password")


async def test_sentinels_and_primary_speak_tls_under_an_authority_of_ones_own(
    watched: ReplicatedRedis, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path)
    with closing(TlsProxy(watched.servers[0].port, certificates)) as primary:
        async with saying(b"+OK\r\n", {"SENTINEL": state(primary.port, epoch=1)}) as fake:
            with closing(TlsProxy(fake.port, certificates)) as sentinel:
                url = f"rediss+sentinel://{SIGN_IN}127.0.0.1:{sentinel.port}/{NAME}/0?ssl_ca_certs="
                async with queue_at(f"{url}{certificates / CA}") as queue:
                    assert await queue.redis.ping()
                await refused_at_start(f"{url}{certificates / OTHER_CA}", "certificate is not trusted")


async def test_a_cancellation_while_a_sentinel_is_asked_is_not_lost() -> None:
    async with saying(None) as silent, queue_at(f"redis+sentinel://{silent.address}/{NAME}") as queue:
        depth = asyncio.create_task(queue.stream.depth())
        await silent.asked.wait()
        depth.cancel()
        for _ in range(50):  # turns of the loop: it does not wait until the Sentinel has had its time
            await asyncio.sleep(0)

        assert depth.cancelled()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """A former primary and the one that was chosen, which nothing connects."""
    former, chosen = (OwnRedis(tmp_path / name, PASSWORD) for name in ("former", "chosen"))
    yield former, chosen
    former.close()
    chosen.close()


@dataclass
class NamingSentinel:
    """What answers as a Sentinel, and names what it was told to."""

    fake: FakeRedis
    answers: dict[str, bytes]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{SIGN_IN}{self.fake.address}/{NAME}"

    @property
    def asked(self) -> asyncio.Event:
        return self.fake.asked

    def name(self, primary: OwnRedis) -> None:
        self.answers["SENTINEL"] = state(primary.port, epoch=1)


@asynccontextmanager
async def naming(primary: OwnRedis) -> AsyncIterator[NamingSentinel]:
    """A Sentinel that names this one, until it is told to name another."""
    answers: dict[str, bytes] = {}
    async with saying(b"+OK\r\n", answers) as fake:
        sentinel = NamingSentinel(fake, answers)
        sentinel.name(primary)
        yield sentinel


async def at_once(queue: Queue, value: int) -> None:
    """Set the key by several connections."""
    await asyncio.gather(*(queue.redis.set("key", value) for _ in range(4)))


def state(port: int, epoch: int) -> bytes:
    """A Sentinel's answer."""
    words = f"ip 127.0.0.1 port {port} flags master config-epoch {epoch}".split()
    return f"*{len(words)}\r\n".encode() + b"".join(f"${len(one)}\r\n{one}\r\n".encode() for one in words)
