"""A catalog of any size, made by bulk inserts: `python -m tests.support.large_catalog PATH UPLOADS`."""

import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from uuid import UUID

from storage.catalog.records import State
from storage.keys import variant_key

NAMES = {"thumb": 150, "medium": 800, "large": 1920}
CODES = ("corrupt_image", "unsupported_format", "source_missing", "decode_timeout")
DAYS = 365  # over which the uploads came
_DAY_MS = 86_400_000
_END_MS = int(datetime(2026, 11, 21, tzinfo=UTC).timestamp() * 1000)
_BULK = 20_000  # uploads in a transaction

_UPLOAD = """
    INSERT INTO uploads (id, source, state, recipe, metadata, event_ms, event_n, event_epoch, job_id,
        generation, claim, crash_count, attempts, queued_ms, changed_ms, not_before_ms, revive,
        delete_original, adopted, error_code, stamp, sha256, bytes, format, width, height)
    VALUES (?, ?, ?, 'default', '{"owner": "42"}', ?, 0, 0, ?,
        0, 1, 0, 0, ?, ?, ?, 0, 0, 0, ?, ?, ?, ?, ?, ?, ?)
"""
_VARIANT = """
    INSERT INTO variants (key, upload_id, name, number, width, height, bytes, sha256, made_ms, superseded_ms)
    VALUES (?, ?, ?, 0, ?, ?, ?, ?, ?, ?)
"""

Row = tuple[object, ...]


def fill(path: Path, uploads: int, seed: int = 1) -> None:
    """Put `uploads` uploads with their variants into the catalog at `path`, which is there and empty."""
    rows = _rows(uploads, random.Random(seed))
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        # Nobody else is there, and a catalog that is half made is thrown away.
        for setting in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-200000", "foreign_keys=OFF"):
            database.execute(f"PRAGMA {setting}")
        while bulk := list(islice(rows, _BULK)):
            database.execute("BEGIN")
            database.executemany(_UPLOAD, [upload for upload, _ in bulk])
            database.executemany(_VARIANT, [variant for _, made in bulk for variant in made])
            database.execute("COMMIT")
        database.execute("PRAGMA journal_mode=WAL")


def _rows(uploads: int, chance: random.Random) -> Iterator[tuple[Row, list[Row]]]:
    for number in range(uploads):
        upload_id = str(UUID(int=chance.getrandbits(128), version=5))
        time_ms = _END_MS - (uploads - number) * DAYS * _DAY_MS // uploads
        if number % 50 == 0:
            yield _upload(number, upload_id, time_ms, State.FAILED, chance.choice(CODES), None), []
            continue
        state = State.QUEUED if number % 1000 == 1 else State.READY
        old = time_ms + _DAY_MS if number % 40 == 3 else None  # an earlier set is still served
        made = [_variant(upload_id, name, time_ms, None, chance) for name in NAMES]
        if old is not None:
            made += [_variant(upload_id, name, time_ms, old, chance) for name in NAMES]
        size = int(chance.lognormvariate(14, 1))
        yield _upload(number, upload_id, time_ms, state, None, size), made


def _upload(
    number: int, upload_id: str, time_ms: int, state: State, code: str | None, size: int | None
) -> Row:
    read = ("2049:1:2:3:4", f"{number:064x}", size, "jpeg" if number % 5 else "png", 4000, 3000)
    event = (time_ms, f"{number // 8:032x}", time_ms, time_ms, time_ms)
    return (upload_id, f"uploads/{number:09}.jpg", state.value, *event, code, *(read if size else [None] * 6))


def _variant(
    upload_id: str, name: str, time_ms: int, superseded_ms: int | None, chance: random.Random
) -> Row:
    key = variant_key(UUID(int=chance.getrandbits(128), version=5), "jpeg")
    box = NAMES[name]
    return key, upload_id, name, box, box, box * chance.randint(20, 200), "f" * 64, time_ms, superseded_ms


if __name__ == "__main__":
    fill(Path(sys.argv[1]), int(sys.argv[2]))
