"""What any app can have a worker record without an upload is bounded in size and in time."""

import json
from uuid import uuid4

import pytest

from storage.catalog.opening import Catalog
from storage.catalog.records import State
from tests.support.catalogs import ON_BOTH, upload_event
from tests.support.catalogs import take as record
from tests.support.intakes import intake_on
from worker.queue import Queue
from worker.upload_ids import default_id

pytestmark = ON_BOTH
KIB = 1024
UNSEEN = "SELECT count(*) FROM uploads WHERE source IS NULL"


async def take(queue: Queue, catalog: Catalog, *bodies: bytes) -> None:
    for body in bodies:
        await queue.stream.add_raw(body)
    intake = intake_on(queue, catalog)
    await intake.join()
    await intake.drain_all()


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"x" * 200 * KIB, 4 * KIB),
        (b'{"source": "' + b"x" * 200 * KIB, 4 * KIB),
        (json.dumps({"source": "x" * 200 * KIB}).encode(), 4 * KIB),
        (b"x" * KIB, KIB),
        (json.dumps({"source": "x" * 100 * KIB}).encode(), 100 * KIB + 14),
    ],
    ids=["no JSON", "torn JSON", "JSON that is too large", "a short one", "JSON"],
)
async def test_of_a_letter_so_many_bytes_are_kept(
    queue: Queue, catalog: Catalog, body: bytes, kept: int
) -> None:
    await take(queue, catalog, body)
    [letter] = await catalog.dead_letters.newest(9)

    assert letter.body == body[:kept]


async def unseen(catalog: Catalog) -> int:
    async with catalog.database.reading() as connection:
        found: int = (await connection.exec_driver_sql(UNSEEN)).scalar_one()
        return found


async def test_the_tombstone_of_an_id_that_never_had_an_upload_goes_once_it_is_old(
    queue: Queue, catalog: Catalog
) -> None:
    deletes = [json.dumps({"delete": str(uuid4())}).encode() for _ in range(30)]
    await take(queue, catalog, *deletes)
    now = catalog.database.now_ms()

    assert await catalog.tombstones.prune_unseen(now - 60_000) == 0
    assert await unseen(catalog) == 30
    assert await catalog.tombstones.prune_unseen(now + 60_000) == 30
    assert await unseen(catalog) == 0
    assert not await catalog.reports.check_totals()


async def test_the_tombstone_of_an_upload_stays(queue: Queue, catalog: Catalog) -> None:
    source = "uploads/cat.jpg"
    await take(queue, catalog, json.dumps({"source": source}).encode())
    await catalog.failures.discard([default_id(source)])
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("UPDATE uploads SET state = 'deleted'")

    assert await catalog.tombstones.prune_unseen(catalog.database.now_ms() + 60_000) == 0
    upload = await catalog.reports.find(default_id(source))
    assert upload is not None
    assert upload.state is State.DELETED


async def test_old_tombstones_are_found_by_an_index(catalog: Catalog) -> None:
    oldest = f"SELECT number FROM uploads WHERE changed_ms < {2**53} AND source IS NULL"
    await record(catalog, *(upload_event(1, uuid4(), f"uploads/{number}.jpg") for number in range(500)))
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ANALYZE")  # of no rows any index is as good
    async with catalog.database.reading() as connection:
        is_file = connection.dialect.name == "sqlite"
        explain = "EXPLAIN QUERY PLAN" if is_file else "EXPLAIN"
        rows = await connection.exec_driver_sql(f"{explain} {oldest} ORDER BY changed_ms LIMIT 100")
        plan = " ".join(str(row) for row in rows)

    assert "uploads_unseen" in plan
