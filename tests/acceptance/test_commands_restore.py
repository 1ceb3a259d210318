"""`media restore`: a copy becomes the catalog again, and nothing that happened since is undone."""

import fcntl
import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from scripts.redis_server import RedisServer
from scripts.s3_server import S3Server
from storage.backups.folder import BackupFolder
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import Ended, document, media
from tests.support.damage import settle, zero
from tests.support.disks import fill, small_disk
from tests.support.dying import DIED, dying_at
from tests.support.prepared import Prepared
from tests.support.s3_workplace import S3Workplace
from tests.support.workplace import Answer, Workplace, database_on
from worker.doctor.copies import check_copies
from worker.settings import Settings

pytestmark = pytest.mark.rotating(7, of="module")

EARLY = [f"uploads/early/{number}.jpg" for number in range(3)]
LATE = [f"uploads/late/{number}.jpg" for number in range(3)]
OTHER_ID = "6f1c0000-0000-4000-8000-000000000001"
OWN_ID = "6f1c0000-0000-4000-8000-000000000000"


def id_of(source: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"media:{source}"))


def burst(place: Workplace) -> None:
    ended = place.run("media", "--burst")
    assert ended.returncode == 0, ended.stderr


def write(place: Workplace, statement: str) -> None:
    with closing(sqlite3.connect(place.catalog)) as database, database:
        database.execute(statement)


@pytest.fixture(scope="module")
def prepared(redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Some uploads, a backup of them and of their originals, and then others; made once, for copying."""
    home = tmp_path_factory.mktemp("prepared")
    made = Workplace(home, database_on(redis_server.url), migrated, MEDIA_DELETE_ORIGINALS="1")
    made.send_all({"source": made.put(source, pictures.small(n))} for n, source in enumerate(EARLY))
    burst(made)
    write(made, "INSERT INTO http_keys VALUES ('old', 'a', 'read', NULL, NULL, 1, NULL)")
    assert media(made.env(), "backup", home / "backup", "--files").returncode == 0
    write(made, "UPDATE http_keys SET revoked_ms = 2")
    write(made, "INSERT INTO http_keys VALUES ('new', 'b', 'read', 'mia', NULL, 3, NULL)")
    made.send({"delete": id_of(EARLY[0]), "original": True})
    made.send(
        {"source": made.put(LATE[0], pictures.small(10)), "id": OWN_ID, "metadata": {"a": 1}, "owner": "mia"}
    )
    made.send({"source": made.put(LATE[1], pictures.small(11))})
    burst(made)
    made.send({"delete": id_of(LATE[1])})
    burst(made)
    return Prepared.of(made)


@pytest.fixture
def place(prepared: Prepared, redis_server: RedisServer, tmp_path: Path) -> Iterator[Workplace]:
    """A workplace that is as it was prepared."""
    home = tmp_path / "here"
    settings = {"MEDIA_DELETE_ORIGINALS": "1", "MEDIA_BACKUP": str(home / "backup")}
    workplace = Workplace(home, database_on(redis_server.url), **settings)
    yield prepared.copy_to(workplace)
    workplace.close()


@pytest.fixture
def rebuilt(place: Workplace) -> Workplace:
    """A workplace whose catalog was lost: another one was made from the originals, and is in use."""
    place.catalog.unlink()
    assert media(place.env(), "rebuild", "--yes").returncode == 0
    return place


def restore(place: Workplace, *words: str, **settings: str) -> Ended:
    return media(place.env(**settings), "restore", *words)


def uploads(place: Workplace) -> dict[str, tuple[str, str, Any]]:
    """By source: id, state and metadata."""
    found = place.database.rows("SELECT source, id, state, metadata FROM uploads")
    return {row["source"]: (row["id"], row["state"], json.loads(row["metadata"])) for row in found}


def states(place: Workplace) -> dict[str, str]:
    return {source: state for source, (_, state, _) in uploads(place).items()}


def keys_of(place: Workplace) -> list[bytes]:
    found: Any = place.redis.keys()
    return sorted(found)


def numbered(place: Workplace) -> list[Answer]:
    """All messages that apps have ever had."""
    entries: Any = place.redis.xrange("media:events")
    return [json.loads(fields[b"event"]) for _, fields in entries]


def settled(place: Workplace) -> None:
    """Let workers do whatever is left, and make missing variants again."""
    burst(place)
    if document(media(place.env(), "reprocess", "--missing", "--json"))["queued"]:
        burst(place)


@pytest.mark.rotating(1)
def test_what_came_after_the_copy_is_there_again_and_what_was_deleted_is_not(place: Workplace) -> None:
    (place.root / "uploads/a\nb.jpg").touch()  # a name that no key can have is logged, beside the document
    done = document(restore(place, "--json"))
    settled(place)

    assert (done["deleted"], done["announced"]) == (2, 1)
    assert uploads(place) == {
        EARLY[0]: (id_of(EARLY[0]), "deleted", {}),
        EARLY[1]: (id_of(EARLY[1]), "ready", {}),
        EARLY[2]: (id_of(EARLY[2]), "ready", {}),
        LATE[0]: (OWN_ID, "ready", {"a": 1}),
        LATE[1]: (id_of(LATE[1]), "deleted", {}),
    }
    assert not (place.root / EARLY[0]).exists()
    assert place.check().states == {"deleted": 2, "ready": 3}


def lose_a_variant(place: Workplace) -> None:
    query = "SELECT source, key FROM variants JOIN uploads ON uploads.id = upload_id ORDER BY variants.name"
    gone = next(row["key"] for row in place.database.rows(query) if row["source"] == EARLY[1])
    (place.root / gone).unlink()


def test_only_variants_that_are_made_again_are_counted(place: Workplace) -> None:
    lose_a_variant(place)

    done = document(restore(place, "--json"))
    burst(place)  # the later upload gets its variants without being asked for
    queued = document(media(place.env(), "reprocess", "--missing", "--json"))

    assert done["missing"] == {"uploads": 1, "variants": 1}
    assert done["drift"]["findings"]["missing"]["count"] == 1  # none of those that are deleted again
    assert "Have 1 variant of 1 upload made again: media reprocess --missing" in done["next"]
    assert queued["queued"] == 1


@pytest.mark.rotating(1)
def test_owners_stay_and_a_key_that_was_revoked_since_opens_nothing(place: Workplace) -> None:
    assert restore(place, str(place.home / "backup")).returncode == 0

    owners = place.database.rows("SELECT id FROM uploads WHERE owner = 'mia'")
    assert [row["id"] for row in owners] == [OWN_ID]
    keys = place.database.rows("SELECT name, revoked_ms FROM http_keys ORDER BY name")
    assert [(row["name"], row["revoked_ms"]) for row in keys] == [("new", None), ("old", 2)]


@pytest.mark.rotating(1)
def test_no_number_of_a_message_is_given_twice(place: Workplace) -> None:
    before = max(message["seq"] for message in numbered(place))

    done = document(restore(place, "--json"))
    settled(place)

    messages = numbered(place)
    by_seq = {message["seq"]: (message["id"], message["type"], message["time"]) for message in messages}
    assert done["seq"] == before
    assert len(messages) == len({*by_seq})
    assert any(seq > before for seq in by_seq)


@pytest.mark.rotating(1)
def test_messages_that_redis_has_lost_are_read_in_the_catalog_that_is_replaced(place: Workplace) -> None:
    place.redis.delete("media:events")

    done = document(restore(place, "--json"))

    assert (done["deleted"], done["announced"], done["adopted"]) == (2, 1, 0)


@pytest.mark.parametrize("job_id", ["gone", ""], ids=["on a job", "parked"])
@pytest.mark.rotating(1)
def test_an_upload_that_still_waited_keeps_its_id_and_metadata(place: Workplace, job_id: str) -> None:
    place.redis.delete("media:events")
    with closing(sqlite3.connect(place.catalog)) as database, database:
        database.execute("DELETE FROM outbox")
        row = ("queued", job_id, '{"b": 2}', OWN_ID)
        database.execute("UPDATE uploads SET state = ?, job_id = ?, metadata = ? WHERE id = ?", row)

    assert restore(place).returncode == 0
    settled(place)

    assert uploads(place)[LATE[0]] == (OWN_ID, "ready", {"b": 2})


@pytest.mark.rotating(1)
def test_a_deletion_that_no_message_tells_of_is_known_by_the_trash(place: Workplace) -> None:
    place.redis.delete("media:events")
    place.catalog.unlink()

    done = document(restore(place, "--json"))
    settled(place)

    assert (done["deleted"], done["adopted"]) == (1, 2)
    found = uploads(place)
    assert found[EARLY[0]][1] == "deleted"
    assert found[LATE[0]] == (id_of(LATE[0]), "ready", {})  # its id and metadata are lost with the message
    assert not (place.root / EARLY[0]).exists()


def test_an_upload_that_only_a_lost_catalog_knew_gets_its_id_and_metadata_by_its_event(
    place: Workplace,
) -> None:
    place.catalog.unlink()
    place.put(LATE[2], pictures.small(12))  # taken and not done with when the catalog was lost

    assert restore(place).returncode == 0
    settled(place)
    adopted = uploads(place)[LATE[2]]
    place.send({"source": LATE[2], "id": OTHER_ID, "metadata": {"a": 1}})
    settled(place)

    assert adopted == (id_of(LATE[2]), "ready", {})
    query = f"SELECT metadata, state FROM uploads WHERE id = '{OTHER_ID}'"
    assert [dict(row) for row in place.database.rows(query)] == [{"metadata": '{"a":1}', "state": "ready"}]


@pytest.mark.rotating(1)
def test_an_event_that_still_waits_is_taken_after_the_restore(place: Workplace) -> None:
    place.send({"source": EARLY[1], "metadata": {"later": True}})
    place.send({"source": place.put(LATE[2], pictures.small(12)), "metadata": {"new": True}})

    assert restore(place).returncode == 0
    settled(place)

    assert (uploads(place)[EARLY[1]][2], uploads(place)[LATE[2]][2]) == ({"later": True}, {"new": True})


@pytest.fixture
def elsewhere(place: Workplace, redis_server: RedisServer) -> Iterator[Workplace]:
    """Another machine: another folder, an empty Redis, and the folder of copies."""
    other = Workplace(place.home / "elsewhere", database_on(redis_server.url))
    shutil.rmtree(other.root, ignore_errors=True)
    other.settings |= place.settings
    yield other
    other.close()


def variants(place: Workplace) -> set[str]:
    query = "SELECT key FROM variants WHERE superseded_ms IS NULL"
    return {row["key"] for row in place.database.rows(query)}


@pytest.mark.rotating(1)
def test_everything_that_was_ready_is_ready_on_another_machine(
    place: Workplace, elsewhere: Workplace
) -> None:
    [copy] = BackupFolder(place.home / "backup").copies()
    with closing(sqlite3.connect(copy.file)) as saved:
        keys = {key for (key,) in saved.execute("SELECT key FROM variants")}
    elsewhere.root.mkdir(parents=True)
    refused = restore(elsewhere)

    done = document(restore(elsewhere, "--adopt-root", "--json"))
    settled(elsewhere)

    assert refused.returncode == 1
    assert "say --adopt-root" in " ".join(refused.stderr.split())
    assert (done["originals"], done["root_adopted"], done["aside"]) == (3, True, None)
    assert done["seq"] > 10**12  # by the clock: nobody there knows what was sent
    assert {source: state for source, (_, state, _) in uploads(elsewhere).items()} == dict.fromkeys(
        EARLY, "ready"
    )
    assert variants(elsewhere) == keys
    assert {str(path.relative_to(elsewhere.root)) for path in elsewhere.root.glob("variants/*/*/*")} == keys


@pytest.fixture
def torn(place: Workplace) -> Workplace:
    """A power cut has torn two originals that the backup has, and a third one is another's by now."""
    for source, content in zip(EARLY[1:], (b"", pictures.small(2)[:100]), strict=True):
        place.put(source, content)
    place.put(LATE[2], pictures.small(12))
    place.send({"source": LATE[2]})
    burst(place)
    assert media(place.env(), "backup").returncode == 0
    place.put(LATE[2], b"neither torn nor in the backup")
    return place


def test_torn_originals_give_way_to_the_versions_that_fit_and_are_kept(torn: Workplace) -> None:
    dry, ended = restore(torn, "--dry-run", "--json"), restore(torn, "--json")

    would, done = document(dry), document(ended)
    assert (dry.returncode, ended.returncode) == (1, 1)  # for the third
    assert would["mended"] == dict.fromkeys(EARLY[1:])
    assert done["mended"].keys() == {*EARLY[1:]}
    assert would["originals"] == done["originals"] == 2
    assert [(torn.root / source).read_bytes() for source in EARLY[1:]] == [
        pictures.small(1),
        pictures.small(2),
    ]
    kept = [(torn.root / done["mended"][source]).read_bytes() for source in EARLY[1:]]
    assert kept == [b"", pictures.small(2)[:100]]
    assert done["drift"]["findings"]["original_mismatch"]["count"] == 1


def test_an_original_that_was_made_since_the_copy_is_not_taken_for_a_torn_one(place: Workplace) -> None:
    """An app has put something behind the picture, and has taken it away again."""
    whole = pictures.small(1)
    place.put(EARLY[1], whole + b"a film behind the picture")
    assert media(place.env(), "backup", "--files").returncode == 0
    place.put(EARLY[1], whole)
    place.send({"source": EARLY[1], "metadata": {"film": False}})
    burst(place)

    ended = restore(place, "--json")

    assert (ended.returncode, document(ended)["announced"], document(ended)["mended"]) == (0, 1, {})
    assert (place.root / EARLY[1]).read_bytes() == whole


def test_people_are_told_where_torn_originals_are_kept_and_which_are_lost(torn: Workplace) -> None:
    (torn.root / LATE[0]).unlink()

    said = " ".join(restore(torn).stdout.split())
    [folder] = (torn.root / "trash").glob("delete-by-restore-*")

    assert f"2 torn originals are in trash/{folder.name} for MEDIA_RETENTION" in said
    assert "1 original that uploads need is gone: bring it back into uploads/" in said


@pytest.mark.parametrize("step", range(8, 44))
@pytest.mark.rotating(1)
def test_torn_originals_are_kept_and_others_come_back_wherever_a_restore_is_killed(
    torn: Workplace, step: int
) -> None:
    killed = media({**torn.env(), **dying_at(step)}, "restore")
    restore(torn)

    kept = {path.read_bytes() for path in torn.root.glob("trash/delete-by-restore-*/**/*.jpg")}
    assert killed.returncode == DIED
    assert {b"", pictures.small(2)[:100]} <= kept
    assert [(torn.root / source).read_bytes() for source in EARLY[1:]] == [
        pictures.small(1),
        pictures.small(2),
    ]


def test_originals_that_an_app_may_still_write_are_not_taken_for_torn(torn: Workplace) -> None:
    before = [(torn.root / source).read_bytes() for source in EARLY[1:]]

    dry, ended = restore(torn, "--dry-run", MEDIA_SETTLE="600"), restore(torn, MEDIA_SETTLE="600")

    assert (dry.returncode, ended.returncode) == (1, 1)
    for said in (dry, ended):
        assert said.stderr.count("restore again when no app writes it any more") == 2
    assert [(torn.root / source).read_bytes() for source in EARLY[1:]] == before


def test_an_original_of_another_size_that_is_not_torn_stays_and_is_named(torn: Workplace) -> None:
    dry, ended = restore(torn, "--dry-run"), restore(torn)

    size = len(pictures.small(12))
    for said in (dry, ended):
        assert f"{LATE[2]}: it has 30 bytes, and its ready upload has {size}" in said.stderr
        assert "the backup has none of that size" in said.stderr
    assert "1 original is of another size than ready uploads say: put the version that fits" in ended.stdout
    assert "2 originals (2 torn)" in ended.stdout
    assert (torn.root / LATE[2]).read_bytes() == b"neither torn nor in the backup"
    assert states(torn)[LATE[2]] == "ready"


def empty(place: Workplace) -> Workplace:
    """Without originals and catalog, as on a new disk."""
    place.root.mkdir(parents=True)
    return place


@pytest.mark.rotating(1)
def test_the_version_that_fits_the_copy_comes_back(place: Workplace, elsewhere: Workplace) -> None:
    good = (place.root / EARLY[1]).read_bytes()
    for content in (b"", pictures.small(60) + b"of another size"):
        place.put(EARLY[1], content)
        media(place.env(), "backup", place.home / "backup", "--files")
    oldest = BackupFolder(place.home / "backup").copies()[-1]
    moment = oldest.manifest.time + timedelta(milliseconds=1)

    done = document(restore(empty(elsewhere), "--adopt-root", "--at", moment.isoformat(), "--json"))

    assert (done["copy"], done["originals"], done["differing"]) == (str(oldest.path), 5, {})
    assert (elsewhere.root / EARLY[1]).read_bytes() == good


def test_an_original_of_which_the_backup_has_another_alone_comes_back_and_is_named(
    place: Workplace, elsewhere: Workplace
) -> None:
    for number, source in enumerate(EARLY):
        (place.home / "backup/files" / source).unlink()
        (place.home / "backup/files" / source).write_bytes(pictures.small(60 + number) + b"of another size")

    ended = restore(empty(elsewhere), "--adopt-root")

    said = " ".join(ended.stderr.split())
    assert ended.returncode == 1
    assert f"{EARLY[0]} was brought back as another one: the backup has it with" in said
    assert "3 originals differ from what the copy has of them" in said
    assert "MEDIA_STORAGE_URL" not in said
    assert states(elsewhere) == dict.fromkeys(EARLY, "ready")


def test_a_backup_with_unknown_originals_that_do_not_fit_is_named(
    place: Workplace, elsewhere: Workplace
) -> None:
    for source in EARLY:
        (place.home / "backup/files" / source).write_bytes(b"of another size")
    (place.home / "backup/files/.media-root.json").unlink()

    ended = restore(empty(elsewhere), "--adopt-root")

    said = " ".join(ended.stderr.split())
    assert ended.returncode == 1
    assert "The originals of the backup do not fit the copy: of 3 originals" in said
    assert f"3 of another size: {EARLY[0]}, " in said
    assert not elsewhere.catalog.exists()


@pytest.mark.rotating(1)
def test_a_storage_whose_files_do_not_fit_is_not_taken(place: Workplace, elsewhere: Workplace) -> None:
    shutil.rmtree(place.home / "backup/files")
    elsewhere.put("uploads/other.jpg", pictures.small(1))

    ended = restore(elsewhere, "--adopt-root")

    said = " ".join(ended.stderr.split())
    assert ended.returncode == 1
    assert "do not fit the copy: of 3 originals" in said
    assert '"version": 1}\' > ' + f"{elsewhere.root}/.media-root.json" in said
    assert not elsewhere.catalog.exists()
    assert not (elsewhere.root / ".media-root.json").exists()


def test_a_storage_with_originals_of_its_own_alone_is_not_taken_until_it_is_marked(
    place: Workplace, elsewhere: Workplace
) -> None:
    elsewhere.put("uploads/other.jpg", pictures.small(1))

    dry, ended = restore(elsewhere, "--adopt-root", "--dry-run"), restore(elsewhere, "--adopt-root")

    for one in (dry, ended):
        assert one.returncode == 1
        assert "0 of 3 originals that were looked for are there" in " ".join(one.stderr.split())
    _, _, line = " ".join(ended.stderr.split()).partition("say so: ")
    assert not (elsewhere.root / EARLY[0]).exists()
    subprocess.run(["sh", "-c", line], check=True, timeout=10)
    assert restore(elsewhere).returncode == 0
    assert (elsewhere.root / EARLY[0]).exists()


def test_a_storage_to_which_some_originals_have_come_back_is_taken_beside_others(
    place: Workplace, elsewhere: Workplace
) -> None:
    elsewhere.put(EARLY[1], pictures.small(1))
    elsewhere.put("uploads/other.jpg", pictures.small(20))

    assert restore(elsewhere, "--adopt-root").returncode == 0
    assert states(elsewhere) == dict.fromkeys(EARLY, "ready") | {"uploads/other.jpg": "queued"}


def test_torn_originals_that_will_be_mended_count_as_those_of_the_copy(place: Workplace) -> None:
    (place.root / ".media-root.json").unlink()
    for source, content in zip(EARLY[1:], (b"", pictures.small(2)[:100]), strict=True):
        place.put(source, content)

    dry = document(restore(place, "--adopt-root", "--dry-run", "--json"))
    done = document(restore(place, "--adopt-root", "--json"))

    assert dry["refusals"] == []
    assert dry["mended"].keys() == done["mended"].keys() == {*EARLY[1:]}
    assert (place.root / EARLY[2]).read_bytes() == pictures.small(2)


@WITH_SERVICES
def test_storage_and_stream_of_a_rebuilt_catalog_go_back_to_the_restored_one(rebuilt: Workplace) -> None:
    place = rebuilt
    refused = restore(place)

    assert restore(place, "--adopt-root").returncode == 0
    settled(place)

    assert refused.returncode == 1
    assert "the storage belongs to" in " ".join(refused.stderr.split())
    assert uploads(place)[LATE[0]] == (OWN_ID, "ready", {"a": 1})


def test_a_catalog_that_has_moved_elsewhere_is_not_replaced(place: Workplace) -> None:
    to = f"sqlite+aiosqlite:///{place.home}/new.db"
    assert media(place.env(), "migrate-catalog", "--to", to).returncode == 0

    ended = restore(place)

    assert ended.returncode == 1
    assert "was moved to" in ended.stderr


def test_an_upload_that_was_deleted_before_the_copy_does_not_come_back(
    place: Workplace, elsewhere: Workplace
) -> None:
    assert media(place.env(), "backup", "--files").returncode == 0
    elsewhere.root.mkdir(parents=True)

    assert restore(elsewhere, "--adopt-root").returncode == 0
    settled(elsewhere)

    assert not (elsewhere.root / EARLY[0]).exists()  # although the backup still has it
    assert uploads(elsewhere)[EARLY[0]][1] == "deleted"


def test_a_restore_beside_a_worker_or_an_open_catalog_is_refused(place: Workplace) -> None:
    worker = place.start()
    beside_worker = restore(place)
    worker.stop()
    with closing(sqlite3.connect(place.catalog)) as opened:
        opened.execute("SELECT count(*) FROM uploads").fetchone()
        beside_reader, dry = restore(place), restore(place, "--dry-run")

    assert (beside_worker.returncode, beside_reader.returncode, dry.returncode) == (1, 1, 1)
    assert "stop every worker first" in beside_worker.stderr
    assert "is in use" in beside_reader.stderr
    assert "is in use" in dry.stderr
    assert uploads(place)[EARLY[0]][1] == "deleted"  # the old one
    assert list(place.home.glob("*restor*")) == []


def test_a_dry_run_beside_another_restore_says_so(place: Workplace) -> None:
    with place.catalog.with_name("catalog.db.restore-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        dry, ended = restore(place, "--dry-run"), restore(place)

    assert (dry.returncode, ended.returncode) == (1, 1)
    assert "another restore of the catalog" in dry.stderr


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.rotating(1)
def test_a_dry_run_says_what_would_be_and_writes_nothing(place: Workplace) -> None:
    settle(place.catalog)
    before, keys = tree(place.home), keys_of(place)

    done = document(restore(place, "--dry-run", "--json"))
    said = restore(place, "--dry-run").stdout

    assert (done["dry_run"], done["deleted"], done["announced"]) == (True, 2, 1)
    assert "Nothing was written" in said
    assert tree(place.home) == before
    assert keys_of(place) == keys


async def test_the_newest_copy_is_known_after_an_older_one_was_restored(place: Workplace) -> None:
    folder = place.home / "backup"
    for _ in range(2):
        assert media(place.env(), "backup").returncode == 0
    newest, older, oldest = BackupFolder(folder).copies()
    shutil.rmtree(oldest.path)  # which the older one says is the newest
    settings = Settings(catalog_url=f"sqlite+aiosqlite:///{place.catalog}", backup=str(folder))

    assert restore(place, str(older.path)).returncode == 0

    [found] = await check_copies(settings)
    assert (found.level, newest.path.name in found.detail) == ("ok", True)


def test_the_copy_is_the_newest_from_before_a_time(place: Workplace) -> None:
    [first] = BackupFolder(place.home / "backup").copies()
    time.sleep(1.1 - time.time() % 1)  # of another second
    assert media(place.env(), "backup").returncode == 0

    at = first.manifest.time.isoformat()
    chosen = [
        document(restore(place, *words, "--dry-run", "--json"))["copy"]
        for words in (["--at", at], [], [str(first.path)])
    ]
    too_early = restore(place, "--at", "2001-01-01")
    nonsense = restore(place, "--at", "yesterday")

    assert (chosen[0] == chosen[2] == str(first.path), chosen[1] != str(first.path)) == (True, True)
    assert "has no copy from before that time" in " ".join(too_early.stderr.split())
    assert (too_early.returncode, nonsense.returncode) == (1, 2)


def damaged(place: Workplace) -> None:
    [copy] = BackupFolder(place.home / "backup").copies()
    zero(copy.file, 3)


def test_of_a_damaged_copy_the_one_before_is_named_and_can_be_taken(place: Workplace) -> None:
    [older] = BackupFolder(place.home / "backup").copies()
    time.sleep(1.1 - time.time() % 1)  # of another second
    assert media(place.env(), "backup").returncode == 0
    newest = BackupFolder(place.home / "backup").copies()[0]
    zero(newest.file, 3)

    refused, named = restore(place, "--json"), restore(place, str(newest.path))

    [reason] = document(refused)["refusals"]
    at = reason.rpartition("Take the one before: --at ")[2]
    assert (refused.returncode, named.returncode, "is damaged" in reason) == (1, 1, True)
    assert f"Take the one before: {older.path}" in " ".join(named.stderr.split())
    assert document(restore(place, "--at", at, "--dry-run", "--json"))["copy"] == str(older.path)


def test_a_copy_without_its_manifest_is_named_when_an_older_one_is_taken(place: Workplace) -> None:
    [older] = BackupFolder(place.home / "backup").copies()
    torn = place.home / "backup/2126-01-01T000000Z"
    torn.mkdir()

    ended = restore(place, "--dry-run", "--json")

    assert document(ended)["copy"] == str(older.path)
    assert f"Passed over: the copy {torn} is damaged: its manifest.json is missing" in ended.stderr


def test_a_time_that_is_none_is_a_document_too(place: Workplace) -> None:
    ended = restore(place, "--at", "yesterday", "--dry-run", "--json")

    assert ended.returncode == 2
    assert document(ended)["dry_run"] is True
    assert document(ended)["refusals"] == [
        "--at yesterday is no time; write 2026-11-21T10:00, in local time."
    ]


def test_a_storage_without_room_for_what_would_come_back_refuses_before_any_does(
    place: Workplace, elsewhere: Workplace, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        elsewhere.settings |= {"MEDIA_STORAGE_URL": f"file://{disk}"}
        fill(disk / "filler")

        dry = restore(elsewhere, "--adopt-root", "--dry-run")
        ended = restore(elsewhere, "--adopt-root")

        assert (dry.returncode, ended.returncode) == (1, 1)
        for said in (dry, ended):
            assert "has no room for what would come back: 3 originals" in " ".join(said.stderr.split())
        assert [path.name for path in disk.iterdir() if path.name != "staging"] == ["filler"]
        assert not elsewhere.catalog.exists()


def rootless(place: Workplace) -> None:
    place.root.rename(place.home / "unmounted")


def unmarked(place: Workplace) -> None:
    rootless(place)
    place.root.mkdir()


def of_other_sizes(place: Workplace) -> None:
    unmarked(place)
    shutil.rmtree(place.home / "backup/files")
    for source in EARLY:
        place.put(source, b"of another size")


def beside_a_worker(place: Workplace) -> None:
    place.redis.set("media:uploads:health:host:1:0", '{"healthy": true, "detail": ""}')
    place.redis.zadd("media:uploads:workers", {"host:1:0": 1})


def moved(place: Workplace) -> None:
    to = f"sqlite+aiosqlite:///{place.home}/new.db"
    assert media(place.env(), "migrate-catalog", "--to", to).returncode == 0


def of_another(place: Workplace) -> None:
    (place.root / ".media-root.json").write_text('{"catalog": "another", "version": 1}')


def taken(place: Workplace) -> None:
    place.redis.set("media:uploads:catalog", "another")


REFUSED: list[tuple[Callable[[Workplace], None] | None, list[str], str]] = [
    (damaged, [], "is not what it was when it was made"),
    (of_another, [], "the storage belongs to another"),
    (taken, [], "belongs to the catalog another"),
    (None, ["nowhere"], "is no copy, and has none in it"),
    (None, ["--at", "yesterday"], "--at yesterday is no time"),
    (None, ["--at", "2126-01-01"], "--at 2126-01-01 is in the future: name a time before now"),
    (None, ["--at", "2001-01-01"], "has no copy from before that time"),
    (rootless, [], "does not exist. Is a disk not mounted?"),
    (unmarked, [], "say --adopt-root: its files are compared with the copy"),
    (of_other_sizes, ["--adopt-root"], "do not fit the copy: of 3 originals"),
    (beside_a_worker, [], "stop every worker first. One that was killed counts for 15 s: wait so long then"),
    (moved, [], "was moved to"),
]


@pytest.mark.parametrize(("prepare", "words", "said"), REFUSED)
@pytest.mark.rotating(3)
def test_what_cannot_be_restored_is_named_by_a_dry_run_alike_and_nothing_changes(
    place: Workplace, prepare: Callable[[Workplace], None] | None, words: list[str], said: str
) -> None:
    if prepare is not None:
        prepare(place)
    before, keys = tree(place.home), keys_of(place)

    dry, ended = restore(place, *words, "--dry-run"), restore(place, *words)

    code = 2 if "--at" in words and "2001-01-01" not in words else 1
    assert (dry.returncode, ended.returncode) == (code, code)
    assert said in " ".join(ended.stderr.split())
    assert said in " ".join(dry.stderr.split())
    assert (tree(place.home), keys_of(place)) == (before, keys)


def test_a_dry_run_names_each_refusal_and_still_says_what_would_be(place: Workplace) -> None:
    beside_a_worker(place)
    unmarked(place)

    ended = restore(place, "--dry-run", "--json")

    done = document(ended)
    assert (ended.returncode, done["deleted"], done["announced"], done["originals"]) == (1, 2, 1, 2)
    assert [reason.split(" ")[1] for reason in done["refusals"]] == ["worker", "has"]


def test_a_dry_run_elsewhere_counts_what_would_come_back_and_makes_nothing(
    place: Workplace, elsewhere: Workplace
) -> None:
    elsewhere.settings["MEDIA_CATALOG_URL"] = f"sqlite+aiosqlite:///{place.home}/new/catalog.db"
    before = tree(place.home)

    ended = restore(elsewhere, "--adopt-root", "--dry-run", "--json")
    done = document(restore(elsewhere, "--adopt-root", "--json"))

    would = document(ended)
    assert (ended.returncode, would["refusals"]) == (0, [])
    assert {name: would[name] for name in ("originals", "adopted")} == {"originals": 3, "adopted": 0}
    assert (done["originals"], done["adopted"]) == (3, 0)
    assert {*before} <= {*tree(place.home)}
    assert ended.stderr == ""


@pytest.mark.rotating(1)
def test_a_damaged_catalog_is_replaced_and_kept(place: Workplace) -> None:
    settle(place.catalog)
    for page in range(2, 12):
        zero(place.catalog, page)

    done = document(restore(place, "--json"))
    settled(place)

    assert done["seq"] > 10**12  # by the clock: what it had given cannot be read
    assert uploads(place)[LATE[0]] == (OWN_ID, "ready", {"a": 1})
    assert Path(done["aside"]).is_file()


@pytest.mark.parametrize("step", range(1, 33))
@pytest.mark.rotating(2)
def test_a_restore_that_is_killed_leaves_the_old_catalog_or_the_new_one(place: Workplace, step: int) -> None:
    old, before = uploads(place), states(place)
    killed = media({**place.env(), **dying_at(step)}, "restore")
    left = uploads(place)
    is_new = left[EARLY[0]][1] == "deleting"
    assert is_new or left == old

    again = restore(place)
    settled(place)

    assert killed.returncode == DIED
    assert again.returncode == 0, again.stderr
    assert states(place) == before
    messages = numbered(place)
    assert len({message["seq"] for message in messages}) == len(messages)
    assert list(place.home.glob("catalog.db.restoring*")) == []


def owners(place: Workplace) -> set[str]:
    """Whose the catalog, the storage and the stream say that they are."""
    [row] = place.database.rows("SELECT value FROM kv WHERE name = 'id'")
    marker = json.loads((place.root / ".media-root.json").read_text())
    stream: Any = place.redis.get("media:uploads:catalog")
    return {row["value"], marker["catalog"], stream.decode()}


@pytest.mark.rotating(1)
def test_a_restore_that_is_refused_leaves_storage_and_stream_to_the_catalog_in_use(
    rebuilt: Workplace,
) -> None:
    before = owners(rebuilt)
    with closing(sqlite3.connect(rebuilt.catalog)) as opened:
        opened.execute("SELECT count(*) FROM uploads").fetchone()
        refused = restore(rebuilt, "--adopt-root")

    assert (refused.returncode, "is in use" in refused.stderr) == (1, True)
    assert (owners(rebuilt), len(before)) == (before, 1)
    burst(rebuilt)


@pytest.mark.parametrize("step", range(1, 45))
@pytest.mark.rotating(2)
def test_a_restore_that_is_killed_while_it_takes_over_a_storage_is_ended_by_another(
    rebuilt: Workplace, step: int
) -> None:
    killed = media({**rebuilt.env(), **dying_at(step)}, "restore", "--adopt-root")

    again = restore(rebuilt, "--adopt-root")
    settled(rebuilt)

    assert killed.returncode == DIED
    assert again.returncode == 0, again.stderr
    assert len(owners(rebuilt)) == 1
    assert uploads(rebuilt)[LATE[0]] == (OWN_ID, "ready", {"a": 1})
    assert set(states(rebuilt).values()) == {"ready", "deleted"}
    messages = numbered(rebuilt)
    assert len({message["seq"] for message in messages}) == len(messages)


def test_people_are_told_what_was_done_and_what_comes_next(place: Workplace) -> None:
    for number in range(110):
        orphan = place.root / f"variants/ab/cd/abcd{number:04}-0000-4000-8000-000000000000.jpg"
        orphan.parent.mkdir(parents=True, exist_ok=True)
        orphan.write_bytes(b"nobody's")
    lose_a_variant(place)

    said = " ".join(restore(place).stdout.split())

    assert "Applied again: 2 deletions, 1 announcement" in said
    assert "Start the workers." in said
    assert "media reprocess --missing" in said
    assert "The next sweep will be stopped" in said
    assert "media sweep apply PLAN --force" in said
    assert "The old catalog is" in said


def test_a_catalog_in_postgres_is_restored_by_the_same_command(
    workplace: Workplace, postgres_catalog_url: str
) -> None:
    place, url = workplace, postgres_catalog_url
    place.settings |= {"MEDIA_CATALOG_URL": url, "MEDIA_BACKUP": str(place.home / "backup")}
    place.send_all({"source": place.put(source, pictures.small(n))} for n, source in enumerate(EARLY))
    burst(place)
    (place.root / EARLY[2]).rename(place.home / "away.jpg")
    refused = media(place.env(), "backup", "--files")
    (place.home / "away.jpg").rename(place.root / EARLY[2])
    assert media(place.env(), "backup", "--files").returncode == 0
    (place.root / EARLY[1]).unlink()
    place.send({"delete": id_of(EARLY[0])})
    place.send({"source": place.put(LATE[0], pictures.small(10)), "metadata": {"a": 1}})
    burst(place)

    dry = document(restore(place, "--dry-run", "--json"))
    done = document(restore(place, "--json"))
    settled(place)

    counted = ("deleted", "announced", "adopted", "originals", "mended", "mismatched")
    assert ({name: done[name] for name in counted}, []) == (
        {name: dry[name] for name in counted},
        dry["refusals"],
    )
    assert f"{EARLY[2]}: it is gone" in " ".join(refused.stderr.split())
    assert (done["deleted"], done["announced"], done["originals"], done["differing"]) == (1, 1, 1, {})
    assert "media_before_restore_" in done["aside"]
    report = document(media(place.env(), "stats", "--json"))
    assert (report["uploads"]["ready"], report["uploads"]["deleted"]) == (3, 1)
    messages = numbered(place)
    assert len({message["seq"] for message in messages}) == len(messages)


def test_originals_come_back_into_an_empty_bucket(
    place: Workplace, redis_server: RedisServer, seaweedfs: S3Server, tmp_path: Path
) -> None:
    bucket = S3Workplace(tmp_path / "bucket", database_on(redis_server.url), seaweedfs, **place.settings)
    bucket.home.mkdir(exist_ok=True)

    dry = document(restore(bucket, "--adopt-root", "--dry-run", "--json"))
    done = document(restore(bucket, "--adopt-root", "--json"))
    settled(bucket)
    bucket.put(EARLY[1], b"")
    again = document(restore(bucket, "--json"))
    settled(bucket)
    bucket.close()

    assert (dry["originals"], dry["refusals"]) == (3, [])
    assert [*again["mended"]] == [EARLY[1]]  # although a message came after the copy
    assert bucket.keys("trash") == [*again["mended"].values()]
    assert (done["originals"], done["root_adopted"]) == (3, True)
    assert bucket.keys("uploads") == EARLY
    assert set(bucket.keys("variants")) == variants(bucket)
    assert states(bucket) == dict.fromkeys(EARLY, "ready")
