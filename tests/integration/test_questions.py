"""Questions on the stream: how an upload is, answered on the stream of messages and kept nowhere."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from storage.catalog.opening import Catalog
from storage.catalog.tables import uploads
from tests.support.catalogs import ON_BOTH, SOURCE, claim, commit, delete_event, failed, outbox_of, take
from tests.support.catalogs import upload_event as announced
from tests.support.intakes import intake_on
from tests.support.metrics import RecordedMetrics
from tests.support.outcomes import Outcomes
from worker.domains import parse_domains
from worker.intake import Intake
from worker.queue import Queue, QueueUnavailable
from worker.relay import Relay
from worker.upload_ids import default_id

pytestmark = ON_BOTH

SHOP = "media:uploads:shop"
MINE = default_id(SOURCE)


@pytest.fixture
async def intake(queue: Queue, catalog: Catalog) -> Intake:
    intake = intake_on(queue, catalog)
    await intake.join()
    return intake


async def ask(queue: Queue, upload_id: UUID = MINE, **more: object) -> str:
    return await queue.stream.add({"status": str(upload_id), **more})


async def answers(queue: Queue, name: str = "media:events") -> list[dict[str, Any]]:
    """The answers on a stream of messages."""
    by_name = Queue(queue.redis, "media:uploads", "reader", 1000, name).messages
    found = [message for _, message in await by_name.after("0", 1)] if await queue.redis.exists(name) else []
    return [message for message in found if message["type"] == "upload.status"]


async def test_a_question_about_a_ready_upload_is_answered_with_its_variants(
    queue: Queue, catalog: Catalog, intake: Intake
) -> None:
    ready = await Outcomes(catalog, queue).ready(SOURCE)
    entry = await ask(queue, traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    await intake.drain_all()

    [answer] = await answers(queue)
    [_, told] = [message for _, message in await queue.messages.after("0", 1)]
    assert told == answer
    assert (answer["seq"], answer["state"], answer["entry"]) == (ready.seq, "ready", entry)
    assert [one["name"] for one in answer["variants"]] == ["thumb", "large"]
    assert (answer["original"]["width"], answer["error"], answer["attempts"]) == (640, None, 0)
    assert answer["thumbhash"] == "1mYGRZYXaIhwh4iBilmIhhePcnAI"
    assert answer["srcset"].endswith("w")
    assert answer["traceparent"].startswith("00-4bf92f35")


@pytest.mark.sqlite
async def test_nothing_is_kept_of_a_question(queue: Queue, catalog: Catalog) -> None:
    metrics = RecordedMetrics()
    intake = intake_on(queue, catalog, metrics=metrics)
    await intake.join()
    await ask(queue, uuid4())
    await intake.drain_all()

    assert (await queue.depth(), await queue.jobs.untaken()) == (0, 0)
    assert (await outbox_of(catalog), await catalog.dead_letters.count()) == ([], 0)
    assert not any((await catalog.reports.states()).values())
    assert (metrics.events, metrics.messages) == ({"accepted": 1}, ["upload.status"])


async def _queued(catalog: Catalog, _queue: Queue) -> None:
    await take(catalog, announced(1, MINE))


async def _failed(catalog: Catalog, queue: Queue) -> None:
    await _queued(catalog, queue)
    await commit(catalog, failed(await claim(catalog, MINE)))


async def _deleting(catalog: Catalog, queue: Queue) -> None:
    await Outcomes(catalog, queue).ready(SOURCE, announced=False)
    await take(catalog, delete_event(2**40, MINE))


async def _unknown(_catalog: Catalog, _queue: Queue) -> None:
    pass


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("happen", "expected"),
    [
        (_queued, {"state": "queued", "seq": 0, "source": SOURCE, "recipe": "default", "error": None}),
        (_failed, {"state": "failed", "seq": 1, "attempts": 1, "variants": []}),
        (_deleting, {"state": "deleting", "seq": 1, "source": SOURCE}),
        (_unknown, {"state": "unknown", "seq": 0, "source": None, "recipe": None, "metadata": {}}),
    ],
)
@pytest.mark.rotating(2)
async def test_the_answer_tells_how_the_upload_is(
    queue: Queue, catalog: Catalog, intake: Intake, happen: Callable[..., Any], expected: dict[str, Any]
) -> None:
    await happen(catalog, queue)
    await ask(queue)
    await intake.drain_all()

    [answer] = await answers(queue)
    assert {name: answer[name] for name in expected} == expected
    assert (answer["error"] is not None) is (expected["state"] == "failed")


@pytest.mark.sqlite
async def test_the_events_before_a_question_count_and_each_has_its_own_answer(
    queue: Queue, intake: Intake
) -> None:
    before = await ask(queue)
    await queue.stream.add({"source": SOURCE, "metadata": {"n": 1}})
    after = await ask(queue)
    assert await intake.step(None) == 3

    assert {one["entry"] for one in await answers(queue)} == {before, after}
    assert [one["metadata"] for one in await answers(queue) if one["entry"] == after] == [{"n": 1}]
    assert await queue.depth() == 0


@pytest.mark.sqlite
async def test_an_upload_that_another_worker_is_about_to_record_is_not_unknown(
    queue: Queue, intake: Intake
) -> None:
    await queue.stream.add({"source": SOURCE, "owner": "mia", "metadata": {"n": 1}})
    assert await Queue(queue.redis, "media:uploads", "another", 1000).stream.read(1, None)
    await ask(queue)
    await intake.step(None)

    [answer] = await answers(queue)
    assert (answer["state"], answer["source"], answer["metadata"]) == ("queued", SOURCE, {"n": 1})


@pytest.mark.sqlite
async def test_a_question_waits_until_redis_takes_its_answer(queue: Queue, intake: Intake) -> None:
    await queue.redis.set("media:events", "no stream")
    entry = await ask(queue)
    with pytest.raises(QueueUnavailable, match="holds something else"):
        await intake.step(None)
    await queue.redis.delete("media:events")
    intake._has_pending = True  # as after the lease
    await intake.step(None)

    assert [one["entry"] for one in await answers(queue)] == [entry]
    assert await queue.depth() == 0


@pytest.mark.sqlite
async def test_a_question_that_cannot_be_answered_holds_up_no_event(
    queue: Queue, catalog: Catalog, intake: Intake
) -> None:
    await queue.redis.set("media:events", "no stream")
    entry = await ask(queue)
    await queue.stream.add({"source": SOURCE})
    with pytest.raises(QueueUnavailable):
        await intake.step(None)
    await queue.stream.add({"source": "uploads/later.jpg"})
    assert await intake.step(None) == 1

    assert await catalog.reports.find(default_id("uploads/later.jpg"))
    assert (await queue.depth(), await queue.stream.oldest_id()) == (1, entry)


@pytest.mark.sqlite
@pytest.mark.parametrize(("about", "state"), [("uploads/shop/a.jpg", "queued"), (SOURCE, "unknown")])
async def test_an_app_on_a_stream_of_its_own_asks_about_its_own_uploads_alone(
    queue: Queue, catalog: Catalog, about: str, state: str
) -> None:
    domains = parse_domains(f"{SHOP}=uploads/shop/", "media:uploads", "media:events")
    queue = Queue(queue.redis, "media:uploads", "me", 1000, domains=domains)
    intake = intake_on(queue, catalog)
    await intake.join()
    await take(catalog, announced(1, default_id(about), about))
    entry = (await queue.redis.xadd(SHOP, {"event": f'{{"status": "{default_id(about)}"}}'})).decode()
    await Relay(queue, batch_size=10, lease_s=5, stopping=intake._stopping).drain()
    await intake.drain_all()

    [answer] = await answers(queue, "media:events:shop")
    assert (answer["entry"], answer["state"]) == (entry, state)
    assert not await queue.redis.exists("media:events")  # whatever an app asks, others lose nothing by it


@pytest.mark.sqlite
async def test_a_damaged_row_keeps_no_other_question_from_its_answer(
    queue: Queue, catalog: Catalog, intake: Intake
) -> None:
    await take(catalog, announced(1, MINE))
    await _set_metadata(catalog, "{")
    damaged, well = await ask(queue), await ask(queue, uuid4())
    await intake.step(None)
    assert [one["entry"] for one in await answers(queue)] == [well]
    assert await queue.stream.oldest_id() == damaged
    await _set_metadata(catalog, "{}")
    intake._has_pending = True  # as after the lease
    await intake.step(None)

    assert [one["entry"] for one in await answers(queue)] == [well, damaged]
    assert await queue.depth() == 0


async def _set_metadata(catalog: Catalog, text: str) -> None:
    async with catalog.database.writing() as connection:
        await connection.execute(update(uploads).values(metadata=text))
