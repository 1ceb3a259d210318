"""Claims: the rights to work on uploads, given and ended."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from uuid import UUID

from sqlalchemy import bindparam, case, func, select, tuple_, update

from storage.catalog import tokens
from storage.catalog.claim_groups import ClaimGroups, HeldClaims, Wanted
from storage.catalog.clock import SKEW_MS
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.events import position_of
from storage.catalog.expressions import effective_account
from storage.catalog.locks import SWEEP, lock_free_uploads, lock_uploads
from storage.catalog.outbox import insert_messages
from storage.catalog.outcomes import HELD, parameters_of, which_hold, write_outcomes
from storage.catalog.paging import pages
from storage.catalog.records import (
    WAITING,
    Claim,
    Committed,
    Domain,
    Message,
    Outcome,
    Ready,
    ReplacedUpload,
    State,
)
from storage.catalog.replacing import find_replaced, replace_uploads
from storage.catalog.rows import Row, to_upload, to_variant
from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.statements import PreparedStatement
from storage.catalog.tables import Big, uploads, variants

# What every upload asks, made once: making a statement costs more than running it.
_DUE = (
    uploads.c.id.in_(bindparam("ids", expanding=True)),  # whose index serves
    tuple_(uploads.c.id, uploads.c.job_id).in_(bindparam("jobs", expanding=True)),
    uploads.c.state.in_(WAITING),
    # Whoever put it off did so by a clock that has been put back since: how long it was to wait is lost.
    (uploads.c.not_before_ms <= bindparam("now"))
    | (uploads.c.changed_ms > bindparam("now", type_=Big) + SKEW_MS),
)
_IS_DUE = PreparedStatement(select(uploads.c.id).where(*_DUE))
_CLAIM_DUE = (
    update(uploads)
    .where(*_DUE)
    .values(
        claim=tokens.NEXT,
        # A holder that has not ended its claim has died, unless it is the same one.
        crash_count=uploads.c.crash_count + case((uploads.c.holder != bindparam("by"), 1), else_=0),
        holder=bindparam("by"),
        state=case((uploads.c.state == State.DELETING, State.DELETING), else_=State.PROCESSING),
        changed_ms=bindparam("now"),
    )
    .returning(uploads)
)
_CLAIM = PreparedStatement(_CLAIM_DUE)
_CLAIM_THAT_MAY_BE_LOST = PreparedStatement(
    _CLAIM_DUE.where(
        uploads.c.state != State.DELETING,
        uploads.c.crash_count == 0,
        uploads.c.holder.is_(None) | (uploads.c.holder == bindparam("by")),
    )
)
_RELEASE = (
    update(uploads)
    .where(*HELD)
    # No holder: the next claim must not take this one for dead.
    .values(
        state=case((uploads.c.state == State.DELETING, State.DELETING), else_=State.QUEUED),
        holder=None,
        changed_ms=bindparam("now"),
    )
)
_OWNERS = select(uploads.c.id, uploads.c.account, uploads.c.owner, uploads.c.source).where(
    uploads.c.id.in_(bindparam("ids", expanding=True))
)
_ALL_OF_UPLOADS = PreparedStatement(
    select(variants).where(variants.c.upload_id.in_(bindparam("uploads", expanding=True)))
)


class Claims:
    """The rights to work on uploads. Every verb raises CatalogUnavailable."""

    def __init__(
        self, database: Database, committing: Database | None = None, domains: Sequence[Domain] = ()
    ) -> None:
        self._database = database
        self._committing = committing or database
        self._domains = domains
        self._groups = ClaimGroups(self._claim_some)
        self._held = HeldClaims(self._which_hold)

    async def claim(self, upload_id: UUID, job_id: str, holder: str) -> Claim | None:
        """Take the right to the upload's next outcome from whoever has it.

        None when there is nothing to do: it is on another job, it is done, or its time has not come.
        """
        return await self._groups.claim(upload_id, job_id, holder)

    @repeated
    async def _claim_some(self, wanted: Sequence[Wanted], *, waits: bool) -> Mapping[UUID, Claim | None]:
        now = self._database.now_ms()
        # A crash of the database that loses such a claim leaves the upload queued as before. Its worker may
        # go on: no later claim has the same token.
        async with self._database.writing(inline=True, relaxed_durability=True) as connection:
            free = wanted if waits else await self._free(connection, wanted)
            claims = await _claim(connection, _CLAIM_THAT_MAY_BE_LOST, free, now)
            due = await _due(connection, [each for each in wanted if each.upload_id not in claims], now)
        left = [each for each in due if each in free]
        locked = [each for each in due if each not in free]
        if left:  # if this fails, whoever asks again has the others once more: they are the same holder's
            async with self._database.writing(inline=True) as connection:
                free = left if waits else await self._free(connection, left)
                claims |= await _claim(connection, _CLAIM, free, now)
            locked += [each for each in left if each not in free]
        return {each.upload_id: claims.get(each.upload_id) for each in wanted if each not in locked}

    async def _free(self, connection: AsyncConnection, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
        """Those whose rows nobody else has locked, which are locked now: an UPDATE would in any order."""
        if not self._database.backend.locks_rows:
            return wanted
        free = await lock_free_uploads(connection, [each.upload_id for each in wanted])
        return [each for each in wanted if each.upload_id in free]

    async def holds(self, claim: Claim) -> bool:
        """Whether `claim` is still the newest of its upload."""
        return await self._held.holds(claim)

    async def _which_hold(self, claims: Sequence[Claim]) -> Sequence[bool]:
        async with self._database.reading(inline=True) as connection:
            return await which_hold(connection, claims)

    async def keys_of(self, upload_id: UUID) -> Sequence[str]:
        """The keys of all the upload's variants, superseded ones too."""
        query = select(variants.c.key).where(variants.c.upload_id == str(upload_id))
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def sources_replaced(self, claim: Claim) -> Mapping[UUID, str | None]:
        """The originals of the uploads in whose place a claimed one comes once it is ready."""
        if claim.replaces is None:
            return {}
        async with self._database.reading() as connection:
            rows = await find_replaced(connection, claim, self._domains)
        return {UUID(row["id"]): row["source"] for row in rows or ()}

    async def others_with(self, sources: Sequence[str], upload_id: UUID) -> int:
        """How many other uploads, not deleted, have one of `sources`."""
        query = select(func.count()).where(
            uploads.c.source.in_(list(sources)),
            uploads.c.id != str(upload_id),
            uploads.c.state.not_in((State.DELETED, State.DELETING)),
        )
        async with self._database.reading() as connection:
            return (await connection.execute(query)).scalar_one()

    @repeated
    async def commit(self, outcomes: Sequence[Outcome]) -> Sequence[Committed]:
        """Write `outcomes` in one transaction, each only where its claim still holds.

        Raises: CatalogUnavailable; then none of them was written.
        """
        error_ms = self._database.backend.clock_error_ms
        in_order = sorted(outcomes, key=lambda outcome: str(outcome.claim.upload.id))
        async with self._committing.writing(inline=True) as connection:
            if any(isinstance(outcome, Ready) for outcome in outcomes):
                await self._database.share(connection, SWEEP)
            replacing = [one.claim for one in in_order if isinstance(one, Ready) and one.claim.replaces]
            if replacing:  # all rows in one order
                ids = {outcome.claim.upload.id for outcome in in_order}
                await lock_uploads(connection, ids | {one.replaces.id for one in replacing if one.replaces})
            now = self._database.now_ms()
            committed = await write_outcomes(connection, in_order, now, error_ms)
            done = dict(zip(map(id, in_order), committed, strict=True))
            written = [(outcome, done[id(outcome)]) for outcome in outcomes]
            if replacing:
                written = [
                    (outcome, await self._with_replaced(connection, outcome, result, now))
                    for outcome, result in written
                ]
            results = [result for _, result in written]
            messages = iter(await insert_messages(connection, _in_order(results)))
        return _numbered(results, messages)

    async def _with_replaced(
        self, connection: AsyncConnection, outcome: Outcome, result: Committed, now: int
    ) -> Committed:
        """The result, once what the upload replaces is superseded."""
        if not isinstance(outcome, Ready) or result.state is not State.READY:
            return result
        return replace(result, replaced=await replace_uploads(connection, outcome, now, self._domains))

    async def make_due(self, ids: Sequence[UUID]) -> Sequence[str]:
        """Make those of `ids` due that are put off; returns their jobs."""
        found = [await self._make_page_due(page) for page in pages(ids)]
        return sorted(set(chain(*found)))

    @repeated
    async def _make_page_due(self, ids: Sequence[UUID]) -> Sequence[str]:
        now = self._database.now_ms()
        chosen = uploads.c.id.in_([str(each) for each in ids]), uploads.c.not_before_ms > now
        changes = {"changed_ms": now, "not_before_ms": now}
        made_due = update(uploads).where(*chosen, uploads.c.state == State.QUEUED).values(changes)
        async with self._database.writing() as connection:
            await lock_uploads(connection, ids)
            found = await connection.execute(made_due.returning(uploads.c.job_id))
            return list(found.scalars())

    async def owners_of(self, ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """Whose each of these uploads is, by account, before anybody has claimed it."""
        found: dict[UUID, str] = {}
        async with self._database.reading() as connection:
            for page in pages([str(each) for each in ids]):
                rows = await connection.execute(_OWNERS, {"ids": page})
                found |= {UUID(row["id"]): effective_account(dict(row)) for row in rows.mappings()}
        return found

    async def waits_ms(self, ids: Iterable[UUID], job_id: str) -> Mapping[UUID, int]:
        """Milliseconds until each upload is due, of those `ids` that are on that job and unclaimed."""
        now = self._database.now_ms()
        waiting = uploads.c.state.in_((State.QUEUED, State.DELETING)), uploads.c.holder.is_(None)
        query = select(uploads.c.id, uploads.c.not_before_ms).where(uploads.c.job_id == job_id, *waiting)
        found: dict[UUID, int] = {}
        async with self._database.reading() as connection:
            for page in pages([str(each) for each in ids]):
                rows = await connection.execute(query.where(uploads.c.id.in_(page)))
                found |= {UUID(row.id): max(0, row.not_before_ms - now) for row in rows}
        return found

    @repeated
    async def release(self, claims: Sequence[Claim]) -> None:
        """Give `claims` back, as if they had never been taken."""
        now = self._database.now_ms()
        async with self._database.writing() as connection:
            for claim in sorted(claims, key=lambda claim: str(claim.upload.id)):
                await connection.execute(_RELEASE, {**parameters_of(claim), "now": now})


def _in_order(results: Sequence[Committed]) -> Sequence[Message]:
    """The messages of these results: what was replaced comes behind what has replaced it."""
    own = [result.message for result in results if result.message is not None]
    return [*own, *chain.from_iterable(result.replaced for result in results)]


def _numbered(results: Sequence[Committed], messages: Iterator[Message]) -> Sequence[Committed]:
    """The results, with their messages as they are in the outbox, in the same order."""
    own = [replace(one, message=next(messages)) if one.message else one for one in results]
    return [
        replace(one, replaced=[next(messages) for _ in one.replaced]) if one.replaced else one for one in own
    ]


def _asked(wanted: Sequence[Wanted], now: int) -> Row:
    """What `_DUE` asks of these uploads."""
    jobs = [(str(each.upload_id), each.job_id) for each in wanted]
    return {"ids": [upload_id for upload_id, _ in jobs], "jobs": jobs, "now": now}


async def _due(connection: AsyncConnection, wanted: Sequence[Wanted], now: int) -> Sequence[Wanted]:
    """Those that may be claimed."""
    rows = await _IS_DUE.rows(connection, _asked(wanted, now)) if wanted else ()
    due = {row["id"] for row in rows}
    return [each for each in wanted if str(each.upload_id) in due]


async def _claim(
    connection: AsyncConnection, statement: PreparedStatement, wanted: Sequence[Wanted], now: int
) -> dict[UUID, Claim]:
    if not wanted:
        return {}
    asked = {**_asked(wanted, now), "by": wanted[0].holder, "chance": tokens.chance()}
    rows = await statement.rows(connection, asked)
    # Nobody can have written variants of one that was never claimed before.
    made = await _variants(connection, [row["id"] for row in rows if tokens.count(row["claim"]) > 1])
    claims = (_to_claim(row, made.get(row["id"], ()), now) for row in rows)
    return {claim.upload.id: claim for claim in claims}


def _to_claim(row: Row, made: Sequence[Row], now: int) -> Claim:
    return Claim(
        upload=to_upload(row, [to_variant(each) for each in made if each["superseded_ms"] is None]),
        token=row["claim"],
        generation=row["generation"],
        crash_count=row["crash_count"],
        delete_original=row["delete_original"],
        account=effective_account(row),
        began_ms=now,
        superseded=[to_variant(each) for each in made if each["superseded_ms"] is not None],
        replaces=ReplacedUpload(UUID(row["replaces"]), position_of(row)) if row["replaces"] else None,
    )


async def _variants(connection: AsyncConnection, upload_ids: Sequence[str]) -> Mapping[str, Sequence[Row]]:
    """The variants of these uploads, superseded ones too."""
    made: dict[str, list[Row]] = {}
    if upload_ids:
        for row in await _ALL_OF_UPLOADS.rows(connection, {"uploads": list(upload_ids)}):
            made.setdefault(row["upload_id"], []).append(row)
    return made
