"""Real services for the acceptance tests: one Redis a session, a workplace a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer, temporary_redis
from tests.support.django_site import VERSIONS
from tests.support.picture_folders import corpus_folder
from tests.support.served import installed
from tests.support.workplace import Workplace, database_on


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with temporary_redis() as server:
        yield server


@pytest.fixture
def workplace(redis_server: RedisServer, migrated: Path, tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(tmp_path, database_on(redis_server.url), migrated)
    yield place
    place.close()


@pytest.fixture(scope="module")
def live(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace with one worker that lives as long as the module's tests."""
    place = Workplace(tmp_path_factory.mktemp("live"), database_on(redis_server.url), migrated)
    place.start("arq")
    yield place
    place.close()


@pytest.fixture(scope="module", params=VERSIONS)
def django_version(request: pytest.FixtureRequest) -> str:
    """The Django of an app."""
    return str(request.param)


@pytest.fixture(scope="module")
def place(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace of a module, whose catalog and storage are there, and where nobody works."""
    place = installed(tmp_path_factory.mktemp("place"), redis_server.url, migrated)
    yield place
    place.close()


@pytest.fixture
def corpus() -> Path:
    """The shared corpus of pictures."""
    folder = corpus_folder()
    if folder is None or not (folder / "photos").is_dir():
        pytest.skip("no corpus of photos: name its folder in MEDIA_TEST_CORPUS")
    return folder
