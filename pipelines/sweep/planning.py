"""Planning: files and rows are inspected step by step, and what is to be done is written down."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

from pipelines.sweep import findings
from pipelines.sweep.findings import ROWS, Inspection, StepResult
from pipelines.sweep.plan import DRAFT, STALE_S, Draft, Plan, finish, write_down
from pipelines.sweep.sweeper import Planner
from storage.errors import CatalogTooNew, StorageError
from storage.keys import TRASH, VARIANTS
from storage.totals import Count, Swept

_COUNTED = "counted"

_STAGES: Sequence[Callable[[str, Inspection], Awaitable[StepResult]]] = (
    findings.compare,
    findings.retired,
    findings.leftovers,
    findings.count_trash,
)


async def make_plan(planner: Planner) -> Plan:
    """Inspect every file and every row, and write down what is to be done. Nothing else is touched.

    A plan that was not finished is continued.

    Raises: SweepBusy while another sweep is at work, SweepPaused, StorageError when a listing ends in
    an error; that is remembered as a sweep that was stopped.
    """
    try:
        async with planner.at_work():
            draft = await _begun(planner)
            async with _counting(draft, planner) as wrong_totals:
                draft = await _run_stages(draft, planner)
                wrong = await wrong_totals
            plan = await finish(draft, planner.now(), planner.blobs)
            await planner.sweeps.remember(await _swept(plan, draft, wrong, planner))
            for name in (DRAFT, _COUNTED):
                await planner.sweeps.checkpoint(name).clear()
    except StorageError as error:
        if not isinstance(error, CatalogTooNew):  # which is not ours to write to
            with suppress(StorageError):
                await planner.sweeps.note_stop(str(error))
        raise
    return plan


async def _run_stages(draft: Draft, planner: Planner) -> Draft:
    while draft.stage < len(_STAGES):
        await planner.next_step()
        inspection = Inspection(planner.blobs, planner.sweeps, planner.ages())
        step = await _STAGES[draft.stage](draft.after, inspection)
        draft = await write_down(draft, step, planner.blobs)
        await planner.sweeps.checkpoint(DRAFT).save(draft)
    return draft


@asynccontextmanager
async def _counting(draft: Draft, planner: Planner) -> AsyncIterator[asyncio.Task[int | None]]:
    """Count the catalog's totals beside the body, which waits for other things."""
    counting = asyncio.create_task(_wrong_totals(draft, planner))
    try:
        yield counting
    finally:
        await asyncio.gather(counting, return_exceptions=True)  # a query cannot be stopped


async def _wrong_totals(draft: Draft, planner: Planner) -> int | None:
    """How many totals were wrong; once they are set right, another try would find none."""
    checkpoint = planner.sweeps.checkpoint(_COUNTED)
    counted = await checkpoint.load()
    if counted is None or counted["plan"] != draft.id:
        counted = {"plan": draft.id, "wrong": await planner.installation.correct_totals()}
        await checkpoint.save(counted)
    wrong: int | None = counted["wrong"]
    return wrong


async def _begun(planner: Planner) -> Draft:
    saved = await planner.sweeps.checkpoint(DRAFT).load()
    now = planner.now()
    draft = Draft(**saved) if saved else Draft.new(now)
    return draft if now - draft.begun < STALE_S else Draft.new(now)


async def _swept(plan: Plan, draft: Draft, wrong_totals: int | None, planner: Planner) -> Swept:
    rows = await planner.sweeps.total()
    before = await planner.sweeps.last()
    return Swept(
        plan=plan.id,
        time_ms=int(planner.now() * 1000),
        files=Count(plan.files, rows.bytes + draft.bytes[VARIANTS] - draft.bytes[ROWS]),
        rows=Count(plan.rows, rows.bytes),
        findings={kind: Count(count, plan.bytes[kind]) for kind, count in plan.counts.items()},
        trash=Count(draft.counts[TRASH], draft.bytes[TRASH]),
        stopped=plan.stopped,
        wrong_totals=wrong_totals,
        stops=(before.stops if before else 0) + 1 if plan.stopped else 0,
    )
