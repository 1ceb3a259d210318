"""Claims that are asked for at the same time: they share a transaction, and nothing else."""

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, update

from storage.catalog.opening import Catalog
from storage.catalog.records import Claim, State
from storage.catalog.tables import uploads
from storage.errors import CatalogDamaged, CatalogUnavailable
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    claim,
    commit,
    failed,
    levels,
    postponed,
    ready,
    take,
    transactions,
    upload,
    upload_event,
)

pytestmark = ON_BOTH


async def jobs_of(catalog: Catalog, count: int) -> Mapping[UUID, str]:
    """So many new uploads, two of them on each job."""
    ids = [uuid4() for _ in range(count)]
    jobs: dict[UUID, str] = {}
    for pair in zip(ids[::2], ids[1::2], strict=True):
        taken = await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in pair))
        jobs |= {each: job_id for job_id, some in taken.jobs.items() for each in some}
    return jobs


async def claim_all(
    catalog: Catalog, jobs: Mapping[UUID, str], holder: str = "worker"
) -> list[Claim | BaseException | None]:
    """Claim each on its job, all at the same time."""
    asked = (catalog.claims.claim(each, job_id, holder) for each, job_id in jobs.items())
    return await asyncio.gather(*asked, return_exceptions=True)


def tries(claims: list[Claim | BaseException | None]) -> list[tuple[UUID, int] | None]:
    """Of each claim its upload, and how many claims there were of that."""
    return [(each.upload.id, each.upload.claims) if isinstance(each, Claim) else None for each in claims]


async def test_uploads_of_several_jobs_are_claimed_in_one_transaction(catalog: Catalog) -> None:
    jobs = await jobs_of(catalog, 6)
    with transactions(catalog) as seen, levels(catalog) as durable:
        claims = await claim_all(catalog, jobs)

    assert seen == ["BEGIN IMMEDIATE", "COMMIT"]
    assert durable == [1]
    assert tries(claims) == [(each, 1) for each in jobs]
    assert (await catalog.reports.states())[State.PROCESSING] == 6


async def test_of_a_group_only_what_is_due_on_that_job_is_claimed(catalog: Catalog) -> None:
    done, late, lost, *others = jobs = await jobs_of(catalog, 6)
    await commit(catalog, ready(await claim(catalog, done)))
    await commit(catalog, postponed(await claim(catalog, late)))
    claims = await claim_all(catalog, {**jobs, lost: jobs[others[-1]]})

    assert tries(claims) == [None, None, None, *((each, 1) for each in others)]


async def test_a_crash_counts_against_the_upload_that_was_in_work_and_no_other(catalog: Catalog) -> None:
    crashed, *others = jobs = await jobs_of(catalog, 4)
    await claim(catalog, crashed, "a worker that died")
    with levels(catalog) as durable:
        claims = await claim_all(catalog, jobs)

    counts = [each.crash_count for each in claims if isinstance(each, Claim)]
    assert counts == [1, 0, 0, 0]
    assert tries(claims) == [(crashed, 2), *((each, 1) for each in others)]
    assert durable == [1, 2]


async def test_each_upload_comes_with_its_own_variants_current_and_superseded(catalog: Catalog) -> None:
    first, second = jobs = await jobs_of(catalog, 2)
    for each, names in ((first, ("thumb", "large")), (second, ("thumb",))):
        await commit(catalog, ready(await claim(catalog, each), names=names))
        again = await take(catalog, upload_event(2, each, f"uploads/{each}"))
        jobs = {**jobs, **{one: job_id for job_id, some in again.jobs.items() for one in some}}
    claims = [each for each in await claim_all(catalog, jobs) if isinstance(each, Claim)]

    assert [[one.name for one in each.upload.variants] for each in claims] == [["thumb", "large"], ["thumb"]]
    assert {one.key for one in claims[0].upload.variants}.isdisjoint(
        one.key for one in claims[1].upload.variants
    )


async def test_a_row_that_cannot_be_read_keeps_no_other_upload_from_its_claim(catalog: Catalog) -> None:
    bad, *others = jobs = await jobs_of(catalog, 4)
    async with catalog.database.writing() as connection:
        await connection.execute(update(uploads).where(uploads.c.id == str(bad)).values(metadata="no JSON"))
    [error, *claims] = await claim_all(catalog, jobs)

    assert isinstance(error, CatalogDamaged)
    assert tries(claims) == [(each, 1) for each in others]
    async with catalog.database.reading() as connection:
        found = await connection.execute(select(uploads.c.state).where(uploads.c.id == str(bad)))
        assert found.scalar_one() == State.QUEUED


async def test_who_asks_twice_for_an_upload_has_two_claims_and_the_first_is_fenced(catalog: Catalog) -> None:
    [(job_id, _)] = (await take(catalog, upload_event(1))).jobs.items()
    asked = (catalog.claims.claim(CAT, job_id, "worker") for _ in range(2))
    first, second = [each for each in await asyncio.gather(*asked) if each is not None]

    assert (first.upload.claims, second.upload.claims) == (1, 2)
    assert (await commit(catalog, failed(first))).state is None
    assert (await commit(catalog, failed(second))).state is State.FAILED


async def test_each_claim_of_a_group_is_its_own_workers(catalog: Catalog) -> None:
    jobs = await jobs_of(catalog, 2)
    asked = [catalog.claims.claim(*each, holder) for each, holder in zip(jobs.items(), "ab", strict=True)]
    await asyncio.gather(*asked)
    again = await claim_all(catalog, jobs, "a")  # the other one is taken for dead

    assert [each.crash_count for each in again if isinstance(each, Claim)] == [0, 1]


async def test_a_caller_that_is_cancelled_keeps_nobody_else_from_its_claim(catalog: Catalog) -> None:
    gone, *others = jobs = await jobs_of(catalog, 4)
    asked = [asyncio.create_task(catalog.claims.claim(each, job_id, "me")) for each, job_id in jobs.items()]
    await asyncio.sleep(0)  # they wait by now
    asked[0].cancel()
    claims = await asyncio.gather(*asked, return_exceptions=True)

    assert isinstance(claims[0], asyncio.CancelledError)
    assert tries(claims[1:]) == [(each, 1) for each in others]
    assert (await upload(catalog, gone)).state is State.PROCESSING  # its caller releases it


async def test_an_outage_is_everybodys(catalog: Catalog) -> None:
    jobs = await jobs_of(catalog, 4)
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ALTER TABLE uploads RENAME TO away")
    errors = await claim_all(catalog, jobs)

    assert {type(each) for each in errors} == {CatalogUnavailable}
    with pytest.raises(CatalogUnavailable):
        await catalog.claims.claim(CAT, "job", "worker")


# -- claims that hold


async def held(catalog: Catalog, claims: Sequence[Claim]) -> list[bool | BaseException]:
    """Whether each holds, all asked at the same time."""
    asked = (catalog.claims.holds(each) for each in claims)
    return await asyncio.gather(*asked, return_exceptions=True)


async def claimed(catalog: Catalog, count: int) -> list[Claim]:
    """So many new uploads, claimed."""
    return [
        each for each in await claim_all(catalog, await jobs_of(catalog, count)) if isinstance(each, Claim)
    ]


async def test_one_transaction_says_which_claims_hold(catalog: Catalog) -> None:
    claims = await claimed(catalog, 4)
    await catalog.claims.release([claims[1]])
    await commit(catalog, failed(claims[2]))
    begun: list[object] = []
    event.listen(catalog.database.backend.engine.sync_engine, "begin", begun.append)
    found = await held(catalog, claims)

    assert (found, len(begun)) == ([True, False, False, True], 1)


async def test_a_claim_that_ends_while_others_are_asked_about_does_not_hold_for_who_asks_then(
    catalog: Catalog,
) -> None:
    first, second = await claimed(catalog, 2)
    asked = asyncio.create_task(catalog.claims.holds(first))
    await asyncio.sleep(0)
    await catalog.claims.release([second])

    assert (await catalog.claims.holds(second), await asked) == (False, True)


async def test_a_caller_that_is_cancelled_keeps_no_other_from_its_answer(catalog: Catalog) -> None:
    asked = [asyncio.create_task(catalog.claims.holds(each)) for each in await claimed(catalog, 2)]
    await asyncio.sleep(0)
    asked[0].cancel()

    assert isinstance((await asyncio.gather(*asked, return_exceptions=True))[0], asyncio.CancelledError)
    assert await asked[1]


async def test_each_who_asks_whether_a_claim_holds_gets_an_error_of_its_own(catalog: Catalog) -> None:
    claims = await claimed(catalog, 2)
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ALTER TABLE uploads RENAME TO away")
    errors = await held(catalog, claims)

    assert {type(each) for each in errors} == {CatalogUnavailable}
    assert errors[0] is not errors[1]
