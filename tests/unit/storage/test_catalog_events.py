"""What an event does to an upload in each state, and that each event is answered."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast
from uuid import uuid4

import pytest
from sqlalchemy.exc import StatementError

from storage.catalog.opening import Catalog
from storage.catalog.records import (
    About,
    Claim,
    DeadLetter,
    DeletionRequested,
    Failed,
    Message,
    Postponed,
    Removed,
    State,
    StreamId,
    UploadRequested,
)
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    SOURCE,
    claim,
    commit,
    delete_event,
    failed,
    letter,
    outbox_of,
    postponed,
    ready,
    spreading,
    take,
    upload,
    upload_event,
    work,
)

pytestmark = ON_BOTH

# -- how an upload comes to stand in each state; what is given is the claim that somebody still holds


async def unknown(_catalog: Catalog) -> None:
    return None


async def queued(catalog: Catalog) -> None:
    await take(catalog, upload_event(1, owner="first"))


async def waiting_for_its_next_try(catalog: Catalog) -> None:
    await queued(catalog)
    await commit(catalog, postponed(await claim(catalog)))


async def processing(catalog: Catalog) -> Claim:
    await queued(catalog)
    return await claim(catalog)


async def is_ready(catalog: Catalog) -> None:
    await commit(catalog, ready(await processing(catalog)))


async def has_failed(catalog: Catalog) -> None:
    await commit(catalog, failed(await processing(catalog)))


async def deleting(catalog: Catalog) -> None:
    await is_ready(catalog)
    await take(catalog, delete_event(2))


async def being_deleted(catalog: Catalog) -> Claim:
    await deleting(catalog)
    return await claim(catalog)


async def deleted(catalog: Catalog) -> None:
    await commit(catalog, Removed(await being_deleted(catalog)))


async def tombstone(catalog: Catalog) -> None:
    await take(catalog, delete_event(1))


Start = Callable[[Catalog], Awaitable[Claim | None]]


@dataclass(frozen=True)
class Row:
    """An event in a state: the state right after it, whether that wants a job, and the state at the end."""

    start: Start
    then: State
    job: bool
    end: State


UPLOADED = [
    Row(unknown, State.QUEUED, True, State.READY),
    Row(queued, State.QUEUED, False, State.READY),
    Row(processing, State.PROCESSING, False, State.READY),
    Row(is_ready, State.QUEUED, True, State.READY),
    Row(has_failed, State.QUEUED, True, State.READY),
    Row(deleting, State.DELETING, False, State.READY),
    Row(being_deleted, State.DELETING, False, State.READY),
    Row(deleted, State.QUEUED, True, State.READY),
    Row(tombstone, State.QUEUED, True, State.READY),
]
DELETED = [
    Row(unknown, State.DELETED, False, State.DELETED),
    Row(queued, State.DELETING, False, State.DELETED),
    Row(waiting_for_its_next_try, State.DELETING, True, State.DELETED),
    Row(processing, State.DELETING, True, State.DELETED),
    Row(is_ready, State.DELETING, True, State.DELETED),
    Row(has_failed, State.DELETING, True, State.DELETED),
    Row(deleting, State.DELETING, False, State.DELETED),
    Row(being_deleted, State.DELETING, False, State.DELETED),
    Row(deleted, State.DELETING, True, State.DELETED),
    Row(tombstone, State.DELETING, True, State.DELETED),
]
CASES = [
    *(pytest.param(upload_event(5), row, id=f"upload event, {row.start.__name__}") for row in UPLOADED),
    *(pytest.param(delete_event(5), row, id=f"delete event, {row.start.__name__}") for row in DELETED),
]


@pytest.mark.parametrize(("event", "row"), CASES)
@pytest.mark.rotating(9)
async def test_an_event_brings_an_upload_from_each_state_to_the_next(
    catalog: Catalog, event: UploadRequested | DeletionRequested, row: Row
) -> None:
    await row.start(catalog)
    taken = await take(catalog, event)

    assert (await upload(catalog)).state is row.then
    assert [list(ids) for ids in taken.jobs.values()] == ([[CAT]] if row.job else [])
    assert taken.refused == []


@pytest.mark.parametrize(("event", "row"), CASES)
@pytest.mark.rotating(9)
async def test_every_event_is_answered_by_a_message_with_the_state_at_the_end(
    catalog: Catalog, event: UploadRequested | DeletionRequested, row: Row
) -> None:
    claimed = await row.start(catalog)
    before = await catalog.outbox.given_seq()
    await take(catalog, event)
    if claimed is not None:  # whoever worked on it meanwhile comes to its end
        await commit(catalog, Removed(claimed) if claimed.upload.state is State.DELETING else ready(claimed))
    await work(catalog)

    messages = await outbox_of(catalog, before)
    assert messages[-1].kind is row.end
    assert (await upload(catalog)).state is row.end


ORDERS = ["ud", "du", "udu", "dud", "uud", "ddu", "duud", "udud"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("start", [processing, being_deleted, queued], ids=lambda start: start.__name__)
@pytest.mark.rotating(9)
async def test_the_last_of_several_events_wins_while_somebody_works_on_the_upload(
    catalog: Catalog, start: Start, order: str
) -> None:
    claimed = await start(catalog)
    before = await catalog.outbox.given_seq()
    for place, kind in enumerate(order, 10):
        await take(catalog, upload_event(place) if kind == "u" else delete_event(place))
    if claimed is not None:
        await commit(catalog, Removed(claimed) if claimed.upload.state is State.DELETING else ready(claimed))
    await work(catalog)

    expected = State.READY if order.endswith("u") else State.DELETED
    assert (await upload(catalog)).state is expected
    assert (await outbox_of(catalog, before))[-1].kind is expected


@pytest.mark.parametrize("order", ORDERS)
async def test_the_last_event_wins_within_one_batch_too(catalog: Catalog, order: str) -> None:
    await is_ready(catalog)
    events = [
        upload_event(place) if kind == "u" else delete_event(place) for place, kind in enumerate(order, 10)
    ]
    await take(catalog, *events)
    await work(catalog)

    expected = State.READY if order.endswith("u") else State.DELETED
    assert (await upload(catalog)).state is expected


@pytest.mark.parametrize("place", [3, 5])
@pytest.mark.parametrize("start", [queued, processing, is_ready, has_failed, deleting, deleted])
async def test_an_older_or_equal_event_changes_nothing(catalog: Catalog, start: Start, place: int) -> None:
    await start(catalog)
    await take(catalog, upload_event(5, owner="newest"))
    before = await upload(catalog)
    taken = [await take(catalog, upload_event(place, owner="old")), await take(catalog, delete_event(place))]

    assert await upload(catalog) == before
    assert [part.jobs for part in taken] == [{}, {}]
    assert [part.outdated for part in taken] == [[f"{place}-0"], [f"{place}-0"]]


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("start", [is_ready, has_failed, deleted], ids=lambda start: start.__name__)
async def test_an_outdated_event_is_answered_with_the_present_state(
    catalog: Catalog, start: Start, place: int
) -> None:
    await start(catalog)
    last = (await outbox_of(catalog))[-1]
    if start is not deleted and place > 1:
        await take(catalog, upload_event(2))
        await work(catalog)
        last = (await outbox_of(catalog))[-1]
    taken = await take(catalog, upload_event(place), delete_event(place))

    [answer] = taken.messages
    assert answer.seq > last.seq
    assert (answer.kind, answer.id, answer.source) == (last.kind, CAT, SOURCE)
    assert (answer.error_code, answer.attempts) == (last.error_code, last.attempts)
    assert (answer.original, list(answer.variants)) == (last.original, last.variants)
    assert (await outbox_of(catalog))[-1].seq == answer.seq


@pytest.mark.parametrize("start", [queued, processing, deleting, being_deleted], ids=lambda one: one.__name__)
async def test_an_outdated_event_is_answered_by_the_message_that_is_to_come(
    catalog: Catalog, start: Start
) -> None:
    claimed = await start(catalog)
    before = await catalog.outbox.given_seq()
    taken = await take(catalog, upload_event(1))
    if claimed is not None:
        await commit(catalog, Removed(claimed) if claimed.upload.state is State.DELETING else ready(claimed))
    await work(catalog)

    assert (taken.messages, len(taken.outdated)) == ([], 1)
    assert len(await outbox_of(catalog, before)) == 1


@pytest.mark.parametrize("written_ms", [0, 1, 2])
@pytest.mark.parametrize("start", [deleting, being_deleted, deleted], ids=lambda start: start.__name__)
async def test_what_a_bucket_reports_late_or_again_does_not_undo_a_later_deletion(
    catalog: Catalog, start: Start, written_ms: int
) -> None:
    claimed = await start(catalog)
    before = await catalog.outbox.given_seq()
    taken = await take(catalog, replace(upload_event(9), written_ms=written_ms))
    if claimed is not None:
        await commit(catalog, Removed(claimed))
    await work(catalog)

    assert (await upload(catalog)).state is State.DELETED
    assert (len(taken.outdated), taken.jobs) == (1, {})
    assert [message.kind for message in await outbox_of(catalog, before)] == [State.DELETED]


@pytest.mark.parametrize("start", [deleting, being_deleted, deleted, tombstone], ids=lambda one: one.__name__)
async def test_what_was_put_into_a_bucket_after_its_deletion_comes_to_life(
    catalog: Catalog, start: Start
) -> None:
    claimed = await start(catalog)
    await take(catalog, replace(upload_event(9), written_ms=3))
    if claimed is not None:
        await commit(catalog, Removed(claimed))
    await work(catalog)

    assert (await upload(catalog)).state is State.READY


async def test_a_deletion_by_an_id_that_is_ahead_of_all_clocks_keeps_no_later_original_out(
    catalog: Catalog,
) -> None:
    await take(catalog, delete_event(2**62))
    now_ms = catalog.database.now_ms()
    written = [replace(upload_event(2**62 + after), written_ms=now_ms + after) for after in (-9000, 9000)]
    taken = [
        await take(catalog, each) for each in (replace(written[0], position=StreamId(2**62, 1)), written[1])
    ]

    assert [len(each.outdated) for each in taken] == [1, 0]
    assert (await upload(catalog)).state is State.QUEUED


async def test_what_a_bucket_reports_again_of_an_upload_that_is_there_has_it_checked(
    catalog: Catalog,
) -> None:
    await is_ready(catalog)
    taken = await take(catalog, replace(upload_event(9), written_ms=0))

    assert len(taken.jobs) == 1


async def test_an_adoption_that_comes_late_is_no_event_and_is_not_answered(catalog: Catalog) -> None:
    await is_ready(catalog)
    taken = await take(catalog, replace(upload_event(0), adopted=True))

    assert (taken.messages, taken.outdated, taken.refused) == ([], [], [])


async def test_events_of_the_same_millisecond_apply_in_their_order(catalog: Catalog) -> None:
    for number, owner in ((9, "ninth"), (10, "tenth"), (2, "second")):
        await take(catalog, UploadRequested(StreamId(1, number), CAT, SOURCE, "default", {"owner": owner}))

    assert (await upload(catalog)).metadata == {"owner": "tenth"}


async def test_an_id_belongs_to_its_first_source(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    taken = await take(catalog, upload_event(2, source="uploads/another.jpg"))

    assert [refused.stream_id for refused in taken.refused] == ["2-0"]
    assert (await upload(catalog)).source == SOURCE
    assert [kept.stream_id for kept in await catalog.dead_letters.newest(9)] == ["2-0"]


@pytest.mark.parametrize("place", [1, 2])
async def test_an_event_for_anothers_id_is_refused_however_old_it_is(catalog: Catalog, place: int) -> None:
    await take(catalog, upload_event(2))
    before = await upload(catalog)
    taken = await take(catalog, upload_event(place, source="uploads/another.jpg"))

    assert (len(taken.refused), taken.outdated) == (1, [])
    assert await upload(catalog) == before


# -- the answers to what is refused


def refused(entry: str, about: About | None) -> DeadLetter:
    return replace(letter(entry), about=about)


async def refuse(catalog: Catalog, *letters: DeadLetter) -> Sequence[Message]:
    return (await catalog.intake.take([], letters)).messages


async def test_a_refused_event_is_answered_with_its_entry(catalog: Catalog) -> None:
    [answer] = await refuse(catalog, refused("7-1", About(CAT, SOURCE, {"owner": "42"})))

    assert (answer.kind, answer.entry, answer.id, answer.source) == (State.FAILED, "7-1", CAT, SOURCE)
    assert (answer.error_code, answer.error_message) == ("invalid_event", "refused")
    assert (answer.attempts, answer.metadata) == (0, {"owner": "42"})
    assert [one.seq for one in await outbox_of(catalog)] == [answer.seq]
    assert [one.seq for one in await catalog.outbox.unsent()] == [answer.seq]


async def test_a_refused_event_that_says_nothing_of_whom_it_is_about_is_a_dead_letter_only(
    catalog: Catalog,
) -> None:
    assert await refuse(catalog, refused("7-1", None)) == []
    assert await catalog.dead_letters.count() == 1


async def test_a_refused_entry_that_is_read_twice_is_answered_once(catalog: Catalog) -> None:
    about = About(None, SOURCE)
    await refuse(catalog, refused("7-1", about))
    again = await refuse(catalog, refused("7-1", about), refused("7-2", about))

    assert [answer.entry for answer in again] == ["7-2"]
    assert [answer.entry for answer in await outbox_of(catalog)] == ["7-1", "7-2"]


async def test_an_event_for_anothers_id_is_answered_and_its_upload_stays_as_it_is(catalog: Catalog) -> None:
    await is_ready(catalog)
    before = await upload(catalog)
    other = "uploads/another.jpg"
    pair = upload_event(9, source=other), refused("9-0", About(CAT, other))
    taken = await catalog.intake.take([pair], [])

    [answer] = taken.messages
    assert (answer.entry, answer.id, answer.source) == ("9-0", CAT, other)
    assert await upload(catalog) == before


async def test_an_id_keeps_its_source_even_when_it_is_deleted(catalog: Catalog) -> None:
    await deleted(catalog)
    taken = await take(catalog, upload_event(9, source="uploads/another.jpg"))

    assert len(taken.refused) == 1
    assert (await upload(catalog)).state is State.DELETED


async def test_deleting_an_unknown_id_leaves_a_tombstone_and_is_answered_at_once(catalog: Catalog) -> None:
    taken = await take(catalog, delete_event(5))

    [message] = taken.messages
    assert (message.kind, message.id, message.source, message.metadata) == (State.DELETED, CAT, None, {})
    assert [each.seq for each in await outbox_of(catalog)] == [message.seq]


async def test_an_upload_event_from_before_the_delete_of_its_unknown_id_is_ignored(catalog: Catalog) -> None:
    await take(catalog, delete_event(5))
    taken = await take(catalog, upload_event(4))

    assert taken.jobs == {}
    assert (await upload(catalog)).state is State.DELETED


async def test_a_queued_upload_takes_the_newer_metadata_and_recipe(catalog: Catalog) -> None:
    await take(catalog, upload_event(1, owner="first"), upload_event(2, owner="second"))

    found = await upload(catalog)
    assert found.metadata == {"owner": "second"}


async def test_a_newer_event_during_the_work_keeps_the_result_and_queues_the_upload_silently(
    catalog: Catalog,
) -> None:
    claimed = await processing(catalog)
    await take(catalog, upload_event(5))
    committed = await commit(catalog, ready(claimed))

    found = await upload(catalog)
    assert (committed.state, committed.message) == (State.QUEUED, None)
    assert [variant.name for variant in found.variants] == ["thumb", "large"]
    assert await outbox_of(catalog) == []


@pytest.mark.parametrize("outcome", [failed, postponed], ids=lambda outcome: outcome.__name__)
async def test_a_newer_event_during_work_that_fails_is_tried_at_once_and_afresh(
    catalog: Catalog, outcome: Callable[[Claim], Failed | Postponed]
) -> None:
    claimed = await processing(catalog)
    await take(catalog, upload_event(5))
    committed = await commit(catalog, outcome(claimed))

    again = await claim(catalog)
    assert (committed.state, committed.message) == (State.QUEUED, None)
    assert again.upload.attempts == 0


async def test_a_delete_event_fences_whoever_works_on_the_upload(catalog: Catalog) -> None:
    claimed = await processing(catalog)
    await take(catalog, delete_event(5))
    committed = await commit(catalog, ready(claimed))

    assert (committed.state, committed.message) == (None, None)
    assert (await upload(catalog)).variants == []


async def test_a_deleted_upload_has_no_variants_no_metadata_and_sends_both_for_the_last_time(
    catalog: Catalog,
) -> None:
    await deleted(catalog)

    found = await upload(catalog)
    assert (found.metadata, found.variants, found.original) == ({}, [], None)
    assert (await outbox_of(catalog))[-1].metadata == {"owner": "first"}


async def test_an_upload_that_comes_back_during_its_deletion_is_made_afresh(catalog: Catalog) -> None:
    claimed = await being_deleted(catalog)
    await take(catalog, upload_event(5, owner="back"))
    committed = await commit(catalog, Removed(claimed))

    found = await upload(catalog)
    assert (committed.state, committed.message) == (State.QUEUED, None)
    assert (found.metadata, found.original, found.variants) == ({"owner": "back"}, None, [])


# -- the original


async def test_the_request_to_delete_the_original_is_in_the_claim(catalog: Catalog) -> None:
    await is_ready(catalog)
    await take(catalog, delete_event(5, original=True))

    assert (await claim(catalog)).delete_original


async def test_a_later_upload_event_saves_the_original_from_the_deletion(catalog: Catalog) -> None:
    await is_ready(catalog)
    await take(catalog, delete_event(5, original=True), upload_event(6))

    assert not (await claim(catalog)).delete_original


async def test_a_request_to_delete_the_original_that_comes_during_the_deletion_is_met_too(
    catalog: Catalog,
) -> None:
    await is_ready(catalog)
    before = await catalog.outbox.given_seq()
    await take(catalog, delete_event(5))
    claimed = await claim(catalog)
    await take(catalog, delete_event(6, original=True))
    first = await commit(catalog, Removed(claimed))
    again = await claim(catalog)
    last = await commit(catalog, Removed(again))

    assert (first.state, first.message, first.due_in_ms) == (State.DELETING, None, 0)
    assert (again.delete_original, again.crash_count) == (True, 0)
    assert last.state is State.DELETED
    assert [message.metadata for message in await outbox_of(catalog, before)] == [claimed.upload.metadata]


async def test_a_request_to_delete_the_original_ends_with_that_deletion(catalog: Catalog) -> None:
    await is_ready(catalog)
    await take(catalog, delete_event(5, original=True))
    claimed = await claim(catalog)
    await take(catalog, upload_event(6))
    await commit(catalog, Removed(claimed))
    await take(catalog, delete_event(7))

    assert not (await claim(catalog)).delete_original


async def test_an_original_is_shared_while_another_upload_that_lives_has_it(catalog: Catalog) -> None:
    other = uuid4()
    await take(catalog, upload_event(1), upload_event(1, upload_id=other))
    shared = await catalog.claims.others_with([SOURCE], CAT)
    await take(catalog, delete_event(2, upload_id=other))

    assert shared == 1
    assert await catalog.claims.others_with([SOURCE], CAT) == 0


# -- many at once


async def test_uploads_that_wait_are_spread_over_jobs(catalog: Catalog) -> None:
    ids = [uuid4() for _ in range(7)]
    taken = await take(spreading(catalog, 3), *(upload_event(1, each, f"uploads/{each}") for each in ids))

    assert [len(group) for group in taken.jobs.values()] == [3, 3, 1]
    assert [each for group in taken.jobs.values() for each in group] == ids


async def test_a_batch_that_cannot_be_recorded_leaves_nothing(catalog: Catalog) -> None:
    cannot_be_written = replace(letter("2-0"), body=cast(bytes, object()))

    with pytest.raises(StatementError):
        await catalog.intake.take([(upload_event(1), letter("1-0"))], [cannot_be_written])

    assert await catalog.reports.find(CAT) is None
    assert await catalog.dead_letters.count() == 0
