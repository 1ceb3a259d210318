"""Claims: who may write an upload's outcome, what the outcome leaves, and what the dead leave behind."""

import asyncio
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from storage.catalog.clock import SKEW_MS, now_ms
from storage.catalog.opening import Catalog
from storage.catalog.records import Claim, Removed, StalledUpload, State
from storage.catalog.tables import uploads, variants
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    claim,
    commit,
    delete_event,
    dispatch,
    failed,
    key,
    levels,
    outbox_of,
    postponed,
    ready,
    statements,
    take,
    transactions,
    try_claim,
    upload,
    upload_event,
    work,
)

pytestmark = ON_BOTH


async def every_variant(catalog: Catalog) -> dict[str, bool]:
    """The keys of all variants, and whether each is superseded."""
    query = select(variants.c.key, variants.c.superseded_ms)
    async with catalog.database.reading() as connection:
        return {row.key: row.superseded_ms is not None for row in await connection.execute(query)}


# -- claiming


async def test_a_claim_makes_a_queued_upload_processing(catalog: Catalog) -> None:
    await take(catalog, upload_event(1, owner="42"))
    taken = await claim(catalog)

    assert taken.upload == await upload(catalog)
    assert (taken.upload.claims, taken.crash_count, taken.upload.state) == (1, 0, State.PROCESSING)


async def test_a_job_that_no_longer_has_the_upload_gets_no_claim(catalog: Catalog) -> None:
    [old] = (await take(catalog, upload_event(1))).jobs
    await catalog.requeuer.requeue_stalled(await catalog.requeuer.overdue(-1000, 9))
    [newer] = await dispatch(catalog)

    assert await catalog.claims.claim(CAT, old, "worker") is None
    assert await catalog.claims.claim(CAT, newer, "worker") is not None


@pytest.mark.parametrize("outcome", [ready, failed], ids=lambda outcome: outcome.__name__)
async def test_an_upload_that_is_done_gets_no_claim(catalog: Catalog, outcome: object) -> None:
    [job_id] = (await take(catalog, upload_event(1))).jobs
    assert callable(outcome)
    await commit(catalog, outcome(await claim(catalog)))

    assert await catalog.claims.claim(CAT, job_id, "worker") is None


async def test_a_first_claim_asks_for_no_variants(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    with statements(catalog) as first:
        await claim(catalog)
    with statements(catalog) as second:
        await claim(catalog)

    assert sum("variants" in each for each in first) == 0
    assert sum("variants" in each for each in second) == 1


async def test_a_claim_that_finds_nothing_takes_the_write_lock_once(catalog: Catalog) -> None:
    with transactions(catalog) as seen:
        assert await try_claim(catalog) is None

    assert seen == ["BEGIN IMMEDIATE", "COMMIT"]


async def test_an_unknown_upload_gets_no_claim(catalog: Catalog) -> None:
    assert await catalog.claims.claim(uuid4(), "job_id", "worker") is None


async def test_an_upload_that_is_put_off_gets_no_claim_before_its_time(catalog: Catalog) -> None:
    [job_id] = (await take(catalog, upload_event(1))).jobs
    await commit(catalog, postponed(await claim(catalog), delay_ms=60_000))
    early = await catalog.claims.claim(CAT, job_id, "worker")
    await take(catalog, upload_event(2))
    async with catalog.database.writing() as connection:
        await connection.execute(uploads.update().values(not_before_ms=0))

    assert early is None
    assert await catalog.claims.claim(CAT, job_id, "worker") is not None


async def test_of_many_who_claim_at_once_only_the_last_may_write(catalog: Catalog) -> None:
    [job_id] = (await take(catalog, upload_event(1))).jobs
    taken = await asyncio.gather(*(catalog.claims.claim(CAT, job_id, f"worker-{n}") for n in range(5)))
    claims = sorted((each for each in taken if each), key=lambda each: each.upload.claims)
    states = [committed.state for committed in await catalog.claims.commit([ready(each) for each in claims])]

    assert [each.upload.claims for each in claims] == [1, 2, 3, 4, 5]
    assert states == [None, None, None, None, State.READY]


# -- fencing


@pytest.mark.parametrize(
    "outcome", [ready, failed, postponed, Removed], ids=["ready", "failed", "postponed", "removed"]
)
async def test_nothing_of_a_claim_that_was_taken_over_becomes_visible(
    catalog: Catalog, outcome: object
) -> None:
    await take(catalog, upload_event(1))
    slow = await claim(catalog, holder="slow")
    await claim(catalog, holder="quick")
    before = await upload(catalog)
    assert callable(outcome)
    committed = await commit(catalog, outcome(slow))

    assert (committed.state, committed.message) == (None, None)
    assert await upload(catalog) == before
    assert await every_variant(catalog) == {}
    assert await outbox_of(catalog) == []


async def test_an_outcome_is_written_once(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    claimed = await claim(catalog)
    committed = [
        await commit(catalog, outcome) for outcome in (ready(claimed), failed(claimed), ready(claimed))
    ]

    assert [each.state for each in committed] == [State.READY, None, None]
    assert len(await outbox_of(catalog)) == 1


async def test_an_outcome_under_an_ended_claim_of_a_deletion_is_not_written(catalog: Catalog) -> None:
    await take(catalog, upload_event(1), delete_event(2))
    claimed = await claim(catalog)
    await commit(catalog, postponed(claimed))

    assert (await commit(catalog, Removed(claimed))).state is None
    assert (await upload(catalog)).state is State.DELETING


async def test_a_claim_that_was_released_can_write_nothing_any_more(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    claimed = await claim(catalog)
    await catalog.claims.release([claimed])

    assert (await commit(catalog, ready(claimed))).state is None
    assert (await upload(catalog)).state is State.QUEUED


async def test_releasing_what_was_taken_over_takes_nothing_from_its_new_holder(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    slow, quick = await claim(catalog, holder="slow"), await claim(catalog, holder="quick")
    await catalog.claims.release([slow])

    assert (await commit(catalog, ready(quick))).state is State.READY


@pytest.mark.parametrize("ended_by", ["release", "outcome"])
async def test_a_claim_of_a_deletion_holds_until_it_is_ended(catalog: Catalog, ended_by: str) -> None:
    await take(catalog, upload_event(1))
    await take(catalog, delete_event(2))
    claimed = await claim(catalog)
    before = await catalog.claims.holds(claimed)
    await (
        catalog.claims.release([claimed]) if ended_by == "release" else commit(catalog, postponed(claimed))
    )

    assert before
    assert not await catalog.claims.holds(claimed)


# -- the dead


async def claimed_by(catalog: Catalog, *holders: str) -> Claim:
    taken = [await claim(catalog, holder=holder) for holder in holders]
    return taken[-1]


async def test_a_claim_of_another_worker_that_never_ended_counts_as_dead(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))

    assert (await claimed_by(catalog, "a", "b", "c", "d")).crash_count == 3


async def test_a_worker_that_claims_again_has_not_died(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))

    assert (await claimed_by(catalog, "a", "a", "a")).crash_count == 0


async def test_a_released_claim_does_not_count_as_dead(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await catalog.claims.release([await claim(catalog, holder="a")])

    assert (await claim(catalog, holder="b")).crash_count == 0


async def test_a_first_claim_does_not_wait_for_the_disk(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    stalled = await catalog.requeuer.overdue(-1000, 1)
    with levels(catalog) as seen:
        await catalog.claims.claim(CAT, stalled[0].job_id, "a")

    assert seen == [1]


@pytest.mark.parametrize("holders", ["ab", "abb"])
async def test_the_count_of_the_dead_outlasts_a_power_cut(catalog: Catalog, holders: str) -> None:
    await take(catalog, upload_event(1))
    with levels(catalog) as seen:
        dead = (await claimed_by(catalog, *holders)).crash_count

    assert (dead, seen[-1]) == (1, 2)


async def test_a_claim_to_delete_outlasts_a_power_cut(catalog: Catalog) -> None:
    await take(catalog, upload_event(1), delete_event(2))
    with levels(catalog) as seen:
        await claim(catalog)

    assert seen[-1] == 2


@pytest.mark.parametrize("outcome", [ready, failed, postponed], ids=lambda outcome: outcome.__name__)
async def test_an_outcome_clears_the_count_of_the_dead(catalog: Catalog, outcome: object) -> None:
    await take(catalog, upload_event(1))
    claimed = await claimed_by(catalog, "a", "b", "c")
    assert callable(outcome)
    await commit(catalog, outcome(claimed))
    await take(catalog, upload_event(2))
    async with catalog.database.writing() as connection:
        await connection.execute(uploads.update().values(not_before_ms=0))

    assert (await claim(catalog, holder="d")).crash_count == 0


# -- outcomes


async def test_a_ready_upload_has_its_variants_and_its_original_and_is_announced(catalog: Catalog) -> None:
    await take(catalog, upload_event(1, owner="42"))
    outcome = ready(await claim(catalog))
    committed = await commit(catalog, outcome)

    found = await upload(catalog)
    assert (found.state, found.original, found.variants) == (
        State.READY,
        outcome.original,
        list(outcome.variants),
    )
    assert committed.message is not None
    assert (committed.message.kind, committed.message.metadata) == (State.READY, {"owner": "42"})
    assert list(committed.message.variants) == list(outcome.variants)


async def test_a_failed_upload_keeps_its_error_and_the_number_of_its_tries(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, postponed(await claim(catalog), delay_ms=0))
    committed = await commit(catalog, failed(await claim(catalog)))

    found = await upload(catalog)
    assert (found.state, found.error_code, found.attempts) == (State.FAILED, "corrupt_image", 2)
    assert committed.message is not None
    assert (committed.message.error_message, committed.message.attempts) == ("The picture is damaged.", 2)


async def test_success_clears_the_error(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, postponed(await claim(catalog), delay_ms=0))
    await commit(catalog, ready(await claim(catalog)))

    found = await upload(catalog)
    assert (found.error_code, found.error_message, found.attempts) == (None, None, 0)


@pytest.mark.parametrize(("counted", "expected"), [(True, 1), (False, 0)])
async def test_only_a_try_of_the_uploads_own_is_counted(
    catalog: Catalog, *, counted: bool, expected: int
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, postponed(await claim(catalog), counted=counted))

    found = await upload(catalog)
    assert (found.state, found.attempts, found.error_code) == (State.QUEUED, expected, "storage_full")


async def test_a_deletion_that_is_put_off_stays_a_deletion(catalog: Catalog) -> None:
    await take(catalog, upload_event(1), delete_event(2))
    committed = await commit(catalog, postponed(await claim(catalog)))

    assert (committed.state, committed.message) == (State.DELETING, None)


async def test_a_deletion_that_is_released_stays_a_deletion(catalog: Catalog) -> None:
    await take(catalog, upload_event(1), delete_event(2))
    await catalog.claims.release([await claim(catalog)])

    assert (await upload(catalog)).state is State.DELETING


async def test_removing_forgets_superseded_variants_too(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog), "a" * 64))
    await take(catalog, upload_event(2))
    await commit(catalog, ready(await claim(catalog), "b" * 64))
    await take(catalog, delete_event(3))

    assert len(await catalog.claims.keys_of(CAT)) == 4
    await work(catalog)
    assert await every_variant(catalog) == {}


# -- variants


async def test_changed_content_supersedes_the_variants_of_the_old(catalog: Catalog) -> None:
    for ms, content in ((1, "a" * 64), (2, "b" * 64)):
        await take(catalog, upload_event(ms))
        await commit(catalog, ready(await claim(catalog), content))

    old = {key(CAT, "a" * 64, name): True for name in ("thumb", "large")}
    new = {key(CAT, "b" * 64, name): False for name in ("thumb", "large")}
    assert await every_variant(catalog) == {**old, **new}
    assert [variant.key for variant in (await upload(catalog)).variants] == list(new)


async def test_the_same_content_again_changes_no_variant(catalog: Catalog) -> None:
    async def rows() -> list[object]:
        async with catalog.database.reading() as connection:
            return [tuple(row) for row in await connection.execute(select(variants))]

    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog)))
    before = await rows()
    await take(catalog, upload_event(2))
    await commit(catalog, ready(await claim(catalog)))

    assert await rows() == before
    assert len(await outbox_of(catalog)) == 2


async def test_content_that_returns_takes_its_old_variants_up_again(catalog: Catalog) -> None:
    for ms, content in ((1, "a" * 64), (2, "b" * 64), (3, "a" * 64)):
        await take(catalog, upload_event(ms))
        await commit(catalog, ready(await claim(catalog), content))

    current = [place for place, superseded in (await every_variant(catalog)).items() if not superseded]
    assert set(current) == {key(CAT, "a" * 64, name) for name in ("thumb", "large")}


async def test_a_recipe_with_fewer_variants_supersedes_the_others(catalog: Catalog) -> None:
    for ms, names in ((1, ("thumb", "large")), (2, ("thumb",))):
        await take(catalog, upload_event(ms))
        await commit(catalog, ready(await claim(catalog), names=names))

    assert [variant.name for variant in (await upload(catalog)).variants] == ["thumb"]
    assert (await every_variant(catalog))[key(CAT, "a" * 64, "large")] is True


async def test_the_database_itself_allows_one_current_variant_of_a_name(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog)))
    async with catalog.database.reading() as connection:
        row = dict((await connection.execute(select(variants).limit(1))).mappings().one())

    with pytest.raises(IntegrityError):
        async with catalog.database.writing() as connection:
            await connection.execute(variants.insert(), {**row, "key": "variants/another.jpg"})


# -- groups


async def uploads_of(catalog: Catalog, count: int) -> list[UUID]:
    ids = [uuid4() for _ in range(count)]
    await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in ids))
    return ids


async def test_a_group_of_outcomes_is_one_transaction(catalog: Catalog) -> None:
    claims = [await claim(catalog, each) for each in await uploads_of(catalog, 16)]
    with transactions(catalog) as seen:
        await catalog.claims.commit([ready(each) for each in claims])

    assert seen == ["BEGIN IMMEDIATE", "COMMIT"]
    assert (await catalog.reports.states())[State.READY] == 16


async def test_each_outcome_of_a_group_adds_one_statement(catalog: Catalog) -> None:
    first, second, *others = [await claim(catalog, each) for each in await uploads_of(catalog, 16)]
    with statements(catalog) as by_two:
        await catalog.claims.commit([ready(first), ready(second)])
    with statements(catalog) as by_fourteen:
        await catalog.claims.commit([ready(each) for each in others])

    few, many = (sum("outbox" not in each for each in seen) for seen in (by_two, by_fourteen))
    assert many - few == 14 - 2


async def test_a_group_is_written_whole_or_not_at_all(catalog: Catalog) -> None:
    good, bad = [await claim(catalog, each) for each in await uploads_of(catalog, 2)]
    twins = ready(bad)
    twins = replace(twins, variants=[replace(variant, name="thumb") for variant in twins.variants])
    with pytest.raises(IntegrityError):
        await catalog.claims.commit([ready(good), twins])

    async with catalog.database.reading() as connection:
        left = (await connection.execute(select(func.count()).select_from(variants))).scalar_one()
    assert left == 0
    assert (await catalog.reports.states())[State.PROCESSING] == 2
    assert await outbox_of(catalog) == []


async def test_one_fenced_claim_does_not_keep_its_group_from_being_written(catalog: Catalog) -> None:
    first, second = await uploads_of(catalog, 2)
    slow, other = await claim(catalog, first, "slow"), await claim(catalog, second)
    await claim(catalog, first, "quick")
    committed = await catalog.claims.commit([ready(slow), ready(other)])

    assert [(each.id, each.state) for each in committed] == [(first, None), (second, State.READY)]


# -- stalled uploads


async def test_stalled_is_what_waits_untouched_oldest_first(catalog: Catalog) -> None:
    first, second, third = await uploads_of(catalog, 3)
    await commit(catalog, ready(await claim(catalog, second)))
    async with catalog.database.writing() as connection:
        for each, changed in ((first, 2000), (second, 1000), (third, 1000)):
            await connection.execute(
                uploads.update().where(uploads.c.id == str(each)).values(changed_ms=changed)
            )

    assert [upload.id for upload in await catalog.requeuer.overdue(60_000, 10)] == [third, first]
    assert [upload.id for upload in await catalog.requeuer.overdue(60_000, 1)] == [third]


@pytest.mark.parametrize("page", [1, 2, 3, 9])
async def test_what_is_overdue_is_found_page_by_page_each_once(catalog: Catalog, page: int) -> None:
    ids = await uploads_of(catalog, 5)
    async with catalog.database.writing() as connection:
        for each, changed in zip(ids, (1, 1, 1, 2, now_ms() + 10 * SKEW_MS), strict=True):
            changing = uploads.update().where(uploads.c.id == str(each)).values(changed_ms=changed)
            await connection.execute(changing)

    pages = [found async for found in catalog.requeuer.all_overdue(60_000, page)]

    assert [upload.id for found in pages for upload in found] == [*sorted(ids[:3]), *ids[3:]]
    assert all(len(found) <= page for found in pages)


async def test_what_was_just_touched_is_not_stalled(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))

    assert await catalog.requeuer.overdue(60_000, 10) == []


async def test_what_is_put_off_does_not_hide_what_is_stranded(catalog: Catalog) -> None:
    first, second = await uploads_of(catalog, 2)
    await commit(catalog, postponed(await claim(catalog, first)))

    assert [upload.id for upload in await catalog.requeuer.overdue(-1000, 1)] == [second]


async def test_stalled_uploads_are_parked_and_get_new_jobs(catalog: Catalog) -> None:
    ids = await uploads_of(catalog, 5)
    await claim(catalog, ids[0], "worker that died")
    stalled = await catalog.requeuer.overdue(-1000, 10)
    parked = await catalog.requeuer.requeue_stalled(stalled)
    jobs = await dispatch(catalog, 2)

    assert [len(group) for group in jobs.values()] == [2, 2, 1]
    assert sorted(each for group in jobs.values() for each in group) == sorted(parked) == sorted(ids)
    for job_id, group in jobs.items():
        assert [await catalog.claims.claim(each, job_id, "worker") is not None for each in group].count(
            False
        ) == 0


async def test_a_stalled_upload_that_was_requeued_or_finished_meanwhile_is_left_alone(
    catalog: Catalog,
) -> None:
    first, second = await uploads_of(catalog, 2)
    stalled = await catalog.requeuer.overdue(-1000, 10)
    await commit(catalog, ready(await claim(catalog, first)))
    outdated = [StalledUpload(one.id, "older", 0) if one.id == second else one for one in stalled]

    assert await catalog.requeuer.requeue_stalled(outdated) == []
    assert await try_claim(catalog, second) is not None


async def test_an_upload_is_asked_for_since_its_event_and_not_only_since_it_was_taken(
    catalog: Catalog,
) -> None:
    written_ms = catalog.database.now_ms() - 5000
    await take(catalog, upload_event(written_ms))
    found = (await claim(catalog)).upload

    assert found.asked_ms == written_ms
    assert found.queued_ms >= written_ms + 5000


@pytest.mark.parametrize("event_ms", [1, 2**63 - 1, 2**64 - 1])
async def test_a_stream_whose_clock_is_wrong_makes_no_upload_wait_for_years(
    catalog: Catalog, event_ms: int
) -> None:
    await take(catalog, upload_event(event_ms))
    found = (await claim(catalog)).upload

    assert found.asked_ms == found.queued_ms


async def test_what_was_ready_and_is_made_again_is_asked_for_since_it_was_queued_again(
    catalog: Catalog,
) -> None:
    await take(catalog, upload_event(catalog.database.now_ms() - 5000))
    await commit(catalog, ready(await claim(catalog)))
    await catalog.requeuer.requeue([CAT], State.READY)
    found = (await claim(catalog)).upload

    assert found.asked_ms == found.queued_ms
