"""Claims of uploads whose rows somebody else has locked: an operator, or another worker that hangs."""

import asyncio
from collections.abc import Mapping
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from storage.catalog.opening import Catalog
from storage.catalog.records import Claim
from storage.catalog.tables import uploads
from tests.support.catalogs import claim, take, upload_event

pytestmark = pytest.mark.parametrize("database_kind", ["postgres"])

SOON_S = 10.0  # a command may take 30 s


async def jobs_of(catalog: Catalog, count: int) -> Mapping[UUID, str]:
    """So many new uploads, all on one job."""
    ids = [uuid4() for _ in range(count)]
    taken = await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in ids))
    return {each: job_id for job_id, some in taken.jobs.items() for each in some}


def claiming(catalog: Catalog, jobs: Mapping[UUID, str]) -> Mapping[UUID, asyncio.Task[Claim | None]]:
    """Each of them being claimed, as one group."""
    asked = {each: catalog.claims.claim(each, job_id, "me") for each, job_id in jobs.items()}
    return {each: asyncio.create_task(work) for each, work in asked.items()}


@pytest.mark.parametrize("died", [False, True], ids=["new", "of a worker that died"])
async def test_an_upload_whose_row_is_locked_holds_up_no_claim_but_its_own(
    catalog: Catalog, *, died: bool
) -> None:
    locked, *others = jobs = await jobs_of(catalog, 4)
    for each in jobs if died else ():
        await claim(catalog, each, "a worker that died")
    async with catalog.database.writing() as connection, asyncio.timeout(SOON_S):
        await connection.execute(select(uploads.c.id).where(uploads.c.id == str(locked)).with_for_update())
        asked = claiming(catalog, jobs)
        claims = [await asked[each] for each in others]
        assert not asked[locked].done()
    last = await asked[locked]

    assert [each.upload.id for each in [*claims, last] if each is not None] == [*others, locked]
    assert [each.crash_count for each in [*claims, last] if each is not None] == [int(died)] * 4


async def test_who_asks_while_an_upload_alone_waits_for_its_row_is_answered_at_once(catalog: Catalog) -> None:
    locked, other = jobs = await jobs_of(catalog, 2)
    async with catalog.database.writing() as connection, asyncio.timeout(SOON_S):
        await connection.execute(select(uploads.c.id).where(uploads.c.id == str(locked)).with_for_update())
        [waiting] = claiming(catalog, {locked: jobs[locked]}).values()
        await asyncio.sleep(0)  # it is asked for by now
        claimed = await catalog.claims.claim(other, jobs[other], "me")
        assert not waiting.done()

    assert claimed is not None
    assert await waiting is not None
