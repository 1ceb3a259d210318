"""Waiting for an upload: it ends with the upload, with the time, and with the server."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from scripts.redis_server import RedisServer
from storage.catalog.records import State, Upload
from tests.support.catalogs import claim, commit, postponed
from tests.support.face import OpenFace
from tests.support.outcomes import Outcomes, outcomes_at
from tests.support.polling import until
from worker.http.face import Face
from worker.http.tail import POLL_S
from worker.http.waiting import settled
from worker.upload_ids import default_id

LOOKS = 6


@pytest.fixture
async def outcomes(opened: OpenFace, installation: Path, server: RedisServer) -> AsyncIterator[Outcomes]:
    async with outcomes_at(f"sqlite+aiosqlite:///{installation / 'catalog.db'}", server.url) as outcomes:
        yield outcomes


@pytest.fixture
def reads(opened: OpenFace, monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The uploads that were read, one by one."""
    seen: list[UUID] = []
    found = opened.face.reader.upload

    async def counted(upload_id: UUID) -> Upload | None:
        seen.append(upload_id)
        return await found(upload_id)

    monkeypatch.setattr(opened.face.reader, "upload", counted)
    return seen


async def waiting(
    face: Face, upload_id: UUID, reads: list[UUID], within_s: float = 20
) -> asyncio.Task[Upload | None]:
    """Somebody who has looked once, and waits."""
    before = reads.count(upload_id)
    task = asyncio.create_task(settled(face, upload_id, within_s))

    async def has_looked() -> bool:
        return reads.count(upload_id) > before

    await until(has_looked)
    return task


async def test_an_upload_is_there_as_soon_as_it_is_ready(
    opened: OpenFace, outcomes: Outcomes, reads: list[UUID]
) -> None:
    began = time.monotonic()
    for number in range(LOOKS):
        cat = await outcomes.queued(f"uploads/cat-{number}.jpg")
        task = await waiting(opened.face, cat, reads)
        await outcomes.finish(cat)

        upload = await task
        assert upload is not None
        assert (upload.state, len(upload.variants)) == (State.READY, 2)

    assert len(reads) == 2 * LOOKS
    assert time.monotonic() - began < (LOOKS - 2) * POLL_S  # they were told, not found by looking each second


async def test_one_that_no_worker_knows_yet_can_be_waited_for(
    opened: OpenFace, outcomes: Outcomes, reads: list[UUID]
) -> None:
    task = await waiting(opened.face, default_id("uploads/new.jpg"), reads)
    await outcomes.ready("uploads/new.jpg")

    upload = await task
    assert upload is not None
    assert upload.state is State.READY


async def test_messages_about_others_cost_who_waits_nothing(
    opened: OpenFace, outcomes: Outcomes, reads: list[UUID]
) -> None:
    cat = await outcomes.queued("uploads/cat.jpg")
    task = await waiting(opened.face, cat, reads)
    for number in range(20):
        await outcomes.ready(f"uploads/{number}.jpg")
    await outcomes.finish(cat)
    await task

    assert reads == [cat, cat]


async def test_a_message_between_the_look_and_the_wait_is_not_missed(
    opened: OpenFace, outcomes: Outcomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    cat = await outcomes.queued("uploads/cat.jpg")
    found, finished = opened.face.reader.upload, False

    async def looked(upload_id: UUID) -> Upload | None:
        nonlocal finished
        upload = await found(upload_id)
        if not finished:
            finished = True
            with opened.face.tail.subscribed(cat) as news:
                await outcomes.finish(cat)
                assert await news.news(10)  # all who wait know by now
        return upload

    monkeypatch.setattr(opened.face.reader, "upload", looked)
    upload = await asyncio.wait_for(settled(opened.face, cat, 20), 10)

    assert upload is not None
    assert upload.state is State.READY


async def test_an_upload_that_is_tried_again_later_is_waited_for_until_the_time_is_over(
    opened: OpenFace, outcomes: Outcomes
) -> None:
    cat = await outcomes.queued("uploads/cat.jpg")
    await commit(outcomes.catalog, postponed(await claim(outcomes.catalog, cat)))
    began = time.monotonic()

    upload = await settled(opened.face, cat, 0.3)

    assert upload is not None
    assert upload.state is State.QUEUED
    assert 0.3 <= time.monotonic() - began < 5


async def test_a_server_that_stops_lets_nobody_wait(
    opened: OpenFace, outcomes: Outcomes, reads: list[UUID]
) -> None:
    cat = await outcomes.queued("uploads/cat.jpg")
    task = await waiting(opened.face, cat, reads)
    opened.face.stopping.set()

    upload = await asyncio.wait_for(task, 2)
    assert upload is not None
    assert upload.state is State.QUEUED
