"""Verdicts: which contents have killed their reader, so that the same bytes need not be tried again."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.dialects.sqlite import insert

from storage.catalog.clock import now_ms
from storage.catalog.database import Database
from storage.catalog.tables import verdicts


@dataclass(frozen=True)
class Verdict:
    """What became of the content `sha256` of `bytes` bytes with that version of its reader."""

    sha256: str
    bytes: int
    version: str
    code: str
    message: str


class Verdicts:
    """The verdicts of one catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, verdict: Verdict) -> None:
        """Keep a verdict; a newer one on the same content and version replaces it."""
        row = {**vars(verdict), "made_ms": now_ms()}
        async with self._database.writing() as connection:
            statement = insert(verdicts).values(row)
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["sha256", "version"], set_=row)
            )

    async def all(self, version: str) -> Sequence[Verdict]:
        """The verdicts that stand for that version. Raises: CatalogUnavailable."""
        query = select(verdicts).where(verdicts.c.version == version)
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).mappings().all()
        return [Verdict(**{name: row[name] for name in Verdict.__dataclass_fields__}) for row in found]

    async def forget(self, sha256s: Sequence[str]) -> None:
        """Take the verdicts on these contents back. Raises: CatalogUnavailable."""
        async with self._database.writing() as connection:
            await connection.execute(delete(verdicts).where(verdicts.c.sha256.in_(sha256s)))

    async def prune(self, before_ms: int) -> None:
        """Take back what was said before `before_ms`. Raises: CatalogUnavailable."""
        async with self._database.writing() as connection:
            await connection.execute(delete(verdicts).where(verdicts.c.made_ms < before_ms))
