"""Backups while workers write and die: each passes its check, and has all that was ready before it."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.making import check_copy
from tests.chaos.driver import run_chaos
from tests.chaos.place import FaultPlace
from tests.support.clients import WITH_SERVICES
from tests.support.commands import document, media
from tests.support.fork_server import CommandForks
from tests.support.workplace import Workplace, database_on, eventually

SEED = 20261129


def ready(place: FaultPlace) -> set[str]:
    return {source for source, state in place.states().items() if state == "ready"}


def ready_with_files(place: Workplace) -> set[str]:
    """The sources of uploads that are ready, whose variants are all there."""
    query = "SELECT source, key FROM uploads JOIN variants ON upload_id = uploads.id WHERE state = 'ready'"
    rows = place.database.rows(query)
    lacking = {row["source"] for row in rows if not (place.root / row["key"]).is_file()}
    return {row["source"] for row in rows} - lacking


def in_copy(copy: BackupCopy) -> dict[str, tuple[str, int]]:
    """By source: state and number of variants."""
    query = """SELECT coalesce(source, uploads.id), state, count(key) FROM uploads
        LEFT JOIN variants ON upload_id = uploads.id GROUP BY uploads.id"""
    with closing(sqlite3.connect(copy.file)) as saved:
        return {source: (state, count) for source, state, count in saved.execute(query)}


def back_up(place: FaultPlace, times: int) -> None:
    folder = BackupFolder(place.home / "backup")
    for _ in range(times):
        before = ready(place)
        done = document(media(place.env(), "backup", folder.path, "--files", "--json"))
        copy = next(copy for copy in folder.copies() if str(copy.path) == done["copy"])
        asyncio.run(check_copy(copy))
        found = in_copy(copy)
        assert before <= found.keys()
        assert copy.manifest.wrong_totals == 0
        assert [source for source, (state, count) in found.items() if state == "ready" and count < 3] == []


@WITH_SERVICES
def test_backups_beside_workers_that_die_lack_nothing_that_was_ready(
    tmp_path: Path, fork_server: CommandForks
) -> None:
    run_chaos(
        tmp_path,
        uploads=40,
        seconds=4,
        workers=2,
        seed=SEED,
        in_full=False,
        fork_server=fork_server,
        beside=lambda place: back_up(place, 3),
    )


@pytest.mark.campaign
def test_fifty_backups_in_the_chaos_lack_nothing_and_the_last_is_restored_elsewhere(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    run_chaos(
        tmp_path, uploads=600, seconds=60, workers=3, seed=SEED, beside=lambda place: back_up(place, 50)
    )
    folder = BackupFolder(tmp_path / "place/backup")
    other = Workplace(tmp_path / "elsewhere", database_on(redis_server.url))

    done = document(media(other.env(), "restore", folder.path, "--adopt-root", "--json"))
    saved = {source for source, (state, _) in in_copy(folder.copies()[0]).items() if state == "ready"}
    worker = other.start()
    assert media(other.env(), "reprocess", "--missing").returncode == 0
    eventually(lambda: saved <= ready_with_files(other), within=120)
    assert worker.stop() == 0
    other.close()

    assert (done["refused"], done["drift"]["findings"]["lost"]["count"]) == ({}, 0)
    assert len(saved) > 50
