"""The outbox: messages for apps, written in the outcome's transaction and marked once they were sent."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any
from uuid import UUID

from sqlalchemy import Select, String, bindparam, func, insert, null, select, update

from storage.catalog.clock import SKEW_MS
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.paging import pages
from storage.catalog.pruning import prune
from storage.catalog.records import Message
from storage.catalog.rows import dump_message, to_message
from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.catalog.statements import PreparedStatement
from storage.catalog.tables import about, outbox
from storage.errors import CatalogDamaged

_PAGE = 500

_KEPT = select(outbox.c.seq, outbox.c.body, outbox.c.traceparent).order_by(outbox.c.seq)
_IN_ANY_SCHEMA = select(outbox.c.seq, outbox.c.body, null().label("traceparent")).order_by(outbox.c.seq)
_NEWEST = (
    select(about.label("upload_id"), func.max(outbox.c.seq).label("seq"))
    .where(about.in_(bindparam("ids", type_=String, expanding=True)))
    .group_by(about)
)
_MARK = update(outbox).where(outbox.c.seq.in_(bindparam("sent", expanding=True)))
_INSERT = PreparedStatement(insert(outbox).returning(outbox.c.seq, sort_by_parameter_order=True))


class Outbox:
    """The messages of one catalog, in the order of their `seq`. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now_ms(self) -> int:
        """This moment in ms since 1970, by the clock that all hosts of the catalog compare times by."""
        return self._database.now_ms()

    async def unsent(self, older_than_ms: int = 0, limit: int = _PAGE) -> Sequence[Message]:
        """The oldest messages that have waited that long without being marked as sent."""
        now = self._database.now_ms()
        # One from ahead was made before the clock was put back.
        late = (outbox.c.made_ms <= now - older_than_ms) | (outbox.c.made_ms > now + SKEW_MS)
        return await self._read(_KEPT.where(outbox.c.sent_ms.is_(None), late).limit(limit))

    @repeated
    async def mark_sent(self, messages: Sequence[Message]) -> None:
        """Remember that `messages` were sent."""
        now = self._database.now_ms()
        async with self._database.writing(inline=True) as connection:
            for page in pages([message.seq for message in messages]):
                await connection.execute(_MARK, {"sent": page, "sent_ms": now})

    async def since(self, seq: int, limit: int = _PAGE) -> Sequence[Message]:
        """The messages after `seq`, sent or not, oldest first."""
        return await self._read(_KEPT.where(outbox.c.seq > seq).limit(limit))

    async def since_in_any_schema(self, seq: int, limit: int = _PAGE) -> Sequence[Message]:
        """As `since`, in a catalog that may not have been migrated yet: without their `traceparent`."""
        return await self._read(_IN_ANY_SCHEMA.where(outbox.c.seq > seq).limit(limit))

    async def with_seqs(self, seqs: Sequence[int]) -> Sequence[Message]:
        """The messages with these `seq` that are still kept."""
        found = [await self._read(_KEPT.where(outbox.c.seq.in_(page))) for page in pages(sorted(seqs))]
        return list(chain(*found))

    async def _read(self, query: Select[Any]) -> Sequence[Message]:
        """The messages that can be read; one that cannot keeps no other from being sent."""
        messages = []
        async with self._database.reading() as connection:
            rows = (await connection.execute(query)).all()
        for row in rows:
            try:
                messages.append(to_message(row.seq, row.body, row.traceparent))
            except CatalogDamaged as error:
                self._database.met(error)
        return messages

    async def given_seq(self) -> int:
        """The greatest `seq` that was given, also of messages that are gone."""
        async with self._database.reading() as connection:
            return await self._database.backend.given_seq(connection)

    @repeated
    async def begin_above(self, seq: int) -> None:
        """Give no `seq` from now on that is not above that one."""
        async with self._database.writing() as connection:
            await self._database.backend.give_above(connection, seq)

    def stay_above(self, newest: Callable[[], Awaitable[int]]) -> None:
        """After each outage of the catalog, give no `seq` that is not above `newest`.

        Another server may have taken over that lacks the last messages, which apps have had.
        """
        self._database.backend.stay_above(newest)

    async def prune(self, before_ms: int) -> int:
        """Forget messages made before `before_ms` that were sent, or some of them; returns their number."""
        return await prune(self._database, outbox.c.made_ms, before_ms, outbox.c.sent_ms.is_not(None))


async def newest_seqs(connection: AsyncConnection, ids: Sequence[UUID]) -> Mapping[UUID, int]:
    """The `seq` of the newest message about each of these uploads, a page at most, that is kept."""
    found = await connection.execute(_NEWEST, {"ids": [str(each) for each in ids]})
    return {UUID(row.upload_id): row.seq for row in found}


async def insert_messages(connection: AsyncConnection, messages: Sequence[Message]) -> Sequence[Message]:
    """Add `messages` to the outbox, in the transaction that made them true; returns them with their `seq`."""
    if not messages:
        return []
    rows = [
        {"body": dump_message(message), "made_ms": message.time_ms, "traceparent": message.traceparent}
        for message in messages
    ]
    given = await _INSERT.numbers(connection, rows)
    return [replace(message, seq=seq) for message, seq in zip(messages, given, strict=True)]
