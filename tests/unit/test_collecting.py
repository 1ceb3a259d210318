"""Which modules a process of a run reads first."""

import pytest

from tests.support.collecting import BeginElsewhere

pytest_plugins = ["pytester"]
NAMES = "test_a", "test_b", "test_c", "test_d"


def test_each_process_begins_with_another_module_and_all_have_one_order(pytester: pytest.Pytester) -> None:
    for name in NAMES:
        pytester.makepyfile(
            **{name: f"def test_2(): pass\ndef test_1(): pass\nopen('order', 'a').write('{name} ')"}
        )

    run = pytester.inline_run("-p", "no:asyncio", plugins=[BeginElsewhere(3, of=4)])

    assert (pytester.path / "order").read_text().split() == [*NAMES[3:], *NAMES[:3]]
    began = [call.nodeid for call in run.getcalls("pytest_runtest_logstart")]
    assert began == [f"{name}.py::test_{at}" for name in NAMES for at in (2, 1)]
