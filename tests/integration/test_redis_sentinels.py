"""A primary whose address real Sentinels tell, and that changes while a client is connected to it."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import pytest
import redis

from scripts.processes import free_port
from scripts.redis_server import find_executable
from tests.chaos.own_redis import OwnRedis
from tests.support.workplace import eventually
from worker.queue import QueueUnavailable, check_answers, connect, job_queue_of

NAME = "media"


def follow(server: OwnRedis, *primary: str | int) -> None:
    client: Any = server.client
    client.execute_command("REPLICAOF", *primary)


class ReplicatedRedis:
    """One Sentinel, and a primary and its replica; a second Sentinel of the URL is down."""

    def __init__(self, folder: Path) -> None:
        self.primary = OwnRedis(folder / "primary")
        self.replica = OwnRedis(folder / "replica")
        follow(self.replica, "127.0.0.1", self.primary.port)
        port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(f"port {port}\nbind 127.0.0.1\ndir {folder}\n")
        self._process = Popen([find_executable(), str(config), "--sentinel"], stdout=DEVNULL)
        self.client: Any = redis.Redis(port=port, socket_timeout=5)
        eventually(self._answers)
        self.monitor(self.primary)
        self.hosts = f"127.0.0.1:{free_port()},127.0.0.1:{port}"
        self.url = f"redis+sentinel://{self.hosts}/{NAME}/0"

    def monitor(self, server: OwnRedis) -> None:
        self.client.execute_command("SENTINEL MONITOR", NAME, "127.0.0.1", server.port, 1)
        self.client.execute_command("SENTINEL SET", NAME, "down-after-milliseconds", 500)

    def swap(self) -> None:
        """Make the replica the primary and the other way round, and close no connection of a client."""
        self.client.execute_command("SENTINEL REMOVE", NAME)
        follow(self.replica, "NO", "ONE")
        follow(self.primary, "127.0.0.1", self.replica.port)
        self.monitor(self.replica)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self.client.close()
        self.replica.close()
        self.primary.close()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[ReplicatedRedis]:
    with closing(ReplicatedRedis(tmp_path)) as found:
        yield found


async def test_the_primary_is_found_though_the_first_sentinel_is_down(sentinels: ReplicatedRedis) -> None:
    client = connect(sentinels.url, job_queue_of("media:uploads"))

    await check_answers(client, sentinels.url)
    await client.set("a", "1")

    await client.aclose(close_connection_pool=True)
    assert sentinels.primary.client.get("a") == b"1"


async def test_a_client_goes_on_at_the_new_primary_where_the_old_one_lives_on_as_a_replica(
    sentinels: ReplicatedRedis,
) -> None:
    client = connect(sentinels.url, job_queue_of("media:uploads"))
    await client.set("a", "1")
    await asyncio.to_thread(sentinels.swap)

    await client.set("a", "2")

    await client.aclose(close_connection_pool=True)
    assert sentinels.replica.client.get("a") == b"2"


async def test_a_name_that_no_sentinel_knows_is_an_outage_that_says_so(sentinels: ReplicatedRedis) -> None:
    url = f"redis+sentinel://{sentinels.hosts}/other"
    client = connect(url, job_queue_of("media:uploads"))

    with pytest.raises(QueueUnavailable, match="No master found for 'other'"):
        await check_answers(client, url)

    await client.aclose(close_connection_pool=True)
