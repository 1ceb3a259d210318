"""Outcomes: what came of a try, written only where its claim still holds.

Every condition stands in the statement that writes, and the number of rows that it changed decides: a claim
that somebody else has taken over, or a mark that a sweep has set, may come between any two statements.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

from sqlalchemy import bindparam, delete, exists, func, select, tuple_, update

from storage.blobs import fingerprint
from storage.catalog.locks import lock_uploads
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
    State,
    StoredVariant,
)
from storage.catalog.rows import Row, message_of, placeholder_of, without_nul
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.statements import PreparedStatement
from storage.catalog.tables import deletion_marks, uploads, variants

MARKED_DELAY_MS = 1000
_LATER = 2**62  # for a mark of a sweep that is still moving the file
_A_CLAIM_MS = 600_000  # longer than anybody holds one
_A_CENTURY_MS = 100 * 365 * 86_400_000  # by which a clock can have been put back

# What every upload asks, made once: making a statement costs more than running it.
_CLAIMED = (State.PROCESSING, State.DELETING)
MINE = (
    uploads.c.id == bindparam("upload"),
    uploads.c.claim == bindparam("token"),
    uploads.c.state.in_(_CLAIMED),
)
# Who has postponed or released a deletion has ended the claim, though the upload is deleting still.
HELD = (*MINE, uploads.c.holder.is_not(None))
_EACH_HELD = (
    uploads.c.id.in_(bindparam("ids", expanding=True)),  # whose index serves; one by state may be long
    tuple_(uploads.c.id, uploads.c.claim).in_(bindparam("claims", expanding=True)),
    uploads.c.state.not_in([state for state in State if state not in _CLAIMED]),
    uploads.c.holder.is_not(None),
)
_END_CLAIMS = PreparedStatement(update(uploads).where(*_EACH_HELD).values(holder=None).returning(uploads))
_FIND_HELD = PreparedStatement(select(uploads.c.id, uploads.c.claim).where(*_EACH_HELD))
_CHANGE_MINE = update(uploads).where(*MINE)
_CHANGE = PreparedStatement(_CHANGE_MINE)
_SUPERSEDE = PreparedStatement(
    update(variants)
    .where(
        variants.c.upload_id == bindparam("upload"),
        variants.c.superseded_ms.is_(None),
        variants.c.key.not_in(bindparam("keys", expanding=True)),
    )
    .values(superseded_ms=bindparam("now"))
)
_NEW = insert(variants)
_STORE = PreparedStatement(
    _NEW.on_conflict_do_update(
        index_elements=["key"],
        set_={
            **{name: _NEW.excluded[name] for name in ("number", "width", "height", "bytes", "sha256")},
            "superseded_ms": None,
        },
    )
)


@cache
def _change_unless_marked(count: int) -> PreparedStatement:
    """The statement for so many keys: a list of any length would be written into it each time."""
    is_marked = exists().where(
        deletion_marks.c.key.in_([bindparam(name) for name in _key_names(count)]),
        # A file that was moved away since the claim began may be one that its worker has found or published.
        func.coalesce(deletion_marks.c.moved_ms, _LATER) >= bindparam("began_ms"),
        (deletion_marks.c.moved_ms <= bindparam("until_ms")) | deletion_marks.c.moved_ms.is_(None),
    )
    return PreparedStatement(_CHANGE_MINE.where(~is_marked))


def _key_names(count: int) -> Sequence[str]:
    return [f"key_{number}" for number in range(count)]


async def write_outcomes(
    connection: AsyncConnection, outcomes: Sequence[Outcome], now: int, error_ms: int
) -> Sequence[Committed]:
    """Write each outcome and end its claim, or nothing where the claim does not hold any more."""
    made: list[Row] = []
    rows = await _end_claims(connection, [outcome.claim for outcome in outcomes])
    committed = [
        await _write_outcome(connection, outcome, rows.pop(_key_of(outcome.claim), None), now, error_ms, made)
        for outcome in outcomes
    ]
    if made:  # all together: each statement of its own would be a round trip
        await _STORE.each(connection, made)
    return committed


async def _write_outcome(
    connection: AsyncConnection, outcome: Outcome, row: Row | None, now: int, error_ms: int, made: list[Row]
) -> Committed:
    """Write all but the rows of new variants, which are added to `made`."""
    if row is None:
        return Committed(outcome.claim.upload.id, None)
    changes = changes_of(outcome, row, now)
    if await _write(connection, outcome, changes, now, error_ms):
        made += _new_variants(outcome, now)
    else:
        # A sweep is moving one of these files away: publish them again in a moment.
        reason, delay_ms = "a sweep is moving a file of this name away", MARKED_DELAY_MS + error_ms
        outcome = Postponed(outcome.claim, "storage_unavailable", reason, delay_ms, counted=False)
        changes = changes_of(outcome, row, now)
        await _write(connection, outcome, changes, now, error_ms)
    changed = {**row, **changes}
    final = changed["state"] in (State.READY, State.FAILED, State.DELETED)
    return Committed(
        outcome.claim.upload.id,
        State(changed["state"]),
        changed["attempts"],
        _message(changed, row, outcome, now) if final else None,
        max(0, changed["not_before_ms"] - now),
    )


async def _end_claims(connection: AsyncConnection, claims: Sequence[Claim]) -> dict[tuple[str, int], Row]:
    """Take the claims that hold; returns their rows, which nobody else changes in this transaction."""
    ids = [claim.upload.id for claim in claims]
    if len(ids) > 1:
        await lock_uploads(connection, ids)  # an UPDATE would lock them in any order
    rows = await _END_CLAIMS.rows(connection, _parameters_of_each(claims))
    return {(row["id"], row["claim"]): row for row in rows}


async def which_hold(connection: AsyncConnection, claims: Sequence[Claim]) -> Sequence[bool]:
    """Whether each of the claims is still the newest of its upload, and not ended."""
    rows = await _FIND_HELD.rows(connection, _parameters_of_each(claims))
    held = {(row["id"], row["claim"]) for row in rows}
    return [_key_of(claim) in held for claim in claims]


def _parameters_of_each(claims: Sequence[Claim]) -> Row:
    """What `_EACH_HELD` asks."""
    mine = list(map(_key_of, claims))
    return {"ids": [upload_id for upload_id, _ in mine], "claims": mine}


def _key_of(claim: Claim) -> tuple[str, int]:
    return str(claim.upload.id), claim.token


def parameters_of(claim: Claim) -> Row:
    """What `MINE` asks."""
    return {"upload": str(claim.upload.id), "token": claim.token}


async def _write(
    connection: AsyncConnection, outcome: Outcome, changes: Row, now: int, error_ms: int
) -> bool:
    """Write the row, and end old variants; False, and nothing is written, where a file has a mark."""
    mine = {**parameters_of(outcome.claim), **changes}
    match outcome:
        case Ready():
            marks = _marks_that_count(outcome, now, error_ms)
            change = _change_unless_marked(len(outcome.variants))
            if not await change.count(connection, {**mine, **marks}):
                return False
            await _supersede_others(connection, outcome, now)
        case Removed():
            await _CHANGE.count(connection, mine)
            await connection.execute(delete(variants).where(variants.c.upload_id == mine["upload"]))
        case _:
            await _CHANGE.count(connection, mine)
    return True


def _marks_that_count(outcome: Ready, now: int, error_ms: int) -> Row:
    began, until = outcome.claim.began_ms, now + _A_CLAIM_MS
    if now < began < now + _A_CENTURY_MS:
        began, until = 0, _LATER  # the clock was put back meanwhile: nobody knows what came after what
    keys = [one.key for one in outcome.variants]
    return {
        **dict(zip(_key_names(len(keys)), keys, strict=True)),
        "began_ms": began - error_ms,
        "until_ms": until,
    }


async def _supersede_others(connection: AsyncConnection, outcome: Ready, now: int) -> None:
    upload = outcome.claim.upload
    if upload.variants:  # whoever else could have added some would hold the claim
        keys = [variant.key for variant in outcome.variants]
        await _SUPERSEDE.count(connection, {"upload": str(upload.id), "keys": keys, "now": now})


def _new_variants(outcome: Outcome, now: int) -> Iterator[Row]:
    for number, variant in enumerate(outcome.variants if isinstance(outcome, Ready) else ()):
        upload_id = str(outcome.claim.upload.id)
        yield {**vars(variant), "upload_id": upload_id, "number": number, "made_ms": now}


# -- the state machine of outcomes, without a database


def changes_of(outcome: Outcome, row: Row, now: int) -> Row:
    """The columns that `outcome` changes in `row`, which may have been changed since the claim began."""
    crash_count = row["crash_count"] if isinstance(outcome, Postponed) and outcome.keeps_crash_count else 0
    changes = {"crash_count": crash_count, "changed_ms": now, **_plain_changes(outcome, row, now)}
    if _original_remains(outcome, row):
        changes |= {"state": State.DELETING, "metadata": row["metadata"], "delete_original": True}
        changes |= {"not_before_ms": now}
    if _was_requested_again(outcome, row):
        changes |= {"state": State.QUEUED, "attempts": 0, "not_before_ms": now, "revive": False}
        changes |= {"crash_count": 0, "replaces": row["replaces"]}
    return changes


def _was_requested_again(outcome: Outcome, row: Row) -> bool:
    """Whether an event since the claim requests the upload once more."""
    if row["state"] == State.DELETING:
        return isinstance(outcome, Removed) and bool(row["revive"])
    return bool(row["generation"] != outcome.claim.generation)


def _original_remains(outcome: Outcome, row: Row) -> bool:
    """Whether the original is to go too, which whoever removed the rest could not know."""
    wanted = row["delete_original"] and not row["revive"]
    return isinstance(outcome, Removed) and wanted and not outcome.claim.delete_original


def _plain_changes(outcome: Outcome, row: Row, now: int) -> Row:
    match outcome:
        case Ready(_, original):
            done = {"state": State.READY, "attempts": 0, "seen": None, "replaces": None}
            return {**done, **_error(None, None), **_read(original)}
        case Failed(_, code, message):
            failed = {"state": State.FAILED, "attempts": row["attempts"] + 1, "seen": None}
            return {**failed, **_error(code, message)}
        case Postponed(_, code, message, delay_ms, counted, seen, _):
            return {
                "seen": row["seen"] if seen is None else fingerprint(seen),
                "state": State.DELETING if row["state"] == State.DELETING else State.QUEUED,
                "attempts": row["attempts"] + counted,
                "not_before_ms": now + delay_ms,
                **_error(code, message),
            }
        case Removed(original=fate):
            gone = {"metadata": "{}", "original_fate": fate} if not row["revive"] else {}
            done = {"state": State.DELETED, "attempts": 0, "delete_original": False, "seen": None}
            return {**done, **gone, **_error(None, None), **_read(None)}


def _error(code: str | None, message: str | None) -> Row:
    return {"error_code": code, "error_message": message and without_nul(message)}


def _read(original: Original | None) -> Row:
    of = None if original is None else placeholder_of(original.sha256)
    return {
        **{name: getattr(original, name, None) for name in Original.__dataclass_fields__},
        "placeholder_of": of,
    }


def _message(row: Row, before: Row, outcome: Outcome, now: int) -> Message:
    """The message about a row, which has forgotten some of what it said before."""
    made: Sequence[StoredVariant] = outcome.variants if isinstance(outcome, Ready) else ()
    kept = isinstance(outcome, Removed) and outcome.kept is not None
    claim = outcome.claim
    is_newest = row["traceparent"] == claim.upload.traceparent
    traceparent = claim.traceparent if is_newest and claim.traceparent else row["traceparent"]
    replaces = claim.replaces.id if claim.replaces and isinstance(outcome, Ready) else None
    message = message_of(row, before["metadata"], made, now)
    return replace(message, original_kept=kept, traceparent=traceparent, replaces=replaces)
