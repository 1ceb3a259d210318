"""Uploads that take the place of others: at once, in one transaction, and only once they are ready."""

from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid5

import pytest
from sqlalchemy import select, update

from storage.catalog import replacing
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import (
    Committed,
    Domain,
    Message,
    OriginalFate,
    State,
    UploadRequested,
)
from storage.catalog.tables import uploads
from storage.errors import CatalogUnavailable
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    SHA,
    SOURCE,
    claim,
    commit,
    delete_event,
    failed,
    key,
    letter,
    meanwhile,
    outbox_of,
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

DOG, EMU = uuid5(CAT, "dog"), uuid5(CAT, "emu")
OTHER_SHA = "b" * 64


def instead(ms: int, of: UUID = CAT, by: UUID = DOG, **metadata: object) -> UploadRequested:
    """An upload that is to take the place of another."""
    return replace(upload_event(ms, by, f"uploads/{by}.jpg", **metadata), replaces=of)


async def cat_is_ready(catalog: Catalog, **metadata: Any) -> None:
    await take(catalog, upload_event(1, **metadata))
    await work(catalog)


async def finish(catalog: Catalog, upload_id: UUID = DOG) -> Committed:
    """It becomes ready, of a picture that no other is of."""
    return await commit(catalog, ready(await claim(catalog, upload_id), OTHER_SHA))


async def told(catalog: Catalog) -> list[tuple[UUID | None, State]]:
    return [(message.id, message.kind) for message in await outbox_of(catalog)]


async def row_of(catalog: Catalog, upload_id: UUID = CAT) -> Any:
    async with catalog.database.reading() as connection:
        found = await connection.execute(select(uploads).where(uploads.c.id == str(upload_id)))
    return found.mappings().one()


async def test_a_ready_upload_takes_the_place_of_another_in_one_transaction(catalog: Catalog) -> None:
    await cat_is_ready(catalog, post=7)
    await take(catalog, instead(2, post=8))
    assert (await upload(catalog)).state is State.READY
    with transactions(catalog) as seen:
        committed = await finish(catalog)

    assert seen.count("COMMIT") == 2  # the claim's, and the outcome's
    [_, new, gone] = await outbox_of(catalog)
    assert [new.seq, gone.seq] == [message.seq for message in committed.messages] == [2, 3]
    assert (new.kind, new.id, new.replaces, new.metadata) == (State.READY, DOG, CAT, {"post": 8})
    assert (gone.kind, gone.id, gone.replaced_by, gone.metadata) == (State.DELETED, CAT, DOG, {"post": 7})
    assert (gone.source, gone.original_fate) == (SOURCE, OriginalFate.KEPT)
    old = await upload(catalog)
    assert (old.state, old.variants, old.metadata, old.original) == (State.DELETED, [], {}, None)


@pytest.mark.sqlite
async def test_nothing_is_replaced_where_the_messages_about_it_cannot_be_kept(catalog: Catalog) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2))
    done = ready(await claim(catalog, DOG), OTHER_SHA)
    with meanwhile(catalog, "INSERT INTO outbox", "DROP TABLE outbox"), pytest.raises(CatalogUnavailable):
        await commit(catalog, done)
    assert [(await upload(catalog, each)).state for each in (CAT, DOG)] == [State.READY, State.PROCESSING]
    assert len((await upload(catalog)).variants) == 2
    await commit(catalog, done)

    assert (await told(catalog))[1:] == [(DOG, State.READY), (CAT, State.DELETED)]


@pytest.mark.sqlite
async def test_what_was_replaced_stays_served_until_a_sweep_retires_it(catalog: Catalog) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2))
    await finish(catalog)

    now = catalog.database.now_ms()
    kept = await catalog.sweeps.superseded(now + 60_000, "", 10)
    assert {row.key for row in kept} == {key(CAT, SHA, name) for name in ("thumb", "large")}
    assert await catalog.sweeps.superseded(now - 60_000, "", 10) == []


async def test_an_upload_that_fails_leaves_the_other_and_takes_its_place_once_it_is_mended(
    catalog: Catalog,
) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2))
    await commit(catalog, failed(await claim(catalog, DOG)))
    assert (await upload(catalog)).state is State.READY
    await take(catalog, replace(instead(3), replaces=None))  # sent again, as the picture alone
    await finish(catalog)

    assert (await told(catalog))[1:] == [(DOG, State.FAILED), (DOG, State.READY), (CAT, State.DELETED)]


@pytest.mark.sqlite
async def test_the_place_of_an_upload_that_never_was_is_said_to_be_empty(catalog: Catalog) -> None:
    await take(catalog, instead(1))
    committed = await finish(catalog)

    [gone] = committed.replaced
    assert (gone.id, gone.source, gone.replaced_by) == (CAT, None, DOG)
    assert gone.original_fate is OriginalFate.MISSING


async def test_an_older_event_that_comes_late_does_not_bring_what_was_replaced(catalog: Catalog) -> None:
    await take(catalog, instead(5))
    await finish(catalog)
    taken = await take(catalog, upload_event(3))

    assert [(one.kind, one.replaced_by) for one in taken.messages] == [(State.DELETED, DOG)]
    assert await try_claim(catalog) is None
    await take(catalog, upload_event(6))
    await work(catalog)
    assert (await upload(catalog)).state is State.READY


async def test_what_is_announced_while_it_is_found_missing_is_replaced(catalog: Catalog) -> None:
    await take(catalog, instead(5), upload_event(3, EMU, "uploads/emu.jpg"))
    done = ready(await claim(catalog, DOG), OTHER_SHA)
    renamed = f"UPDATE uploads SET id = '{CAT}' WHERE id = '{EMU}'"
    with meanwhile(catalog, "INSERT INTO uploads", renamed):
        committed = await commit(catalog, done)

    assert [(one.id, one.source, one.replaced_by) for one in committed.replaced] == [
        (CAT, "uploads/emu.jpg", DOG)
    ]


@pytest.mark.sqlite
@pytest.mark.parametrize("work_is_done", [True, False])
async def test_an_upload_that_is_deleted_meanwhile_is_reported_once_as_deleted(
    catalog: Catalog, *, work_is_done: bool
) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2), delete_event(3))
    if work_is_done:
        await work(catalog)
    await finish(catalog)
    await work(catalog)

    assert sorted((await told(catalog))[1:]) == sorted([(CAT, State.DELETED), (DOG, State.READY)])
    assert (await row_of(catalog))["replaced_by"] is None
    assert await catalog.claims.keys_of(CAT) == []


async def test_whoever_works_on_an_upload_that_is_replaced_does_not_write_its_result(
    catalog: Catalog,
) -> None:
    await take(catalog, upload_event(1), instead(2))
    late = await claim(catalog)
    await finish(catalog)

    assert (await commit(catalog, ready(late))).state is None
    assert (await upload(catalog)).state is State.DELETED
    assert await told(catalog) == [(DOG, State.READY), (CAT, State.DELETED)]


@pytest.mark.sqlite
async def test_an_upload_that_waits_is_not_begun_any_more_once_it_is_replaced(catalog: Catalog) -> None:
    await take(catalog, upload_event(1), instead(2))
    job_id = (await row_of(catalog))["job_id"]
    await finish(catalog)

    assert await catalog.claims.claim(CAT, job_id, "worker") is None


@pytest.mark.sqlite
async def test_an_upload_that_is_announced_again_later_stays(catalog: Catalog) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2), upload_event(3))
    await work(catalog)
    committed = await finish(catalog)

    assert (committed.replaced, (await upload(catalog)).state) == ([], State.READY)


@pytest.mark.sqlite
async def test_an_event_before_the_one_that_replaces_does_not_bring_back_what_was_replaced(
    catalog: Catalog,
) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(5))
    await finish(catalog)
    taken = await take(catalog, upload_event(3))

    [answer] = taken.messages
    assert (answer.kind, answer.replaced_by) == (State.DELETED, DOG)
    assert answer.original_fate is OriginalFate.KEPT


@pytest.mark.sqlite
async def test_of_two_that_replace_one_upload_the_first_that_is_ready_counts(catalog: Catalog) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2), instead(3, by=EMU))
    await finish(catalog, EMU)
    last = await finish(catalog)

    assert (last.replaced, last.message and last.message.replaces) == ([], CAT)
    assert (await row_of(catalog))["replaced_by"] == str(EMU)
    assert (await upload(catalog, EMU)).state is State.READY


@pytest.mark.sqlite
async def test_of_two_uploads_that_one_is_to_replace_the_last_that_was_named_counts(catalog: Catalog) -> None:
    await cat_is_ready(catalog)
    await take(catalog, upload_event(2, EMU, "uploads/emu.jpg"))
    await work(catalog, EMU)
    await take(catalog, instead(3), instead(4, of=EMU))
    await finish(catalog)

    assert [(await upload(catalog, each)).state for each in (CAT, EMU)] == [State.READY, State.DELETED]


@pytest.mark.sqlite
async def test_an_event_that_is_sent_again_is_answered_and_replaces_nothing_twice(catalog: Catalog) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2))
    await finish(catalog)
    again = await take(catalog, instead(2))
    await take(catalog, instead(3))
    last = await finish(catalog)

    assert [message.kind for message in again.messages] == [State.READY]
    assert (last.message and last.message.replaces, last.replaced) == (CAT, [])


async def test_who_replaces_an_upload_that_was_to_replace_another_replaces_both(catalog: Catalog) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2), instead(3, of=DOG, by=EMU))
    committed = await finish(catalog, EMU)

    assert [message.id for message in committed.replaced] == [DOG, CAT]
    assert {message.replaced_by for message in committed.replaced} == {EMU}
    assert await try_claim(catalog, DOG) is None


@pytest.mark.parametrize("again", [DOG, None], ids=["as before", "without what it replaces"])
async def test_of_a_long_chain_some_are_replaced_at_once_and_the_others_when_the_event_is_sent_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, again: UUID | None
) -> None:
    monkeypatch.setattr(replacing, "MOST_AT_ONCE", 2)
    chain = [uuid5(CAT, str(number)) for number in range(4)]
    await cat_is_ready(catalog)
    await take(catalog, *(instead(2 + n, of, by) for n, (of, by) in enumerate(pairwise([CAT, *chain, DOG]))))
    first = await finish(catalog)
    assert [message.id for message in first.replaced] == [chain[3], chain[2]]
    assert (await upload(catalog)).state is State.READY
    await take(catalog, instead(10, of=DOG, by=EMU))

    assert [message.id for message in (await finish(catalog, EMU)).replaced] == [DOG, chain[1]]
    await take(catalog, replace(instead(11, by=EMU), replaces=again))
    assert [message.id for message in (await finish(catalog, EMU)).replaced] == [chain[0], CAT]
    assert (await row_of(catalog, EMU))["replaces"] is None


@pytest.mark.sqlite
async def test_uploads_that_were_to_replace_each_other_are_no_endless_task(catalog: Catalog) -> None:
    await take(catalog, instead(1, of=DOG, by=CAT), instead(2, of=CAT, by=DOG))
    committed = await finish(catalog)

    assert [message.id for message in committed.replaced] == [CAT]


async def test_an_upload_and_the_one_that_replaces_it_can_become_ready_together(catalog: Catalog) -> None:
    await take(catalog, upload_event(1), instead(2))
    claims = [await claim(catalog), await claim(catalog, DOG)]
    outcomes = [ready(claims[1], OTHER_SHA), ready(claims[0])]
    [new, _old] = await catalog.claims.commit(outcomes)

    assert (await told(catalog))[-1] == (CAT, State.DELETED)
    assert sorted(await told(catalog)) == sorted(
        [(CAT, State.READY), (DOG, State.READY), (CAT, State.DELETED)]
    )
    assert [message.kind for message in new.messages] == [State.READY, State.DELETED]
    assert (await upload(catalog)).variants == []


@pytest.mark.sqlite
async def test_an_upload_that_is_announced_once_more_in_work_replaces_when_it_is_done_for_good(
    catalog: Catalog,
) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2))
    first = await claim(catalog, DOG)
    await take(catalog, instead(3))
    assert (await commit(catalog, ready(first, OTHER_SHA))).messages == []
    assert (await upload(catalog)).state is State.READY
    await finish(catalog)

    assert (await upload(catalog)).state is State.DELETED


@pytest.mark.sqlite
async def test_an_upload_that_was_deleted_and_is_announced_anew_replaces_nothing_any_more(
    catalog: Catalog,
) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2), delete_event(3, DOG), replace(instead(4), replaces=None))
    await work(catalog, DOG)

    assert (await upload(catalog, DOG)).state is State.READY
    assert (await upload(catalog)).state is State.READY


@pytest.mark.sqlite
async def test_what_a_worker_of_the_version_before_has_deleted_replaces_nothing_once_announced_anew(
    catalog: Catalog,
) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2), delete_event(3, DOG))
    await work(catalog, DOG)
    async with catalog.database.writing() as connection:  # it knows of no such column
        await connection.execute(update(uploads).where(uploads.c.id == str(DOG)).values(replaces=str(CAT)))
    await take(catalog, replace(instead(4), replaces=None))
    await work(catalog, DOG)

    assert [(await upload(catalog, each)).state for each in (CAT, DOG)] == [State.READY] * 2


@pytest.mark.sqlite
async def test_what_was_replaced_can_be_announced_again_and_can_be_deleted_at_once(catalog: Catalog) -> None:
    await cat_is_ready(catalog)
    await take(catalog, instead(2))
    await finish(catalog)
    await take(catalog, upload_event(3))
    again = await claim(catalog)
    assert {one.key for one in again.superseded} == {key(CAT, SHA, name) for name in ("thumb", "large")}
    await commit(catalog, ready(again))
    assert ((await row_of(catalog))["replaced_by"], len((await upload(catalog)).variants)) == (None, 2)
    await take(catalog, instead(4))
    await finish(catalog)
    await take(catalog, delete_event(5))
    await work(catalog)

    assert await catalog.claims.keys_of(CAT) == []


async def test_an_ordinary_outcome_costs_no_statement_more(catalog: Catalog, database_kind: str) -> None:
    await cat_is_ready(catalog)
    await take(catalog, replace(instead(2), replaces=None), upload_event(3, EMU, "uploads/emu.jpg"))
    ordinary = ready(await claim(catalog, DOG), OTHER_SHA)
    with statements(catalog) as asked:
        await commit(catalog, ordinary)
    before = len(asked)
    replacing = replace(instead(4, by=EMU), source="uploads/emu.jpg")
    await take(catalog, replacing)
    other = ready(await claim(catalog, EMU), "c" * 64)
    with statements(catalog) as asked:
        await commit(catalog, other)

    # It locks, reads, deletes and supersedes; and SQLite adds each message by itself.
    assert len(asked) == before + 4 + (database_kind == "sqlite")


# -- apps with streams of their own

SHOP = Domain("media:uploads:shop", "uploads/shop/")


async def of_shop(catalog: Catalog, ms: int, of: UUID) -> tuple[list[str], list[Message]]:
    """An upload of the app is to take the place of another; which entries are refused, and what is told."""
    event = replace(upload_event(ms, DOG, "uploads/shop/dog.jpg"), replaces=of, domain=SHOP)
    taken = await catalog.intake.take([(event, letter(f"{ms}-0"))], [])
    return [each.stream_id for each in taken.refused], list(taken.messages)


@pytest.mark.sqlite
async def test_an_app_cannot_take_the_place_of_what_is_not_its_own(
    catalog: Catalog, catalog_url: str
) -> None:
    await cat_is_ready(catalog)
    async with open_catalog(catalog_url, domains=[SHOP]) as apart:
        refused, messages = await of_shop(apart, 2, CAT)
        assert (refused, messages) == (["2-0"], [])
        assert await apart.reports.find(DOG) is None
        await of_shop(apart, 3, EMU)
        await take(catalog, upload_event(1, EMU, "uploads/blog/emu.jpg"))
        committed = await finish(apart)

    assert committed.replaced == []
    assert (await upload(catalog, EMU)).state is State.QUEUED


@pytest.mark.sqlite
async def test_an_app_takes_the_place_of_its_own_and_hears_of_what_never_was(
    catalog: Catalog, catalog_url: str
) -> None:
    async with open_catalog(catalog_url, domains=[SHOP]) as apart:
        await take(apart, upload_event(1, CAT, "uploads/shop/cat.jpg"))
        assert (await of_shop(apart, 2, CAT))[0] == []
        [gone] = (await finish(apart)).replaced
        assert (gone.id, gone.stream, gone.source) == (CAT, None, "uploads/shop/cat.jpg")
        await of_shop(apart, 3, EMU)
        [never] = (await finish(apart)).replaced

    assert (never.id, never.stream) == (EMU, SHOP.stream)
