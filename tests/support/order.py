"""Which module begins when: `--dist loadfile` gives each whole to one process."""

import pytest

LONGEST = (
    "unit/bench/test_budget.py",
    "acceptance/test_health.py",
    "acceptance/test_commands_demo.py",
    "acceptance/test_commands_backup.py",
    "unit/scripts/test_container.py",
    "acceptance/test_commands_restore.py",
    "acceptance/test_signals.py",
    "acceptance/test_s3_worker.py",
    "unit/pipelines/test_decoder_corpus.py",
    "chaos/test_faults_redis.py",
    "chaos/test_faults_workers.py",
    "chaos/test_backups_in_chaos.py",
    "chaos/test_two_hosts.py",
)
_FOLDERS = ("acceptance/", "chaos/", "unit/storage/", "integration/", "contracts/", "unit/pipelines/")


def begin_with_the_longest(items: list[pytest.Item]) -> None:
    """Sort tests by their modules: those that take longest, by folder, and at last the small ones.

    So that no process works on one alone when the others have ended.
    """
    items.sort(key=lambda item: _turn_of(item.nodeid.partition("::")[0].removeprefix("tests/")))


def _turn_of(module: str) -> tuple[int, int]:
    if module in LONGEST:
        return 0, LONGEST.index(module)
    return 1, next((at for at, folder in enumerate(_FOLDERS) if module.startswith(folder)), len(_FOLDERS))
