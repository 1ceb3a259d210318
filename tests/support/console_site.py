"""An installation with a console to look at: its worker, its server, and keys of people."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.support.face import FaceProcess, new_secret, start_face
from tests.support.served import catalog_url, installed
from tests.support.workplace import Workplace

SCOPES = {"operator": "operate,read", "reader": "read"}


@dataclass
class ConsoleSite:
    """The installation, and how its console is reached."""

    place: Workplace
    face: FaceProcess
    secrets: dict[str, str]
    """The passwords, by who has them."""

    @property
    def address(self) -> str:
        """Where the server listens."""
        return self.face.url.removeprefix("http://")

    @property
    def port(self) -> int:
        """The port of that."""
        return int(self.address.rpartition(":")[2])

    def url(self, path: str = "") -> str:
        """The address of a page, by the path below /console."""
        return f"{self.face.url}/console{path}"

    def start_again(self) -> None:
        """Start the server where it was, once it has ended."""
        self.face = start_face(self.place, MEDIA_HTTP_BIND=self.address)


@pytest.fixture(scope="module")
def site(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConsoleSite]:
    """One installation for the tests of a module."""
    place = installed(tmp_path_factory.mktemp("site"), redis_server.url, migrated)
    try:
        place.start()
        secrets = {
            name: asyncio.run(new_secret(catalog_url(place), name, scopes)) for name, scopes in SCOPES.items()
        }
        yield ConsoleSite(place, start_face(place), secrets)
    finally:
        place.close()
