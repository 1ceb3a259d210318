"""Which variants live uploads have, by their names: a look at some uploads, however many there are."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Select, func, select, union

from storage.catalog.database import Database
from storage.catalog.records import State
from storage.catalog.tables import IS_NAMED, summed, totals, uploads, variants

SAMPLE = 500  # uploads of a recipe that are looked at, of those that changed last and of the others
_WITHOUT_INDEX = "default"  # of the uploads of most installations an index by recipe would select nothing

_COUNTS = (
    select(totals.c.name, summed(totals.c.files).label("files"))
    .where(totals.c.what == "variant")
    .group_by(totals.c.name)
)


class VariantNames:
    """The names of current variants in one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self) -> Mapping[str, int]:
        """How many variants there are of each name, of all recipes together."""
        async with self._database.reading() as connection:
            return {row.name: row.files for row in await connection.execute(_COUNTS) if row.files > 0}

    async def sampled(self, recipe: str, names: Collection[str]) -> Mapping[str, int]:
        """How many of some ready uploads of `recipe` have a variant of each of `names`; 0 is left out.

        Those are looked at that changed last, and those that have not changed for longest: where a recipe
        was changed, the first are the last ones that it made before, or the second are.
        """
        has_one = variants.c.superseded_ms.is_(None), variants.c.name.in_(list(names))
        query = (
            select(variants.c.name, func.count().label("uploads"))
            .where(variants.c.upload_id.in_(_sample(recipe)), *has_one)
            .group_by(variants.c.name)
        )
        async with self._database.reading() as connection:
            return {row.name: row.uploads for row in await connection.execute(query)}


def _sample(recipe: str) -> Select[Any]:
    """The ids of some ready uploads of the recipe: an index leads to both ends, and no further."""
    looked_at = select(uploads.c.id, uploads.c.recipe, uploads.c.state).limit(SAMPLE)
    if recipe == _WITHOUT_INDEX:
        looked_at = looked_at.where(uploads.c.state == State.READY)
    else:
        looked_at = looked_at.where(uploads.c.recipe == recipe, IS_NAMED)
    age = uploads.c.changed_ms, uploads.c.id
    ends = (looked_at.order_by(*age), looked_at.order_by(*(column.desc() for column in age)))
    parts = [select(end.subquery()) for end in ends]
    found = union(*parts).subquery()
    return select(found.c.id).where(found.c.recipe == recipe, found.c.state == State.READY)
