"""Replacing: an upload that is ready takes the place of another, in the transaction of its outcome.

What the other one has made is superseded, as if its own original had changed: it stays served for a while.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import bindparam, select, update

from storage.catalog.events import GOING, NOTHING_READ, position_columns, position_of, tombstone
from storage.catalog.records import Claim, Domain, Message, OriginalFate, Ready, State, StreamId
from storage.catalog.rows import Row, message_of
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.statements import PreparedStatement
from storage.catalog.tables import uploads, variants

MOST_AT_ONCE = 100  # uploads that one replaces in a transaction, for which others wait

_ONE = select(uploads).where(uploads.c.id == bindparam("upload"))
_READ = PreparedStatement(_ONE)
_LOCK = PreparedStatement(_ONE.with_for_update(key_share=True))
_END = PreparedStatement(
    update(uploads).where(uploads.c.id == bindparam("upload"), uploads.c.state.not_in(GOING))
)
_LEAVE = PreparedStatement(update(uploads).where(uploads.c.id == bindparam("upload")))
_ADD = insert(uploads).on_conflict_do_nothing(index_elements=["id"]).returning(uploads.c.id)
_SUPERSEDE_ALL = PreparedStatement(
    update(variants)
    .where(variants.c.upload_id == bindparam("upload"), variants.c.superseded_ms.is_(None))
    .values(superseded_ms=bindparam("now"))
)


def app_of(source: str | None, domains: Sequence[Domain]) -> Domain | None:
    """The app with a stream of its own whose that source is."""
    return next((domain for domain in domains if source is not None and domain.holds(source)), None)


def may_replace(source: str | None, other: str | None, domains: Sequence[Domain]) -> bool:
    """Whether an upload of `source` may take the place of one of `other`: an app's only of its own."""
    app = app_of(source, domains)
    return app is None or (other is not None and app.holds(other))


async def find_replaced(
    connection: AsyncConnection, claim: Claim, domains: Sequence[Domain], *, lock: bool = False
) -> Sequence[Row] | None:
    """The rows in whose place an upload comes once it is ready; None: there is no upload that it names.

    They are the one that it names, the one that this was to replace and has not replaced, and so on. None of
    them is going, and none was announced again after the event that asks for it. Of a long chain there is one
    more than `MOST_AT_ONCE`.
    """
    if claim.replaces is None:
        return []
    statement = _LOCK if lock else _READ
    found: dict[str, Row] = {}
    following: str | None = str(claim.replaces.id)
    mine = str(claim.upload.id)
    while following not in (None, mine) and following not in found and len(found) <= MOST_AT_ONCE:
        rows = await statement.rows(connection, {"upload": following})
        if not rows and not found:
            return None
        if not rows or not _may_go(rows[0], claim, domains):
            break
        found[following] = rows[0]
        following = rows[0]["replaces"]
    return list(found.values())


def _may_go(row: Row, claim: Claim, domains: Sequence[Domain]) -> bool:
    is_older = claim.replaces is not None and position_of(row) <= claim.replaces.asked
    is_allowed = may_replace(claim.upload.source, row["source"], domains)
    return row["state"] not in GOING and is_older and is_allowed


async def replace_uploads(
    connection: AsyncConnection, outcome: Ready, now: int, domains: Sequence[Domain]
) -> Sequence[Message]:
    """Take the place of what a ready upload replaces; returns the messages about that.

    What exceeds `MOST_AT_ONCE` goes when this upload is ready again, or with it when that is replaced.
    """
    claim = outcome.claim
    if claim.replaces is None:
        return []
    rows = await find_replaced(connection, claim, domains, lock=True)
    if rows is None:
        app = app_of(claim.upload.source, domains)
        # An older event may come yet, by another worker. No app leaves a row of what it never announced.
        if app is not None or await _leave_tombstone(connection, claim, now):
            return [_never_there(claim, claim.replaces.id, now, app)]
        rows = await find_replaced(connection, claim, domains, lock=True) or ()
    if len(rows) > MOST_AT_ONCE:
        await _LEAVE.count(connection, {"upload": str(claim.upload.id), "replaces": rows[MOST_AT_ONCE]["id"]})
    told = []
    for row in rows[:MOST_AT_ONCE]:
        fate = outcome.originals.get(UUID(row["id"]), OriginalFate.KEPT)
        told.append(await take_place(connection, row, claim.upload.id, claim.replaces.asked, fate, now))
    return [message for message in told if message is not None]


async def take_place(
    connection: AsyncConnection, row: Row, by: UUID, asked: StreamId, fate: OriginalFate, now: int
) -> Message | None:
    """Have the upload `by` in the place of the one of `row`, of whose original that is the fate.

    Returns the message about that; None, and nothing is written, where it is going already.
    """
    changes = {
        **position_columns(asked),
        **_gone(row, now),
        "replaced_by": str(by),
        "original_fate": fate,
    }
    if not await _END.count(connection, {"upload": row["id"], **changes}):
        return None
    await _SUPERSEDE_ALL.count(connection, {"upload": row["id"], "now": now})
    return message_of({**row, **changes}, row["metadata"], (), now)


def _gone(row: Row, now: int) -> Row:
    """A row as a deletion leaves it; whoever works on the upload must not write its result any more."""
    return {
        "state": State.DELETED,
        "metadata": "{}",
        "claim": row["claim"] + 1,
        "holder": None,
        "changed_ms": now,
        "replaces": None,
        "revive": False,
        "delete_original": False,
        "attempts": 0,
        "crash_count": 0,
        "error_code": None,
        "error_message": None,
        "seen": None,
        **NOTHING_READ,
    }


async def _leave_tombstone(connection: AsyncConnection, claim: Claim, now: int) -> bool:
    """Leave the row of a deletion for the id that the upload replaces; False where there is one by now."""
    if claim.replaces is None:
        return False
    gone = tombstone(claim.replaces.id, claim.replaces.asked, now)
    row = {**gone, "replaced_by": str(claim.upload.id)}
    return bool((await connection.execute(_ADD, [row])).all())


def _never_there(claim: Claim, upload_id: UUID, now: int, app: Domain | None) -> Message:
    return Message(
        seq=0,
        kind=State.DELETED,
        id=upload_id,
        source=None,
        recipe="",
        metadata={},
        time_ms=now,
        traceparent=claim.upload.traceparent,
        stream=app.stream if app else None,
        replaced_by=claim.upload.id,
        original_fate=OriginalFate.MISSING,
    )
