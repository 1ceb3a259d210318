"""The connection to Redis: it gives up on a server that hangs, and loses no cancellation."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import hiredis
import orjson
from arq.connections import ArqRedis
from redis._parsers.socket import SERVER_CLOSED_CONNECTION_ERROR
from redis.asyncio.connection import AbstractConnection, RedisSSLContext, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import AuthenticationError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from worker.queue.awake import awake_within
from worker.queue.errors import QueueUnavailable
from worker.queue.mapping import mapped
from worker.queue.pool import PromptPool
from worker.queue.refusals import ConnectionRefused, is_denied, refusal_of
from worker.queue.replies import LARGEST_REPLY, BoundedReader
from worker.queue.sentinel import Sentinels, ToPrimary
from worker.queue.url import Monitored, monitored_by, server_of

_SERIALIZER = HiredisRespSerializer()
_SOCKET_TIMEOUT_S = 5
_CONNECT_TIMEOUT_S = 2
_CONNECTIONS = 32
_ANSWERS_WITHIN_S = 3  # the first time, over all tries
_CERTIFICATE = " Or does it ask for a certificate (ssl_certfile and ssl_keyfile)?"
_UNREACHABLE = (RedisConnectionError, RedisTimeoutError, OSError)


class _Connection(AbstractConnection):
    """A connection that loses no cancellation, and gives up at once where Redis refuses it.

    redis-py writes under `asyncio.wait_for`, which on Python 3.11 drops a cancellation that comes just when
    the writing is done; the worker then never learns that it is to stop.
    """

    largest_reply: ClassVar[int] = LARGEST_REPLY

    async def _connect(self) -> None:
        await super()._connect()  # type: ignore[no-untyped-call,safe-super]
        assert self._reader is not None
        self._reader = BoundedReader(self._reader, self.largest_reply)  # type: ignore[assignment]

    def pack_command(self, *args: Any) -> list[bytes]:  # noqa: ANN401 (as redis-py has it)
        """As redis-py packs it, which does so in C only where nobody waits for others."""
        packed: list[bytes] = _SERIALIZER.pack(*args)
        return packed

    async def connect(self) -> None:
        if not self.is_connected and self.health_check_interval:
            # Or redis-py asks for a PING before a new connection is ready, and makes others to ask again.
            self.next_health_check = asyncio.get_running_loop().time() + self.health_check_interval
        try:
            await super().connect()  # type: ignore[no-untyped-call]
        except RedisConnectionError as error:
            if isinstance(error.__cause__, ConnectionRefused):  # wrapped where it is a Unix socket
                raise error.__cause__ from None
            raise

    async def can_read_destructive(self) -> bool:
        """Whether something came that nobody asked for; redis-py waits a turn of the loop for it to come."""
        reader: Any = self._reader
        parsed: Any = getattr(self._parser, "_reader", None)
        is_known = isinstance(reader, BoundedReader) and isinstance(parsed, hiredis.Reader)
        if is_known and reader.is_quiet and not parsed.has_data():
            return False
        return bool(await super().can_read_destructive())  # type: ignore[no-untyped-call]

    async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 (as redis-py has it)
        reader: object = self._reader
        if isinstance(reader, BoundedReader):
            reader.begin()
        try:
            return await awake_within(_SOCKET_TIMEOUT_S, super().read_response(*args, **options))
        except TimeoutError:
            raise RedisTimeoutError("Redis does not answer") from None
        except (AuthenticationError, ResponseError) as error:
            # To redis-py the one is a lost connection, which it makes again and again; it passes over others.
            refusal = refusal_of(error) if is_denied(error) else None
            if refusal is None:
                raise
            raise ConnectionRefused(refusal) from error

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        if not self.is_connected:
            await self.connect()
        elif check_health:
            await self.check_health()  # type: ignore[no-untyped-call]
        command = command.encode() if isinstance(command, str) else command
        try:
            sending = self._send_packed_command([command] if isinstance(command, bytes) else command)
            await awake_within(_SOCKET_TIMEOUT_S, sending)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Redis takes no more commands") from None
        except OSError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"the connection to Redis broke: {error}") from error
        except BaseException:
            await self.disconnect(nowait=True)  # half a command may have been written
            raise


class _TlsConnection(_Connection, SSLConnection):
    """A connection by TLS; those of one client share what they have read of certificates.

    The authorities of the system alone take 50 ms to read, for which the event loop stands still.
    """

    shared: ClassVar[dict[str, RedisSSLContext]]

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (as redis-py has it)
        super().__init__(**options)
        self.ssl_context = self.shared.setdefault("context", self.ssl_context)


def serialize(job: dict[str, Any]) -> bytes:
    """A job as arq stores it: JSON, never pickle."""
    return orjson.dumps(job, default=repr)


def deserialize(job: bytes) -> dict[str, Any]:
    content = orjson.loads(job)
    if not isinstance(content, dict):
        raise TypeError("a job is a JSON object")
    return content


def connect(url: str, job_queue: str, *, largest_reply: int = LARGEST_REPLY) -> ArqRedis:
    """A client that gives up on a Redis that hangs and tries again where a connection was cut.

    Of a reply it reads no more than `largest_reply` bytes.
    """
    server = server_of(url)
    if not url.startswith("unix"):
        server["socket_keepalive"] = True
    pool = PromptPool(
        **server,
        max_connections=_CONNECTIONS,
        timeout=_SOCKET_TIMEOUT_S,
        socket_timeout=None,  # the connection has its own
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
        retry_on_error=list(_UNREACHABLE),
        # To write before an answer is read loses what a Redis says that closes the connection at once.
        lib_name=None,
        lib_version=None,
    )
    kind = pool.connection_class
    own = _TlsConnection if issubclass(kind, SSLConnection) else _Connection
    pool.connection_class = type(kind.__name__, (own, kind), {"shared": {}, "largest_reply": largest_reply})
    if monitored := monitored_by(url):
        pool.connection_class = _to_primary(pool.connection_class, monitored, server)
    return ArqRedis(
        pool_or_conn=pool,
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=job_queue,
    )


def _to_primary(own: type[Any], monitored: Monitored, server: Mapping[str, Any]) -> type[AbstractConnection]:
    """The class of connections to the primary; the Sentinels are asked by connections of the class `own`."""
    of_tls = {name: value for name, value in server.items() if name.startswith("ssl_")}
    options = {**of_tls, **monitored.options, "lib_name": None, "lib_version": None}
    sentinels = Sentinels(monitored.hosts, monitored.name, own, options)
    return type(own.__name__, (ToPrimary, own), {"sentinels": sentinels})


async def check_answers(redis: ArqRedis, url: str, *, answered: bool = False) -> None:
    """Check that Redis answers at all within a few seconds, the client's retries included.

    A server that speaks TLS and a client that does not can wait for each other for ever: the error asks for
    that, unless the server has `answered` this process before.

    Raises: QueueUnavailable.
    """
    scheme = url.partition(":")[0]
    kind, plus, way = scheme.partition("+")
    other = {"redis": "rediss", "rediss": "redis"}.get(kind)
    asks = (
        f". Must the URL begin with {other}{plus}{way}:// instead of {scheme}://?"
        if other and not answered
        else ""
    )
    with mapped():
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_S):
                await redis.ping()
        except (TimeoutError, RedisTimeoutError) as error:
            if refusal_of(error):  # it did answer, before the last try
                raise
            raise QueueUnavailable(f"nothing came within {_ANSWERS_WITHIN_S} s{asks}") from error
        except RedisConnectionError as error:
            if str(error) == SERVER_CLOSED_CONNECTION_ERROR or _resets_tls(kind, error):
                wants = _CERTIFICATE if kind == "rediss" else ""
                raise QueueUnavailable(f"it closes each connection at once{asks}{wants}") from error
            raise
        except ResponseError:
            pass  # an answer, too: not everybody may ask for it


def _resets_tls(kind: str, error: RedisConnectionError) -> bool:
    """Whether the server has ended a connection by TLS before it was heard why."""
    return kind == "rediss" and isinstance(error.__context__, ConnectionResetError)
