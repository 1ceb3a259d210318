"""Whoever watches a catalog is told how long its transactions take, and which statements are slow."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from storage.catalog.opening import Catalog, open_catalog
from storage.errors import CatalogUnavailable
from tests.support.catalogs import ON_BOTH, claim, commit, ready, take, upload_event
from tests.support.watches import RecordedWatch

pytestmark = ON_BOTH

SECRET = 400_000
_COUNTING = text("""
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :secret)
    SELECT max(n) FROM numbers
""")


@pytest.fixture
def watch() -> RecordedWatch:
    return RecordedWatch(slow_s=0.02)


@pytest.fixture
async def watched(catalog: Catalog, catalog_url: str, watch: RecordedWatch) -> AsyncIterator[Catalog]:
    """A second way into the same catalog, with somebody who watches."""
    async with open_catalog(catalog_url, watch=watch) as opened:
        watch.operations.clear()
        watch.slow.clear()
        yield opened


async def test_each_transaction_is_told_of_under_what_it_is_for(
    watched: Catalog, watch: RecordedWatch
) -> None:
    await take(watched, upload_event(1))
    right = await claim(watched)
    await commit(watched, ready(right))
    await watched.reports.totals()

    assert {"intake", "claim", "commit", "report", "lock"} <= watch.operations.keys()
    assert watch.operations["commit"] == 1
    assert all(0 < seconds < 10 for seconds in watch.seconds.values())


async def test_a_slow_statement_is_told_of_in_one_line_without_its_parameters(
    watched: Catalog, watch: RecordedWatch
) -> None:
    async with watched.database.reading() as connection:
        await connection.execute(_COUNTING, {"secret": SECRET})

    [(statement, seconds)] = watch.slow
    assert statement.startswith("WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL")
    assert "\n" not in statement
    assert str(SECRET) not in statement
    assert 0.02 < seconds < 10


async def test_a_statement_that_fails_slowly_is_told_of_too(
    watched: Catalog, watch: RecordedWatch, database_kind: str
) -> None:
    fails = {"sqlite": "json(max(n) || '{')", "postgres": "1 / (max(n) - max(n))"}[database_kind]
    with pytest.raises((DBAPIError, CatalogUnavailable)):
        async with watched.database.reading() as connection:
            await connection.execute(text(_COUNTING.text.replace("max(n)", fails)), {"secret": SECRET})

    assert [statement[:14] for statement, _ in watch.slow] == ["WITH RECURSIVE"]


async def test_a_quick_statement_is_not_told_of(watched: Catalog, watch: RecordedWatch) -> None:
    watch.slow_s = 5.0
    async with watched.database.reading() as connection:
        await connection.execute(_COUNTING, {"secret": 10})

    assert watch.slow == []


async def test_a_transaction_that_fails_is_told_of_all_the_same(
    watched: Catalog, watch: RecordedWatch
) -> None:
    with pytest.raises(RuntimeError, match="in the middle"):
        async with watched.database.used_for("sweep").writing():
            raise RuntimeError("in the middle")

    assert watch.operations["sweep"] == 1
