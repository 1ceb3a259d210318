"""`media copy-blobs`: the storage moves to another place, while workers run and once they are stopped."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from scripts.s3_server import SeaweedServer
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import Ended, document, media
from tests.support.prepared import Prepared
from tests.support.s3 import new_place
from tests.support.s3_proxy import S3Proxy, s3_proxy
from tests.support.workplace import Workplace, database_on

pytestmark = pytest.mark.rotating(4, of="module")

FIRST, SECOND = "uploads/a/first.jpg", "uploads/b/second.jpg"


@pytest.fixture(scope="module")
def prepared(redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A workplace with one ready upload."""
    made = Workplace(tmp_path_factory.mktemp("prepared"), database_on(redis_server.url), migrated)
    made.send({"source": made.put(FIRST, pictures.small(1))})
    assert made.run("media", "--burst").returncode == 0
    return Prepared.of(made)


@pytest.fixture
def place(workplace: Workplace, prepared: Prepared) -> Workplace:
    """That workplace, for one test."""
    return prepared.copy_to(workplace)


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for area in ("uploads", "variants")
        for path in (root / area).rglob("*")
        if path.is_file()
    }


@WITH_SERVICES
@pytest.mark.rotating(1)
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


def say(root: Path, owner: str) -> None:
    """Let the marker of that storage say so."""
    (root / ".media-root.json").write_text(json.dumps({"catalog": owner, "version": 1}))


def owner_of(root: Path) -> str:
    return str(json.loads((root / ".media-root.json").read_text())["catalog"])


def test_a_finish_that_was_killed_after_the_copy_is_ended(place: Workplace) -> None:
    new, ours = place.home / "new", owner_of(place.root)
    copying = "copy-blobs", "--to", f"file:{new}"
    assert media(place.env(), *copying, "--finish").returncode == 0
    say(place.root, f"{ours} (moves to file:{new})")  # as it was between the two markers

    plain, taken_back = media(place.env(), *copying), media(place.env(), *copying, "--cancel")
    done = document(media(place.env(), *copying, "--finish", "--json"))

    for refused in (plain, taken_back):
        assert (refused.returncode, "is whole" in refused.stderr) == (1, True)
        assert "run it again" in refused.stderr
    assert (done["finished"], done["copied"]) == (True, 0)
    assert f"was moved to file:{new}" in place.run("media", "--burst").stderr


def killed_while_copying(place: Workplace) -> Path:
    """Where the storage moves to; a finish was killed before it had copied a new file."""
    new, ours = place.home / "new", owner_of(place.root)
    assert media(place.env(), "copy-blobs", "--to", f"file:{new}").returncode == 0
    say(place.root, f"{ours} (moves to file:{new})")
    place.put(SECOND, pictures.small(2))
    return new


def test_nobody_works_after_a_finish_that_was_killed_until_it_is_run_again(place: Workplace) -> None:
    new = killed_while_copying(place)
    copying = "copy-blobs", "--to", f"file:{new}"

    early = place.run("media", "--burst")
    plain = media(place.env(), *copying)
    elsewhere = media(place.env(), "copy-blobs", "--to", f"file:{place.home / 'third'}", "--finish")
    done = document(media(place.env(), *copying, "--finish", "--json"))

    for refused in (early, elsewhere):
        assert refused.returncode == 1
        assert f"moves to file:{new}: wait for" in " ".join(refused.stderr.split())
    assert (plain.returncode, "A --finish was interrupted: run it again" in plain.stderr) == (1, True)
    assert (done["finished"], (new / SECOND).read_bytes()) == (True, pictures.small(2))
    place.use_root(new)
    place.settings["MEDIA_STORAGE_URL"] = f"file:{new}"
    place.send({"source": SECOND})
    assert place.run("media", "--burst").returncode == 0
    assert place.check().states == {"ready": 2}


def test_a_finish_that_was_killed_is_taken_back(place: Workplace) -> None:
    new = killed_while_copying(place)

    ended = media(place.env(), "copy-blobs", "--to", f"file:{new}", "--cancel")

    assert (ended.returncode, ended.stdout) == (0, "The storage is used again.\n")
    place.send({"source": SECOND})
    assert place.run("media", "--burst").returncode == 0
    assert place.check().states == {"ready": 2}


def test_two_storages_that_say_they_are_the_catalogs_are_left_as_they_are(place: Workplace) -> None:
    new, ours = place.home / "new", owner_of(place.root)
    assert media(place.env(), "copy-blobs", "--to", f"file:{new}", "--finish").returncode == 0
    say(place.root, ours)  # by hand
    place.send({"source": place.put(SECOND, pictures.small(2))})
    assert place.run("media", "--burst").returncode == 0

    ended = media(place.env(), "copy-blobs", "--to", f"file:{new}", "--finish")

    assert ended.returncode == 1
    assert "has the marker of this very catalog, as the storage has" in " ".join(ended.stderr.split())
    assert owner_of(place.root) == owner_of(new) == ours


@dataclass(frozen=True)
class Finish:
    """A storage that moves into a bucket, behind a proxy."""

    place: Workplace
    proxy: S3Proxy
    to: str

    def run(self, meanwhile: Callable[[], object]) -> Ended:
        """Move, and do something before the first original is put."""
        self.proxy.before(f"PUT .*{FIRST}", meanwhile)
        return media(self.place.env(), "copy-blobs", "--to", self.to, "--finish", "--json")


@pytest.fixture
def finish(place: Workplace, seaweedfs: SeaweedServer) -> Iterator[Finish]:
    with s3_proxy(seaweedfs.endpoint) as proxy:
        place.settings |= {**seaweedfs.env, "MEDIA_S3_ENDPOINT": proxy.endpoint}
        yield Finish(place, proxy, str(new_place(seaweedfs)))


def test_a_worker_that_is_started_while_the_rest_is_copied_is_refused(finish: Finish) -> None:
    place, early = finish.place, list[Ended]()
    place.send({"source": place.put(SECOND, pictures.small(2))})

    done = document(finish.run(lambda: early.append(place.run("media", "--burst"))))

    assert early[0].returncode == 1
    assert f"moves to {finish.to}: wait for" in " ".join(early[0].stderr.split())
    assert done["finished"] is True
    place.settings["MEDIA_STORAGE_URL"] = finish.to
    assert place.run("media", "--burst").returncode == 0
    verified = media(place.env(), "sweep", "--verify", "--json")
    assert verified.returncode == 0, verified.stdout


def test_a_worker_that_shows_itself_while_the_rest_is_copied_ends_the_finish(finish: Finish) -> None:
    place, ours = finish.place, owner_of(finish.place.root)

    def beat() -> None:
        place.redis.zadd("media:uploads:workers", {"host:1:frozen": time.time() * 1000})
        place.redis.set("media:uploads:health:host:1:frozen", '{"healthy": true, "detail": ""}', px=60_000)

    ended = finish.run(beat)

    assert (ended.returncode, "stop every worker first" in ended.stderr) == (1, True)
    assert owner_of(place.root) == ours


def test_a_finish_that_fails_lets_the_storage_be_used_again(finish: Finish) -> None:
    ours = owner_of(finish.place.root)
    finish.proxy.strike("AccessDenied", of="PUT .*/(uploads|variants)/")

    ended = media(finish.place.env(), "copy-blobs", "--to", finish.to, "--finish")

    assert (ended.returncode, "AccessDenied" in ended.stderr) == (1, True)
    assert owner_of(finish.place.root) == ours


def test_what_cannot_be_copied_ends_a_finish_until_somebody_says_to_leave_it(place: Workplace) -> None:
    new = place.home / "new"
    copying = "copy-blobs", "--to", f"file:{new}", "--finish"
    place.put("uploads/b\nc.jpg", pictures.small(3))

    refused = media(place.env(), *copying, "--json")

    assert refused.returncode == 1
    assert document(refused)["finished"] is False
    assert document(refused)["refused"] == {"uploads/b\\x0ac.jpg": "no key can name it"}
    assert "Rename or mend it, or run this again with --leave" in " ".join(refused.stderr.split())
    assert place.run("media", "--burst").returncode == 0  # nothing has moved yet
    left = media(place.env(), *copying, "--leave", "--json")
    assert (left.returncode, document(left)["finished"], len(document(left)["refused"])) == (0, True, 1)


def test_a_dry_run_counts_and_leaves_no_marker(place: Workplace) -> None:
    new = place.home / "new"

    counted = document(media(place.env(), "copy-blobs", "--to", f"file:{new}", "--dry-run", "--json"))

    assert (counted["copied"], counted["finished"]) == (4, False)
    assert counted["bytes"] == sum(map(len, files(place.root).values()))
    assert not new.exists()


def test_a_place_that_is_no_storage_url_is_refused(place: Workplace) -> None:
    ended = media(place.env(), "copy-blobs", "--to", "/new")

    assert ended.returncode == 2
    assert "--to: must be file:PATH" in ended.stderr
