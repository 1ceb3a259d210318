"""The places for jobs: one owner fills half of them at most, and a newcomer finds one."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from tests.support.sweeps import Clock
from worker.places import PLACES, JobPlaces

PER_JOB = 4


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.stop_at(1000)
    return clock


@pytest.fixture
def places(clock: Clock) -> JobPlaces:
    return JobPlaces(PER_JOB, clock)


def have(places: JobPlaces, *owners: str) -> list[str]:
    """A job in hand for each of these owners, with one upload; returns their IDs."""
    jobs = [uuid4().hex for _ in owners]
    for job_id, owner in zip(jobs, owners, strict=True):
        places.begin(job_id, {uuid4(): owner})
    return jobs


def admitted(places: JobPlaces, owners: Sequence[str]) -> int:
    return sum(places.admit(owners))


def nothing(_owner: str) -> float:
    return 0.0


def test_a_few_uploads_get_a_job_at_once(places: JobPlaces) -> None:
    assert places.admit(["mia", "leo", "mia"]) == [True, True, True]


def test_of_a_burst_of_one_owner_half_of_the_places_are_filled(places: JobPlaces) -> None:
    assert admitted(places, ["greedy"] * 50) == PLACES // 2 * PER_JOB


def test_an_owner_with_half_of_the_places_gets_no_more_and_another_does(places: JobPlaces) -> None:
    have(places, *["greedy"] * 4)

    assert places.admit(["greedy", "mia"]) == [False, True]


def test_the_last_places_are_for_owners_who_have_none(places: JobPlaces) -> None:
    have(places, *"aaabbb")

    assert places.admit(["a", "b", "mia", "leo"]) == [False, False, True, True]


def test_nobody_is_admitted_once_all_places_are_taken(places: JobPlaces) -> None:
    have(places, *"aaabbbcd")

    assert places.admit(["mia"]) == [False]
    assert places.wanted(["mia"], nothing) == {}


def test_who_has_something_parked_waits_behind_it(places: JobPlaces) -> None:
    places.park({"greedy"})

    assert places.admit(["greedy", "mia"]) == [False, True]


def test_a_burst_parks_nothing_as_it_ends_where_no_job_is_left(places: JobPlaces) -> None:
    places.admits_all = True

    assert admitted(places, ["greedy"] * 1000) == 1000


def test_a_burst_remembers_nothing_of_its_jobs_however_many_they_are(places: JobPlaces) -> None:
    places.admits_all = True
    [job_id, *_] = have(places, *["greedy"] * 100)
    with pytest.raises(InterruptedError), places.running(job_id):
        raise InterruptedError

    assert places.taken == 0


def test_jobs_are_for_whoever_has_used_least_and_shared_by_those_who_wait(places: JobPlaces) -> None:
    used = {"greedy": 9.0, "leo": 1.0, "mia": 0.0}

    assert places.wanted(["greedy"], used.__getitem__) == {"greedy": 8}
    assert places.wanted(["greedy", "leo", "mia"], used.__getitem__) == {"mia": 3, "leo": 3, "greedy": 2}
    assert list(places.wanted(list("abcdefghijkl"), nothing).values()) == [1] * 8


def test_two_jobs_of_an_owner_follow_once_two_have_ended(places: JobPlaces) -> None:
    [first, second, *_] = have(places, *["greedy"] * 4)
    found = []
    for job_id in (first, second):
        with places.running(job_id):
            found.append(places.wanted(["greedy"], nothing))
    found.append(places.wanted(["greedy"], nothing))

    assert found == [{}, {}, {"greedy": 2 * PER_JOB}]


def test_the_end_of_a_job_is_told_where_something_is_parked(places: JobPlaces) -> None:
    [first, second] = have(places, "mia", "mia")
    with places.running(first):
        pass
    before = places.changed.is_set()
    places.parked = {"mia"}
    with places.running(second):
        pass

    assert (before, places.changed.is_set()) == (False, True)


def test_jobs_that_others_have_taken_are_forgotten_and_those_of_others_counted(
    places: JobPlaces, clock: Clock
) -> None:
    gone, kept, new = have(places, "greedy", "greedy", "greedy")
    clock.stop_at(1010)
    places.begin(new, {uuid4(): "greedy"})
    with places.running(kept):
        places.compare({"of a reconciler"})

        assert places.taken == 3  # the running one, the new one, and the other's
    assert gone not in places._jobs


def test_a_job_that_is_to_run_again_keeps_its_place_for_its_owners(places: JobPlaces, clock: Clock) -> None:
    jobs = have(places, *["greedy"] * 4)
    for job_id in jobs:
        with pytest.raises(InterruptedError), places.running(job_id):
            raise InterruptedError

    assert (places.taken, places.admit(["greedy", "mia"])) == (4, [False, True])
    clock.stop_at(1010)
    places.compare(jobs[:1])
    assert places.taken == 1
