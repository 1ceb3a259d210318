"""When an endpoint is tried again: by its answers alone, and by a clock that may be wrong."""

from itertools import count

import pytest

from storage.catalog.webhooks import LONGEST_MS, EndpointState, Word
from worker.webhooks.endpoint import Outcome, WebhookAnswer
from worker.webhooks.pacing import CONCURRENCY, DOWN_AFTER, EndpointPace, delay_ms

MIDDLE = 0.5


_seqs = count(1000)


class ClockOfPace:
    """A time that a test moves."""

    def __init__(self) -> None:
        self.ms = 1_000_000_000_000

    def __call__(self) -> int:
        return self.ms


@pytest.fixture
def clock() -> ClockOfPace:
    return ClockOfPace()


@pytest.fixture
def pace(clock: ClockOfPace) -> EndpointPace:
    return EndpointPace(clock, lambda: MIDDLE)


def fail(
    pace: EndpointPace, times: int = 1, outcome: Outcome = "refused", pause_s: float = 0, seq: int = 0
) -> None:
    """Fail with so many messages, or so many times with the one that is named."""
    for _ in range(times):
        pace.met(WebhookAnswer(outcome, "no", pause_s), seq or next(_seqs))


def test_a_message_waits_5_s_then_twice_as_long_each_time_up_to_an_hour() -> None:
    waits = [delay_ms(attempts, chance=lambda: MIDDLE) // 1000 for attempts in (1, 2, 3, 10, 11, 10_000)]

    assert waits == [5, 10, 20, 2560, 3600, 3600]
    assert (delay_ms(1, chance=lambda: 0.0), delay_ms(1, chance=lambda: 1.0)) == (3750, 6250)


def test_an_endpoint_that_takes_nothing_is_tried_with_one_message_at_a_time(
    pace: EndpointPace, clock: ClockOfPace
) -> None:
    fail(pace, DOWN_AFTER - 1)
    assert (pace.word, pace.places(3)) == ("ok", CONCURRENCY - 3)
    fail(pace)

    assert (pace.word, pace.places(0), pace.wait_ms()) == ("down", 0, 5000)
    clock.ms += 5000
    assert (pace.places(0), pace.places(1)) == (1, 0)
    fail(pace, 30)
    assert pace.wait_ms() == 300_000


def test_one_message_that_is_taken_ends_that_and_one_that_is_refused_now_and_then_begins_none(
    pace: EndpointPace,
) -> None:
    fail(pace, DOWN_AFTER)
    assert pace.met(WebhookAnswer("delivered"), 1)
    for _ in range(20):
        fail(pace)
        assert not pace.met(WebhookAnswer("delivered"), 1)

    assert (pace.word, pace.places(0)) == ("ok", CONCURRENCY)


@pytest.mark.parametrize(("outcome", "word"), [("refused", "ok"), ("timeout", "ok"), ("unreachable", "down")])
def test_one_message_that_is_refused_again_and_again_takes_no_endpoint_down(
    pace: EndpointPace, outcome: Outcome, word: str
) -> None:
    fail(pace, 2 * DOWN_AFTER, outcome, seq=7)

    assert pace.word == word


def test_messages_that_are_always_refused_take_an_endpoint_down_once_and_no_more(
    pace: EndpointPace,
) -> None:
    refused = range(1, 2 * DOWN_AFTER)
    for seq in refused:
        fail(pace, seq=seq)
    assert pace.word == "down"
    for taken in range(50, 55):
        pace.met(WebhookAnswer("delivered"), taken)
        for seq in refused:
            fail(pace, seq=seq)
        assert (pace.word, pace.places(0)) == ("ok", CONCURRENCY)
    pace.met(WebhookAnswer("delivered"), refused[0])
    fail(pace, DOWN_AFTER)

    assert pace.word == "down"


def test_an_endpoint_that_refuses_everything_is_remembered_in_bounds(
    pace: EndpointPace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.webhooks.pacing.MOST_WAITING", 3)
    fail(pace, 100)

    assert len(pace._unwanted) == 3


def test_an_endpoint_that_asks_for_a_pause_has_it(pace: EndpointPace, clock: ClockOfPace) -> None:
    fail(pace, pause_s=60)

    assert (pace.word, pace.places(0), pace.wait_ms()) == ("ok", 0, 60_000)
    clock.ms += 60_000
    assert pace.places(0) == CONCURRENCY


def test_a_message_that_is_taken_meanwhile_does_not_end_the_pause_that_was_asked_for(
    pace: EndpointPace, clock: ClockOfPace
) -> None:
    fail(pace, pause_s=60)
    pace.met(WebhookAnswer("delivered"), 1)
    fail(pace)

    assert (pace.places(0), pace.wait_ms()) == (0, 60_000)
    clock.ms += 60_000
    assert pace.places(0) == CONCURRENCY


def test_a_clock_that_is_put_back_holds_nothing_up(pace: EndpointPace, clock: ClockOfPace) -> None:
    fail(pace, pause_s=60)
    clock.ms -= 24 * LONGEST_MS

    assert pace.places(0) == CONCURRENCY


@pytest.mark.parametrize(("word", "places"), [("ok", CONCURRENCY), ("down", 1), ("gone", 1)])
def test_an_endpoint_is_first_tried_as_another_worker_has_left_it(
    pace: EndpointPace, word: Word, places: int
) -> None:
    pace.go_on_from(EndpointState(word, 0, "it answered 500", 17))

    assert (pace.places(0), pace.delivered_ms) == (places, 17)
    pace.met(WebhookAnswer("delivered"), 1)
    pace.go_on_from(EndpointState(word, 0, "it answered 500", 17))
    assert (pace.places(0), pace.delivered_ms) == (CONCURRENCY, 1_000_000_000_000)


def test_an_endpoint_that_is_gone_is_not_tried_again(pace: EndpointPace, clock: ClockOfPace) -> None:
    fail(pace, outcome="gone")
    clock.ms += 24 * LONGEST_MS
    pace.met(WebhookAnswer("delivered"), 1)  # of what was sent before

    assert (pace.word, pace.places(0)) == ("gone", 0)
