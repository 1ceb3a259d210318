"""Which uploads would fail if they were made again: the question costs the same for many as for one."""

from dataclasses import replace
from uuid import UUID, uuid4

from pipelines.recipe import BUILT_IN, DEFAULT
from pipelines.reprocess import Selection, count_missing, find_unmakable
from storage.blobs import Storage
from storage.catalog.backfill import Filter
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from tests.support.blobs import on_both
from tests.support.catalogs import claim, commit, failed, ready, statements, take, upload_event
from tests.support.sweeps import put


async def made(catalog: Catalog, blobs: Storage, size: int | None) -> UUID:
    """A ready upload of 1000 bytes, whose original has that many by now; None: it is gone."""
    upload_id = uuid4()
    source = f"uploads/{upload_id}.jpg"
    if size is not None:
        await put(blobs, source, bytes(size))
    await take(catalog, upload_event(1, upload_id, source))
    await commit(catalog, ready(await claim(catalog, upload_id)))
    return upload_id


@on_both
async def test_those_whose_originals_are_gone_or_of_another_size_are_told(
    catalog: Catalog, blobs: Storage
) -> None:
    whole, torn, gone = [await made(catalog, blobs, size) for size in (1000, 999, None)]
    waiting = uuid4()
    await take(catalog, upload_event(2, waiting, "uploads/waiting.jpg"))

    found = await find_unmakable([whole, torn, gone, waiting, uuid4()], catalog, blobs)

    assert found == {torn: "it has 999 bytes, and its ready upload has 1000", gone: "it is gone"}


@on_both
async def test_many_uploads_are_looked_up_with_as_few_statements_as_one(
    catalog: Catalog, blobs: Storage
) -> None:
    ids = [await made(catalog, blobs, None) for _ in range(5)]

    with statements(catalog) as for_one:
        await find_unmakable(ids[:1], catalog, blobs)
    with statements(catalog) as for_all:
        await find_unmakable(ids, catalog, blobs)

    assert len(for_all) == len(for_one)


async def test_a_failed_upload_of_which_nothing_was_ever_read_is_not_stale(
    catalog: Catalog, blobs: Storage
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, failed(await claim(catalog)))
    page = await catalog.backfill.page(Filter(State.FAILED), "", 10)
    selection = Selection(Filter(State.FAILED), None, stale=True, missing=False)

    assert len(page) == 1
    assert not (await selection.among(page, BUILT_IN, blobs, catalog.sources)).uploads


@on_both
async def test_missing_files_are_counted_of_uploads_that_would_not_fail(
    catalog: Catalog, blobs: Storage
) -> None:
    for size in (1000, 999, None):
        await made(catalog, blobs, size)

    assert await count_missing(catalog, blobs) == (1, 2)


@on_both
async def test_a_failed_upload_that_lacks_files_is_chosen_although_its_original_is_gone(
    catalog: Catalog, blobs: Storage
) -> None:
    upload_id = await made(catalog, blobs, None)
    await take(catalog, upload_event(2, upload_id, f"uploads/{upload_id}.jpg"))
    await commit(catalog, failed(await claim(catalog, upload_id)))
    page = await catalog.backfill.page(Filter(State.FAILED), "", 10)
    selection = Selection(Filter(State.FAILED), None, stale=False, missing=True)
    selected = await selection.among(page, BUILT_IN, blobs, catalog.sources)

    assert [one.id for one in selected.uploads] == [upload_id]
    assert (selected.missing, selected.differing) == (2, {})


def test_each_backfill_has_a_checkpoint_of_its_own_and_the_recipes_count_where_they_decide() -> None:
    anything = Selection(Filter(), None, stale=False, missing=False)
    others = [replace(anything, stale=True), replace(anything, missing=True), replace(anything, since="7d")]
    filters = Filter(State.FAILED), Filter(recipe="avatar"), Filter(code="corrupt_image")
    others += [replace(anything, filter=one) for one in filters]
    changed = {"default": replace(DEFAULT, placeholder="none")}

    assert len({one.checkpoint(BUILT_IN) for one in (anything, *others)}) == 1 + len(others)
    assert anything.checkpoint(changed) == anything.checkpoint(BUILT_IN)
    assert others[0].checkpoint(changed) != others[0].checkpoint(BUILT_IN)


def test_a_back_fill_of_some_uploads_resumes_none_of_others() -> None:
    def checkpoint(*numbers: int) -> str:
        ids = [UUID(int=number) for number in numbers] or None
        return Selection(Filter(ids=ids), None, stale=False, missing=False).checkpoint(BUILT_IN)

    assert len({checkpoint(), checkpoint(1), checkpoint(2), checkpoint(1, 2)}) == 4
    assert checkpoint(1, 2) == checkpoint(2, 1)
