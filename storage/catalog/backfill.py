"""Back-fill: uploads page by page in order of their ids, to find those that are to be made again."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, func, select

from storage.catalog.database import Database
from storage.catalog.records import State, Upload
from storage.catalog.rows import to_upload, to_variant
from storage.catalog.tables import uploads, variants


@dataclass(frozen=True)
class Filter:
    """Which uploads are selected: in which state, of which recipe, failed how, changed since when (ms).

    `ids` are at most `paging.PAGE`; None selects any.
    """

    state: State = State.READY
    recipe: str | None = None
    code: str | None = None
    since_ms: int | None = None
    ids: Sequence[UUID] | None = None


class Backfill:
    """The uploads of one catalog, page by page. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, wanted: Filter, after: str, limit: int) -> Sequence[Upload]:
        """The next uploads after the id `after`, with their current variants, in order of id."""
        query = select(uploads).where(*_conditions(wanted, after))
        async with self._database.reading() as connection:
            rows = (await connection.execute(query.order_by(uploads.c.id).limit(limit))).mappings().all()
            ids = [row["id"] for row in rows]
            current = variants.c.upload_id.in_(ids), variants.c.superseded_ms.is_(None)
            found = (await connection.execute(select(variants).where(*current))).mappings().all()
        return [
            to_upload(dict(row), [to_variant(dict(one)) for one in found if one["upload_id"] == row["id"]])
            for row in rows
        ]

    async def count(self, wanted: Filter, after: str) -> int:
        """How many uploads there are after the id `after`."""
        query = select(func.count()).select_from(uploads).where(*_conditions(wanted, after))
        async with self._database.reading(patient=True) as connection:
            return (await connection.execute(query)).scalar_one()

    async def unselected(self, wanted: Filter, after: str) -> Sequence[UUID]:
        """Those ids of the filter, after the id `after`, of which it selects no upload."""
        query = select(uploads.c.id).where(*_conditions(wanted, after))
        async with self._database.reading() as connection:
            found = {UUID(each) for each in (await connection.execute(query)).scalars()}
        return [one for one in wanted.ids or () if str(one) > after and one not in found]


def _conditions(wanted: Filter, after: str) -> list[ColumnElement[bool]]:
    conditions = [uploads.c.state == wanted.state, uploads.c.id > after]
    if wanted.recipe is not None:
        conditions.append(uploads.c.recipe == wanted.recipe)
    if wanted.code is not None:
        conditions.append(uploads.c.error_code == wanted.code)
    if wanted.since_ms is not None:
        conditions.append(uploads.c.changed_ms >= wanted.since_ms)
    if wanted.ids is not None:
        conditions.append(uploads.c.id.in_([str(one) for one in wanted.ids]))
    return conditions
