"""A stream while nothing happens: its pings, its right, and a catalog that is away."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from scripts.redis_server import RedisServer
from storage.errors import CatalogUnavailable
from tests.support.face import OpenFace
from tests.support.outcomes import Outcomes, outcomes_at
from worker.http import streams
from worker.http.access import ANYBODY
from worker.http.streams import End, Stream
from worker.http.tail import SentMessage
from worker.http.wanted import Gap, MessageFilter, Start


class RecordingOutlet:
    """A client that takes everything at once."""

    def __init__(self) -> None:
        self.seen: asyncio.Queue[Any] = asyncio.Queue()

    async def send(self, messages: Sequence[SentMessage]) -> None:
        for message in messages:
            self.seen.put_nowait(message.seq)

    async def send_gap(self, gap: Gap) -> None:
        self.seen.put_nowait(gap)

    async def send_turn(self) -> None:
        self.seen.put_nowait("turn")

    async def ping(self) -> None:
        self.seen.put_nowait("ping")

    async def next(self) -> Any:
        return await asyncio.wait_for(self.seen.get(), 10)


@pytest.fixture
async def outcomes(opened: OpenFace, installation: Path, server: RedisServer) -> AsyncIterator[Outcomes]:
    async with outcomes_at(f"sqlite+aiosqlite:///{installation / 'catalog.db'}", server.url) as outcomes:
        yield outcomes


class RunningStream:
    """A stream of this process, whose client may leave and whose caller may lose the right."""

    def __init__(self, opened: OpenFace, since: int = 0) -> None:
        self.outlet = RecordingOutlet()
        self.gone = asyncio.Event()
        self._opened = opened
        self.key: dict[str, str] = {}
        stream = Stream(opened.face, MessageFilter(ANYBODY), self.outlet, self._recheck)
        self.task = asyncio.create_task(stream.run(Start(since, comes_back=since > 0), self.gone.wait()))

    async def _recheck(self) -> None:
        if self.key:
            await self._opened.face.access.known(self.key["Authorization"].removeprefix("Bearer "))

    async def end(self) -> End:
        return await asyncio.wait_for(self.task, 10)


async def test_a_stream_is_pinged_and_goes_on(
    opened: OpenFace, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PING_S", 0.05)
    running = RunningStream(opened)

    assert [await running.outlet.next() for _ in range(2)] == ["ping", "ping"]
    running.gone.set()
    assert await running.end() is End.GONE


async def test_a_key_that_is_revoked_ends_the_streams_that_it_opened(
    opened: OpenFace, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "PING_S", 0.05)
    running = RunningStream(opened)
    running.key = await opened.key("app", "read")
    assert await running.outlet.next() == "ping"
    assert await opened.face.stores.catalog.http_keys.revoke("app")
    opened.face.access.forget()

    assert await running.end() is End.NO_RIGHT


async def test_who_comes_back_while_the_catalog_is_away_is_told_later_what_was_missed(
    opened: OpenFace, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await outcomes.ready(f"uploads/{number}.jpg") for number in range(2)]
    monkeypatch.setattr(streams, "POLL_S", 0.05)
    found, away = opened.face.reader.oldest_seq, True

    async def oldest() -> int | None:
        if away:
            raise CatalogUnavailable("the catalog did not answer")
        return await found()

    monkeypatch.setattr(opened.face.reader, "oldest_seq", oldest)
    monkeypatch.setattr(opened.face.tail, "after", lambda _seq: None)  # as after a restart of the server
    running = RunningStream(opened, since=first.seq)
    await asyncio.wait({running.task}, timeout=0.1)
    away = False

    assert await running.outlet.next() == second.seq
    opened.face.stopping.set()
    assert await running.end() is End.STOPPING


async def test_a_stream_hears_that_the_catalog_has_gone_and_that_it_is_back(
    opened: OpenFace, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = RunningStream(opened)
    found, away = opened.face.reader.messages, True

    async def messages(*asked: Any) -> Any:
        if away:
            raise CatalogUnavailable("the catalog did not answer")
        return await found(*asked)

    monkeypatch.setattr(opened.face.reader, "messages", messages)
    await outcomes.ready("uploads/meanwhile.jpg")
    heard = [await running.outlet.next()]
    away = False
    heard += [await running.outlet.next() for _ in range(2)]

    assert sorted(heard, key=str) == [1, "turn", "turn"]
