"""`media sweep`: planned, applied, put back, verified; what stops it; and workers that sweep."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import document, media
from tests.support.sweeps import new_key
from tests.support.workplace import Workplace, database_on
from worker.queue import connect, job_queue_of

pytestmark = pytest.mark.rotating(7, of="module")

SOURCES = ("uploads/cat.jpg", "uploads/dog.jpg")
AT_ONCE = {"MEDIA_GRACE": "0", "MEDIA_RETENTION": "0"}


@pytest.fixture(scope="module")
def settled(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a workplace where two uploads are ready, and nobody works."""
    place = Workplace(tmp_path_factory.mktemp("settled"), database_on(redis_server.url))
    for number, source in enumerate(SOURCES):
        place.put(source, pictures.medium(number))
        place.send({"source": source})
    assert place.run("media", "--burst").returncode == 0
    place.close()
    return place.home


@pytest.fixture
def place(settled: Path, redis_server: RedisServer, tmp_path: Path) -> Iterator[Workplace]:
    """A copy of it."""
    copy = Workplace(tmp_path, database_on(redis_server.url), **AT_ONCE)
    shutil.copytree(settled, tmp_path, dirs_exist_ok=True)
    yield copy
    copy.close()


def orphan(place: Workplace) -> Path:
    path = place.root / new_key()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"nobody's")
    return path


def files(place: Workplace) -> dict[str, tuple[int, float]]:
    found = [path for top in ("uploads", "variants") for path in (place.root / top).rglob("*")]
    return {
        str(path.relative_to(place.root)): (path.stat().st_ino, path.stat().st_mtime)
        for path in found
        if path.is_file()
    }


def change(place: Workplace, *statements: str) -> None:
    with closing(sqlite3.connect(place.catalog)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def answer(place: Workplace) -> list[dict[str, Any]]:
    entries: Any = place.redis.xrange("media:events")
    return [json.loads(fields[b"event"]) for _, fields in entries]


@pytest.mark.rotating(1)
def test_a_plan_is_read_then_applied_by_its_name_and_restored(place: Workplace) -> None:
    before, lost = files(place), orphan(place)
    plan = document(media(place.env(), "sweep", "--json"))
    planned = lost.exists()
    done = document(media(place.env(), "sweep", "apply", plan["plan"], "--json"))["done"]
    applied = files(place)
    restored = document(media(place.env(), "sweep", "restore", plan["plan"], "--json"))

    assert plan["findings"]["orphan"] == {"count": 1, "bytes": len(b"nobody's")}
    assert (planned, done["orphan"], applied) == (True, 1, before)
    assert restored["restored"] == 1
    assert lost.read_bytes() == b"nobody's"


def test_applying_a_plan_says_how_much_of_it_was_left(place: Workplace) -> None:
    lost = orphan(place)
    plan = document(media(place.env(), "sweep", "--json"))["plan"]

    applied = media(place.env(MEDIA_GRACE="3600"), "sweep", "apply", plan)

    assert applied.stdout == f"Plan {plan} is applied. 1 key is left: young, or changed since the plan.\n"
    assert lost.exists()


def test_young_files_are_no_agreement(place: Workplace) -> None:
    orphan(place)

    ended = media(place.env(MEDIA_GRACE="3600"), "sweep")

    assert "What differs is younger than MEDIA_GRACE" in ended.stdout
    assert "agree" not in ended.stdout


def test_what_a_sweep_took_is_purged_once_its_time_is_over(place: Workplace) -> None:
    orphan(place)
    applied = document(media(place.env(), "sweep", "--apply", "--json"))
    assert document(media(place.env(), "sweep", "--json"))["findings"]["orphan"]["count"] == 0
    holds = document(media(place.env(), "stats", "--json"))["trash"]["count"]
    kept = document(media(place.env(MEDIA_RETENTION="3600"), "sweep", "purge", "--json"))["done"]

    purged = document(media(place.env(), "sweep", "purge", "--json"))["done"]

    assert applied["done"]["orphan"] == 1
    assert (kept.get("purged", 0), purged["purged"], holds > 0) == (0, 1, True)
    assert document(media(place.env(), "stats", "--json"))["trash"]["count"] == 0
    assert [path for path in (place.root / "trash").rglob("*") if path.is_file()] == []


def test_a_damaged_variant_is_made_again_from_its_original(place: Workplace) -> None:
    thumb = sorted((place.root / "variants").rglob("*.jpg"))[0]
    whole = thumb.read_bytes()
    thumb.write_bytes(whole[:-100])
    found = media(place.env(), "sweep", "--verify", "--json")
    kept = thumb.read_bytes() == whole[:-100]
    assert place.run("media", "--burst").returncode == 0

    again = document(media(place.env(), "sweep", "--verify", "--json"))

    assert found.returncode == 0
    assert document(found)["damaged"] == [str(thumb.relative_to(place.root))]
    assert kept
    assert (again["damaged"], again["files"], thumb.read_bytes()) == ([], 6, whole)


# -- what stops a sweep


def too_many(place: Workplace) -> None:
    for _ in range(101):
        orphan(place)


def an_empty_catalog(place: Workplace) -> None:
    change(place, "DELETE FROM variants", "DELETE FROM uploads")


def no_marker(place: Workplace) -> None:
    orphan(place)
    (place.root / ".media-root.json").unlink()


def anothers_marker(place: Workplace) -> None:
    orphan(place)
    (place.root / ".media-root.json").write_text(json.dumps({"catalog": str(uuid4()), "version": 1}))


def another_schema(place: Workplace) -> None:
    orphan(place)
    change(place, "UPDATE alembic_version SET version_num = '9999'")


def a_folder_that_cannot_be_read(place: Workplace) -> None:
    orphan(place).parent.chmod(0)


BREAKERS = [
    (too_many, "101 of 107 files"),
    (an_empty_catalog, "no variant at all, but there are 6 files"),
    (no_marker, "no .media-root.json"),
    (anothers_marker, "belongs to the catalog"),
    (another_schema, "schema is 9999"),
    (a_folder_that_cannot_be_read, "Permission denied"),
]


@pytest.mark.fault(48)
@pytest.mark.parametrize(("case", "reason"), BREAKERS)
def test_a_sweep_that_is_stopped_touches_nothing_and_says_so_everywhere(
    place: Workplace, case: Callable[[Workplace], None], reason: str
) -> None:
    case(place)
    (place.home / "catalog.db").chmod(0o666)
    before = files_and_folders(place)

    ended = media(place.env(), "sweep", "--apply", confined=True)

    assert ended.returncode == 1
    assert reason in " ".join((ended.stdout + ended.stderr).split())
    assert files_and_folders(place) == before
    [event] = [one for one in answer(place) if one["type"] == "sweep.stopped"]
    assert reason in event["reason"]
    assert (event["id"], event["source"]) == (None, None)


def test_a_stopped_plan_is_found_where_command_and_doctor_say(place: Workplace) -> None:
    too_many(place)

    said = media(place.env(), "sweep").stdout
    doctor = " ".join(media(place.env(), "doctor").stdout.split())

    [plan] = (place.root / "trash").glob("*/plan.json")
    assert f"The plan is {plan.relative_to(place.root)}; the files beside it list every key." in said
    assert str(plan) in doctor
    assert [path.name for path in plan.parent.glob("plan-*.jsonl")] == ["plan-000000.jsonl"]


def test_no_plan_of_before_is_offered_where_a_sweep_could_not_list(place: Workplace) -> None:
    folder = orphan(place).parent
    plan = document(media(place.env(), "sweep", "--json"))["plan"]
    place.catalog.chmod(0o666)
    folder.chmod(0)
    assert media(place.env(), "sweep", confined=True).returncode == 1
    folder.chmod(0o755)

    doctor = " ".join(media(place.env(), "doctor").stdout.split())

    assert "1 stopped" in doctor
    assert plan not in doctor
    assert "have it made: media sweep" in doctor


def files_and_folders(place: Workplace) -> set[tuple[str, int, float]]:
    found = {place.root, *(place.root / "variants").rglob("*"), *(place.root / "uploads").rglob("*")}
    return {(str(path), path.stat().st_ino, path.stat().st_mtime) for path in found - {place.root}}


def test_a_restoration_that_fails_is_reported_by_its_command_and_stops_no_sweep(place: Workplace) -> None:
    no_marker(place)

    ended = media(place.env(), "sweep", "restore", "sweep-20261121T100000-00000000")

    assert ended.returncode == 1
    assert "no .media-root.json" in " ".join(ended.stderr.split())
    assert [one["type"] for one in answer(place) if one["type"] == "sweep.stopped"] == []


@WITH_SERVICES
def test_a_stop_is_counted_until_a_sweep_is_plausible_again(place: Workplace) -> None:
    too_many(place)
    stops = []
    for _ in range(2):
        plan = document(media(place.env(), "sweep", "--json"))
        stops.append(document(media(place.env(), "stats", "--json"))["sweep"]["stopped"])
    doctor = " ".join(media(place.env(), "doctor").stdout.split())
    forced = media(place.env(), "sweep", "apply", plan["plan"], "--force", "--json")

    assert all("101 of 107 files" in stopped for stopped in stops)
    assert "2 stopped: 101 of 107 files" in doctor
    assert (forced.returncode, document(forced)["done"]["orphan"]) == (0, 101)
    assert document(media(place.env(), "stats", "--json"))["sweep"]["stopped"] is None


# -- by itself


def let_it_be_night(place: Workplace) -> None:
    """Put the tick of the sweep on the queue, as arq does when its time has come."""

    async def enqueue() -> None:
        redis = connect(place.redis_url, job_queue_of("media:uploads"))
        await redis.enqueue_job("sweep:media:uploads", _job_id="sweep:media:uploads:1")
        await redis.aclose(close_connection_pool=True)

    asyncio.run(enqueue())


def test_a_worker_whose_sweep_is_stopped_says_so_and_touches_nothing(place: Workplace) -> None:
    too_many(place)
    before = files_and_folders(place)
    let_it_be_night(place)

    ended = place.run("media", "--burst", MEDIA_SWEEP_APPLY="1")

    [line] = [json.loads(line) for line in ended.stderr.splitlines() if '"sweep_stopped"' in line]
    [event] = [one for one in answer(place) if one["type"] == "sweep.stopped"]
    assert (ended.returncode, line["event"], line["orphans"]) == (0, "sweep_stopped", 101)
    assert "101 of 107 files" in line["reason"]
    assert event["reason"] == line["reason"]
    assert files_and_folders(place) == before


@pytest.mark.parametrize(("apply", "stays"), [("0", True), ("1", False)])
@pytest.mark.rotating(1)
def test_a_worker_sweeps_at_night_and_tidies_up_only_if_it_may(
    place: Workplace, apply: str, stays: bool
) -> None:
    before, lost = files(place), orphan(place)
    let_it_be_night(place)
    ended = place.run("media", "--burst", MEDIA_SWEEP_APPLY=apply)

    swept = [json.loads(line) for line in ended.stderr.splitlines() if '"swept"' in line]
    assert (ended.returncode, [one["orphan"] for one in swept]) == (0, [1])
    assert lost.exists() is stays
    assert before.items() <= files(place).items()
