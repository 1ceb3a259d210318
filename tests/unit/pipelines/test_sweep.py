"""The sweep: what goes, what stays, and what stops it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.sweep.applying import apply_plan
from pipelines.sweep.plan import PlanUnknown
from pipelines.sweep.planning import make_plan
from pipelines.sweep.sweeper import Sweeper, SweepRefused
from pipelines.sweep.trash import purge, restore
from storage.blobs import BlobInfo, Existence, Storage
from storage.catalog.opening import Catalog
from storage.catalog.records import Original, Ready, State, StoredVariant
from storage.keys import trash_key
from tests.support.blobs import is_there, listed, on_both, on_files
from tests.support.catalogs import ON_BOTH, claim, commit, delete_event, take, upload_event
from tests.support.file_systems import with_numbers_of_paths
from tests.support.sweeps import GRACE_S, Clock, InstallationStub, new_key, planned, put, recorded, sweeper_on


@pytest.fixture
def sweeper(catalog: Catalog, blobs: Storage, clock: Clock) -> Sweeper:
    return sweeper_on(catalog, blobs, now=clock)


@pytest.mark.fault(49)
@on_both
async def test_an_old_file_without_a_record_goes_to_the_trash_and_all_else_stays(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> None:
    orphan = await put(blobs)
    variant = await put(blobs)
    original = await put(blobs, "uploads/cat.jpg")
    strange = await put(blobs, "variants/README.txt")
    await recorded(catalog, [variant])
    clock.hours_go_by()

    plan = await make_plan(sweeper)
    await apply_plan(plan.id, sweeper)

    left = await listed(blobs, "variants")
    assert plan.counts == {"orphan": 1, "unknown": 1}
    assert left == sorted([variant, strange])
    assert await blobs.get(trash_key(plan.id, orphan)) == b"picture"
    assert await blobs.get(original) == b"picture"


@pytest.mark.fault(44)
@on_files
async def test_a_young_file_is_left_to_its_writer(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, root: Path
) -> None:
    young = await put(blobs)
    old_by_its_looks = root / await put(blobs)
    os.utime(old_by_its_looks, (0, 0))  # moved here a moment ago, with the time it had elsewhere

    plan = await make_plan(sweeper)

    assert (plan.counts, plan.files) == ({}, 2)
    assert (root / young).exists()


async def test_planning_touches_nothing(
    sweeper: Sweeper, blobs: Storage, catalog: Catalog, clock: Clock
) -> None:
    await recorded(catalog, [await put(blobs)])
    orphan = await put(blobs)
    clock.hours_go_by()

    await make_plan(sweeper)

    assert await blobs.get(orphan) == b"picture"


async def test_a_missing_file_is_made_again(sweeper: Sweeper, catalog: Catalog, blobs: Storage) -> None:
    there, gone = await put(blobs), new_key()
    upload = await recorded(catalog, [there, gone])

    plan = await make_plan(sweeper)
    await apply_plan(plan.id, sweeper)

    found = await catalog.reports.find(upload)
    assert plan.counts == {"missing": 1}
    assert found is not None
    assert found.state is State.QUEUED


@on_both
async def test_the_record_of_a_superseded_variant_without_a_file_is_dropped_and_nothing_is_made(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage
) -> None:
    old, new = await put(blobs), await put(blobs)
    upload = await recorded(catalog, [old])
    await recorded(catalog, [new], ms=2, upload_id=upload)
    await blobs.delete(old)

    plan = await make_plan(sweeper)
    done = await apply_plan(plan.id, sweeper)

    found = await catalog.reports.find(upload)
    assert (plan.counts, done["outdated"]) == ({"outdated": 1}, 1)
    assert set(await catalog.sweeps.find_rows([old, new])) == {new}
    assert found is not None
    assert found.state is State.READY


@on_both
async def test_a_variant_of_an_upload_that_is_being_deleted_is_not_missed(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage
) -> None:
    upload = await recorded(catalog, [await put(blobs), new_key()])
    await take(catalog, delete_event(2, upload))

    assert (await make_plan(sweeper)).counts == {}


@on_both
async def test_a_superseded_variant_goes_with_its_row_once_its_time_is_over(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> None:
    old, new = await put(blobs), await put(blobs)
    upload = await recorded(catalog, [old])
    await recorded(catalog, [new], ms=2, upload_id=upload)
    before = await make_plan(sweeper)
    clock.hours_go_by()

    after = await make_plan(sweeper)
    await apply_plan(after.id, sweeper)

    assert (before.counts, after.counts) == ({}, {"retired": 1})
    assert await listed(blobs, "variants") == [new]
    assert set(await catalog.sweeps.find_rows([old, new])) == {new}


@pytest.mark.fault(44)
@on_both
async def test_a_file_that_gets_a_record_after_the_plan_stays(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> None:
    plan, [orphan] = await planned(1, sweeper, catalog, blobs, clock)
    await recorded(catalog, [orphan])

    done = await apply_plan(plan.id, sweeper)

    assert done.get("orphan", 0) == 0
    assert await blobs.get(orphan) == b"picture"


@pytest.mark.fault(45)
async def test_a_row_cannot_take_a_key_that_is_marked_and_tries_again(catalog: Catalog) -> None:
    key = new_key()
    await catalog.sweeps.lease("sweep", 60)
    await catalog.sweeps.mark_for_deletion("sweep", [key])

    upload = await recorded(catalog, [key])

    found = await catalog.reports.find(upload)
    assert found is not None
    assert (found.state, found.error_code, found.attempts) == (State.QUEUED, "storage_unavailable", 0)


async def test_a_file_that_is_made_again_while_it_is_moved_away_comes_back(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, [orphan] = await planned(1, sweeper, catalog, blobs, clock)
    move = blobs.move

    async def made_again_then_moved(key: str, to: str) -> None:
        monkeypatch.setattr(blobs, "move", move)
        await put(blobs, orphan)
        await move(key, to)

    monkeypatch.setattr(blobs, "move", made_again_then_moved)
    await apply_plan(plan.id, sweeper)

    assert await blobs.get(orphan) == b"picture"


async def test_a_file_that_was_moved_away_and_cannot_be_brought_back_gets_no_row(
    sweeper: Sweeper,
    catalog: Catalog,
    blobs: Storage,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await recorded(catalog, [await put(blobs)])
    orphan = await put(blobs)
    await take(catalog, upload_event(1))
    writer = await claim(catalog)
    clock.hours_go_by()
    plan = await make_plan(sweeper)
    stat = blobs.stat

    async def unknown_in_the_trash(keys: Sequence[str]) -> Mapping[str, BlobInfo | Existence]:
        hidden = {key: Existence.UNKNOWN for key in keys if key.startswith("trash/")}
        return {**await stat(keys), **hidden}

    monkeypatch.setattr(blobs, "stat", unknown_in_the_trash)
    await apply_plan(plan.id, sweeper)
    made = StoredVariant("thumb", orphan, 10, 10, 7, "f" * 64)
    answer = await commit(catalog, Ready(writer, Original("stamp", "0" * 64, 3, "jpeg", 10, 10), [made]))

    assert not await is_there(blobs, orphan)
    assert answer.state is State.QUEUED  # it publishes again


@pytest.mark.fault(48)
async def test_an_implausible_plan_touches_nothing_until_a_person_has_looked(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> None:
    await recorded(catalog, [await put(blobs)])
    names = [new_key() for _ in range(101)]
    await blobs.store([(name, b"") for name in names])
    clock.hours_go_by()
    plan = await make_plan(sweeper)

    with pytest.raises(SweepRefused, match="101 of 102 files"):
        await apply_plan(plan.id, sweeper)
    untouched = len(await listed(blobs, "variants"))
    done = await apply_plan(plan.id, sweeper, force=True)

    assert (untouched, done["orphan"]) == (102, 101)


@pytest.mark.fault(47)
async def test_an_empty_catalog_beside_a_full_disk_stops_the_sweep(
    sweeper: Sweeper, blobs: Storage, clock: Clock
) -> None:
    await put(blobs)
    clock.hours_go_by()

    plan = await make_plan(sweeper)

    assert plan.stopped is not None
    assert "no variant at all" in plan.stopped


async def test_what_was_quarantined_comes_back_whole(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> None:
    plan, [orphan] = await planned(1, sweeper, catalog, blobs, clock)
    await apply_plan(plan.id, sweeper)

    restored = await restore(plan.id, sweeper)

    assert (restored, await restore(plan.id, sweeper)) == (1, 0)
    assert await blobs.get(orphan) == b"picture"


@pytest.mark.fault(50)
async def test_a_purge_spares_what_is_young_and_what_a_row_holds_again(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> None:
    plan, [orphan, wanted] = await planned(2, sweeper, catalog, blobs, clock)
    await apply_plan(plan.id, sweeper)
    clock.hours_go_by()
    young = await purge(replace(sweeper, retention_s=5 * GRACE_S))
    await recorded(catalog, [wanted])

    old = await purge(sweeper)

    assert (young.get("purged", 0), old["purged"], old["restored"]) == (0, 1, 1)
    assert await blobs.get(wanted) == b"picture"
    assert await listed(blobs, f"trash/{plan.id}") == []
    assert orphan not in await listed(blobs, "variants")


async def test_a_plan_that_is_applied_again_does_not_take_back_what_was_reported_of_it(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> None:
    plan, _ = await planned(1, sweeper, catalog, blobs, clock)
    await apply_plan(plan.id, sweeper)
    answer = await catalog.sweeps.last()
    again = await apply_plan(plan.id, sweeper)

    assert answer is not None
    assert (answer.done["orphan"], again.get("orphan", 0)) == (1, 0)
    assert await catalog.sweeps.last() == answer


async def test_what_a_plan_does_when_it_is_applied_again_is_added_to_its_report(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> None:
    plan, [_, late] = await planned(2, sweeper, catalog, blobs, clock)
    await blobs.move(late, "trash/elsewhere")
    await apply_plan(plan.id, sweeper)
    first = await catalog.sweeps.last()
    await blobs.move("trash/elsewhere", late)

    await apply_plan(plan.id, sweeper)

    both = await catalog.sweeps.last()
    assert [answer and answer.done for answer in (first, both)] == [{"orphan": 1}, {"orphan": 2}]


async def test_a_plan_that_another_applies_meanwhile_does_not_take_back_its_report(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock
) -> None:
    plan, _ = await planned(1, sweeper, catalog, blobs, clock)

    async def another_applies() -> None:
        await apply_plan(plan.id, sweeper)

    await apply_plan(plan.id, replace(sweeper, installation=InstallationStub(checked=another_applies)))

    answer = await catalog.sweeps.last()
    assert answer is not None
    assert answer.done == {"orphan": 1}


@pytest.mark.fault(27)
@ON_BOTH
@pytest.mark.rotating(1)
async def test_only_one_sweep_is_at_work_at_a_time(sweeper: Sweeper, catalog: Catalog) -> None:
    await catalog.sweeps.lease("somebody else", 60)

    with pytest.raises(SweepRefused, match="Another sweep"):
        await make_plan(sweeper)


@pytest.mark.fault(27)
@ON_BOTH
async def test_a_lease_of_a_sweeper_that_died_runs_out(sweeper: Sweeper, catalog: Catalog) -> None:
    await catalog.sweeps.lease("somebody dead", 0)

    assert (await make_plan(sweeper)).counts == {}


@pytest.mark.parametrize("name", ["sweep-20261121T100000-00000000", "../uploads", ""])
async def test_a_plan_that_is_not_there_is_not_applied(sweeper: Sweeper, name: str) -> None:
    with pytest.raises(PlanUnknown):
        await apply_plan(name, sweeper)


@on_files
async def test_where_a_renamed_file_gets_another_number_orphans_go_all_the_same(
    catalog: Catalog, blobs: Storage, sweeper: Sweeper, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_numbers_of_paths(monkeypatch)
    plan, orphans = await planned(3, sweeper, catalog, blobs, clock)
    done = await apply_plan(plan.id, sweeper)

    assert done["orphan"] == 3
    assert set((await blobs.stat(orphans)).values()) == {Existence.MISSING}
