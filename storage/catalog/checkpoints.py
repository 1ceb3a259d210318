"""How far long work has come, so that it is resumed where it stopped."""

from dataclasses import dataclass

from sqlalchemy import delete

from storage.catalog.database import Database
from storage.catalog.kv import Value, read_value, write_value
from storage.catalog.tables import kv


@dataclass(frozen=True)
class Checkpoint:
    """The progress of the work of one name: a JSON object that its owner defines. Every verb raises
    CatalogUnavailable.
    """

    database: Database
    name: str

    async def load(self) -> Value | None:
        """The progress when it was last saved; None: there is none."""
        async with self.database.reading() as connection:
            return await read_value(connection, self._row)

    async def save(self, progress: object) -> None:
        """Save the progress in place of the last."""
        async with self.database.writing() as connection:
            await write_value(connection, self._row, progress)

    async def clear(self) -> None:
        """Forget the progress: the work is done."""
        async with self.database.writing() as connection:
            await connection.execute(delete(kv).where(kv.c.name == self._row))

    @property
    def _row(self) -> str:
        return f"checkpoint:{self.name}"
