"""A Redis, a fork server of workers, and a place for each test."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer, temporary_redis
from tests.chaos.own_redis import OwnRedis
from tests.chaos.place import FaultPlace
from tests.chaos.proxy import Proxy
from tests.support.catalog_rows import PostgresRows
from tests.support.fork_server import CommandForks, commands
from tests.support.workplace import database_on


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with temporary_redis() as server:
        yield server


@pytest.fixture(scope="session")
def fork_server() -> CommandForks:
    return commands()


@dataclass(frozen=True)
class ProxiedPlace:
    """A place with a Redis to itself, and a proxy between the two."""

    place: FaultPlace
    server: OwnRedis
    proxy: Proxy


ProxiedPlaces = Callable[[str], ProxiedPlace]


@pytest.fixture
def proxied_places(fork_server: CommandForks, migrated: Path, tmp_path: Path) -> Iterator[ProxiedPlaces]:
    """Make a place with its own Redis and a proxy before it, by name."""
    with ExitStack() as stack:

        def proxied(name: str) -> ProxiedPlace:
            server = OwnRedis(tmp_path / name / "redis")
            stack.callback(server.close)
            proxy = Proxy(server.url)
            stack.callback(proxy.close)
            settings = {"MEDIA_CPUS": "1", "MEDIA_REDIS_URL": proxy.url}
            place = FaultPlace(tmp_path / name / "place", server.url, fork_server, migrated, **settings)
            stack.callback(place.close)
            return ProxiedPlace(place, server, proxy)

        yield proxied


@pytest.fixture
def proxied(proxied_places: ProxiedPlaces) -> ProxiedPlace:
    """A place with its own Redis and a proxy before it."""
    return proxied_places("only")


@pytest.fixture
def place(
    redis_server: RedisServer, fork_server: CommandForks, migrated: Path, tmp_path: Path
) -> Iterator[FaultPlace]:
    """A place with one CPU a worker, a lease of a second, and nobody at work."""
    place = FaultPlace(tmp_path, database_on(redis_server.url), fork_server, migrated, MEDIA_CPUS="1")
    yield place
    place.close()


FaultPlaces = Callable[[str], FaultPlace]


_numbers = itertools.count()


@pytest.fixture
def places(
    redis_server: RedisServer,
    fork_server: CommandForks,
    migrated: Path,
    tmp_path: Path,
    database_kind: str,
    request: pytest.FixtureRequest,
) -> Iterator[FaultPlaces]:
    """As many places as one wants, by name."""
    made: list[FaultPlace] = []
    databases = request.getfixturevalue("catalog_databases") if database_kind == "postgres" else None

    def new_place(name: str) -> FaultPlace:
        settings = {"MEDIA_CPUS": "1", "MEDIA_GRACE": "0", "MEDIA_DELETE_ORIGINALS": "1"}
        place = FaultPlace(tmp_path / name, database_on(redis_server.url), fork_server, migrated, **settings)
        if databases:
            place.database = PostgresRows(databases.create(f"place_{next(_numbers)}"))
        made.append(place)
        return place

    yield new_place
    for place in made:
        place.close()
