"""A traceparent is what the W3C says; anything else is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.traceparent import parse_traceparent, trace_id_of

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize("flags", ["00", "01", "02", "03"])
def test_a_traceparent_of_version_00_is_taken_as_it_is(flags: str) -> None:
    assert parse_traceparent(f"00-{TRACE}-{PARENT}-{flags}") == f"00-{TRACE}-{PARENT}-{flags}"


@pytest.mark.parametrize("rest", ["", "-", "-what-the-future-will-bring"])
def test_one_of_a_newer_version_is_taken_as_far_as_it_is_known(rest: str) -> None:
    assert parse_traceparent(f"cc-{TRACE}-{PARENT}-01{rest}") == SAMPLED


def test_flags_that_nobody_knows_yet_are_not_passed_on() -> None:
    assert parse_traceparent(f"00-{TRACE}-{PARENT}-ff") == f"00-{TRACE}-{PARENT}-03"


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-",
        f"00-{TRACE}-{PARENT}-01-more",
        f"cc-{TRACE}-{PARENT}-01more",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-01\n",
        f" {SAMPLED}",
        f"00-{TRACE[:-1]}٣-{PARENT}-01",
        None,
        7,
        ["00", TRACE, PARENT, "01"],
    ],
)
def test_what_is_wrong_is_none(value: object) -> None:
    assert parse_traceparent(value) is None


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f-]{50,60}", fullmatch=True))
def test_whatever_is_taken_is_a_traceparent_that_is_taken_again(value: str) -> None:
    taken = parse_traceparent(value)

    assert taken is None or (len(taken) == 55 and parse_traceparent(taken) == taken)


def test_the_trace_is_named_by_its_id() -> None:
    assert trace_id_of(SAMPLED) == TRACE
