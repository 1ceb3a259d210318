"""A Redis, a nursery of workers, and a ground for each test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer, temporary_redis
from tests.chaos.ground import Ground
from tests.chaos.nursery import open_nursery
from tests.chaos.own_redis import OwnRedis
from tests.chaos.proxy import Proxy
from tests.support.nursery import Nursery
from tests.support.workplace import database_on


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with temporary_redis() as server:
        yield server


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    opened = open_nursery()
    yield opened
    opened.close()


@dataclass(frozen=True)
class World:
    """A ground with a Redis to itself, and a proxy between the two."""

    ground: Ground
    server: OwnRedis
    proxy: Proxy


Worlds = Callable[[str], World]


@pytest.fixture
def worlds(nursery: Nursery, migrated: Path, tmp_path: Path) -> Iterator[Worlds]:
    """As many worlds as one wants to break, by name."""
    with ExitStack() as stack:

        def world(name: str) -> World:
            server = OwnRedis(tmp_path / name / "redis")
            stack.callback(server.close)
            proxy = Proxy(server.port, 0)
            stack.callback(proxy.close)
            settings = {"MEDIA_CPUS": "1", "MEDIA_REDIS_URL": proxy.url}
            ground = Ground(tmp_path / name / "ground", server.url, nursery, migrated, **settings)
            stack.callback(ground.close)
            return World(ground, server, proxy)

        yield world


@pytest.fixture
def world(worlds: Worlds) -> World:
    """One of them."""
    return worlds("world")


@pytest.fixture
def ground(redis_server: RedisServer, nursery: Nursery, migrated: Path, tmp_path: Path) -> Iterator[Ground]:
    """A ground with one CPU a worker, a lease of a second, and nobody at work."""
    place = Ground(tmp_path, database_on(redis_server.url), nursery, migrated, MEDIA_CPUS="1")
    yield place
    place.close()


Grounds = Callable[[str], Ground]


@pytest.fixture
def grounds(redis_server: RedisServer, nursery: Nursery, migrated: Path, tmp_path: Path) -> Iterator[Grounds]:
    """As many grounds as one wants, by name."""
    made: list[Ground] = []

    def ground(name: str) -> Ground:
        settings = {"MEDIA_CPUS": "1", "MEDIA_GRACE": "0", "MEDIA_DELETE_ORIGINALS": "1"}
        made.append(Ground(tmp_path / name, database_on(redis_server.url), nursery, migrated, **settings))
        return made[-1]

    yield ground
    for place in made:
        place.close()
