"""What happened after a copy was made is applied to its rows, before any event that still waits."""

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.catalog.replay import LaterState, Replay, Trashed, waiting_since
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    SOURCE,
    delete_event,
    dispatch,
    take,
    upload,
    upload_event,
    work,
)

pytestmark = ON_BOTH
NEW = UUID("11111111-0000-4000-8000-000000000000")


@pytest.fixture
async def replay(catalog: Catalog) -> Replay:
    """That of a catalog with one ready upload, announced at 5."""
    await take(catalog, upload_event(5, colour="red"))
    await work(catalog)
    return Replay(catalog.database, catalog.intake)


async def test_a_later_deletion_deletes_the_upload_again(catalog: Catalog, replay: Replay) -> None:
    await replay.apply([LaterState(CAT, deleted=True, source=SOURCE)])

    assert (await upload(catalog)).state is State.DELETING
    assert list((await dispatch(catalog)).values()) == [[CAT]]
    await work(catalog)
    assert (await upload(catalog)).state is State.DELETED
    await replay.apply([LaterState(CAT, deleted=True, source=SOURCE)])
    assert await dispatch(catalog) == {}


async def test_a_later_announcement_checks_the_upload_again_with_its_metadata(
    catalog: Catalog, replay: Replay
) -> None:
    await replay.apply([LaterState(CAT, False, SOURCE, "large", {"colour": "blue"})])

    found = await upload(catalog)
    assert (found.state, found.recipe, found.metadata) == (State.QUEUED, "large", {"colour": "blue"})


async def test_without_a_recipe_that_of_the_row_stays(catalog: Catalog, replay: Replay) -> None:
    await take(catalog, upload_event(6))
    await replay.apply([LaterState(CAT, False, SOURCE), LaterState(NEW, False, "uploads/new.jpg")])

    assert [(await upload(catalog, each)).recipe for each in (CAT, NEW)] == ["default", "default"]


@pytest.mark.parametrize(("later", "expected"), [("mia", "mia"), (None, "eve"), ("", "2026")])
async def test_an_upload_is_its_later_owners_or_else_stays_whose_it_was(
    catalog: Catalog, replay: Replay, later: str | None, expected: str
) -> None:
    await take(catalog, replace(upload_event(6), owner="eve"))
    await replay.apply([LaterState(CAT, False, SOURCE, owner=later)])

    assert (await upload(catalog)).owner == expected


async def test_the_owner_of_an_upload_that_waits_is_known(catalog: Catalog, replay: Replay) -> None:
    since = (await upload(catalog)).changed_ms
    await take(catalog, replace(upload_event(6, NEW, "uploads/new.jpg"), owner="mia"))

    assert [state.owner for state in await waiting_since(catalog.database, since)] == ["mia"]


async def test_a_later_upload_that_was_deleted_leaves_what_keeps_its_original_from_adoption(
    catalog: Catalog, replay: Replay
) -> None:
    await replay.apply([LaterState(NEW, True, "uploads/new.jpg"), LaterState(uuid4(), True, None)])
    await work(catalog, NEW)

    assert (await upload(catalog, NEW)).state is State.DELETED
    assert await catalog.sources.known(["uploads/new.jpg"]) == {"uploads/new.jpg"}


async def test_what_was_replaced_later_stays_served_while_what_has_replaced_it_is_made_again(
    catalog: Catalog, replay: Replay
) -> None:
    served = set(await catalog.claims.keys_of(CAT))
    await replay.apply(
        [LaterState(NEW, False, "uploads/new.jpg"), LaterState(CAT, True, SOURCE, replaced_by=NEW)]
    )

    assert list((await dispatch(catalog)).values()) == [[NEW]]
    gone = (await catalog.questions.find([CAT]))[CAT]
    assert (gone.upload.state, gone.replaced_by, *gone.upload.variants) == (State.DELETED, NEW)
    assert set(await catalog.claims.keys_of(CAT)) == served
    assert [each.key for each in await catalog.sweeps.superseded(gone.upload.changed_ms, "", 10)] == []
    await take(catalog, upload_event(6))
    assert (await upload(catalog)).state is State.QUEUED


async def test_what_waits_to_replace_an_upload_still_replaces_it_unless_that_was_announced_again(
    catalog: Catalog, replay: Replay
) -> None:
    instead = replace(upload_event(6, NEW, "uploads/new.jpg"), replaces=CAT)
    await take(catalog, instead)
    [waits] = await waiting_since(catalog.database, 0)
    assert waits.replaces == CAT
    await take(catalog, upload_event(7))
    await work(catalog)
    assert [one.replaces for one in await waiting_since(catalog.database, 0)] == [None]


async def test_a_later_upload_replaces_what_it_was_to_replace(catalog: Catalog, replay: Replay) -> None:
    await replay.apply([LaterState(NEW, False, "uploads/new.jpg", replaces=CAT)])
    assert (await upload(catalog)).state is State.READY
    await dispatch(catalog)
    await work(catalog, NEW)

    assert (await upload(catalog)).state is State.DELETED


async def test_what_was_announced_later_is_not_replaced_by_what_waited_in_the_copy(
    catalog: Catalog, replay: Replay
) -> None:
    await take(catalog, replace(upload_event(6, NEW, "uploads/new.jpg"), replaces=CAT))
    await replay.apply([LaterState(NEW, False, "uploads/new.jpg"), LaterState(CAT, False, SOURCE)])
    await dispatch(catalog)
    await work(catalog)
    await work(catalog, NEW)

    assert [(await upload(catalog, each)).state for each in (CAT, NEW)] == [State.READY] * 2


@pytest.mark.parametrize("deleted", [True, False])
async def test_an_event_that_still_waits_is_newer_than_what_was_applied(
    catalog: Catalog, replay: Replay, deleted: bool
) -> None:
    states = [LaterState(CAT, deleted, SOURCE), LaterState(NEW, deleted, "uploads/new.jpg")]
    await replay.apply(states)
    for each in (CAT, NEW):
        await work(catalog, each)

    await take(catalog, upload_event(6, late=True), upload_event(1, NEW, "uploads/new.jpg", late=True))

    for each in (CAT, NEW):
        found = await upload(catalog, each)
        assert (found.state, found.metadata) == (State.QUEUED, {"late": True})


async def test_uploads_that_wait_are_known_though_no_message_tells_of_them(
    catalog: Catalog, replay: Replay
) -> None:
    since = (await upload(catalog)).changed_ms
    await take(catalog, upload_event(6, NEW, "uploads/new.jpg", said="later"))
    assert await waiting_since(catalog.database, since) == [
        LaterState(NEW, False, "uploads/new.jpg", "default", {"said": "later"}, owner="")
    ]
    await work(catalog, NEW)
    await take(catalog, delete_event(7))

    [found] = await waiting_since(catalog.database, since)

    assert (found.id, found.deleted, found.source) == (CAT, True, SOURCE)
    assert await waiting_since(catalog.database, catalog.database.now_ms() + 60_000) == []


async def test_an_original_in_the_trash_tells_of_a_deletion_after_the_newest_claim(
    catalog: Catalog, replay: Replay
) -> None:
    claims = (await upload(catalog)).claims
    later, earlier = Trashed(CAT, SOURCE, claims + 1), Trashed(CAT, SOURCE, claims)

    assert await replay.deleted_later([later]) == [LaterState(CAT, True, SOURCE)]
    assert await replay.deleted_later([earlier, Trashed(NEW, SOURCE, 9), Trashed(CAT, "uploads/x", 9)]) == []
    await take(catalog, delete_event(7))
    assert await replay.deleted_later([later]) == []
