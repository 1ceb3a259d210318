"""What reports say beyond counting: how storage grows, and where catalog and disk do not agree."""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from pipelines.stats.drift import CLASSES, scan
from pipelines.stats.growth import DAY_MS, Growth, growth
from pipelines.stats.report import DriftReport, OriginalFiles, OriginalFormat, report
from pipelines.stats.snapshots import keep_snapshot
from pipelines.sweep.findings import Ages
from storage.blobs import Storage
from storage.catalog.opening import Catalog, open_catalog
from storage.catalog.records import Original, Ready, StoredVariant
from storage.totals import Count, Snapshot, StorageTotals, Total
from tests.support.blobs import on_both, on_files
from tests.support.catalogs import claim, commit, delete_event, failed, ready, take, upload_event, work
from tests.support.sweeps import new_key, put

NOW = 20_000 * DAY_MS
OLD = Ages(time.time() + 60, 0)  # whatever is there is older than the grace


def snapshot(days_ago: float, stored: int) -> Snapshot:
    time_ms = int(NOW - days_ago * DAY_MS)
    return Snapshot(time_ms // DAY_MS, time_ms, 1, 1, 0, 1, stored, 0, 0, 0, 0, None)


# -- originals


async def originals_in(catalog: Catalog) -> OriginalFiles:
    return report(await catalog.reports.totals()).originals


async def test_uploads_whose_originals_no_total_has_are_told_whatever_became_of_them(
    catalog: Catalog,
) -> None:
    ids = [UUID(int=number) for number in range(5)]
    await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in ids))
    await commit(catalog, failed(await claim(catalog, ids[0])))  # it never was ready
    await commit(catalog, ready(await claim(catalog, ids[1])))
    await commit(catalog, ready(await claim(catalog, ids[2])))
    await take(catalog, upload_event(2, ids[2], f"uploads/{ids[2]}"))
    await commit(catalog, failed(await claim(catalog, ids[2])))  # it was ready, and its variants are served
    await claim(catalog, ids[3])
    await take(catalog, delete_event(3, ids[4]))
    await work(catalog, ids[4])

    assert await originals_in(catalog) == OriginalFiles(2, 2000, [OriginalFormat("jpeg", 2, 2000)], 2)


def test_no_total_that_counts_too_many_originals_leaves_fewer_than_no_uploads() -> None:
    wrong = StorageTotals([Total("original", "jpeg", "", 0, 3, 300)], [], [])

    assert report(wrong).originals.uncounted == 0


# -- growth


def test_growth_is_what_came_each_day_of_the_last_week() -> None:
    snapshots = [snapshot(30, 0), snapshot(5, 1_000), snapshot(1, 1_200)]

    assert growth(snapshots, 2_000, 1_000, NOW) == Growth(200, 5.0)


@pytest.mark.parametrize(
    ("snapshots", "why"),
    [([], "there is none"), ([snapshot(0.2, 0)], "it is of today"), ([snapshot(40, 0)], "it is too old")],
)
def test_growth_is_not_guessed_when_no_snapshot_is_of_the_last_days(
    snapshots: list[Snapshot], why: str
) -> None:
    assert growth(snapshots, 2_000, 1_000, NOW) == Growth(None, None), why


@pytest.mark.parametrize(("stored", "free"), [(1_000, 500), (900, 500), (2_000, None)])
def test_a_disk_that_does_not_fill_or_does_not_say_how_full_it_is_is_never_full(
    stored: int, free: int | None
) -> None:
    found = growth([snapshot(1, 1_000)], stored, free, NOW)

    assert found == Growth(stored - 1_000, None)


# -- a snapshot a day


@on_files
async def test_of_all_workers_one_keeps_the_totals_of_the_day(
    catalog: Catalog, catalog_url: str, blobs: Storage
) -> None:
    await take(catalog, upload_event(1))
    async with open_catalog(catalog_url) as another:
        kept = await asyncio.gather(*(keep_snapshot(one, blobs) for one in (catalog, another)))

    [only] = (await catalog.reports.totals()).snapshots
    assert sorted(kept) == [False, True]
    assert (only.uploads, only.day) == (1, only.time_ms // DAY_MS)
    assert only.free_bytes is not None
    assert only.free_bytes > 0


# -- drift


async def recorded(catalog: Catalog, source: str, *keys: str, upload_id: UUID | None = None) -> UUID:
    """An upload of 100 bytes that is ready, with variants of 7 bytes."""
    upload_id = upload_id or uuid4()
    await take(catalog, upload_event(time.time_ns() // 1000, upload_id, source))
    of = await claim(catalog, upload_id)
    variants = [StoredVariant(f"v{at}", key, 1, 1, 7, "f" * 64) for at, key in enumerate(keys)]
    await commit(catalog, Ready(of, Original("stamp", "0" * 64, 100, "jpeg", 1, 1), variants))
    return upload_id


def found_by(drift: DriftReport) -> Mapping[str, Count]:
    assert set(drift.findings) == set(CLASSES)
    return {name: found for name, found in drift.findings.items() if found.count}


@on_both
async def test_catalog_and_disk_that_agree_have_no_drift(catalog: Catalog, blobs: Storage) -> None:
    source = await put(blobs, "uploads/a/cat.jpg", b"x" * 100)
    await recorded(catalog, source, *[await put(blobs, new_key()) for _ in range(3)])
    seen: list[int] = []

    drift = await scan(catalog, blobs, OLD, seen.append)

    assert found_by(drift) == {}
    assert drift.areas is not None
    assert drift.disk == drift.catalog == drift.areas["variants"] == Count(3, 21)
    assert (drift.areas["uploads"], sum(seen)) == (Count(1, 100), 4)


@on_files
async def test_every_class_of_drift_is_counted_with_its_bytes(
    catalog: Catalog, blobs: Storage, root: Path
) -> None:
    await put(blobs, "uploads/there", b"x" * 100)
    await put(blobs, "uploads/nobody", b"x" * 50)
    await put(blobs, "trash/delete-1/uploads/gone", b"x" * 9)
    await put(blobs, "variants/README.txt", b"hi")
    await put(blobs, new_key(), b"orphan")
    mismatched = await put(blobs, new_key(), b"123")
    old = await put(blobs, new_key())
    upload_id = await recorded(catalog, "uploads/there", old)
    await recorded(catalog, "uploads/there", mismatched, new_key(), upload_id=upload_id)
    await recorded(catalog, "uploads/lost", await put(blobs, new_key()))
    await recorded(catalog, await put(blobs, "uploads/torn", b"x" * 60), await put(blobs, new_key()))
    (root / "staging").mkdir(exist_ok=True)
    (root / "staging/left").write_bytes(b"1234")

    drift = await scan(catalog, blobs, Ages(time.time() + 60, time.time() * 1000 + 1))

    assert found_by(drift) == {
        "orphan": Count(1, 6),
        "missing": Count(1, 7),
        "leftover": Count(1, 4),
        "retired": Count(1, 7),
        "unknown": Count(1, 2),
        "size_mismatch": Count(1, 3),
        "unannounced": Count(1, 50),
        "lost": Count(1, 100),
        "original_mismatch": Count(1, 60),
    }
    assert drift.areas == {
        "uploads": Count(3, 210),
        "variants": Count(6, 32),
        "trash": Count(1, 9),
        "staging": Count(1, 4),
    }


@on_both
async def test_an_original_that_an_app_replaced_and_announced_is_no_drift(
    catalog: Catalog, blobs: Storage
) -> None:
    upload_id = await recorded(catalog, await put(blobs, "uploads/new", b"x" * 60))
    await take(catalog, upload_event(time.time_ns() // 1000, upload_id, "uploads/new"))

    assert found_by(await scan(catalog, blobs, OLD)) == {}


async def test_a_young_file_is_no_orphan_yet(catalog: Catalog, blobs: Storage) -> None:
    await put(blobs, new_key())

    assert found_by(await scan(catalog, blobs, Ages(0, 0))) == {"young": Count(1, 7)}


async def test_a_deleted_upload_misses_no_original_and_announces_none(
    catalog: Catalog, blobs: Storage
) -> None:
    kept = await put(blobs, "uploads/kept")
    for source in (kept, "uploads/gone"):
        upload_id = await recorded(catalog, source, await put(blobs, new_key()))
        await take(catalog, delete_event(time.time_ns(), upload_id))

    assert found_by(await scan(catalog, blobs, OLD)) == {}


@on_files
async def test_looking_touches_nothing(catalog: Catalog, blobs: Storage, root: Path) -> None:
    await put(blobs, new_key())
    await recorded(catalog, "uploads/lost", new_key())
    before = sorted(root.rglob("*"))

    await scan(catalog, blobs, OLD)

    assert sorted(root.rglob("*")) == before
    assert sum((await catalog.reports.states()).values()) == 1


@on_files
async def test_names_that_no_key_can_have_are_counted_and_spellings_are_one_name(
    catalog: Catalog, blobs: Storage, root: Path
) -> None:
    await recorded(catalog, "uploads/\u00e4.jpg", await put(blobs, new_key()))
    for name in (b"uploads/a\xcc\x88.jpg", b"uploads/b\xe9.jpg", b"variants/c\n"):
        path = Path(os.fsdecode(bytes(root) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")

    drift = await scan(catalog, blobs, Ages.at(time.time(), 3600, 3600))

    counts = {name: found.count for name, found in drift.findings.items() if found.count}
    assert counts == {"misnamed": 2}
