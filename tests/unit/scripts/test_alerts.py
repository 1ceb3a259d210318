"""The alerts that are deployed: promtool's tests pass, and they ask for what a worker serves."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.dashboards import PAGES
from tests.support.clients import WITH_SERVICES
from tests.support.exposed import asked_in_vain, families
from tests.support.prometheus import RULES, program
from tests.support.spare_host import SpareHost
from worker.metrics import WorkerMetrics

FOLDER = RULES.parent
DOCS = FOLDER.parents[1] / "docs/operations.md"
GROUPS = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
GRAPHS = [graph for _, rows in PAGES.values() for graphs in rows.values() for graph in graphs]
SERVE = "from worker.metrics import WorkerMetrics; print(WorkerMetrics().exposition().decode())"
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


@WITH_SERVICES
def test_alerts_and_panels_need_nothing_that_the_unit_of_systemd_hides_from_a_worker(tmp_path: Path) -> None:
    host = SpareHost(tmp_path, places=())
    host.mounts.append("mount -t proc -o subset=pid proc /proc; test ! -e /proc/stat")  # ProcSubset=pid
    if host.run("true").returncode:
        pytest.skip("no /proc of processes alone can be mounted here")
    served = host.run(f"{sys.executable} -c {shlex.quote(SERVE)}").stdout.encode()
    queries = [alert["expr"] for alert in ALERTS.values()]
    queries += [query for graph in GRAPHS for query in graph.queries.values()]

    assert {name for name in families(served) if name.startswith("process_")} == set()
    assert [lack for query in queries for lack in asked_in_vain(query, served)] == []


@pytest.mark.parametrize(("severity", "receiver"), [("critical", "night"), ("warning", "morning")])
def test_the_example_of_alertmanager_calls_at_night_for_what_is_critical_alone(
    severity: str, receiver: str
) -> None:
    amtool, example = (
        program("amtool", "prometheus-alertmanager"),
        f"{FOLDER.parent}/alertmanager/example.yml",
    )
    routing = [amtool, "config", "routes", "test", f"--config.file={example}", f"severity={severity}"]
    checked = subprocess.run([amtool, "check-config", example], capture_output=True, text=True)
    routed = subprocess.run(routing, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert routed.stdout.strip() == receiver


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
