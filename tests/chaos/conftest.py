"""A Redis, a nursery of workers, and a ground for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer, temporary_redis
from tests.chaos.ground import Ground
from tests.chaos.nursery import Nursery
from tests.support.workplace import database_on


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with temporary_redis() as server:
        yield server


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    opened = Nursery()
    yield opened
    opened.close()


@pytest.fixture
def ground(redis_server: RedisServer, nursery: Nursery, tmp_path: Path) -> Iterator[Ground]:
    """A ground with one CPU a worker, a lease of a second, and nobody at work."""
    place = Ground(tmp_path, database_on(redis_server.url), nursery, MEDIA_CPUS="1")
    yield place
    place.close()
