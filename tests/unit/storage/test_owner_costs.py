"""What owners cost: added up by the hour whoever debits it, told for a day, kept for a while."""

import asyncio

import pytest

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.owner_costs import HOUR_MS
from storage.catalog.reports import read_totals
from storage.totals import OwnerCost
from tests.support.catalogs import ON_BOTH

pytestmark = ON_BOTH


async def owners(catalog: Catalog, most: int = 10) -> list[OwnerCost]:
    return list((await catalog.reports.totals(owners=most)).owners)


async def test_what_all_workers_debit_to_an_owner_is_added_up(catalog: Catalog, catalog_url: str) -> None:
    costs = [OwnerCost("mia", 700, 2, 30), OwnerCost("", 10, 1, 5)]
    async with open_catalog(catalog_url) as another:
        await asyncio.gather(*(one.owner_costs.add(costs) for one in (catalog, another, catalog)))

    assert await owners(catalog) == [OwnerCost("mia", 2100, 6, 90), OwnerCost("", 30, 3, 15)]


async def test_only_the_dearest_are_told_and_the_dearest_first(catalog: Catalog, catalog_url: str) -> None:
    await catalog.owner_costs.add([OwnerCost(f"{each:02}", each, 1, 1) for each in range(20)])

    assert [one.owner for one in await owners(catalog, 3)] == ["19", "18", "17"]
    assert len((await read_totals(catalog_url)).owners) == 10


async def test_what_is_older_than_a_day_is_not_told_and_pruned_in_the_end(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = catalog.database.now_ms()
    for hours, owner in ((24, "old"), (23, "mia")):
        with monkeypatch.context() as before:
            before.setattr(type(catalog.database), "now_ms", lambda _, ago=hours: now_ms - ago * HOUR_MS)
            await catalog.owner_costs.add([OwnerCost(owner, 1, 1, 1)])

    assert [one.owner for one in await owners(catalog)] == ["mia"]
    assert await catalog.owner_costs.prune(now_ms - 23 * HOUR_MS) == 1
    assert [one.owner for one in await owners(catalog)] == ["mia"]


async def test_a_folder_of_any_name_and_length_can_be_debited(catalog: Catalog) -> None:
    longest = "\N{SNOWMAN}" * 336  # of a source of 1,024 bytes
    await catalog.owner_costs.add([OwnerCost(longest, 1, 1, 2**40)])

    assert await owners(catalog) == [OwnerCost(longest, 1, 1, 2**40)]
