"""What the totals cost: an upload's rows are written as quickly as without them."""

import shutil
import sqlite3
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from statistics import median
from uuid import uuid4

import pytest

from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import Original, Ready, StoredVariant
from tests.conftest import url_of
from tests.support.catalogs import letter, upload_event

ROUNDS = 15
UPLOADS = 320  # in a round, as a worker writes them: 16 in a commit
TIMES = 1.1


@pytest.mark.campaign
async def test_an_upload_costs_the_catalog_no_more_than_without_totals(
    migrated: Path, tmp_path: Path
) -> None:
    for name in ("with", "without"):
        shutil.copy(migrated, tmp_path / name)
    _drop_totals(tmp_path / "without")
    ratios = []
    async with AsyncExitStack() as stack:
        kept, bare = [
            await stack.enter_async_context(open_catalog(url_of(tmp_path / name)))
            for name in ("with", "without")
        ]
        for number in range(ROUNDS):
            first, second = (kept, bare) if number % 2 else (bare, kept)
            took = {id(one): await _cpu_s(one) for one in (first, second)}
            ratios.append(took[id(kept)] / took[id(bare)])

    assert median(ratios) < TIMES, ratios


def _drop_totals(path: Path) -> None:
    """As it was before there were totals, with the index that was there instead."""
    with closing(sqlite3.connect(path)) as database, database:
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in found:
            database.execute(f"DROP TRIGGER {name}")
        database.execute("DROP INDEX uploads_by_bytes")
        database.execute("CREATE INDEX variants_totals ON variants (name, superseded_ms, bytes)")


async def _cpu_s(catalog: Catalog) -> float:
    began = time.process_time()
    ids = [uuid4() for _ in range(UPLOADS)]
    for start in range(0, UPLOADS, 16):
        group = ids[start : start + 16]
        events = [(upload_event(1, each, f"uploads/{each}"), letter("1-0")) for each in group]
        taken = await catalog.intake.take(events, [])
        [job_id] = taken.jobs
        outcomes = []
        for number, each in enumerate(group):
            claim = await catalog.claims.claim(each, job_id, "me")
            assert claim is not None
            original = Original("stamp", "0" * 64, start * 1000 + number, "jpeg", 10, 10)
            made = [
                StoredVariant(name, f"variants/{uuid4()}.jpg", 1, 1, 100, "0" * 64)
                for name in ("thumb", "medium", "large")
            ]
            outcomes.append(Ready(claim, original, made))
        await catalog.claims.commit(outcomes)
    return time.process_time() - began
