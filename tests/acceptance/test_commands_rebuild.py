"""`media rebuild`: a lost catalog is made anew from the originals, and nothing is deleted on the way."""

import json
import shutil
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.old_catalogs import make_development
from tests.support.prepared import Prepared
from tests.support.workplace import Workplace, database_on

SOURCES = [f"uploads/deep/{n}.jpg" for n in range(3)]


@pytest.fixture(scope="module")
def prepared(redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A workplace with three ready uploads."""
    made = Workplace(tmp_path_factory.mktemp("prepared"), database_on(redis_server.url), migrated)
    for number, source in enumerate(SOURCES):
        made.put(source, pictures.small(number))
    made.send_all({"source": source} for source in SOURCES)
    assert made.run("media", "--burst").returncode == 0
    assert made.check().states == {"ready": 3}
    return Prepared.of(made)


@pytest.fixture
def place(workplace: Workplace, prepared: Prepared) -> Workplace:
    """That workplace, for one test."""
    return prepared.copy_to(workplace)


def _lose_the_catalog(place: Workplace) -> None:
    for path in place.home.glob("catalog.db*"):
        path.unlink()


def _files(place: Workplace) -> dict[str, int]:
    return {
        str(path.relative_to(place.root)): path.stat().st_size
        for folder in ("uploads", "variants")
        for path in (place.root / folder).rglob("*")
        if path.is_file()
    }


def test_a_lost_catalog_comes_back_with_the_same_names(place: Workplace) -> None:
    before = _files(place)
    answer = max(one["seq"] for one in place.listen(lambda got: len(got) >= 3))
    _lose_the_catalog(place)
    assert "rebuild" in place.run("media", "--burst").stderr
    assert not place.catalog.exists()  # none is made for a root that has another

    rebuilt = document(media(place.env(), "rebuild", "--json"))
    assert rebuilt["queued"] == 3
    assert _files(place) == before
    assert place.run("media", "--burst").returncode == 0
    assert all(one["seq"] > answer for one in place.listen(lambda got: len(got) >= 6)[3:])

    place.redis.delete("media:events")  # those of the lost catalog
    assert place.check().states == {"ready": 3}
    assert _files(place) == before


def test_a_catalog_that_is_alive_is_not_replaced(place: Workplace) -> None:
    ended = media(place.env(), "rebuild", "--yes")

    assert ended.returncode == 1
    assert "Move it away first" in ended.stderr
    assert place.check().states == {"ready": 3}


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("a (moved to s3://new)", "was moved to s3://new: set MEDIA_STORAGE_URL to that"),
        ("a (moves to s3://new)", "moves to s3://new: wait for"),
        ("a (not copied whole yet: media copy-blobs)", "is a copy that is not finished"),
    ],
)
def test_a_storage_that_has_moved_or_is_half_a_copy_gets_no_new_catalog(
    place: Workplace, says: str, reason: str
) -> None:
    _lose_the_catalog(place)
    (place.root / ".media-root.json").write_text(json.dumps({"catalog": says, "version": 1}))

    ended = media(place.env(), "rebuild", "--yes")

    assert (ended.returncode, reason in " ".join(ended.stderr.split())) == (1, True)
    assert not place.catalog.exists()


def test_no_new_catalog_is_made_while_a_worker_runs(place: Workplace) -> None:
    place.start()
    _lose_the_catalog(place)

    ended = media(place.env(), "rebuild", "--yes")

    assert (ended.returncode, "stop every worker first" in ended.stderr) == (1, True)


def test_a_catalog_of_a_development_version_is_moved_away_and_made_anew(place: Workplace) -> None:
    before = _files(place)
    _lose_the_catalog(place)
    make_development(place.catalog, "0010")
    worker = place.run("media", "--burst")
    in_the_way = media(place.env(), "rebuild", "--yes")
    place.catalog.rename(place.home / "old.db")

    rebuilt = document(media(place.env(), "rebuild", "--json"))

    for refused in (worker, in_the_way):
        assert refused.returncode == 1
        assert "move it away" in refused.stderr.replace("\n", " ")
    assert rebuilt["queued"] == 3
    assert place.run("media", "--burst").returncode == 0
    place.redis.delete("media:events")  # those of the catalog that was moved away
    assert place.check().states == {"ready": 3}
    assert _files(place) == before


def test_a_person_is_asked_first(place: Workplace) -> None:
    _lose_the_catalog(place)

    ended = media(place.env(), "rebuild")  # nobody answers

    assert ended.returncode != 0
    assert str(place.root) in ended.stderr
    assert "metadata" in ended.stderr
    assert "--yes" in ended.stderr


@pytest.mark.parametrize("how", ["--yes", "--json"])
@pytest.mark.rotating(1)
def test_without_a_question_the_losses_are_printed_too(place: Workplace, how: str) -> None:
    _lose_the_catalog(place)

    ended = media(place.env(), "rebuild", how)

    assert ended.returncode == 0
    assert "metadata" in ended.stderr
    assert "metadata" not in ended.stdout


def test_a_root_that_does_not_exist_is_not_made(place: Workplace) -> None:
    _lose_the_catalog(place)
    away = place.home / "away"
    place.root.rename(away)

    ended = media(place.env(), "rebuild", "--yes")

    assert ended.returncode == 1
    assert not place.root.exists()


def test_originals_whose_volume_is_not_mounted_are_waited_for(place: Workplace, volume: Path) -> None:
    uploads = place.root / "uploads"
    shutil.copytree(uploads, volume, dirs_exist_ok=True)
    shutil.rmtree(uploads)
    uploads.symlink_to(volume)
    assert place.run("media", "--burst").returncode == 0
    _lose_the_catalog(place)
    uploads.unlink()
    uploads.mkdir()
    ended = media(place.env(), "rebuild", "--yes")
    uploads.rmdir()
    uploads.symlink_to(volume)
    again = document(media(place.env(), "rebuild", "--json"))

    assert ended.returncode == 1
    assert f"{uploads} was a volume" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert again["queued"] == 3
