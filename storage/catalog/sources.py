"""The originals that uploads have, by key."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, case, func, select

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


@dataclass(frozen=True)
class Expected:
    """What ready uploads say of an original: its bytes, and when their rows last changed.

    Uploads of one original that were made of different contents of it differ: it has `least` to `most` bytes.
    """

    key: str
    least: int
    most: int
    changed_ms: int

    def fits(self, size: int) -> bool:
        """Whether an original of that size may be the one."""
        return self.least <= size <= self.most

    @property
    def size(self) -> str:
        """Its bytes, for people."""
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


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
            after = found[-1].source

    async def made_of(self, ids: Sequence[UUID]) -> Mapping[UUID, tuple[str, int]]:
        """Of which original, and of how many bytes, those of `ids` were made that are ready."""
        found: dict[UUID, tuple[str, int]] = {}
        columns = uploads.c.id, uploads.c.source, uploads.c.bytes
        read = uploads.c.state == State.READY, uploads.c.source.is_not(None), uploads.c.bytes.is_not(None)
        async with self._database.reading() as connection:
            for page in pages(ids):
                query = select(*columns).where(uploads.c.id.in_([str(each) for each in page]), *read)
                for upload_id, source, size in await connection.execute(query):
                    found[UUID(upload_id)] = source, size
        return found

    async def expected(self, sources: Iterable[str]) -> Mapping[str, Expected]:
        """What is expected of those of `sources` whose uploads are all ready, but for deleted ones."""
        found: dict[str, Expected] = {}
        async with self._database.reading() as connection:
            for page in pages(list(sources)):
                rows = (await connection.execute(_expected().where(uploads.c.source.in_(page)))).all()
                found |= {row[0]: Expected(*row) for row in rows}
        return found

    async def all_expected(self) -> AsyncGenerator[Expected, None]:
        """The same of all originals, in order of key."""
        after = ""
        while True:
            query = _expected().where(uploads.c.source > after).order_by(uploads.c.source).limit(_PAGE)
            async with self._database.reading() as connection:
                found = (await connection.execute(query)).all()
            for row in found:
                yield Expected(*row)
            if len(found) < _PAGE:
                return
            after = found[-1].source

    async def newest(self) -> int:
        """The number of the newest upload, 0 where there is none."""
        async with self._database.reading() as connection:
            last = select(func.coalesce(func.max(uploads.c.number), 0))
            newest: int = (await connection.execute(last)).scalar_one()
        return newest


def _expected() -> Select[Any]:
    return (
        select(
            uploads.c.source,
            func.min(uploads.c.bytes),
            func.max(uploads.c.bytes),
            func.max(uploads.c.changed_ms),
        )
        .where(_ALIVE, uploads.c.source.is_not(None))
        .group_by(uploads.c.source)
        .having(func.max(case((uploads.c.state == State.READY, 0), else_=1)) == 0)
        .having(func.count(uploads.c.bytes) == func.count())
    )
