"""Messages that work begins: ahead of the outcome, counted by owner, and never in its way."""

from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from storage.catalog.opening import Catalog
from storage.catalog.records import Claim
from tests.support.catalogs import ON_BOTH, claim, commit, delete_event, ready, spreading, take, upload_event
from tests.support.metrics import RecordedMetrics
from tests.support.outcomes import Outcomes
from worker.publisher import OutboxPublisher
from worker.queue import Queue
from worker.upload_ids import default_id

pytestmark = ON_BOTH

OURS = [f"uploads/mia/{n}.jpg" for n in range(4)]


async def begin(catalog: Catalog, source: str = OURS[0], **metadata: object) -> Claim:
    """An upload that came, and was claimed."""
    await take(catalog, upload_event(1, default_id(source), source, **metadata))
    return await claim(catalog, default_id(source))


async def finish(catalog: Catalog, publisher: OutboxPublisher, begun: Claim) -> None:
    committed = await commit(catalog, ready(begun))
    assert committed.message is not None
    publisher.publish([committed.message])


async def told(queue: Queue) -> list[dict[str, Any]]:
    return [message for _, message in await queue.messages.after("0", 1)]


async def test_a_start_is_told_before_the_outcome_with_how_many_of_the_owner_wait(
    queue: Queue, catalog: Catalog
) -> None:
    metrics = RecordedMetrics()
    publisher = OutboxPublisher(catalog.outbox, queue, metrics, starts=catalog.starts)
    begun = await begin(catalog, post=7)
    await take(
        spreading(catalog, 1), *(upload_event(n, default_id(one), one) for n, one in enumerate(OURS[1:], 2))
    )
    await take(catalog, upload_event(9, default_id("uploads/zoe/a.jpg"), "uploads/zoe/a.jpg"))
    await take(catalog, delete_event(10, default_id(OURS[3])))
    publisher.begun(begun)
    await publisher.flush()
    await finish(catalog, publisher, begun)
    await publisher.flush()

    [started, outcome] = await told(queue)
    assert [started["type"], outcome["type"]] == ["upload.started", "upload.ready"] == metrics.messages
    about = {
        name: started[name] for name in ("seq", "id", "source", "metadata", "recipe", "attempts", "waiting")
    }
    assert about == {
        "seq": 0,
        "id": str(default_id(OURS[0])),
        "source": OURS[0],
        "metadata": {"post": 7},
        "recipe": "default",
        "attempts": 0,
        "waiting": 2,
    }
    assert outcome["seq"] > started["seq"]


@pytest.mark.sqlite
async def test_parked_uploads_of_the_owner_wait_too(queue: Queue, catalog: Catalog) -> None:
    publisher = OutboxPublisher(catalog.outbox, queue, starts=catalog.starts)
    begun = await begin(catalog)
    others = [upload_event(n, default_id(one), one) for n, one in enumerate(OURS[1:], 2)]
    await take(catalog, *others)
    stalled = await catalog.requeuer.overdue(-1000, 10)
    await catalog.requeuer.requeue_stalled([one for one in stalled if one.id != begun.upload.id])
    publisher.begun(begun)
    await publisher.flush()

    assert [message["waiting"] for message in await told(queue)] == [3]


@pytest.mark.sqlite
async def test_a_start_is_placed_between_the_outcomes_before_and_after_it(
    queue: Queue, catalog: Catalog
) -> None:
    before = await Outcomes(catalog, queue).ready(OURS[0], announced=False)
    publisher = OutboxPublisher(catalog.outbox, queue, starts=catalog.starts)
    await take(catalog, upload_event(2**40, UUID(str(before.id)), OURS[0]))
    begun = await claim(catalog, default_id(OURS[0]))
    publisher.begun(begun)
    await publisher.flush()
    await finish(catalog, publisher, begun)
    await publisher.flush()

    [started, outcome] = await told(queue)
    assert before.seq == started["seq"] < outcome["seq"]


@pytest.mark.sqlite
async def test_a_start_that_comes_after_its_outcome_is_not_told(queue: Queue, catalog: Catalog) -> None:
    publisher = OutboxPublisher(catalog.outbox, queue, starts=catalog.starts)
    begun = await begin(catalog)
    await finish(catalog, publisher, begun)
    publisher.begun(begun)
    await publisher.flush()

    assert [message["type"] for message in await told(queue)] == ["upload.ready"]


@pytest.mark.sqlite
async def test_a_start_that_redis_refuses_is_lost_and_its_outcome_is_not(
    queue: Queue, catalog: Catalog
) -> None:
    publisher = OutboxPublisher(catalog.outbox, queue, starts=catalog.starts)
    begun = await begin(catalog)
    await queue.redis.set("media:events", "no stream")
    publisher.begun(begun)
    await publisher.flush()
    await queue.redis.delete("media:events")
    await finish(catalog, publisher, begun)
    await publisher.flush()

    assert [message["type"] for message in await told(queue)] == ["upload.ready"]


@pytest.mark.sqlite
async def test_nothing_is_told_of_starts_unless_somebody_asks_for_it(queue: Queue, catalog: Catalog) -> None:
    publisher = OutboxPublisher(catalog.outbox, queue)
    publisher.begun(await begin(catalog))
    await publisher.flush()

    assert not await queue.redis.exists("media:events")


@pytest.mark.sqlite
async def test_a_start_is_not_taken_for_a_message_of_another_catalog(queue: Queue, catalog: Catalog) -> None:
    publisher = OutboxPublisher(catalog.outbox, queue, starts=catalog.starts)
    publisher.begun(await begin(catalog))
    await publisher.flush()

    assert len(await told(queue)) == 1
    assert await queue.messages.recent(10, 60_000) == []


@pytest.mark.sqlite
async def test_a_start_that_redis_refuses_counts_as_no_message_that_is_delayed(
    queue: Queue, catalog: Catalog
) -> None:
    publisher = OutboxPublisher(catalog.outbox, queue, starts=catalog.starts)
    begun = await begin(catalog)
    await queue.redis.config_set("maxmemory", 1)
    try:
        with capture_logs() as logged:
            publisher.begun(begun)
            await publisher.flush()
            await finish(catalog, publisher, begun)
            await publisher.flush()
    finally:
        await queue.redis.config_set("maxmemory", 0)

    assert [line["count"] for line in logged if line["event"] == "messages_delayed"] == [1]
