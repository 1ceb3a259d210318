"""The sweep's four chores: plan, apply, purge, restore. Each can be killed anywhere and run again."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from pipelines.sweep import plan as plans
from pipelines.sweep.findings import Ages, Finding, Kind, judge, leftovers, pairs
from pipelines.sweep.plan import Plan, PlanUnknown, Writer, quarantine_key
from storage.blobs import BlobInfo, Blobs, Existence
from storage.catalog.sweeps import Sweeps
from storage.errors import BlobNotFound
from storage.keys import DELETED, TRASH, VARIANTS

_GROUP = 200  # keys that are condemned together
_LEASE_S = 60.0
_RENEW_EVERY = 10_000  # keys looked at


class SweepRefused(Exception):
    """The sweep does not go on; nothing was touched. The message says why, with the numbers."""


Requeue = Callable[[Sequence[UUID]], Awaitable[int]]
"""Queues uploads whose files are missing; gives how many really were."""


@dataclass(frozen=True)
class Sweeper:
    """What sweeping needs, and the rules it follows."""

    blobs: Blobs
    sweeps: Sweeps
    holder: str
    grace_s: float
    retention_s: float
    requeue: Requeue


async def make_plan(sweeper: Sweeper) -> Plan:
    """Look at every file and every row, and write down what is to be done. Nothing else is touched.

    Raises: SweepRefused while another sweep is at work, StorageError when a listing ends in an error.
    """
    await _hold_lease(sweeper)
    ages = Ages.now(sweeper.grace_s, sweeper.retention_s)
    writer = Writer(sweeper.blobs, plans.new_id())
    files = rows = 0
    async with aclosing(pairs(sweeper.blobs, sweeper.sweeps, "")) as found:
        async for pair in found:
            files += pair.file is not None
            rows += pair.row is not None
            if (files + rows) % _RENEW_EVERY == 0:
                await _hold_lease(sweeper)
            finding = judge(pair, ages)
            if finding is not None and await _stands(finding, sweeper):
                await writer.add(finding)
    async for finding in leftovers(sweeper.blobs, ages):
        await writer.add(finding)
    plan = await writer.close(files, rows)
    await sweeper.sweeps.end_lease(sweeper.holder)
    return plan


async def apply_plan(plan_id: str, sweeper: Sweeper, *, force: bool = False) -> Mapping[str, int]:
    """Do what the plan says, each key looked at again first; gives how many of each kind were dealt with.

    Raises: SweepRefused when the breaker stops it, PlanUnknown, StorageError.
    """
    plan = await plans.load(plan_id, sweeper.blobs)
    if plan.stopped and not force:
        raise SweepRefused(f"Nothing was touched: {plan.stopped}.")
    await _hold_lease(sweeper)
    await sweeper.sweeps.pardon()  # marks of an apply that was killed
    done: Counter[str] = Counter()
    async for part in plans.findings(plan, sweeper.blobs):
        for start in range(0, len(part), _GROUP):
            await _hold_lease(sweeper)
            done += await _apply_group(plan, part[start : start + _GROUP], sweeper)
    await plans.save(replace(plan, applied=plan.applied or plans.now()), sweeper.blobs)
    await sweeper.sweeps.end_lease(sweeper.holder)
    return dict(done)


async def purge(sweeper: Sweeper) -> Mapping[str, int]:
    """Remove for good what was quarantined longer ago than the retention, and is still held by no row.

    What a row holds again goes back to its place. Raises: SweepRefused, StorageError.
    """
    await _hold_lease(sweeper)
    done: Counter[str] = Counter()
    for plan in await known_plans(sweeper):
        if _age_s(plan.applied or plan.made) > sweeper.retention_s:  # one never applied has nothing there
            async for part in plans.findings(plan, sweeper.blobs):
                await _hold_lease(sweeper)
                keys = [finding.key for finding in part if finding.kind is Kind.ORPHAN]
                held = await sweeper.sweeps.find_held(keys)
                for key in keys:
                    await _purge_key(plan, key, key in held, sweeper, done)
            await _forget(plan, sweeper)
            done["plans"] += 1
    done["originals"] += await _purge_deleted(sweeper)
    await sweeper.sweeps.end_lease(sweeper.holder)
    return dict(done)


async def restore(plan_id: str, sweeper: Sweeper) -> int:
    """Put back everything that the plan took away and that is not there again; gives how many files.

    Raises: SweepRefused, PlanUnknown, StorageError.
    """
    plan = await plans.load(plan_id, sweeper.blobs)
    await _hold_lease(sweeper)
    restored = 0
    async for part in plans.findings(plan, sweeper.blobs):
        for finding in part:
            if finding.kind is Kind.ORPHAN:
                restored += await _bring_back(plan.id, finding.key, sweeper)
    await plans.save(replace(plan, applied=None), sweeper.blobs)
    await sweeper.sweeps.end_lease(sweeper.holder)
    return restored


async def known_plans(sweeper: Sweeper) -> Sequence[Plan]:
    """The complete plans there are, oldest first. Raises: StorageError."""
    found: dict[str, Plan | None] = {}
    async with aclosing(sweeper.blobs.list(TRASH)) as blobs:
        async for blob in blobs:
            name = blob.key.split("/")[1]
            if name not in found:
                try:
                    found[name] = await plans.load(name, sweeper.blobs)
                except PlanUnknown:
                    found[name] = None
    return [plan for plan in found.values() if plan is not None]


async def _hold_lease(sweeper: Sweeper) -> None:
    if not await sweeper.sweeps.lease(sweeper.holder, _LEASE_S):
        raise SweepRefused("Another sweep is at work.")


async def _stands(finding: Finding, sweeper: Sweeper) -> bool:
    """A row without a file is a finding only if the file is surely not there, and the row still is."""
    if finding.kind is not Kind.MISSING:
        return True
    if await sweeper.blobs.exists(finding.key) is not Existence.MISSING:
        return False
    return finding.key in await sweeper.sweeps.find_held([finding.key])


async def _apply_group(plan: Plan, group: Sequence[Finding], sweeper: Sweeper) -> Counter[str]:
    done: Counter[str] = Counter()
    by_kind = {kind: [one.key for one in group if one.kind is kind] for kind in Kind}
    done[Kind.ORPHAN] += await _quarantine(plan, by_kind[Kind.ORPHAN], sweeper)
    done[Kind.RETIRED] += await _retire(by_kind[Kind.RETIRED], sweeper)
    done[Kind.MISSING] += await _remake(plan, by_kind[Kind.MISSING], sweeper)
    for key in by_kind[Kind.LEFTOVER]:
        if await _old(key, sweeper):
            await sweeper.blobs.delete(key)
            done[Kind.LEFTOVER] += 1
    return done


async def _quarantine(plan: Plan, keys: Sequence[str], sweeper: Sweeper) -> int:
    """Move keys that no row holds and no row can take while they are condemned."""
    condemned = await sweeper.sweeps.condemn(keys) if keys else frozenset()
    try:
        moved = [await _quarantine_key(plan, key, sweeper) for key in sorted(condemned)]
    finally:
        if condemned:
            await sweeper.sweeps.pardon(sorted(condemned))
    return sum(moved)


async def _quarantine_key(plan: Plan, key: str, sweeper: Sweeper) -> bool:
    judged = await _old(key, sweeper)
    if judged is None:  # gone, or made again since the plan
        return False
    kept = quarantine_key(plan.id, key)
    await sweeper.blobs.move(key, kept)
    if (await sweeper.blobs.info(kept)).identity == judged.identity:
        return True
    # A writer made it again after it was judged: what was moved is the new file. Its row cannot have been
    # committed yet, for the key is condemned.
    await _bring_back(plan.id, key, sweeper)
    return False


async def _retire(keys: Sequence[str], sweeper: Sweeper) -> int:
    """Row first, then bytes: a crash in between leaves an orphan, never a row without its file."""
    gone = await sweeper.sweeps.drop_superseded(keys) if keys else []
    for key in gone:
        await sweeper.blobs.delete(key)
    return len(gone)


async def _remake(plan: Plan, keys: Sequence[str], sweeper: Sweeper) -> int:
    """What is still missing comes back from the trash, or is made again; a superseded one is let go."""
    missing = [key for key in keys if await sweeper.blobs.exists(key) is Existence.MISSING]
    if not missing:
        return 0
    for known in await known_plans(sweeper):
        missing = [key for key in missing if not await _bring_back(known.id, key, sweeper)]
    held = await sweeper.sweeps.find_held(missing)
    superseded = [key for key, row in held.items() if row.superseded_ms is not None]
    await sweeper.sweeps.drop_superseded(superseded)
    uploads = {row.upload_id for key, row in held.items() if row.superseded_ms is None}
    await sweeper.requeue(sorted(uploads))
    return len(keys)


async def _bring_back(plan_id: str, key: str, sweeper: Sweeper) -> bool:
    there = await sweeper.blobs.exists(key) is Existence.PRESENT
    kept = await sweeper.blobs.exists(quarantine_key(plan_id, key)) is Existence.PRESENT
    if kept and not there:
        await sweeper.blobs.move(quarantine_key(plan_id, key), key)
    return kept and not there


async def _purge_key(plan: Plan, key: str, held: bool, sweeper: Sweeper, done: Counter[str]) -> None:
    if held and await _bring_back(plan.id, key, sweeper):
        done["restored"] += 1
    elif await sweeper.blobs.exists(quarantine_key(plan.id, key)) is Existence.PRESENT:
        await sweeper.blobs.delete(quarantine_key(plan.id, key))
        done["purged"] += 1


async def _purge_deleted(sweeper: Sweeper) -> int:
    """Remove the originals that delete events have sent to the trash, once the retention is over."""
    before = Ages.now(sweeper.retention_s, 0).orphan_before
    purged = 0
    async with aclosing(sweeper.blobs.list(TRASH)) as blobs:
        async for blob in blobs:
            if blob.key.startswith(f"{TRASH}/{DELETED}") and blob.changed_at < before:
                await sweeper.blobs.delete(blob.key)
                purged += 1
    return purged


async def _forget(plan: Plan, sweeper: Sweeper) -> None:
    """Remove the plan's own files, its head last, unless something is still quarantined under it."""
    async with aclosing(sweeper.blobs.list(f"{TRASH}/{plan.id}/{VARIANTS}")) as left:
        if await anext(left, None) is not None:
            return
    for key in plans.own_keys(plan):
        await sweeper.blobs.delete(key)


async def _old(key: str, sweeper: Sweeper) -> BlobInfo | None:
    """The blob under `key` if it is there and older than the grace."""
    try:
        info = await sweeper.blobs.info(key)
    except BlobNotFound:
        return None
    return info if info.changed_at < Ages.now(sweeper.grace_s, 0).orphan_before else None


def _age_s(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
