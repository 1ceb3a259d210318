"""Which module begins when: `--dist loadfile` gives each whole to one process."""

import pytest

LONGEST = (
    "acceptance/test_commands_restore.py",
    "acceptance/test_health.py",
    "unit/storage/test_catalog_events.py",
    "acceptance/test_commands_on_s3.py",
    "unit/pipelines/test_sandbox.py",
    "acceptance/test_commands_listen.py",
    "acceptance/test_starting.py",
    "chaos/test_faults_postgres.py",
    "integration/test_s3_answers.py",
    "acceptance/test_http_hostile.py",
    "acceptance/test_prometheus.py",
    "chaos/test_faults_queue.py",
    "contracts/test_catalog_restores.py",
    "acceptance/test_lost_and_found.py",
    "unit/pipelines/test_machines_fault.py",
    "acceptance/test_s3_worker.py",
    "acceptance/test_signals.py",
    "unit/bench/test_budget.py",
    "acceptance/test_deploy_systemd.py",
    "unit/scripts/test_container.py",
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
