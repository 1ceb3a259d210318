"""The reconciler finds what is stalled among all that waits for its turn, and does each of its chores."""

from uuid import uuid4

import pytest
from sqlalchemy import text

from storage.catalog.opening import Catalog
from storage.errors import CatalogUnavailable
from tests.support.catalogs import delete_event, letter, outbox_of, spreading, take, upload_event
from worker import leases
from worker.publisher import OutboxPublisher
from worker.queue import Queue


async def _reconcile(queue: Queue, catalog: Catalog) -> int:
    await queue.stream.make_group()
    return await leases.reconcile(queue, catalog, OutboxPublisher(catalog.outbox, queue), lease_s=-1)


@pytest.mark.parametrize("stalled", [1, 3])
async def test_stalled_uploads_do_not_hide_behind_a_thousand_that_wait_for_their_turn(
    queue: Queue, catalog: Catalog, stalled: int
) -> None:
    catalog = spreading(catalog, 100)
    events = [upload_event(1, uuid4(), f"uploads/{n}.jpg") for n in range(leases.ROWS_A_TICK)]
    await queue.jobs.enqueue((await take(catalog, *events)).jobs)
    await take(catalog, *[upload_event(1, uuid4(), f"uploads/s{n}.jpg") for n in range(stalled)])

    assert await _reconcile(queue, catalog) == stalled
    assert await _reconcile(queue, catalog) == 0
    assert await catalog.parking.count("") == stalled  # they take turns with what is live


async def test_one_chore_that_fails_each_time_keeps_no_other_from_its_turn(
    queue: Queue, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEEP_MESSAGES_MS", "KEEP_DEAD_LETTERS_MS"):
        monkeypatch.setattr(f"worker.leases.{name}", -60_000)
    await catalog.intake.take([], [letter("1-0")])
    await take(catalog, delete_event(2))
    await catalog.outbox.mark_sent(await outbox_of(catalog))
    async with catalog.database.writing() as connection:
        refuse = "BEGIN SELECT RAISE(ABORT, 'this takes too long'); END"
        await connection.execute(text(f"CREATE TRIGGER slow BEFORE DELETE ON outbox {refuse}"))

    with pytest.raises(CatalogUnavailable, match="this takes too long"):
        await _reconcile(queue, catalog)

    assert await catalog.dead_letters.count() == 0
