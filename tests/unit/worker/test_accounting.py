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


async def test_debits_are_saved_every_few_seconds(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "SAVED_AFTER_S", 0.01)
    accounts = Accounts()
    running = asyncio.create_task(Accounting(accounts, catalog.owner_costs).run())

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
    books = Accounting(accounts, catalog.owner_costs)
    accounts.debit(Meter("mia", 1.0, 10), uploads=1)
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ALTER TABLE owner_costs RENAME TO away")
    await books.save()
    async with catalog.database.writing() as connection:
        await connection.exec_driver_sql("ALTER TABLE away RENAME TO owner_costs")
    await books.close()

    assert await saved(catalog) == [OwnerCost("mia", 1000, 1, 10)]
