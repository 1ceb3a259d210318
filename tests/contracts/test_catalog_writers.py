"""Many writers of one catalog: none waits for another in a circle, and the totals stay right."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from uuid import UUID, uuid5

import asyncpg
import pytest

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import Claim
from tests.support.catalogs import CAT, claim, failed, ready, take, upload_event

WRITERS = 8
UPLOADS_A_WRITER = 12
ROUNDS = 10


async def deadlocks(url: str) -> int:
    """How many the server has found in that database; every session has said so by the time it has ended."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def claims_of(catalog: Catalog, ids: Sequence[UUID]) -> Sequence[Claim]:
    """Those uploads, taken and claimed."""
    events = [upload_event(1, each, f"uploads/{each}.jpg") for each in ids]
    await take(catalog, *events)
    return [await claim(catalog, each) for each in ids]


async def test_writers_whose_totals_cross_do_not_wait_for_each_other(postgres_catalog_url: str) -> None:
    chance = random.Random(7)

    async def write(catalog: Catalog, number: int) -> None:
        ids = [uuid5(CAT, f"{number}-{n}") for n in range(UPLOADS_A_WRITER)]
        claims = list(await claims_of(catalog, ids))
        for _ in range(3):
            chance.shuffle(claims)  # so that each counts another thing first
            group, claims = claims[:4], claims[4:]
            await catalog.claims.commit(
                [ready(each) if chance.random() < 0.5 else failed(each) for each in group]
            )

    async with AsyncExitStack() as stack:
        catalogs = [
            await stack.enter_async_context(open_catalog(postgres_catalog_url)) for _ in range(WRITERS)
        ]
        await asyncio.gather(*(write(catalog, number) for number, catalog in enumerate(catalogs)))
        assert await catalogs[0].reports.check_totals() == []
        await asyncio.gather(*(catalog.database.compact() for catalog in catalogs))
        assert await catalogs[0].reports.check_totals() == []
        total = sum(one.files for one in (await catalogs[0].reports.totals()).totals if one.what == "upload")
        assert total == WRITERS * UPLOADS_A_WRITER
    assert await deadlocks(postgres_catalog_url) == 0


async def test_folding_leaves_one_row_of_each_place(postgres_catalog_url: str) -> None:
    async with open_catalog(postgres_catalog_url) as catalog:
        [mine] = await claims_of(catalog, [CAT])
        await catalog.claims.commit([ready(mine)])
        before = (await catalog.reports.totals()).totals
        await catalog.database.compact()
        kept = await rows_of_totals(postgres_catalog_url)

        assert kept == len(before) == 4
        assert sorted((await catalog.reports.totals()).totals, key=str) == sorted(before, key=str)


async def rows_of_totals(url: str) -> int:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return int(await connection.fetchval("SELECT count(*) FROM totals_delta"))
    finally:
        await connection.close()


@pytest.mark.parametrize("verb", ["release", "commit", "take"])
@pytest.mark.rotating(1)
async def test_the_same_rows_in_both_orders_are_no_deadlock(postgres_catalog_url: str, verb: str) -> None:
    ids = [uuid5(CAT, str(n)) for n in range(20)]
    async with open_catalog(postgres_catalog_url) as one, open_catalog(postgres_catalog_url) as two:
        for number in range(ROUNDS):
            if verb == "take":
                new = [upload_event(number, uuid5(CAT, f"{number}-{n}"), f"uploads/{n}") for n in range(20)]
                old = [upload_event(number + 2, each, f"uploads/{each}.jpg") for each in ids]
                await asyncio.gather(take(one, *new, *old), take(two, *reversed(old), *reversed(new)))
                continue
            await take(one, *(upload_event(number + 1, each, f"uploads/{each}.jpg") for each in ids))
            claims = [await claim(one, each) for each in ids]
            if verb == "release":
                await asyncio.gather(one.claims.release(claims), two.claims.release(claims[::-1]))
            else:
                outcomes = [failed(each) for each in claims]
                await asyncio.gather(one.claims.commit(outcomes), two.claims.commit(outcomes[::-1]))
    assert await deadlocks(postgres_catalog_url) == 0
