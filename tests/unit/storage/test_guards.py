"""Guards: what somebody else changes between two statements of a transaction is never overwritten.

In each test one statement of another transaction comes right before the one that writes. Take a condition out
of that statement, and its test fails.
"""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from storage.catalog.clock import now_ms
from storage.catalog.opening import Catalog
from storage.catalog.records import DeadLetter, PossibleRestart, State, StreamId
from storage.catalog.tables import dead_letters, deletion_marks, snapshots, uploads, variants
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    claim,
    commit,
    delete_event,
    failed,
    key,
    meanwhile,
    outbox_of,
    postponed,
    ready,
    take,
    transactions,
    try_claim,
    upload,
    upload_event,
    work,
)

pytestmark = ON_BOTH

A_KEY = "variants/00/00/00000000-0000-4000-8000-000000000000.jpg"
ANOTHERS_CLAIM = "UPDATE uploads SET claim = claim + 1, holder = 'another', state = 'processing'"
A_VARIANT = f"INSERT INTO variants VALUES ('{A_KEY}', '{CAT}', 'tiny', 0, 1, 1, 1, '', 1, NULL)"


async def rows(catalog: Catalog, table: Any) -> list[Any]:
    async with catalog.database.reading() as connection:
        return list((await connection.execute(select(table))).mappings())


# -- claims


async def test_of_two_claims_in_the_same_moment_each_has_a_token_of_its_own(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    with meanwhile(catalog, "UPDATE uploads", ANOTHERS_CLAIM):
        mine = await claim(catalog)

    assert (mine.upload.claims, mine.crash_count) == (2, 1)


@pytest.mark.parametrize(
    "change",
    ["job_id = 'another'", "state = 'ready'", "state = 'failed'", f"not_before_ms = {2**60}"],
)
async def test_what_is_not_to_be_done_any_more_is_not_claimed(catalog: Catalog, change: str) -> None:
    await take(catalog, upload_event(1))
    with meanwhile(catalog, "UPDATE uploads", f"UPDATE uploads SET {change}"):
        assert await try_claim(catalog) is None

    [row] = await rows(catalog, uploads)
    assert (row["claim"], row["holder"]) == (0, None)


async def test_a_deletion_that_comes_before_the_claim_is_what_is_claimed(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    with meanwhile(catalog, "UPDATE uploads", "UPDATE uploads SET state = 'deleting'"):
        mine = await claim(catalog)

    assert mine.upload.state is State.DELETING


async def test_a_claim_is_of_the_upload_as_the_newest_event_made_it(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    with meanwhile(catalog, "UPDATE uploads", "UPDATE uploads SET recipe = 'newer', generation = 7"):
        mine = await claim(catalog)

    assert (mine.upload.recipe, mine.generation) == ("newer", 7)


@pytest.mark.parametrize("outcome", [ready, failed, postponed])
async def test_an_outcome_whose_claim_is_taken_over_writes_nothing(catalog: Catalog, outcome: Any) -> None:
    await take(catalog, upload_event(1))
    mine = await claim(catalog)
    with meanwhile(catalog, "UPDATE uploads", ANOTHERS_CLAIM):
        committed = await commit(catalog, outcome(mine))

    [row] = await rows(catalog, uploads)
    assert (committed.state, committed.message) == (None, None)
    assert (row["state"], row["holder"], row["attempts"]) == ("processing", "another", 0)
    assert await rows(catalog, variants) == await outbox_of(catalog) == []


async def test_an_outcome_of_what_is_done_by_then_writes_nothing(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    mine = await claim(catalog)
    with meanwhile(catalog, "UPDATE uploads", "UPDATE uploads SET state = 'failed'"):
        committed = await commit(catalog, ready(mine))

    assert (committed.state, (await upload(catalog)).state) == (None, State.FAILED)


async def test_an_event_that_comes_before_the_outcome_has_the_upload_done_once_more(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    mine = await claim(catalog)
    newer = "UPDATE uploads SET generation = generation + 1, recipe = 'newer'"
    with meanwhile(catalog, "UPDATE uploads", newer):
        committed = await commit(catalog, ready(mine))

    assert (committed.state, (await upload(catalog)).recipe) == (State.QUEUED, "newer")


async def test_a_mark_that_comes_before_the_row_is_ready_has_it_published_again(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    outcome = ready(await claim(catalog))
    mark = f"INSERT INTO deletion_marks VALUES ('{outcome.variants[0].key}', 1, NULL)"
    with meanwhile(catalog, "UPDATE uploads SET state", mark):
        committed = await commit(catalog, outcome)

    assert (committed.state, committed.attempts) == (State.QUEUED, 0)
    assert await rows(catalog, variants) == []


async def test_a_claim_that_is_taken_over_is_not_given_back(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    mine = await claim(catalog)
    with meanwhile(catalog, "UPDATE uploads", ANOTHERS_CLAIM):
        await catalog.claims.release([mine])

    [row] = await rows(catalog, uploads)
    assert (row["state"], row["holder"]) == ("processing", "another")


# -- back to work


async def test_what_is_claimed_before_it_is_queued_again_is_not_queued(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, failed(await claim(catalog)))
    with meanwhile(catalog, "UPDATE uploads", "UPDATE uploads SET state = 'processing'"):
        queued = await catalog.requeuer.requeue([CAT], State.FAILED)

    assert (queued, (await upload(catalog)).state) == ([], State.PROCESSING)


async def test_what_is_made_anew_before_it_is_looked_at_again_stays_so(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    made = await claim(catalog)
    await commit(catalog, ready(made))
    with meanwhile(catalog, "UPDATE uploads", "UPDATE uploads SET claim = claim + 1"):
        queued = await catalog.requeuer.requeue_made({CAT: made.token})

    assert (queued, (await upload(catalog)).state) == ([], State.READY)


async def test_a_failure_that_is_retried_before_it_is_discarded_stays(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, failed(await claim(catalog)))
    before = len(await outbox_of(catalog))
    with meanwhile(catalog, "UPDATE uploads", "UPDATE uploads SET state = 'queued'"):
        discarded = await catalog.failures.discard([CAT])

    assert (discarded, (await upload(catalog)).state) == ([], State.QUEUED)
    assert len(await outbox_of(catalog)) == before


# -- events


@pytest.mark.parametrize(
    "change",
    [
        ANOTHERS_CLAIM,
        "UPDATE uploads SET state = 'ready'",
        "UPDATE uploads SET generation = generation + 1",
        "UPDATE uploads SET job_id = 'another'",
        "UPDATE uploads SET event_ms = 9",
    ],
)
async def test_events_are_applied_anew_where_their_upload_has_changed(catalog: Catalog, change: str) -> None:
    await take(catalog, upload_event(1))
    with transactions(catalog) as seen, meanwhile(catalog, "UPDATE uploads", change):
        await take(catalog, delete_event(2))

    assert seen == ["BEGIN IMMEDIATE", "BEGIN IMMEDIATE", "COMMIT"]
    assert (await upload(catalog)).state is State.DELETING


async def in_epoch(catalog: Catalog, ms: int) -> Any:
    refused = DeadLetter(f"{ms}-0", "invalid_event", "refused", b"bytes", position=StreamId(ms))
    return await catalog.intake.take([], [refused], epoch=0, same_stream=False)


async def test_events_are_applied_anew_where_another_has_made_their_row(catalog: Catalog) -> None:
    await take(catalog, upload_event(1, UUID(int=1)))
    [row] = await rows(catalog, uploads)
    columns = ", ".join(f"'{CAT}'" if name == "id" else name for name in row if name != "number")
    names = ", ".join(name for name in row if name != "number")
    anothers = f"INSERT INTO uploads ({names}) SELECT {columns} FROM uploads"
    with transactions(catalog) as seen, meanwhile(catalog, "INSERT INTO uploads", anothers):
        await take(catalog, upload_event(2))

    assert seen == ["BEGIN IMMEDIATE", "BEGIN IMMEDIATE", "COMMIT"]
    assert (await upload(catalog)).state is State.QUEUED


async def test_entries_are_checked_anew_where_the_stream_has_gone_on(catalog: Catalog) -> None:
    await in_epoch(catalog, 1)
    with transactions(catalog) as seen, meanwhile(catalog, "UPDATE kv", _STREAM_AT_9):
        found = await in_epoch(catalog, 2)

    assert (seen, found.newest) == (["BEGIN IMMEDIATE"], StreamId(9, 0))
    assert len(await rows(catalog, dead_letters)) == 1


async def test_only_one_of_two_begins_an_epoch(catalog: Catalog) -> None:
    await in_epoch(catalog, 1)
    ahead = """UPDATE kv SET value = '{"epoch":1,"newest":[5,0]}' WHERE name = 'stream'"""
    with meanwhile(catalog, "UPDATE kv", ahead):
        assert await catalog.epochs.begin(0) == 1

    assert (await catalog.epochs.current()).newest == StreamId(5, 0, 1)
    assert isinstance(await in_epoch(catalog, 2), PossibleRestart)


_STREAM_AT_9 = """UPDATE kv SET value = '{"epoch":0,"newest":[9,0]}' WHERE name = 'stream'"""


# -- sweeps


async def test_a_key_that_a_row_takes_before_it_is_marked_is_not_marked(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await catalog.sweeps.lease("me", 60)
    with meanwhile(catalog, "INSERT INTO deletion_marks", A_VARIANT):
        assert await catalog.sweeps.mark_for_deletion("me", [A_KEY]) == frozenset()

    assert await rows(catalog, deletion_marks) == []


async def test_a_sweep_that_has_lost_its_lease_marks_no_key(catalog: Catalog) -> None:
    await catalog.sweeps.lease("me", 60)
    with meanwhile(catalog, "INSERT INTO deletion_marks", anothers_lease()):
        assert await catalog.sweeps.mark_for_deletion("me", [A_KEY]) == frozenset()

    assert await rows(catalog, deletion_marks) == []


async def test_a_sweep_that_has_lost_its_lease_takes_no_mark_of_another_for_its_own(catalog: Catalog) -> None:
    await catalog.sweeps.lease("another", 60)
    await catalog.sweeps.mark_for_deletion("another", [A_KEY])

    assert await catalog.sweeps.mark_for_deletion("me", [A_KEY]) == frozenset()
    assert await catalog.sweeps.mark_superseded("me", [A_KEY], 2**60) == frozenset()


async def test_a_sweep_that_has_lost_its_lease_deletes_no_superseded_row(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    await catalog.sweeps.lease("me", 60)
    place = key(CAT, "a" * 64, "thumb")
    async with catalog.database.writing() as connection:
        await connection.execute(text("UPDATE variants SET superseded_ms = 1"))
    with meanwhile(catalog, "DELETE FROM variants", anothers_lease()):
        assert await catalog.sweeps.mark_superseded("me", [place], 2**60) == frozenset()

    assert set(await catalog.sweeps.find_rows([place])) == {place}


def anothers_lease() -> str:
    lease = f'{{"holder":"another","until_ms":{now_ms() + 60_000},"for_ms":60000}}'
    replaced = "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
    return f"INSERT INTO kv VALUES ('lease:sweep', '{lease}') {replaced}"


@pytest.mark.parametrize("before", ["nobody", "me"])
async def test_of_two_that_take_the_lease_in_the_same_moment_one_has_it(
    catalog: Catalog, before: str
) -> None:
    if before == "me":
        await catalog.sweeps.lease("me", 60)
    with meanwhile(catalog, "INTO kv", anothers_lease()):
        assert not await catalog.sweeps.lease("me", 60)


async def test_a_lease_that_another_has_taken_is_not_ended(catalog: Catalog) -> None:
    await catalog.sweeps.lease("me", 60)
    with meanwhile(catalog, "DELETE FROM kv", anothers_lease()):
        await catalog.sweeps.end_lease("me")

    async with catalog.database.reading() as connection:
        [kept] = (await connection.execute(text("SELECT value FROM kv WHERE name = 'lease:sweep'"))).scalars()
    assert "another" in kept


async def test_marks_of_a_sweep_that_begins_meanwhile_are_left_to_it(catalog: Catalog) -> None:
    await catalog.sweeps.lease("me", 0)
    await catalog.sweeps.mark_for_deletion("me", [A_KEY])
    with meanwhile(catalog, "UPDATE deletion_marks", anothers_lease()):
        assert await catalog.sweeps.clear_abandoned_marks() == 0


async def test_a_mark_is_not_cleared_once_another_sweep_has_taken_over(catalog: Catalog) -> None:
    await catalog.sweeps.lease("me", 60)
    await catalog.sweeps.mark_for_deletion("me", [A_KEY])
    with meanwhile(catalog, "DELETE FROM deletion_marks", anothers_lease()):
        await catalog.sweeps.clear_marks("me", moved=[], untouched=[A_KEY])

    [mark] = await rows(catalog, deletion_marks)
    assert (mark["key"], mark["moved_ms"]) == (A_KEY, None)


async def test_a_superseded_variant_that_is_current_again_is_not_forgotten(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    place = key(CAT, "a" * 64, "thumb")
    async with catalog.database.writing() as connection:
        await connection.execute(text("UPDATE variants SET superseded_ms = 1"))
    with meanwhile(catalog, "DELETE FROM variants", "UPDATE variants SET superseded_ms = NULL"):
        assert await catalog.sweeps.drop_superseded([place]) == []


async def test_a_damaged_variant_whose_upload_is_at_work_again_is_left_to_it(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    [damaged, _] = (await upload(catalog)).variants
    with meanwhile(catalog, "UPDATE variants", "UPDATE uploads SET state = 'processing'"):
        queued = await catalog.requeuer.requeue_damaged({damaged.key: damaged.sha256})

    assert queued == []
    assert damaged in (await upload(catalog)).variants


async def test_the_first_snapshot_of_a_day_stays(catalog: Catalog) -> None:
    first = "INSERT INTO snapshots VALUES (20000, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4711)"
    with meanwhile(catalog, "INSERT INTO snapshots", first):
        assert not await catalog.reports.snapshot(20_000, None)

    [kept] = await rows(catalog, snapshots)
    assert kept["free_bytes"] == 4711
