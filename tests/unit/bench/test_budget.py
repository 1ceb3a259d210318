"""A budget of instructions: what is over it, what is under it, and for whom it holds."""

import json
import shutil
from pathlib import Path

import pytest

from bench import budget
from bench.budget import COUNTED, WORKLOADS, Finding
from tests.support.clients import WITH_SERVICES, missing, package_missing


def found(instructions: int, allowed: int | None = 1_000_000) -> Finding:
    """A workload that may take a million instructions, and two percent more."""
    return Finding("decode", instructions, allowed, 0.02)


@pytest.mark.parametrize(
    ("instructions", "is_over", "is_under"),
    [(1_021_000, True, False), (1_019_000, False, False), (981_000, False, False), (979_000, False, True)],
)
def test_a_budget_is_kept_within_its_tolerance(instructions: int, is_over: bool, is_under: bool) -> None:
    finding = found(instructions)

    assert (finding.is_over, finding.is_under) == (is_over, is_under)
    assert ("over the budget" in str(finding)) is is_over
    assert ("ARGS=--write keeps it so" in str(finding)) is is_under


def test_what_has_no_budget_here_does_not_keep_it_and_says_how_to_set_one() -> None:
    finding = found(5, allowed=None)

    assert not finding.is_over
    assert not finding.is_kept
    assert found(1_000_000).is_kept
    assert "nobody has set a budget for machine " in str(finding)


def test_a_budget_that_is_written_holds_for_these_versions_alone(tmp_path: Path) -> None:
    file = tmp_path / "budget.json"
    others = {"for": {**budget.key(), "python": "3.99"}, "decode": 7}
    file.write_text(json.dumps([others, {"for": budget.key(), "decode": 8}]))
    budget.write([found(9)], file)
    entries = json.loads(file.read_text())

    assert budget.budget_for(entries, "decode") == 9
    assert budget.budget_for(entries, "upload") is None
    assert others in entries
    assert len(entries) == 2


@pytest.mark.parametrize(
    ("earlier", "is_due"),
    [
        ({"sqlalchemy": "1.0"}, True),
        ({"pyvips-binary": "7.0", "sqlalchemy": "1.0"}, True),
        ({"python": "3.99"}, False),
        ({"machine": "vax"}, False),
    ],
)
def test_a_new_version_in_the_lock_makes_a_new_budget_due(earlier: dict[str, str], is_due: bool) -> None:
    if not budget.locked().items() <= budget.key().items():
        pytest.skip("the versions here are not those of the lock")

    assert budget.is_due([{"for": {**budget.key(), **earlier}}]) is is_due


def test_other_versions_than_those_of_the_lock_need_no_budget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text('[[package]]\nname = "sqlalchemy"\nversion = "1.0"\n')
    monkeypatch.setattr(budget, "_LOCK", lock)

    assert not budget.is_due([{"for": {**budget.key(), "sqlalchemy": "1.0"}}])


def test_the_versions_of_the_lock_have_a_budget_on_the_machine_type_of_ci() -> None:
    wanted = {"machine": "x86_64", **budget.locked()}
    entries = json.loads(budget.BUDGET.read_text("utf-8"))

    if not any(wanted.items() <= entry["for"].items() for entry in entries):
        missing(f"no budget for {wanted}: make budget ARGS=--write on such a machine")


@WITH_SERVICES
@pytest.mark.parametrize("name", list(WORKLOADS))
@pytest.mark.rotating(1)
def test_a_decode_and_an_upload_take_no_more_instructions_than_budgeted(name: str) -> None:
    if shutil.which("valgrind") is None:
        package_missing("no valgrind: apt-get install valgrind")
    entries = json.loads(budget.BUDGET.read_text("utf-8"))
    if budget.budget_for(entries, name) is None:
        why = f"no budget for {budget.key()}: make budget ARGS=--write, and commit bench/budget.json"
        missing(why) if budget.is_due(entries) else pytest.skip(why)
    [finding] = budget.check([name])

    assert not finding.is_over, str(finding)


@pytest.mark.campaign
def test_metrics_take_less_than_a_hundredth_of_an_upload() -> None:
    plain, decode = (budget.instructions(WORKLOADS[name]) for name in ("upload", "decode"))
    counted = budget.instructions(COUNTED)

    print(f"{plain} and {counted} instructions an upload, {decode} to decode")  # noqa: T201
    assert counted - plain < budget.MOST_FOR_METRICS * (plain + decode)
