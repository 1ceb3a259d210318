"""Applying a plan: each key is checked again immediately before anything is done to it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipelines.moments import moment
from pipelines.sweep import plan as plans
from pipelines.sweep.findings import Discrepancy, Kind, stat_all
from pipelines.sweep.plan import Plan
from pipelines.sweep.sweeper import Sweeper, SweepRefused
from pipelines.sweep.trash import bring_back, known_plans
from storage.blobs import BlobInfo, Existence
from storage.errors import BlobNotFound
from storage.keys import trash_key

_GROUP = 200  # keys that are marked together
_LACKING = (Kind.MISSING, Kind.OUTDATED)  # rows whose file is not there


async def apply_plan(plan_id: str, sweeper: Sweeper, *, force: bool = False) -> Mapping[str, int]:
    """Do what the plan says, resuming where it was left; returns how many of each kind were dealt with.

    The counts include those of earlier tries.

    Raises: SweepRefused when the breaker stops it or another sweep is at work, SweepPaused, PlanUnknown,
    StorageError.
    """
    async with sweeper.at_work():
        plan = await plans.load(plan_id, sweeper.blobs)
        if plan.stopped and not force:
            raise SweepRefused(f"Nothing was touched: {plan.stopped}.")
        await sweeper.sweeps.clear_abandoned_marks(sweeper.holder)
        trash = await known_plans(sweeper.blobs) if any(map(plan.counts.get, _LACKING)) else []
        checkpoint = sweeper.sweeps.checkpoint(plans.APPLY)
        progress = await _progress(plan, sweeper)
        async for group, part, at in plans.groups(plan, sweeper.blobs, _GROUP, progress.part, progress.at):
            await sweeper.next_step()
            done = Counter(progress.done) + await _apply_group(plan, group, trash, sweeper)
            progress = replace(progress, part=part, at=at, done=done)
            await checkpoint.save(progress)
        # After a crash the last steps are repeated: each writes the same again, until the checkpoint is gone.
        await _report(plan, progress, sweeper)
        await plans.save(replace(plan, applied=moment(int(sweeper.now() * 1000))), sweeper.blobs)
        await checkpoint.clear()
    return dict(progress.done)


@dataclass(frozen=True)
class _Progress:
    """How far a plan has been applied, and what came of it."""

    plan: str
    applied: str | None  # when the plan was applied before; another time says that this try was finished
    before: Mapping[str, int]  # what was reported of it then
    part: int = 0
    at: int = 0
    done: Mapping[str, int] = field(default_factory=dict)


async def _progress(plan: Plan, sweeper: Sweeper) -> _Progress:
    saved = await sweeper.sweeps.checkpoint(plans.APPLY).load()
    if saved and (saved["plan"], saved["applied"]) == (plan.id, plan.applied):
        return _Progress(**saved)
    last = await sweeper.sweeps.last()
    applied_before = plan.applied and last and last.plan == plan.id
    return _Progress(plan.id, plan.applied, last.done if last and applied_before else {})


async def _report(plan: Plan, progress: _Progress, sweeper: Sweeper) -> None:
    """Save what was done in the last sweep's result, added to what was done when it was applied before."""
    last = await sweeper.sweeps.last()
    if last is None or last.plan != plan.id:
        return
    if last.applied_ms is not None and not any(progress.done.values()):  # applied again, nothing was left
        return
    total = dict(Counter(progress.done) + Counter(progress.before))
    applied_ms = int(sweeper.now() * 1000)
    await sweeper.sweeps.remember(replace(last, applied_ms=applied_ms, done=total, stopped=None, stops=0))


async def _apply_group(
    plan: Plan, group: Sequence[Discrepancy], trash: Sequence[Plan], sweeper: Sweeper
) -> Counter[str]:
    done: Counter[str] = Counter()
    by_kind = {kind: [one.key for one in group if one.kind is kind] for kind in Kind}
    done[Kind.ORPHAN.value] += await _quarantine(plan, by_kind[Kind.ORPHAN], sweeper)
    done[Kind.RETIRED.value] += await _retire(plan, by_kind[Kind.RETIRED], sweeper)
    for kind in _LACKING:
        done[kind.value] += await _remake(by_kind[kind], trash, sweeper)
    for key in by_kind[Kind.LEFTOVER]:
        if await _old(key, sweeper):
            await sweeper.blobs.delete(key)
            done[Kind.LEFTOVER.value] += 1
    return done


async def _quarantine(plan: Plan, keys: Sequence[str], sweeper: Sweeper) -> int:
    """Move keys without a row to the trash. While a key is marked, no row can take it."""
    if not keys:
        return 0
    marked = await sweeper.sweeps.mark_for_deletion(sweeper.holder, keys)
    return len(await _set_aside(plan, marked, sweeper))


async def _retire(plan: Plan, keys: Sequence[str], sweeper: Sweeper) -> int:
    """Row first, then bytes: a crash in between leaves an orphan, never a row without its file."""
    if not keys:
        return 0
    before_ms = sweeper.ages().retired_before_ms
    gone = await sweeper.sweeps.mark_superseded(sweeper.holder, keys, before_ms)
    await _set_aside(plan, gone, sweeper)
    rows = await sweeper.sweeps.find_rows(sorted(gone))
    for key in sorted(gone.difference(rows)):  # also what a sweep that died then has moved
        await sweeper.blobs.delete(trash_key(plan.id, key))
    return len(gone)


async def _set_aside(plan: Plan, marked: frozenset[str], sweeper: Sweeper) -> Sequence[str]:
    """Move marked keys to the plan's trash and clear their marks; returns the moved ones."""
    moved: list[str] = []
    untouched: list[str] = []
    try:
        for key in sorted(marked):
            (moved if await _move_away(plan, key, sweeper) else untouched).append(key)
    finally:
        # After an error nobody knows which of the rest were moved, so all of them count as moved.
        doubtful = sorted(marked.difference(untouched))
        referenced = await sweeper.sweeps.clear_marks(sweeper.holder, moved=doubtful, untouched=untouched)
        await bring_back([plan], sorted(referenced), sweeper)
    return [key for key in moved if key not in referenced]


async def _move_away(plan: Plan, key: str, sweeper: Sweeper) -> bool:
    seen = await _old(key, sweeper)
    if seen is None:  # gone, or made again since the plan
        return False
    moved = await sweeper.blobs.move(key, trash_key(plan.id, key))
    if moved is not None and moved.is_same_file(seen):
        return True
    # A writer published the key again after it was checked, so its new file was moved. The row of that file
    # cannot have been committed, for the key is marked. A file that is not surely back counts as moved.
    return key not in await bring_back([plan], [key], sweeper)


async def _remake(keys: Sequence[str], trash: Sequence[Plan], sweeper: Sweeper) -> int:
    """Restore what is still missing from the trash, or queue its upload; drop rows of superseded variants.

    Returns how many of `keys` were dealt with.
    """
    found = await stat_all(keys, sweeper.blobs)
    missing = [key for key in keys if found[key] is Existence.MISSING]
    if not missing:
        return 0
    rows = await sweeper.sweeps.find_rows(missing)
    back = await bring_back(trash, sorted(rows), sweeper)
    lost = {key: row for key, row in rows.items() if key not in back}
    old = [key for key, row in lost.items() if row.superseded_ms is not None]
    dropped = await sweeper.sweeps.drop_superseded(old)
    current = [row.upload_id for row in lost.values() if row.superseded_ms is None]
    left_alone = await sweeper.installation.requeue(sorted(set(current)))
    queued = [upload_id for upload_id in current if upload_id not in left_alone]
    return len(back) + len(dropped) + len(queued)


async def _old(key: str, sweeper: Sweeper) -> BlobInfo | None:
    """The blob under `key` if it is there and older than the grace."""
    try:
        async with sweeper.blobs.open(key, fetched=False) as source:
            return source.info if source.info.changed_at < sweeper.ages().orphan_before else None
    except BlobNotFound:
        return None
