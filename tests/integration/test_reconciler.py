"""The reconciler finds what is stalled, however much waits for its turn beside it."""

from uuid import uuid4

import pytest

from storage.catalog.opening import Catalog
from tests.support.catalogs import spreading, take, upload_event
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
