"""The originals that uploads have, by key."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import case, func, select

from storage.catalog.database import Database
from storage.catalog.paging import pages
from storage.catalog.records import State
from storage.catalog.tables import uploads

_PAGE = 5000
_ALIVE = uploads.c.state.not_in((State.DELETED, State.DELETING))


@dataclass(frozen=True)
class Announced:
    """An original's key, whether an upload still needs it, and its bytes (0 if it was never read)."""

    key: str
    needed: bool
    bytes: int


class Sources:
    """The originals of one catalog. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, sources: Iterable[str]) -> frozenset[str]:
        """Those of `sources` that some upload has, in whatever state."""
        found: set[str] = set()
        async with self._database.reading() as connection:
            for page in pages(list(sources)):
                query = select(uploads.c.source).where(uploads.c.source.in_(page))
                found |= set((await connection.execute(query)).scalars())
        return frozenset(found)

    async def needed(self, sources: Iterable[str]) -> frozenset[str]:
        """Those of `sources` that some upload has which is not deleted, nor about to be."""
        found: set[str] = set()
        async with self._database.reading() as connection:
            for page in pages(list(sources)):
                query = select(uploads.c.source).where(uploads.c.source.in_(page), _ALIVE)
                found |= set((await connection.execute(query)).scalars())
        return frozenset(found)

    async def read(self, after: str, upto: str | None, limit: int) -> Sequence[str]:
        """The first `limit` originals that were read and are needed, after that key and up to `upto`."""
        wanted = [uploads.c.source > after, uploads.c.bytes.is_not(None), _ALIVE]
        if upto is not None:
            wanted.append(uploads.c.source <= upto)
        query = select(uploads.c.source).where(*wanted).distinct().order_by(uploads.c.source).limit(limit)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def all(self) -> AsyncGenerator[Announced, None]:
        """Every original that some upload has, in order of key, each once."""
        query = select(
            uploads.c.source,
            func.max(case((_ALIVE, 1), else_=0)),
            func.coalesce(func.max(uploads.c.bytes), 0),
        )
        after = ""
        while True:
            page = query.where(uploads.c.source > after).group_by(uploads.c.source)
            async with self._database.reading() as connection:
                found = (await connection.execute(page.order_by(uploads.c.source).limit(_PAGE))).all()
            for key, needed, size in found:
                yield Announced(key, bool(needed), size)
            if len(found) < _PAGE:
                return
            after = found[-1][0]

    async def newest(self) -> int:
        """The number of the newest upload, 0 where there is none."""
        async with self._database.reading() as connection:
            last = select(func.coalesce(func.max(uploads.c.number), 0))
            newest: int = (await connection.execute(last)).scalar_one()
        return newest
