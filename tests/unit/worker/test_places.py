"""The places for jobs: one owner fills half of them at most, and a newcomer finds one."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from tests.support.sweeps import Clock
from worker.places import MOST_KNOWN, PLACES, JobPlaces, TurnAt

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


def by_wait(_owner: str, since: float) -> float:
    return since


def wanted(places: JobPlaces, *parked: str, turn_at: TurnAt = by_wait) -> dict[str, int]:
    """What is wanted once uploads of these owners were parked, one after another."""
    for owner in parked:
        places.park({owner})
    return places.wanted(turn_at)


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
    assert wanted(places, "mia") == {}


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


def test_jobs_are_for_those_whose_turn_is_next_and_shared_by_those_who_wait(places: JobPlaces) -> None:
    turns = {"greedy": 9.0, "leo": 1.0, "mia": 0.0}.__getitem__

    def turn_at(owner: str, _since: float) -> float:
        return turns(owner)

    assert wanted(places, "greedy", turn_at=turn_at) == {"greedy": 8}
    assert wanted(places, "leo", "mia", turn_at=turn_at) == {"mia": 3, "leo": 3, "greedy": 2}


def test_of_many_owners_those_go_first_that_have_waited_longest_and_not_by_the_alphabet(
    places: JobPlaces, clock: Clock
) -> None:
    for second, owner in enumerate("zyxwvutsrqabc"):
        clock.stop_at(1000 + second)
        places.park({owner})

    assert places.wanted(by_wait) == dict.fromkeys("zyxwvuts", 1)


def test_an_owner_that_has_just_got_a_job_waits_from_then_on_however_old_its_uploads_are(
    places: JobPlaces, clock: Clock
) -> None:
    places.park({"greedy"})
    for second, owner in enumerate(("greedy", "mia"), 1010):
        clock.stop_at(second)
        [job_id] = have(places, owner)
        with places.running(job_id):
            pass

    assert list(wanted(places, "mia")) == ["greedy", "mia"]
    have(places, "greedy")
    clock.stop_at(1012)
    assert list(wanted(places, "leo")) == ["greedy", "mia", "leo"]


def test_who_was_found_to_have_nothing_left_is_forgotten_unless_something_came_meanwhile(
    places: JobPlaces,
) -> None:
    assert wanted(places, "leo", "mia") == {"leo": 4, "mia": 4}
    places.park({"mia"})
    places.empty(["leo", "mia"])

    assert list(places.parked) == ["mia"]


def test_a_look_at_all_owners_forgets_those_that_are_gone_and_one_at_some_does_not(
    places: JobPlaces,
) -> None:
    wanted(places, "leo", "mia")
    known = list(places.parked)
    places.park({"ann"})
    places.find({"mia": 5000}, known, by_wait)
    assert set(places.parked) == {"ann", "mia"}

    places.find({"leo": 9000}, None, by_wait)
    assert list(places.wanted(by_wait)) == ["leo", "mia", "ann"]


def test_of_very_many_owners_those_are_known_whose_turn_is_next(places: JobPlaces) -> None:
    places.find({f"{each}": each for each in range(MOST_KNOWN + 50)}, None, by_wait)

    assert len(places.parked) == MOST_KNOWN
    assert "49" not in places.parked
    assert f"{MOST_KNOWN + 49}" in places.parked


def test_jobs_that_others_have_put_here_leave_places_for_owners_without_any(places: JobPlaces) -> None:
    places.compare({f"of a back-fill {n}" for n in range(20)})

    assert places.admit(["mia", "leo"]) == [True, True]
    have(places, "mia")
    assert places.admit(["mia", "leo"]) == [False, True]


def test_two_jobs_of_an_owner_follow_once_two_have_ended(places: JobPlaces) -> None:
    [first, second, *_] = have(places, *["greedy"] * 4)
    found = []
    for job_id in (first, second):
        with places.running(job_id):
            found.append(wanted(places, "greedy"))
    found.append(wanted(places, "greedy"))

    assert found == [{}, {}, {"greedy": 2 * PER_JOB}]


def test_the_end_of_a_job_is_told_where_something_is_parked(places: JobPlaces) -> None:
    [first, second] = have(places, "mia", "mia")
    with places.running(first):
        pass
    before = places.changed.is_set()
    places.park({"mia"})
    places.changed.clear()
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


def test_an_owner_that_is_set_aside_is_passed_over_for_a_minute(places: JobPlaces, clock: Clock) -> None:
    places.set_aside("mia")
    aside = set(wanted(places, "mia", "leo"))
    clock.stop_at(1061)

    assert (aside, set(places.wanted(by_wait))) == ({"leo"}, {"mia", "leo"})
