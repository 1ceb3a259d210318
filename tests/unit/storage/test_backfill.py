"""Back-fill: which uploads are looked at, and in which order."""

from uuid import UUID, uuid4

import pytest

from storage.catalog.backfill import Filter
from storage.catalog.clock import now_ms
from storage.catalog.opening import Catalog
from storage.catalog.records import (
    DeadLetter,
    Failed,
    Original,
    Ready,
    State,
    StoredVariant,
    StreamId,
    UploadRequested,
)
from tests.support.catalogs import ON_BOTH, claim, commit, ready, take, upload_event

pytestmark = ON_BOTH

LETTER = DeadLetter("1-0", "invalid_event", "", b"")


async def upload(catalog: Catalog, *, recipe: str = "default", code: str | None = None) -> UUID:
    """An upload that is ready, or failed with `code`."""
    upload_id = uuid4()
    event = UploadRequested(StreamId(1), upload_id, f"uploads/{upload_id}.jpg", recipe)
    taken = await catalog.intake.take([(event, LETTER)], [])
    mine = await catalog.claims.claim(upload_id, next(iter(taken.jobs)), "me")
    assert mine is not None
    variant = StoredVariant("thumb", f"variants/ab/cd/{upload_id}.jpg", 10, 10, 3, "f" * 64)
    made = Ready(mine, Original("stamp", "0" * 64, 3, "jpeg", 10, 10), [variant])
    await catalog.claims.commit([Failed(mine, code, "no") if code else made])
    return upload_id


async def seen(catalog: Catalog, wanted: Filter, after: str = "", limit: int = 100) -> list[UUID]:
    return [found.id for found in await catalog.backfill.page(wanted, after, limit)]


async def test_pages_follow_one_another_without_gap_or_repeat(catalog: Catalog) -> None:
    everything = sorted([await upload(catalog) for _ in range(5)], key=str)

    first = await seen(catalog, Filter(), limit=3)
    second = await seen(catalog, Filter(), after=str(first[-1]), limit=3)

    assert first + second == everything
    assert await catalog.backfill.count(Filter(), str(first[-1])) == 2


async def test_each_upload_comes_with_its_own_variants(catalog: Catalog) -> None:
    await upload(catalog)
    await upload(catalog)

    page = await catalog.backfill.page(Filter(), "", 10)

    assert [[str(found.id) in variant.key for variant in found.variants] for found in page] == [[True]] * 2


async def test_each_upload_comes_with_its_current_variants_alone(catalog: Catalog) -> None:
    for ms, names in enumerate((("thumb", "large"), ("thumb", "wide")), 1):
        await take(catalog, upload_event(ms))
        await commit(catalog, ready(await claim(catalog), f"{ms}" * 64, names))
    [found] = await catalog.backfill.page(Filter(), "", 10)

    assert sorted(one.name for one in found.variants) == ["thumb", "wide"]


@pytest.mark.parametrize(
    ("wanted", "which"),
    [
        (Filter(), {"ready", "avatar"}),
        (Filter(recipe="avatar"), {"avatar"}),
        (Filter(State.FAILED), {"damaged", "hung"}),
        (Filter(State.FAILED, code="decode_timeout"), {"hung"}),
        (Filter(since_ms=now_ms() + 3_600_000), set()),
    ],
)
async def test_a_filter_names_what_is_looked_at(catalog: Catalog, wanted: Filter, which: set[str]) -> None:
    names = {
        await upload(catalog): "ready",
        await upload(catalog, recipe="avatar"): "avatar",
        await upload(catalog, code="corrupt_image"): "damaged",
        await upload(catalog, code="decode_timeout"): "hung",
    }

    assert {names[found] for found in await seen(catalog, wanted)} == which


async def test_what_is_queued_again_keeps_what_it_has(catalog: Catalog) -> None:
    again = await upload(catalog)

    queued = await catalog.requeuer.requeue([again], State.READY)

    found = await catalog.reports.find(again)
    assert queued == [again]
    assert found is not None
    assert (found.state, len(found.variants)) == (State.QUEUED, 1)


async def test_ids_select_uploads_that_are_so_and_the_others_are_told(catalog: Catalog) -> None:
    done, other, waiting, nobody = (UUID(int=number) for number in range(1, 5))
    await take(catalog, *(upload_event(1, one, f"uploads/{one}") for one in (done, other, waiting)))
    for one in (done, other):
        await commit(catalog, ready(await claim(catalog, one)))
    wanted = Filter(ids=[done, waiting, nobody])

    assert [upload.id for upload in await catalog.backfill.page(wanted, "", 10)] == [done]
    assert await catalog.backfill.count(wanted, "") == 1
    assert await catalog.backfill.unselected(wanted, "") == [waiting, nobody]
    assert await catalog.backfill.unselected(wanted, str(waiting)) == [nobody]
    assert await catalog.backfill.page(Filter(ids=[]), "", 10) == []
