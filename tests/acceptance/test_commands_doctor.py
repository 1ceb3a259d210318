"""`media doctor`: green where a worker would do well, red and helpful for each thing that is broken."""

import errno
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from pipelines.formats import FORMATS
from scripts.readme import README
from scripts.redis_server import RedisServer, temporary_redis
from tests.support import pictures
from tests.support.commands import document, media, media_of_next_version
from tests.support.damage import roots, settle, zero
from tests.support.file_systems import without_folder_fsync
from tests.support.old_catalogs import make_old
from tests.support.redis_urls import as_user
from tests.support.workplace import Workplace
from worker.doctor.examination import examine
from worker.doctor.files import check_room
from worker.settings import Settings

pytestmark = pytest.mark.rotating(6, of="module")

Findings = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis whose configuration these tests change."""
    with temporary_redis() as own:
        yield own


@pytest.fixture
def place(server: RedisServer, tmp_path: Path) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path, server.url)
    yield workplace
    workplace.close()


@pytest.fixture(scope="module")
def template(server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """What a worker leaves behind."""
    workplace = Workplace(tmp_path_factory.mktemp("template"), server.url)
    ended = workplace.run("media", "--burst")
    workplace.close()
    assert ended.returncode == 0, ended.stderr
    return workplace


@pytest.fixture
def used(template: Workplace, place: Workplace) -> Workplace:
    """A workplace where a worker has been."""
    shutil.copytree(template.home, place.home, dirs_exist_ok=True)
    return place


def examined(place: Workplace, confined: bool = False, **settings: str) -> tuple[int, Findings]:
    """The exit code, and the findings by what they are about.

    To try the codecs of all formats takes most of the time.
    """
    env = place.env(**{"MEDIA_CPUS": "1", "MEDIA_FORMATS": "jpeg", **settings})
    ended = media(env, "doctor", "--json", confined=confined)
    assert ended.stderr == ""
    return ended.returncode, {found["what"]: found for found in document(ended)}


def files(place: Workplace) -> set[Path]:
    return {path for path in place.home.rglob("*") if ".cache" not in path.parts}


@pytest.mark.rotating(1)
def test_everything_is_well_where_a_worker_has_been(used: Workplace) -> None:
    code, found = examined(used)

    assert code == 0
    assert {finding["level"] for finding in found.values()} <= {"ok", "warning"}
    well = (
        "Redis",
        "Redis version",
        "Redis role",
        "Redis durability",
        "Redis eviction",
        "Redis values",
        "Catalog",
    )
    assert [found[what]["level"] for what in well] == ["ok"] * len(well)
    assert [found[what]["level"] for what in ("Redis stream", "Storage root", "Writing")] == ["ok"] * 3
    assert "Settings" not in found
    assert "libvips" in found["Decoders"]["detail"]
    assert all(found[what].keys() == {"what", "level", "detail", "advice"} for what in found)


def test_before_the_first_worker_everything_is_well_and_nothing_is_made(place: Workplace) -> None:
    before = files(place)

    code, found = examined(place)

    assert code == 0, found
    assert "first worker makes it" in found["Catalog"]["detail"]
    assert files(place) == before


def test_an_examination_changes_nothing_where_a_worker_has_been(used: Workplace) -> None:
    tried = used.root / "variants"  # where a file is published and removed
    before = {path: path.stat().st_mtime_ns for path in files(used) - {tried} if "staging" not in path.parts}

    examined(used)

    after = {path: path.stat().st_mtime_ns for path in files(used) - {tried} if "staging" not in path.parts}
    # SQLite keeps its side files while someone reads, and may have put them in order before
    assert {path for path in before if path not in after} <= {path for path in before if path.suffix != ".db"}
    assert (used.root / ".media-root.json") in after
    assert list((used.root / "staging").iterdir()) == []


def test_the_libraries_that_read_pictures_are_named_on_request(place: Workplace) -> None:
    ended = media(place.env(MEDIA_REDIS_URL="redis://127.0.0.1:1/0"), "doctor", "--json", "--libraries")

    told = [one["detail"] for one in json.loads(ended.stdout) if one["what"] == "Libraries"]
    assert any(re.match(r"pyvips-binary [\d.]+: .*\blibvips 8", line) for line in told)
    assert any(re.match(r"pillow-heif [\d.]+: .*\blibde265 [\d.]+, libheif [\d.]+", line) for line in told)


def test_for_people_each_finding_is_a_line_and_what_to_do_comes_below(place: Workplace) -> None:
    ended = media(place.env(MEDIA_REDIS_URL="redis://127.0.0.1:1/0"), "doctor")

    assert ended.returncode == 1
    first, *lines = ended.stdout.splitlines()
    assert first.startswith(f"     ok  Version: media-worker {version('media-worker')}, Python ")
    assert lines[0].startswith("  error  Redis: ")
    assert "MEDIA_REDIS_URL" in lines[1]
    assert any("     ok  Decoders: " in line for line in lines)


def _no_redis(place: Workplace) -> dict[str, str]:
    return {"MEDIA_REDIS_URL": "redis://127.0.0.1:1/0"}


def _another_marker(place: Workplace) -> None:
    other = '{"catalog": "0ea1c0de-0000-4000-8000-000000000000", "version": 1}'
    (place.root / ".media-root.json").write_text(other)


def _no_marker(place: Workplace) -> None:
    (place.root / ".media-root.json").unlink()


def _damaged_marker(place: Workplace) -> None:
    (place.root / ".media-root.json").write_text("{")


def _vanished_root(place: Workplace) -> None:
    place.root.rename(place.home / "elsewhere")


def _root_is_a_file(place: Workplace) -> None:
    _vanished_root(place)
    place.root.write_text("")


def _vanished_catalog(place: Workplace) -> None:
    for path in place.home.glob("catalog.db*"):
        path.unlink()


def _damaged_catalog(place: Workplace) -> None:
    _vanished_catalog(place)
    place.catalog.write_bytes(b"no database" * 1000)


def _damaged_page(place: Workplace) -> None:
    settle(place.catalog)
    zero(place.catalog, roots(place.catalog)["deletion_marks"])  # nothing that doctor asks for


def _staging_is_a_file(place: Workplace) -> None:
    (place.root / "staging").rmdir()
    (place.root / "staging").write_text("")


def _catalog_cannot_be_made(place: Workplace) -> dict[str, str]:
    (place.home / "file").write_text("")
    return {"MEDIA_CATALOG_URL": f"sqlite+aiosqlite:///{place.home}/file/catalog.db"}


@pytest.mark.parametrize(
    ("break_it", "what", "answer"),
    [
        (_no_redis, "Redis", "MEDIA_REDIS_URL"),
        (_another_marker, "Storage root", "0ea1c0de"),
        (_no_marker, "Storage root", ".media-root.json"),
        (_damaged_marker, "Storage root", "damaged"),
        (_vanished_root, "Storage root", "does not exist"),
        (_root_is_a_file, "Storage root", "media"),
        (_vanished_catalog, "Storage root", "no catalog"),
        (_damaged_catalog, "Catalog", ".recover"),
        (_damaged_page, "Catalog pages", ".recover"),
        (_catalog_cannot_be_made, "Catalog", "cannot be made"),
        (_staging_is_a_file, "Writing", "staging"),
    ],
)
@pytest.mark.rotating(4)
async def test_each_thing_that_is_broken_is_named_with_what_to_do(
    used: Workplace,
    break_it: Callable[[Workplace], dict[str, str] | None],
    what: str,
    answer: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = used.env(MEDIA_CPUS="1", **(break_it(used) or {}))
    for name in env.keys() - {"PATH", "HOME"}:
        monkeypatch.setenv(name, env[name])

    found = {finding.what: finding async for finding in examine(Settings.load())}

    assert found[what].level == "error"
    assert answer in f"{found[what].detail} {found[what].advice}"
    assert found[what].advice
    assert "Decoders" in found  # what is broken keeps nothing else from being checked


@pytest.mark.parametrize("area", ["uploads", "variants", "trash", "staging"])
@pytest.mark.rotating(2)
def test_each_folder_that_is_not_what_it_must_be_is_named(used: Workplace, area: str) -> None:
    shutil.rmtree(used.root / area, ignore_errors=True)
    (used.root / area).symlink_to(used.home / "not-mounted")

    code, found = examined(used)

    assert code == 1
    assert found[f"Folder {area}/"]["level"] == "error"
    assert "not-mounted" in found[f"Folder {area}/"]["detail"]


@pytest.mark.parametrize("area", ["uploads", "variants", "trash"])
@pytest.mark.rotating(2)
def test_each_folder_without_rights_is_named_with_the_user(used: Workplace, area: str) -> None:
    (used.root / area).mkdir(exist_ok=True)
    (used.root / area).chmod(0)

    code, found = examined(used, confined=True)

    (used.root / area).chmod(0o755)
    assert code == 1
    assert str(used.root / area) in found[f"Folder {area}/"]["detail"]
    assert "Let the user" in found[f"Folder {area}/"]["advice"]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "Make room"), (errno.EDQUOT, "quota"), (errno.EROFS, "remount")]
)
async def test_what_to_do_fits_what_the_disk_says(
    used: Workplace, number: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in used.env(MEDIA_CPUS="1").items():
        monkeypatch.setenv(name, value)

    def fail(_fd: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fail)
        found = {finding.what: finding for finding in await check_room(Settings.load())}

    assert found["Writing"].level == "error"
    assert said in (found["Writing"].advice or "")
    assert "Let the user" not in (found["Writing"].advice or "")


async def test_what_the_file_system_lacks_is_a_warning(
    used: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in used.env(MEDIA_CPUS="1").items():
        monkeypatch.setenv(name, value)
    (used.root / "variants").mkdir(exist_ok=True)
    without_folder_fsync(monkeypatch)

    found = {finding.what: finding for finding in await check_room(Settings.load())}

    assert found["File system"].level == "warning"
    assert "fsync" in found["File system"].detail


def test_a_volume_that_is_not_mounted_is_an_error_of_its_folder(used: Workplace, volume: Path) -> None:
    uploads = used.root / "uploads"
    shutil.rmtree(uploads, ignore_errors=True)
    uploads.symlink_to(volume)
    (volume / "a.jpg").write_bytes(pictures.small())
    assert used.run("media", "--burst").returncode == 0
    uploads.unlink()
    uploads.mkdir()

    code, found = examined(used)

    assert code == 1
    assert f"{uploads} was a volume of its own, and is none now" in found["Folder uploads/"]["detail"]


def test_a_disk_that_was_mounted_for_variants_before_the_first_worker_is_well(place: Workplace) -> None:
    (place.root / "variants/lost+found").mkdir(parents=True)

    code, found = examined(place)

    assert code == 0, found


@pytest.mark.parametrize("shut", ["catalog.db", "."])
def test_a_catalog_that_cannot_be_written_is_an_error_for_doctor_and_worker(
    used: Workplace, shut: str
) -> None:
    (used.home / shut).chmod(0o555)

    code, found = examined(used, confined=True)
    worker = media(used.env(), "worker", "--burst", confined=True)

    (used.home / shut).chmod(0o755)
    assert (code, worker.returncode) == (1, 1)
    answer = found["Catalog writing"] if "Catalog writing" in found else found["Catalog"]
    assert answer["level"] == "error"
    assert "cannot be written" in answer["detail"]
    assert f"{used.catalog} cannot be written" in worker.stderr


def test_a_migration_that_is_pending_is_a_warning_until_a_worker_makes_it(
    place: Workplace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    make_old(place.catalog)
    (place.root / ".media-root.json").write_text('{"catalog": "old", "version": 1}')

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return media_of_next_version(place.env(), tmp_path_factory.mktemp("next"), *words)

    def found() -> dict[str, Any]:
        return next(each for each in document(run("doctor", "--json")) if each["what"] == "Catalog")

    before = found()
    worker = run("worker", "--burst")
    after = found()

    assert before["level"] == "warning"
    assert "is pending" in before["detail"]
    [migrated] = [line for line in worker.stderr.splitlines() if "catalog_migrated" in line]
    assert str(place.catalog.with_name("catalog.db.before-")) in migrated
    assert after["level"] == "ok"


@pytest.mark.parametrize("adopt", ["enqueue", "off"])
@pytest.mark.rotating(1)
def test_names_that_no_event_can_carry_are_counted_whether_workers_adopt_or_not(
    place: Workplace, adopt: str
) -> None:
    for name in (b"l\xe9.jpg", b"new\nline.jpg", b"good.jpg"):
        path = os.fsencode(place.root / "uploads") + b"/" + name
        with open(path, "wb") as file:
            file.write(pictures.small())
    assert place.run("media", "--burst", MEDIA_ADOPT=adopt).returncode == 0

    code, found = examined(place, MEDIA_ADOPT=adopt)

    assert (code, found["Names"]["level"]) == (0, "warning")
    assert found["Names"]["detail"].startswith("2 below uploads/ cannot be announced")


def test_what_is_broken_ends_it_with_exit_code_1(used: Workplace) -> None:
    _no_marker(used)

    code, found = examined(used)

    assert (code, found["Storage root"]["level"]) == (1, "error")


@pytest.mark.parametrize("folder", [".", "staging", "variants"])
@pytest.mark.rotating(2)
def test_a_folder_that_cannot_be_written_is_an_error(used: Workplace, folder: str) -> None:
    (used.root / "variants").mkdir(exist_ok=True)
    (used.root / folder).chmod(0o555)

    code, found = examined(used, confined=True)

    (used.root / folder).chmod(0o755)
    assert code == 1
    assert found["Writing"]["level"] == "error"
    assert "user" in found["Writing"]["advice"]


@pytest.mark.parametrize(
    ("option", "value", "usual", "what", "answer"),
    [
        ("appendonly", "no", "yes", "Redis durability", "appendonly yes"),
        ("maxmemory-policy", "allkeys-lru", "noeviction", "Redis eviction", "noeviction"),
    ],
)
def test_a_redis_that_may_forget_is_warned_of_but_not_red(
    place: Workplace, option: str, value: str, usual: str, what: str, answer: str
) -> None:
    place.redis.config_set(option, value)

    code, found = examined(place)

    place.redis.config_set(option, usual)
    assert code == 0
    assert found[what]["level"] == "warning"
    assert answer in found[what]["advice"]


def test_a_redis_that_needs_a_password_is_an_error_that_does_not_print_the_url(place: Workplace) -> None:
    secret = as_user(place.redis_url, password="wrong-secret")

    code, found = examined(place, MEDIA_REDIS_URL=secret)

    assert code == 1
    assert found["Redis"]["level"] == "error"
    assert "secret" not in str(found)


def test_formats_reach_as_far_as_the_readme_says(used: Workplace) -> None:
    answer = re.findall(r"^\| (\w+) \| [\w, ]+ \| (\d+ MP) \|", README.read_text("utf-8"), re.MULTILINE)

    _, findings = examined(used, MEDIA_FORMATS=",".join(known.name for known in FORMATS))

    reach = ", ".join(f"{title} (to {largest})" for title, largest in answer)
    assert findings["Formats"]["detail"] == f"{reach}, at least"


def test_backups_that_never_came_and_copies_that_are_damaged_are_named(used: Workplace) -> None:
    folder = used.home / "backup"
    used.settings["MEDIA_BACKUP"] = str(folder)
    found = [examined(used)[1]["Backup"]]
    with closing(sqlite3.connect(used.catalog)) as catalog, catalog:
        catalog.execute("INSERT INTO kv VALUES ('backup:expected', '{\"time_ms\": 1000}')")
    found.append(examined(used)[1]["Backup"])
    assert media(used.env(), "backup").returncode == 0
    (folder / "2026-01-01T000000Z.damaged").mkdir()
    found.append(examined(used)[1]["Backup"])

    assert [one["level"] for one in found] == ["ok", "warning", "warning"]
    assert "none has been made in" in found[1]["detail"]
    assert "damaged, 1 in all: 2026-01-01T000000Z.damaged" in found[2]["detail"]
