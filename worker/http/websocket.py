"""Messages as they come, as frames of a WebSocket: for apps and pages that have one."""

from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter, Response
from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from storage.errors import StorageError
from worker.http.access import Caller
from worker.http.face import Face
from worker.http.keys import SECRET_PREFIX
from worker.http.problems import Problem, problem_of, reasons
from worker.http.streams import End, PacedWriter, Stream, Streams
from worker.http.tail import SentMessage
from worker.http.wanted import EventsQuery, Gap, MessageFilter, Start, filter_of

PROTOCOL = "media-events"
TOKEN_PROTOCOL = "media-token."  # noqa: S105 (what a token follows)
MOST_BYTES = 1024  # of a frame that a client may send; none is read
_MOST_REASON = 123  # bytes, in a frame that closes
GOING_AWAY, POLICY_VIOLATION, TRY_AGAIN_LATER = 1001, 1008, 1013

_CODES = {End.STOPPING: GOING_AWAY, End.NO_RIGHT: POLICY_VIOLATION}


def add_to(router: APIRouter, face: Face, streams: Streams) -> None:
    """Add `/v1/events/ws`, whose streams are counted with the others."""

    @router.websocket("/v1/events/ws")
    async def frames(websocket: WebSocket) -> None:
        opened: tuple[MessageFilter, Start] | Problem
        try:
            opened = await _opened(face, websocket)
        except (Problem, StorageError) as error:
            opened = problem_of(error)  # browsers show the code of a close, and no answer to the request
        offered = websocket.scope["subprotocols"]
        try:
            await websocket.accept(PROTOCOL if PROTOCOL in offered else None)
        except OSError:  # who asked has left
            return
        client = _Client(websocket)
        try:
            if isinstance(opened, Problem):
                raise opened
            await _stream(face, streams, websocket, client, *opened)
        except Problem as problem:
            await client.close(*_refusal(problem))
        except WebSocketDisconnect:
            pass

    @router.get("/v1/events/ws", responses=_ANSWERS)
    async def upgrade() -> Response:
        """The messages of `/v1/events` as a WebSocket, each frame a JSON array of what came at once.

        Takes `id` and `since`. A page, which cannot set headers, offers the subprotocols `media-events` and
        `media-token.TOKEN`. A gap is `[{"type": "gap", "from": 18, "to": 120}]`. The server closes with 1001
        when it stops, 1008 without the right, 1013 when too many streams are open. What a client sends is
        ignored.
        """
        raise Problem(
            "bad_request",
            "This is a WebSocket: connect with ws:// or wss://.",
            HTTPStatus.UPGRADE_REQUIRED,
            {"Upgrade": "websocket", "Connection": "Upgrade"},
        )


_ANSWERS: dict[int | str, dict[str, Any]] = {
    101: {"description": "The WebSocket."},
    426: {"description": "That was no request for a WebSocket."},
}


async def _opened(face: Face, websocket: WebSocket) -> tuple[MessageFilter, Start]:
    """What a client may have, and from where. Raises: Problem, StorageError."""
    _check_origin(face, websocket)
    caller = await _caller(face, websocket)
    try:
        query = EventsQuery.model_validate(dict(websocket.query_params))
    except ValidationError as error:
        raise Problem("bad_request", reasons(error.errors(include_url=False, include_input=False))) from error
    return filter_of(query, caller), await Start.of(face, query.since)


async def _stream(
    face: Face, streams: Streams, websocket: WebSocket, client: "_Client", wanted: MessageFilter, start: Start
) -> None:
    with streams.entered():
        client.writer = writer = PacedWriter(face, websocket.scope, wanted.caller)
        stream = Stream(face, wanted, client, lambda: _caller(face, websocket))
        end = await stream.run(start, _gone(websocket))
        if end in _CODES:
            await writer.finish(client.close(_CODES[end], end.value))


class _Client:
    """A client that reads frames."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self.writer: PacedWriter | None = None

    async def send(self, messages: Sequence[SentMessage]) -> None:
        await self._write(b"[%s]" % b",".join(message.data for message in messages))

    async def send_gap(self, gap: Gap) -> None:
        await self._write(orjson.dumps([{"type": "gap", **gap.document}]))

    async def send_turn(self) -> None:
        """What was missed comes as soon as it can be read."""

    async def ping(self) -> None:
        """The server pings by itself."""

    async def close(self, code: int, reason: str) -> None:
        """The last frame, unless the client has left."""
        with suppress(WebSocketDisconnect):
            await self._websocket.close(code, reason)

    async def _write(self, frame: bytes) -> None:
        sending = self._websocket.send_text(frame.decode())
        await (sending if self.writer is None else self.writer.write(sending))


def _refusal(problem: Problem) -> tuple[int, str]:
    """The code of the close, and a reason that fits into its frame."""
    again = problem.code in ("busy", "catalog_unavailable")
    reason = f"{problem.code}: {problem.detail}".encode()[:_MOST_REASON].decode(errors="ignore")
    return TRY_AGAIN_LATER if again else POLICY_VIOLATION, reason


def _check_origin(face: Face, websocket: WebSocket) -> None:
    """Raises: Problem where a page of another site asks: browsers let every page open a WebSocket."""
    origin = websocket.headers.get("origin")
    if origin is None:
        return
    found = urlsplit(origin.lower())
    host = websocket.headers.get("host", "").lower()
    ours = (host, urlsplit(face.settings.http_url.lower()).netloc)
    if found.netloc not in filter(None, ours) and origin not in face.settings.http_origins:
        raise Problem("forbidden", "Pages of that origin may not connect: MEDIA_HTTP_ORIGINS.")


async def _caller(face: Face, websocket: WebSocket) -> Caller:
    """Who asks, by the header or by the token among the subprotocols. Raises: Problem, CatalogUnavailable."""
    offered: Sequence[str] = websocket.scope["subprotocols"]
    tokens = [one.removeprefix(TOKEN_PROTOCOL) for one in offered if one.startswith(TOKEN_PROTOCOL)]
    if "authorization" in websocket.headers or not tokens:
        caller = await face.access.caller(websocket)
    elif tokens[0].startswith(SECRET_PREFIX):
        raise Problem("unauthorized", "A key goes into the header Authorization: pages get a token.")
    else:
        websocket.scope["media.caller"] = caller = await face.access.known(tokens[0])
    if caller.token is None and "read" not in caller.scopes:
        raise Problem("forbidden", "The key lacks the scope read.")
    return caller


async def _gone(websocket: WebSocket) -> None:
    """Read what the client sends, which is nothing that matters, until it leaves."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
