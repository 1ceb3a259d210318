"""The alerts that are deployed: promtool's tests pass, and they ask for what a worker serves."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.exposed import asked_in_vain
from tests.support.prometheus import RULES, program
from worker.metrics import WorkerMetrics

FOLDER = RULES.parent
DOCS = FOLDER.parents[1] / "docs/operations.md"
GROUPS = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
TESTS = yaml.safe_load((FOLDER / "rules_test.yml").read_text("utf-8"))["tests"]


@pytest.mark.parametrize("command", [["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]])
def test_promtool_finds_nothing_wrong_with_the_rules(command: list[str]) -> None:
    done = subprocess.run(
        [program("promtool"), *command], cwd=FOLDER, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_only_for_series_and_labels_that_a_worker_has(name: str) -> None:
    assert asked_in_vain(ALERTS[name]["expr"], WorkerMetrics().exposition()) == []


def test_every_alert_is_tried_where_it_fires_and_where_it_does_not() -> None:
    fires, silent = set(), set()
    for test in TESTS:
        jobs = {
            job for series in test["input_series"] for job in re.findall(r'job="(.*?)"', series["series"])
        }
        for case in test["alert_rule_test"]:
            alerting = {alert["exp_labels"].get("job") for alert in case["exp_alerts"]}
            fires |= {case["alertname"]} if alerting else set()
            silent |= {case["alertname"]} if jobs - alerting else set()

    assert fires == silent == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_says_what_to_do_and_how_bad_it_is(name: str) -> None:
    alert, page = ALERTS[name], DOCS.read_text("utf-8")
    page_of_it, anchor = alert["annotations"]["runbook_url"].split("#")

    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert Path(page_of_it) == DOCS.relative_to(FOLDER.parents[1])
    assert f"## {anchor.capitalize()}" in page
    assert f"`{name}`" in page.partition(f"## {anchor.capitalize()}")[2]
