"""The order of the tests: what takes longest begins first."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.order import LONGEST, begin_with_the_longest

TESTS = Path(__file__).parents[1]


def in_order(*modules: str) -> list[str]:
    items: Any = [SimpleNamespace(nodeid=f"tests/{module}::test_it") for module in modules]
    begin_with_the_longest(items)
    return [item.nodeid.removeprefix("tests/").partition("::")[0] for item in items]


def test_every_module_that_is_known_to_take_long_is_there() -> None:
    assert [module for module in LONGEST if not (TESTS / module).is_file()] == []


def test_the_longest_modules_come_first_and_the_others_by_folder() -> None:
    few = ["unit/worker/test_a.py", "contracts/test_b.py", "unit/pipelines/test_c.py", "acceptance/test_d.py"]

    assert in_order(*few, *LONGEST[::-1]) == [*LONGEST, *few[::-1]]


def test_modules_of_a_folder_stay_in_their_order() -> None:
    assert in_order("chaos/test_b.py", "chaos/test_a.py") == ["chaos/test_b.py", "chaos/test_a.py"]
