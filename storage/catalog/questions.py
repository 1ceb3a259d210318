"""Questions: how uploads are now, each with the place of its newest message; nothing is written."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import String, bindparam, select

from storage.catalog.database import Database
from storage.catalog.outbox import newest_seqs
from storage.catalog.paging import pages
from storage.catalog.records import KnownUpload, State, StoredVariant
from storage.catalog.rows import to_upload, to_variant
from storage.catalog.tables import uploads, variants

_IDS = bindparam("ids", type_=String, expanding=True)
_UPLOADS = select(uploads).where(uploads.c.id.in_(_IDS))
_CURRENT = (
    select(variants)
    .where(variants.c.upload_id.in_(_IDS), variants.c.superseded_ms.is_(None))
    .order_by(variants.c.number)
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
        for page in pages(sorted(set(ids))):
            asked = {"ids": [str(each) for each in page]}
            async with self._database.reading() as connection:
                rows = [dict(row) for row in (await connection.execute(_UPLOADS, asked)).mappings()]
                made = [dict(row) for row in (await connection.execute(_CURRENT, asked)).mappings()]
                seqs = await newest_seqs(connection, page)
            current: dict[str, list[StoredVariant]] = {}
            for row in made:
                current.setdefault(row["upload_id"], []).append(to_variant(row))
            for row in rows:
                upload = to_upload(row, current.get(row["id"], ()))
                by = row["replaced_by"] if upload.state is State.DELETED else None
                known[upload.id] = KnownUpload(upload, seqs.get(upload.id, 0), UUID(by) if by else None)
        return known
