"""The tail of the outbox: what it wakes, what it keeps, and what it rides out."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from scripts.redis_server import temporary_redis
from storage.catalog.opening import Catalog
from storage.catalog.reading import Reader, open_reader
from storage.catalog.records import Message
from storage.errors import CatalogUnavailable
from tests.support.catalogs import ON_BOTH
from tests.support.outcomes import Outcomes
from tests.support.polling import until
from worker.http.tail import POLL_S, RING, TOGETHER_S, Subscription, Tail
from worker.queue import Queue, connect, job_queue_of

SOON_S = 10.0  # on a busy machine


class CountedReads:
    """A reader that counts, and that can be away or behind."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.reads = 0
        self.is_away = self.is_broken = False
        self.is_behind_for = 0

    async def has_read(self, times: int) -> bool:
        return self.reads >= times

    async def newest_seq(self) -> int:
        return await self._reader.newest_seq()

    async def messages(self, since: int, limit: int, upload_id: UUID | None = None) -> Sequence[Message]:
        self.reads += 1
        if self.is_away:
            raise CatalogUnavailable("the catalog did not answer")
        if self.is_broken:
            self.is_broken = False
            raise ZeroDivisionError
        if self.is_behind_for:
            self.is_behind_for -= 1
            return []
        return await self._reader.messages(since, limit, upload_id)


@pytest.fixture
async def outcomes(catalog: Catalog, queue: Queue) -> Outcomes:
    return Outcomes(catalog, queue)


@pytest.fixture
async def reads(catalog: Catalog, catalog_url: str) -> AsyncIterator[CountedReads]:
    async with open_reader(catalog_url) as reader:
        yield CountedReads(reader)


@asynccontextmanager
async def followed(reads: CountedReads, queue: Queue) -> AsyncIterator[Tail]:
    """A tail that follows, and has looked once."""
    tail = Tail(lambda: reads, queue.messages)  # type: ignore[arg-type, return-value]
    with tail.subscribed() as first:
        following = asyncio.create_task(tail.follow())
        try:
            assert await first.news(SOON_S)
            yield tail
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def seqs(tail: Tail, news: Subscription, count: int, after: int = 0) -> list[int]:
    """The `seq` of what it keeps, once it is so much."""
    async with asyncio.timeout(SOON_S):
        while len(found := tail.after(after) or ()) < count:
            await news.news(1)
    return [message.seq for message in found]


@ON_BOTH
async def test_a_message_wakes_who_waits_for_its_upload_and_who_waits_for_all(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    cat, dog = await outcomes.queued("uploads/me/cat.jpg"), await outcomes.queued("uploads/dog.jpg")
    async with followed(reads, queue) as tail:
        with tail.subscribed(cat) as of_cat, tail.subscribed(dog) as of_dog, tail.subscribed() as of_all:
            message = await outcomes.finish(cat)

            assert await of_cat.news(SOON_S)
            assert await of_all.news(SOON_S)
            assert not await of_dog.news(0.05)
            [kept] = tail.after(message.seq - 1) or ()
            assert (kept.seq, kept.id, kept.type, kept.owner) == (message.seq, cat, "upload.ready", "me")


async def test_a_message_that_redis_does_not_tell_is_found_within_a_second(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    async with followed(reads, queue) as tail:
        with tail.subscribed() as news:
            before, began = reads.reads, time.monotonic()
            message = await outcomes.ready("uploads/a.jpg", announced=False)
            earlier = (time.monotonic() - began) / POLL_S  # looks while it is made

            assert await seqs(tail, news, 1) == [message.seq]
            assert reads.reads - before <= earlier + 2  # one may have begun before it was committed
            assert POLL_S <= 1


async def test_what_redis_tells_before_a_replica_has_it_is_looked_for_soon_again(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    async with followed(reads, queue) as tail:
        with tail.subscribed() as news:
            reads.is_behind_for = 4
            message = await outcomes.ready("uploads/a.jpg")
            began = time.monotonic()

            assert await seqs(tail, news, 1) == [message.seq]
            assert time.monotonic() - began < 3 * POLL_S  # four looks, one each second, take longer


async def test_many_messages_at_once_are_few_reads_and_come_in_their_order(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    async with followed(reads, queue) as tail:
        with tail.subscribed() as news:
            before, began = reads.reads, time.monotonic()
            made = [message.seq for _ in range(20) for message in await outcomes.flood(10)]

            assert await seqs(tail, news, len(made)) == made
            turns = (time.monotonic() - began) / TOGETHER_S  # however slowly they were made
            assert reads.reads - before <= turns + 2


async def test_the_ring_keeps_the_last_messages_and_says_when_it_does_not_go_back_so_far(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    async with followed(reads, queue) as tail:
        with tail.subscribed() as news:
            made = [message.seq for message in await outcomes.flood(RING + 5)]
            async with asyncio.timeout(SOON_S):
                while tail.last != made[-1]:
                    await news.news(1)

        assert tail.after(made[3]) is None
        assert [message.seq for message in tail.after(made[4]) or ()] == made[5:]
        assert [message.seq for message in await tail.replay(made[3], None)] == made[4:104]


async def test_an_outage_of_the_catalog_is_logged_once_read_each_second_and_missed_by_nobody(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    async with followed(reads, queue) as tail:
        with tail.subscribed() as news, capture_logs() as logs:
            reads.is_away, before, began = True, reads.reads, time.monotonic()
            made = [(await outcomes.ready(f"uploads/{number}.jpg")).seq for number in range(40)]
            await until(lambda: reads.has_read(before + 2))
            tries, reads.is_away = reads.reads - before, False
            most = 2 + (time.monotonic() - began) / POLL_S

            assert await seqs(tail, news, 40) == made
            assert tries <= most
            assert [line["event"] for line in logs if line["log_level"] != "debug"] == [
                "catalog_unavailable",
                "catalog_available",
            ]


async def test_a_bug_is_logged_and_silences_nobody_for_ever(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    async with followed(reads, queue) as tail:
        with tail.subscribed() as news, capture_logs() as logs:
            reads.is_broken = True
            message = await outcomes.ready("uploads/a.jpg")

            assert await seqs(tail, news, 1) == [message.seq]
            assert [line["event"] for line in logs] == ["tail_crashed"]


async def test_without_redis_messages_come_and_with_it_they_come_at_once_again(
    outcomes: Outcomes, reads: CountedReads, tmp_path: Path
) -> None:
    with temporary_redis() as redis_server:
        redis = connect(redis_server.url, job_queue_of("media:uploads"))
        own = Queue(redis, "media:uploads", "other", 1000)
        async with followed(reads, own) as tail:
            with tail.subscribed() as news:
                os.kill(redis_server.pid, 9)
                message = await outcomes.ready("uploads/a.jpg", announced=False)

                assert await seqs(tail, news, 1) == [message.seq]
        await redis.aclose(close_connection_pool=True)


async def test_numbers_that_jump_after_a_restore_are_followed(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    async with followed(reads, queue) as tail:
        with tail.subscribed() as news:
            first = await outcomes.ready("uploads/a.jpg")
            await outcomes.catalog.outbox.begin_above(2**41)
            second = await outcomes.ready("uploads/b.jpg")

            assert second.seq > 2**41
            assert await seqs(tail, news, 2) == [first.seq, second.seq]


async def test_a_stream_of_messages_that_begins_anew_wakes_the_tail_as_before(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    async with followed(reads, queue) as tail:
        with tail.subscribed() as news:
            first = await outcomes.ready("uploads/a.jpg")
            await seqs(tail, news, 1)
            await queue.redis.flushdb()
            second = await outcomes.ready("uploads/b.jpg")

            assert await seqs(tail, news, 2) == [first.seq, second.seq]


async def test_what_other_programs_write_to_the_stream_is_a_wake_up_and_no_more(
    outcomes: Outcomes, reads: CountedReads, queue: Queue
) -> None:
    async with followed(reads, queue) as tail:
        with tail.subscribed() as news:
            await queue.redis.xadd("media:events", {"event": b'{"seq": "17"}'})
            await queue.redis.xadd("media:events", {"other": b"\xff"})
            message = await outcomes.ready("uploads/a.jpg")

            assert await seqs(tail, news, 1) == [message.seq]


async def test_while_nothing_happens_it_looks_once_a_second(reads: CountedReads, queue: Queue) -> None:
    async with followed(reads, queue) as tail:
        before = reads.reads
        commands = (await queue.redis.info("stats"))["total_commands_processed"]
        with tail.subscribed() as news:
            assert not await news.news(2.3)

        assert reads.reads - before <= 3
        assert (await queue.redis.info("stats"))["total_commands_processed"] - commands <= 8
