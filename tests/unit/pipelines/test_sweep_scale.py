"""Planning with many files and rows: what it costs beside `find`, and that memory does not grow with them."""

import asyncio
import gc
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4, uuid5

import pytest

from pipelines.sweep import findings
from pipelines.sweep.plan import Plan
from pipelines.sweep.planning import make_plan
from pipelines.sweep.sweeper import Sweeper
from storage.blobs.local import LocalBlobs, open_local
from storage.catalog.opening import Catalog, open_catalog
from storage.keys import variant_key
from tests.support.sweeps import InstallationStub, sweeper_on

MILLION = 1_000_000
FIND = "find {} -type f -printf '%s %T@ %P\\n' | LC_ALL=C sort >/dev/null"
LARGEST_RATIO = 1.5
LARGEST_MIB = 150
ROUNDS = 3
_NAMES = uuid4()


def key_of(number: int) -> str:
    return variant_key(uuid5(_NAMES, str(number)), "jpeg")


def make_files(root: Path, keys: Sequence[str]) -> None:
    folder = ""
    for key in sorted(keys):
        if key.rpartition("/")[0] != folder:
            folder = key.rpartition("/")[0]
            os.makedirs(root / folder, exist_ok=True)
        os.close(os.open(f"{root}/{key}", os.O_CREAT | os.O_WRONLY, 0o644))


def make_rows(catalog: Path, keys: Sequence[str]) -> None:
    columns = (
        "id, source, state, recipe, metadata, event_ms, event_n, job_id, generation, claim, crash_count, "
        "attempts, queued_ms, changed_ms, not_before_ms, revive, delete_original, event_epoch, adopted"
    )
    upload = f"INSERT INTO uploads ({columns}) VALUES (?, ?, 'ready', 'default', '{{}}', {'0,' * 13} 0)"
    variant = (
        "INSERT INTO variants (key, upload_id, name, number, width, height, bytes, sha256, made_ms) "
        "VALUES (?, ?, ?, 0, 1, 1, 0, ?, 0)"
    )
    ids = [str(uuid5(_NAMES, f"upload {number}")) for number in range(len(keys) // 3 + 1)]
    names = ("thumb", "medium", "large")
    with closing(sqlite3.connect(catalog)) as connection, connection:
        connection.executemany(upload, ((each, f"uploads/{each}.jpg") for each in ids))
        rows = ((key, ids[at // 3], names[at % 3], "f" * 64) for at, key in enumerate(keys))
        connection.executemany(variant, rows)


def sweeper_of(catalog: Catalog, blobs: LocalBlobs) -> Sweeper:
    async def counted() -> int:
        return len(await catalog.reports.check_totals())

    return sweeper_on(catalog, blobs, installation=InstallationStub(counted=counted))


async def test_files_that_have_their_rows_are_not_looked_at(
    catalog: Catalog, local_blobs: LocalBlobs, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [key_of(number) for number in range(300)]
    make_files(root, [*keys, key_of(-1)])
    make_rows(tmp_path / "catalog.db", keys)
    looked: list[str] = []
    stat = os.stat

    def noted(path: Any, *args: Any, **more: Any) -> os.stat_result:
        looked.append(str(path))
        return stat(path, *args, **more)

    monkeypatch.setattr(os, "stat", noted)
    plan = await make_plan(sweeper_of(catalog, local_blobs))

    assert (plan.files, plan.rows) == (301, 300)
    assert [name for name in looked if name.endswith(".jpg")] == [key_of(-1).rpartition("/")[2]]


@pytest.fixture
def garbage_is_collected_as_usual() -> Iterator[None]:
    """As in a worker: the other tests wait longer."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("garbage_is_collected_as_usual")
async def test_memory_does_not_grow_with_the_number_of_files(
    catalog: Catalog, local_blobs: LocalBlobs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def peak(stretch: int) -> int:
        monkeypatch.setattr(findings, "STRETCH", stretch)
        monkeypatch.setattr("storage.blobs.local._KEYS_A_PAGE", stretch)
        tracemalloc.start()
        await make_plan(sweeper_of(catalog, local_blobs))
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    await peak(100)  # what is kept from the first time on is not the files'
    make_files(root, [key_of(number) for number in range(200)])
    few = await peak(100)
    make_files(root, [key_of(number) for number in range(200, 1000)])
    many = await peak(100)
    all_at_once = await peak(1000)

    assert many < 2 * few
    assert all_at_once > 2 * few  # it would be seen


async def a_plan(root: Path, catalog_url: str) -> Plan:
    async with open_local(root, create=False) as blobs, open_catalog(catalog_url) as catalog:
        return await make_plan(sweeper_of(catalog, blobs))


def answer(root: Path, catalog_url: str) -> None:
    """Plan, and write down how many seconds and MiB that took, and the files and findings."""
    began = time.monotonic()
    plan = asyncio.run(a_plan(root, catalog_url))
    took = time.monotonic() - began
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    sys.stdout.write(f"{took} {int(peak) // 1024} {plan.files} {sum(plan.counts.values())}\n")


@pytest.mark.campaign
def test_a_plan_of_a_million_files_takes_at_most_half_as_long_again_as_find(
    migrated: Path, tmp_path: Path
) -> None:
    root, catalog = tmp_path / "media", tmp_path / "catalog.db"
    shutil.copy(migrated, catalog)
    keys = [key_of(number) for number in range(MILLION)]
    make_files(root, keys)
    make_rows(catalog, keys)
    command = [sys.executable, "-m", "tests.unit.pipelines.test_sweep_scale"]
    finds, plans, peaks = [], [], []
    for _ in range(ROUNDS):
        began = time.monotonic()
        subprocess.run(FIND.format(root), shell=True, check=True)
        finds.append(time.monotonic() - began)
        words = [str(root), f"sqlite+aiosqlite:///{catalog}"]
        took, mib, files, found = subprocess.check_output([*command, *words], text=True).split()
        assert (int(files), int(found)) == (MILLION, 0)
        plans.append(float(took))
        peaks.append(int(mib))
    sys.stdout.write(f"find | sort: {finds} s; plan: {plans} s, {peaks} MiB\n")

    assert min(plans) < LARGEST_RATIO * min(finds)
    assert max(peaks) < LARGEST_MIB


if __name__ == "__main__":
    answer(Path(sys.argv[1]), sys.argv[2])
