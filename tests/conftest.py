"""What tests of every kind share: a fresh catalog, a fresh storage root, and which tests take minutes."""

import asyncio
import gc
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from scripts.postgres_server import PostgresNotFoundError, PostgresServer, temporary_postgres
from storage.blobs.local import LocalBlobs, open_local
from storage.catalog.opening import Catalog, open_catalog
from tests.support.clients import missing, skip_without_services
from tests.support.collecting import begin_elsewhere
from tests.support.compiled import share_checks_of_parameters, share_compiled_statements
from tests.support.disks import quickest_disk
from tests.support.host_clock import put_clock
from tests.support.order import begin_with_the_longest
from tests.support.postgres import execute, new_database
from tests.support.postgres_pool import CatalogDatabases
from tests.support.rotation import rotate, today
from tests.support.s3 import ministack, seaweedfs
from worker.logs import LogWriter

__all__ = ["ministack", "put_clock", "seaweedfs"]


def pytest_configure(config: pytest.Config) -> None:
    """Tests that take minutes are marked as a campaign: `pytest -m campaign` runs them, `pytest` does not."""
    gc.disable()  # until all tests are found: everything that is made meanwhile stays
    os.environ["MEDIA_ENV_FILE"] = ""  # no test reads a developer's own .env
    share_compiled_statements()
    share_checks_of_parameters()
    begin_elsewhere(config)
    config.addinivalue_line(
        "markers", "fault(numbers): the faults of tests/chaos/test_faults.py that it is about"
    )
    config.addinivalue_line(
        "markers", "sqlite: about SQLite alone, in a module whose tests run on both databases"
    )
    config.addinivalue_line("markers", "campaign: takes minutes; run by `pytest -m campaign`")
    config.addinivalue_line(
        "markers",
        "rotating(count, of=None): the suite runs so many of its cases or its module's a day; a campaign all",
    )
    today()


def pytest_report_header() -> str:
    return f"rotating cases: of {today()}"


def pytest_xdist_auto_num_workers() -> int:
    """Five more than there are CPUs: most of a test is waiting for what workers do in their own time."""
    return len(os.sched_getaffinity(0)) + 5


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not _is_of_the_other_database(item)]
    rotate(config, items)
    begin_with_the_longest(items)
    if "campaign" in str(config.getoption("markexpr")):
        return
    for item in items:
        if item.get_closest_marker("campaign"):
            item.add_marker(pytest.mark.skip(reason="a campaign: pytest -m campaign"))


def pytest_collection_finish() -> None:
    """All tests and modules stay until the end: no garbage collection need look through them."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)  # to look for what each test leaves as often as usual takes an eighth
    gc.enable()


def _is_of_the_other_database(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    kind = call.params.get("database_kind") if call else None
    return kind == "postgres" and item.get_closest_marker("sqlite") is not None


@pytest.fixture(autouse=True)
def logs_of_a_worker_end_with_its_test() -> Iterator[None]:
    """A worker in the test's own process writes to the standard error that pytest has opened for this test.

    Later the number of that descriptor may be another file's, or a connection's.
    """
    yield
    root = logging.getLogger()
    for handler in [known for known in root.handlers if isinstance(known, LogWriter)]:
        handler.flush()
        root.removeHandler(handler)
        structlog.reset_defaults()


def url_of(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a new catalog: migrated once, for copying is quicker."""
    path = tmp_path_factory.mktemp("migrated") / "catalog.db"

    async def migrate() -> None:
        async with open_catalog(url_of(path)):
            pass

    asyncio.run(migrate())
    return path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A Postgres that all tests of this process share; those that stop it start one of their own."""
    skip_without_services()
    try:
        with temporary_postgres(beneath=quickest_disk()) as server:
            yield server
    except PostgresNotFoundError as error:
        missing(str(error))


@pytest.fixture
async def postgres_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """An empty database on Postgres."""
    async with new_database(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def catalog_databases(postgres_server: PostgresServer) -> CatalogDatabases:
    """The catalogs on Postgres that the tests of this process use one after the other."""
    name = "migrated"

    async def migrate() -> None:
        await execute(postgres_server, f"CREATE DATABASE {name}")
        async with open_catalog(postgres_server.url(name)):
            pass

    asyncio.run(migrate())
    return CatalogDatabases(postgres_server, name)


@pytest.fixture
async def postgres_catalog_url(catalog_databases: CatalogDatabases) -> AsyncIterator[str]:
    """A catalog on Postgres that nobody has used."""
    async with catalog_databases.borrow() as url:
        yield url


@pytest.fixture
def database_kind() -> str:
    """Which database is beneath the catalog; modules whose tests hold for both are marked with `ON_BOTH`."""
    return "sqlite"


@pytest.fixture
def catalog_url(request: pytest.FixtureRequest, tmp_path: Path, database_kind: str) -> str:
    if database_kind == "postgres":
        return str(request.getfixturevalue("postgres_catalog_url"))
    return url_of(tmp_path / "catalog.db")


@pytest.fixture
async def catalog(
    migrated: Path, tmp_path: Path, catalog_url: str, database_kind: str
) -> AsyncIterator[Catalog]:
    """A catalog that nobody has used, in `tmp_path` if it is a file."""
    if database_kind == "sqlite":
        shutil.copy(migrated, tmp_path / "catalog.db")
    async with open_catalog(catalog_url) as fresh:
        yield fresh


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of `local_blobs`."""
    return tmp_path / "media"


@pytest.fixture
async def local_blobs(root: Path) -> AsyncIterator[LocalBlobs]:
    """Blobs as files, none yet."""
    async with open_local(root, create=True) as blobs:
        yield blobs


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK) or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """Files that are made are for their owner alone, unless somebody says otherwise."""
    before = os.umask(0o077)
    yield
    os.umask(before)
