"""The backup of docs/operations.md: its lines run beside a worker, and what they save can be restored."""

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from scripts.readme import DOCS
from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.clients import WITH_SERVICES
from tests.support.commands import media
from tests.support.workplace import Workplace, database_on, eventually

PAGE = (DOCS / "operations.md").read_text("utf-8")
BACK_UP, RESTORE = (
    re.findall(rf"<!-- {name} -->\n```sh\n(.*?)```", PAGE, re.DOTALL) for name in ("backup", "restore")
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


def _rows(catalog: Path) -> dict[str, list[tuple[object, ...]]]:
    queries = {
        "uploads": "SELECT id, source, state, metadata FROM uploads ORDER BY id",
        "variants": "SELECT key, sha256 FROM variants WHERE superseded_ms IS NULL ORDER BY key",
    }
    with closing(sqlite3.connect(catalog)) as database:
        return {name: database.execute(query).fetchall() for name, query in queries.items()}


def _run(lines: Sequence[str], place: Workplace) -> None:
    """Run the page's lines in the folder of the copies."""
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    [script] = lines
    subprocess.run(
        ["sh", "-ec", script], cwd=place.home / "var", env={**place.env(), "PATH": path}, check=True
    )


@WITH_SERVICES
def test_what_the_docs_back_up_is_served_again_after_what_they_restore(place: Workplace) -> None:
    worker = place.start()
    for number, source in enumerate(SOURCES):
        place.put(source, pictures.small(number))
    place.send({"source": SOURCES[0], "id": OWN_ID, "metadata": {"owner": "42"}})
    place.send_all({"source": source} for source in SOURCES[1:])
    place.await_end_of(*SOURCES)
    place.send({"delete": OWN_ID})
    place.listen(lambda got: any(answer["type"] == "upload.deleted" for answer in got))
    _run(BACK_UP, place)
    before = _rows(place.catalog)
    assert worker.stop() == 0
    for lost in (place.root / "uploads", place.root / "variants"):
        shutil.rmtree(lost)
    place.catalog.unlink()

    _run(RESTORE, place)
    place.start()
    ended = media(place.env(), "reprocess", "--missing")

    assert ended.returncode == 0, ended.stderr
    keys = {key for key, _ in before["variants"]}
    eventually(
        lambda: keys == {str(path.relative_to(place.root)) for path in place.root.glob("variants/*/*/*")}
    )
    eventually(lambda: _rows(place.catalog) == before)


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
