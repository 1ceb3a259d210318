"""A client of Server-Sent Events, as browsers are, but slower to forgive."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Event:
    """What came between two blank lines; a comment has only its text."""

    id: int | None = None
    type: str = "message"
    data: Any = None
    comment: str | None = None
    retry: int | None = None


class EventSource:
    """One stream that is read."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._events = self._parse()

    async def next(self) -> Event:
        """The next event, without what is said between them."""
        async for event in self._events:
            if event.data is not None:
                return event
        raise EOFError

    async def take(self, count: int) -> list[Event]:
        """The next ones."""
        return [await self.next() for _ in range(count)]

    async def comment(self) -> str:
        """The next comment."""
        async for event in self._events:
            if event.comment is not None:
                return event.comment
        raise EOFError

    async def _parse(self) -> AsyncIterator[Event]:
        found: dict[str, Any] = {}
        async with aclosing(self.response.aiter_lines()) as lines:  # type: ignore[type-var]
            async for line in lines:
                if not line:
                    yield Event(**found)
                    found = {}
                    continue
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                match name:
                    case "":
                        found["comment"] = value
                    case "event":
                        found["type"] = value
                    case "data":
                        found["data"] = json.loads(value)
                    case _:
                        found[name] = int(value)


@asynccontextmanager
async def event_source(
    client: httpx.AsyncClient, last: int | None = None, **query: object
) -> AsyncIterator[EventSource]:
    """A stream, which has begun: what happens from now on is on it."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    async with client.stream("GET", "/v1/events", params=query, headers=headers) as response:  # type: ignore[arg-type]
        assert response.status_code == 200, await response.aread()
        source = EventSource(response)
        first = await anext(source._events)
        assert first.retry == 2000
        yield source
