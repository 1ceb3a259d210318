"""Claims and outcomes: who may write an upload's next state, and how it is written."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from uuid import UUID

from sqlalchemy import BindParameter, bindparam, case, delete, func, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs import sight
from storage.catalog.backfill import queue_again
from storage.catalog.clock import SKEW_MS, now_ms
from storage.catalog.database import Database
from storage.catalog.outbox import insert_messages
from storage.catalog.records import (
    Claim,
    Committed,
    Failed,
    Message,
    Original,
    Outcome,
    Postponed,
    Ready,
    Removed,
    StalledUpload,
    State,
    StoredVariant,
)
from storage.catalog.rows import Row, message_of, to_upload, to_variant
from storage.catalog.tables import deletion_marks, uploads, variants

CONDEMNED_DELAY_MS = 1000
_LATER = 2**62  # while a sweep is at it
_A_CLAIM_MS = 600_000  # longer than anybody holds one
_A_CENTURY_MS = 100 * 365 * 86_400_000  # by which a clock can have been put back
_WAITING = (State.QUEUED, State.PROCESSING, State.DELETING)

# What every upload asks, made once: making a statement costs more than running it.
_DUE = select(uploads).where(
    uploads.c.id == bindparam("upload"),
    uploads.c.job_id == bindparam("job_id"),
    uploads.c.state.in_(_WAITING),
    # Whoever put it off did so by a clock that has been put back since: how long it was to wait is lost.
    (uploads.c.not_before_ms <= bindparam("now")) | (uploads.c.changed_ms > bindparam("now") + SKEW_MS),
)
_HELD = select(uploads).where(
    uploads.c.id == bindparam("upload"),
    uploads.c.claim == bindparam("number"),
    uploads.c.state.in_((State.PROCESSING, State.DELETING)),
)
_CHANGE = update(uploads).where(uploads.c.id == bindparam("upload"))
_OF_UPLOAD = variants.c.upload_id == bindparam("upload"), variants.c.superseded_ms.is_(None)
_KEYS: BindParameter[str] = bindparam("keys", expanding=True)
_ALL_OF_UPLOAD = select(variants).where(variants.c.upload_id == bindparam("upload"))
_SUPERSEDE = (
    update(variants)
    .where(*_OF_UPLOAD, variants.c.key.not_in(_KEYS))
    .values(superseded_ms=bindparam("superseded_ms"))
)
_CONDEMNED = (
    select(deletion_marks.c.key)
    # A file that was moved away since the claim began may be one that its worker has found or published.
    .where(
        deletion_marks.c.key.in_(_KEYS),
        func.coalesce(deletion_marks.c.moved_ms, _LATER) >= bindparam("began_ms"),
        (deletion_marks.c.moved_ms <= bindparam("until_ms")) | deletion_marks.c.moved_ms.is_(None),
    )
    .limit(1)
)
_NEW = insert(variants)
_STORE = _NEW.on_conflict_do_update(
    index_elements=["key"],
    set_={
        **{name: _NEW.excluded[name] for name in ("number", "width", "height", "bytes", "sha256")},
        "superseded_ms": None,
    },
)


class Claims:
    """The rights to work on uploads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, upload_id: UUID, job_id: str, holder: str) -> Claim | None:
        """Take the right to the upload's next outcome from whoever has it.

        None when there is nothing to do: it is on another job, it is done, or its time has not come.

        Raises: CatalogUnavailable.
        """
        now = now_ms()
        due = {"upload": str(upload_id), "job_id": job_id, "now": now}
        # Light: when the power goes, whoever holds the claim goes too, and the upload is queued as before.
        async with self._database.writing(quick=True, light=True) as connection:
            found = await _due(connection, due)
            if found is None or _may_be_forgotten(found, holder):
                return await _claim(connection, found, holder, now)
        async with self._database.writing(quick=True) as connection:
            return await _claim(connection, await _due(connection, due), holder, now)

    async def holds(self, claim: Claim) -> bool:
        """Whether `claim` is still the newest of its upload. Raises: CatalogUnavailable."""
        async with self._database.reading() as connection:
            return await _held(connection, claim) is not None

    async def keys_of(self, upload_id: UUID) -> Sequence[str]:
        """The keys of all the upload's variants, superseded ones too. Raises: CatalogUnavailable."""
        query = select(variants.c.key).where(variants.c.upload_id == str(upload_id))
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def others_with(self, sources: Sequence[str], upload_id: UUID) -> int:
        """How many other uploads that are not deleted have one of these. Raises: CatalogUnavailable."""
        query = select(func.count()).where(
            uploads.c.source.in_(list(sources)),
            uploads.c.id != str(upload_id),
            uploads.c.state.not_in((State.DELETED, State.DELETING)),
        )
        async with self._database.reading() as connection:
            return (await connection.execute(query)).scalar_one()

    async def commit(self, outcomes: Sequence[Outcome]) -> Sequence[Committed]:
        """Write `outcomes` in one transaction, each only where its claim still holds.

        Raises: CatalogUnavailable; then none of them was written.
        """
        now = now_ms()
        async with self._database.writing(quick=True) as connection:
            written = [await _write(connection, outcome, now) for outcome in outcomes]
            messages = await insert_messages(
                connection, [result.message for result in written if result.message is not None]
            )
        by_id = {message.id: message for message in messages}
        return [replace(result, message=by_id.get(result.id)) for result in written]

    async def hasten(self, ids: Sequence[UUID]) -> Sequence[str]:
        """Make those of `ids` due that are put off; returns their jobs."""
        now = now_ms()
        chosen = uploads.c.id.in_([str(each) for each in ids]), uploads.c.not_before_ms > now
        changes = {"changed_ms": now, "not_before_ms": now}
        hastened = update(uploads).where(*chosen, uploads.c.state == State.QUEUED).values(changes)
        async with self._database.writing() as connection:
            found = await connection.execute(hastened.returning(uploads.c.job_id))
            return sorted(set(found.scalars()))

    async def again(
        self, made: Mapping[UUID, int], *, uploads_per_job: int, new_job_id: Callable[[], str]
    ) -> Mapping[str, Sequence[UUID]]:
        """Queue those uploads that are still as the claim of that number made them; gives their jobs.

        They are as old as their last event, and what they have stays until something newer is published.
        """
        current = uploads.c.id.in_([str(each) for each in made]), uploads.c.state == State.READY
        query = select(uploads.c.id, uploads.c.claim, uploads.c.queued_ms).where(*current)
        async with self._database.writing() as connection:
            rows = (await connection.execute(query)).all()
            ids = [UUID(row.id) for row in rows if made[UUID(row.id)] == row.claim]
            jobs = await queue_again(
                connection, ids, State.READY, uploads_per_job=uploads_per_job, new_job_id=new_job_id
            )
            for row in rows:
                await _update(connection, row.id, {"queued_ms": row.queued_ms})
            return jobs

    async def waits_ms(self, ids: Iterable[UUID], job_id: str) -> Mapping[UUID, int]:
        """How long those of `ids` on that job that nobody works on, are still to wait."""
        now = now_ms()
        chosen = uploads.c.id.in_([str(each) for each in ids]), uploads.c.job_id == job_id
        waiting = uploads.c.state.in_((State.QUEUED, State.DELETING)), uploads.c.holder.is_(None)
        query = select(uploads.c.id, uploads.c.not_before_ms).where(*chosen, *waiting)
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).all()
        return {UUID(row.id): max(0, row.not_before_ms - now) for row in found}

    async def release(self, claims: Sequence[Claim]) -> None:
        """Give claims back untouched, as if they had never been taken. Raises: CatalogUnavailable."""
        async with self._database.writing() as connection:
            for claim in claims:
                row = await _held(connection, claim)
                if row is not None:
                    back = State.DELETING if row["state"] == State.DELETING else State.QUEUED
                    # No holder: the next claim must not take this one for dead.
                    await _update(
                        connection, row["id"], {"state": back, "holder": None, "changed_ms": now_ms()}
                    )

    async def stalled(self, untouched_ms: int, limit: int) -> Sequence[StalledUpload]:
        """Rows that are due for work and have not changed for `untouched_ms`, oldest first.

        After them those whose last change lies ahead: the clock has been put back since.
        """
        now = now_ms()
        waiting = select(uploads.c.id, uploads.c.job_id, uploads.c.not_before_ms).where(
            uploads.c.state.in_(_WAITING)
        )
        old = uploads.c.not_before_ms <= now, uploads.c.changed_ms <= now - untouched_ms
        queries = (waiting.where(*old), waiting.where(uploads.c.changed_ms > now + SKEW_MS))
        found: list[StalledUpload] = []
        async with self._database.reading() as connection:
            for query in queries:
                page = query.order_by(uploads.c.changed_ms).limit(limit - len(found))
                rows = await connection.execute(page)
                found += [StalledUpload(UUID(row.id), row.job_id, row.not_before_ms) for row in rows]
        return found

    async def requeue(
        self, stalled: Sequence[StalledUpload], *, uploads_per_job: int, new_job_id: Callable[[], str]
    ) -> Mapping[str, Sequence[UUID]]:
        """Requeue those that are still on the job that is gone; returns the uploads of each new job.

        They are due now, unless they have been put off since.
        """
        jobs: dict[str, list[UUID]] = {}
        job_id = ""
        now = now_ms()
        async with self._database.writing() as connection:
            for upload in stalled:
                if not jobs or len(jobs[job_id]) == uploads_per_job:
                    job_id = new_job_id()
                    jobs[job_id] = []
                moved = await connection.execute(
                    update(uploads)
                    .where(
                        uploads.c.id == str(upload.id),
                        uploads.c.job_id == upload.job_id,
                        uploads.c.state.in_(_WAITING),
                    )
                    .values(
                        job_id=job_id,
                        changed_ms=now,
                        not_before_ms=case(
                            (uploads.c.not_before_ms == upload.not_before_ms, now),
                            else_=uploads.c.not_before_ms,
                        ),
                    )
                )
                if moved.rowcount:
                    jobs[job_id].append(upload.id)
        return {job_id: ids for job_id, ids in jobs.items() if ids}


async def _due(connection: AsyncConnection, due: Row) -> Row | None:
    found = (await connection.execute(_DUE, due)).mappings().one_or_none()
    return dict(found) if found is not None else None


def _may_be_forgotten(found: Row, holder: str) -> bool:
    """Whether a claim of it says nothing that must outlast the power: no deletion, and nobody who died."""
    return found["state"] != State.DELETING and not (found["crash_count"] or _has_died(found, holder))


def _has_died(found: Row, holder: str) -> bool:
    return found["holder"] not in (None, holder)


async def _claim(connection: AsyncConnection, found: Row | None, holder: str, now: int) -> Claim | None:
    if found is None:
        return None
    changes = {
        "claim": found["claim"] + 1,
        "crash_count": found["crash_count"] + _has_died(found, holder),
        "holder": holder,
        "state": State.DELETING if found["state"] == State.DELETING else State.PROCESSING,
        "changed_ms": now,
    }
    await _update(connection, found["id"], changes)
    row = {**found, **changes}
    current, superseded = await _variants(connection, found["id"])
    return Claim(
        upload=to_upload(row, current),
        number=row["claim"],
        generation=row["generation"],
        crash_count=row["crash_count"],
        delete_original=row["delete_original"],
        began_ms=now,
        superseded=superseded,
    )


async def _held(connection: AsyncConnection, claim: Claim) -> Row | None:
    mine = {"upload": str(claim.upload.id), "number": claim.number}
    found = (await connection.execute(_HELD, mine)).mappings().one_or_none()
    return dict(found) if found is not None else None


async def _write(connection: AsyncConnection, outcome: Outcome, now: int) -> Committed:
    row = await _held(connection, outcome.claim)
    if row is None:
        return Committed(outcome.claim.upload.id, None)
    if isinstance(outcome, Ready) and await _is_condemned(connection, outcome, now):
        # A sweep is moving one of these files away: publish them again in a moment.
        reason = "a sweep is moving a file of this name away"
        outcome = Postponed(outcome.claim, "storage_unavailable", reason, CONDEMNED_DELAY_MS, counted=False)
    changes = {"holder": None, "crash_count": 0, "changed_ms": now, **_changes(outcome, row, now)}
    if isinstance(outcome, Ready):
        await _replace_variants(connection, outcome, now)
    if isinstance(outcome, Removed):
        await connection.execute(delete(variants).where(variants.c.upload_id == row["id"]))
    if _is_half(outcome, row):
        changes |= {"state": State.DELETING, "metadata": row["metadata"], "delete_original": True}
        changes |= {"not_before_ms": now}
    if _is_stale(outcome, row):
        changes |= {"state": State.QUEUED, "attempts": 0, "not_before_ms": now, "revive": False}
    await _update(connection, row["id"], changes)
    changed = {**row, **changes}
    final = changed["state"] in (State.READY, State.FAILED, State.DELETED)
    message = _message(changed, row["metadata"], outcome, now) if final else None
    due_in_ms = max(0, changed["not_before_ms"] - now)
    return Committed(
        outcome.claim.upload.id, State(changed["state"]), changed["attempts"], message, due_in_ms
    )


async def _is_condemned(connection: AsyncConnection, outcome: Ready, now: int) -> bool:
    began, until = outcome.claim.began_ms, now + _A_CLAIM_MS
    if now < began < now + _A_CENTURY_MS:
        began, until = 0, _LATER  # the clock was put back meanwhile: nobody knows what came after what
    key_range = {"keys": [one.key for one in outcome.variants], "began_ms": began, "until_ms": until}
    return (await connection.execute(_CONDEMNED, key_range)).first() is not None


def _is_stale(outcome: Outcome, row: Row) -> bool:
    """Whether an event has come since the claim that wants the upload done once more."""
    if row["state"] == State.DELETING:
        return isinstance(outcome, Removed) and bool(row["revive"])
    return bool(row["generation"] != outcome.claim.generation)


def _is_half(outcome: Outcome, row: Row) -> bool:
    """Whether the original is to go too, which whoever removed the rest could not know."""
    wanted = row["delete_original"] and not row["revive"]
    return isinstance(outcome, Removed) and wanted and not outcome.claim.delete_original


def _changes(outcome: Outcome, row: Row, now: int) -> Row:
    match outcome:
        case Ready(_, original):
            done = {"state": State.READY, "attempts": 0, "seen": None}
            return {**done, **_error(None, None), **_read(original)}
        case Failed(_, code, message):
            failed = {"state": State.FAILED, "attempts": row["attempts"] + 1, "seen": None}
            return {**failed, **_error(code, message)}
        case Postponed(_, code, message, delay_ms, counted, seen):
            return {
                "seen": row["seen"] if seen is None else sight(seen),
                "state": State.DELETING if row["state"] == State.DELETING else State.QUEUED,
                "attempts": row["attempts"] + counted,
                "not_before_ms": now + delay_ms,
                **_error(code, message),
            }
        case Removed():
            gone = {"metadata": "{}"} if not row["revive"] else {}
            done = {"state": State.DELETED, "attempts": 0, "delete_original": False, "seen": None}
            return {**done, **gone, **_error(None, None), **_read(None)}


def _error(code: str | None, message: str | None) -> Row:
    return {"error_code": code, "error_message": message}


def _read(original: Original | None) -> Row:
    return {name: getattr(original, name, None) for name in Original.__dataclass_fields__}


async def _replace_variants(connection: AsyncConnection, outcome: Ready, now: int) -> None:
    upload_id = str(outcome.claim.upload.id)
    keys = [variant.key for variant in outcome.variants]
    if outcome.claim.upload.variants:  # whoever else could have added some would hold the claim
        await connection.execute(_SUPERSEDE, {"upload": upload_id, "keys": keys, "superseded_ms": now})
    await connection.execute(
        _STORE,
        [
            {**asdict(variant), "upload_id": upload_id, "number": number, "made_ms": now}
            for number, variant in enumerate(outcome.variants)
        ],
    )


async def _variants(
    connection: AsyncConnection, upload_id: str
) -> tuple[Sequence[StoredVariant], Sequence[StoredVariant]]:
    """The upload's current variants, and its superseded ones."""
    found = (await connection.execute(_ALL_OF_UPLOAD, {"upload": upload_id})).mappings().all()
    current = [to_variant(dict(row)) for row in found if row["superseded_ms"] is None]
    return current, [to_variant(dict(row)) for row in found if row["superseded_ms"] is not None]


async def _update(connection: AsyncConnection, upload_id: str, values: Row) -> None:
    await connection.execute(_CHANGE, {"upload": upload_id, **values})


def _message(row: Row, metadata: str, outcome: Outcome, now: int) -> Message:
    made = outcome.variants if isinstance(outcome, Ready) else ()
    kept = isinstance(outcome, Removed) and outcome.kept is not None
    return replace(message_of(row, metadata, made, now), original_kept=kept)
