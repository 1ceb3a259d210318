"""When nobody may sweep."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from storage.catalog.clock import now_ms
from storage.catalog.opening import Catalog
from storage.catalog.records import StreamId, UploadRequested
from storage.catalog.tables import totals
from tests.support.catalogs import CAT, SOURCE, delete_event, take, upload_event, work
from worker.adoption import REBUILD, Listing
from worker.sweeping import forbidden

FOUND = uuid4()


def adopted_upload() -> UploadRequested:
    """An original that a rebuild has found."""
    return UploadRequested(StreamId(), FOUND, SOURCE, "default", adopted=True)


async def rebuilt(catalog: Catalog, finished_ms: int = 1) -> None:
    """A rebuild has listed every original."""
    listing = Listing(finished_ms=finished_ms, newest=await catalog.sources.newest())
    await catalog.checkpoint(REBUILD).save(listing)


async def test_a_rebuild_forbids_sweeps_until_all_its_originals_are_done_with(catalog: Catalog) -> None:
    never = await forbidden(catalog)
    await catalog.checkpoint(REBUILD).save(Listing())
    under_way = await forbidden(catalog)
    await take(catalog, upload_event(1))
    await rebuilt(catalog)
    waits = await forbidden(catalog)
    await work(catalog)
    over = await forbidden(catalog)

    assert (never, over) == (None, None)
    assert under_way == "a rebuild is under way, and 0 uploads still wait"
    assert waits == "a rebuild is under way, and 1 uploads still wait"


async def test_wrong_totals_do_not_allow_what_a_rebuild_forbids(catalog: Catalog) -> None:
    await catalog.checkpoint(REBUILD).save(Listing())
    await take(catalog, upload_event(1))
    await rebuilt(catalog)
    async with catalog.database.writing() as connection:
        await connection.execute(update(totals).values(files=0))

    assert await forbidden(catalog) == "a rebuild is under way, and 1 uploads still wait"


async def test_uploads_that_came_after_a_rebuild_hold_up_no_sweep(catalog: Catalog) -> None:
    await take(catalog, adopted_upload())
    await work(catalog, FOUND)
    await rebuilt(catalog)
    await take(catalog, upload_event(1, source="uploads/new.jpg"), upload_event(2, FOUND))

    assert await forbidden(catalog) is None


@pytest.mark.parametrize("upload_id", [FOUND, CAT], ids=["same id", "another id"])
async def test_originals_of_a_rebuild_that_are_announced_again_still_forbid_sweeps(
    catalog: Catalog, upload_id: UUID
) -> None:
    await take(catalog, adopted_upload())
    await rebuilt(catalog, now_ms() - 1000)
    await take(catalog, upload_event(1, upload_id))
    waits = await forbidden(catalog)
    await work(catalog, FOUND)
    await work(catalog, upload_id)

    assert waits == "a rebuild is under way, and 1 uploads still wait"
    assert await forbidden(catalog) is None


async def test_an_original_of_a_rebuild_that_is_wanted_again_while_it_is_deleted_forbids_sweeps(
    catalog: Catalog,
) -> None:
    await take(catalog, adopted_upload())
    await rebuilt(catalog)
    await take(catalog, delete_event(1, FOUND))
    unwanted = await forbidden(catalog)
    await take(catalog, upload_event(2, FOUND))

    assert unwanted is None
    assert await forbidden(catalog) == "a rebuild is under way, and 1 uploads still wait"
