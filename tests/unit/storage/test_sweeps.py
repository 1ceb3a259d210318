"""What sweeps keep in the catalog: what the last one found, marks on keys, and who sweeps."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, select, update

from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.catalog.tables import deletion_marks, uploads
from storage.totals import Count, Swept
from tests.support.catalogs import ON_BOTH, claim, commit, ready, take, upload_event

pytestmark = ON_BOTH


async def test_before_the_first_sweep_there_is_no_report(catalog: Catalog) -> None:
    assert await catalog.sweeps.last() is None


async def test_what_the_last_sweep_found_is_reported_as_it_was(catalog: Catalog) -> None:
    findings = {"orphan": Count(3, 300), "unknown": Count(1, 5)}
    first = Swept("sweep-1", 1, Count(1, 1), Count(), {}, Count(), stopped="too much")
    second = Swept(
        "sweep-2", 2, Count(10, 1000), Count(8, 800), findings, Count(2, 20), None, 0, 3, {"orphan": 3}
    )
    for swept in (first, second):
        await catalog.sweeps.remember(swept)

    assert await catalog.sweeps.last() == second


async def test_a_row_takes_no_key_whose_file_was_moved_away_since_the_work_began(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    before = await claim(catalog)
    keys = [one.key for one in ready(before).variants]
    await catalog.sweeps.lease("sweep", 60)
    await catalog.sweeps.mark_for_deletion("sweep", keys)
    await catalog.sweeps.clear_marks("sweep", moved=keys[:1], untouched=keys[1:])

    late = await commit(catalog, ready(before))
    await due_now(catalog)
    again = await commit(catalog, ready(await claim(catalog)))

    assert (late.state, late.attempts, again.state) == (State.QUEUED, 0, State.READY)


@pytest.mark.fault(50)
async def test_marks_of_a_sweep_that_died_end_as_if_it_had_moved_everything(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    before = await claim(catalog)
    await catalog.sweeps.lease("sweep", 60)
    await catalog.sweeps.mark_for_deletion("sweep", [one.key for one in ready(before).variants])
    alive = await catalog.sweeps.clear_abandoned_marks()
    await catalog.sweeps.lease("sweep", 0)

    dead = await catalog.sweeps.clear_abandoned_marks()
    late = await commit(catalog, ready(before))
    await due_now(catalog)

    assert (alive, dead, late.state) == (0, 2, State.QUEUED)
    assert (await commit(catalog, ready(await claim(catalog)))).state is State.READY


@pytest.mark.sqlite
async def test_marks_are_looked_for_without_reading_all_of_them(catalog: Catalog) -> None:
    seen: list[tuple[str, Any]] = []

    def noted(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if "FROM deletion_marks" in statement:
            seen.append((statement, parameters))

    engine = catalog.database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", noted)
    await catalog.sweeps.clear_abandoned_marks()
    event.remove(engine, "before_cursor_execute", noted)
    [(statement, parameters)] = seen
    async with catalog.database.reading() as connection:
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        steps = [row.detail for row in plan]

    assert not [step for step in steps if step.startswith("SCAN")], steps


async def test_old_marks_are_pruned_and_those_of_files_that_are_being_moved_stay(catalog: Catalog) -> None:
    await catalog.sweeps.lease("sweep", 60)
    await catalog.sweeps.mark_for_deletion("sweep", ["old", "new", "open"])
    await catalog.sweeps.clear_marks("sweep", moved=["old", "new"], untouched=[])
    async with catalog.database.writing() as connection:
        await connection.execute(
            update(deletion_marks).where(deletion_marks.c.key == "old").values(moved_ms=5)
        )

    assert await catalog.sweeps.prune_marks(6) == 1
    async with catalog.database.reading() as connection:
        keys = (await connection.execute(select(deletion_marks.c.key))).scalars().all()
    assert sorted(keys) == ["new", "open"]


async def test_a_row_that_a_sweep_did_not_know_of_is_returned_to_it(catalog: Catalog) -> None:
    await take(catalog, upload_event(1))
    outcome = ready(await claim(catalog))
    key = outcome.variants[0].key
    await catalog.sweeps.lease("sweep", 0)
    await catalog.sweeps.mark_for_deletion("sweep", [key])
    await catalog.sweeps.clear_abandoned_marks()  # somebody took the sweep for dead
    await due_now(catalog)
    await commit(catalog, replace(outcome, claim=replace(outcome.claim, began_ms=2**60)))

    assert await catalog.sweeps.clear_marks("sweep", moved=[key], untouched=[]) == {key}


async def test_the_right_to_sweep_is_anothers_until_it_ends(catalog: Catalog) -> None:
    taken = await catalog.sweeps.lease("first", 60)
    waits = await catalog.sweeps.lease("second", 60)
    await catalog.sweeps.lease("first", 0)  # it runs out
    inherits = await catalog.sweeps.lease("second", 60)
    await catalog.sweeps.end_lease("first")  # which it has lost

    assert (taken, waits, inherits) == (True, False, True)
    assert not await catalog.sweeps.lease("third", 60)


@pytest.mark.fault(51)
async def test_a_frozen_sweep_that_wakes_leaves_open_marks_to_the_sweep_that_took_over(
    catalog: Catalog,
) -> None:
    keys = ["variants/00/00/untouched.jpg", "variants/00/00/moved.jpg"]
    await catalog.sweeps.lease("frozen", 0)
    await catalog.sweeps.mark_for_deletion("frozen", keys)
    await catalog.sweeps.lease("another", 60)
    await catalog.sweeps.clear_abandoned_marks("another")
    await catalog.sweeps.mark_for_deletion("another", keys)

    await catalog.sweeps.clear_marks("frozen", moved=keys[1:], untouched=keys[:1])

    async with catalog.database.reading() as connection:
        marks = (await connection.execute(select(deletion_marks.c.key, deletion_marks.c.moved_ms))).all()
    assert sorted(marks) == [(key, None) for key in sorted(keys)]


async def due_now(catalog: Catalog) -> None:
    """Let the pause of what was postponed be over, and a minute have gone by since files were moved."""
    async with catalog.database.writing() as connection:
        await connection.execute(update(uploads).values(not_before_ms=0))
        await connection.execute(update(deletion_marks).values(moved_ms=deletion_marks.c.moved_ms - 60_000))
