"""Failures: what a person can do about uploads that failed and events that were refused."""

from uuid import UUID, uuid4

from storage.catalog.opening import Catalog
from storage.catalog.records import (
    DeadLetter,
    Failed,
    Original,
    Postponed,
    Ready,
    State,
    StoredVariant,
    StreamId,
    UploadRequested,
)
from tests.support.catalogs import ON_BOTH

pytestmark = ON_BOTH

LETTER = DeadLetter("1-0", "invalid_event", "not JSON", b"{")


async def queued(catalog: Catalog, upload_id: UUID, ms: int = 1) -> str:
    upload_event = UploadRequested(
        StreamId(ms), upload_id, f"uploads/{upload_id}.jpg", "default", {"owner": "42"}
    )
    taken = await catalog.intake.take([(upload_event, LETTER)], [])
    return next(iter(taken.jobs))


async def failed(catalog: Catalog, upload_id: UUID, code: str = "corrupt_image", ms: int = 1) -> None:
    claim = await catalog.claims.claim(upload_id, await queued(catalog, upload_id, ms), "me")
    assert claim is not None
    await catalog.claims.commit([Failed(claim, code, "It is damaged.")])


async def ready(catalog: Catalog, upload_id: UUID) -> None:
    claim = await catalog.claims.claim(upload_id, await queued(catalog, upload_id), "me")
    assert claim is not None
    original = Original("stamp", "0" * 64, 3, "jpeg", 10, 10)
    variant = StoredVariant("thumb", f"variants/ab/cd/{upload_id}.jpg", 10, 10, 3, "f" * 64)
    await catalog.claims.commit([Ready(claim, original, [variant])])


async def state_of(catalog: Catalog, upload_id: UUID) -> tuple[State, int]:
    found = await catalog.reports.find(upload_id)
    assert found is not None
    return found.state, found.attempts


async def test_a_failed_upload_that_is_retried_begins_without_attempts(catalog: Catalog) -> None:
    upload = uuid4()
    await failed(catalog, upload)

    queued = await catalog.requeuer.requeue([upload], State.FAILED)

    assert queued == [upload]
    assert await state_of(catalog, upload) == (State.QUEUED, 0)


async def test_only_what_failed_is_retried(catalog: Catalog) -> None:
    upload = uuid4()
    await ready(catalog, upload)

    queued = await catalog.requeuer.requeue([upload], State.FAILED)

    assert queued == []
    assert (await state_of(catalog, upload))[0] is State.READY


async def test_what_failed_and_is_tried_again_is_known_until_it_is_done(catalog: Catalog) -> None:
    fresh, stuck = uuid4(), uuid4()
    await queued(catalog, fresh)
    claim = await catalog.claims.claim(stuck, await queued(catalog, stuck), "me")
    assert claim is not None
    await catalog.claims.commit([Postponed(claim, "storage_unavailable", "It cannot be read.", 0, True)])

    [found] = await catalog.failures.waiting(10)

    assert (found.id, found.error_code, found.attempts) == (stuck, "storage_unavailable", 1)
    assert await catalog.failures.count_waiting() == 1
    assert await catalog.failures.newest(10) == []


async def test_failures_are_found_by_their_code(catalog: Catalog) -> None:
    damaged, hung = uuid4(), uuid4()
    await failed(catalog, damaged)
    await failed(catalog, hung, "decode_timeout")

    found = await catalog.failures.newest(10, code="decode_timeout")

    assert [upload.id for upload in found] == [hung]


async def test_a_discarded_failure_is_a_tombstone_and_a_message(catalog: Catalog) -> None:
    upload = uuid4()
    await failed(catalog, upload)

    gone = await catalog.failures.discard([upload])

    last = (await catalog.outbox.since(0))[-1]
    assert (list(gone), await state_of(catalog, upload)) == ([upload], (State.DELETED, 0))
    assert (last.kind, last.id, last.metadata) == (State.DELETED, upload, {"owner": "42"})


async def test_discarding_a_failure_takes_away_nothing_that_is_served(catalog: Catalog) -> None:
    upload = uuid4()
    await ready(catalog, upload)
    await failed(catalog, upload, ms=2)

    gone = await catalog.failures.discard([upload])

    found = await catalog.reports.find(upload)
    assert (list(gone), (await state_of(catalog, upload))[0]) == ([], State.FAILED)
    assert found is not None
    assert [variant.name for variant in found.variants] == ["thumb"]


async def test_dead_letters_are_chosen_by_number_or_code_and_thrown_away(catalog: Catalog) -> None:
    other = DeadLetter("2-0", "unknown_recipe", "there is no recipe", b"{}")
    await catalog.intake.take([], [LETTER, other])

    [chosen] = await catalog.dead_letters.newest(10, code="unknown_recipe")
    await catalog.dead_letters.discard([chosen.id])

    assert [letter.stream_id for letter in await catalog.dead_letters.newest(10)] == ["1-0"]
