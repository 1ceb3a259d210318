"""The backup of docs/operations.md: its lines run beside a worker, and what they save can be restored."""

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from scripts.readme import DOCS
from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.commands import media
from tests.support.workplace import Workplace, database_on, eventually

[LINES] = re.findall(
    r"<!-- backup -->\n```sh\n(.*?)```", (DOCS / "operations.md").read_text("utf-8"), re.DOTALL
)
SOURCES = [f"uploads/2026/{number}.jpg" for number in range(4)]
OWN_ID = "6f1c0000-0000-4000-8000-000000000000"


def _workplace(home: Path, redis_url: str) -> Workplace:
    """One with the settings' defaults: everything below `var/`."""
    place = Workplace(home, redis_url)
    shutil.rmtree(place.root)
    place.use_root(home / "var/media")
    place.use_catalog(home / "var/catalog.db")
    return place


@pytest.fixture
def place(redis_server: RedisServer, tmp_path: Path) -> Iterator[Workplace]:
    workplace = _workplace(tmp_path / "here", database_on(redis_server.url))
    yield workplace
    workplace.close()


@pytest.fixture
def elsewhere(redis_server: RedisServer, tmp_path: Path) -> Iterator[Workplace]:
    workplace = _workplace(tmp_path / "elsewhere", database_on(redis_server.url))
    yield workplace
    workplace.close()


def _rows(catalog: Path) -> dict[str, list[tuple[object, ...]]]:
    queries = {
        "uploads": "SELECT id, source, state, metadata FROM uploads ORDER BY id",
        "variants": "SELECT key, sha256 FROM variants WHERE superseded_ms IS NULL ORDER BY key",
    }
    with closing(sqlite3.connect(catalog)) as database:
        return {name: database.execute(query).fetchall() for name, query in queries.items()}


def _back_up(folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    """Run the page's lines there."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    return subprocess.run(["sh", "-ec", LINES], cwd=folder, env={**env, "PATH": path}, capture_output=True)


def _restore(backup: Path, place: Workplace) -> None:
    shutil.rmtree(place.root / "uploads")
    shutil.copytree(backup / "files/uploads", place.root / "uploads")
    shutil.copy(next(backup.glob("2*/catalog.db")), place.catalog)


def test_what_the_docs_back_up_is_served_again_where_it_is_restored(
    place: Workplace, elsewhere: Workplace
) -> None:
    place.start()
    for number, source in enumerate(SOURCES):
        place.put(source, pictures.small(number))
    place.send({"source": SOURCES[0], "id": OWN_ID, "metadata": {"owner": "42"}})
    place.send_all({"source": source} for source in SOURCES[1:])
    place.await_end_of(*SOURCES)
    place.send({"delete": OWN_ID})
    place.listen(lambda got: any(answer["type"] == "upload.deleted" for answer in got))
    backup = place.home / "var/backup"

    assert _back_up(place.home / "var", place.env()).returncode == 0

    before = _rows(place.catalog)
    _restore(backup, elsewhere)
    refused = elsewhere.run("media", "--burst")
    shutil.copy(next(backup.glob("2*/.media-root.json")), elsewhere.root)
    elsewhere.start()
    ended = media(elsewhere.env(), "reprocess", "--missing")
    eventually(lambda: _rows(elsewhere.catalog) == before)
    assert refused.returncode == 1
    assert ended.returncode == 0, ended.stderr
    assert {key for key, _ in before["variants"]} == {
        str(path.relative_to(elsewhere.root)) for path in elsewhere.root.glob("variants/*/*/*")
    }


def test_a_root_that_was_restored_without_its_marker_gets_it_back_by_the_printed_line(
    place: Workplace,
) -> None:
    place.put(SOURCES[0], pictures.small())
    place.send({"source": SOURCES[0], "id": OWN_ID})
    assert place.run("media", "--burst").returncode == 0
    (place.root / ".media-root.json").unlink()
    shutil.rmtree(place.root / "variants")

    assert place.run("media", "--burst").returncode == 1
    answer = media(place.env(), "doctor").stdout
    [line] = re.findall(r"echo '.*?' > \S+\.media-root\.json", answer)
    subprocess.run(["sh", "-ec", line], check=True)

    assert place.run("media", "--burst").returncode == 0
    assert _rows(place.catalog)["uploads"][0][0] == OWN_ID
