"""Back-off: pauses that double up to a bound."""

from pipelines.backoff import Backoff


def test_pauses_double_up_to_the_longest_until_something_succeeds() -> None:
    backoff = Backoff(first_s=1, longest_s=3)
    pauses = [backoff.next_s() for _ in range(4)]
    failed = backoff.is_reset
    backoff.reset()

    assert pauses == [1, 2, 3, 3]
    assert (failed, backoff.is_reset, backoff.next_s()) == (False, True, 1)
