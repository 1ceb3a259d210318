"""Group commits: outcomes share transactions, nobody waits long, and nothing that was done is lost."""

import asyncio
import time
from uuid import UUID, uuid4

import pytest

from pipelines import commits
from pipelines.commits import GROUP_SIZE, MAX_DELAY_S, Committer
from storage.catalog.opening import Catalog
from storage.catalog.records import Claim, Message, State
from storage.errors import CatalogUnavailable
from tests.support.catalogs import claim, ready, take, transactions, upload_event


async def claims(catalog: Catalog, count: int) -> list[Claim]:
    ids = [uuid4() for _ in range(count)]
    await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in ids))
    return [await claim(catalog, each) for each in ids]


def committer(catalog: Catalog, answer: list[Message] | None = None, *, busy: bool = True) -> Committer:
    seen = [] if answer is None else answer
    return Committer(catalog.claims, expected=lambda: busy, on_committed=seen.extend)


async def test_outcomes_that_are_ready_at_about_the_same_time_share_a_transaction(catalog: Catalog) -> None:
    waiting = await claims(catalog, GROUP_SIZE)
    group = committer(catalog)
    with transactions(catalog) as seen:
        committed = await asyncio.gather(*(group.submit(ready(each)) for each in waiting))

    assert seen == ["BEGIN IMMEDIATE", "COMMIT"]
    assert [each.state for each in committed] == [State.READY] * GROUP_SIZE


async def test_everyone_gets_its_own_outcome(catalog: Catalog) -> None:
    waiting = await claims(catalog, 5)
    group = committer(catalog)
    committed = await asyncio.gather(*(group.submit(ready(each)) for each in waiting))

    assert [each.id for each in committed] == [each.upload.id for each in waiting]


async def test_a_full_group_does_not_wait(catalog: Catalog) -> None:
    waiting = await claims(catalog, GROUP_SIZE + 1)
    group = committer(catalog)
    with transactions(catalog) as seen:
        tasks = [asyncio.create_task(group.submit(ready(each))) for each in waiting]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        done = sum(task.done() for task in tasks)
        await asyncio.gather(*tasks)

    assert done == GROUP_SIZE
    assert seen == ["BEGIN IMMEDIATE", "COMMIT"] * 2


async def test_one_outcome_waits_for_others_only_until_a_timeout(catalog: Catalog) -> None:
    [only] = await claims(catalog, 1)
    began = time.monotonic()
    await committer(catalog).submit(ready(only))

    assert MAX_DELAY_S * 0.9 < time.monotonic() - began < MAX_DELAY_S + 2


async def test_an_outcome_that_is_the_only_one_in_hand_does_not_wait_at_all(catalog: Catalog) -> None:
    [only] = await claims(catalog, 1)
    idle = committer(catalog, busy=False)
    with transactions(catalog) as seen:
        task = asyncio.create_task(idle.submit(ready(only)))
        done, _ = await asyncio.wait({task}, timeout=10)

    assert len(done) == 1
    assert idle._timer is None
    assert seen == ["BEGIN IMMEDIATE", "COMMIT"]


async def test_messages_are_handed_on_once_they_are_durable(catalog: Catalog) -> None:
    answer: list[Message] = []
    group = committer(catalog, answer)
    await asyncio.gather(*(group.submit(ready(each)) for each in await claims(catalog, 3)))

    assert [message.seq for message in answer] == [1, 2, 3]
    assert [message.seq for message in await catalog.outbox.since(0)] == [1, 2, 3]


async def test_a_catalog_that_is_away_is_raised_to_everyone_who_waits(catalog: Catalog) -> None:
    waiting = await claims(catalog, 3)
    group = committer(catalog)
    async with catalog.database._engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE outbox RENAME TO away")
    answers = await asyncio.gather(*(group.submit(ready(each)) for each in waiting), return_exceptions=True)

    assert [type(answer) for answer in answers] == [CatalogUnavailable] * 3


@pytest.mark.parametrize("away", ["outbox", "uploads"], ids=["for a moment", "for longer"])
async def test_a_claim_whose_outcome_could_not_be_written_is_not_taken_for_that_of_a_dead_worker(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    monkeypatch.setattr(commits, "PAUSES_S", (0.01, 0.01))
    lost, other = await claims(catalog, 2)
    group = committer(catalog, busy=False)
    async with catalog.database._engine.begin() as connection:
        await connection.exec_driver_sql(f"ALTER TABLE {away} RENAME TO away")
    with pytest.raises(CatalogUnavailable):
        await group.submit(ready(lost))
    async with catalog.database._engine.begin() as connection:
        await connection.exec_driver_sql(f"ALTER TABLE away RENAME TO {away}")
    if away == "uploads":
        await group.submit(ready(other))
        await asyncio.wait(group._flushing or {asyncio.create_task(asyncio.sleep(0))})

    assert (await claim(catalog, lost.upload.id, "another worker")).crash_count == 0


async def test_what_was_submitted_is_written_even_if_its_batch_is_cancelled(catalog: Catalog) -> None:
    waiting = await claims(catalog, 3)
    group = committer(catalog)
    tasks = [asyncio.create_task(group.submit(ready(each))) for each in waiting]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 3
    assert await states(catalog, waiting) == [State.READY] * 3


async def test_one_who_is_cancelled_does_not_take_others_along(catalog: Catalog) -> None:
    first, second = await claims(catalog, 2)
    group = committer(catalog)
    tasks = [asyncio.create_task(group.submit(ready(each))) for each in (first, second)]
    await asyncio.sleep(0)
    tasks[0].cancel()

    assert (await tasks[1]).state is State.READY
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]


async def test_one_who_is_cancelled_while_its_outcome_becomes_durable_is_cancelled_and_no_more(
    catalog: Catalog,
) -> None:
    [only] = await claims(catalog, 1)
    tasks: list[asyncio.Task[object]] = []

    def refuse(_: object) -> None:
        tasks[0].cancel()

    group = Committer(catalog.claims, expected=lambda: False, on_committed=refuse)
    tasks.append(asyncio.create_task(group.submit(ready(only))))
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]

    assert await states(catalog, [only]) == [State.READY]


async def states(catalog: Catalog, of: list[Claim]) -> list[State]:
    async def state(upload_id: UUID) -> State:
        found = await catalog.reports.find(upload_id)
        assert found is not None
        return found.state

    return [await state(each.upload.id) for each in of]
