"""Whether the catalog's file is sound: SQLite's own check of every page, for as long as one may wait."""

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from storage.threads import in_thread

_STEPS = 10_000  # of SQLite's machine, between two looks at the clock
_MOST = 5  # problems that are reported


async def find_damage(path: Path, within_s: float) -> Sequence[str] | None:
    """What SQLite complains of in the file `path`; None when it was not through with it in time.

    Indexes are not compared with their rows: that takes many times as long. Nothing is written.
    """
    return await in_thread(_find, path, within_s)


def _find(path: Path, within_s: float) -> Sequence[str] | None:
    until = time.monotonic() + within_s
    address = f"file:{quote(str(path))}?mode=rw"  # read-only, it could not join those who write
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=within_s)) as opened:
            opened.execute("PRAGMA query_only=ON")
            opened.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
            found = [str(row[0]) for row in opened.execute(f"PRAGMA quick_check({_MOST})")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        return [str(error)]
    return [] if found == ["ok"] else found
