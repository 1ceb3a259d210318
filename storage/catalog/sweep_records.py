"""What a sweep reads and notes in the catalog: rows of variants, findings, checkpoints, and its lease."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from storage.catalog import locks
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.kv import Checkpoint, read_value, write_value
from storage.catalog.leases import drop_lease, take_lease
from storage.catalog.records import State
from storage.catalog.tables import summed, totals, uploads, variants
from storage.totals import LAST_SWEEP, Count, Swept

SWEEP = "lease:sweep"
VERIFY = "lease:verify"  # beside it: verifying takes long and touches nothing
_PAGE = 5000
_ROW = select(
    variants.c.key,
    variants.c.upload_id,
    variants.c.bytes,
    variants.c.sha256,
    variants.c.superseded_ms,
    uploads.c.state,
).outerjoin(uploads, uploads.c.id == variants.c.upload_id)


@dataclass(frozen=True)
class VariantRow:
    """A row of `variants`: its key, its upload, the size and SHA-256 of its file, when it was superseded."""

    key: str
    upload_id: UUID
    bytes: int
    sha256: str
    superseded_ms: int | None  # None: it is current
    is_going: bool = False  # its upload is being deleted


class SweepRecords:
    """What a sweep reads and notes in one catalog: nothing here changes an upload, a variant or a mark.

    Every verb raises CatalogUnavailable.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keys(self, after: str, upto: str | None, limit: int) -> Sequence[str]:
        """The first `limit` keys that rows have, after the key `after` and up to `upto`, in order."""
        query = select(variants.c.key).where(variants.c.key > after)
        if upto is not None:
            query = query.where(variants.c.key <= upto)
        page = query.order_by(variants.c.key).limit(limit).subquery()
        async with self._database.reading() as connection:
            # Fetching one long text takes a third of the time of fetching as many rows.
            text = (await connection.execute(select(func.aggregate_strings(page.c.key, "\n")))).scalar_one()
        return sorted(text.split("\n")) if text else []

    async def rows(self, after: str, limit: int) -> Sequence[VariantRow]:
        """The next rows after the key `after`, in order of key."""
        query = _ROW.where(variants.c.key > after).order_by(variants.c.key).limit(limit)
        async with self._database.reading() as connection:
            return [_to_row(row) for row in await connection.execute(query)]

    async def superseded(self, before_ms: float, after: str, limit: int) -> Sequence[VariantRow]:
        """The next rows after the key `after` that were superseded before that, in order of key."""
        old = variants.c.superseded_ms < int(before_ms), variants.c.key > after
        async with self._database.reading() as connection:
            found = await connection.execute(_ROW.where(*old).order_by(variants.c.key).limit(limit))
            return [_to_row(row) for row in found]

    async def find_rows(self, keys: Sequence[str]) -> Mapping[str, VariantRow]:
        """The rows of those of `keys` that have one, by key."""
        found: dict[str, VariantRow] = {}
        async with self._database.reading() as connection:
            for start in range(0, len(keys), _PAGE):
                query = _ROW.where(variants.c.key.in_(keys[start : start + _PAGE]))
                found |= {row.key: _to_row(row) for row in await connection.execute(query)}
        return found

    async def total(self) -> Count:
        """The number of rows, and the bytes of their files."""
        query = select(summed(totals.c.files), summed(totals.c.bytes))
        async with self._database.reading() as connection:
            found = await connection.execute(query.where(totals.c.what.in_(("variant", "superseded"))))
            count, size_of_all = found.one()
        return Count(count, size_of_all)

    async def last(self) -> Swept | None:
        """What the last finished sweep found at its `time_ms`, None before the first."""
        async with self._database.reading() as connection:
            value = await read_value(connection, LAST_SWEEP)
        return None if value is None else Swept.from_json(value)

    @repeated
    async def remember(self, swept: Swept) -> None:
        """Keep what a sweep found, in place of what the one before did."""
        async with self._database.writing() as connection:
            await write_value(connection, LAST_SWEEP, swept)

    @repeated
    async def note_stop(self, reason: str) -> None:
        """Remember that a sweep was stopped before it had made a plan; no earlier plan counts."""
        async with self._database.writing() as connection:
            value = await read_value(connection, LAST_SWEEP)
            last = (
                Swept.from_json(value)
                if value
                else Swept("", self._database.now_ms(), Count(), Count(), {}, Count())
            )
            stops = last.stops + 1
            stopped = replace(last, plan="", stopped=reason, stops=stops, applied_ms=None, done={})
            await write_value(connection, LAST_SWEEP, stopped)

    def checkpoint(self, name: str) -> Checkpoint:
        """Where the progress of one part of the sweep is saved."""
        return Checkpoint(self._database, f"sweep:{name}")

    @repeated
    async def lease(self, holder: str, seconds: float, *, name: str = SWEEP) -> bool:
        """Take or renew the right to sweep (or the one of that name); False while another holder has it."""
        now, for_ms = self._database.now_ms(), int(seconds * 1000)
        async with self._database.writing() as connection:
            await self._database.exclude(connection, locks.SWEEP)
            return await take_lease(connection, name, holder, now, for_ms)

    @repeated
    async def end_lease(self, holder: str, *, name: str = SWEEP) -> None:
        """Give that right back, if it still is this holder's."""
        async with self._database.writing() as connection:
            await drop_lease(connection, name, holder)


def _to_row(row: Any) -> VariantRow:  # noqa: ANN401 (a row)
    is_going = row.state in (State.DELETING, State.DELETED)
    return VariantRow(row.key, UUID(row.upload_id), row.bytes, row.sha256, row.superseded_ms, is_going)
