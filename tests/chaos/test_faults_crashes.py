"""Workers that die: at every step of every way, recorded first, then died at one after the other."""

import json
import sqlite3
from contextlib import closing

import pytest

from tests.chaos import steps
from tests.chaos.conftest import FaultPlaces
from tests.chaos.crashes import Scenario, die_at_each, record
from tests.chaos.place import Case, FaultPlace
from tests.support import pictures
from tests.support.catalog_rows import rows_of
from tests.support.clients import WITH_SERVICES


def _source(number: int) -> str:
    return f"uploads/{number}.jpg"


def _put(place: FaultPlace, number: int) -> None:
    place.put(_source(number), pictures.small(number + 2))


def _announce(place: FaultPlace, number: int) -> None:
    place.send({"source": _source(number)})


def _put_and_announce(place: FaultPlace, number: int) -> None:
    _put(place, number)  # not before: its start would adopt it, and park nothing
    _announce(place, number)


def _is_ready(place: FaultPlace, number: int) -> bool:
    return place.states().get(_source(number)) == "ready"


def _have_ready(place: FaultPlace, number: int) -> None:
    _put(place, number)
    _announce(place, number)
    worker = place.start_worker()
    place.await_that(lambda: _is_ready(place, number))
    worker.stop()


def _ask_to_delete(place: FaultPlace, number: int) -> None:
    [row] = rows_of(place.catalog, f"SELECT id FROM uploads WHERE source = '{_source(number)}'")
    place.send({"delete": row["id"], "original": True})


def _is_gone(place: FaultPlace, number: int) -> bool:
    gone = not (place.root / _source(number)).exists()
    return gone and place.states().get(_source(number)) == "deleted"


def _put_three_and_forget_the_last_listing(place: FaultPlace, number: int) -> None:
    for n in (3 * number, 3 * number + 1, 3 * number + 2):
        _put(place, n)
    if place.catalog.exists():
        with closing(sqlite3.connect(place.catalog, timeout=10)) as connection, connection:
            connection.execute("DELETE FROM kv WHERE name = 'checkpoint:adoption'")


def _three_are_ready_and_the_listing_has_ended(place: FaultPlace, number: int) -> bool:
    if not place.states():
        return False
    listings = rows_of(place.catalog, "SELECT value FROM kv WHERE name = 'checkpoint:adoption'")
    ended = [one for one in listings if json.loads(one["value"])["finished_ms"]]
    return bool(ended) and all(_is_ready(place, n) for n in (3 * number, 3 * number + 1, 3 * number + 2))


def _lose_the_catalog(place: FaultPlace, number: int) -> None:
    _put(place, number)
    (place.root / "variants" / "ab").mkdir(parents=True, exist_ok=True)
    for path in place.home.glob("catalog.db*"):
        path.unlink()


def _all_are_queued(place: FaultPlace, _number: int) -> bool:
    there = {str(path.relative_to(place.root)) for path in (place.root / "uploads").glob("*.jpg")}
    return place.states() == dict.fromkeys(there, "queued")


UPLOAD = Scenario(steps.UPLOAD, _is_ready, prepare=_put, send=_announce)
PARKED_UPLOAD = Scenario(steps.PARKED_UPLOAD, _is_ready, send=_put_and_announce, fault={"parks": True})
DELETION = Scenario(steps.DELETION, _is_gone, prepare=_have_ready, send=_ask_to_delete)
ADOPTION = Scenario(
    steps.ADOPTION,
    _three_are_ready_and_the_listing_has_ended,
    prepare=_put_three_and_forget_the_last_listing,
    from_the_start=True,
    fault={"page": 2},
)
REBUILDING = Scenario(
    steps.REBUILDING,
    _all_are_queued,
    prepare=_lose_the_catalog,
    words=("rebuild", "--yes"),
    from_the_start=True,
    fault={"page": 2},
)


BETWEEN_PROMISES: list[Case] = [  # the others are in the campaign
    ("take", "after", 1),  # rows, and no job
    ("acknowledge", "before", 1),  # a job, and the entry is still there
    ("os.rename", "after", 2),  # two of three files under their names
    ("commit", "before", 1),  # three files, and no row
    ("commit", "after", 1),  # rows, and no message
]


@pytest.mark.fault(1)
def test_a_worker_killed_between_two_promises_loses_nothing_and_makes_nothing_twice(
    places: FaultPlaces,
) -> None:
    assert die_at_each(places, UPLOAD, BETWEEN_PROMISES, at_once=2) == []


BETWEEN_PARKING_AND_WORK: list[list[Case]] = [
    [
        ("take", "after", 1),  # a row without a job, and the entry is still there
        ("dispatch", "before", 1),
    ],
    [
        ("dispatch", "commit", 1),
        ("dispatch", "after", 1),  # a row with a job that is in no queue
    ],
]


@pytest.mark.fault(1)
@pytest.mark.parametrize("cases", BETWEEN_PARKING_AND_WORK, ids=["parked", "dispatched"])
@pytest.mark.rotating(1)
@WITH_SERVICES
def test_a_worker_killed_while_it_gives_a_parked_upload_a_job_loses_nothing(
    places: FaultPlaces, cases: list[Case]
) -> None:
    assert die_at_each(places, PARKED_UPLOAD, cases, at_once=2) == []


@pytest.mark.fault(1)
@pytest.mark.campaign
@pytest.mark.parametrize(
    "scenario",
    [
        pytest.param(UPLOAD, id="upload"),
        pytest.param(PARKED_UPLOAD, id="parked"),
        pytest.param(DELETION, id="deletion"),
        pytest.param(ADOPTION, id="adoption"),
        pytest.param(REBUILDING, id="rebuild"),
    ],
)
def test_a_kill_the_first_or_the_nth_time_at_any_step_of_any_way_is_made_good(
    places: FaultPlaces, scenario: Scenario
) -> None:
    cases = record(places("recorded"), scenario)
    assert {step for step, _, _ in cases} == scenario.way.keys()

    assert die_at_each(places, scenario, cases) == []
