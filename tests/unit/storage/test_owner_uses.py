"""What owners use is added up whoever says it, told for the last minutes, and forgotten after them."""

import asyncio

import pytest

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.owner_uses import KEPT_MS, SLOT_MS
from tests.support.catalogs import ON_BOTH

pytestmark = ON_BOTH


async def test_what_all_workers_say_of_an_owner_is_added_up(catalog: Catalog, catalog_url: str) -> None:
    async with open_catalog(catalog_url) as another:
        used = {"mia": 700, "": 10, "leo": 1}
        await asyncio.gather(*(one.owner_uses.add(used) for one in (catalog, another, catalog)))
        found = await another.owner_uses.lately({"mia", "", "nobody"})

    assert {owner: sum(ms for _, ms in uses) for owner, uses in found.items()} == {"mia": 2100, "": 30}


async def test_each_use_is_told_with_its_age_and_pruned_once_it_counts_no_more(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = catalog.database.now_ms()
    for ago, used in ((0, 1), (60_000, 2), (KEPT_MS + SLOT_MS, 4)):
        with monkeypatch.context() as clock:
            clock.setattr(type(catalog.database), "now_ms", lambda _, ago=ago: now_ms - ago)
            await catalog.owner_uses.add({"mia": used})
    [now, before] = sorted((await catalog.owner_uses.lately(["mia"]))["mia"])

    assert (now[1], before[1]) == (1, 2)
    assert 60_000 - SLOT_MS <= before[0] - now[0] <= 60_000 + SLOT_MS
    assert await catalog.owner_uses.prune() == 1


async def test_what_a_clock_that_was_ahead_has_written_counts_no_more_and_is_pruned(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = catalog.database.now_ms()
    with monkeypatch.context() as clock:
        clock.setattr(type(catalog.database), "now_ms", lambda _: now_ms + 3_600_000)
        await catalog.owner_uses.add({"mia": 1000})
    await catalog.owner_uses.add({"mia": 1})

    found = (await catalog.owner_uses.lately(["mia"]))["mia"]
    assert [used_ms for _, used_ms in found] == [1]
    assert await catalog.owner_uses.prune() == 1


async def test_no_owner_is_a_question_too_and_a_folder_of_any_name_an_owner(catalog: Catalog) -> None:
    await catalog.owner_uses.add({"\N{SNOWMAN}'\\" * 100: 2**40})
    await catalog.owner_uses.add({})

    assert await catalog.owner_uses.lately([]) == {}
    assert len(await catalog.owner_uses.lately(["\N{SNOWMAN}'\\" * 100])) == 1
