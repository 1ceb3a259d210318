"""Starting quickly: what each command imports, and the CPU that a start takes at most."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.media import COMMANDS
from scripts.redis_server import RedisServer
from tests.support.commands import MEDIA, run_installed
from tests.support.workplace import Workplace, database_on

pytestmark = pytest.mark.rotating(4, of="module")

WORK = {
    "sqlalchemy",
    "aiosqlite",
    "alembic",
    "redis",
    "arq.connections",
    "pydantic",
    "structlog",
    "prometheus_client",
}
PICTURES = {"pyvips", "PIL", "pillow_heif"}
SERVERS = {"fastapi", "starlette", "uvicorn", "boto3", "opentelemetry"}
NOBODY = "00000000-0000-4000-8000-000000000000"
# What these read stands in the catalog's file alone.
READING = [
    ["show", NOBODY],
    ["failed", "list"],
    ["events"],
    ["keys", "list", "--json"],
]
UNUSED = {"sqlalchemy.orm", "sqlalchemy.dialects.postgresql.base"}
TOO_MUCH = {"alembic", "structlog", "redis", "arq.connections", "prometheus_client", *UNUSED}


@pytest.fixture(scope="module")
def place(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace where a worker has been."""
    place = Workplace(tmp_path_factory.mktemp("quick"), database_on(redis_server.url), migrated)
    assert place.run("media", "--burst").returncode == 0
    yield place
    place.close()


def imported(place: Workplace, code: str) -> set[str]:
    """The modules that are loaded once `code` has run in a process of its own."""
    whole = f"import sys\ntry:\n    {code}\nfinally: print(*sys.modules, file=sys.stderr)"
    ended = run_installed([sys.executable, "-c", whole], place.env(), place.home)
    return set(ended.stderr.splitlines()[-1].split())


def running(words: list[str]) -> str:
    return f"import media_worker; sys.argv = {['media', *words]}; media_worker.main()"


def test_the_help_of_each_command_is_shown_without_what_it_works_with(place: Workplace) -> None:
    code = "from scripts.media import build; [build([name]) for name in sys.argv[1].split()]"
    names = " ".join(COMMANDS)

    loaded = imported(place, code.replace("sys.argv[1]", repr(names)))

    assert "scripts.sweep" in loaded
    assert loaded & (WORK | PICTURES | SERVERS) == set()


@pytest.mark.parametrize("words", READING, ids=" ".join)
def test_what_reads_the_catalog_imports_neither_what_writes_it_nor_redis(
    place: Workplace, words: list[str]
) -> None:
    loaded = imported(place, running(words))

    assert "storage.catalog.sqlite" in loaded
    assert loaded & (TOO_MUCH | PICTURES | SERVERS) == set()
    assert not loaded & {f"storage.catalog.{name}" for name in ("opening", "claims", "intake", "sweeps")}


def test_a_report_asks_the_catalog_and_redis_and_imports_nothing_of_a_worker(place: Workplace) -> None:
    loaded = imported(place, running(["stats", "--json"]))

    assert {"sqlalchemy", "redis"} <= loaded
    assert (
        loaded & ({"alembic", "structlog", "arq.worker", "jwt.api_jwt"} | UNUSED | PICTURES | SERVERS)
        == set()
    )
    assert not loaded & {"worker.app", "worker.tasks", "storage.catalog.opening"}


def test_the_health_of_a_worker_that_serves_no_probes_is_told_without_its_catalog(place: Workplace) -> None:
    loaded = imported(place, running(["health", "--live"]))

    assert "redis" in loaded
    assert loaded & ({"sqlalchemy", "structlog", "worker.tasks"} | PICTURES | SERVERS) == set()


def test_a_worker_collects_garbage_once_it_has_started(place: Workplace) -> None:
    code = f"try:\n    {running(['worker', '--burst'])}\nfinally:\n    print('collects', gc.isenabled())"

    ended = run_installed([sys.executable, "-c", f"import gc, sys\n{code}"], place.env(), place.home)

    assert ended.stdout.endswith("collects True\n")


def test_a_worker_imports_neither_pictures_nor_servers_nor_migrations(place: Workplace) -> None:
    loaded = imported(place, running(["worker", "--burst"]))

    assert "arq.worker" in loaded
    assert loaded & ({"alembic", "asyncpg"} | UNUSED | PICTURES | SERVERS) == set()


@pytest.mark.parametrize(
    ("words", "most_s", "code"), [(["show", NOBODY], 2, 1), (["worker", "--burst"], 4, 0)]
)
def test_a_command_that_does_its_work_takes_no_four_times_the_cpu_of_its_start(
    place: Workplace, words: list[str], most_s: float, code: int
) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    env = {**os.environ, **place.env()}
    ended = subprocess.run([MEDIA, *words], env=env, cwd=place.home, capture_output=True)

    assert ended.returncode == code, ended.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert spent < most_s  # three to four times of what it is: other programs on the core make it dearer
