"""Messages as they come: as Server-Sent Events, and page by page."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.types import Receive, Scope, Send

from worker.http import websocket
from worker.http.access import Caller
from worker.http.documents import json_response
from worker.http.face import Face
from worker.http.parameters import DirectRoute
from worker.http.problems import Problem
from worker.http.streams import End, PacedWriter, Stream, Streams
from worker.http.tail import SentMessage
from worker.http.wanted import MOST_SEQ, EventsQuery, Gap, MessageFilter, Place, Start, filter_of, gap_before

RETRY_MS = 2000  # after which a browser connects again
_PAGES = 10  # of the outbox, that are looked through for one page of a caller who may have few of them

_EXAMPLE = {
    "type": "upload.ready",
    "seq": 17,
    "id": "4a2ca705-03aa-52b8-a8b8-e2aa1374070e",
    "source": "uploads/http/4a/9f0c5d1e-8d3c-4c39-a41b-0a53c3e9c1f2.jpg",
    "metadata": {"post": 42},
    "time": "2026-11-29T22:14:03.120Z",
    "recipe": "default",
    "original": {"width": 4000, "height": 3000, "format": "jpeg", "bytes": 3512004, "color": "#8a7f6b"},
    "thumbhash": "1mYGRZYXaIhwh4iBilmIhhePcnAI",
    "blurhash": None,
    "variants": [
        {"name": "thumb", "key": "variants/ab/cd/1f0e.jpg", "width": 150, "height": 113, "bytes": 5120}
    ],
    "srcset": "https://media.example.com/files/variants/ab/cd/1f0e.jpg 150w",
}
_SSE_EXAMPLE = (
    f"retry: {RETRY_MS}\n\nid: 17\nevent: upload.ready\ndata: {orjson.dumps(_EXAMPLE).decode()}\n\n: ping\n\n"
    'id: 120\nevent: gap\ndata: {"from":18,"to":120}\n\n'
)
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The stream, or with `Accept: application/json` one page.",
        "content": {
            "text/event-stream": {"schema": {"type": "string"}, "example": _SSE_EXAMPLE},
            "application/json": {
                "schema": {"type": "object"},
                "example": {"items": [_EXAMPLE], "next": None, "last": 17, "gap": None},
            },
        },
    },
    503: {"description": "So many streams are open that this server opens no more."},
}


def routes(face: Face) -> APIRouter:
    """`/v1/events`, also as a WebSocket."""
    router = APIRouter(tags=["events"], route_class=DirectRoute)
    streams = Streams(face.settings.http_streams)

    @router.get("/v1/events", responses=_ANSWERS)
    async def events(
        request: Request,
        query: Annotated[EventsQuery, Query()],
        caller: Annotated[Caller, Depends(face.access.requires("read", token=True))],
    ) -> Response:
        """What becomes of uploads, as it happens: Server-Sent Events, each with its `seq` as its id.

        `Last-Event-ID` (or `since`) says which message a client has had last, and what it missed is sent
        first; without, the stream begins now. An event named `gap` says that messages between were forgotten:
        read the state anew. With `Accept: application/json` the answer is one page; `last` is the `since` of
        the next one, and `next` is that too as long as there is more.
        """
        wanted = filter_of(query, caller)
        start = await Start.of(face, last_event_id(request.headers.get("last-event-id"), query.since))
        if _prefers_json(request.headers.get("accept", "*/*")):
            return json_response(await _page(face, wanted, start, query.limit))
        return EventsResponse(face, streams, wanted, start, lambda: face.access.caller(request))

    websocket.add_to(router, face, streams)
    return router


async def _page(face: Face, wanted: MessageFilter, start: Start, limit: int) -> Mapping[str, object]:
    gap = await gap_before(face, start)
    begin = start.seq if gap is None else gap.end
    place = Place(face, wanted, begin, from_ring=False)
    items = list[SentMessage]()
    more: Sequence[SentMessage] | None = ()
    for _ in range(_PAGES):
        if (more := await place.next(limit - len(items))) is None:
            break
        items += more
        if len(items) == limit:
            break
    last = place.seq
    if wanted.upload_id is not None and not items:
        # Another's upload looks like an unknown one: nothing tells that it has messages, and when.
        last, more = begin, None
    return {
        "items": [orjson.Fragment(message.data) for message in items],
        "next": None if more is None else last,
        "last": last,
        "gap": gap and gap.document,
    }


class EventWriter:
    """A client that reads Server-Sent Events."""

    def __init__(self, writer: PacedWriter, send: Send) -> None:
        self._writer = writer
        self._send = send

    async def write(self, body: bytes) -> None:
        """Send these bytes, no faster than the client takes them. Raises: SlowClientError."""
        await self._writer.write(_sent(self._send, body))

    async def send(self, messages: Sequence[SentMessage]) -> None:
        """Send these messages at once."""
        await self.write(b"".join(map(_event, messages)))

    async def send_gap(self, gap: Gap) -> None:
        """Send what was missed."""
        await self.write(b"id: %d\nevent: gap\ndata: %s\n\n" % (gap.end, orjson.dumps(gap.document)))

    async def send_turn(self) -> None:
        """Send nothing: what was missed comes as soon as it can be read."""

    async def ping(self) -> None:
        """Send a comment."""
        await self.write(b": ping\n\n")


class EventsResponse(Response):
    """An answer that goes on until the client leaves or the server stops."""

    media_type = "text/event-stream"

    def __init__(
        self,
        face: Face,
        streams: Streams,
        wanted: MessageFilter,
        start: Start,
        recheck: Callable[[], Awaitable[object]],
        source: type[EventWriter] = EventWriter,
    ) -> None:
        """`recheck` raises a Problem once the client has no right any more."""
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._face = face
        self._streams = streams
        self._wanted = wanted
        self._start = start
        self._recheck = recheck
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.entered():
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            writer = PacedWriter(self._face, scope, self._wanted.caller)
            client = self._source(writer, send)
            await client.write(b"retry: %d\n\n" % RETRY_MS)
            gone = _disconnected(receive)
            stream = Stream(self._face, self._wanted, client, self._recheck)
            end = await stream.run(self._start, gone)
            if end in (End.STOPPING, End.NO_RIGHT):
                await writer.finish(send({"type": "http.response.body", "body": b"", "more_body": False}))


async def _sent(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(message: SentMessage) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (message.seq, message.type.encode(), message.data)


def last_event_id(header: str | None, since: int | None) -> int | None:
    """Where to go on: a browser that connects again sends the header, and its URL is the first one."""
    if not header:
        return since
    if header.isascii() and header.isdigit() and len(header) <= 16 and int(header) <= MOST_SEQ:
        return int(header)
    raise Problem("bad_request", "Last-Event-ID must be the id of an event that this server has sent.")


def _prefers_json(accept: str) -> bool:
    """Whether JSON is asked for by its name, and events are not, or less."""
    wanted = dict(map(_weighed, accept.lower().split(",")))
    return wanted.get("application/json", 0) > wanted.get("text/event-stream", 0)


def _weighed(part: str) -> tuple[str, float]:
    name, *parameters = (word.strip() for word in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0
    return name, 1
