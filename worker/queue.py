"""Redis: the only place that names a key. Entries in, jobs between, messages out."""

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeVar
from uuid import UUID, uuid4

import orjson
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from arq.utils import timestamp_ms
from redis._parsers.socket import SERVER_CLOSED_CONNECTION_ERROR
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError, WatchError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.heartbeats import Heartbeats
from worker.refusals import RedisRefused, Refusal, is_denied, is_missing_right, of_another, refusal_of
from worker.rights import try_rights
from worker.settings import URL_OPTIONS, Settings

T = TypeVar("T")

GROUP = "workers"
FIELD = "event"
PROCESS = "process_batch"  # the arq function that works on uploads

_SOCKET_TIMEOUT_S = 5
_CONNECT_TIMEOUT_S = 2
_CONNECTIONS = 32
_ANSWERS_WITHIN_S = 3  # the first time, over all tries
_LATELY_S = 1.0
_OF_THE_SERVER = ("connection_class", "host", "port", "path")  # what `parse_url` makes of the rest of a URL
_JOB_KEYS = (job_key_prefix, in_progress_key_prefix, retry_key_prefix)
_FIRST = "0-0"  # of all IDs
_TICK = re.compile(rb"[\w.]+:[ -~]+:\d+")  # of a chore, and what it has begun
_JOB_ID = re.compile(rb"[0-9a-f]{32}|" + _TICK.pattern)  # of uploads, or of a tick
_PAYLOAD = {"t": int, "f": str, "a": list, "k": dict, "et": int}
_ARQS_LOCK = b"1"  # what arq itself writes when a job starts
_LONGEST_PAUSE_MS = 60_000  # of a batch as a whole
_LATEST_MS = 20 * 60_000  # twice the longest that an upload is put off
_LOOKED_AT = 200  # jobs at the head of the queue, for the health
_NEWEST = 1000  # messages among which the newest is
_UNKEPT = "sweep.stopped"  # the type of those that are about no upload, and in no catalog
_NO_SEQ = 2**53  # and above: the catalog gives none, and JavaScript could not tell it from its neighbour
_HEAD = 1000  # jobs that arq itself looks at in a poll

UNREACHABLE = (RedisConnectionError, RedisTimeoutError, OSError)
"""What a Redis that is away answers with."""


class NoGroup(Exception):
    """The stream or its consumer group is not there (any more)."""


@dataclass(frozen=True)
class StreamEntry:
    """One entry of the stream: its ID, its field `event` if it has one, and all of it as bytes."""

    id: str
    event: bytes | None
    raw: bytes


@dataclass(frozen=True)
class ServerInfo:
    """What a Redis says of itself: version, role, whether it has an append-only file, eviction policy.

    And the largest value that it takes, and how far the stream's IDs are ahead of it. None: it does not say.
    """

    version: str | None
    role: str | None
    keeps_data: bool | None
    policy: str | None
    largest_bytes: int | None = None
    ahead_ms: int = 0


def serialize(job: dict[str, Any]) -> bytes:
    """A job as arq stores it: JSON, never pickle."""
    return orjson.dumps(job, default=repr)


def deserialize(job: bytes) -> dict[str, Any]:
    """A job out of what arq stored."""
    content = orjson.loads(job)
    if not isinstance(content, dict):
        raise TypeError("a job is a JSON object")
    return content


class _Connection(AbstractConnection):
    """A connection that loses no cancellation, and takes a Redis that says no at its word.

    redis-py writes under `asyncio.wait_for`, which on Python 3.11 drops a cancellation that comes just when
    the writing is done; the worker then never learns that it is to stop.
    """

    async def connect(self) -> None:
        if not self.is_connected and self.health_check_interval:
            # Or redis-py asks for a PING before a new connection is ready, and makes others to ask again.
            self.next_health_check = asyncio.get_running_loop().time() + self.health_check_interval
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except RedisConnectionError as error:
            if isinstance(error.__cause__, RedisRefused):  # wrapped where it is a Unix socket
                raise error.__cause__ from None
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (as redis-py has it)
        try:
            return await super().read_response(*args, **options)
        except (AuthenticationError, ResponseError) as error:
            # To redis-py the one is a lost connection, which it makes again and again; it passes over others.
            refusal = refusal_of(error) if is_denied(error) else None
            if refusal is None:
                raise
            raise RedisRefused(refusal) from error

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        if not self.is_connected:
            await self.connect()
        elif check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        command = command.encode() if isinstance(command, str) else command
        try:
            async with asyncio.timeout(self.socket_timeout):
                await self._send_packed_command([command] if isinstance(command, bytes) else command)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Redis takes no more commands") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"the connection to Redis broke: {error}") from error
        except BaseException:
            await self.disconnect(nowait=True)  # half a command may have been written
            raise


def connect(url: str, job_queue: str) -> ArqRedis:
    """A client that gives up on a Redis that hangs and tries again where a connection was cut."""
    server = _server_of(url)
    if not url.startswith("unix"):
        server["socket_keepalive"] = True
    pool = BlockingConnectionPool(
        **server,
        max_connections=_CONNECTIONS,
        timeout=_SOCKET_TIMEOUT_S,
        socket_timeout=_SOCKET_TIMEOUT_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
        retry_on_error=list(UNREACHABLE),
        # To write before an answer is read loses what a Redis says that closes the connection at once.
        lib_name=None,
        lib_version=None,
    )
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_Connection, kind), {})
    return ArqRedis(
        pool_or_conn=pool,
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=job_queue,
    )


def _server_of(url: str) -> dict[str, Any]:
    """What a URL says of the server; apps may share it, and what it says of a client is theirs."""
    given = parse_url(url).items()
    return {name: value for name, value in given if name in (*_OF_THE_SERVER, *URL_OPTIONS)}


def job_queue_of(stream: str) -> str:
    """The name of arq's queue: each stream has its own, so that two installations can share a Redis."""
    return f"{stream}:jobs"


@asynccontextmanager
async def open_queue(settings: Settings) -> AsyncIterator["Queue"]:
    """What apps and scripts say to Redis, for a while. Raises: RedisError where it is silent."""
    redis = connect(settings.redis_url, job_queue_of(settings.stream))
    try:
        await prove_answers(redis, settings.redis_url)
        yield queue_on(redis, settings)
    finally:
        await redis.aclose(close_connection_pool=True)


async def prove_answers(redis: ArqRedis, url: str) -> None:
    """Redis answers anything at all within a few seconds, tries of the client included. Raises: RedisError.

    A server that speaks TLS and a client that does not may wait for each other for ever.
    """
    scheme = url.partition(":")[0]
    other = {"redis": "rediss", "rediss": "redis"}.get(scheme)
    asks = f". Does it want {other}:// instead of {scheme}://?" if other else ""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_S):
            await redis.ping()
    except (TimeoutError, RedisTimeoutError) as error:
        if refusal := refusal_of(error):  # it did answer, before the last try
            raise RedisRefused(refusal) from error
        raise RedisTimeoutError(f"nothing came within {_ANSWERS_WITHIN_S} s{asks}") from error
    except RedisConnectionError as error:
        if str(error) == SERVER_CLOSED_CONNECTION_ERROR:
            raise RedisConnectionError(f"it closes each connection at once{asks}") from error
        raise
    except ResponseError:
        pass  # an answer, too: not everybody may ask for it


def queue_on(redis: ArqRedis, settings: Settings) -> "Queue":
    """The queue on an open connection, as a consumer of its own."""
    consumer = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    return Queue(redis, settings.stream, consumer, settings.events_maxlen, settings.events)


class Queue:
    """What the worker says to Redis."""

    def __init__(
        self,
        redis: ArqRedis,
        stream: str,
        consumer: str,
        events_maxlen: int,
        events: str = "media:events",
    ) -> None:
        self.redis = redis
        self.stream = stream
        self.events = events
        self.consumer = consumer
        self.jobs = job_queue_of(stream)
        self._owner = f"{stream}:catalog"
        self._catalog_id: str | None = None
        self._bound_until = float("-inf")
        self.heartbeats = Heartbeats(redis, stream)
        self.queued = asyncio.Event()  # a job was enqueued from here
        self._events_maxlen = events_maxlen
        self._looked_up_to = _FIRST  # where the next look for entries of dead consumers begins

    async def refusal(self) -> Refusal | None:
        """What Redis refuses of all that a worker does; None: nothing. Raises: RedisError, OSError."""
        return await try_rights(self.redis, self.stream, self.events)

    # -- whose stream it is

    async def bind(self, catalog_id: str) -> None:
        """Tie the stream to this catalog, as the storage root is: another's events and jobs are not taken.

        Raises: RedisRefused where it is another's.
        """
        self._catalog_id = catalog_id
        await self.prove_bound()

    async def prove_bound(self, *, lately: bool = False) -> None:
        """The stream is still this catalog's; after a loss of Redis' data, whoever comes first has it.

        `lately`: it was within the last second. Raises: RedisRefused.
        """
        if self._catalog_id is None or (lately and time.monotonic() < self._bound_until):
            return
        self._bound_until = float("-inf")
        if await self.owner() != self._catalog_id:
            await self.redis.set(self._owner, self._catalog_id, nx=True)
            await self.prove_not_of_another(self._catalog_id)
        self._bound_until = time.monotonic() + _LATELY_S

    async def prove_not_of_another(self, catalog_id: str | None) -> None:
        """It is this catalog's, or nobody's yet. Raises: RedisRefused."""
        owner = await self.owner()
        if catalog_id is not None and owner not in (None, catalog_id):
            raise RedisRefused(of_another(self.stream, owner or "", catalog_id))

    async def rebind(self, catalog_id: str, before: str | None) -> None:
        """Give the stream to this catalog, in the place of `before`. Raises: RedisRefused."""
        if await self.owner() != before:
            await self.prove_not_of_another(catalog_id)
        await self.redis.set(self._owner, catalog_id)

    async def owner(self) -> str | None:
        """The catalog that the stream is tied to; None: to none yet, or an app's user may not know."""
        found: bytes | None = await _unless_refused(self.redis.get(self._owner))
        return None if found is None else found.decode()

    # -- entries in

    async def has_group(self) -> bool:
        """Whether the stream has its consumer group."""
        try:
            await self.redis.xpending(self.stream, GROUP)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return False
        return True

    async def make_group(self) -> None:
        """Make the stream and its consumer group where they are missing."""
        try:
            await self.redis.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def read(self, count: int, block_ms: int | None) -> Sequence[StreamEntry]:
        """Up to `count` new entries, waiting up to `block_ms` (None: not at all) for the first.

        Raises: NoGroup.
        """
        return await self._read(">", count, block_ms)

    async def read_own(self, count: int) -> Sequence[StreamEntry]:
        """Entries that this consumer has read before and not acknowledged. Raises: NoGroup."""
        return await self._read("0", count, None)

    async def _read(self, start: str, count: int, block_ms: int | None) -> Sequence[StreamEntry]:
        streams: dict[Any, Any] = {self.stream: start}
        try:
            found = await self.redis.xreadgroup(GROUP, self.consumer, streams, count=count, block=block_ms)
        except ResponseError as error:
            if "UNBLOCKED" in str(error):  # the stream was deleted while this waited
                return []
            if "NOGROUP" not in str(error):
                raise
            raise NoGroup from error
        entries = found[0][1] if found else []
        gone = [entry_id for entry_id, fields in entries if fields is None]
        if gone:  # deleted while they were pending
            await self.redis.xack(self.stream, GROUP, *gone)
        return [_entry(entry_id, fields) for entry_id, fields in entries if fields is not None]

    async def take_over(self, idle_ms: int, count: int) -> Sequence[StreamEntry]:
        """Entries that another consumer read and left alone for `idle_ms`; they are this one's now.

        Raises: NoGroup.
        """
        try:
            answer = await self.redis.xautoclaim(
                self.stream,
                GROUP,
                self.consumer,
                min_idle_time=idle_ms,
                start_id=self._looked_up_to,
                count=count,
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            raise NoGroup from error
        # Redis looks at ten times `count` entries at most: with many pending ones, the rest comes next time.
        self._looked_up_to = answer[0]
        if any(entry_id is None for entry_id, _ in answer[1]):
            return await self.read_own(count)  # Redis 6.2 does not name deleted entries; reading them does
        return [_entry(entry_id, fields) for entry_id, fields in answer[1]]

    async def pending_elsewhere(self, count: int) -> frozenset[tuple[str, str, int]]:
        """The oldest entries that others have read: ID, whose they are, and how often they were read."""
        try:
            found = await self.redis.xpending_range(self.stream, GROUP, min="-", max="+", count=count)
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            raise NoGroup from error
        return frozenset(
            (each["message_id"].decode(), each["consumer"].decode(), each["times_delivered"])
            for each in found
            if each["consumer"].decode() != self.consumer
        )

    async def take_over_one(self, entry_id: str) -> Sequence[StreamEntry]:
        """That entry, whoever has read it and whenever; none if it is not pending any more."""
        answer = await self.redis.xclaim(
            self.stream, GROUP, self.consumer, min_idle_time=0, message_ids=[entry_id]
        )
        return [_entry(found, fields) for found, fields in answer if found and fields is not None]

    async def pending(self, entries: Sequence[StreamEntry]) -> frozenset[str]:
        """The IDs of those `entries` that the stream, as it is now, has given to this consumer."""
        ids = sorted((entry.id for entry in entries), key=lambda each: tuple(map(int, each.split("-"))))
        try:
            found = await self.redis.xpending_range(
                self.stream, GROUP, min=ids[0], max=ids[-1], count=len(ids), consumername=self.consumer
            )
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            return frozenset()
        return frozenset(each["message_id"].decode() for each in found).intersection(ids)

    async def last_entry_id(self) -> str | None:
        """The greatest ID that the stream remembers to have given; `0-0`: there is none; None: not told."""
        try:
            info = await _unless_refused(self.redis.xinfo_stream(self.stream))
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            return "0-0"
        return info["last-generated-id"].decode() if info is not None else None

    async def reset(self, *, even_with_entries: bool = False) -> bool:
        """Delete the stream and make it anew; False where entries wait and it must not be done with them."""
        async with self.redis.pipeline(transaction=True) as pipe:
            await pipe.watch(self.stream)
            if await pipe.xlen(self.stream) and not even_with_entries:
                return False
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.delete(self.stream)
            pipe.xgroup_create(self.stream, GROUP, id="0", mkstream=True)
            try:
                await pipe.execute()
            except WatchError:  # an event came meanwhile
                return False
        return True

    async def acknowledge(self, entries: Sequence[StreamEntry]) -> None:
        """Take `entries` out of the stream, so that its length is the depth of what waits."""
        ids = [entry.id for entry in entries]
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.xack(self.stream, GROUP, *ids)
            pipe.xdel(self.stream, *ids)
            await pipe.execute()

    async def forget_consumers(self, idle_ms: int) -> None:
        """Remove consumers of workers that are gone, once nothing is pending with them."""
        for consumer in await _unless_refused(self.redis.xinfo_consumers(self.stream, GROUP)) or ():
            if consumer["pending"] == 0 and consumer["idle"] > idle_ms:
                await self.redis.xgroup_delconsumer(self.stream, GROUP, consumer["name"])

    async def leave(self) -> None:
        """Remove this consumer, unless it still has entries that another is to take over."""
        pending = await self.redis.xpending_range(
            self.stream, GROUP, min="-", max="+", count=1, consumername=self.consumer
        )
        if not pending:
            await self.redis.xgroup_delconsumer(self.stream, GROUP, self.consumer)

    # -- jobs between

    async def enqueue(self, job_ids: Mapping[str, Sequence[UUID]]) -> None:
        """Enqueue a job for the uploads under each ID. An answer that is lost is settled by the reconciler.

        Raises: RedisRefused where the stream is another catalog's by now.
        """
        await self.prove_bound(lately=True)
        for job_id, ids in job_ids.items():
            await self.redis.enqueue_job(PROCESS, [str(upload_id) for upload_id in ids], _job_id=job_id)
        self.queued.set()

    async def enqueue_chore(self, name: str, since_ms: int) -> None:
        """Enqueue the chore of that name that was begun then; one that is there already stays alone."""
        chore = f"{name}:{self.stream}"
        await self.redis.enqueue_job(chore, since_ms, _job_id=f"{chore}:{since_ms}")
        self.queued.set()

    async def alive(self, job_ids: Sequence[str], longest_lock_ms: int = 600_000) -> frozenset[str]:
        """Those of `job_ids` that wait in the queue or are being worked on.

        A lock that is still arq's own is neither: its worker died before it could make it a lease. A job
        that is due far later than the longest pause of a batch was put there by a clock that was ahead, and
        so was a lock that lasts far longer than any lease.
        """
        latest = timestamp_ms() + _LONGEST_PAUSE_MS
        async with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.get(in_progress_key_prefix + job_id)
                pipe.exists(job_key_prefix + job_id)
                pipe.zscore(self.jobs, job_id)
                pipe.pttl(in_progress_key_prefix + job_id)
            answers = await pipe.execute()
        states = zip(job_ids, *(answers[each::4] for each in range(4)), strict=True)
        return frozenset(
            job_id
            for job_id, holder, payload, score, left_ms in states
            if holder != _ARQS_LOCK
            and left_ms <= longest_lock_ms
            and (holder is not None or (payload and score is not None and score <= latest))
        )

    async def make_due(self, job_ids: Sequence[str]) -> None:
        """Have those of `job_ids` that are put off begin now."""
        if job_ids:
            await self.redis.zadd(self.jobs, dict.fromkeys(job_ids, timestamp_ms()), xx=True)
            self.queued.set()

    async def pull_in(self) -> None:
        """Make due what is put off for longer than anything is: a clock that was ahead did that."""
        later = timestamp_ms() + _LATEST_MS
        found = await self.redis.zrangebyscore(self.jobs, later, "+inf", start=0, num=_HEAD)
        if found:
            await self.redis.zadd(self.jobs, dict.fromkeys(found, timestamp_ms()), xx=True)

    async def discard(self, job_ids: Sequence[str]) -> None:
        """Remove what is left of jobs without an upload."""
        async with self.redis.pipeline(transaction=True) as pipe:
            for job_id in job_ids:
                pipe.zrem(self.jobs, job_id)
                pipe.delete(*(prefix + job_id for prefix in _JOB_KEYS))
            await pipe.execute()

    async def scrub(self) -> int:
        """Remove jobs that arq cannot read, which would end every worker that meets them; gives their number.

        Nobody but this project may write them. Whatever they were to do is in the catalog.
        """
        try:
            found = await self.redis.zrange(self.jobs, 0, -1, withscores=True)
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return int(await self.redis.delete(self.jobs))  # it is no queue at all
        async with self.redis.pipeline(transaction=False) as pipe:
            for job, _ in found:
                pipe.get(job_key_prefix.encode() + job)
            payloads = await pipe.execute(raise_on_error=False)
        if refused := [
            one for one in payloads if isinstance(one, ResponseError) and "WRONGTYPE" not in str(one)
        ]:
            raise refused[0]  # nobody knows what is in those jobs
        bad = [
            job
            for (job, score), payload in zip(found, payloads, strict=True)
            if not (_JOB_ID.fullmatch(job) and isfinite(score) and _is_readable(payload))
        ]
        if bad:
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.zrem(self.jobs, *bad)
                pipe.delete(*(job_key_prefix.encode() + job for job in bad))
                await pipe.execute()
        return len(bad)

    async def renew(self, job_id: str, lease_s: float) -> bool:
        """Keep the job's lock for `lease_s` more seconds; False when another worker has it now."""
        key = in_progress_key_prefix + job_id
        holder = await self.redis.get(key)
        if holder not in (None, _ARQS_LOCK, self.consumer.encode()):
            return False
        await self.redis.set(key, self.consumer, px=int(lease_s * 1000))
        return True

    async def waiting_jobs(self) -> int:
        """How many jobs with uploads are due, those in work included; the postponed hold up nobody."""
        due, now = await self._due(_HEAD)
        jobs = sum(not _TICK.fullmatch(job) for job in due)
        if len(due) < _HEAD:
            return jobs
        return jobs + int(await self.redis.zcount(self.jobs, "-inf", now)) - _HEAD

    async def untaken_jobs(self) -> int:
        """How many of the jobs that are due nobody works on, among those that a worker looks at.

        The locked ones are in work, or were when their worker died; neither may hold up the intake.
        """
        due, _ = await self._due(_HEAD)
        return len(due) - sum(await self._are_locked(due))

    async def _due(self, count: int) -> tuple[Sequence[bytes], int]:
        now = timestamp_ms()  # rounded as arq rounds when it enqueues, else the newest job may not be due yet
        return await self.redis.zrangebyscore(self.jobs, "-inf", now, start=0, num=count), now

    async def _are_locked(self, jobs: Sequence[bytes]) -> Sequence[bool]:
        if not jobs:
            return []
        # One command for all: this is asked all the time, and one each would be most of what a worker asks.
        locks = await self.redis.mget(in_progress_key_prefix.encode() + job for job in jobs)
        return [lock is not None for lock in locks]

    # -- messages out

    async def send(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Append `messages` to the stream of messages, which is kept at about its greatest length."""
        async with self.redis.pipeline(transaction=False) as pipe:
            for message in messages:
                pipe.xadd(
                    self.events, {FIELD: orjson.dumps(message)}, maxlen=self._events_maxlen, approximate=True
                )
            await pipe.execute()

    async def newest_seq(self) -> int:
        """The greatest `seq` among the newest messages, which may be out of order; 0 when there is none."""
        newest = await self.redis.xrevrange(self.events, count=_NEWEST)
        return max((_seq(_message(fields)) for _, fields in newest), default=0)

    async def recent_messages(self, count: int, within_ms: int) -> Sequence[tuple[int, str | None] | None]:
        """`seq` and upload of the newest messages that are no older than that, by the clock of Redis.

        None for an entry that is no message of an upload; those that no catalog keeps are left out.
        """
        newest = await self.redis.xrevrange(
            self.events, min=str(await self.now_ms() - within_ms), count=count
        )
        messages = [_message(fields) for _, fields in newest]
        return [_identity(message) for message in messages if message.get("type") != _UNKEPT]

    async def last_message_id(self) -> str:
        """The ID of the newest message, to listen from there on; `0` when there is none."""
        newest = await self.redis.xrevrange(self.events, count=1)
        return newest[0][0].decode() if newest else "0"

    async def messages_after(self, entry_id: str, block_ms: int) -> Sequence[tuple[str, dict[str, Any]]]:
        """Messages after that ID with their own, waiting up to `block_ms` for the first.

        What another program wrote there may hold anything; where it is no JSON object, it is empty.
        """
        streams: dict[Any, Any] = {self.events: entry_id}
        found = await self.redis.xread(streams, count=500, block=block_ms)
        entries = found[0][1] if found else []
        return [(message_id.decode(), _message(fields)) for message_id, fields in entries]

    # -- for reports

    async def longest_due_s(self) -> float | None:
        """How long the job that is due first, and that nobody works on, has been due; None: there is none."""
        due = await self.redis.zrangebyscore(
            self.jobs, "-inf", time.time() * 1000, start=0, num=_LOOKED_AT, withscores=True
        )
        if not due:
            return None
        running = await self._are_locked([job for job, _ in due])
        waiting = [score for (_, score), busy in zip(due, running, strict=True) if not busy]
        return time.time() - min(waiting) / 1000 if waiting else None

    async def waits(self) -> str:
        """How many events wait, and since when, for people."""
        depth, oldest = await self.depth(), await self.oldest_age_s()
        since = "" if oldest is None else f", the oldest for {oldest} s"
        return f"{depth} event{' waits' if depth == 1 else 's wait'}{since}"

    async def has_worker(self) -> bool:
        """Whether any worker has said lately that it is well."""
        return any(worker.well for worker in await self.heartbeats.living())

    async def server_info(self) -> ServerInfo:
        """What the server says of itself."""
        info = await _unless_refused(self.redis.info()) or {}
        return ServerInfo(
            version=info.get("valkey_version") or info.get("redis_version"),
            role=info.get("role"),
            keeps_data=None if "aof_enabled" not in info else bool(info["aof_enabled"]),
            policy=info.get("maxmemory_policy"),
            largest_bytes=await self._largest_bytes(),
            ahead_ms=await self.ahead_ms(),
        )

    async def _largest_bytes(self) -> int | None:
        found = await _unless_refused(self.redis.config_get("proto-max-bulk-len")) or {}
        size = found.get("proto-max-bulk-len")
        return int(size) if size else None

    async def ahead_ms(self) -> int:
        """How far the stream's newest ID is ahead of Redis' clock; each ID to come is newer than that one."""
        newest = int((await self.last_entry_id() or "0").partition("-")[0])
        return max(0, newest - await self.now_ms())

    async def depth(self) -> int:
        """How many entries wait in the stream."""
        return int(await self.redis.xlen(self.stream))

    async def now_ms(self) -> int:
        """This moment by Redis' clock, which gives entries their IDs, in ms since 1970.

        By this machine's, where Redis does not tell its own.
        """
        found = await _unless_refused(self.redis.time())
        if found is None:
            return timestamp_ms()
        seconds, microseconds = found
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def oldest_age_s(self) -> int | None:
        """How long the oldest waiting entry has waited, in s by Redis' clock; None: nothing waits."""
        oldest = await self.oldest_id()
        if oldest is None:
            return None
        return max(0, await self.now_ms() - int(oldest.partition("-")[0])) // 1000

    async def oldest_id(self) -> str | None:
        """The ID of the entry that waits first, read or not; None: nothing waits."""
        oldest = await self.redis.xrange(self.stream, count=1)
        return oldest[0][0].decode() if oldest else None

    async def add(self, event: Mapping[str, Any]) -> str:
        """Put an event on the stream, as any app does; gives the entry's ID."""
        return await self.add_raw(orjson.dumps(event))

    async def add_raw(self, body: bytes) -> str:
        """Put bytes on the stream as an event, whatever they are; gives the entry's ID."""
        entry_id: bytes = await self.redis.xadd(self.stream, {FIELD: body})
        return entry_id.decode()


async def _unless_refused(asked: Awaitable[T]) -> T | None:
    """The answer to what can be done without; None where this user may not ask, as one who rents a Redis."""
    try:
        return await asked
    except ResponseError as error:
        if is_missing_right(error):
            return None
        raise


def _is_readable(payload: object) -> bool:
    """Whether arq survives that payload of a job; it drops by itself what is none, or no JSON."""
    try:
        job = orjson.loads(payload) if isinstance(payload, bytes) else payload
    except orjson.JSONDecodeError:
        return True
    if payload is None:
        return True
    return isinstance(job, dict) and all(
        isinstance(job.get(name), kind) or (name == "t" and job.get(name) is None)
        for name, kind in _PAYLOAD.items()
    )


def _message(fields: Mapping[bytes, bytes]) -> dict[str, Any]:
    """An entry's message; empty where it has none, for other programs may write there too."""
    try:
        found = orjson.loads(fields.get(FIELD.encode(), b""))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _seq(message: Mapping[str, Any]) -> int:
    """The `seq` of a message; 0 for what is none."""
    seq = message.get("seq")
    return seq if type(seq) is int and 0 <= seq < _NO_SEQ else 0


def _identity(message: Mapping[str, Any]) -> tuple[int, str | None] | None:
    """The `seq` and the upload of a message; None for what is none."""
    seq, upload = _seq(message), message.get("id", _NO_SEQ)
    return (seq, upload) if seq and (upload is None or isinstance(upload, str)) else None


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes]) -> StreamEntry:
    event = fields.get(FIELD.encode())
    raw = event if event is not None else b" ".join(name + b"=" + value for name, value in fields.items())
    return StreamEntry(entry_id.decode(), event, raw)


__all__ = ["UNREACHABLE", "Queue", "RedisError", "StreamEntry", "connect"]
