"""Dead letters: bytes that never became an upload, kept with the reason."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from sqlalchemy import Select, delete, func, select, true

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.paging import pages
from storage.catalog.records import DeadLetter
from storage.catalog.rows import without_nul
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.tables import dead_letters, summed, totals
from storage.totals import Count

MOST = 10_000  # dead letters that are kept, and their bytes
MOST_BYTES = 64 * 1024 * 1024
SHORT_BYTES = 4096  # of each that is no event, once half of the room is taken
NO_EVENT = "invalid_event"


class DeadLetters:
    """The dead letters of one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(
        self, limit: int, *, ids: Sequence[int] | None = None, code: str | None = None
    ) -> Sequence[DeadLetter]:
        """The newest dead letters, newest first: all, or those with these ids or that code."""
        query = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        if code is not None:
            query = query.where(dead_letters.c.code == code)
        if ids is None:
            return await self._read(query)
        newest_first = list(pages(sorted(ids, reverse=True)))
        found = [await self._read(query.where(dead_letters.c.id.in_(page))) for page in newest_first]
        return list(chain(*found))[:limit]

    async def of_entry(self, stream_id: str) -> DeadLetter | None:
        """The newest one of the entry with that ID in the stream; None: there is none, or no more."""
        query = select(dead_letters).where(dead_letters.c.stream_id == stream_id)
        found = await self._read(query.order_by(dead_letters.c.id.desc()).limit(1))
        return found[0] if found else None

    async def _read(self, query: Select[Any]) -> Sequence[DeadLetter]:
        async with self._database.reading() as connection:
            return [to_letter(dict(row)) for row in (await connection.execute(query)).mappings()]

    @repeated
    async def discard(self, ids: Sequence[int]) -> None:
        """Throw these dead letters away."""
        async with self._database.writing() as connection:
            for page in pages(ids):
                await connection.execute(delete(dead_letters).where(dead_letters.c.id.in_(page)))

    @repeated
    async def prune(self, before_ms: int) -> None:
        """Throw away what came before `before_ms`."""
        # In order of arrival, so that only what goes, and the first that stays, is read.
        old = dead_letters.c.received_ms < before_ms
        first = select(dead_letters.c.id).where(~old).order_by(dead_letters.c.id).limit(1)
        async with self._database.writing() as connection:
            stays = (await connection.execute(first)).scalar_one_or_none()
            earlier = dead_letters.c.id < stays if stays is not None else true()
            await connection.execute(delete(dead_letters).where(old, earlier))  # one may have arrived since

    @repeated
    async def prune_surplus(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> int:
        """Throw the oldest away where there are more, or more bytes of them; returns how many went.

        Then a tenth of the room is free.
        """
        async with self._database.reading() as connection:
            kept = await _amount(connection)
        if kept.count <= most and kept.bytes <= most_bytes:
            return 0
        spare, spare_bytes = kept.count - most * 9 // 10, kept.bytes - most_bytes * 9 // 10
        sizes = select(dead_letters.c.id, func.length(dead_letters.c.body)).order_by(dead_letters.c.id)
        gone = 0
        async with self._database.writing() as connection:
            for letter_id, size in await connection.execute(sizes.limit(kept.count)):
                if spare <= 0 and spare_bytes <= 0:
                    break
                last, gone, spare, spare_bytes = letter_id, gone + 1, spare - 1, spare_bytes - size
            if gone:
                await connection.execute(delete(dead_letters).where(dead_letters.c.id <= last))
        return gone

    async def count(self) -> int:
        """How many dead letters there are."""
        async with self._database.reading() as connection:
            return (await connection.execute(select(func.count()).select_from(dead_letters))).scalar_one()


def to_letter(row: Mapping[str, Any]) -> DeadLetter:
    """A dead letter out of its row."""
    return DeadLetter(
        stream_id=row["stream_id"],
        code=row["code"],
        message=row["message"],
        body=row["body"],
        time_ms=row["received_ms"],
        id=row["id"],
    )


async def _amount(connection: AsyncConnection) -> Count:
    """How many there are, and their bytes, by the totals."""
    sums = [summed(totals.c[name]) for name in ("files", "bytes")]
    found = (await connection.execute(select(*sums).where(totals.c.what == "dead_letter"))).one()
    return Count(found[0], found[1])


async def insert_dead_letters(
    connection: AsyncConnection, letters: Sequence[DeadLetter], refused: Sequence[DeadLetter], now: int
) -> Sequence[DeadLetter]:
    """Keep `letters`, and those of events that could be read but were `refused`; returns the new ones.

    One that is there already (its entry was read twice) stays.
    """
    letters = [*await _shortened(connection, letters), *refused]
    if not letters:
        return []
    found = await connection.execute(
        insert(dead_letters)
        .on_conflict_do_nothing()
        .returning(dead_letters.c.epoch, dead_letters.c.stream_id),
        [
            {
                "stream_id": letter.stream_id,
                "epoch": letter.position.epoch,
                "code": letter.code,
                "message": without_nul(letter.message),
                "body": letter.body,
                "received_ms": now,
            }
            for letter in letters
        ],
    )
    new = {(row.epoch, row.stream_id) for row in found}
    return [letter for letter in letters if (letter.position.epoch, letter.stream_id) in new]


async def _shortened(connection: AsyncConnection, letters: Sequence[DeadLetter]) -> Sequence[DeadLetter]:
    """The letters, those that are no event with less of their bytes once half of the room is taken.

    An app that sends nonsense all day is to push neither the disk's nor other apps' letters out. What may
    succeed when it is sent once more has to stay whole.
    """
    if not letters or (await _amount(connection)).bytes <= MOST_BYTES // 2:
        return letters
    return [
        replace(letter, body=letter.body[:SHORT_BYTES]) if letter.code == NO_EVENT else letter
        for letter in letters
    ]
