"""What tells open pages that something has changed: no content, only which uploads, and how they ended."""

from collections.abc import Sequence
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from worker.http.console.pages import Console
from worker.http.console.paths import LIVE, ConsoleQuery
from worker.http.console.visitors import Visitor
from worker.http.events import EventsResponse, EventWriter, last_event_id
from worker.http.streams import Streams
from worker.http.tail import SentMessage
from worker.http.wanted import MOST_SEQ, Gap, MessageFilter, Start

_ANY_CHANGE = b'event: changed\ndata: {"uploads":{}}\n\n'


class LiveQuery(ConsoleQuery):
    """Where a page goes on that has heard something before."""

    since: int | None = Field(None, ge=0, le=MOST_SEQ)


class ChangeWriter(EventWriter):
    """A page that hears which uploads have changed."""

    async def send(self, messages: Sequence[SentMessage]) -> None:
        """Send these at once."""
        uploads = {
            str(message.id): message.type.removeprefix("upload.") for message in messages if message.id
        }
        await self.write(_change(messages[-1].seq, uploads))

    async def send_gap(self, gap: Gap) -> None:
        """Send that anything may have changed."""
        await self.write(_change(gap.end, {}))

    async def send_turn(self) -> None:
        """Send the same, with no number: the page asks, and the answer says what is away."""
        await self.write(_ANY_CHANGE)


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/live`."""
    face = console.face
    streams = Streams(face.settings.http_streams)

    @router.get(LIVE, include_in_schema=False)
    async def live(
        request: Request,
        query: Annotated[LiveQuery, Query()],
        visitor: Annotated[Visitor, Depends(console.visitor)],
    ) -> Response:
        """Tell as Server-Sent Events which uploads have changed; after an outage, what was missed."""
        start = await Start.of(face, last_event_id(request.headers.get("last-event-id"), query.since))
        wanted = MessageFilter(visitor.caller)
        return EventsResponse(
            face, streams, wanted, start, lambda: console.visitors.visitor(request), ChangeWriter
        )


def _change(seq: int, uploads: dict[str, str]) -> bytes:
    return b"id: %d\nevent: changed\ndata: %s\n\n" % (seq, orjson.dumps({"uploads": uploads}))
