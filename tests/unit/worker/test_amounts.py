"""Amounts in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.filesize import decimal

from worker.amounts import counted, size


@given(st.integers(0, 10**21 - 1))
def test_bytes_are_written_as_the_commands_write_them(number: int) -> None:
    assert size(number) == decimal(number)


@pytest.mark.parametrize("power", range(1, 7))
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_each_unit_begins_where_that_of_the_commands_does(power: int, more: int) -> None:
    assert size(1000**power + more) == decimal(1000**power + more)


def test_one_thing_is_no_plural() -> None:
    assert [counted(0, "key"), counted(1, "key"), counted(2, "key")] == ["0 keys", "1 key", "2 keys"]
