"""Workers that die while a picture takes the place of another: what is served, and what apps are told."""

import json
import random
from collections import Counter
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest

from tests.chaos import steps
from tests.chaos.conftest import FaultPlaces
from tests.chaos.crashes import Scenario, die_at_each, record
from tests.chaos.place import Case, FaultPlace
from tests.support import pictures
from tests.support.rotation import today

VARIANTS = 3
SAMPLE = 1  # case, every day


def _source(number: int) -> str:
    return f"uploads/{number}.jpg"


def _id(number: int) -> str:
    return str(uuid5(NAMESPACE_URL, f"media:{_source(number)}"))


def _send(place: FaultPlace, number: int, **more: str) -> None:
    """Put a picture and announce it; not before, for a start would adopt it."""
    place.put(_source(number), pictures.small(number + 3))
    place.send({"source": _source(number), "metadata": {"number": number}, **more})


def _have_one_ready(place: FaultPlace, number: int) -> None:
    """The one whose place is taken; the next one takes that of this one."""
    if place.states().get(_source(number - 1)) != "ready":
        _send(place, number - 1)
        worker = place.start_worker()
        place.await_state("ready", _source(number - 1))
        place.await_rest()
        worker.stop()


def _replace(place: FaultPlace, number: int) -> None:
    _send(place, number, replaces=_id(number - 1))


def _is_replaced(place: FaultPlace, number: int) -> bool:
    """Whether the new one has the place of the old one; at every look either both are so or neither is."""
    rows = place.database.rows(
        "SELECT id, state, replaced_by, key FROM uploads LEFT JOIN variants ON upload_id = id "
        f"WHERE id IN ('{_id(number)}', '{_id(number - 1)}')"
    )
    served = Counter(row["id"] for row in rows if row["key"] and (place.root / row["key"]).is_file())
    found = {row["id"]: (row["state"], row["replaced_by"]) for row in rows}
    assert served[_id(number - 1)] == VARIANTS
    if found.get(_id(number), ("unknown", None))[0] != "ready":
        assert found[_id(number - 1)] == ("ready", None)
        return False
    assert found[_id(number - 1)] == ("deleted", _id(number))
    assert served[_id(number)] == VARIANTS
    return True


def _all_is_told_and_nothing_left(place: FaultPlace, count: int) -> None:
    """Both messages of each, in their order; and after a sweep no file but those that are served."""
    entries: Any = place.redis.xrange("media:events")
    told = [json.loads(fields[b"event"]) for _, fields in entries]
    contents = {(one["seq"], json.dumps(one, sort_keys=True)) for one in told}
    assert len(contents) == len({one["seq"] for one in told})  # one that came again is the same
    for number in range(count):
        new = _first(told, _id(number), "upload.ready")
        gone = _first(told, _id(number - 1), "upload.deleted")
        assert new["replaces"] == _id(number - 1)
        assert (gone["replaced_by"], gone["original"]) == (_id(number), "kept")
        assert (gone["source"], gone["metadata"]) == (_source(number - 1), {"number": number - 1})
        assert new["seq"] < gone["seq"]
    sweep = place.start_worker("sweep", "--apply", ready=False)
    assert sweep.wait() == 0, sweep.text
    assert place.check().unreferenced == set()
    kept = place.database.rows("SELECT key FROM variants")  # also of what was replaced, for MEDIA_RETENTION
    assert len(kept) == VARIANTS * (count + 1)
    assert all((place.root / row["key"]).is_file() for row in kept)
    assert all((place.root / _source(number)).is_file() for number in range(-1, count))


def _first(told: list[Any], upload_id: str, kind: str) -> Any:
    about = [one for one in told if (one["id"], one["type"]) == (upload_id, kind)]
    return min(about, key=lambda one: one["seq"])


REPLACEMENT = Scenario(
    steps.UPLOAD,
    _is_replaced,
    prepare=_have_one_ready,
    send=_replace,
    at_rest=_all_is_told_and_nothing_left,
)
BETWEEN_PROMISES: list[Case] = [
    ("take", "after", 1),  # a row, and no job
    ("acknowledge", "before", 1),  # a job, and the entry is still there
    ("os.rename", "after", 2),  # two of three files under their names
    ("commit", "before", 1),  # three files, and no row
    ("commit", "commit", 1),  # both rows are written, and no transaction is
    ("commit", "after", 1),  # rows, and no message
    ("mark_sent", "before", 1),  # messages, which come again
]


@pytest.mark.fault(1)
def test_a_worker_killed_while_a_picture_takes_anothers_place_leaves_one_of_them_served(
    places: FaultPlaces,
) -> None:
    cases = random.Random(str(today())).sample(BETWEEN_PROMISES, SAMPLE)

    assert die_at_each(places, REPLACEMENT, cases, at_once=1) == []


@pytest.mark.fault(1)
@pytest.mark.campaign
def test_a_kill_at_any_step_of_a_replacement_leaves_one_of_the_two_served(places: FaultPlaces) -> None:
    cases = record(places("recorded"), REPLACEMENT)
    assert {step for step, _, _ in cases} == REPLACEMENT.way.keys()

    assert die_at_each(places, REPLACEMENT, cases) == []
