"""An installation with a console to look at: its worker, its server, and keys of people."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from tests.support.commands import document, media
from tests.support.face import FaceProcess, new_secret, start_face
from tests.support.pictures import medium, small
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


HOSTILE = "<img src=x onerror=alert(1)>.jpg"
"""A name of a file that is markup."""
_METADATA = {"owner": "anna", "<b>title</b>": "<script>alert(1)</script>", "bidi": "a\u202eb"}


def fill(place: Workplace) -> str:
    """Upload a bit of everything: what is ready, what failed, what is markup, what is no event.

    Returns the name of a plan to sweep a file that nobody has.
    """
    pictures = {f"uploads/shop/{number}.jpg": small(number) for number in range(6)}
    pictures["uploads/landscape.jpg"] = medium()
    pictures[f"uploads/{HOSTILE}"] = small(7)
    broken = {f"uploads/{name}.jpg": medium()[:5000] for name in ("torn", "cut", f"broken {HOSTILE}")}
    broken["uploads/notes.jpg"] = b"no picture at all"
    for source, content in (pictures | broken).items():
        place.put(source, content)
        place.send({"source": source, "metadata": _METADATA if HOSTILE in source else {}})
    place.send_raw({"event": "<script>alert(1)</script>"})
    place.await_end_of(*pictures, *broken)
    place.put("variants/ab/cd/abcd0000-0000-4000-8000-000000000000.jpg", small(8))
    return str(document(media(place.env(MEDIA_GRACE="0"), "sweep", "--json"))["plan"])


@pytest.fixture(scope="module")
def filled(site: ConsoleSite) -> ConsoleSite:
    """An installation with something to show on each page."""
    fill(site.place)
    return site
