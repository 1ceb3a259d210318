"""`media copy-blobs`: the storage moves to another place, while workers run and once they are stopped."""

from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.commands import document, media
from tests.support.workplace import Workplace

FIRST, SECOND = "uploads/a/first.jpg", "uploads/b/second.jpg"


@pytest.fixture
def place(workplace: Workplace) -> Workplace:
    """A workplace with one ready upload."""
    workplace.send({"source": workplace.put(FIRST, pictures.small(1))})
    assert workplace.run("media", "--burst").returncode == 0
    return workplace


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for area in ("uploads", "variants")
        for path in (root / area).rglob("*")
        if path.is_file()
    }


def test_the_storage_moves_to_another_folder_and_the_old_one_is_refused(place: Workplace) -> None:
    new = place.home / "new"
    worker = place.start()
    first = document(media(place.env(), "copy-blobs", "--to", f"file:{new}", "--json"))
    place.send({"source": place.put(SECOND, pictures.small(2))})
    place.await_end_of(SECOND)
    busy = media(place.env(), "copy-blobs", "--to", f"file:{new}", "--finish")
    early = place.run("media", "--burst", MEDIA_STORAGE_URL=f"file:{new}")
    swept = media({**place.env(), "MEDIA_STORAGE_URL": f"file:{new}"}, "sweep")
    worker.stop()

    done = document(media(place.env(), "copy-blobs", "--to", f"file:{new}", "--finish", "--json"))

    assert (first["copied"], first["finished"]) == (4, False)
    assert (busy.returncode, early.returncode, swept.returncode) == (1, 1, 1)
    assert "stop every worker first" in busy.stderr
    for ended in (early, swept):
        assert f"file:{new} is a copy that is not finished" in " ".join(ended.stderr.split())
        assert f"media copy-blobs --to file:{new}," in " ".join(ended.stderr.split())
    assert done["finished"] is True
    assert files(new) == files(place.root)
    late = place.run("media", "--burst")
    assert late.returncode == 1
    assert f"moved to file:{new}" in late.stderr
    place.use_root(new)
    place.settings["MEDIA_STORAGE_URL"] = f"file:{new}"
    assert place.run("media", "--burst").returncode == 0
    assert place.check().states == {"ready": 2}
    verified = media(place.env(), "sweep", "--verify", "--json")
    assert verified.returncode == 0, verified.stderr


def test_a_storage_moves_back_to_where_it_was(place: Workplace) -> None:
    old, new = f"file:{place.root}", f"file:{place.home / 'new'}"
    assert media(place.env(), "copy-blobs", "--to", new, "--finish").returncode == 0
    place.settings["MEDIA_STORAGE_URL"] = new

    back = document(media(place.env(), "copy-blobs", "--to", old, "--finish", "--json"))

    assert back["finished"] is True
    assert place.run("media", "--burst", MEDIA_STORAGE_URL=old).returncode == 0
    assert place.run("media", "--burst", MEDIA_STORAGE_URL=new).returncode == 1


def test_originals_that_only_the_target_has_end_a_finish_until_somebody_says_what_they_are(
    place: Workplace,
) -> None:
    new = place.home / "new"
    copying = "copy-blobs", "--to", f"file:{new}"
    place.put("uploads/gone.jpg", pictures.small(3))
    assert media(place.env(), *copying).returncode == 0
    (place.root / "uploads/gone.jpg").unlink()
    early = new / "uploads/early.jpg"
    early.write_bytes(pictures.small(4))  # by an app that knows the new place already

    refused = media(place.env(), *copying, "--finish", "--json")

    assert refused.returncode == 1
    assert (document(refused)["finished"], document(refused)["extras"]) == (False, ["uploads/early.jpg"])
    assert "Run this again with --extra keep" in " ".join(refused.stderr.split())
    assert place.run("media", "--burst").returncode == 0  # nothing has moved yet
    done = document(media(place.env(), *copying, "--finish", "--extra", "keep", "--json"))
    assert done["finished"] is True
    assert files(new) == files(place.root) | {"uploads/early.jpg": early.read_bytes()}
    [trashed] = new.glob("trash/*/uploads/*")
    assert (trashed.name, trashed.read_bytes()) == ("gone.jpg", pictures.small(3))
    assert [path.name for path in new.glob("trash/.*")] == []  # no notes


def test_a_storage_is_not_copied_to_itself_nor_into_itself(place: Workplace) -> None:
    here, link = f"file:{place.root}", place.home / "link"
    link.symlink_to(place.root)
    before = (place.root / ".media-root.json").read_bytes()

    for to in (here, f"file:{link}"):
        for how in ([], ["--dry-run"], ["--finish"]):
            ended = media(place.env(), "copy-blobs", "--to", to, *how)
            assert (ended.returncode, "is the storage itself" in ended.stderr) == (1, True)
    inside = media(place.env(), "copy-blobs", "--to", f"{here}/uploads/new", "--finish")
    assert "lies inside the uploads/ of the other place" in " ".join(inside.stderr.split())
    assert (place.root / ".media-root.json").read_bytes() == before
    assert place.run("media", "--burst").returncode == 0


def test_a_finish_that_was_interrupted_is_finished(place: Workplace) -> None:
    new = place.home / "new"
    ours = (place.root / ".media-root.json").read_bytes()
    assert media(place.env(), "copy-blobs", "--to", f"file:{new}", "--finish").returncode == 0
    (place.root / ".media-root.json").write_bytes(ours)  # as it was between the two markers

    plain = media(place.env(), "copy-blobs", "--to", f"file:{new}")
    done = document(media(place.env(), "copy-blobs", "--to", f"file:{new}", "--finish", "--json"))

    assert (plain.returncode, "run it again" in plain.stderr) == (1, True)
    assert done["finished"] is True
    assert f"was moved to file:{new}" in place.run("media", "--burst").stderr


def test_a_dry_run_counts_and_leaves_no_marker(place: Workplace) -> None:
    new = place.home / "new"
    new.mkdir()

    counted = document(media(place.env(), "copy-blobs", "--to", f"file:{new}", "--dry-run", "--json"))

    assert (counted["copied"], counted["finished"]) == (4, False)
    assert counted["bytes"] == sum(map(len, files(place.root).values()))
    assert list(new.iterdir()) == []


def test_a_place_that_is_no_storage_url_is_refused(place: Workplace) -> None:
    ended = media(place.env(), "copy-blobs", "--to", "/new")

    assert ended.returncode == 2
    assert "--to: must be file:PATH" in ended.stderr
