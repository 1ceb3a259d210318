"""Questions about the whole: one upload, the failed ones, and the totals."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import func, select

from storage.catalog.database import Database
from storage.catalog.facts import State, Upload, VariantTotal
from storage.catalog.rows import to_upload, to_variant
from storage.catalog.tables import uploads, variants


class Reports:
    """What people ask the catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answer(self) -> None:
        """Do nothing but answer. Raises: CatalogUnavailable."""
        async with self._database.reading() as connection:
            await connection.execute(select(1))

    async def find(self, upload_id: UUID) -> Upload | None:
        """The upload with its current variants, None when there is none. Raises: CatalogUnavailable."""
        current = variants.c.upload_id == str(upload_id), variants.c.superseded_ms.is_(None)
        async with self._database.reading() as connection:
            query = select(uploads).where(uploads.c.id == str(upload_id))
            row = (await connection.execute(query)).mappings().one_or_none()
            kept = (
                (await connection.execute(select(variants).where(*current).order_by(variants.c.width)))
                .mappings()
                .all()
            )
        return None if row is None else to_upload(dict(row), [to_variant(dict(variant)) for variant in kept])

    async def states(self) -> Mapping[State, int]:
        """How many uploads stand where; every state is named. Raises: CatalogUnavailable."""
        query = select(uploads.c.state, func.count()).group_by(uploads.c.state)
        async with self._database.reading() as connection:
            found = {State(state): count for state, count in await connection.execute(query)}
        return {state: found.get(state, 0) for state in State}

    async def variant_totals(self) -> Sequence[VariantTotal]:
        """Files and bytes of the current variants, by name. Raises: CatalogUnavailable."""
        query = (
            select(variants.c.name, func.count(), func.sum(variants.c.bytes))
            .where(variants.c.superseded_ms.is_(None))
            .group_by(variants.c.name)
            .order_by(func.sum(variants.c.bytes))
        )
        async with self._database.reading() as connection:
            return [VariantTotal(name, files, size) for name, files, size in await connection.execute(query)]

    async def superseded_total(self) -> tuple[int, int]:
        """Files and bytes of the variants that wait to be retired. Raises: CatalogUnavailable."""
        query = select(func.count(), func.coalesce(func.sum(variants.c.bytes), 0))
        async with self._database.reading() as connection:
            found = await connection.execute(query.where(variants.c.superseded_ms.is_not(None)))
            files, size = found.one()
        return files, size

    async def original_total(self) -> tuple[int, int]:
        """Number and bytes of the originals that were read. Raises: CatalogUnavailable."""
        query = select(func.count(uploads.c.bytes), func.coalesce(func.sum(uploads.c.bytes), 0))
        async with self._database.reading() as connection:
            files, size = (await connection.execute(query)).one()
        return files, size
