"""What an endpoint has not taken: rows that are taken from the outbox in order, bounded, and kept."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, event, func, insert, select, update

from storage.catalog import webhooks as verbs
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import About, StreamId
from storage.catalog.tables import outbox, webhook_deliveries
from storage.catalog.webhook_routes import WebhookRoute, WebhookRule
from storage.catalog.webhooks import Attempted, Delivery, EndpointState, Webhooks
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    SOURCE,
    claim,
    commit,
    delete_event,
    failed,
    letter,
    take,
    transactions,
    upload_event,
    work,
)
from tests.support.host_clock import Clock
from tests.support.polling import until

pytestmark = ON_BOTH

OTHER = UUID(int=7)
DAY_MS = 24 * 3600 * 1000
MANY = 10_000


async def publish(catalog: Catalog, *numbers: int, upload_id: UUID = CAT, source: str = SOURCE) -> None:
    """A message about an upload for each event."""
    for number in numbers:
        await take(catalog, upload_event(number, upload_id, source))
        await work(catalog, upload_id)


async def refuse(catalog: Catalog, number: int) -> None:
    """A message about an entry that names no upload."""
    about = About(None, "uploads/refused.jpg")
    await catalog.intake.take([], [replace(letter(f"{number}-0"), about=about)])


async def seqs_due(catalog: Catalog) -> list[int]:
    return [one.seq for one in await catalog.webhooks.due(MANY)]


async def deliver(catalog: Catalog, *seqs: int) -> None:
    found = [one for one in await catalog.webhooks.waiting(MANY) if one.seq in seqs]
    await catalog.webhooks.record([Attempted(one) for one in found])


async def fail(catalog: Catalog, delivery: Delivery, wait_ms: int = 60_000) -> None:
    then = catalog.webhooks.now_ms() + wait_ms
    await catalog.webhooks.record([Attempted(delivery, "it answered 500\0", then)])


async def test_what_is_written_after_the_beginning_is_delivered_whoever_begins_again(
    catalog: Catalog,
) -> None:
    await publish(catalog, 1)
    await catalog.webhooks.begin()
    await publish(catalog, 2)
    await catalog.webhooks.begin()

    assert await catalog.webhooks.take(MANY) == 1
    assert await catalog.webhooks.take(MANY) == 0
    [one] = await catalog.webhooks.due(MANY)
    assert (one.upload_id, one.attempts, one.problem) == (CAT, 0, None)


async def test_of_an_upload_only_its_first_message_may_be_tried(catalog: Catalog) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2)
    await publish(catalog, 3, upload_id=OTHER, source="uploads/other.jpg")
    await catalog.webhooks.take(MANY)
    first, second, other = [one.seq for one in await catalog.webhooks.waiting(MANY)]

    assert await seqs_due(catalog) == [first, other]
    assert [one.seq for one in await catalog.webhooks.to_probe(MANY)] == [first, other]
    await deliver(catalog, first)
    assert await seqs_due(catalog) == [second, other]


async def test_an_upload_is_deleted_for_the_app_once_it_has_the_one_in_its_place(catalog: Catalog) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1)
    await catalog.webhooks.take(MANY)
    await deliver(catalog, *await seqs_due(catalog))
    await take(catalog, replace(upload_event(2, OTHER, "uploads/other.jpg"), replaces=CAT))
    await work(catalog, OTHER)
    await catalog.webhooks.take(MANY)
    new, old = await catalog.webhooks.waiting(MANY)

    assert (new.upload_id, old.upload_id) == (OTHER, CAT)
    assert await seqs_due(catalog) == [new.seq]
    await deliver(catalog, new.seq)
    assert await seqs_due(catalog) == [old.seq]


async def test_what_failed_is_due_at_its_time_and_holds_up_its_own_upload_alone(catalog: Catalog) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2)
    await publish(catalog, 3, upload_id=OTHER, source="uploads/other.jpg")
    await catalog.webhooks.take(MANY)
    first, _, other = await catalog.webhooks.waiting(MANY)
    await fail(catalog, first)

    assert await seqs_due(catalog) == [other.seq]
    await fail(catalog, first)  # a worker that was frozen meanwhile says it once more
    [again, *_] = await catalog.webhooks.waiting(MANY)
    assert (again.attempts, again.problem) == (1, "it answered 500\N{REPLACEMENT CHARACTER}")
    assert [one.seq for one in await catalog.webhooks.to_probe(MANY)] == [other.seq, first.seq]
    await catalog.webhooks.make_due()
    assert sorted(await seqs_due(catalog)) == [first.seq, other.seq]


async def test_what_was_tried_longest_ago_is_probed_first_due_or_not(
    catalog: Catalog, put_clock: Clock
) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1)
    await publish(catalog, 2, upload_id=OTHER, source="uploads/other.jpg")
    await catalog.webhooks.take(MANY)
    cat, other = await catalog.webhooks.to_probe(MANY)
    await fail(catalog, cat)

    assert [one.seq for one in await catalog.webhooks.to_probe(1)] == [other.seq]
    put_clock(1)
    await fail(catalog, other)
    assert [one.seq for one in await catalog.webhooks.to_probe(1)] == [cat.seq]


async def test_what_a_clock_that_was_ahead_has_put_off_is_due(catalog: Catalog) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1)
    await catalog.webhooks.take(MANY)
    [one] = await catalog.webhooks.waiting(MANY)
    await fail(catalog, one, wait_ms=DAY_MS)

    assert await seqs_due(catalog) == [one.seq]


async def test_no_more_are_taken_than_may_wait_and_the_others_are_counted(catalog: Catalog) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, *range(1, 6))

    assert await catalog.webhooks.take(2) == 2
    assert await catalog.webhooks.take(2) == 0
    backlog = await catalog.webhooks.backlog()
    assert (backlog.waiting, backlog.behind, backlog.given_up) == (2, 3, 0)
    assert backlog.oldest_ms is not None
    assert await catalog.webhooks.oldest_ms() <= catalog.webhooks.now_ms() - backlog.oldest_ms


async def test_what_is_given_up_is_kept_and_begins_anew_when_it_is_sent_again(catalog: Catalog) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2)
    await refuse(catalog, 3)
    await catalog.webhooks.take(MANY)
    for _ in range(3):
        first, *_ = await catalog.webhooks.waiting(MANY)
        assert await catalog.webhooks.give_up(catalog.webhooks.now_ms() + 1, untried=False) == 0
        await fail(catalog, first)
    later = catalog.webhooks.now_ms() + 1

    assert await catalog.webhooks.give_up(later, untried=False) == 1
    assert [one.seq for one in await catalog.webhooks.given_up(MANY)] == [first.seq]
    assert len(await seqs_due(catalog)) == 2  # the next of its upload waits no longer
    assert await catalog.webhooks.replay(first.seq - 1) == 3
    await catalog.webhooks.take(MANY)
    [again, *_] = await catalog.webhooks.waiting(MANY)
    assert (again.seq, again.attempts, again.given_up_ms) == (first.seq, 0, None)
    assert again.since_ms >= first.since_ms
    assert await catalog.webhooks.given_up(MANY) == []


async def test_what_was_delivered_is_sent_again_from_a_seq_or_a_time_and_what_is_new_behind_it(
    catalog: Catalog,
) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2)
    await catalog.webhooks.take(MANY)
    seqs = [one.seq for one in await catalog.webhooks.waiting(MANY)]
    await deliver(catalog, *seqs)
    await publish(catalog, 3)

    assert await catalog.webhooks.seq_before(0) == seqs[0] - 1
    assert await catalog.webhooks.seq_before(catalog.webhooks.now_ms() + DAY_MS) > seqs[1]
    assert await catalog.webhooks.replay(seqs[0]) == 1
    await catalog.webhooks.take(MANY)
    waiting = [one.seq for one in await catalog.webhooks.waiting(MANY)]
    assert waiting[0] == seqs[1]
    assert len(waiting) == 2


async def test_the_days_of_a_message_begin_when_it_is_taken_and_not_when_it_was_made(
    catalog: Catalog,
) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1)
    now = catalog.webhooks.now_ms()
    async with catalog.database.writing() as connection:
        await connection.execute(update(outbox).values(made_ms=now - DAY_MS))
    assert await catalog.webhooks.oldest_ms() >= DAY_MS
    await catalog.webhooks.take(MANY)

    assert await catalog.webhooks.give_up(now - DAY_MS // 2, untried=True) == 0
    assert await catalog.webhooks.oldest_ms() < DAY_MS // 2
    [one] = await catalog.webhooks.waiting(MANY)
    await deliver(catalog, one.seq)
    assert await catalog.webhooks.replay(one.seq - 1) == 1
    assert await catalog.webhooks.oldest_ms() == 0
    await catalog.webhooks.take(MANY)
    assert await catalog.webhooks.oldest_ms() < DAY_MS // 2


async def test_what_the_outbox_soon_has_no_more_is_given_up_and_counted_taken_or_not(
    catalog: Catalog,
) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2, 3)
    await catalog.webhooks.take(2)
    later = catalog.webhooks.now_ms() + 1

    assert await catalog.webhooks.lose(later - DAY_MS) == 0
    assert await catalog.webhooks.lose(later) == 3
    assert await catalog.webhooks.lose(later) == 0
    backlog = await catalog.webhooks.backlog()
    assert (backlog.waiting, backlog.given_up, backlog.behind) == (0, 2, 0)


async def test_messages_are_sent_again_since_a_time_whichever_was_written_first(catalog: Catalog) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2, 3, 4)
    seqs = [one.seq for one in await catalog.outbox.since(0)]
    async with catalog.database.writing() as connection:
        for seq, made_ms in zip(seqs, (1000, 5000, 4000, 6000), strict=True):
            made = update(outbox).where(outbox.c.seq == seq).values(made_ms=made_ms)
            await connection.execute(made)

    assert [await catalog.webhooks.seq_before(ms) for ms in (1001, 4000, 5001)] == [*seqs[:1] * 2, seqs[2]]


async def test_many_are_put_off_given_up_and_forgotten_a_page_at_a_time(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2, 3, 4, 5)
    await catalog.webhooks.take(MANY)
    monkeypatch.setattr(verbs, "TAKEN", 2)
    all_of = await catalog.webhooks.waiting(MANY)
    for one in all_of:
        await fail(catalog, one)
    with transactions(catalog) as seen:
        await catalog.webhooks.make_due()
        assert seen.count("COMMIT") == 3
        now = catalog.webhooks.now_ms()
        assert all(one.next_ms <= now for one in await catalog.webhooks.waiting(MANY))
        assert await catalog.webhooks.give_up(now + 1, untried=True) == 5
        assert seen.count("COMMIT") == 6
        await catalog.webhooks.prune_surplus(1)
        assert seen.count("COMMIT") >= 8

    assert [one.seq for one in await catalog.webhooks.given_up(MANY)] == [all_of[-1].seq]


async def test_the_first_messages_of_uploads_are_found_without_comparing_each_with_each(
    catalog: Catalog, tmp_path: Path, database_kind: str
) -> None:
    await catalog.webhooks.begin()
    async with catalog.database.writing() as connection:
        await connection.execute(insert(webhook_deliveries), [waiting_row(seq) for seq in range(1, 2001)])
        old = update(webhook_deliveries).where(webhook_deliveries.c.seq <= 1000)
        await connection.execute(old.values(given_up_ms=1))
    asked: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        asked.append((statement, parameters))

    event.listen(catalog.database._engine.sync_engine, "before_cursor_execute", note)
    assert await seqs_due(catalog) == [1001]
    assert [one.seq for one in await catalog.webhooks.to_probe(1)] == [1001]

    queries = [each for each in asked if "webhook_deliveries" in each[0]]
    assert len(queries) == 2
    if database_kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "catalog.db")) as database:
            assert max(steps_of(database, *each) for each in queries) < 200_000  # for 2000 rows
        return
    async with catalog.database.reading() as connection:
        for statement, parameters in queries:  # whatever Postgres has counted so far
            plan = (await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)).scalars().all()
            assert not [step for step in plan if "Nested Loop" in step], plan


def waiting_row(seq: int) -> dict[str, object]:
    """A message about one upload that waits."""
    times = dict.fromkeys(("made_ms", "since_ms", "next_ms"), 1)
    return {"endpoint": "default", "seq": seq, "upload_id": str(CAT), "attempts": 0, **times}


def steps_of(database: sqlite3.Connection, statement: str, parameters: Any) -> int:
    """How many steps SQLite takes for a statement, in thousands of them."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1000

    database.set_progress_handler(count, 1000)
    database.execute(statement, parameters).fetchall()
    return steps


async def test_messages_are_counted_for_a_replay_while_others_may_write(catalog: Catalog) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2)
    await catalog.webhooks.take(MANY)
    counted_by_writers = []

    def asked(connection: Connection, _cursor: object, statement: str, *_more: object) -> None:
        if "count(" in statement:
            counted_by_writers.append(bool(connection.get_execution_options().get("writes")))

    event.listen(catalog.database._engine.sync_engine, "before_cursor_execute", asked)
    first, _ = await catalog.webhooks.waiting(MANY)

    assert await catalog.webhooks.replay(first.seq - 1) == 2
    assert counted_by_writers == [False]


@pytest.mark.parametrize("often", [True, False])
async def test_where_too_many_wait_those_go_first_that_were_tried_often(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, often: bool
) -> None:
    monkeypatch.setattr(verbs, "MOST_WAITING", 3)
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2, 3)
    await catalog.webhooks.take(MANY)
    for _ in range(5 if often else 1):
        first, *_ = await catalog.webhooks.waiting(MANY)
        await fail(catalog, first)

    assert await catalog.webhooks.make_room() == often
    assert [one.seq for one in await catalog.webhooks.given_up(MANY)] == ([first.seq] if often else [])


async def test_no_more_that_were_given_up_are_kept_than_may_be(catalog: Catalog) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2, 3)
    await catalog.webhooks.take(MANY)
    seqs = [one.seq for one in await catalog.webhooks.waiting(MANY)]
    await catalog.webhooks.give_up(catalog.webhooks.now_ms() + 1, untried=True)
    await catalog.webhooks.prune_surplus(2)

    assert [one.seq for one in await catalog.webhooks.given_up(MANY)] == [seqs[2], seqs[1]]
    assert await catalog.webhooks.prune(catalog.webhooks.now_ms() + 1) == 2


async def test_one_worker_at_a_time_delivers_until_it_gives_that_back(
    catalog: Catalog, catalog_url: str
) -> None:
    async with open_catalog(catalog_url) as another:
        assert await catalog.webhooks.lease("a", 60)
        assert not await another.webhooks.lease("b", 60)
        await another.webhooks.end_lease("b")
        assert await catalog.webhooks.lease("a", 60)
        await catalog.webhooks.end_lease("a")

        assert await another.webhooks.lease("b", 60)


async def test_how_the_endpoint_does_is_known_to_others(catalog: Catalog, catalog_url: str) -> None:
    assert await catalog.webhooks.state() is None
    state = EndpointState("down", 17, "it answered 500", 3)
    await catalog.webhooks.note_state(state)

    async with open_catalog(catalog_url) as another:
        assert await another.webhooks.state() == state


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "{", '{"id": 7}'])
@pytest.mark.rotating(2)
async def test_a_damaged_message_holds_up_no_other(catalog: Catalog, body: str) -> None:
    await catalog.webhooks.begin()
    await publish(catalog, 1, 2)
    async with catalog.database.writing() as connection:
        first = select(func.min(outbox.c.seq)).scalar_subquery()
        await connection.execute(update(outbox).where(outbox.c.seq == first).values(body=body))

    assert await catalog.webhooks.take(MANY) == 2
    assert len(await catalog.webhooks.waiting(MANY)) == 2


SHOP_RULE = WebhookRule(recipes=frozenset({"shop"}))
ALICE_RULE = WebhookRule(owners=frozenset({'a"lice'}))


async def publish_for(catalog: Catalog, number: int, recipe: str, owner: str | None) -> None:
    """A message about an upload of its own, with that recipe and owner, whatever its metadata say."""
    metadata = {"recipe": "shop", "owner": 'a"lice'}
    one = upload_event(number, UUID(int=number), f"uploads/{number}.jpg", **metadata)
    await take(catalog, replace(one, recipe=recipe, owner=owner))
    await work(catalog, one.id)


async def begin_all(catalog: Catalog) -> tuple[Webhooks, Webhooks, Webhooks]:
    """The endpoint of all others, the one of a recipe, and the one of an owner, at which all have begun."""
    endpoints = (
        catalog.webhooks.to("default", WebhookRoute(earlier=[SHOP_RULE, ALICE_RULE])),
        catalog.webhooks.to("shop", WebhookRoute(SHOP_RULE)),
        catalog.webhooks.to("alice", WebhookRoute(ALICE_RULE, [SHOP_RULE])),
    )
    for each in endpoints:
        await each.begin()
    return endpoints


async def uploads_at(webhooks: Webhooks) -> list[int]:
    """The numbers of the uploads that wait at an endpoint."""
    return [one.upload_id.int if one.upload_id else 0 for one in await webhooks.waiting(MANY)]


async def test_each_message_waits_for_the_endpoint_of_its_recipe_or_owner_and_for_no_other(
    catalog: Catalog,
) -> None:
    default, shop, alice = await begin_all(catalog)
    owners = (("shop", None), ("shop", 'a"lice'), ("other", 'a"lice'), ("other", "bob"), ("other", None))
    for number, (recipe, owner) in enumerate(owners, 1):
        await publish_for(catalog, number, recipe, owner)
    await refuse(catalog, 9)
    behind = [(await each.backlog()).behind for each in (default, shop, alice)]
    for each in (default, shop, alice):
        assert await each.take(MANY) == 6
        assert await each.take(MANY) == 0

    assert behind == [3, 2, 1]
    assert await uploads_at(default) == [4, 5, 0]
    assert await uploads_at(shop) == [1, 2]
    assert await uploads_at(alice) == [3]
    assert await shop.replay(0) == 2
    assert [(await each.backlog()).behind for each in (default, shop, alice)] == [0, 2, 0]
    await shop.record([Attempted(one) for one in await shop.waiting(MANY)])
    assert (await uploads_at(shop), await uploads_at(alice)) == ([], [3])


async def test_whatever_becomes_of_an_upload_is_told_to_the_same_endpoint(catalog: Catalog) -> None:
    default, _, alice = await begin_all(catalog)
    first, second = (replace(upload_event(each, UUID(int=each)), owner='a"lice') for each in (1, 2))
    await take(catalog, first, replace(second, source="uploads/2.jpg"))
    for each in (1, 2):
        await commit(catalog, failed(await claim(catalog, UUID(int=each))))
    await take(catalog, replace(first, position=StreamId(3, 0)))
    await work(catalog, UUID(int=1))
    await take(catalog, delete_event(4, UUID(int=1)))
    await work(catalog, UUID(int=1))
    await catalog.failures.discard([UUID(int=2)])
    for endpoint in (default, alice):
        await endpoint.take(MANY)

    kinds = [(one.kind, one.id.int if one.id else 0) for one in await catalog.outbox.since(0)]
    assert kinds == [("failed", 1), ("failed", 2), ("ready", 1), ("deleted", 1), ("deleted", 2)]
    assert await uploads_at(alice) == [1, 2, 1, 1, 2]
    assert await uploads_at(default) == []


async def test_messages_of_others_cost_an_endpoint_nothing_and_are_counted_for_none(
    catalog: Catalog,
) -> None:
    _, shop, _ = await begin_all(catalog)
    for number in range(1, 4):
        await publish_for(catalog, number, "other", None)
    with transactions(catalog) as seen:
        assert [await shop.take(MANY) for _ in range(2)] == [3, 0]
        assert seen.count("BEGIN IMMEDIATE") == 0
    await make_older(catalog)

    assert await shop.oldest_ms() == 0
    assert (await shop.backlog()).oldest_ms is None
    await publish_for(catalog, 4, "shop", None)
    await make_older(catalog)
    assert DAY_MS <= await shop.oldest_ms() < 2 * DAY_MS
    assert await shop.lose(shop.now_ms() + 1) == 1


async def make_older(catalog: Catalog) -> None:
    """Have all messages been made a day before."""
    async with catalog.database.writing() as connection:
        await connection.execute(update(outbox).values(made_ms=outbox.c.made_ms - DAY_MS))


async def test_a_full_endpoint_stops_at_its_own_next_message(catalog: Catalog) -> None:
    default, shop, _ = await begin_all(catalog)
    for number, recipe in enumerate(("shop", "other", "shop", "other"), 1):
        await publish_for(catalog, number, recipe, None)

    assert [await shop.take(1), await default.take(MANY)] == [2, 4]
    assert (await uploads_at(shop), await uploads_at(default)) == ([1], [2, 4])
    assert (await shop.backlog()).behind == 1
    await deliver_to(shop)
    assert await shop.take(1) == 2
    assert await uploads_at(shop) == [3]


async def deliver_to(webhooks: Webhooks) -> None:
    await webhooks.record([Attempted(one) for one in await webhooks.waiting(MANY)])


async def test_a_new_endpoint_gets_what_the_one_in_whose_place_it_comes_has_not_come_to(
    catalog: Catalog,
) -> None:
    await catalog.webhooks.begin()
    await publish_for(catalog, 1, "shop", None)
    await catalog.webhooks.take(MANY)
    await publish_for(catalog, 2, "shop", None)
    default, shop = (
        catalog.webhooks.to("default", WebhookRoute(earlier=[SHOP_RULE])),
        catalog.webhooks.to("shop", WebhookRoute(SHOP_RULE)),
    )
    await shop.begin(instead_of_default=True)
    for each in (default, shop):
        await each.take(MANY)

    assert (await uploads_at(default), await uploads_at(shop)) == ([1], [2])


async def test_each_endpoint_has_a_lease_and_a_state_of_its_own(catalog: Catalog) -> None:
    default, shop, _ = await begin_all(catalog)
    await shop.note_state(EndpointState("down", 17, "it answered 500"))

    assert await default.state() is None
    assert await default.lease("a", 60)
    assert await shop.lease("b", 60)
    await shop.end_lease("b")
    assert not await default.lease("b", 60)


async def test_an_endpoint_that_no_worker_has_had_for_long_is_forgotten_with_all_that_waits(
    catalog: Catalog,
) -> None:
    default, shop, _ = await begin_all(catalog)
    await publish_for(catalog, 1, "shop", None)
    await shop.take(MANY)
    assert await shop.endpoints() == ["default", "alice", "shop"]
    assert await shop.forget_unused(shop.now_ms() + 1) == []  # nobody knows since when
    before_ms = shop.now_ms() + 1

    async def is_later() -> bool:
        return default.now_ms() > before_ms

    await until(is_later)
    await default.note_use()

    assert await default.forget_unused(before_ms) == ["alice", "shop"]
    assert await default.endpoints() == ["default"]
    assert await uploads_at(shop) == []
    assert shop.endpoint not in await shop.endpoints()
