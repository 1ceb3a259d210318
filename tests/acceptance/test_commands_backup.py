"""`media backup`: the catalog is copied while workers go on, and new originals are added."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.redis_server import RedisServer
from scripts.s3_server import S3Server
from storage.backups.folder import BackupCopy, BackupFolder
from storage.backups.making import check_copy
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import Ended, document, media
from tests.support.damage import page_with, settle, zero
from tests.support.dying import DIED, dying_at
from tests.support.elsewhere import ahead_by
from tests.support.prepared import Prepared
from tests.support.s3_workplace import S3Workplace
from tests.support.workplace import Workplace, database_on, eventually

pytestmark = pytest.mark.rotating(3, of="module")

SOURCES = [f"uploads/a/{number}.jpg" for number in range(3)]
LATER = "uploads/b/later.jpg"


@pytest.fixture(scope="module")
def prepared(redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A workplace with some ready uploads."""
    made = Workplace(tmp_path_factory.mktemp("prepared"), database_on(redis_server.url), migrated)
    made.send_all({"source": made.put(source, pictures.small(n))} for n, source in enumerate(SOURCES))
    assert made.run("media", "--burst").returncode == 0
    return Prepared.of(made)


@pytest.fixture
def place(workplace: Workplace, prepared: Prepared) -> Workplace:
    """That workplace, for one test."""
    return prepared.copy_to(workplace)


def backup(place: Workplace, *words: str) -> Ended:
    return media(place.env(), "backup", place.home / "backup", *words)


def copies(place: Workplace) -> list[BackupCopy]:
    return list(BackupFolder(place.home / "backup").copies())


def originals(place: Workplace) -> dict[str, bytes]:
    root = place.home / "backup/files"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.glob("uploads/*/*")}


@WITH_SERVICES
@pytest.mark.rotating(1)
async def test_a_backup_beside_a_worker_has_all_that_was_ready(place: Workplace) -> None:
    place.start()
    place.send({"source": place.put(LATER, pictures.small(9))})
    place.await_end_of(LATER)

    done = document(backup(place, "--json"))

    [copy] = copies(place)
    assert done["copy"] == str(copy.path)
    assert (done["uploads"], done["seq"], done["originals"]) == ({"ready": 4}, 4, None)
    await check_copy(copy)
    noted = place.database.rows("SELECT value FROM kv WHERE name = 'backup:last'")
    assert copy.path.name in noted[0]["value"]


@pytest.mark.rotating(1)
def test_originals_are_added_once_and_again_after_they_were_replaced(place: Workplace) -> None:
    first = document(backup(place, "--files", "--json"))
    place.put(SOURCES[0], pictures.small(50))
    place.put(LATER, pictures.small(9))

    second = document(backup(place, "--files", "--json"))

    assert (first["originals"]["added"], second["originals"]["added"]) == (3, 2)
    assert originals(place) == {source: (place.root / source).read_bytes() for source in [*SOURCES, LATER]}
    assert (place.root / LATER).samefile(place.home / "backup/files" / LATER)  # no byte was copied


def replaced(place: Workplace) -> dict[str, list[bytes]]:
    """The earlier versions in the backup, by original."""
    root = place.home / "backup/replaced"
    found: dict[str, list[bytes]] = {}
    for path in sorted(root.glob("uploads/*/*/*")):
        found.setdefault(str(path.parent.relative_to(root)), []).append(path.read_bytes())
    return found


@pytest.mark.rotating(1)
def test_an_original_that_is_gone_stays_in_the_backup_and_is_named(place: Workplace) -> None:
    backup(place, "--files")
    (place.root / SOURCES[0]).unlink()

    ended = backup(place, "--files")

    said = " ".join(ended.stderr.split())
    assert ended.returncode == 1
    assert f"{SOURCES[0]}: it is gone, and its ready upload has" in said
    assert "1 original of ready uploads are gone" in said
    assert sorted(originals(place)) == SOURCES
    assert "Added 0 originals" in ended.stdout


@pytest.mark.rotating(1)
def test_what_replaces_an_original_in_the_backup_leaves_the_earlier_ones_there(place: Workplace) -> None:
    backup(place, "--files")
    for content in (b"first", b"second", b"second"):  # the last one is another file with the same bytes
        place.put(SOURCES[0], content)
        backup(place, "--files")

    assert originals(place)[SOURCES[0]] == b"second"
    assert replaced(place) == {SOURCES[0]: [pictures.small(0), b"first"]}


@pytest.mark.parametrize("left", [0, 100])
@pytest.mark.rotating(1)
def test_an_original_that_was_torn_is_named_and_its_good_version_kept(place: Workplace, left: int) -> None:
    backup(place, "--files")
    place.put(SOURCES[0], pictures.small(0)[:left])

    ended = backup(place, "--files", "--json")

    differing = json.loads(ended.stdout)["originals"]["differing"]
    assert (ended.returncode, list(differing)) == (1, [SOURCES[0]])
    assert f"it has {left} bytes" in differing[SOURCES[0]]
    assert f"the backup has it in {place.home}/backup/replaced/{SOURCES[0]}/" in differing[SOURCES[0]]
    assert replaced(place) == {SOURCES[0]: [pictures.small(0)]}
    assert len(copies(place)) == 2


def test_an_original_whose_event_may_still_wait_is_no_fault(place: Workplace) -> None:
    backup(place, "--files")
    place.put(SOURCES[0], pictures.small(50) + b"another size")

    ended = backup(place, "--files")
    place.settings |= ahead_by(3600)
    later = backup(place, "--files")

    assert (ended.returncode, later.returncode) == (0, 1), ended.stderr
    assert "its ready upload has" in " ".join(later.stderr.split())


def test_an_original_whose_upload_has_failed_or_was_deleted_is_no_fault(place: Workplace) -> None:
    place.settings |= {"MEDIA_DELETE_ORIGINALS": "1"}
    place.send({"source": place.put(SOURCES[0], b"")})
    [row] = place.database.rows(f"SELECT id FROM uploads WHERE source = '{SOURCES[1]}'")
    place.send({"delete": row["id"], "original": True})
    assert place.run("media", "--burst").returncode == 0

    ended = backup(place, "--files")

    assert not (place.root / SOURCES[1]).exists()
    assert ended.returncode == 0, ended.stderr


def test_older_copies_go_where_it_is_asked(place: Workplace) -> None:
    names = [Path(document(backup(place, "--json"))["copy"]).name for _ in range(2)]

    done = document(backup(place, "--keep", "1h", "--json"))

    assert sorted(done["pruned"]) == sorted(names)
    assert [str(copy.path) for copy in copies(place)] == [done["copy"]]


@pytest.mark.parametrize("step", range(1, 15))
@pytest.mark.rotating(3)
async def test_a_backup_that_is_killed_leaves_a_whole_copy_or_none(place: Workplace, step: int) -> None:
    killed = media({**place.env(), **dying_at(step)}, "backup", place.home / "backup", "--files")
    left = copies(place)
    for copy in left:
        await check_copy(copy)

    again = backup(place, "--files")

    assert killed.returncode == DIED
    assert again.returncode == 0, again.stderr
    assert len(copies(place)) == len(left) + 1
    assert originals(place) == {source: (place.root / source).read_bytes() for source in SOURCES}
    hidden = {path.name for path in (place.home / "backup").rglob(".*") if "root.json." not in path.name}
    assert hidden == {".lock", ".media-root.json"}


@pytest.mark.parametrize("step", range(10, 31))
@pytest.mark.rotating(3)
def test_a_backup_that_is_killed_loses_no_version(place: Workplace, step: int) -> None:
    backup(place, "--files")
    place.put(SOURCES[0], b"another")

    killed = media({**place.env(), **dying_at(step)}, "backup", place.home / "backup", "--files")
    again = backup(place, "--files")

    assert killed.returncode == DIED
    assert again.returncode == 0, again.stderr
    assert originals(place)[SOURCES[0]] == b"another"
    assert pictures.small(0) in replaced(place)[SOURCES[0]]
    hidden = {path.name for path in (place.home / "backup").rglob(".*") if "root.json." not in path.name}
    assert hidden == {".lock", ".media-root.json"}


def damaged(place: Workplace) -> None:
    settle(place.catalog)
    zero(place.catalog, page_with(place.catalog, SOURCES[0]))


def absent(place: Workplace) -> None:
    place.catalog.unlink()


def shut(place: Workplace) -> None:
    (place.home / "backup").mkdir(mode=0o500)


REFUSED: list[tuple[Any, list[str], int, str]] = [
    (None, ["var/../media/x"], 2, "lies inside the storage"),
    (None, ["catalog.db"], 2, "is the catalog"),
    (None, ["backup", "--keep", "yes"], 2, "--keep must be"),
    (None, ["no/such"], 1, "is not there: is a disk not mounted?"),
    (None, [], 2, "Name the folder"),
    (absent, ["backup"], 1, "There is no catalog at"),
    (damaged, ["backup"], 1, "is damaged"),
    (shut, ["backup"], 1, "backup cannot be written"),
]


@pytest.mark.parametrize(("prepare", "words", "code", "said"), REFUSED)
@pytest.mark.rotating(4)
def test_what_cannot_be_copied_is_named_and_leaves_no_copy(
    place: Workplace, prepare: Any, words: list[str], code: int, said: str
) -> None:
    if prepare is not None:
        prepare(place)

    ended = media(place.env(), "backup", *words, confined=True)

    assert (ended.returncode, said in " ".join(ended.stderr.split())) == (code, True), ended.stderr
    assert copies(place) == []


def test_originals_of_a_bucket_are_added(
    seaweedfs: S3Server, redis_server: RedisServer, migrated: Path, tmp_path: Path
) -> None:
    place = S3Workplace(tmp_path, database_on(redis_server.url), seaweedfs, migrated)
    place.send_all({"source": place.put(source, pictures.small(n))} for n, source in enumerate(SOURCES))
    assert place.run("media", "--burst").returncode == 0

    first, second = (document(backup(place, "--files", "--json")) for _ in range(2))
    place.close()

    assert (first["originals"]["added"], second["originals"]["refused"]) == (3, {})
    assert originals(place) == {source: pictures.small(n) for n, source in enumerate(SOURCES)}
    assert replaced(place) == {}  # though those that are new are copied twice


@WITH_SERVICES
def test_of_two_workers_one_makes_the_copy_of_a_tick(place: Workplace) -> None:
    place.settings |= {"MEDIA_BACKUP": str(place.home / "backup"), "MEDIA_BACKUP_CRON": "* * * * *"}
    place.settings |= ahead_by(54 - int(time.time()) % 60)  # shortly before a minute, by their clocks
    workers = [place.start(by) for by in ("arq", "media")]

    eventually(lambda: any(worker.logged("backup_made") for worker in workers), within=60)
    assert [worker.stop() for worker in workers] == [0, 0]

    assert len(copies(place)) == sum(len(worker.logged("backup_made")) for worker in workers)
    assert not any(worker.logged("backup_failed") for worker in workers)
