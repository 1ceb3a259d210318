"""Events become rows: one transaction for a whole batch."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog import outbox
from storage.catalog.clock import now_ms
from storage.catalog.database import Database
from storage.catalog.events import NotYours, apply
from storage.catalog.facts import DeadLetter, Notice, State, Taken, Unwished, Wished
from storage.catalog.letters import insert_letters
from storage.catalog.rows import Row
from storage.catalog.tables import uploads

Event = Wished | Unwished


class Intake:
    """The door through which events enter the catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self,
        events: Sequence[tuple[Event, DeadLetter]],
        letters: Sequence[DeadLetter],
        *,
        per_ticket: int,
        new_ticket: Callable[[], str],
    ) -> Taken:
        """Apply `events` in order and keep `letters`, all or nothing.

        Each event comes with the letter that it becomes should the catalog refuse it. Uploads that now
        wait for work are spread over new tickets, at most `per_ticket` on each.

        Raises: CatalogUnavailable.
        """
        now = now_ms()
        async with self._database.writing() as connection:
            rows = await _find(connection, {str(event.id) for event, _ in events})
            foundlings = await _find_adopted(connection, [event for event, _ in events])
            rows |= foundlings
            known = set(rows)
            waiting: dict[str, None] = {}
            answered: list[Row] = []
            refused: list[DeadLetter] = []
            for event, letter in _with_takeovers(events, foundlings):
                change = apply(rows.get(str(event.id)), event, now)
                if isinstance(change, NotYours):
                    refused.append(letter)
                elif change is not None:
                    rows[str(event.id)] = change.row
                    if change.wants_ticket:
                        waiting[str(event.id)] = None
                    if change.answers:
                        answered.append(change.row)
            tickets = _hand_out(rows, list(waiting), per_ticket, new_ticket)
            await _store(connection, rows, known)
            notices = await outbox.insert_notices(connection, [_gone(row, now) for row in answered])
            await insert_letters(connection, [*letters, *refused], now)
        return Taken(tickets, refused, notices)


def _with_takeovers(
    events: Sequence[tuple[Event, DeadLetter]], foundlings: Mapping[str, Row]
) -> Iterator[tuple[Event, DeadLetter]]:
    """The events, each that names an adopted upload's source under another id followed by its removal."""
    by_source = {row["source"]: UUID(row["id"]) for row in foundlings.values()}
    for event, letter in events:
        yield event, letter
        if isinstance(event, Wished) and not event.adopted:
            foundling = by_source.pop(event.source, event.id)
            if foundling != event.id:
                yield Unwished(event.mark, foundling), letter


def _hand_out(
    rows: dict[str, Row], waiting: Sequence[str], per_ticket: int, new_ticket: Callable[[], str]
) -> dict[str, list[UUID]]:
    tickets: dict[str, list[UUID]] = {}
    for start in range(0, len(waiting), per_ticket):
        ticket = new_ticket()
        ids = waiting[start : start + per_ticket]
        tickets[ticket] = [UUID(upload_id) for upload_id in ids]
        for upload_id in ids:
            rows[upload_id] = {**rows[upload_id], "ticket": ticket}
    return tickets


async def _find(connection: AsyncConnection, ids: Iterable[str]) -> dict[str, Row]:
    found = await connection.execute(select(uploads).where(uploads.c.id.in_(list(ids))))
    return {row["id"]: dict(row) for row in found.mappings()}


async def _find_adopted(connection: AsyncConnection, events: Sequence[Event]) -> dict[str, Row]:
    sources = {event.source for event in events if isinstance(event, Wished) and not event.adopted}
    if not sources:
        return {}
    query = select(uploads).where(
        uploads.c.source.in_(list(sources)),
        uploads.c.adopted,
        uploads.c.state.not_in((State.DELETING, State.DELETED)),
    )
    return {row["id"]: dict(row) for row in (await connection.execute(query)).mappings()}


async def _store(connection: AsyncConnection, rows: dict[str, Row], known: set[str]) -> None:
    new = [row for upload_id, row in rows.items() if upload_id not in known]
    old = [{**rows[upload_id], "row_id": upload_id} for upload_id in known]
    if new:
        await connection.execute(insert(uploads), new)
    if old:
        columns: Row = {column.name: bindparam(column.name) for column in uploads.c if column.name != "id"}
        await connection.execute(
            update(uploads).where(uploads.c.id == bindparam("row_id")).values(columns),
            [{name: value for name, value in row.items() if name != "id"} for row in old],
        )


def _gone(row: Row, now: int) -> Notice:
    return Notice(0, State.DELETED, UUID(row["id"]), row["source"], row["recipe"], {}, now)
