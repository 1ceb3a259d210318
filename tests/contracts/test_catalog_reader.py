"""What an HTTP server reads: the same answers from a file and from a server, each from an index."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text, update

from storage.catalog import reading
from storage.catalog import reading_queries as queries
from storage.catalog.http_keys import HttpKey
from storage.catalog.opening import Catalog
from storage.catalog.reading import Cursor, MessageHead, PutOff, Reader, UploadFilter, open_reader
from storage.catalog.records import About, State, Upload
from storage.catalog.tables import uploads
from storage.errors import CatalogDamaged
from tests.support.catalogs import (
    CAT,
    SOURCE,
    claim,
    commit,
    delete_event,
    failed,
    letter,
    outbox_of,
    postponed,
    ready,
    take,
    upload,
    upload_event,
    work,
)

pytestmark = pytest.mark.rotating(46, of="module")

EVERYTHING = UploadFilter()
IDS = [UUID(int=number) for number in range(1, 8)]


@pytest.fixture
async def reader(catalog: Catalog, catalog_url: str) -> AsyncIterator[Reader]:
    async with open_reader(catalog_url) as opened:
        yield opened


async def announce(catalog: Catalog, number: int, source: str, owner: str | None = None) -> UUID:
    """Take an upload event; each is of another moment of the stream."""
    event = replace(upload_event(number, UUID(int=number), source), owner=owner)
    await take(catalog, event)
    return event.id


async def at(catalog: Catalog, changed_ms: int, *ids: UUID) -> None:
    """Let the rows of these uploads have changed at that time."""
    statement = update(uploads).where(uploads.c.id.in_(list(map(str, ids))))
    async with catalog.database.writing() as connection:
        await connection.execute(statement.values(changed_ms=changed_ms))


async def all_pages(reader: Reader, where: UploadFilter, size: int) -> list[Upload]:
    """Every upload, page by page."""
    found: list[Upload] = []
    after = None
    while page := await reader.page(where, after, size):
        found += page
        after = Cursor.of(page[-1])
    return found


def ids_of(found: Sequence[Upload]) -> list[int]:
    return [upload.id.int for upload in found]


# -- one upload


async def test_an_upload_is_read_as_the_reports_find_it(catalog: Catalog, reader: Reader) -> None:
    await take(catalog, upload_event(1, name="\N{SNOWMAN}"))
    await commit(catalog, ready(await claim(catalog)))
    await take(catalog, upload_event(2))
    await commit(catalog, ready(await claim(catalog), sha256="b" * 64))  # the first variants are superseded

    found = await reader.upload(CAT)
    assert found is not None
    assert found == await catalog.reports.find(CAT)
    assert [variant.name for variant in found.variants] == ["thumb", "large"]


async def test_an_upload_that_failed_before_it_was_read_has_neither_original_nor_variants(
    catalog: Catalog, reader: Reader
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, failed(await claim(catalog)))

    assert await reader.upload(CAT) == await catalog.reports.find(CAT)


async def test_an_id_that_nobody_has_announced_is_no_upload(reader: Reader) -> None:
    assert await reader.upload(CAT) is None


async def test_uploads_are_found_by_how_their_ids_begin(catalog: Catalog, reader: Reader) -> None:
    ids = [UUID(f"{start}-0000-4000-8000-000000000000") for start in ("0badcafe", "0badcaff", "0badcb00")]
    await take(
        catalog, *(upload_event(number, one, f"uploads/{number}") for number, one in enumerate(ids, 1))
    )
    first, last = UUID("0badcafe" + "0" * 24), UUID("0badcaff" + "f" * 24)

    assert [one.id for one in await reader.uploads_between(first, last, 5)] == ids[:2]
    assert [one.id for one in await reader.uploads_between(first, last, 1)] == ids[:1]


async def test_a_variant_leads_to_its_upload_also_once_it_is_superseded(
    catalog: Catalog, reader: Reader
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, first := ready(await claim(catalog)))
    await take(catalog, upload_event(2))
    await commit(catalog, second := ready(await claim(catalog), sha256="b" * 64))

    for made in (*first.variants, *second.variants):
        assert await reader.upload_of_variant(made.key) == await catalog.reports.find(CAT)
    assert await reader.upload_of_variant("variants/none.jpg") is None


async def test_what_was_committed_before_a_question_is_in_its_answer(
    catalog: Catalog, reader: Reader
) -> None:
    for number in range(20):
        await take(catalog, upload_event(number, UUID(int=number)))
        assert await reader.upload(UUID(int=number)) is not None


async def test_many_questions_at_once_are_all_answered(catalog: Catalog, reader: Reader) -> None:
    await take(catalog, *(upload_event(each.int, each, f"uploads/{each}") for each in IDS))

    found = await asyncio.gather(*(reader.upload(each) for each in IDS * 10))
    assert [upload and upload.id for upload in found] == IDS * 10


async def test_a_row_that_cannot_be_read_is_damage(catalog: Catalog, reader: Reader) -> None:
    await take(catalog, upload_event(1))
    async with catalog.database.writing() as connection:
        await connection.execute(update(uploads).values(metadata="{"))

    with pytest.raises(CatalogDamaged):
        await reader.upload(CAT)


# -- pages


async def test_pages_go_on_where_the_last_ended_also_among_uploads_of_one_moment(
    catalog: Catalog, reader: Reader
) -> None:
    await take(catalog, *(upload_event(each.int, each, f"uploads/{each}") for each in IDS))
    await at(catalog, 5, *IDS[:5])
    await at(catalog, 9, *IDS[5:])

    for size in (1, 2, 3, 100):
        assert ids_of(await all_pages(reader, EVERYTHING, size)) == [7, 6, 5, 4, 3, 2, 1]


async def test_uploads_of_a_page_have_their_current_variants(catalog: Catalog, reader: Reader) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)

    [found] = await reader.page(EVERYTHING, None, 10)
    assert found == await catalog.reports.find(CAT)


@pytest.fixture
async def mixed(catalog: Catalog) -> Catalog:
    """Uploads 1 to 7: ready, failed, put off, of several owners and folders, some without a folder."""
    await announce(catalog, 1, "uploads/a/1.jpg")
    await announce(catalog, 2, "uploads/a/2.jpg", owner="b")
    await announce(catalog, 3, "uploads/b/3.jpg")
    await announce(catalog, 4, "uploads/4.jpg")
    await announce(catalog, 5, "uploads/a%/5.jpg")
    await announce(catalog, 6, "uploads/a/\N{SNOWMAN}/6.jpg")
    await take(catalog, delete_event(7, UUID(int=7)))  # a tombstone of what was never seen
    await commit(catalog, ready(await claim(catalog, UUID(int=1))))
    await commit(catalog, failed(await claim(catalog, UUID(int=2))))
    await commit(catalog, failed(await claim(catalog, UUID(int=3))))
    await commit(catalog, postponed(await claim(catalog, UUID(int=4))))
    async with catalog.database.writing() as connection:
        await connection.execute(text("UPDATE uploads SET changed_ms = CAST(substr(id, 36) AS INTEGER)"))
        await connection.execute(text("UPDATE uploads SET recipe = 'shop' WHERE changed_ms IN (3, 6)"))
    return catalog


FILTERS = [
    (UploadFilter(), [7, 6, 5, 4, 3, 2, 1]),
    (UploadFilter(hides_deleted=True), [6, 5, 4, 3, 2, 1]),
    (UploadFilter(hides_deleted=True, owner="", source_prefix="uploads/"), [4]),
    (UploadFilter(hides_deleted=True, state=State.DELETED), [7]),
    (UploadFilter(state=State.READY), [1]),
    (UploadFilter(state=State.QUEUED), [6, 5, 4]),
    (UploadFilter(state=State.FAILED, code="corrupt_image"), [3, 2]),
    (UploadFilter(code="storage_full"), [4]),
    (UploadFilter(recipe="shop"), [6, 3]),
    (UploadFilter(recipe="default"), [7, 5, 4, 2, 1]),
    (UploadFilter(recipe="shop", state=State.FAILED), [3]),
    (UploadFilter(since_ms=6), [7, 6]),
    (UploadFilter(until_ms=3), [2, 1]),
    (UploadFilter(until_ms=0), []),
    (UploadFilter(since_ms=3, until_ms=6), [5, 4, 3]),
    (UploadFilter(owner="a", until_ms=6), [1]),
    (UploadFilter(source_prefix="uploads/a/", until_ms=6), [2, 1]),
    (UploadFilter(owner="a"), [6, 1]),
    (UploadFilter(owner="b"), [3, 2]),
    (UploadFilter(owner=""), [7, 4]),
    (UploadFilter(owner="b", state=State.FAILED, since_ms=3), [3]),
    (UploadFilter(owner="a", state=State.READY), [1]),
    (UploadFilter(source_prefix="uploads/a/"), [6, 2, 1]),
    (UploadFilter(source_prefix="uploads/a%"), [5]),
    (UploadFilter(source_prefix="uploads/A"), []),
    (UploadFilter(source_prefix="uploads/a/\N{SNOWMAN}"), [6]),
    (UploadFilter(source_prefix="uploads/", owner="b", recipe="shop"), [3]),
    (UploadFilter(source_prefix="uploads/a/", since_ms=2, state=State.QUEUED), [6]),
    (UploadFilter(source_prefix="uploads/a/\U0010ffff"), []),
    (UploadFilter(source_prefix="\U0010ffff"), []),
]


@pytest.mark.parametrize("few", [1000, -1], ids=["sorted", "in order"])
async def test_a_page_has_the_uploads_that_fit_every_filter(
    mixed: Catalog, reader: Reader, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(reading, "FEW", few)

    found = {where: ids_of(await all_pages(reader, where, 2)) for where, _ in FILTERS}
    assert found == dict(FILTERS)


@pytest.mark.parametrize("look", [1, 3, 1000])
async def test_pages_of_a_bounded_look_have_the_same_uploads(
    mixed: Catalog, reader: Reader, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    monkeypatch.setattr(reading, "LOOK", look)
    monkeypatch.setattr(reading, "FEW", 1)

    found = {where: ids_of(await all_within(reader, where, 2)) for where, _ in FILTERS}
    assert found == dict(FILTERS)


async def all_within(reader: Reader, where: UploadFilter, size: int) -> list[Upload]:
    """Every upload of pages that may be short."""
    found, after = await reader.page_within(where, None, size)
    found = list(found)
    while after is not None:
        some, after = await reader.page_within(where, after, size)
        found += some
    return found


async def test_a_page_of_a_bounded_look_is_short_where_few_of_the_newest_fit(
    mixed: Catalog, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK", 3)

    found, after = await reader.page_within(UploadFilter(state=State.QUEUED, recipe="shop"), None, 2)
    assert (ids_of(found), after) == ([6], Cursor(4, UUID(int=4)))


@pytest.mark.parametrize("most", [1, 2, 100])
async def test_as_many_uploads_are_counted_as_the_pages_have(
    mixed: Catalog, reader: Reader, most: int
) -> None:
    counted = {where: await reader.count(where, most) for where, _ in FILTERS}

    assert counted == {where: min(len(ids), most) for where, ids in FILTERS}


async def test_uploads_are_not_counted_where_too_many_had_to_be_looked_at(
    mixed: Catalog, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK", 2)

    assert await reader.count(UploadFilter(owner="b", state=State.READY), 5) is None  # of two, none fits
    assert await reader.count(UploadFilter(state=State.QUEUED, recipe="shop"), 1) == 1  # the newest of three
    assert await reader.count(UploadFilter(owner="b"), 5) == 2  # an index alone says so


@pytest.fixture
async def failures(catalog: Catalog) -> Catalog:
    """Failures at 10, 20, … 60 of two codes and three owners, and one that waits with one of the codes."""
    for number in range(1, 8):
        await announce(catalog, number, f"uploads/{'abc'[number % 3]}/{number}.jpg")
        taken = await claim(catalog, UUID(int=number))
        outcome = postponed(taken) if number == 7 else replace(failed(taken), code=CODES[number % 2])
        await commit(catalog, outcome)
        await at(catalog, 10 * number, UUID(int=number))
    return catalog


CODES = ("storage_full", "corrupt_image")


async def test_failures_are_counted_by_code_in_each_window(failures: Catalog, reader: Reader) -> None:
    counted = await reader.failures_by_code([50, 30, 0], 100)
    assert counted == {"storage_full": [1, 2, 3], "corrupt_image": [1, 2, 3]}

    assert await reader.failures_by_code([50, 30, 0], 2) == {code: [1, 2, 2] for code in CODES}


async def test_failures_of_an_owner_or_a_folder_are_counted(failures: Catalog, reader: Reader) -> None:
    of_b = {"corrupt_image": [0, 1], "storage_full": [0, 1]}  # 1 and 4
    assert await reader.failures_by_code([50, 0], 9, owner="b") == of_b
    assert await reader.failures_by_code([50, 0], 9, source_prefix="uploads/b/") == of_b
    assert await reader.failures_by_code([0], 9, owner="b", source_prefix="uploads/c/") == {}


async def test_failures_that_are_mended_are_none_any_more(failures: Catalog, reader: Reader) -> None:
    await failures.requeuer.requeue([UUID(int=number) for number in (1, 3, 5)], State.FAILED)

    assert await reader.failures_by_code([0], 100) == {"storage_full": [3]}


async def test_what_waits_for_another_try_is_listed_and_counted(
    failures: Catalog, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await announce(failures, 8, "uploads/b/8.jpg")  # waits for its first try
    due_ms = (await upload(failures, UUID(int=7))).not_before_ms
    theirs, others = UploadFilter(is_put_off=True, source_prefix="uploads/b/7"), UploadFilter(owner="a")
    for where in (UploadFilter(is_put_off=True), theirs):
        assert [one.id.int for one in await reader.page(where, None, 9)] == [7]
        assert await reader.put_off(where) == PutOff(1, due_ms, has_more=False)

    assert await reader.put_off(others) == PutOff(0, None, has_more=False)
    monkeypatch.setattr(reading, "LOOK", 1)
    assert await reader.put_off(others) == PutOff(0, None, has_more=True)


async def test_the_states_of_many_uploads_are_told_at_once(mixed: Catalog, reader: Reader) -> None:
    asked = [*(UUID(int=number) for number in (1, 3, 7)), *(uuid4() for _ in range(queries.AT_ONCE))]

    states = await reader.states(asked)
    assert states == dict(zip(asked, (State.READY, State.FAILED, State.DELETED), strict=False))
    assert await reader.count_states([*asked, UUID(int=2)]) == {
        State.READY: 1,
        State.FAILED: 2,
        State.DELETED: 1,
    }


async def test_who_works_on_what_is_told_longest_first(mixed: Catalog, reader: Reader) -> None:
    await claim(mixed, UUID(int=6), holder="snail")
    await claim(mixed, UUID(int=5), holder="hare")
    await at(mixed, 90, UUID(int=6))

    working = await reader.at_work(10)
    assert [(one.id.int, one.owner, one.holder) for one in working] == [(6, "a", "snail"), (5, "a%", "hare")]
    assert (working[0].source, working[0].since_ms) == ("uploads/a/\N{SNOWMAN}/6.jpg", 90)
    assert await reader.at_work(1) == working[:1]


async def test_it_says_since_when_the_first_of_the_queued_uploads_waits(
    mixed: Catalog, reader: Reader
) -> None:
    assert await reader.oldest_queued_ms() == 4

    await at(mixed, 90, UUID(int=4))
    await claim(mixed, UUID(int=5))
    assert await reader.oldest_queued_ms() == 6


# -- owners


async def test_the_newest_event_says_whose_an_upload_is(catalog: Catalog, reader: Reader) -> None:
    owners = []
    for number, owner in enumerate(("mia", None, "\N{SNOWMAN}" * 64), 1):
        await take(catalog, replace(upload_event(number, CAT, "uploads/shop/1.jpg"), owner=owner))
        owners.append([upload.owner for upload in await reader.page(EVERYTHING, None, 1)])

    assert owners == [["mia"], ["shop"], ["\N{SNOWMAN}" * 64]]


@pytest.mark.parametrize("source", ["uploads/x", "uploads/x/y", "uploads/x/y/z", "uploads/\N{SNOWMAN}/y"])
async def test_the_database_and_a_row_that_was_read_say_the_same_owner(
    catalog: Catalog, reader: Reader, source: str
) -> None:
    await announce(catalog, 1, source)

    [found] = await reader.page(EVERYTHING, None, 1)
    assert ids_of(await reader.page(UploadFilter(owner=found.owner), None, 10)) == [1]


# -- messages


async def test_messages_come_in_the_order_of_seq_with_the_owners_of_their_uploads(
    mixed: Catalog, reader: Reader
) -> None:
    told = await reader.messages(0, 100)

    assert told == await outbox_of(mixed)
    assert [(each.id and each.id.int, each.owner) for each in told] == [(7, ""), (1, "a"), (2, "b"), (3, "b")]
    assert await reader.messages(told[1].seq, 1) == [told[2]]
    assert (await reader.oldest_seq(), await reader.newest_seq()) == (told[0].seq, told[-1].seq)


async def test_messages_of_one_upload_are_its_own(mixed: Catalog, reader: Reader) -> None:
    await take(mixed, upload_event(20, IDS[0], "uploads/a/1.jpg", id=str(IDS[1])))
    await work(mixed, IDS[0])

    told = await reader.messages(0, 100, IDS[0])
    assert [message.id for message in told] == [IDS[0], IDS[0]]
    assert await reader.messages(told[0].seq, 100, IDS[0]) == told[1:]


async def test_the_last_messages_of_an_upload_come_newest_first(catalog: Catalog, reader: Reader) -> None:
    for number in range(1, 4):
        await take(catalog, upload_event(number, CAT))
        await work(catalog)
    await announce(catalog, 9, "uploads/a/9.jpg")

    told = await reader.messages(0, 100, CAT)
    assert await reader.newest_messages(CAT, 2) == [told[2], told[1]]


async def test_the_head_of_a_message_says_what_became_of_an_upload_and_how_long_that_took(
    mixed: Catalog, reader: Reader
) -> None:
    await take(mixed, upload_event(20, CAT, recipe='"recipe":""', kind="failed"))
    queued = (await upload(mixed, CAT)).queued_ms
    done = await commit(mixed, ready(await claim(mixed)))
    about = About(None, SOURCE, {"kind": "ready", "recipe": "x"})
    await mixed.intake.take([], [replace(letter("7-0"), about=about)])

    *_, head, refusal = await reader.message_heads(0, 100)
    assert done.message is not None
    assert head == MessageHead(
        done.message.seq, State.READY, False, done.message.time_ms, done.message.time_ms - queued
    )
    assert (refusal.kind, refusal.refused, refusal.waited_ms) == (State.FAILED, True, None)
    heads = await reader.message_heads(0, 4)
    assert [(one.kind.value, one.refused) for one in heads] == [
        ("deleted", False),
        ("ready", False),
        *[("failed", False)] * 2,
    ]


async def test_an_upload_that_changed_since_its_message_does_not_say_how_long_that_took(
    catalog: Catalog, reader: Reader
) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    await take(catalog, upload_event(2))

    assert [head.waited_ms for head in await reader.message_heads(0, 9)] == [None]


async def test_the_first_message_since_a_moment_is_found(catalog: Catalog, reader: Reader) -> None:
    for number in range(1, 4):
        await take(catalog, upload_event(number))
        await work(catalog)
    async with catalog.database.writing() as connection:
        await connection.execute(text("UPDATE outbox SET made_ms = 10 * seq"))

    first = await reader.oldest_seq() or 0
    assert await reader.first_seq(10 * first + 1) == first + 1
    assert await reader.first_seq(10 * first + 21) is None


async def test_a_message_about_a_refused_event_is_nobodys(catalog: Catalog, reader: Reader) -> None:
    about = About(None, "uploads/a/1.jpg", {"x": 1, "id": str(CAT)})
    await catalog.intake.take([], [replace(letter("7-0"), about=about)])

    [told] = await reader.messages(0, 10)
    assert (told.entry, told.owner) == ("7-0", None)
    assert await reader.messages(0, 10, CAT) == []


async def test_an_empty_outbox_has_no_oldest_message(reader: Reader) -> None:
    assert (await reader.oldest_seq(), await reader.newest_seq()) == (None, 0)


# -- dead letters and keys


async def test_dead_letters_come_newest_first_page_by_page(catalog: Catalog, reader: Reader) -> None:
    await catalog.intake.take([], [letter(f"{number}-0") for number in range(1, 4)])

    first = await reader.dead_letters(None, 2)
    rest = await reader.dead_letters(first[-1].id, 2)
    assert [*first, *rest] == list(await catalog.dead_letters.newest(10))


async def test_a_dead_letter_is_read_by_its_number(catalog: Catalog, reader: Reader) -> None:
    await catalog.intake.take([], [letter("1-0"), letter("2-0")])

    newest, oldest = await reader.dead_letters(None, 2)
    assert await reader.dead_letter(oldest.id) == oldest
    assert await reader.dead_letter(newest.id + 1) is None


async def test_dead_letters_since_a_moment_are_counted(catalog: Catalog, reader: Reader) -> None:
    await catalog.intake.take([], [letter(f"{number}-0") for number in range(1, 4)])
    async with catalog.database.writing() as connection:
        await connection.execute(
            text("UPDATE dead_letters SET received_ms = CAST(substr(stream_id, 1, 1) AS INTEGER)")
        )

    assert [await reader.count_dead_letters(since_ms, 10) for since_ms in (1, 2, 4)] == [3, 2, 0]
    assert await reader.count_dead_letters(1, 2) == 2


async def test_dead_letters_are_counted_by_the_minute_in_which_they_came(
    catalog: Catalog, reader: Reader
) -> None:
    await catalog.intake.take([], [letter(f"{number}-0") for number in (1, 2, 3, 5)])
    moments = "UPDATE dead_letters SET received_ms = 30000 * CAST(substr(stream_id, 1, 1) AS INTEGER)"
    async with catalog.database.writing() as connection:
        await connection.execute(text(moments))

    assert await reader.dead_letters_by_minute(60_000) == {1: 2, 2: 1}
    assert await reader.dead_letters_by_minute(0) == {0: 1, 1: 2, 2: 1}


async def test_keys_are_read_with_their_revocation(catalog: Catalog, reader: Reader) -> None:
    key = HttpKey("shop", "a" * 64, frozenset({"read", "upload"}), "mia", "uploads/shop/", 1)
    await catalog.http_keys.add(key)
    assert await reader.http_keys() == [key]

    await catalog.http_keys.revoke("shop")
    assert await reader.http_keys() == await catalog.http_keys.all() != [key]


# -- what it costs


async def test_a_status_costs_a_fraction_of_a_report(
    catalog: Catalog, reader: Reader, database_kind: str
) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)

    most = {"sqlite": 0.4, "postgres": 0.5}[database_kind]
    for _ in range(3):  # others use the core as well
        ratio = await cpu_of(reader.upload) / await cpu_of(catalog.reports.find)
        if ratio < most:
            break
    assert ratio < most


async def cpu_of(find: Callable[[UUID], Awaitable[Upload | None]]) -> float:
    """The CPU time of many such questions."""
    began = time.process_time()
    for _ in range(150):
        await find(CAT)
    return time.process_time() - began
