"""A catalog's file takes the place of another one, step by step."""

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from storage.catalog import sqlite_restore
from storage.catalog.copying import open_new
from storage.errors import CatalogUnavailable
from tests.support.file_systems import without_links

NONCE = "7c9e"


def make(path: Path, text: str) -> Path:
    """A catalog of which only the mark and one more value count here."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE kv (name TEXT, value TEXT)")
        rows = [("restored", f'{{"nonce": "{NONCE}"}}'), ("text", text)]
        database.executemany("INSERT INTO kv VALUES (?, ?)", rows)
    return path


def text_of(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("SELECT value FROM kv WHERE name = 'text'").fetchone()[0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return make(tmp_path / "here/catalog.db", "old")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return make(tmp_path / "copy.db", "new")


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


def test_nobody_else_can_read_a_catalog_while_it_is_copied(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.chmod(0o640)
    modes, real = [], shutil.copyfileobj

    def watched(source: Any, target: Any, *more: Any) -> None:
        modes.append(stat.S_IMODE(os.fstat(target.fileno()).st_mode))
        real(source, target, *more)

    monkeypatch.setattr(shutil, "copyfileobj", watched)
    candidate = sqlite_restore.begin(path, copy)

    assert (modes, stat.S_IMODE(candidate.stat().st_mode)) == ([0o600], 0o640)


def test_a_new_file_is_written_through_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"root's")
    (tmp_path / "new").symlink_to(victim)

    with pytest.raises(FileExistsError):
        open_new(tmp_path / "new")

    assert victim.read_bytes() == b"root's"


def test_a_candidate_that_was_taken_away_is_not_made_anew(path: Path, copy: Path) -> None:
    candidate = sqlite_restore.begin(path, copy)
    candidate.unlink()

    with pytest.raises(CatalogUnavailable, match="cannot be used"):
        sqlite_restore.finish(candidate, NONCE)

    assert names(path) == ["catalog.db"]


def test_a_candidate_of_another_restore_does_not_become_the_catalog(path: Path, copy: Path) -> None:
    candidate = sqlite_restore.begin(path, copy)

    with pytest.raises(CatalogUnavailable, match="not the one that was made ready"):
        sqlite_restore.finish(candidate, "another")


@pytest.mark.parametrize("is_damaged", [False, True])
def test_the_old_file_is_kept_where_no_file_can_have_two_names(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, *, is_damaged: bool
) -> None:
    if is_damaged:
        path.write_bytes(b"nonsense" * 1000)
    before = path.read_bytes()
    without_links(monkeypatch)
    candidate = sqlite_restore.begin(path, copy)
    sqlite_restore.finish(candidate, NONCE)
    aside = sqlite_restore.replace(path, candidate, "20261129T120000")

    assert aside is not None
    assert aside.read_bytes() == before if is_damaged else text_of(aside) == "old"
    assert (text_of(path), names(path)) == ("new", ["catalog.db", aside.name])


def test_a_second_name_that_a_killed_restore_has_left_goes_and_old_catalogs_stay(
    path: Path, copy: Path
) -> None:
    os.link(path, path.with_name("catalog.db.before-restore-20261129T120000"))
    earlier = make(path.with_name("catalog.db.before-restore-20261128T120000"), "earlier")

    candidate = sqlite_restore.begin(path, copy)

    assert names(path) == ["catalog.db", earlier.name, candidate.name]


def test_a_name_that_an_old_catalog_has_is_given_to_no_other(path: Path, copy: Path) -> None:
    earlier = make(path.with_name("catalog.db.before-restore-20261129T120000"), "earlier")
    candidate = sqlite_restore.begin(path, copy)

    aside = sqlite_restore.replace(path, candidate, "20261129T120000")

    assert aside is not None
    assert (text_of(earlier), text_of(aside), text_of(path)) == ("earlier", "old", "new")


def test_the_lock_of_a_restore_that_was_killed_is_in_nobodys_way(path: Path) -> None:
    path.with_name("catalog.db.restore-lock").touch()

    with sqlite_restore.alone(path):
        assert names(path) == ["catalog.db", "catalog.db.restore-lock"]

    assert names(path) == ["catalog.db"]
