"""The pulse of the console: what it counts of the last hour, and what it rides out."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog
from storage.catalog.reading import MessageHead, Reader, open_reader
from storage.catalog.records import About
from storage.errors import CatalogUnavailable
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    SOURCE,
    claim,
    commit,
    failed,
    letter,
    take,
    upload_event,
    work,
)
from tests.support.face import OpenFace, opened_face, settings_in
from tests.support.polling import until
from worker.http.console import pulse
from worker.http.console.pulse import Minute, Pulse, ReadyRate
from worker.http.tail import Tail
from worker.queue import Queue

MINUTE_MS = 60_000
NOW_MS = 1_800_000_030_000  # half a minute after one began
THIS = NOW_MS - 30_000


@dataclass
class FailingReads:
    """A reader that is away for some reads."""

    reader: Reader
    fails: int = 0

    async def newest_seq(self) -> int:
        return await self.reader.newest_seq()

    async def first_seq(self, since_ms: int) -> int | None:
        return await self.reader.first_seq(since_ms)

    async def message_heads(self, since: int, limit: int) -> Sequence[MessageHead]:
        if self.fails:
            self.fails -= 1
            raise CatalogUnavailable("the catalog did not answer")
        return await self.reader.message_heads(since, limit)


@pytest.fixture
async def reads(catalog: Catalog, catalog_url: str) -> AsyncIterator[FailingReads]:
    async with open_reader(catalog_url) as reader:
        yield FailingReads(reader)


@pytest.fixture
def counting(reads: FailingReads, queue: Queue) -> Pulse:
    """A pulse that nobody runs yet; it is always the same moment."""
    return Pulse(lambda: reads, Tail(lambda: reads.reader, queue.messages), lambda: NOW_MS)  # type: ignore[arg-type, return-value]


@asynccontextmanager
async def followed(counting: Pulse) -> AsyncIterator[Pulse]:
    """It counts, and has caught up."""
    following = asyncio.create_task(counting.follow())

    async def is_complete() -> bool:
        return counting.is_complete

    try:
        await until(is_complete)
        yield counting
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def ready_at(catalog: Catalog, moments: Sequence[int], took_ms: Sequence[int] = ()) -> None:
    """Uploads that became ready at these moments, each after that time."""
    ids = [UUID(int=number) for number in range(1, len(moments) + 1)]
    await take(catalog, *(upload_event(each.int, each, f"uploads/{each}") for each in ids))
    change = text("UPDATE uploads SET changed_ms = :at, queued_ms = :queued WHERE id = :id")
    for number, (each, moment) in enumerate(zip(ids, moments, strict=True)):
        await work(catalog, each)
        queued = moment - (took_ms[number] if took_ms else 0)
        async with catalog.database.writing() as connection:
            await connection.execute(change, {"at": moment, "queued": queued, "id": str(each)})
            newest = "UPDATE outbox SET made_ms = :at WHERE seq = (SELECT max(seq) FROM outbox)"
            await connection.execute(text(newest), {"at": moment})


@ON_BOTH
async def test_outcomes_are_counted_in_the_minute_in_which_they_came(
    catalog: Catalog, counting: Pulse
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, failed(await claim(catalog)))
    await catalog.intake.take([], [replace(letter("7-0"), about=About(None, SOURCE))])
    async with catalog.database.writing() as connection:
        await connection.execute(text("UPDATE outbox SET made_ms = :at"), {"at": THIS - 2 * MINUTE_MS})
    await ready_at(catalog, [THIS - 1, THIS, THIS + 1])

    async with followed(counting):
        minutes = counting.minutes()
    assert len(minutes) == 60
    assert minutes[-3:] == [
        Minute(THIS - 2 * MINUTE_MS, failed=1),
        Minute(THIS - MINUTE_MS, ready=1),
        Minute(THIS, ready=2),
    ]


async def test_what_is_older_than_an_hour_is_not_counted(catalog: Catalog, counting: Pulse) -> None:
    hour = 60 * MINUTE_MS
    await ready_at(catalog, [NOW_MS - hour - MINUTE_MS, THIS - hour + MINUTE_MS])

    async with followed(counting):
        assert [minute.ready for minute in counting.minutes()] == [1, *[0] * 59]
        assert counting.since_ms == NOW_MS - hour


async def test_of_very_many_messages_the_newest_are_counted(
    catalog: Catalog, counting: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "MOST", 2)
    await ready_at(catalog, [THIS - 3 * MINUTE_MS, THIS - 2 * MINUTE_MS, THIS - MINUTE_MS])

    async with followed(counting):
        assert [minute.ready for minute in counting.minutes()][-4:] == [0, 1, 1, 0]
        assert counting.since_ms == THIS - 2 * MINUTE_MS


async def test_half_and_most_of_the_uploads_took_as_long_as_is_told(
    catalog: Catalog, counting: Pulse
) -> None:
    seconds = [*range(1, 20), 600]
    moments = [THIS - number * MINUTE_MS for number in range(19, -1, -1)]
    await ready_at(catalog, moments, [1000 * each for each in seconds])

    async with followed(counting):
        assert counting.latency() == pytest.approx((10, 19), rel=0.03)


async def test_nothing_is_told_of_an_hour_without_uploads(catalog: Catalog, counting: Pulse) -> None:
    assert counting.rate() is None  # it has not looked yet

    async with followed(counting):
        assert (counting.latency(), counting.rate()) == (None, ReadyRate(0, 90))


async def test_the_rate_is_that_of_this_minute_and_the_last(catalog: Catalog, counting: Pulse) -> None:
    await ready_at(catalog, [THIS - MINUTE_MS - 1, *[THIS - 1] * 5, *[THIS] * 4])

    async with followed(counting):
        assert counting.rate() == ReadyRate(9 / 90, 90)


async def test_messages_that_come_while_it_counts_and_through_an_outage_are_counted_once(
    catalog: Catalog, counting: Pulse, reads: FailingReads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "_AGAIN_S", 0.01)
    monkeypatch.setattr(pulse, "_LOOK_S", 0.01)

    async def counts_two() -> bool:
        return counting.minutes()[-1].ready == 2

    async with followed(counting):
        reads.fails = 3
        await ready_at(catalog, [THIS, THIS])
        await until(counts_two)
    assert reads.fails == 0


async def test_a_server_counts_what_it_tails(opened: OpenFace, catalog: Catalog) -> None:
    face = opened.face

    async def counts_one() -> bool:
        return sum(minute.ready for minute in face.pulse.minutes()) == 1

    await take(face.stores.catalog, upload_event(1))
    await work(face.stores.catalog, CAT)
    await until(counts_one)


@pytest.mark.parametrize("console", ["on", "off"])
async def test_nobody_counts_where_there_is_no_console(
    installation: Path, server: RedisServer, catalog_url: str, storage_url: str, console: str
) -> None:
    urls = {"catalog_url": catalog_url, "storage_url": storage_url}
    async with opened_face(settings_in(installation, server.url, console=console, **urls)):
        names = {task.get_name() for task in asyncio.all_tasks()}

    assert ("count-outcomes" in names) == (console == "on")
