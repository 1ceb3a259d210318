"""Who may read what `media backup` makes, and as whom it works where root runs it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.commands import Ended, media
from tests.support.disks import small_disk
from tests.support.workplace import Workplace, database_on

NOBODY = 65534
SOURCE = "uploads/a/1.jpg"
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def theirs(redis_server: RedisServer, migrated: Path) -> Iterator[Workplace]:
    """A workplace, all of which belongs to another user than root, with an original."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        home.chmod(0o755)  # folders of pytest's own are shut to other users
        place = Workplace(home, database_on(redis_server.url), migrated)
        place.send({"source": place.put(SOURCE, pictures.small(1))})
        place.run("media", "--burst")
        (home / "backup").mkdir(mode=0o700)
        for path in (home, *home.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield place
        place.close()


def backup(place: Workplace) -> Ended:
    return media(place.env(), "backup", place.home / "backup", "--files")


@only_root
def test_root_makes_backups_as_the_owner_of_their_folder(theirs: Workplace) -> None:
    ended = backup(theirs)

    assert ended.returncode == 0, ended.stderr
    made = list((theirs.home / "backup").rglob("*"))
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(NOBODY, NOBODY)}
    assert (theirs.home / "backup/files" / SOURCE).samefile(theirs.root / SOURCE)


@only_root
def test_root_copies_no_catalog_that_the_owner_of_the_folder_may_not_read(theirs: Workplace) -> None:
    os.chown(theirs.catalog, 0, 0)
    theirs.catalog.chmod(0o600)

    ended = backup(theirs)

    assert ended.returncode == 1
    assert "catalog.db" in ended.stderr
    assert list((theirs.home / "backup").glob("*")) == []


def test_copies_of_originals_are_for_their_owner_alone_whatever_the_originals_are(
    workplace: Workplace, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:  # another file system: no hard links
        workplace.send({"source": workplace.put(SOURCE, pictures.small(1))})
        workplace.run("media", "--burst")
        ended = media(workplace.env(), "backup", disk / "backup", "--files")
        made = [disk / "backup/files", *(disk / "backup/files/uploads").rglob("*")]

        assert ended.returncode == 0, ended.stderr
        assert (disk / "backup/files" / SOURCE).read_bytes() == pictures.small(1)
        assert {path.stat().st_mode & 0o077 for path in made} == {0}


def test_a_copy_that_cannot_be_read_is_named_and_another_one_made(workplace: Workplace) -> None:
    shut = workplace.home / "backup/2026-01-01T000000Z"
    shut.mkdir(mode=0, parents=True)

    ended = media(workplace.env(), "backup", workplace.home / "backup", "--keep", "1h", confined=True)

    assert ended.returncode == 0, ended.stderr
    assert f"{shut} cannot be read or removed (Permission denied)" in ended.stderr
    assert shut.is_dir()
