"""Where each process of a run begins to look for tests: what one has compiled, the others find.

Every process of pytest-xdist collects all tests, and where no module is compiled yet, as in CI, all of them
would compile each module at the same moment.
"""

from collections.abc import Generator

import pytest


class BeginElsewhere:
    """A plugin for the process of that number, of so many: its folders are read from another entry on."""

    def __init__(self, number: int, of: int) -> None:
        self._number = number
        self._of = of

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if isinstance(collector, pytest.Dir) and report.passed:
            first = len(report.result) * self._number // self._of
            report.result = report.result[first:] + report.result[:first]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """All processes must have their tests in the same order."""
        items.sort(key=lambda item: item.path)


def begin_elsewhere(config: pytest.Config) -> None:
    """Have this process, if it is one of many, begin with other modules than the others."""
    known: dict[str, object] = getattr(config, "workerinput", {})
    if known:
        number = int(str(known["workerid"]).removeprefix("gw"))
        config.pluginmanager.register(BeginElsewhere(number, int(str(known["workercount"]))))
