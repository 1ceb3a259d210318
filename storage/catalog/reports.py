"""Questions about the whole: one upload, the states, the totals, and whether those are right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from uuid import UUID

from sqlalchemy import ColumnElement, func, literal, select, true

from storage.catalog.address import Address
from storage.catalog.conflicts import repeated
from storage.catalog.counting import Place, amounts, find_wrong_totals
from storage.catalog.database import Database, open_to_read, pending_migration
from storage.catalog.kv import read_value
from storage.catalog.owner_costs import dearest
from storage.catalog.records import State, Upload
from storage.catalog.rows import load_metadata, to_upload, to_variant
from storage.catalog.sqlalchemy_parts import AsyncConnection, insert
from storage.catalog.tables import Big, snapshots, summed, totals, uploads, variants
from storage.errors import CatalogDamaged
from storage.filenames import filename_in
from storage.totals import DEAREST, LARGEST, LAST_SWEEP, Count, Large, Snapshot, StorageTotals, Swept, Total


def _sum(column: str, what: str, name: str | None = None) -> ColumnElement[int]:
    query = select(summed(totals.c[column])).where(totals.c.what == what)
    return (query if name is None else query.where(totals.c.name == name)).scalar_subquery()


_SUMMED = {
    "uploads": _sum("files", "upload") - _sum("files", "upload", State.DELETED),
    "ready": _sum("files", "upload", State.READY),
    "failed": _sum("files", "upload", State.FAILED),
    "originals": _sum("files", "original"),
    "original_bytes": _sum("bytes", "original"),
    "variants": _sum("files", "variant"),
    "variant_bytes": _sum("bytes", "variant"),
    "superseded": _sum("files", "superseded"),
    "superseded_bytes": _sum("bytes", "superseded"),
}

_TOTALS = select(totals).where((totals.c.files != 0) | (totals.c.bytes != 0))
_PLACE = (totals.c.what, totals.c.name, totals.c.detail)
_OVER_ALL_DAYS = (
    select(*_PLACE, literal(0, Big).label("day"), summed(totals.c.files), summed(totals.c.bytes))
    .group_by(*_PLACE)
    .having((func.sum(totals.c.files) != 0) | (func.sum(totals.c.bytes) != 0))
)
# A claim writes no totals: they know the waiting, and those in work are few, and counted.
_WAITING = "waiting"
_CODE = func.coalesce(uploads.c.error_code, "")
_IN_WORK = select(_CODE, func.count()).where(uploads.c.state == State.PROCESSING).group_by(_CODE)
_VARIANT_BYTES = select(summed(variants.c.bytes)).where(variants.c.upload_id == uploads.c.id)
_LARGEST = (
    select(
        *(uploads.c.id, uploads.c.source, uploads.c.bytes),
        _VARIANT_BYTES.scalar_subquery(),
        uploads.c.metadata,
    )
    .where(uploads.c.bytes.is_not(None))
    .order_by(uploads.c.bytes.desc())
)


class Reports:
    """What people ask the catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, upload_id: UUID) -> Upload | None:
        """The upload with its current variants, None when there is none."""
        current = variants.c.upload_id == str(upload_id), variants.c.superseded_ms.is_(None)
        async with self._database.reading() as connection:
            query = select(uploads).where(uploads.c.id == str(upload_id))
            row = (await connection.execute(query)).mappings().one_or_none()
            kept = (
                (await connection.execute(select(variants).where(*current).order_by(variants.c.width)))
                .mappings()
                .all()
            )
            return None if row is None else to_upload(dict(row), [to_variant(dict(one)) for one in kept])

    async def totals(
        self, *, largest: int = LARGEST, by_day: bool = True, since_day: int = 0, owners: int = 0
    ) -> StorageTotals:
        """All that is counted, in one moment of the catalog, with the snapshots of that day and later.

        Unless `by_day`, all days count as day 0. So many `owners` are told, the dearest ones.
        """
        query = _TOTALS if by_day else _OVER_ALL_DAYS
        days = select(snapshots).where(snapshots.c.day >= since_day).order_by("day")
        async with self._database.reading() as connection:
            counted = [Total(*row) for row in await connection.execute(query)]
            in_work = {row[0]: row[1] for row in await connection.execute(_IN_WORK)}
            swept = await read_value(connection, LAST_SWEEP)
            return StorageTotals(
                totals=_split(counted, in_work),
                largest=await _largest(connection, largest) if largest else [],
                snapshots=[Snapshot(*row) for row in await connection.execute(days)],
                sweep=Swept.from_json(swept) if swept else None,
                owners=await dearest(connection, self._database.now_ms(), owners) if owners else [],
            )

    async def states(self) -> Mapping[State, int]:
        """The number of uploads in each state, 0 included."""
        kept = select(totals.c.name, summed(totals.c.files).label("files")).where(totals.c.what == "upload")
        working = select(func.count()).where(uploads.c.state == State.PROCESSING)
        async with self._database.reading() as connection:
            found = (await connection.execute(kept.group_by(totals.c.name))).all()
            in_work = (await connection.execute(working)).scalar_one()
        counts = {row.name: row.files for row in found}
        counts |= {State.QUEUED: counts.get(_WAITING, 0) - in_work, State.PROCESSING: in_work}
        return {state: counts.get(state, 0) for state in State}

    async def count_without_variants(self, upto: int | None = None) -> int:
        """How many uploads wait for their first variants: a count of rows, as the totals do not know it.

        With `upto`, count only those whose original some upload up to that number already had: an original
        that was announced again waits in the same row or, under another id, in a new one.
        """
        waits = uploads.c.state.in_((State.QUEUED, State.PROCESSING, State.DELETING))
        wanted = (uploads.c.state != State.DELETING) | uploads.c.revive
        query = select(func.count()).select_from(uploads).where(waits, wanted, uploads.c.bytes.is_(None))
        if upto is not None:
            early = uploads.alias("early")
            same = select(early.c.id).where(early.c.source == uploads.c.source, early.c.number <= upto)
            query = query.where((uploads.c.number <= upto) | same.exists())
        async with self._database.reading() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def count_all(self) -> Mapping[Place, Count]:
        """What all rows add up to, without a look at the totals."""
        async with self._database.reading(patient=True) as connection:
            return await amounts(connection, self._database.backend.counted)

    async def check_totals(self) -> Sequence[Total]:
        """Count all rows; returns what has to be added to the totals, nothing where they are right.

        This reads every row, while others go on writing.
        """
        async with self._database.reading(patient=True) as connection:
            return await find_wrong_totals(connection, self._database.backend.counted)

    @repeated
    async def correct(self, short: Sequence[Total]) -> None:
        """Add what `check_totals` returned to the totals."""
        if short:
            async with self._database.writing() as connection:
                await connection.execute(self._database.backend.adding, [asdict(total) for total in short])

    @repeated
    async def snapshot(self, day: int, free_bytes: int | None) -> bool:
        """Save the present totals as those of `day` (since 1970, UTC); False when that day has some."""
        row = {"day": day, "time_ms": self._database.now_ms(), "free_bytes": free_bytes}
        statement = insert(snapshots).from_select(
            [*row, *_SUMMED],
            select(*(literal(value, Big) for value in row.values()), *_SUMMED.values()).where(true()),
        )
        async with self._database.writing() as connection:
            return bool((await connection.execute(statement.on_conflict_do_nothing())).rowcount)


async def read_totals(
    where: Address | str, on_pending: Callable[[str], object] = lambda _: None
) -> StorageTotals:
    """The totals of the catalog there, which may be of another schema, or one that nobody can write.

    `on_pending` hears what has to be done before this program can work with it.

    Raises: NoCatalog, CatalogObsolete, CatalogUnavailable.
    """
    async with open_to_read(where) as database:
        if pending := await pending_migration(database):
            on_pending(pending)
        return await Reports(database).totals(owners=0 if pending else DEAREST)


async def _largest(connection: AsyncConnection, limit: int) -> Sequence[Large]:
    found = await connection.execute(_LARGEST.limit(limit))
    return [Large(*row[:4], _filename(row.metadata)) for row in found]


def _filename(metadata: str) -> str | None:
    try:
        return filename_in(load_metadata(metadata))
    except CatalogDamaged:  # the row says so to whoever reads it, and the others are reported
        return None


def _split(totals: Sequence[Total], in_work: Mapping[str, int]) -> Sequence[Total]:
    """The totals with "waiting" split into queued and processing, which `in_work` counts by error code."""
    waiting = [total for total in totals if (total.what, total.name) == ("upload", _WAITING)]
    queued = [replace(one, name="queued", files=one.files - in_work.get(one.detail, 0)) for one in waiting]
    working = [Total("upload", "processing", code, 0, count, 0) for code, count in in_work.items()]
    rest = [total for total in totals if total not in waiting]
    return [*rest, *(total for total in (*queued, *working) if total.files)]
