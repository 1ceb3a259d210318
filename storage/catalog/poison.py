"""Poison contents: bytes that have killed their decoder and need not be tried again."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select

from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.paging import pages
from storage.catalog.pruning import prune
from storage.catalog.rows import without_nul
from storage.catalog.sqlalchemy_parts import insert
from storage.catalog.tables import poison_contents


@dataclass(frozen=True)
class PoisonContent:
    """A content (SHA-256, size in bytes) that killed that version of the decoder, with the error of it."""

    sha256: str
    bytes: int
    version: str
    code: str
    message: str


class Poison:
    """The poison contents of one catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @repeated
    async def add(self, content: PoisonContent) -> None:
        """Add a content; a newer entry for the same content and version replaces it."""
        row = {**vars(content), "message": without_nul(content.message), "made_ms": self._database.now_ms()}
        async with self._database.writing() as connection:
            statement = insert(poison_contents).values(row)
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["sha256", "version"], set_=row)
            )

    async def all(self, version: str) -> Sequence[PoisonContent]:
        """The contents that killed that version of the decoder. Raises: CatalogUnavailable."""
        query = select(poison_contents).where(poison_contents.c.version == version)
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).mappings().all()
        return [
            PoisonContent(**{name: row[name] for name in PoisonContent.__dataclass_fields__}) for row in found
        ]

    @repeated
    async def remove(self, sha256s: Sequence[str]) -> None:
        """Remove these contents. Raises: CatalogUnavailable."""
        async with self._database.writing() as connection:
            for page in pages(sha256s):
                await connection.execute(delete(poison_contents).where(poison_contents.c.sha256.in_(page)))

    async def prune(self, before_ms: int) -> int:
        """Remove what was added before `before_ms`, or some of it; returns how much.

        Raises: CatalogUnavailable.
        """
        return await prune(self._database, poison_contents.c.made_ms, before_ms)
