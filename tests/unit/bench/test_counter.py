"""Instructions between the counts that valgrind has said."""

import subprocess
import sys

import pytest

from bench.counter import between_counts, counts_of
from tests.support.clients import ROOT

SAID = b"""
==11== I   refs:      1,000
==10==
==12== I   refs:      1,500
==14== I   refs:      2,900
==13== I   refs:      2,100
==10== I   refs:      9,000
"""


def test_it_is_the_median_stretch_whatever_the_order_without_the_programs_end() -> None:
    assert between_counts(SAID) == 600


def test_one_stretch_is_enough() -> None:
    assert between_counts(b"I refs: 5\nI refs: 7\nI refs: 50\n") == 2


@pytest.mark.parametrize("said", [b"", b"I refs: 5\n", b"I refs: 5\nI refs: 7\n"])
def test_without_two_counts_before_the_end_there_is_none(said: bytes) -> None:
    with pytest.raises(ValueError, match="not said enough"):
        between_counts(said)


def test_the_work_is_done_first_and_then_for_each_count() -> None:
    assert counts_of(["program", "16", "8", "3", "--counted"]) == [16, 8, 8, 8]


def test_who_says_a_count_goes_on_as_before() -> None:
    program = "from bench.counter import say_count; print('once'); say_count(); print('to the end')"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, check=True)

    assert done.stdout == b"once\nto the end\n"
