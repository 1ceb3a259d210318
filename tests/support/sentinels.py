"""A primary, replicas and Sentinels, all real: if the primary is killed, the Sentinels choose another."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from subprocess import DEVNULL
from typing import Any

import redis

from scripts.processes import free_port, launch
from scripts.redis_server import find_executable
from tests.chaos.own_redis import OwnRedis
from tests.support.workplace import eventually

NAME = "main"
PASSWORD = token_hex(16)  # of primary and replicas; a Sentinel has nothing that needs one
DOWN_MS = 1000  # after which a Sentinel takes a primary for down: a busy machine must not look like one
FAILOVER_S = 30.0


class Sentinel:
    """One Sentinel; it writes what it learns into its configuration."""

    def __init__(self, folder: Path, primary: int, quorum: int) -> None:
        folder.mkdir(parents=True)
        self.port = free_port()
        config = folder / "sentinel.conf"
        own = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {folder}",
            f"logfile {folder}/log",
            f"sentinel monitor {NAME} 127.0.0.1 {primary} {quorum}",
            f"sentinel auth-pass {NAME} {PASSWORD}",
            f"sentinel down-after-milliseconds {NAME} {DOWN_MS}",
            f"sentinel failover-timeout {NAME} 3000",
        ]
        config.write_text("\n".join(own) + "\n")
        self.process = launch([str(find_executable()), str(config), "--sentinel"], DEVNULL)
        self.client: Any = redis.Redis(port=self.port, socket_timeout=5)

    def answers(self) -> bool:
        """Whether it is up."""
        assert self.process.poll() is None, "the Sentinel has ended"
        with suppress(redis.ConnectionError):
            return bool(self.client.ping())
        return False

    def knows(self, replicas: int, others: int) -> bool:
        """Whether it can carry out a failover."""
        state = self.client.sentinel_master(NAME)
        good = [one for one in self.client.sentinel_slaves(NAME) if one["master-link-status"] == "ok"]
        return bool(len(good) == replicas and state["num-other-sentinels"] == others)

    def primary(self) -> int:
        """The primary's port."""
        return int(self.client.sentinel_get_master_addr_by_name(NAME)[1])

    def close(self) -> None:
        """SIGKILL."""
        self.client.close()
        self.process.kill()
        self.process.wait()


class ReplicatedRedis:
    """A primary, its replicas, and the Sentinels that watch them."""

    def __init__(self, servers: Sequence[OwnRedis], sentinels: Sequence[Sentinel]) -> None:
        self.servers = servers
        self.sentinels = sentinels
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in sentinels)
        self.url = f"redis+sentinel://:{PASSWORD}@{hosts}/{NAME}/0"

    @property
    def primary(self) -> OwnRedis:
        """What every Sentinel takes for the primary."""
        eventually(lambda: len({one.primary() for one in self.sentinels}) == 1, FAILOVER_S)
        return next(server for server in self.servers if server.port == self.sentinels[0].primary())

    def fail_over(self) -> OwnRedis:
        """Kill the primary; returns the one that the Sentinels have made of a replica.

        What the primary has acknowledged is with its replicas by then: replication is asynchronous, and the
        test is not to depend on how much that loses.
        """
        killed = self.primary
        killed.client.client_pause(60_000, all=False)
        eventually(lambda: all(_has_all_of(one, killed) for one in self.servers))
        killed.kill()
        eventually(lambda: self.primary is not killed, FAILOVER_S)
        chosen = self.primary
        eventually(lambda: _replication(chosen)["role"] == "master")
        return chosen


@contextmanager
def replicated(folder: Path, replicas: int = 1, sentinels: int = 1) -> Iterator[ReplicatedRedis]:
    """Start them all, and wait until the Sentinels know of the replicas and of each other."""
    with ExitStack() as stack:
        servers = [OwnRedis(folder / f"redis-{number}", PASSWORD) for number in range(1 + replicas)]
        for server in servers:
            stack.callback(server.close)
        _replicate(servers)
        watching: list[Sentinel] = []
        for number in range(sentinels):
            home, quorum = folder / f"sentinel-{number}", sentinels // 2 + 1
            watching.append(Sentinel(home, servers[0].port, quorum))
            stack.callback(watching[-1].close)
        _until_each(watching, lambda one: one.answers())
        _until_each(watching, lambda one: one.knows(replicas, sentinels - 1))
        yield ReplicatedRedis(servers, watching)


def _replicate(servers: Sequence[OwnRedis]) -> None:
    primary, *replicas = servers
    primary.client.config_set("repl-diskless-sync-delay", 0)
    for replica in replicas:
        replica.client.replicaof("127.0.0.1", str(primary.port))
    for replica in replicas:
        eventually(partial(_follows, replica))


def _has_all_of(server: OwnRedis, primary: OwnRedis) -> bool:
    offset = "master_repl_offset"
    return bool(_replication(server)[offset] >= _replication(primary)[offset])


def _follows(replica: OwnRedis) -> bool:
    return bool(_replication(replica)["master_link_status"] == "up")


def _until_each(watching: Sequence[Sentinel], holds: Callable[[Sentinel], bool]) -> None:
    for one in watching:
        eventually(partial(holds, one), FAILOVER_S)


def _replication(server: OwnRedis) -> dict[str, Any]:
    found: Any = server.client.info("replication")
    return dict(found)
