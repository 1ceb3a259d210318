"""Adopted uploads: found in the storage, and taken over by the first event that names their source."""

from uuid import UUID, uuid4

from storage.catalog.opening import Catalog
from storage.catalog.records import DeadLetter, DeletionRequested, State, StreamId, Taken, UploadRequested
from tests.support.catalogs import ON_BOTH

pytestmark = ON_BOTH

SOURCE = "uploads/found.jpg"


async def take(catalog: Catalog, *events: UploadRequested | DeletionRequested) -> Taken:
    letter = DeadLetter("1-0", "invalid_event", "the id belongs to another source", b"")
    return await catalog.intake.take([(event, letter) for event in events], [])


async def state_of(catalog: Catalog, upload_id: UUID) -> State | None:
    found = await catalog.reports.find(upload_id)
    return found.state if found else None


def found(upload_id: UUID) -> UploadRequested:
    return UploadRequested(StreamId(), upload_id, SOURCE, "default", adopted=True)


async def test_an_adopted_upload_waits_for_work_like_any_other(catalog: Catalog) -> None:
    adopted = uuid4()

    taken = await take(catalog, found(adopted))

    assert [list(ids) for ids in taken.jobs.values()] == [[adopted]]
    assert await state_of(catalog, adopted) is State.QUEUED


async def test_adopting_what_is_known_changes_nothing(catalog: Catalog) -> None:
    known = uuid4()
    await take(catalog, UploadRequested(StreamId(5, 0), known, SOURCE, "default", {"owner": "42"}))

    taken = await take(catalog, found(known))

    upload = await catalog.reports.find(known)
    assert (taken.jobs, upload and upload.metadata) == ({}, {"owner": "42"})


async def test_an_event_with_another_id_takes_the_adopted_upload_over(catalog: Catalog) -> None:
    adopted, named = uuid4(), uuid4()
    await take(catalog, found(adopted))

    await take(catalog, UploadRequested(StreamId(7, 0), named, SOURCE, "default"))

    states = [await state_of(catalog, upload_id) for upload_id in (named, adopted)]
    assert states == [State.QUEUED, State.DELETING]


async def test_an_event_with_the_same_id_makes_the_upload_an_announced_one(catalog: Catalog) -> None:
    adopted, other = uuid4(), uuid4()
    await take(catalog, found(adopted))
    await take(catalog, UploadRequested(StreamId(7, 0), adopted, SOURCE, "default"))

    await take(catalog, UploadRequested(StreamId(8, 0), other, SOURCE, "default"))

    states = [await state_of(catalog, upload_id) for upload_id in (adopted, other)]
    assert states == [State.QUEUED, State.QUEUED]


async def test_a_tombstone_keeps_its_source_from_being_adopted(catalog: Catalog) -> None:
    gone = uuid4()
    await take(
        catalog,
        UploadRequested(StreamId(1, 0), gone, SOURCE, "default"),
        DeletionRequested(StreamId(2, 0), gone),
    )

    known = await catalog.sources.known([SOURCE, "uploads/other.jpg"])

    assert known == {SOURCE}


async def test_progress_is_what_was_saved_last_until_it_is_cleared(catalog: Catalog) -> None:
    checkpoint = catalog.checkpoint("adoption")
    before = await checkpoint.load()
    for after in ("uploads/m.jpg", "uploads/n.jpg"):
        await checkpoint.save({"after": after})
    stopped = await checkpoint.load()
    await catalog.checkpoint("rebuild").clear()
    others_cleared = await checkpoint.load()
    await checkpoint.clear()

    assert (before, stopped, others_cleared) == (None, {"after": "uploads/n.jpg"}, stopped)
    assert await checkpoint.load() is None
