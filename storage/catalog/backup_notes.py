"""What the catalog remembers of its backups: the newest copy, the last check, and since when some are due."""

from dataclasses import asdict, dataclass

from sqlalchemy import delete

from storage.catalog.clock import SKEW_MS
from storage.catalog.conflicts import repeated
from storage.catalog.database import Database
from storage.catalog.kv import read_value, write_value
from storage.catalog.tables import kv

LAST = "backup:last"  # the names of rows of `kv`
CHECKED = "backup:checked"
EXPECTED = "backup:expected"
FAILED = "backup:failed"


@dataclass(frozen=True)
class BackupMade:
    """The newest copy: when it was made (ms since 1970, by the catalog's clock), and where it is."""

    time_ms: int
    folder: str
    name: str
    bytes: int
    seq: int


@dataclass(frozen=True)
class BackupChecked:
    """The last check: when it ended, of which copy, and what is wrong with that (None: nothing)."""

    time_ms: int
    name: str
    problem: str | None


@dataclass(frozen=True)
class BackupFailed:
    """The last try of a worker, where it made no copy: when that was, and why."""

    time_ms: int
    reason: str


class BackupNotes:
    """The notes of one catalog, of whatever schema. Every verb raises CatalogUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last(self) -> BackupMade | None:
        """The newest copy; None: there was none."""
        async with self._database.reading() as connection:
            value = await read_value(connection, LAST)
        return None if value is None else BackupMade(**value)

    async def checked(self) -> BackupChecked | None:
        """The last check; None: there was none."""
        async with self._database.reading() as connection:
            value = await read_value(connection, CHECKED)
        return None if value is None else BackupChecked(**value)

    async def failed(self) -> BackupFailed | None:
        """The last try, if it made no copy; None: it made one, or there was none."""
        async with self._database.reading() as connection:
            value = await read_value(connection, FAILED)
        return None if value is None else BackupFailed(**value)

    async def expected_ms(self) -> int | None:
        """Since when workers are to make copies; None: no worker has been told to."""
        async with self._database.reading() as connection:
            value = await read_value(connection, EXPECTED)
        return None if value is None else int(value["time_ms"])

    @repeated
    async def expect(self, now_ms: int) -> int:
        """Copies are expected from now on, unless they were before; returns since when."""
        async with self._database.writing() as connection:
            value = await read_value(connection, EXPECTED, alone=True)
            if value is not None and value["time_ms"] <= now_ms + SKEW_MS:
                return int(value["time_ms"])
            await write_value(connection, EXPECTED, {"time_ms": now_ms})  # or the clock had run ahead
        return now_ms

    @repeated
    async def note(self, made: BackupMade) -> None:
        """Remember the newest copy; no try has failed since."""
        async with self._database.writing() as connection:
            await write_value(connection, LAST, asdict(made))
            await connection.execute(delete(kv).where(kv.c.name == FAILED))

    @repeated
    async def note_failure(self, failed: BackupFailed) -> None:
        """Remember that a try made no copy, until one makes one."""
        async with self._database.writing() as connection:
            await write_value(connection, FAILED, asdict(failed))

    @repeated
    async def note_check(self, checked: BackupChecked) -> None:
        """Remember the last check."""
        async with self._database.writing() as connection:
            await write_value(connection, CHECKED, asdict(checked))
