"""The outbox and the dead letters: the messages that apps receive, and the entries that became no upload."""

from uuid import uuid4

import pytest
from sqlalchemy import update

from storage.catalog import pruning
from storage.catalog.opening import Catalog
from storage.catalog.records import Failed, State
from storage.catalog.tables import dead_letters, outbox
from tests.support.catalogs import (
    ON_BOTH,
    claim,
    commit,
    delete_event,
    failed,
    letter,
    outbox_of,
    ready,
    statements,
    take,
    upload_event,
)

pytestmark = ON_BOTH


async def make(catalog: Catalog, count: int, first: int = 1) -> None:
    """Messages about one upload, one after another."""
    for ms in range(first, first + count):
        await take(catalog, upload_event(ms))
        await commit(catalog, ready(await claim(catalog)))


async def test_a_message_out_of_the_outbox_is_the_one_that_was_put_in(catalog: Catalog) -> None:
    await take(catalog, upload_event(1, owner={"name": "ü", "ids": [1, None, True]}))
    committed = await commit(catalog, ready(await claim(catalog)))
    await take(catalog, upload_event(2))
    refused = await commit(catalog, failed(await claim(catalog)))

    first, second = await outbox_of(catalog)
    assert committed.message is not None
    assert (first.seq, first.metadata, first.original) == (
        committed.message.seq,
        {"owner": {"name": "ü", "ids": [1, None, True]}},
        committed.message.original,
    )
    assert first.variants == list(committed.message.variants)
    assert refused.message is not None
    assert (second.kind, second.error_code) == (State.FAILED, refused.message.error_code)


async def test_messages_have_a_rising_number(catalog: Catalog) -> None:
    await make(catalog, 5)

    assert [message.seq for message in await outbox_of(catalog)] == [1, 2, 3, 4, 5]
    assert await catalog.outbox.given_seq() == 5


async def test_a_number_is_never_given_twice_even_when_all_messages_were_pruned(catalog: Catalog) -> None:
    await make(catalog, 3)
    await catalog.outbox.mark_sent(await outbox_of(catalog))
    pruned = await catalog.outbox.prune(2**60)
    await make(catalog, 1, first=9)

    assert pruned == 3
    assert [message.seq for message in await outbox_of(catalog)] == [4]


async def test_what_was_not_marked_as_sent_is_given_again(catalog: Catalog) -> None:
    await make(catalog, 3)
    await catalog.outbox.mark_sent((await outbox_of(catalog))[:2])

    assert [message.seq for message in await catalog.outbox.unsent()] == [3]


async def test_a_message_that_was_just_made_is_on_its_way(catalog: Catalog) -> None:
    await make(catalog, 2)
    async with catalog.database.writing() as connection:
        await connection.execute(update(outbox).where(outbox.c.seq == 1).values(made_ms=0))

    assert [message.seq for message in await catalog.outbox.unsent(older_than_ms=60_000)] == [1]
    assert [message.seq for message in await catalog.outbox.unsent(limit=1)] == [1]


async def test_messages_are_given_since_a_number_sent_or_not(catalog: Catalog) -> None:
    await make(catalog, 4)
    await catalog.outbox.mark_sent((await outbox_of(catalog))[:3])

    assert [message.seq for message in await catalog.outbox.since(1)] == [2, 3, 4]
    assert [message.seq for message in await catalog.outbox.since(1, limit=2)] == [2, 3]
    assert await catalog.outbox.since(4) == []


async def test_pruning_keeps_what_is_young_and_what_was_never_sent(catalog: Catalog) -> None:
    await make(catalog, 3)
    await catalog.outbox.mark_sent((await outbox_of(catalog))[1:])
    async with catalog.database.writing() as connection:
        await connection.execute(update(outbox).where(outbox.c.seq < 3).values(made_ms=0))

    assert await catalog.outbox.prune(60_000) == 1
    assert [message.seq for message in await outbox_of(catalog)] == [1, 3]


async def test_old_messages_are_pruned_in_pages_and_so_many_at_once(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "PAGE", 2)
    monkeypatch.setattr(pruning, "PAGES", 2)
    await take(catalog, *(delete_event(ms, uuid4()) for ms in range(1, 6)))
    await catalog.outbox.mark_sent(await outbox_of(catalog))
    with statements(catalog) as seen:
        gone = [await catalog.outbox.prune(2**60) for _ in range(3)]

    assert gone == [4, 1, 0]
    assert len([each for each in seen if each.startswith("DELETE FROM outbox")]) == 4


async def test_an_empty_outbox_has_the_number_zero(catalog: Catalog) -> None:
    assert await catalog.outbox.given_seq() == 0
    assert await catalog.outbox.unsent() == []


async def test_a_message_is_a_picture_of_its_moment(catalog: Catalog) -> None:
    await make(catalog, 1)
    await take(catalog, upload_event(5, owner="later"), delete_event(6))

    [message] = await outbox_of(catalog)
    assert (message.kind, message.metadata, len(message.variants)) == (State.READY, {}, 2)


async def test_an_error_message_in_any_script_survives_without_its_nul(
    catalog: Catalog,
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, Failed(await claim(catalog), "corrupt_image", "Кошка \u0000 猫 “quoted”"))

    [message] = await outbox_of(catalog)
    assert message.error_message == "Кошка \ufffd 猫 “quoted”"


# -- dead letters


async def test_a_dead_letter_keeps_the_bytes_and_the_reason(catalog: Catalog) -> None:
    await catalog.intake.take([], [letter("7-0", "not JSON")])

    [kept] = await catalog.dead_letters.newest(10)
    assert (kept.stream_id, kept.code, kept.message, kept.body) == (
        "7-0",
        "invalid_event",
        "not JSON",
        b"bytes",
    )


async def test_an_entry_that_is_read_twice_becomes_one_dead_letter(catalog: Catalog) -> None:
    for message in ("first", "second"):
        await catalog.intake.take([], [letter("7-0", message)])

    [kept] = await catalog.dead_letters.newest(10)
    assert kept.message == "first"
    assert await catalog.dead_letters.count() == 1


async def test_dead_letters_are_listed_newest_first(catalog: Catalog) -> None:
    letters = [letter(f"{number}-0") for number in range(5)]
    await catalog.intake.take([], letters)

    assert [kept.stream_id for kept in await catalog.dead_letters.newest(3)] == ["4-0", "3-0", "2-0"]


async def test_letters_that_are_old_are_pruned(catalog: Catalog) -> None:
    await catalog.intake.take([], [letter(f"{number}-0") for number in range(4)])
    async with catalog.database.writing() as connection:
        await connection.execute(update(dead_letters).where(dead_letters.c.id <= 2).values(received_ms=5))
    await catalog.dead_letters.prune(5)
    untouched = await catalog.dead_letters.count()
    await catalog.dead_letters.prune(6)
    left = [kept.stream_id for kept in await catalog.dead_letters.newest(9)]
    await catalog.dead_letters.prune(2**60)

    assert untouched == 4
    assert left == ["3-0", "2-0"]
    assert await catalog.dead_letters.count() == 0
