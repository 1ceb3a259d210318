"""One attempt to deliver a webhook, bounded, to an address that was checked. It alone knows httpcore."""

import asyncio
import select
import socket
import ssl
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import httpcore
import structlog

from worker.webhooks.addresses import AddressForbidden, resolve
from worker.webhooks.endpoint import Outcome, WebhookAnswer, WebhookEndpoint
from worker.webhooks.signing import signed_headers

log = structlog.get_logger(__name__)

if find_spec("sniffio") is None:
    # httpcore tries to import it several times for each request; to search for it in vain costs a fifth of
    # the CPU time of a message. None says that there is no such module.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

MOST_READ = 64 * 1024  # bytes of an answer; of one that is longer the connection is closed
MOST_OF_REQUEST = 128 * 1024  # bytes that come for one request, with headers and interim answers
MOST_KEPT = 1024
MOST_PAUSE_S = 3600.0  # that an endpoint may ask for
CONNECT_S = 5.0  # at most
_BODY_S = 2.0  # for the body of an answer whose status is known
_CLOSE_S = 1.0  # to leave the connection of an answer that was not read whole
_AT_ONCE = 8 * 1024  # bytes that are read, and worked on, before others have their turn
_IDLE_S = 3.0  # connections are kept: servers close theirs after 5 s or more
_ADDRESSES = 3  # of one host are tried
_WORD = 200  # characters of an answer that a problem names


class BoundedStream(httpcore.AsyncNetworkStream):
    """Reads little at once, and so much at most after each time that something is written: a server may send
    interim answers (100) without end, and the event loop would work on these alone.
    """

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket: socket.socket | None = None
        self._came = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 (theirs)
        """Raises: httpcore.ReadError where too much came, and what the stream does."""
        if self._came >= MOST_OF_REQUEST:
            raise httpcore.ReadError(f"more than {MOST_OF_REQUEST // 1024} KiB came")
        data = await self._stream.read(min(max_bytes, _AT_ONCE), timeout)
        self._came += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 (theirs)
        """Write a part of a request."""
        self._came = 0
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 (theirs)
    ) -> httpcore.AsyncNetworkStream:
        """The same over TLS."""
        return BoundedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 (theirs)
        """What the connection is."""
        # It is asked of each idle connection for each request; theirs costs four times that.
        if info == "is_readable":
            return self._is_readable()
        return self._stream.get_extra_info(info)

    def _is_readable(self) -> bool:
        """Whether the other side has sent something, or has closed; so it is of one that is closed here."""
        if self._socket is None:
            self._socket = self._stream.get_extra_info("socket")
        if self._socket is None or self._socket.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, and to the very ones: no name is resolved a second time."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (theirs)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises: AddressForbidden, httpcore.ConnectError, httpcore.ConnectTimeout."""
        within_s = CONNECT_S if timeout is None else timeout
        try:
            addresses = await resolve(host, port, within_s, allow_private=self._allow_private)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(
                f"the address of {host} was not found within {within_s:g} s"
            ) from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address: {error}") from error
        *others, last = addresses[:_ADDRESSES]
        for address in others:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return BoundedStream(await self._network.connect_tcp(address, port, within_s / _ADDRESSES))
        return BoundedStream(await self._network.connect_tcp(last, port, within_s))

    async def sleep(self, seconds: float) -> None:
        """Pause between tries of a connection."""
        await asyncio.sleep(seconds)


class WebhookSender:
    """Posts messages to one endpoint, over connections that are kept for a moment."""

    def __init__(self, endpoint: WebhookEndpoint, connections: int, now_ms: Callable[[], int]) -> None:
        self._endpoint = endpoint
        self._now_ms = now_ms
        self._network = CheckedNetwork(allow_private=endpoint.allow_private)
        # What SSL_CERT_FILE names is trusted, too. To load all authorities takes a while.
        self._tls = httpcore.default_ssl_context() if endpoint.is_https else None
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=self._tls,
            max_connections=connections,
            keepalive_expiry=_IDLE_S,
            network_backend=self._network,
        )
        self._fixed = [
            ("content-type", "application/json"),
            ("user-agent", f"media-worker/{version('media-worker')}"),
            ("accept-encoding", "identity"),
        ]

    async def send(self, message_id: str, body: bytes) -> WebhookAnswer:
        """Post a message. Whatever goes wrong is an answer, too."""
        signed = signed_headers(message_id, self._now_ms() // 1000, body, self._endpoint.secrets)
        limit_s = self._endpoint.timeout_s
        times = {"connect": min(CONNECT_S, limit_s), "read": limit_s, "write": limit_s, "pool": limit_s}
        answer = None
        try:
            async with (
                asyncio.timeout(limit_s) as limit,
                self._pool.stream(
                    "POST",
                    self._endpoint.url,
                    headers=[*self._fixed, *signed],
                    content=body,
                    extensions={"timeout": times},
                ) as response,
            ):
                ends = limit.when() or 0.0
                limit.reschedule(ends + _CLOSE_S)
                answer = await self._answer(response, ends - asyncio.get_running_loop().time())
        except Exception as error:
            return answer or _failure(error, limit_s)
        return answer

    async def connect(self) -> WebhookAnswer:
        """Connect, with the TLS handshake, and send nothing."""
        limit_s = min(CONNECT_S, self._endpoint.timeout_s)
        try:
            stream = await self._network.connect_tcp(self._endpoint.host, self._endpoint.port, limit_s)
            try:
                if self._tls is not None:
                    stream = await stream.start_tls(self._tls, self._endpoint.host, limit_s)
            finally:
                await stream.aclose()
        except Exception as error:
            return _failure(error, limit_s)
        return WebhookAnswer("delivered")

    async def close(self) -> None:
        """Close what is open."""
        await self._pool.aclose()

    async def _answer(self, response: httpcore.Response, left_s: float) -> WebhookAnswer:
        kept = await _body_of(response, min(_BODY_S, left_s))
        if 200 <= response.status < 300:
            return WebhookAnswer("delivered")
        words = kept.decode("utf-8", "replace").strip()[:_WORD]
        said = "a redirect, which is not followed" if 300 <= response.status < 400 else words
        problem = f"it answered {response.status}" + (f": {said}" if said else "")
        if response.status == 410:
            return WebhookAnswer("gone", problem)
        pause_s = self._pause_s(response) if response.status in (429, 503) else 0.0
        return WebhookAnswer("refused", problem, pause_s)

    def _pause_s(self, response: httpcore.Response) -> float:
        """What `Retry-After` asks for, within bounds; 0 where there is none."""
        given = next((value for name, value in response.headers if name.lower() == b"retry-after"), b"")
        text = given.decode("latin-1").strip()
        seconds = float(text) if text.isdecimal() else 0.0
        if text and not text.isdecimal():
            with suppress(ValueError, OverflowError):
                seconds = parsedate_to_datetime(text).timestamp() - self._now_ms() / 1000
        return min(max(seconds, 0.0), MOST_PAUSE_S)


async def _body_of(response: httpcore.Response, within_s: float) -> bytes:
    """The first bytes of an answer; what does not come in time is done without: the status counts."""
    kept, size = b"", 0
    with suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
        async with asyncio.timeout(within_s):
            async for part in response.aiter_stream():
                kept += part[: MOST_KEPT - len(kept)]
                size += len(part)
                if size > MOST_READ:
                    break
    return kept


def _failure(error: Exception, limit_s: float) -> WebhookAnswer:
    words = str(error) or type(error).__name__
    outcome: Outcome = "unreachable"
    match error:
        case httpcore.ConnectTimeout() if str(error):
            outcome = "timeout"
        case TimeoutError() | httpcore.TimeoutException():
            outcome, words = "timeout", f"nothing came within {limit_s:g} s"
        case AddressForbidden():
            outcome = "forbidden"
        case httpcore.ConnectError() if isinstance(error.__cause__, ssl.SSLError):
            outcome = "tls"
        case httpcore.RemoteProtocolError():
            words = f"no answer in HTTP came: {words}"
        case httpcore.NetworkError() | httpcore.ProtocolError() | OSError():
            pass
        case _:
            log.error("webhook_attempt_crashed", exc_info=error)  # a bug, which need not stop all others
    return WebhookAnswer(outcome, words[:MOST_KEPT])
