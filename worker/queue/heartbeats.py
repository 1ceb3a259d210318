"""Heartbeats: which workers live on a stream, where, and how each of them is.

Each process has a key of its own, which ends when it is silent; what only operators read of it is in a second
one, because workers read the first of all others often. A sorted set has the names of all of them, so that
nobody needs a SCAN. Three replicas may share a host name and a PID; what a health check shares with the
worker that it is run beside is the kernel's boot, the PID namespace and the root folder.

Containers that share the host's or a pod's PID namespace have root folders of their own. The mount namespace
or the cgroup would distinguish them too, but also a check on the host from a worker whose unit gives it a
private /tmp, or any cgroup; its root is still the host's. A worker with another root (RootDirectory=,
RootImage=, a chroot) is found from there. Containers on one and the same root folder cannot be distinguished.
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import orjson
from arq.connections import ArqRedis
from arq.utils import timestamp_ms
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import ResponseError

from worker.queue.mapping import maps_errors
from worker.queue.replies import ReplyTooLarge

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PID_NAMESPACE = "/proc/self/ns/pid"
_NO_TIME_MS = 2**53  # nobody's clock says so
_INDEX_KEPT_S = 3600  # without any heartbeat
# Of the expiry. In less no heartbeat has expired in an outage of Redis, and after it all workers send theirs.
_LONG = 2 / 3


def place() -> str:
    """What all processes of this container or host share; its name where the kernel has no such numbers."""
    with suppress(OSError):
        boot = _BOOT_ID.read_text().strip().replace("-", "")
        root = os.stat("/")
        return f"{boot}-{os.stat(_PID_NAMESPACE).st_ino}-{root.st_dev:x}-{root.st_ino:x}"
    return socket.gethostname()


def new_instance() -> str:
    """A name for this process as a worker, which no other has or had."""
    return f"{place()}:{os.getpid()}:{uuid4().hex[:8]}"


@dataclass(frozen=True)
class Heartbeat:
    """The last heartbeat of a worker: whether it is healthy, and how much waits or what is wrong.

    `degraded` is what needs somebody although the worker works.
    """

    instance: str
    healthy: bool
    detail: str
    degraded: tuple[str, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether it came from this container, or from this host."""
        return self.instance.startswith(f"{place()}:")

    @property
    def is_of_ended_process(self) -> bool:
        """Whether it came from a process of this container or host that is gone: its key outlasts it."""
        return has_ended(self.instance)


Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]


class WorkerInfo(BaseModel):
    """What a worker tells operators of itself; None is what it did not say, as one of another version.

    Times are durations, in seconds until it was said: no two hosts need have the same clock.
    """

    model_config = ConfigDict(frozen=True)

    state: str | None = None  # a word of `worker.status`
    state_s: Int64 | None = None
    """For how long it has been in that state."""
    failing: tuple[str, ...] = ()
    """Its checks that fail, each with its reason."""
    host: str | None = None
    pid: Int64 | None = None
    consumer: str | None = None
    """Its name as the holder of claims."""
    version: str | None = None
    decoders_version: str | None = None
    recipes: str | None = None
    """The digest of the recipes that it has read at its start."""
    up_s: Int64 | None = None
    decoders: Int64 | None = None
    busy: Int64 | None = None
    """Decoders at work."""
    memory: Int64 | None = None
    """Bytes that all its processes have."""
    budget: Int64 | None = None


@dataclass(frozen=True)
class ReportingWorker:
    """A living worker: its last heartbeat, and what it told with it; None: it told nothing."""

    heartbeat: Heartbeat
    info: WorkerInfo | None

    @property
    def name(self) -> str:
        """What people know it by: its host and process, where it has told them."""
        if self.info is None or self.info.host is None:
            return self.heartbeat.instance.rpartition(":")[2]
        return self.info.host if self.info.pid is None else f"{self.info.host}:{self.info.pid}"


def has_ended(instance: str) -> bool:
    """Whether that worker was a process of this container or host, and is gone."""
    if not instance.startswith(f"{place()}:"):
        return False
    try:
        os.kill(int(instance.split(":")[1]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, IndexError):
        return False  # another user's process, or no name of ours
    return False


@maps_errors
class Heartbeats:
    """The heartbeats of all workers on one stream."""

    def __init__(self, redis: ArqRedis, stream: str) -> None:
        self._redis = redis
        self._index = f"{stream}:workers"
        self._prefix = f"{stream}:health:"
        self._info_prefix = f"{stream}:worker:"
        self._expiry_s = 0.0
        self._last = self._regular_since = float("-inf")

    @property
    def are_regular(self) -> bool:
        """Whether this worker's own have come for so long that those of all living ones have, too.

        Then who is silent is dead; before, Redis may have been away for everybody.
        """
        now, long = time.monotonic(), self._expiry_s * _LONG
        return now - self._last <= long <= now - self._regular_since

    async def beat(
        self,
        instance: str,
        detail: str,
        *,
        healthy: bool,
        expiry_s: float,
        degraded: Sequence[str] = (),
        info: WorkerInfo | None = None,
    ) -> None:
        """Record that a worker lives, for `expiry_s` seconds; remove expired workers from the index."""
        body = orjson.dumps({"healthy": healthy, "detail": detail, "degraded": degraded})
        expiry_ms = int(expiry_s * 1000)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(self._prefix + instance, body, px=expiry_ms)
            if info is not None:
                told = orjson.dumps(info.model_dump(exclude_none=True))
                pipe.set(self._info_prefix + instance, told, px=expiry_ms)
            pipe.zadd(self._index, {instance: timestamp_ms()})
            pipe.expire(self._index, _INDEX_KEPT_S)
            await pipe.execute()
        self._note(expiry_s)
        _, silent = await self._read_all()
        if silent:  # one that only slept is back with its next heartbeat
            await self._redis.zrem(self._index, *silent)

    def _note(self, expiry_s: float) -> None:
        now = time.monotonic()
        if now - self._last > expiry_s * _LONG:
            self._regular_since = now
        self._last, self._expiry_s = now, expiry_s

    async def end(self, instance: str) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:  # a full Redis begins no transaction
            pipe.delete(self._prefix + instance, self._info_prefix + instance)
            pipe.zrem(self._index, instance)
            await pipe.execute()

    async def living(self) -> Sequence[Heartbeat]:
        return (await self._read_all())[0]

    async def reporting(self) -> Sequence[ReportingWorker]:
        """The living ones, each with what it tells operators of itself."""
        living = await self.living()
        if not living:
            return []
        told = await self._bodies([self._info_prefix + worker.instance for worker in living])
        return [ReportingWorker(worker, _told(body)) for worker, body in zip(living, told, strict=True)]

    async def running(self) -> Sequence[Heartbeat]:
        """The living ones without those of this container or host whose process is gone."""
        return [worker for worker in await self.living() if not worker.is_of_ended_process]

    async def consumers(self) -> frozenset[str]:
        """The running workers, by the names under which they read the stream, as far as they tell."""
        found = await self.reporting()
        return frozenset(
            each.info.consumer
            for each in found
            if each.info and each.info.consumer and not each.heartbeat.is_of_ended_process
        )

    async def times_ms(self) -> Mapping[str, int]:
        """When each worker sent its last heartbeat, in ms since 1970 by its own clock."""
        found = await self._redis.zrange(self._index, 0, -1, withscores=True)
        return {
            instance.decode(errors="replace"): int(sent_ms)
            for instance, sent_ms in found
            if abs(sent_ms) < _NO_TIME_MS
        }

    async def any_healthy(self) -> bool:
        return await self.healthy() > 0

    async def healthy(self) -> int:
        """How many workers are healthy."""
        return sum(worker.healthy for worker in await self.living())

    async def _read_all(self) -> tuple[Sequence[Heartbeat], Sequence[str]]:
        # What is no name of ours has no key either, and is silent.
        members = await self._redis.zrange(self._index, 0, -1)
        instances = [member.decode(errors="replace") for member in members]
        if not instances:
            return [], []
        bodies = await self._bodies([self._prefix + instance for instance in instances])
        pairs = list(zip(instances, bodies, strict=True))
        living = [_read(instance, body) for instance, body in pairs if body is not None]
        return living, [instance for instance, body in pairs if body is None]

    async def _bodies(self, keys: Sequence[str]) -> Sequence[bytes | None]:
        try:
            found: Sequence[bytes | None] = await self._redis.mget(keys)
        except ReplyTooLarge:  # other programs may write there, too
            return [await self._body(key) for key in keys]
        return found

    async def _body(self, key: str) -> bytes | None:
        try:
            body: bytes | None = await self._redis.get(key)
        except (ReplyTooLarge, ResponseError):
            return None
        return body


def _read(instance: str, body: bytes) -> Heartbeat:
    """A stored heartbeat, which may be from a worker of another version."""
    try:
        said = orjson.loads(body)
        degraded = tuple(map(str, said.get("degraded", ())))
        return Heartbeat(instance, bool(said["healthy"]), str(said["detail"]), degraded)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return Heartbeat(instance, False, "its heartbeat cannot be read")


def _told(body: bytes | None) -> WorkerInfo | None:
    """What a worker told of itself, which may be of another version; None where nobody can read it."""
    try:
        return None if body is None else WorkerInfo.model_validate_json(body)
    except ValidationError:
        return None
