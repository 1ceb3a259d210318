"""One page of the catalog is lost: what does not need it goes on, nothing is lost, and health says so."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import State
from storage.catalog.sqlite_file import find_damage
from storage.errors import CatalogDamaged
from tests.conftest import url_of
from tests.support.catalogs import claim, commit, letter, ready, try_claim, upload, upload_event
from tests.support.damage import PAGE, page_with, roots, settle, zero
from tests.support.intakes import intake_on
from worker.intake import Intake
from worker.leases import reconcile
from worker.publisher import OutboxPublisher
from worker.queue import Queue, connect, job_queue_of
from worker.upload_ids import default_id

UPLOADS = 120
DOZEN = 12


@pytest.fixture
async def queue(server: RedisServer) -> AsyncIterator[Queue]:
    stream = f"uploads-{uuid4()}"
    redis = connect(server.url, job_queue_of(stream))
    queue = Queue(redis, stream, "me", 1000)
    await queue.stream.make_group()
    yield queue
    await redis.flushdb()
    await redis.aclose(close_connection_pool=True)


@pytest.fixture(scope="module")
def used(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a catalog that has been at work: uploads that are ready, messages, refused events."""
    path = tmp_path_factory.mktemp("used") / "catalog.db"
    shutil.copy(migrated, path)

    async def work() -> None:
        async with open_catalog(url_of(path)) as catalog:
            ids = [default_id(_source(number)) for number in range(UPLOADS)]
            events = [
                (upload_event(1, each, _source(number)), letter("1-0")) for number, each in enumerate(ids)
            ]
            letters = [letter(f"{number}-1", "no event " * 20) for number in range(UPLOADS)]
            await catalog.intake.take(events, letters)
            for each in ids:
                await commit(catalog, ready(await claim(catalog, each), names=("thumb", "medium", "large")))

    asyncio.run(work())
    settle(path)
    return path


@pytest.fixture
def path(used: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(used, tmp_path / "used.db"))


def _source(number: int) -> str:
    return f"uploads/{number:04}.jpg"


async def _left(queue: Queue) -> set[str]:
    return {entry_id.decode() for entry_id, _ in await queue.redis.xrange(queue.stream.name)}


async def _unread(queue: Queue) -> bool:
    [group] = await queue.redis.xinfo_groups(queue.stream.name)
    stream = await queue.redis.xinfo_stream(queue.stream.name)
    return bool(group["last-delivered-id"] != stream["last-generated-id"])


async def _taken(intake: Intake, queue: Queue) -> None:
    """Let the intake run as a worker does, until it has looked at every entry."""
    running = asyncio.create_task(intake.run())
    async with asyncio.timeout(20):
        while await _unread(queue):  # noqa: ASYNC110 (it is no event of this process)
            await asyncio.sleep(0.01)
    await asyncio.sleep(0)
    intake._stopping.set()
    await running


@pytest.mark.parametrize("nth", range(DOZEN))
@pytest.mark.rotating(4)
async def test_whatever_page_is_lost_everything_works_or_it_is_reported_and_nothing_is_lost(
    path: Path, queue: Queue, nth: int
) -> None:
    pages = path.stat().st_size // PAGE
    zero(path, 2 + nth * (pages - 2) // DOZEN)
    sent = {
        await queue.stream.add({"source": _source(number)}): number for number in range(0, UPLOADS + 30, 10)
    }
    await queue.stream.add_raw(b"no event")
    await queue.stream.add({"delete": str(uuid4())})
    try:
        async with open_catalog(url_of(path)) as catalog:
            problem = await _used(catalog, queue, sent)
    except CatalogDamaged as error:  # it does not even start
        problem = str(error)

    if problem:
        assert f"{path} is damaged" in problem
        assert await find_damage(path, 10)


async def _used(catalog: Catalog, queue: Queue, sent: dict[str, int]) -> str | None:
    """What health says once everything was tried."""
    await _taken(intake_on(queue, catalog), queue)
    met = await _met(catalog, queue)
    left = await _left(queue)
    lost = [entry for entry, number in sent.items() if not await _has(catalog, number, entry)]
    problem = await catalog.database.problem()

    assert set(lost) <= left, "acknowledged and lost"
    assert problem or not left, "left behind in silence"
    assert problem or not met, "failed in silence"
    return problem


async def _met(catalog: Catalog, queue: Queue) -> str | None:
    """What the reconciler and the work on uploads fail with, if they do."""
    met = None
    try:
        await reconcile(queue, catalog, OutboxPublisher(catalog.outbox, queue), lease_s=0)
    except CatalogDamaged as error:
        met = str(error)
    for number in range(0, UPLOADS, 10):
        try:
            claimed = await try_claim(catalog, default_id(_source(number)))
            if claimed is not None:
                await commit(catalog, ready(claimed))
        except CatalogDamaged as error:
            met = str(error)
    return met


async def _has(catalog: Catalog, number: int, entry: str) -> bool:
    """Whether the event is in its upload's row; where that cannot be read, nobody can say."""
    query = text("SELECT event_ms FROM uploads WHERE id = :id")
    try:
        async with catalog.database.reading() as connection:
            found = (await connection.execute(query, {"id": str(default_id(_source(number)))})).scalar()
    except CatalogDamaged:
        return True
    return found is not None and int(entry.partition("-")[0]) <= found


async def test_an_event_that_cannot_be_recorded_stays_and_is_taken_once_the_catalog_is_mended(
    path: Path, queue: Queue
) -> None:
    bad, good = _source(0), "uploads/new.jpg"
    number = page_with(path, bad)
    page = path.read_bytes()[(number - 1) * PAGE : number * PAGE]
    zero(path, number)
    entries = [await queue.stream.add({"source": source}) for source in (bad, good)]
    async with open_catalog(url_of(path)) as catalog:
        await _taken(intake_on(queue, catalog), queue)
        assert await catalog.reports.find(default_id(good)) is not None
    assert await _left(queue) == {entries[0]}

    with path.open("r+b") as file:
        file.seek((number - 1) * PAGE)
        file.write(page)
    async with open_catalog(url_of(path)) as catalog:
        later = intake_on(queue, catalog)
        later._lease_s = 0
        await later.drain(10)
        assert (await upload(catalog, default_id(bad))).state is State.QUEUED
        assert await catalog.database.problem() is None
    assert await _left(queue) == set()


async def test_a_burst_ends_with_an_error_when_something_cannot_be_recorded(path: Path, queue: Queue) -> None:
    zero(path, page_with(path, _source(0)))
    for source in (_source(0), "uploads/new.jpg"):
        await queue.stream.add({"source": source})
    async with open_catalog(url_of(path)) as catalog:
        with pytest.raises(CatalogDamaged, match="1 events could not be recorded"):
            await intake_on(queue, catalog).drain_all()
        assert await catalog.reports.find(default_id("uploads/new.jpg")) is not None


async def test_health_is_green_again_once_a_check_of_the_whole_file_finds_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.catalog.sqlite.CHECK_AGAIN_S", 0)
    async with open_catalog(url_of(path)) as catalog:
        catalog.database.condition.met(CatalogDamaged("the memory was"))

        assert await catalog.database.problem() is None


async def test_damage_in_one_table_keeps_no_periodic_task_from_the_others(
    path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.leases.KEEP_DEAD_LETTERS_MS", -1000)
    zero(path, roots(path)["poison_by_age"])
    async with open_catalog(url_of(path)) as catalog:
        with pytest.raises(CatalogDamaged):
            await reconcile(queue, catalog, OutboxPublisher(catalog.outbox, queue), lease_s=0)

        assert await catalog.dead_letters.count() == 0
        assert "damaged" in (await catalog.database.problem() or "")
