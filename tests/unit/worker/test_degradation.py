"""What degrades a worker: each sign on both sides of its threshold, and what is said of it."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import pytest
from structlog.testing import capture_logs

from storage.blobs import Space
from storage.catalog.backup_notes import BackupChecked, BackupFailed, BackupMade, BackupNotes
from storage.catalog.opening import Catalog
from storage.errors import CatalogUnavailable
from worker import degradation
from worker.degradation import (
    Degradation,
    full,
    long_wait,
    now_and_then,
    old_backup,
    resident,
    watch_backup,
    watch_log,
    watch_memory,
    watch_space,
    watch_sweep,
)
from worker.health import Check
from worker.status import Status

NOON = datetime(2026, 3, 2, 12, 30)
HOURLY, WEEKLY = "30 * * * *", "30 12 * * 1"


def answering(*answers: str | Exception | None) -> Check:
    """A sign with these answers, one after the other."""
    rest = list(answers)

    async def look() -> str | None:
        answer = rest.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


async def test_a_sign_is_shown_while_it_lasts_and_logged_when_it_begins_and_ends() -> None:
    status = Status()
    degraded = Degradation({"space": answering(None, "86%", "87%", None)}, status)
    shown = []
    with capture_logs() as logged:
        for _ in range(4):
            await degraded.look()
            shown.append(status.degraded)

    assert shown == [{}, {"space": "86%"}, {"space": "87%"}, {}]
    assert [line["event"] for line in logged] == ["degraded", "no_longer_degraded"]
    assert logged[0]["reason"] == "86%"


async def test_what_cannot_be_looked_at_is_no_sign_and_hides_no_other() -> None:
    status = Status()
    signs = {"sweep": answering(CatalogUnavailable("away")), "space": answering("86%")}

    await Degradation(signs, status).look()

    assert status.degraded == {"space": "86%"}


async def test_what_costs_something_is_looked_at_now_and_then() -> None:
    often, seldom = now_and_then(answering("1", "2"), 0), now_and_then(answering("1"), 3600)

    assert [await often(), await often()] == ["1", "2"]
    assert [await seldom(), await seldom()] == ["1", "1"]


@pytest.mark.parametrize(("used", "told"), [(85, None), (86, "86% of the budget are taken")])
async def test_memory_is_a_sign_above_85_percent_of_the_budget(used: int, told: str | None) -> None:
    assert await watch_memory(lambda: used, 100, lasting_s=0)() == told


async def test_memory_that_is_taken_for_a_moment_is_no_sign() -> None:
    now, used = [0.0], [99]
    look = watch_memory(lambda: used[0], 100, lasting_s=15, clock=lambda: now[0])
    answers: Sequence[tuple[float, int]] = [(0, 99), (10, 99), (12, 50), (14, 99), (28, 99), (29, 99)]
    told = []
    for now[0], used[0] in answers:
        told.append(await look())

    assert told == [None] * 5 + ["99% of the budget are taken"]


def test_the_memory_of_this_process_is_some_of_it() -> None:
    assert 10_000_000 < resident() < 1_000_000_000


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(None, None), (60, None), (61, "the oldest event has waited for 61 s")],
)
def test_an_event_waits_too_long_after_a_minute(seconds: int | None, told: str | None) -> None:
    assert long_wait(seconds) == told


@pytest.mark.parametrize(
    ("used", "free", "told"),
    [(85, 15, None), (86, 14, "86% of its file system are taken"), (0, 0, None)],
)
def test_a_storage_is_full_above_85_percent_of_what_is_ours(used: int, free: int, told: str | None) -> None:
    assert full(used, free) == told


async def test_a_bucket_is_never_full() -> None:
    class Bottomless:
        async def space(self) -> None:
            """Nobody can say."""

    class Disk:
        async def space(self) -> Space:
            return Space(bytes=200, free_bytes=10, free_files=None, used_bytes=90)

    assert await watch_space(Bottomless())() is None
    assert await watch_space(Disk())() == "90% of its file system are taken"


async def test_a_sweep_that_was_stopped_is_a_sign(catalog: Catalog) -> None:
    look = watch_sweep(catalog.sweeps)
    before = await look()
    await catalog.sweeps.note_stop("too many orphans")

    assert (before, await look()) == (None, "the last one was stopped: too many orphans")


async def test_a_log_beside_the_catalog_is_a_sign_once_it_is_large(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, database_kind: str
) -> None:
    look = watch_log(catalog.database)
    before = await look()
    monkeypatch.setattr("storage.catalog.sqlite.LARGE_LOG", -1)
    now = await look()

    assert before is None
    assert (now is not None) == (database_kind == "sqlite")
    assert await look() == now  # for as long as it is


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@pytest.mark.parametrize(
    ("crontab", "age", "told"),
    [
        (HOURLY, timedelta(hours=25, minutes=59), None),
        (HOURLY, timedelta(hours=26), "the newest copy is 26 hours old"),
        (WEEKLY, timedelta(days=8), None),
        (WEEKLY, timedelta(days=8, hours=1), "the newest copy is 193 hours old"),
    ],
)
def test_a_copy_is_old_a_day_and_an_hour_after_the_next_was_due(
    crontab: str, age: timedelta, told: str | None
) -> None:
    made = BackupMade(ms(NOON), "/backup", "1", 1, 1)

    assert old_backup(made, crontab, ms(NOON + age), since_ms=0) == told


async def test_without_any_copy_the_time_counts_since_workers_are_to_make_some(catalog: Catalog) -> None:
    times = [ms(NOON + timedelta(hours=hours)) for hours in (0, 20, 25, 27)]
    looks = [watch_backup(BackupNotes(catalog.database), HOURLY, partial(int, time)) for time in times]
    told = [await look() for look in looks]  # by workers that each start at that time

    assert told == [None, None, None, "none has been made in 27 hours, although MEDIA_BACKUP is set"]


async def test_copies_are_not_expected_since_a_time_that_is_still_to_come(catalog: Catalog) -> None:
    notes = BackupNotes(catalog.database)
    await notes.expect(ms(NOON + timedelta(days=300)))  # by a clock that ran ahead

    assert [await notes.expect(ms(NOON)), await notes.expect(ms(NOON) + 1)] == [ms(NOON)] * 2


async def test_a_copy_that_was_found_to_be_bad_is_a_sign_at_once(catalog: Catalog) -> None:
    notes, now_ms = BackupNotes(catalog.database), catalog.database.now_ms
    look = watch_backup(notes, HOURLY, now_ms)
    await notes.note(BackupMade(now_ms(), "/backup", "1", 1, 1))
    before = await look()
    await notes.note_check(BackupChecked(now_ms(), "1", "row 7 is missing"))

    assert (before, await look()) == (None, "the copy 1 is bad: row 7 is missing")


async def test_a_try_that_failed_is_a_sign_at_once_until_one_makes_a_copy(catalog: Catalog) -> None:
    notes, now_ms = BackupNotes(catalog.database), catalog.database.now_ms
    look = watch_backup(notes, HOURLY, now_ms)
    told = [await look()]
    await notes.note_failure(BackupFailed(now_ms(), "there is no room"))
    told.append(await look())
    await notes.note(BackupMade(now_ms(), "/backup", "1", 1, 1))
    told.append(await look())

    assert told == [None, "the last one failed: there is no room", None]


async def test_the_loop_goes_on_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degradation, "INTERVAL_S", 0)
    looked = asyncio.Event()

    async def look() -> str | None:
        if status.degraded:
            looked.set()
        return "86%"

    status = Status()
    running = asyncio.create_task(Degradation({"space": look}, status).run())
    await looked.wait()
    running.cancel()

    assert status.degraded == {"space": "86%"}
