"""Which module begins when: `--dist loadfile` gives each whole to one process."""

import pytest

LONGEST = (
    "unit/bench/test_budget.py",
    "acceptance/test_health.py",
    "unit/pipelines/test_sandbox.py",
    "acceptance/test_commands_restore.py",
    "acceptance/test_commands_backup.py",
    "acceptance/test_commands_demo.py",
    "unit/pipelines/test_machines_fault.py",
    "unit/scripts/test_container.py",
    "acceptance/test_s3_worker.py",
    "unit/pipelines/test_decoder_corpus.py",
    "acceptance/test_lost_and_found.py",
    "acceptance/test_signals.py",
)
_FOLDERS = ("acceptance/", "chaos/", "unit/pipelines/", "integration/", "contracts/", "unit/storage/")


def begin_with_the_longest(items: list[pytest.Item]) -> None:
    """Sort tests by their modules: those that take longest, by folder, and at last the small ones.

    So that no process works on one alone when the others have ended.
    """
    items.sort(key=lambda item: _turn_of(item.nodeid.partition("::")[0].removeprefix("tests/")))


def _turn_of(module: str) -> tuple[int, int]:
    if module in LONGEST:
        return 0, LONGEST.index(module)
    return 1, next((at for at, folder in enumerate(_FOLDERS) if module.startswith(folder)), len(_FOLDERS))
