"""Questions: how uploads are now, each with the place of its newest message; nothing is written."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import String, bindparam, func, select

from storage.catalog.database import Database
from storage.catalog.paging import pages
from storage.catalog.records import KnownUpload, StoredVariant
from storage.catalog.rows import to_upload, to_variant
from storage.catalog.tables import about, outbox, uploads, variants

_IDS = bindparam("ids", type_=String, expanding=True)
_UPLOADS = select(uploads).where(uploads.c.id.in_(_IDS))
_CURRENT = (
    select(variants)
    .where(variants.c.upload_id.in_(_IDS), variants.c.superseded_ms.is_(None))
    .order_by(variants.c.number)
)
_NEWEST = (
    select(about.label("upload_id"), func.max(outbox.c.seq).label("seq")).where(about.in_(_IDS)).group_by(about)
)


class Questions:
    """What is asked of one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def now_ms(self) -> int:
        """This moment in ms since 1970, by the clock that all hosts of the catalog compare times by."""
        return self._database.now_ms()

    async def find(self, ids: Sequence[UUID]) -> Mapping[UUID, KnownUpload]:
        """Those of `ids` that are there, as they are at one moment. Raises: CatalogDamaged."""
        known: dict[UUID, KnownUpload] = {}
        for page in pages(sorted({str(each) for each in ids})):
            async with self._database.reading() as connection:
                rows = (await connection.execute(_UPLOADS, {"ids": page})).mappings().all()
                made = (await connection.execute(_CURRENT, {"ids": page})).mappings().all()
                newest = (await connection.execute(_NEWEST, {"ids": page})).all()
            current: dict[str, list[StoredVariant]] = {}
            for row in made:
                current.setdefault(row["upload_id"], []).append(to_variant(row))
            seqs: dict[str, int] = {row.upload_id: row.seq for row in newest}
            for row in rows:
                upload = to_upload(row, current.get(row["id"], ()))
                known[upload.id] = KnownUpload(upload, seqs.get(row["id"], 0))
        return known
