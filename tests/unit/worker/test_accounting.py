"""Accounting: what was debited reaches the catalog, also after an outage and at the end."""

import asyncio
from functools import partial

import pytest

from pipelines.accounts import Accounts, Meter
from storage.catalog.opening import Catalog
from storage.totals import OwnerCost
from tests.support.polling import until
from worker import accounting
from worker.accounting import Accounting


async def saved(catalog: Catalog) -> list[OwnerCost]:
    return list((await catalog.reports.totals(owners=10)).owners)


def accounting_of(catalog: Catalog, accounts: Accounts, *waiting: str) -> Accounting:
    """That of a worker where these owners wait."""
    return Accounting(accounts, catalog.owner_costs, catalog.owner_uses, lambda: waiting)


async def test_debits_are_saved_every_few_seconds(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "SAVED_AFTER_S", 0.01)
    accounts = Accounts()
    running = asyncio.create_task(accounting_of(catalog, accounts).run())

    async def are(expected: OwnerCost) -> bool:
        return await saved(catalog) == [expected]

    for expected in (OwnerCost("mia", 1000, 1, 10), OwnerCost("mia", 2000, 2, 20)):
        accounts.debit(Meter("mia", 1.0, 10), uploads=1)
        await until(partial(are, expected))
    running.cancel()


async def test_what_an_outage_kept_from_being_saved_is_saved_at_the_end(
    catalog: Catalog,
) -> None:
    accounts = Accounts()
    books = accounting_of(catalog, accounts)
    accounts.debit(Meter("mia", 1.0, 10), uploads=1)
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ALTER TABLE owner_costs RENAME TO away")
    await books.save()
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ALTER TABLE away RENAME TO owner_costs")
    await books.close()

    assert await saved(catalog) == [OwnerCost("mia", 1000, 1, 10)]


async def test_who_has_used_much_with_one_worker_is_late_with_another_and_with_one_that_starts(
    catalog: Catalog,
) -> None:
    first, second = Accounts(), Accounts()
    first.use("greedy", 10.0)
    second.use("greedy", 2.0)
    for accounts in (first, second):
        await accounting_of(catalog, accounts).save()
    second.use("greedy", 1.0)  # which is not saved yet
    started = Accounts()
    for accounts in (first, second, started):
        await accounting_of(catalog, accounts, "greedy", "mia").learn()

    used = [accounts.used_s("greedy") for accounts in (first, second, started)]
    assert used == pytest.approx([12.0, 13.0, 12.0], rel=0.15)  # by its age, which is known to 20 s
    assert all(one.turn_at("mia", 100) < one.turn_at("greedy", 0) for one in (first, second, started))


async def test_owners_are_learned_of_once_after_each_time_that_it_saves_and_when_they_come(
    catalog: Catalog,
) -> None:
    waiting, mine, others = ["mia"], Accounts(), Accounts()
    books = Accounting(mine, catalog.owner_costs, catalog.owner_uses, lambda: waiting)
    await books.learn()
    others.use("mia", 5.0)
    others.use("leo", 5.0)
    await accounting_of(catalog, others).save()
    waiting.append("leo")
    await books.learn()
    before = mine.used_s("mia")
    await books.save()
    await books.learn()

    assert (before, mine.used_s("leo") > 3, mine.used_s("mia") > 3) == (0, True, True)


async def test_uses_that_an_outage_kept_from_being_saved_are_saved_later(catalog: Catalog) -> None:
    accounts = Accounts()
    accounts.use("mia", 5.0)
    books = accounting_of(catalog, accounts, "mia")
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ALTER TABLE owner_uses RENAME TO away")
    await books.save()
    await books.learn()
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ALTER TABLE away RENAME TO owner_uses")
    await books.save()

    assert [sum(ms for _, ms in uses) for uses in (await catalog.owner_uses.lately(["mia"])).values()] == [
        5000
    ]
