"""A catalog's file: its room and its damage."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from storage.catalog.sqlalchemy_parts import AsyncConnection
from storage.threads import in_thread

MIB = 1024 * 1024
LARGE_LOG = 64 * MIB
LARGE_LOG_WARNING = (
    f"the log beside the catalog is larger than {LARGE_LOG // MIB} MiB: another process keeps a read "
    "transaction open (a database browser, a backup that hangs); end it, and the log shrinks by itself"
)
_CHECK_STEPS = 10_000  # of SQLite's machine, between two readings of the clock
_MOST_PROBLEMS = 5  # that are reported
MUCH_FREE = 64 * MIB
SMALL = 64 * MIB  # 3 s on a slow machine: others wait as long
_INCREMENTAL = 2  # what SQLite calls the mode of a file that can give pages back
CUT_OFF = "PRAGMA incremental_vacuum(2000)"
# In one transaction of the log. Aside is memory: the folder of temporary files may be small.
REWRITE = f"PRAGMA temp_store=MEMORY; PRAGMA auto_vacuum={_INCREMENTAL}; VACUUM; PRAGMA temp_store=DEFAULT"


@dataclass(frozen=True)
class FileRoom:
    """How much of a catalog's file is used, in pages of `page_size` bytes."""

    auto_vacuum: int
    page_size: int
    pages: int
    free: int

    @property
    def gives_back(self) -> bool:
        """Whether SQLite can cut pages that are free off, without rewriting all others."""
        return self.auto_vacuum == _INCREMENTAL

    @property
    def free_bytes(self) -> int:
        return self.free * self.page_size

    @property
    def used_bytes(self) -> int:
        return (self.pages - self.free) * self.page_size

    @property
    def is_worth_a_rewrite(self) -> bool:
        """Whether most of the file, and much, is free for good."""
        return not self.gives_back and self.free_bytes > max(MUCH_FREE, self.used_bytes)

    @property
    def is_small(self) -> bool:
        """Whether a rewrite takes a few seconds, for which others may wait, and little memory."""
        return self.used_bytes <= SMALL


async def read_room(connection: AsyncConnection) -> FileRoom:
    """How much of the catalog's file is used."""
    names = ("auto_vacuum", "page_size", "page_count", "freelist_count")
    return FileRoom(*[(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in names])


async def find_damage(path: Path, within_s: float) -> Sequence[str] | None:
    """What SQLite complains of in the file `path`; None when it was not through with it in time.

    Indexes are not compared with their rows: that takes many times as long. Nothing is written.
    """
    return await in_thread(_find, path, within_s)


def _find(path: Path, within_s: float) -> Sequence[str] | None:
    until = time.monotonic() + within_s
    try:
        with closing(sqlite3.connect(address_of(path), uri=True, timeout=within_s)) as opened:
            opened.execute("PRAGMA query_only=ON")
            opened.set_progress_handler(lambda: time.monotonic() > until, _CHECK_STEPS)
            found = [str(row[0]) for row in opened.execute(f"PRAGMA quick_check({_MOST_PROBLEMS})")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        return [str(error)]
    return [] if found == ["ok"] else found


def find_all_damage(path: Path, stopped: Callable[[], bool]) -> Sequence[str]:
    """What SQLite complains of in a file that nobody writes, indexes included; raises when `stopped`."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as opened:
            opened.set_progress_handler(stopped, _CHECK_STEPS)
            found = [str(row[0]) for row in opened.execute(f"PRAGMA integrity_check({_MOST_PROBLEMS})")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            raise
        return [str(error)]
    return [] if found == ["ok"] else found


def address_of(path: Path) -> str:
    """The URI by which SQLite opens a catalog that is there, and makes none."""
    return f"file:{quote(str(path))}?mode=rw"  # read-only, it could not join those who write


def log_bytes(path: Path) -> int:
    """The size of the log beside the catalog's file `path`, which is no link."""
    log = path.with_name(f"{path.name}-wal")
    return log.stat().st_size if log.exists() else 0
