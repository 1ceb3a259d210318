"""Long walks through the storage, remembered so that whoever goes on starts where the last one stopped."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, replace

import orjson
from sqlalchemy import func, select

from storage.catalog.clock import now_ms
from storage.catalog.database import Database
from storage.catalog.dialect import insert
from storage.catalog.records import State
from storage.catalog.rows import load_json
from storage.catalog.tables import kv, uploads

_PAGE = 5000


@dataclass(frozen=True)
class Walk:
    """How far a walk has come: the last key that was looked at, and when it last reached the end (ms).

    A walk that was never begun has not ended either; one that is under way may stand before its first key.
    """

    after: str = ""
    finished_ms: int = 0
    begun: bool = False
    newest: int = 0  # the number of the newest upload there was at that end
    strange: int = 0  # names so far that no key can have
    first_strange: str = ""  # for people


@dataclass(frozen=True)
class Announced:
    """An original's key, whether an upload still wants it, and its bytes (0 if it was never read)."""

    key: str
    wanted: bool
    bytes: int


class Walks:
    """The walks of one catalog, by name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def at(self, name: str) -> Walk:
        """Where the walk stands. Raises: CatalogUnavailable."""
        query = select(kv.c.value).where(kv.c.name == f"walk:{name}")
        async with self._database.reading() as connection:
            value = (await connection.execute(query)).scalar_one_or_none()
            return Walk(**load_json(value)) if value else Walk()

    async def begun(self, name: str) -> None:
        """Remember that the walk is under way, wherever it stands. Raises: CatalogUnavailable."""
        await self._save(name, replace(await self.at(name), begun=True))

    async def moved(self, name: str, after: str, strange: Sequence[str] = ()) -> None:
        """Remember that the walk has come to the key `after`, past those `strange` names.

        Raises: CatalogUnavailable.
        """
        walk = _with_strange(await self.at(name), strange)
        await self._save(name, replace(walk, after=after))

    async def ended(self, name: str, strange: Sequence[str] = ()) -> Walk:
        """Remember that the walk has reached the end, and begins anew the next time; returns how it was."""
        walk = _with_strange(await self.at(name), strange)
        last = select(func.coalesce(func.max(uploads.c.number), 0))
        async with self._database.reading() as connection:
            newest = (await connection.execute(last)).scalar_one()
        walk = Walk("", now_ms(), newest=newest, strange=walk.strange, first_strange=walk.first_strange)
        await self._save(name, walk)
        return walk

    async def _save(self, name: str, walk: Walk) -> None:
        row = {"name": f"walk:{name}", "value": orjson.dumps(walk).decode()}
        async with self._database.writing() as connection:
            statement = insert(kv).values(row)
            await connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))

    async def known_sources(self, sources: Iterable[str]) -> frozenset[str]:
        """Those of `sources` that some upload has, in whatever state. Raises: CatalogUnavailable."""
        query = select(uploads.c.source).where(uploads.c.source.in_(list(sources)))
        async with self._database.reading() as connection:
            return frozenset((await connection.execute(query)).scalars())

    async def sources(self) -> AsyncGenerator[Announced, None]:
        """Every original that some upload has, in order of key, each once. Raises: CatalogUnavailable."""
        kept = uploads.c.state.not_in((State.DELETED, State.DELETING))
        query = select(uploads.c.source, func.max(kept), func.coalesce(func.max(uploads.c.bytes), 0))
        after = ""
        while True:
            page = query.where(uploads.c.source > after).group_by(uploads.c.source)
            async with self._database.reading() as connection:
                found = (await connection.execute(page.order_by(uploads.c.source).limit(_PAGE))).all()
            for key, wanted, size in found:
                yield Announced(key, bool(wanted), size)
            if len(found) < _PAGE:
                return
            after = found[-1][0]


def _with_strange(walk: Walk, strange: Sequence[str]) -> Walk:
    """The walk, those names counted too; one that begins anew has met none before."""
    before, first = (walk.strange, walk.first_strange) if walk.after else (0, "")
    return replace(walk, strange=before + len(strange), first_strange=first or next(iter(strange), ""))
