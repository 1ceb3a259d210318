"""What an HTTP server reads comes from an index, in its order: nothing is scanned, and no list is sorted."""

import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from storage.catalog import reading_queries as queries
from storage.catalog import variant_names
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.reading_queries import PageShape, Query
from tests.conftest import url_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

VALUES: Mapping[str, Any] = {
    **{f"id_{place}": "" for place in range(queries.AT_ONCE)},
    "id": "00000000-0000-0000-0000-100000000007",
    "last_id": "00000000-0000-0000-0000-100000000009",
    "key": "variants/00000000-0000-0000-0000-100000000007",
    "limit": 20,
    "look": 20,
    "letter": 3,
    "after_ms": 2_000,
    "after_id": "00000000-0000-0000-0000-100000000007",
    "state": "ready",
    "code": "corrupt_image",
    "recipe": "shop",
    "owner": "o3",
    "since_ms": 1_500,
    "source_prefix": "uploads/o3/1020",
    "behind_prefix": "uploads/o3/1021",
    "since_0": 1_500,
    "since_1": 0,
    "since": 7_800,
    "after": 100,
}
_UPLOADS = """
    INSERT INTO uploads (id, source, state, recipe, metadata, event_ms, event_n, event_epoch, job_id,
        generation, claim, crash_count, attempts, queued_ms, changed_ms, not_before_ms, revive,
        delete_original, adopted, error_code)
    WITH RECURSIVE one (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM one WHERE n < 8000)
    SELECT '00000000-0000-0000-0000-' || (100000000000 + n), 'uploads/o' || (n % 40) || '/' || (100000 + n),
        CASE n % 50 WHEN 7 THEN 'failed' WHEN 8 THEN 'queued' ELSE 'ready' END,
        CASE n % 100 WHEN 3 THEN 'shop' ELSE 'default' END, '{}', 1, 0, 0, '', 0, 1, 0, 0, 1, n / 3, 1,
        false, false, false, CASE n % 50 WHEN 7 THEN 'corrupt_image' END FROM one
"""
_MESSAGES = """
    INSERT INTO outbox (body, made_ms)
    SELECT '{"seq":0,"kind":"ready","id":"' || id || '","source":"x"}', changed_ms FROM uploads
"""
_VARIANTS = """
    INSERT INTO variants (key, upload_id, name, number, width, height, bytes, sha256, made_ms)
    SELECT 'variants/' || id, id, 'thumb', 0, 1, 1, 1, '', 1 FROM uploads
"""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where there is a catalog for the tests of this module, which only read it."""
    if request.param == "postgres":
        return str(request.getfixturevalue("catalog_databases").create("plans"))
    return url_of(Path(shutil.copy(migrated, tmp_path_factory.mktemp("plans") / "catalog.db")))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def large(url: str) -> AsyncIterator[Catalog]:
    """A catalog with enough rows that a server prefers an index."""
    async with open_catalog(url) as catalog:
        async with catalog.database.writing() as connection:
            for statement in (_UPLOADS, _MESSAGES, _VARIANTS):
                await connection.exec_driver_sql(statement)
            if url.startswith("postgres"):
                await connection.exec_driver_sql("ANALYZE")
        yield catalog


async def plan_of(catalog: Catalog, query: Query) -> str:
    """How the database answers the query, in its own words."""
    async with catalog.database.reading() as connection:
        bound = query.params(**{name: VALUES[name] for name in query.compile().params if name in VALUES})
        sql = bound.compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        rows = (await connection.exec_driver_sql(f"{explain}{sql}".replace("%", "%%"))).all()
    return "\n".join(str(row[-1]) for row in rows)


_TABLES = ("SCAN uploads", "SCAN variants", "SCAN outbox")


def scans(plan: str) -> bool:
    """Whether a table is read from end to end; a page without a filter begins at the end of its index."""
    lines = [line for line in plan.splitlines() if not line.endswith("INDEX uploads_by_change")]
    return any("Seq Scan" in line or line.startswith(_TABLES) for line in lines)


def sorts(plan: str) -> bool:
    return "Sort" in plan or "TEMP B-TREE" in plan


_SHAPES = [
    PageShape(frozenset(filters), goes_on=goes_on, of_many="state" in filters)
    for filters in (
        *((), ("state",), ("code",), ("state", "code"), ("owner",), ("owner", "state"), ("recipe",)),
        *(("since_ms",), ("owner", "since_ms"), ("state", "since_ms")),
    )
    for goes_on in (False, True)
]
_SHAPES += [replace(shape, hides_deleted=True) for shape in _SHAPES if "state" not in shape.filters]


async def test_pages_and_counts_are_read_from_an_index_in_its_order(large: Catalog) -> None:
    made = [make(shape) for make in (queries.page, queries.count, queries.place_after) for shape in _SHAPES]
    plans = [await plan_of(large, query) for query in made]
    assert [plan for plan in plans if scans(plan) or sorts(plan)] == []

    bounded = [await plan_of(large, queries.page_within(shape)) for shape in _SHAPES]
    assert [plan for plan in bounded if scans(plan)] == []


async def test_failures_are_found_by_indexes_of_failures_alone(large: Catalog) -> None:
    filters = ({"code"}, {"owner"}, {"code", "owner"})
    some = [PageShape(frozenset({"state", *names}), of_failed=True) for names in filters]
    asked = [replace(shape, goes_on=goes_on) for shape in some for goes_on in (False, True)]
    made = [make(shape) for shape in asked for make in (queries.page, queries.count)]
    made += [queries.failed_since(2), queries.failed_since(2, of_owner=True)]
    plans = [await plan_of(large, query) for query in made]
    assert [plan for plan in plans if scans(plan) or sorts(plan) or "uploads_failed" not in plan] == []

    by_code = await plan_of(large, queries.failed_since_of_some(some[1], 2))
    assert "uploads_failed_by_owner" in by_code


async def test_what_waits_for_another_try_is_found_by_an_index_of_its_own(large: Catalog) -> None:
    filters = [frozenset[str](), frozenset({"code"}), frozenset({"owner", "since_ms"})]
    shapes = [PageShape(some, is_put_off=True, goes_on=True) for some in filters]
    plans = [await plan_of(large, make(one)) for one in shapes for make in (queries.page, queries.put_off)]
    assert [plan for plan in plans if scans(plan) or sorts(plan)] == []
    assert all(
        "uploads_put_off" in plan for plan in plans[:2]
    )  # a server may know a better one of the others

    few = PageShape(frozenset({"source_prefix"}), few=True, is_put_off=True)
    assert "uploads_by_source" in await plan_of(large, queries.page(few))


async def test_few_uploads_of_a_prefix_are_found_by_their_sources(large: Catalog) -> None:
    shape = PageShape(frozenset({"source_prefix", "state"}), few=True, goes_on=True)

    plan = await plan_of(large, queries.page(shape))
    assert "uploads_by_source" in plan
    assert not scans(plan)


async def test_whatever_else_is_asked_scans_and_sorts_nothing(large: Catalog) -> None:
    asked = (
        queries.ONE,
        queries.ONE_OF_VARIANT,
        queries.COUNT_BELOW,
        queries.MESSAGES,
        queries.MESSAGES_OF_ONE,
    )
    newest = (queries.NEWEST_OF_ONE, queries.AT_WORK, queries.MESSAGE_HEADS, queries.FIRST_SEQ_SINCE)
    ends = (queries.NEWEST_SEQ, queries.OLDEST_SEQ, queries.OLDEST_QUEUED)
    plans = [await plan_of(large, query) for query in (*asked, *newest, *ends)]

    assert [plan for plan in plans if scans(plan) or sorts(plan)] == []


async def test_recipes_and_some_uploads_of_each_are_found_by_indexes(
    large: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variant_names, "REACH", 20)  # of few rows a server had rather read all
    asked = [variant_names.RECIPES, *map(variant_names.sample_of, ("default", "shop"))]
    plans = [await plan_of(large, query) for query in asked]

    assert [plan for plan in plans if scans(plan)] == []
    assert ["uploads_by_recipe" in plan for plan in plans] == [True, False, True]


async def test_the_states_of_many_uploads_are_found_by_their_ids(large: Catalog) -> None:
    assert not scans(await plan_of(large, queries.STATES))


async def test_uploads_are_found_by_how_their_ids_begin_without_a_scan(large: Catalog) -> None:
    plan = await plan_of(large, queries.SOME_BETWEEN)
    assert not scans(plan)
    assert "uploads_id_key" in plan or "sqlite_autoindex_uploads" in plan
