"""Sweeps that are killed in the middle of apply, purge and restore, at every step, and then run again."""

import json
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from scripts.redis_server import RedisServer
from tests.chaos.conftest import FaultPlaces
from tests.chaos.crashes import cases_of
from tests.chaos.crashing_worker import DIED
from tests.chaos.place import Case, FaultPlace
from tests.chaos.steps import KILLED_SWEEP
from tests.support.catalog_rows import rows_of
from tests.support.fork_server import CommandForks
from tests.support.rotation import today
from tests.support.sweeps import new_key
from tests.support.workplace import database_on

LEASE_S = 0.5
SAMPLE = 1  # case of each kind, every day


@pytest.fixture(scope="module")
def settled(
    redis_server: RedisServer, fork_server: CommandForks, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The home of a place where three uploads are ready, and nobody works."""
    place = FaultPlace(tmp_path_factory.mktemp("settled"), database_on(redis_server.url), fork_server)
    worker = place.start_worker()
    place.await_state("ready", *place.upload(1, 2, 3))
    place.await_rest()
    worker.stop()
    place.close()
    return place.home


@dataclass
class SweepScene:
    """A copy of it in which there is one of everything that a sweep finds."""

    place: FaultPlace
    orphan: str
    retired: str
    missing: str
    leftover: str

    def run(self, *words: str, **fault: Any) -> int:
        """Run the command to its end; returns its exit code."""
        return self.place.start_worker(*words, ready=False, fault={**fault, "armed": True}).wait(60)

    @property
    def plan(self) -> str:
        [row] = rows_of(self.place.catalog, "SELECT value FROM kv WHERE name = 'sweep:last'")
        plan: str = json.loads(row["value"])["plan"]
        return plan

    @property
    def files(self) -> set[str]:
        """The files below variants/, staging/ and trash/, but for plans."""
        root = self.place.root
        found = [path for top in ("variants", "staging", "trash") for path in (root / top).rglob("*")]
        return {str(path.relative_to(root)) for path in found if path.is_file() and "plan" not in path.name}

    @property
    def recorded(self) -> set[str]:
        """The keys of the table `variants`."""
        return {row["key"] for row in rows_of(self.place.catalog, "SELECT key FROM variants")}


def scene(place: FaultPlace, settled: Path) -> SweepScene:
    shutil.copytree(settled, place.home, dirs_exist_ok=True)
    rows = rows_of(place.catalog, "SELECT key, upload_id FROM variants ORDER BY upload_id, key")
    retired, missing = rows[0]["key"], rows[3]["key"]
    with closing(sqlite3.connect(place.catalog)) as connection, connection:
        connection.execute("UPDATE variants SET superseded_ms = 1 WHERE key = ?", [retired])
    (place.root / missing).unlink()
    orphan, leftover = new_key(), f"staging/x{uuid4()}/0"
    for key in (orphan, leftover):
        (place.root / key).parent.mkdir(parents=True, exist_ok=True)
        (place.root / key).write_bytes(b"nobody's")
    return SweepScene(place, orphan, retired, missing, leftover)


def planned(made: SweepScene) -> Sequence[str]:
    assert made.run("sweep") == 0
    return "sweep", "apply", made.plan


def is_applied(made: SweepScene) -> None:
    [upload] = rows_of(
        made.place.catalog,
        f"SELECT state FROM uploads JOIN variants ON upload_id = id WHERE key = '{made.missing}'",
    )
    assert upload["state"] == "queued"
    assert made.retired not in made.recorded
    assert made.files == made.recorded - {made.missing} | {f"trash/{made.plan}/{made.orphan}"}


def applied(made: SweepScene) -> Sequence[str]:
    assert made.run(*planned(made)) == 0
    return "sweep", "purge"


def is_purged(made: SweepScene) -> None:
    assert made.files == made.recorded - {made.missing}
    assert not [path for path in (made.place.root / "trash").rglob("*") if path.is_file()]


def applied_by_mistake(made: SweepScene) -> Sequence[str]:
    assert made.run(*planned(made)) == 0
    return "sweep", "restore", made.plan


def is_restored(made: SweepScene) -> None:
    assert made.files == made.recorded - {made.missing} | {made.orphan}
    assert (made.place.root / made.orphan).read_bytes() == b"nobody's"


@dataclass(frozen=True)
class SweepCommand:
    """What comes before (and which command then), and what holds after it."""

    prepare: Callable[[SweepScene], Sequence[str]]
    check: Callable[[SweepScene], None]


COMMANDS = {
    "apply": SweepCommand(planned, is_applied),
    "purge": SweepCommand(applied, is_purged),
    "restore": SweepCommand(applied_by_mistake, is_restored),
}


def record(made: SweepScene, command: SweepCommand) -> Sequence[Case]:
    """Every step that the command comes by."""
    trace = made.place.home / "trace"
    words = command.prepare(made)
    assert made.run(*words, trace=str(trace)) == 0
    command.check(made)
    # How often a lease is renewed depends on how long the command takes.
    return [case for case in cases_of(trace, KILLED_SWEEP) if case[0] != "lease" or case[2] == 1]


def die_at(made: SweepScene, command: SweepCommand, case: Case) -> None:
    """Let the command die there, and run it again: once its lease has run out, and once more."""
    words = command.prepare(made)
    assert made.run(*words, crash=case) == DIED, case
    time.sleep(LEASE_S)
    for _ in range(2):
        assert made.run(*words) == 0, case
    command.check(made)
    marks = rows_of(made.place.catalog, "SELECT * FROM deletion_marks WHERE moved_ms IS NULL")
    assert marks == [], case


def die_at_some(places: FaultPlaces, settled: Path, command: SweepCommand, number: int | None) -> int:
    """Die at so many steps, at all where no number is said; gives at how many."""
    cases = list(record(scene(quick(places("recorded")), settled), command))
    chosen = cases if number is None else random.Random(str(today())).sample(cases, number)
    for at, case in enumerate(chosen):
        die_at(scene(quick(places(f"place-{at}")), settled), command, case)
    return len(chosen)


def quick(place: FaultPlace) -> FaultPlace:
    place.settings |= {"MEDIA_RETENTION": "0", "MEDIA_LEASE": str(LEASE_S)}
    return place


@pytest.mark.fault(50)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
@pytest.mark.rotating(1)
def test_a_sweep_that_is_killed_at_some_step_is_finished_when_it_is_run_again(
    places: FaultPlaces, settled: Path, command: SweepCommand
) -> None:
    assert die_at_some(places, settled, command, SAMPLE) == SAMPLE


@pytest.mark.fault(50)
@pytest.mark.campaign
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_sweep_that_is_killed_at_any_step_is_finished_when_it_is_run_again(
    places: FaultPlaces, settled: Path, command: SweepCommand
) -> None:
    assert die_at_some(places, settled, command, None) > SAMPLE
