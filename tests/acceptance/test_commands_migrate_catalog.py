"""`media migrate-catalog`: the catalog moves to another database while no worker runs."""

import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.processes import Peak, cpu_ms, tree
from bench.scale import fill
from scripts.postgres_server import PostgresServer
from tests.support import pictures
from tests.support.commands import document, media
from tests.support.postgres import create_database
from tests.support.workplace import BIN, Workplace

pytestmark = pytest.mark.rotating(2, of="module")

SOURCE, LATER = "uploads/a.jpg", "uploads/b.jpg"
FEW, MILLION = 10_000, 200_000  # uploads, of five rows each
MOST_CPU_S, MOST_TIMES = 180, 1.25


@pytest.fixture
def place(workplace: Workplace) -> Workplace:
    """A workplace with one ready upload."""
    workplace.send({"source": workplace.put(SOURCE, pictures.small(1))})
    assert workplace.run("media", "--burst").returncode == 0
    return workplace


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


@pytest.mark.rotating(1)
def test_the_catalog_moves_and_workers_and_commands_with_the_old_one_are_refused(place: Workplace) -> None:
    new = place.home / "new.db"

    done = document(media(place.env(), "migrate-catalog", "--to", url(new), "--json"))

    assert done["finished"] is True
    assert done["rows"]["uploads"] == 1
    assert done["rows"]["variants"] == 3
    refused = [place.run("media", "--burst"), place.run("arq", "--burst")]
    refused += [media(place.env(), *words) for words in (["stats"], ["enqueue", place.root / SOURCE])]
    for ended in refused:
        assert ended.returncode == 1
        assert f"was moved to {new}: set MEDIA_CATALOG_URL" in ended.stderr.replace("\n", " ")
    place.use_catalog(new)
    place.send({"source": place.put(LATER, pictures.small(2))})
    assert place.run("media", "--burst").returncode == 0
    assert place.check().states == {"ready": 2}


def test_a_catalog_does_not_move_while_a_worker_runs(place: Workplace) -> None:
    place.start()

    ended = media(place.env(), "migrate-catalog", "--to", url(place.home / "new.db"))

    assert ended.returncode == 1
    assert "stop every worker first" in ended.stderr
    assert not (place.home / "new.db").exists()


def test_a_dry_run_counts_rows_and_makes_no_catalog(place: Workplace) -> None:
    new = place.home / "new.db"

    ended = document(media(place.env(), "migrate-catalog", "--to", url(new), "--dry-run", "--json"))

    assert (ended["rows"]["uploads"], ended["finished"]) == (1, False)
    assert not new.exists()
    assert place.run("media", "--burst").returncode == 0


@pytest.mark.parametrize("words", [[], ["--to", "new.db"], ["--to", "sqlite+aiosqlite:///x", "--cancel"]])
@pytest.mark.rotating(2)
def test_what_cannot_be_meant_is_refused(place: Workplace, words: list[str]) -> None:
    ended = media(place.env(), "migrate-catalog", *words)

    assert ended.returncode == 2
    assert "--to" in ended.stderr


@dataclass(frozen=True)
class LargeMove:
    """What moved, how long it took, the CPU time of command and server (s), and the command's peak memory."""

    rows: Mapping[str, int]
    seconds: float
    cpu_s: float
    peak: int


def moved(place: Workplace, source: str, to: str, server: PostgresServer) -> LargeMove:
    before = cpu_s(server)
    command = [str(BIN / "media"), "migrate-catalog", "--to", to, "--json"]
    env, began = place.env(MEDIA_CATALOG_URL=source), time.monotonic()
    with (
        subprocess.Popen(command, env=env, cwd=place.home, stdout=subprocess.PIPE, text=True) as moving,
        Peak(moving.pid).watched() as peak,
    ):
        said, _ = moving.communicate()
    assert moving.returncode == 0
    took = time.monotonic() - began
    return LargeMove(json.loads(said)["rows"], took, cpu_s(server) - before, peak.bytes)


def cpu_s(server: PostgresServer) -> float:
    """What commands that have ended and the server have worked: on a busy machine each waits for others."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime + sum(map(cpu_ms, tree(server.pid))) / 1000


@pytest.mark.campaign
def test_a_million_rows_move_both_ways_in_three_minutes_and_in_no_more_memory(
    workplace: Workplace, postgres_server: PostgresServer, migrated: Path
) -> None:
    found: dict[int, list[LargeMove]] = {FEW: [], MILLION: []}
    for uploads, moves in found.items():
        file = workplace.home / f"{uploads}.db"
        shutil.copy(migrated, file)
        fill(file, uploads)
        there, new = create_database(postgres_server, f"moved_{uploads}"), url(file.with_suffix(".new"))
        for source, to in ((url(file), there), (there, new)):
            moves.append(moved(workplace, source, to, postgres_server))
        sys.stdout.write(f"to Postgres {moves[0]}\nto SQLite {moves[1]}\n")

        assert {len(one.rows) for one in moves} == {3}
        assert all(sum(one.rows.values()) == 5 * uploads for one in moves)
    for few, million in zip(found[FEW], found[MILLION], strict=True):
        assert million.cpu_s < MOST_CPU_S
        assert million.peak < MOST_TIMES * few.peak
