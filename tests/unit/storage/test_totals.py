"""The totals: kept up by whatever writes rows, checked by counting, and saved day by day."""

import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.catalog.reports import read_totals
from storage.errors import CatalogUnavailable, NoCatalog
from storage.totals import Count, Large, Snapshot, StorageTotals, Total
from tests.support.catalogs import (
    claim,
    commit,
    delete_event,
    failed,
    letter,
    postponed,
    ready,
    take,
    try_claim,
    upload_event,
    work,
)

DAY_MS = 86_400_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.db"


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


async def totals_of(path: Path) -> StorageTotals:
    return await read_totals(url_of(path))


@contextmanager
def another(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program at the catalog."""
    with closing(sqlite3.connect(path)) as database, database:
        yield database


# -- what is counted


async def test_uploads_are_counted_by_state_and_by_what_they_failed_of(catalog: Catalog, path: Path) -> None:
    ids = [uuid4() for _ in range(3)]
    await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in ids))
    await commit(catalog, failed(await claim(catalog, ids[0])))
    await commit(catalog, postponed(await claim(catalog, ids[1])))

    states = (await totals_of(path)).grouped("upload", lambda total: (total.name, total.detail))

    assert states == {
        ("failed", "corrupt_image"): Count(1),
        ("queued", "storage_full"): Count(1),
        ("queued", ""): Count(1),
    }
    assert await catalog.reports.states() == dict.fromkeys(State, 0) | {State.FAILED: 1, State.QUEUED: 2}


async def test_uploads_in_work_are_counted_apart_though_a_claim_writes_no_totals(
    catalog: Catalog, path: Path
) -> None:
    ids = [uuid4() for _ in range(3)]
    await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in ids))
    await commit(catalog, postponed(await claim(catalog, ids[0]), 0))
    with another(path) as database:
        database.execute(
            "CREATE TRIGGER no_totals BEFORE UPDATE ON totals BEGIN SELECT raise(ABORT, 'no'); END"
        )
    for each in ids[:2]:
        await claim(catalog, each)

    states = (await totals_of(path)).grouped("upload", lambda total: (total.name, total.detail))

    assert states == {
        ("processing", "storage_full"): Count(1),
        ("processing", ""): Count(1),
        ("queued", ""): Count(1),
    }
    expected = {State.PROCESSING: 2, State.QUEUED: 1}
    assert await catalog.reports.states() == dict.fromkeys(State, 0) | expected


async def test_totals_can_be_had_over_all_days(catalog: Catalog, path: Path) -> None:
    for number in (1, 2):
        await take(catalog, upload_event(number, UUID(int=number), f"uploads/{number}"))
        await commit(catalog, ready(await claim(catalog, UUID(int=number)), names=("thumb",)))
    with another(path) as database:
        database.execute("UPDATE variants SET made_ms = 0 WHERE upload_id = ?", [str(UUID(int=1))])

    assert len((await catalog.reports.totals()).of("variant")) == 2
    over_all = await catalog.reports.totals(by_day=False)
    assert over_all.of("variant") == [Total("variant", "thumb", "jpg", 0, 2, 1000)]


async def test_variants_are_counted_by_name_format_and_day(catalog: Catalog, path: Path) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog)))
    with another(path) as database:
        database.execute("UPDATE variants SET made_ms = ? WHERE name = 'large'", [3 * DAY_MS - 1])
        database.execute("UPDATE variants SET key = 'variants/a.webp', made_ms = ? WHERE name = 'thumb'", [0])

    totals = (await totals_of(path)).of("variant")

    assert totals == [
        Total("variant", "large", "jpg", 2, 1, 1000),
        Total("variant", "thumb", "webp", 0, 1, 500),
    ]


async def test_originals_are_counted_beside_the_variants_by_format(catalog: Catalog, path: Path) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)

    found = await totals_of(path)

    assert found.grouped("original", lambda total: total.name) == {"jpeg": Count(1, 1000)}
    assert (found.count("variant"), found.count("superseded")) == (Count(2, 1500), Count())


async def test_a_superseded_variant_is_counted_apart(catalog: Catalog, path: Path) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    await take(catalog, upload_event(2))
    await commit(catalog, ready(await claim(catalog), "b" * 64, ("thumb",)))

    found = await totals_of(path)

    assert (found.count("variant"), found.count("superseded")) == (Count(1, 500), Count(2, 1500))


async def test_a_deleted_upload_leaves_a_tombstone_and_no_bytes(catalog: Catalog, path: Path) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    await take(catalog, delete_event(2))
    await work(catalog)

    assert (await totals_of(path)).totals == [Total("upload", "deleted", "", 0, 1, 0)]


async def test_refused_events_are_counted_until_they_are_thrown_away(catalog: Catalog, path: Path) -> None:
    letters = [letter("1-0"), letter("2-0")]
    await catalog.intake.take([], letters)
    kept = (await totals_of(path)).count("dead_letter")
    await catalog.dead_letters.discard([1])

    assert (kept, (await totals_of(path)).count("dead_letter")) == (Count(2, 10), Count(1, 5))


async def test_the_largest_come_first_with_what_their_variants_take(catalog: Catalog, path: Path) -> None:
    ids = [uuid4() for _ in range(12)]
    await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in ids))
    for each in ids:
        await commit(catalog, ready(await claim(catalog, each)))
    with another(path) as database:
        for size, each in enumerate(ids):
            database.execute("UPDATE uploads SET bytes = ? WHERE id = ?", [size, str(each)])

    largest = (await totals_of(path)).largest

    assert [large.bytes for large in largest] == list(range(11, 1, -1))
    assert largest[0] == Large(str(ids[11]), f"uploads/{ids[11]}", 11, 1500)


async def test_the_largest_have_the_names_of_their_files_unless_a_row_is_damaged(
    catalog: Catalog, path: Path
) -> None:
    for number, name in enumerate(("Beach.jpg", 7, "x"), 1):
        upload_id = UUID(int=number)
        await take(catalog, upload_event(number, upload_id, f"uploads/{number}", filename=name))
        await commit(catalog, ready(await claim(catalog, upload_id)))
    with another(path) as database:
        database.execute("UPDATE uploads SET metadata = '{' WHERE source = 'uploads/3'")

    names = {large.source: large.filename for large in (await totals_of(path)).largest}
    assert names == {"uploads/1": "Beach.jpg", "uploads/2": None, "uploads/3": None}


# -- and stays right


async def test_an_account_is_quick_because_no_query_reads_all_uploads_or_variants(
    catalog: Catalog, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    connect = sqlite3.connect

    def overheard(*args: Any, **more: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **more)
        connection.set_trace_callback(asked.append)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", overheard)
        await totals_of(path)
    queries = [each for each in asked if "SELECT" in each]
    with another(path) as database:
        plans = [[row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {each}")] for each in queries]

    assert not [step for plan in plans for step in plan if step.startswith(("SCAN uploads", "SCAN variants"))]
    assert [  # and no sorting
        "SEARCH uploads USING INDEX uploads_by_bytes (bytes>?)",
        "CORRELATED SCALAR SUBQUERY 1",
        "SEARCH variants USING INDEX variants_by_upload (upload_id=?)",
    ] in plans


Step = Callable[[Catalog, UUID, int], Awaitable[object]]


async def _end(catalog: Catalog, upload_id: UUID, how: str, number: int) -> None:
    taken = await try_claim(catalog, upload_id)
    if taken is None:
        return
    if taken.upload.state is State.DELETING:
        await work(catalog, upload_id)
    elif how == "ready":
        names = ("thumb", "large")[: number % 2 + 1]
        await commit(catalog, ready(taken, f"{number % 3:064}", names))
    elif how == "release":
        await catalog.claims.release([taken])
    else:
        await commit(catalog, failed(taken) if how == "failed" else postponed(taken, 0))


async def _drop(catalog: Catalog, upload_id: UUID, _number: int) -> None:
    await catalog.sweeps.drop_superseded(await catalog.claims.keys_of(upload_id))


async def _refuse(catalog: Catalog, _upload_id: UUID, number: int) -> None:
    await catalog.intake.take([], [letter(f"{number}-0")])


STEPS: dict[str, Step] = {
    "announce": lambda catalog, each, number: take(catalog, upload_event(number, each, f"uploads/{each}")),
    "delete": lambda catalog, each, number: take(catalog, delete_event(number, each)),
    "claim": lambda catalog, each, _: try_claim(catalog, each),
    "ready": lambda catalog, each, number: _end(catalog, each, "ready", number),
    "failed": lambda catalog, each, number: _end(catalog, each, "failed", number),
    "postponed": lambda catalog, each, number: _end(catalog, each, "postponed", number),
    "release": lambda catalog, each, number: _end(catalog, each, "release", number),
    "remake": lambda catalog, each, _: catalog.requeuer.requeue([each], State.READY),
    "retry": lambda catalog, each, _: catalog.requeuer.requeue([each], State.FAILED),
    "discard": lambda catalog, each, _: catalog.failures.discard([each]),
    "drop": _drop,
    "refuse": _refuse,
    "prune": lambda catalog, _each, number: catalog.dead_letters.prune(number),
}


@pytest.mark.fault(52)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.campaign)])
async def test_whatever_happens_to_uploads_the_totals_are_what_one_counts(
    catalog: Catalog, seed: int
) -> None:
    chance = random.Random(seed)
    ids = [UUID(int=number) for number in range(5)]
    names = [*STEPS, *["announce", "ready", "ready"] * 3]
    seen: set[str] = set()
    for number in range(1, 300):
        name = chance.choice(names)
        await STEPS[name](catalog, chance.choice(ids), number)
        assert await catalog.reports.check_totals() == [], f"step {number}, {name}"
        seen |= {total.what for total in (await catalog.reports.totals()).totals}

    assert seen == {"upload", "original", "variant", "superseded", "dead_letter"}


async def test_what_was_not_committed_was_not_counted(catalog: Catalog, path: Path) -> None:
    await take(catalog, upload_event(1))
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE uploads SET state = 'ready'")
        other.rollback()

    assert await catalog.reports.states() == dict.fromkeys(State, 0) | {State.QUEUED: 1}


@pytest.mark.fault(52)
async def test_a_wrong_total_is_found_and_corrected_though_others_write_meanwhile(
    catalog: Catalog, path: Path
) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    with another(path) as database:
        database.execute("UPDATE totals SET files = files + 7, bytes = bytes - 5 WHERE what = 'original'")
        database.execute("DELETE FROM totals WHERE what = 'upload'")

    short = await catalog.reports.check_totals()
    await take(catalog, upload_event(2, uuid4(), "uploads/other"))
    await catalog.reports.correct(short)

    assert short == [Total("original", "jpeg", "", 0, -7, 5), Total("upload", "ready", "", 0, 1, 0)]
    assert await catalog.reports.check_totals() == []


async def test_the_newest_schema_still_has_every_trigger(catalog: Catalog, path: Path) -> None:
    """SQLite drops a table's triggers with it, so a migration that copies a table must make them again."""
    with another(path) as database:
        names = {
            name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        }

    kinds, moments = ("upload", "original", "variant", "dead_letter"), ("inserted", "deleted", "updated")
    assert names >= {f"{kind}_{moment}" for kind in kinds for moment in moments}


# -- what cannot be read


async def test_without_a_catalog_there_is_no_account_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NoCatalog, match="no catalog"):
        await read_totals(url_of(tmp_path / "nowhere.db"))

    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_is_no_catalog_does_not_answer(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)

    with pytest.raises(CatalogUnavailable, match="not a database"):
        await read_totals(url_of(path))


async def test_an_account_does_not_wait_for_a_writer(catalog: Catalog, path: Path) -> None:
    await take(catalog, upload_event(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM uploads")

        assert (await totals_of(path)).count("upload") == Count(1)


# -- day by day


async def test_a_day_keeps_the_totals_of_its_first_snapshot(catalog: Catalog, path: Path) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    await take(catalog, delete_event(1, uuid4()))  # a tombstone is no upload

    kept = [await catalog.reports.snapshot(day, 4711) for day in (20_000, 20_000, 20_001)]

    snapshots = (await totals_of(path)).snapshots
    assert kept == [True, False, True]
    assert [snapshot.day for snapshot in snapshots] == [20_000, 20_001]
    assert snapshots[0] == Snapshot(20_000, snapshots[0].time_ms, 1, 1, 0, 1, 1000, 2, 1500, 0, 0, 4711)
    assert snapshots[0].bytes == 2500
    assert (await catalog.reports.totals(since_day=20_001)).snapshots == snapshots[1:]
