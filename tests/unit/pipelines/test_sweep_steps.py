"""Sweeping step by step: what was stopped goes on from there, and whoever sweeps keeps the right to it."""

import asyncio
from asyncio import CancelledError
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from pipelines.sweep import applying, findings, trash
from pipelines.sweep import plan as plans
from pipelines.sweep.applying import apply_plan
from pipelines.sweep.planning import make_plan
from pipelines.sweep.sweeper import Sweeper, SweepPaused
from pipelines.sweep.trash import known_plans, purge, restore
from storage.blobs import Existence, Storage
from storage.blobs.local import LocalBlobs
from storage.catalog.kv import Checkpoint
from storage.catalog.opening import Catalog
from storage.catalog.sweeps import Sweeps
from storage.totals import Count
from tests.support.blobs import listed, on_files
from tests.support.sweeps import (
    CONTENT,
    Clock,
    InstallationStub,
    deleted_originals,
    planned,
    put,
    recorded,
    sweeper_on,
)

T = TypeVar("T")


ALL_IS_WELL = InstallationStub()


@pytest.fixture
def sweeper(catalog: Catalog, blobs: Storage, clock: Clock) -> Sweeper:
    return sweeper_on(catalog, blobs, now=clock)


async def step_by_step(
    work: Callable[[Sweeper], Awaitable[T]], sweeper: Sweeper, installation: InstallationStub = ALL_IS_WELL
) -> tuple[T, int]:
    """What it gives when it may do one step at a time; and how often it was asked to stop."""
    allowed = [1]

    def stopping() -> bool:
        allowed[0] -= 1
        return allowed[0] < 0

    for stops in range(100):
        allowed[0] = 1
        try:
            stopped = replace(sweeper, installation=replace(installation, is_stopping=stopping))
            return await work(stopped), stops
        except SweepPaused:
            continue
    raise AssertionError("it never comes to its end")


async def in_the_trash(catalog: Catalog, sweeper: Sweeper, clock: Clock, count: int) -> str:
    """So many files that a plan took long ago; gives its name."""
    blobs: Any = sweeper.blobs
    await recorded(catalog, [await put(blobs)])
    for _ in range(count):
        await put(blobs)
    clock.hours_go_by()
    plan = await make_plan(sweeper)
    await apply_plan(plan.id, sweeper)
    clock.hours_go_by()
    return plan.id


async def test_a_purge_that_was_stopped_goes_on_behind_what_it_has_purged(
    sweeper: Sweeper, catalog: Catalog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trash, "_GROUP", 1)
    await in_the_trash(catalog, sweeper, clock, 3)

    done, stops = await step_by_step(purge, sweeper)

    assert (done["purged"], done["plans"]) == (3, 1)
    assert stops >= 2


async def test_a_purge_of_originals_that_was_stopped_goes_on_behind_them(
    sweeper: Sweeper, blobs: Storage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trash, "_GROUP", 1)
    await deleted_originals(5, blobs)
    clock.hours_go_by()

    done, stops = await step_by_step(purge, sweeper)

    assert done["originals"] == 5
    assert stops >= 2
    assert await listed(blobs, "trash") == []


async def test_a_purge_of_several_plans_that_was_stopped_counts_them_all(
    sweeper: Sweeper, catalog: Catalog, clock: Clock
) -> None:
    for _ in range(3):
        await in_the_trash(catalog, sweeper, clock, 1)

    done, stops = await step_by_step(purge, sweeper)

    assert (done["purged"], done["plans"]) == (3, 3)
    assert stops >= 2


async def test_a_purge_that_was_left_long_ago_begins_anew(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trash, "_GROUP", 1)
    await put(blobs, "trash/delete-1-1/uploads/cat.jpg")
    clock.hours_go_by()
    with pytest.raises(SweepPaused):
        await purge(replace(sweeper, installation=InstallationStub(is_stopping=lambda: True)))
    await in_the_trash(catalog, sweeper, clock, 3)
    clock.hours_go_by(27)

    done = await purge(sweeper)

    assert (done["purged"], done["plans"]) == (3, 1)


async def test_a_plan_that_was_restored_when_it_was_half_applied_is_applied_from_its_beginning(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "_GROUP", 1)
    plan, orphans = await planned(3, sweeper, catalog, blobs, clock)
    stops = iter([False, True])
    with pytest.raises(SweepPaused):
        await apply_plan(
            plan.id, replace(sweeper, installation=InstallationStub(is_stopping=lambda: next(stops)))
        )
    restored = await restore(plan.id, sweeper)
    clock.hours_go_by()

    done = await apply_plan(plan.id, sweeper)

    assert (restored, done["orphan"]) == (1, 3)
    assert set((await blobs.stat(orphans)).values()) == {Existence.MISSING}


@pytest.mark.parametrize("step", ["remember", "save", "clear"])
@pytest.mark.parametrize("is_done", [False, True])
async def test_a_sweep_that_is_killed_at_its_end_reports_each_file_once(
    sweeper: Sweeper,
    catalog: Catalog,
    blobs: Storage,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    is_done: bool,
) -> None:
    plan, _ = await planned(2, sweeper, catalog, blobs, clock)
    owner: Any = {"remember": Sweeps, "save": plans, "clear": Checkpoint}[step]
    proceed = getattr(owner, step)

    async def dies(*args: Any) -> None:
        if is_done:
            await proceed(*args)
        raise CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, dies)
        with pytest.raises(CancelledError):
            await apply_plan(plan.id, sweeper)
    clock.hours_go_by()
    await apply_plan(plan.id, sweeper)

    last = await catalog.sweeps.last()
    assert last is not None
    assert last.done == {"orphan": 2}


async def test_the_trash_is_counted_in_steps(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "STRETCH", 2)
    await deleted_originals(5, blobs)

    _, stops = await step_by_step(make_plan, sweeper)

    last = await catalog.sweeps.last()
    assert last is not None
    assert last.trash == Count(5, 5 * len(CONTENT))
    assert stops >= 5


async def test_a_plan_in_several_tries_counts_the_rows_once_and_reports_what_was_wrong(
    sweeper: Sweeper, catalog: Catalog, blobs: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "STRETCH", 2)
    await deleted_originals(5, blobs)
    counts = iter([3, 0, *[9] * 100])  # what was set right is right the next time

    async def counted() -> int:
        return next(counts)

    answer = []
    for _ in range(2):
        await step_by_step(make_plan, sweeper, InstallationStub(counted=counted))
        last = await catalog.sweeps.last()
        answer.append(last and last.wrong_totals)

    assert answer == [3, 0]


@on_files
async def test_plans_are_found_without_a_look_at_all_that_they_hold(
    sweeper: Sweeper, catalog: Catalog, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = await in_the_trash(catalog, sweeper, clock, 20)
    monkeypatch.delattr(LocalBlobs, "list")

    assert [found.id for found in await known_plans(sweeper.blobs)] == [plan]


async def test_whoever_leaves_does_not_renew_the_right_to_sweep(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    lease = Sweeps.lease

    async def noted(sweeps: Sweeps, holder: str, *args: Any, **more: Any) -> bool:
        calls.append(holder)
        return await lease(sweeps, holder, *args, **more)

    monkeypatch.setattr(Sweeps, "lease", noted)
    async with sweeper.at_work():
        await sweeper.next_step()

    assert calls == ["me", "me"]  # when it came, and at the step


async def test_the_right_to_sweep_does_not_run_out_during_a_long_step(
    sweeper: Sweeper, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_ms, renewed = 1_000_000, asyncio.Event()
    monkeypatch.setattr("storage.catalog.clock.wall_ns", lambda: clock_ms * 1_000_000)
    lease = Sweeps.lease

    async def noted(sweeps: Sweeps, *args: Any, **more: Any) -> bool:
        began_ms = clock_ms
        given = await lease(sweeps, *args, **more)
        if began_ms == 1_000_030:
            renewed.set()
        return given

    monkeypatch.setattr(Sweeps, "lease", noted)
    async with replace(sweeper, lease_s=0.04).at_work():
        clock_ms = 1_000_030
        await asyncio.wait_for(renewed.wait(), 10)
        clock_ms = 1_000_060  # the first right has run out
        assert not await catalog.sweeps.lease("another", 60)
    assert await catalog.sweeps.lease("another", 60)
