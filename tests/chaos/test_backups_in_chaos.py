"""Backups while workers write and die: each passes its check, and has all that was ready before it."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.making import check_copy
from tests.chaos.driver import run_chaos
from tests.chaos.place import FaultPlace
from tests.support.commands import document, media
from tests.support.fork_server import ForkServer

SEED = 20261129


def ready(place: FaultPlace) -> set[str]:
    return {source for source, state in place.states().items() if state == "ready"}


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
        done = document(media(place.env(), "backup", folder.path, "--json"))
        copy = next(copy for copy in folder.copies() if str(copy.path) == done["copy"])
        asyncio.run(check_copy(copy))
        found = in_copy(copy)
        assert before <= found.keys()
        assert copy.manifest.wrong_totals == 0
        assert [source for source, (state, count) in found.items() if state == "ready" and count < 3] == []


def test_backups_beside_workers_that_die_lack_nothing_that_was_ready(
    tmp_path: Path, fork_server: ForkServer
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
def test_fifty_backups_in_the_chaos_lack_nothing_that_was_ready(tmp_path: Path) -> None:
    run_chaos(
        tmp_path, uploads=1500, seconds=90, workers=3, seed=SEED, beside=lambda place: back_up(place, 50)
    )
