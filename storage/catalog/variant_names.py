"""Which recipes and variants live uploads have, by their names: a look at some, however many there are."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import CTE, Select, func, select, union

from storage.catalog.database import Database
from storage.catalog.records import State
from storage.catalog.tables import IS_NAMED, summed, totals, uploads, variants

SAMPLE = 500  # ready uploads of a recipe that are looked at, of those that changed last and of the others
REACH = 20_000  # uploads that an index gives at either end, among which those are found
MOST_RECIPES = 100  # names, of which each is a look
_WITHOUT_INDEX = "default"  # of the uploads of most installations an index by recipe would select nothing

_COUNTS = (
    select(totals.c.name, summed(totals.c.files).label("files"))
    .where(totals.c.what == "variant")
    .group_by(totals.c.name)
)


def _names() -> CTE:
    """The names of recipes that the index has: from each it leads to the next one, whatever lies between."""
    first = select(func.min(uploads.c.recipe).label("name")).where(IS_NAMED)
    names = first.cte("names", recursive=True)
    following = select(func.min(uploads.c.recipe)).where(IS_NAMED, uploads.c.recipe > names.c.name)
    return names.union_all(select(following.scalar_subquery()).where(names.c.name.is_not(None)))


_NAMES = _names()
RECIPES = select(_NAMES.c.name).where(_NAMES.c.name.is_not(None))


class VariantNames:
    """The names of recipes and of current variants in one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def counts(self) -> Mapping[str, int]:
        """How many variants there are of each name, of all recipes together."""
        async with self._database.reading() as connection:
            return {row.name: row.files for row in await connection.execute(_COUNTS) if row.files > 0}

    async def recipes(self, without: Collection[str]) -> Sequence[str]:
        """The names of other recipes than `without` that uploads have, deleted ones too: the first ones.

        The recipe `default` is not among them.
        """
        query = RECIPES.where(_NAMES.c.name.not_in(list(without))).limit(MOST_RECIPES)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def sampled(self, recipe: str, names: Collection[str]) -> Mapping[str, int]:
        """How many of some ready uploads of `recipe` have a variant of each of `names`; 0 is left out.

        Those are looked at that changed last, and those that have not changed for longest: where a recipe
        was changed, the first are the last ones that it made before, or the second are. Where very many
        others lie before them, they are not found.
        """
        has_one = variants.c.superseded_ms.is_(None), variants.c.name.in_(list(names))
        query = (
            select(variants.c.name, func.count().label("uploads"))
            .where(variants.c.upload_id.in_(sample_of(recipe)), *has_one)
            .group_by(variants.c.name)
        )
        async with self._database.reading() as connection:
            return {row.name: row.uploads for row in await connection.execute(query)}


def sample_of(recipe: str) -> Select[Any]:
    """The ids of some ready uploads of the recipe: an index leads to both ends, and not far beyond."""
    is_ready, is_its = uploads.c.state == State.READY, uploads.c.recipe == recipe
    if recipe == _WITHOUT_INDEX:
        indexed = select(uploads.c.id, is_its.label("fits")).where(is_ready)
    else:
        indexed = select(uploads.c.id, is_ready.label("fits")).where(is_its, IS_NAMED)
    age = uploads.c.changed_ms, uploads.c.id
    ends = (indexed.order_by(*age), indexed.order_by(*(column.desc() for column in age)))
    looked_at = [end.limit(REACH).subquery() for end in ends]
    fitting = [select(some.c.id).where(some.c.fits).limit(SAMPLE).subquery() for some in looked_at]
    found = union(*(select(some.c.id) for some in fitting)).subquery()
    return select(found.c.id)
