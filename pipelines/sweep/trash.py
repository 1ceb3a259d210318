"""The trash: files that a plan has moved there are restored, or deleted once the retention is over."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from pipelines.sweep import plan as plans
from pipelines.sweep.findings import Discrepancy, Inspection, Kind, count_trash, stat_all
from pipelines.sweep.plan import DRAFT, STALE_S, Plan, PlanUnknown
from pipelines.sweep.sweeper import Sweeper
from storage.blobs import BlobInfo, Existence, Get, ListFolders
from storage.keys import (
    PLANS,
    TRASH,
    VARIANTS,
    is_deletion_folder,
    is_plan_name,
    is_plan_part,
    plan_key,
    plan_part_key,
    trash_folder,
    trash_key,
)
from storage.totals import Count

_PURGE = "purge"
_GROUP = 1000  # keys in one step
_KINDS = (Kind.ORPHAN, Kind.RETIRED)  # whose files a plan moves


class PlanFolders(ListFolders, Get, Protocol):
    """What finding plans needs of a storage."""


@dataclass(frozen=True)
class _PurgeProgress:
    """How far a purge has come: which part of which plan; after all plans, the last key of the trash."""

    begun: float = 0.0  # s since 1970
    plan: str = ""
    part: int = 0
    at: int = 0
    after: str = ""
    done: Mapping[str, int] = field(default_factory=dict)


async def purge(sweeper: Sweeper) -> Mapping[str, int]:
    """Delete files that were moved to the trash longer ago than the retention, and that no row has.

    A file whose row lacks it is restored. The purge resumes where it was left, unless that was longer than
    `STALE_S` ago, and returns the counts of all its tries together.

    Raises: SweepRefused, SweepPaused, StorageError; purging again does the rest.
    """
    async with sweeper.at_work():
        place = await _begun(sweeper)
        for plan in [] if place.after else await known_plans(sweeper.blobs):
            if plan.id >= place.plan and plan.made_at < _expired_before(sweeper):
                place = await _purge_plan(plan, place, sweeper)
        done = await _purge_others(place, sweeper)
        await _count_again(sweeper)
        await sweeper.sweeps.checkpoint(_PURGE).clear()
    return done


async def restore(plan_id: str, sweeper: Sweeper) -> int:
    """Restore every file that the plan moved away and that is still missing; returns how many.

    Raises: SweepRefused, SweepPaused, PlanUnknown, StorageError; restoring again does the rest.
    """
    plan = await plans.load(plan_id, sweeper.blobs)
    restored = 0
    async with sweeper.at_work():
        async for group, _, _ in plans.groups(plan, sweeper.blobs, _GROUP):
            await sweeper.next_step()
            restored += len(await bring_back([plan], _moved(group), sweeper))
        await _count_again(sweeper)
        await sweeper.sweeps.checkpoint(plans.APPLY).clear()  # applying it again begins anew
        await plans.save(replace(plan, applied=None), sweeper.blobs)
    return restored


async def _count_again(sweeper: Sweeper) -> None:
    """Keep what the trash holds now in the place of what the last sweep saw there."""
    inspection = Inspection(sweeper.blobs, sweeper.sweeps, sweeper.ages())
    count = size = 0
    after: str | None = ""
    while after is not None:
        step = await count_trash(after, inspection)
        count, size, after = count + step.seen[TRASH].count, size + step.seen[TRASH].bytes, step.after
        await sweeper.next_step()
    last = await sweeper.sweeps.last()
    if last is not None:
        await sweeper.sweeps.remember(replace(last, trash=Count(count, size)))


def _expired_before(sweeper: Sweeper) -> float:
    """Before which moment (s since 1970) what was moved to the trash is past its time."""
    return sweeper.now() - sweeper.retention_s


async def known_plans(blobs: PlanFolders) -> Sequence[Plan]:
    """The complete plans there are, oldest first. Raises: StorageError."""
    found = []
    for name in await plan_names(blobs):
        with suppress(PlanUnknown):
            found.append(await plans.load(name, blobs))
    return found


async def plan_names(blobs: ListFolders, *, proved: bool = True) -> Sequence[str]:
    """The names of all plans, oldest first, also of those that are not complete. Raises: StorageError."""
    # Without the originals of deleted uploads, each of which lies in a folder of its own.
    return [name for name in await blobs.folders(TRASH, PLANS, proved=proved) if is_plan_name(name)]


async def bring_back(among: Sequence[Plan], keys: Sequence[str], sweeper: Sweeper) -> Sequence[str]:
    """Restore those of `keys` that are surely missing and are in the trash; returns which."""
    there = await stat_all(keys, sweeper.blobs)
    back: list[str] = []
    for plan in reversed(among):  # the newest first
        sought = [key for key in keys if key not in back]
        trashed = await stat_all([trash_key(plan.id, key) for key in sought], sweeper.blobs)
        for key in sought:
            if _may_come_back(trashed[trash_key(plan.id, key)], there[key]):
                # A writer who makes it again meanwhile has the newer one.
                await sweeper.blobs.move(trash_key(plan.id, key), key, replace=False)
                back.append(key)
    return back


def _may_come_back(trashed: BlobInfo | Existence, there: BlobInfo | Existence) -> bool:
    if not isinstance(trashed, BlobInfo):
        return False
    if isinstance(there, BlobInfo):
        return there.is_same_file(trashed)  # a restore died between its two steps
    return there is Existence.MISSING


async def _begun(sweeper: Sweeper) -> _PurgeProgress:
    place = _PurgeProgress(**(await sweeper.sweeps.checkpoint(_PURGE).load() or {}))
    return place if sweeper.now() - place.begun < STALE_S else _PurgeProgress(sweeper.now())


async def _purge_plan(plan: Plan, place: _PurgeProgress, sweeper: Sweeper) -> _PurgeProgress:
    if place.plan != plan.id:
        place = replace(place, plan=plan.id, part=0, at=0)
    checkpoint, done = sweeper.sweeps.checkpoint(_PURGE), Counter(place.done)
    async for group, part, at in plans.groups(plan, sweeper.blobs, _GROUP, place.part, place.at):
        await sweeper.next_step()
        done += await _purge_group(plan, _moved(group), sweeper)
        await checkpoint.save(replace(place, part=part, at=at, done=done))
    done["plans"] += await _forget(plan, sweeper)
    place = replace(place, part=plan.parts, at=0, done=done)
    await checkpoint.save(place)
    return place


def _moved(group: Sequence[Discrepancy]) -> Sequence[str]:
    """The keys that the plan moved to the trash."""
    return [finding.key for finding in group if finding.kind in _KINDS]


async def _purge_group(plan: Plan, keys: Sequence[str], sweeper: Sweeper) -> Counter[str]:
    before = _expired_before(sweeper)
    trashed = await stat_all([trash_key(plan.id, key) for key in keys], sweeper.blobs)
    old = [key for key in keys if _is_older(trashed[trash_key(plan.id, key)], before)]
    rows = await sweeper.sweeps.find_rows(old)
    there = await stat_all(sorted(rows), sweeper.blobs)
    lost = [key for key in rows if there[key] is Existence.MISSING]
    done: Counter[str] = Counter(restored=len(await bring_back([plan], lost, sweeper)))
    for key in old:
        if key not in rows or isinstance(there[key], BlobInfo):  # it is unknown: it may be the only one
            await sweeper.blobs.delete(trash_key(plan.id, key))
            done["purged"] += 1
    return done


def _is_older(found: BlobInfo | Existence, before: float) -> bool:
    return isinstance(found, BlobInfo) and found.changed_at < before


async def _forget(plan: Plan, sweeper: Sweeper) -> bool:
    """Remove the plan's own files, unless something is still quarantined under it."""
    async with aclosing(sweeper.blobs.list(trash_key(plan.id, VARIANTS))) as left:
        if await anext(left, None) is not None:
            return False
    for key in (plan_key(plan.id), *(plan_part_key(plan.id, part) for part in range(plan.parts))):
        await sweeper.blobs.delete(key)  # the head first: without it there is no plan
    return True


async def _purge_others(place: _PurgeProgress, sweeper: Sweeper) -> Mapping[str, int]:
    """Delete expired originals of deleted uploads, and parts of plans that were never finished.

    Returns the counts of the whole purge.
    """
    before = _expired_before(sweeper)
    draft = await sweeper.sweeps.checkpoint(DRAFT).load()
    living = {plan.id for plan in await known_plans(sweeper.blobs)} | ({draft["id"]} if draft else set())
    done = Counter(place.done)
    async with aclosing(sweeper.blobs.list_infos(TRASH, place.after)) as blobs:
        count = 0
        async for blob in blobs:
            folder = trash_folder(blob.key)
            if blob.changed_at < before and is_deletion_folder(folder):
                await sweeper.blobs.delete(blob.key)
                done["originals"] += 1
            elif blob.changed_at < before and folder not in living and is_plan_part(blob.key):
                await sweeper.blobs.delete(blob.key)
            count += 1
            if count % _GROUP == 0:
                await sweeper.sweeps.checkpoint(_PURGE).save(replace(place, after=blob.key, done=done))
                await sweeper.next_step()
    return dict(done)
