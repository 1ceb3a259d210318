"""The dashboards: as the code makes them, and every panel asks for what a worker serves, and says why."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.dashboards import COMMAND, PAGES, Graph, file_of, page
from tests.support.deployment import SNIPPETS
from tests.support.exposed import asked_in_vain
from tests.support.promql import selected
from tests.support.spare_host import SpareHost
from worker.metrics import WorkerMetrics
from worker.series import SERIES

GRAPHS = {
    f"{name}: {graph.title}": graph
    for name, (_, rows) in PAGES.items()
    for graphs in rows.values()
    for graph in graphs
}
QUERIES = [query for graph in GRAPHS.values() for query in graph.queries.values()]


def panels(name: str) -> Iterator[dict[str, Any]]:
    """The panels of a page that is committed, without its rows."""
    committed = json.loads(file_of(name).read_text("utf-8"))
    return (panel for panel in committed["panels"] if panel["type"] != "row")


@pytest.mark.parametrize("name", PAGES)
def test_a_dashboard_is_up_to_date(name: str) -> None:
    committed = file_of(name).read_text("utf-8")

    assert committed == page(name), f"it is out of date; update it with `{COMMAND}`"


@pytest.mark.parametrize("name", PAGES)
def test_every_panel_has_a_title_a_unit_a_question_and_the_data_source_of_the_page(name: str) -> None:
    for panel in panels(name):
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert "?" in panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("title", GRAPHS)
def test_a_panel_asks_only_for_series_and_labels_that_a_worker_has(title: str) -> None:
    graph: Graph = GRAPHS[title]
    for legend, query in graph.queries.items():
        assert asked_in_vain(query, WorkerMetrics().exposition()) == []
        for label in re.findall(r"{{(\w+)}}", legend):
            assert re.search(rf"(by|on) \([^)]*\b{label}\b", query), query


@pytest.mark.parametrize("title", GRAPHS)
def test_every_series_of_a_panel_is_of_the_job_that_was_chosen(title: str) -> None:
    for query in GRAPHS[title].queries.values():
        selectors = re.findall(r"\b(?:media|process)_\w+(\{.*?\})?", query)
        assert all('job=~"$job"' in selector for selector in selectors), query
        assert "[$__rate_interval]" in query or "rate(" not in query


def test_grafana_finds_all_pages_where_the_page_of_deployment_has_them_installed(tmp_path: Path) -> None:
    host = SpareHost(tmp_path, places=("/etc", "/var/lib"))
    done = host.run(SNIPPETS["grafana"])
    assert done.returncode == 0, done.stderr
    told = host.changed("/etc/grafana/provisioning/dashboards/media-worker.yml").read_text("utf-8")
    [provider] = yaml.safe_load(told)["providers"]
    folder = host.changed(provider["options"]["path"])

    assert provider["type"] == "file"
    assert {file.stem: file.read_text("utf-8") for file in folder.iterdir()} == {
        name: file_of(name).read_text("utf-8") for name in PAGES
    }


def test_every_series_is_in_a_panel() -> None:
    asked = {re.sub(r"_(bucket|sum|count)$", "", name) for query in QUERIES for name in selected(query)}

    assert asked == {series.name for series in SERIES}
