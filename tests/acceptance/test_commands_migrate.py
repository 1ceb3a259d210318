"""`media migrate`: another version's schema, forth and back; and two versions beside each other."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.commands import Ended, document, media
from tests.support.old_catalogs import NEXT, NOW, next_migrations, of_next_version, schema_in
from tests.support.prepared import Prepared
from tests.support.workplace import Workplace, database_on, eventually

pytestmark = pytest.mark.rotating(3, of="module")

EARLY, LATE = "uploads/early.jpg", "uploads/late.jpg"
NextMedia = Callable[..., Ended]


@pytest.fixture(scope="module")
def prepared(redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A workplace of this version with one ready upload."""
    made = Workplace(tmp_path_factory.mktemp("prepared"), database_on(redis_server.url), migrated)
    made.send({"source": made.put(EARLY, pictures.small(1))})
    assert made.run("media", "--burst").returncode == 0
    return Prepared.of(made)


@pytest.fixture
def place(workplace: Workplace, prepared: Prepared) -> Workplace:
    """That workplace, for one test."""
    return prepared.copy_to(workplace)


@pytest.fixture(scope="module")
def migrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those of the version after this one."""
    return next_migrations(tmp_path_factory.mktemp("next"))


@pytest.fixture
def next_media(place: Workplace, migrations: Path) -> NextMedia:
    """`media` of that version."""
    return lambda *words: media({**place.env(), **of_next_version(migrations)}, *words)


def before(place: Workplace) -> Path:
    return place.catalog.with_name(f"catalog.db.before-{NEXT}")


def test_a_rolled_back_deploy_finds_its_way_back_with_what_happened_since(
    place: Workplace, next_media: NextMedia
) -> None:
    migrated = document(next_media("migrate", "--json"))
    place.send({"source": place.put(LATE, pictures.small(2)), "metadata": {"new": True}})
    assert next_media("worker", "--burst").returncode == 0
    refused = place.run("media", "--burst")
    assert schema_in(place.catalog) == NEXT

    done = document(media(place.env(), "migrate", "--back", "--json"))

    assert migrated == {"before": NOW, "after": NEXT, "copy": str(before(place))}
    assert refused.returncode == 1
    assert "media migrate --back" in refused.stderr
    assert (schema_in(place.catalog), done["announced"]) == (NOW, 1)
    assert place.run("media", "--burst").returncode == 0
    found = place.database.rows("SELECT source, state, metadata FROM uploads ORDER BY source")
    assert [tuple(row.values()) for row in found] == [(EARLY, "ready", "{}"), (LATE, "ready", '{"new":true}')]
    sent: Any = place.redis.xrange("media:events")
    numbers = [json.loads(fields[b"event"])["seq"] for _, fields in sent]
    assert len(numbers) == len(set(numbers)) >= 3


def test_a_catalog_that_is_up_to_date_is_left_alone_and_there_is_nothing_to_go_back_from(
    place: Workplace,
) -> None:
    forth, back = (media(place.env(), "migrate", *words) for words in ([], ["--back"]))

    assert (forth.returncode, back.returncode) == (0, 1)
    assert f"has the schema {NOW} already" in forth.stdout
    assert "there is nothing to go back from" in " ".join(back.stderr.split())
    assert not before(place).exists()


def test_without_a_copy_from_before_there_is_no_way_back(place: Workplace, next_media: NextMedia) -> None:
    assert next_media("migrate").returncode == 0
    before(place).unlink()

    ended = media(place.env(), "migrate", "--back")

    assert ended.returncode == 1
    assert f"There is no copy from before the schema {NEXT}" in " ".join(ended.stderr.split())
    assert schema_in(place.catalog) == NEXT


def test_an_older_copy_of_the_folder_of_copies_leads_back_as_well(
    place: Workplace, next_media: NextMedia
) -> None:
    place.settings["MEDIA_BACKUP"] = str(place.home / "backup")
    assert media(place.env(), "backup").returncode == 0
    assert next_media("migrate").returncode == 0
    assert next_media("backup").returncode == 0
    before(place).unlink()

    ended = media(place.env(), "migrate", "--back")

    assert ended.returncode == 0, ended.stderr
    assert schema_in(place.catalog) == NOW


def test_doctor_and_stats_of_another_version_say_so_and_read_on(
    place: Workplace, next_media: NextMedia
) -> None:
    newer = [next_media("stats", "--json"), next_media("doctor", "--json")]
    assert schema_in(place.catalog) == NOW
    assert next_media("migrate").returncode == 0
    older = [media(place.env(), *words, "--json") for words in (["stats"], ["doctor"])]

    for (stats, doctor), said, level in ((newer, "is pending", "warning"), (older, "--back", "error")):
        assert document(stats)["uploads"]["ready"] == 1
        assert said in stats.stderr
        found = {each["what"]: each for each in document(doctor)}
        assert found["Catalog"]["level"] == level
        assert said in f"{found['Catalog']['detail']} {found['Catalog']['advice']}"
        assert "1 upload" in found["Catalog rows"]["detail"]
    assert schema_in(place.catalog) == NEXT


@pytest.mark.fault(55)
@pytest.mark.rotating(1)
def test_an_older_worker_works_on_beside_a_newer_one_and_a_second_older_one_says_why_it_cannot(
    place: Workplace, next_media: NextMedia
) -> None:
    older = place.start()
    older.signal(signal.SIGSTOP)
    place.send({"source": place.put(LATE, pictures.small(2))})
    assert next_media("worker", "--burst").returncode == 0
    older.signal(signal.SIGCONT)
    source = place.put("uploads/later.jpg", pictures.small(3))

    place.send({"source": source})
    answers = place.await_end_of(LATE, source)

    assert {answer["type"] for answer in answers.values()} == {"upload.ready"}
    assert schema_in(place.catalog) == NEXT
    second = place.start(ready=False)
    assert second.wait() == 1
    [refused] = second.logged("cannot_start")
    assert f"schema is {NEXT}" in refused["reason"]
    eventually(lambda: place.check().states == {"ready": 3})
    assert older.stop() == 0


def test_a_catalog_on_a_server_is_copied_into_the_folder_of_copies_before_its_migration(
    workplace: Workplace, postgres_url: str, migrations: Path
) -> None:
    place = workplace
    place.settings["MEDIA_CATALOG_URL"] = postgres_url
    place.send({"source": place.put(EARLY, pictures.small(1))})
    assert place.run("media", "--burst").returncode == 0
    refused = media({**place.env(), **of_next_version(migrations)}, "migrate")
    place.settings["MEDIA_BACKUP"] = str(place.home / "backup")

    forth = document(media({**place.env(), **of_next_version(migrations)}, "migrate", "--json"))
    back = media(place.env(), "migrate", "--back")

    assert refused.returncode == 1
    assert "Set MEDIA_BACKUP" in refused.stderr
    assert (forth["before"], forth["after"]) == (NOW, NEXT)
    assert Path(forth["copy"]).parent == place.home / "backup"
    assert back.returncode == 0, back.stderr
    assert document(media(place.env(), "stats", "--json"))["uploads"]["ready"] == 1
