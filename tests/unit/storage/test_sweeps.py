"""What sweeps keep in the catalog: what the last one found."""

from storage.catalog import Catalog
from storage.catalog.sweeps import Swept, Tally


async def test_before_the_first_sweep_there_is_nothing_to_tell(catalog: Catalog) -> None:
    assert await catalog.sweeps.last() is None


async def test_what_the_last_sweep_found_is_told_as_it_was(catalog: Catalog) -> None:
    findings = {"orphan": Tally(3, 300), "unknown": Tally(1, 5)}
    first = Swept("sweep-1", 1, Tally(1, 1), Tally(), {}, Tally(), stopped="too much")
    second = Swept(
        "sweep-2", 2, Tally(10, 1000), Tally(8, 800), findings, Tally(2, 20), None, 3, {"orphan": 3}
    )
    for swept in (first, second):
        await catalog.sweeps.remember(swept)

    assert await catalog.sweeps.last() == second
