"""Damage to a catalog's file, done while nobody has it open."""

import sqlite3
from contextlib import closing
from pathlib import Path

PAGE = 4096
_ROWS = 0x0D  # the first byte of a page that holds rows of a table


def settle(path: Path) -> None:
    """Bring everything from the log into the file itself."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def zero(path: Path, number: int) -> None:
    """Zeros instead of that page; the first has the number 1."""
    with path.open("r+b") as file:
        file.seek((number - 1) * PAGE)
        file.write(bytes(PAGE))


def page_with(path: Path, text: str) -> int:
    """The page that holds the row with this text."""
    content = path.read_bytes()
    for start in range(0, len(content), PAGE):
        page = content[start : start + PAGE]
        if page[0] == _ROWS and text.encode() in page:
            return start // PAGE + 1
    raise AssertionError(f"no row has {text}")


def roots(path: Path) -> dict[str, int]:
    """The first page of every table and index, by name."""
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute("SELECT name, rootpage FROM sqlite_master WHERE rootpage > 1"))
