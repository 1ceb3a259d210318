"""Writes the dashboards of Grafana: two pages of panels, each of which asks what its series are there for.

Run it with `.venv/bin/python -m scripts.dashboards`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef, VariableRefresh

from worker.series import SERIES

FOLDER = Path(__file__).parents[1] / "deploy/grafana"
COMMAND = ".venv/bin/python -m scripts.dashboards"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_QUESTIONS = {series.name: series.question for series in SERIES}
_RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Graph:
    """One panel: its queries by what their lines are called, and the unit as Grafana names it."""

    title: str
    unit: str
    queries: Mapping[str, str]
    stacked: bool = False
    most: float | None = None

    @property
    def question(self) -> str:
        """What its series are there for."""
        names = re.findall(r"\bmedia_\w+", " ".join(self.queries.values()))
        bare = dict.fromkeys(re.sub(r"_(bucket|sum|count)$", "", name) for name in names)
        return " ".join(_QUESTIONS[name] for name in bare)


def _rate(name: str, by: str = "", **labels: str) -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({_of(name, **labels)}{_RATE}))"


def _quantiles(name: str) -> Mapping[str, str]:
    return {
        f"p{percent}": f"histogram_quantile(0.{percent}, {_rate(f'{name}_bucket', 'le')})"
        for percent in (50, 95, 99)
    }


def _p99(name: str, by: str) -> Mapping[str, str]:
    return {f"{{{{{by}}}}}": f"histogram_quantile(0.99, {_rate(f'{name}_bucket', f'{by}, le')})"}


def _of(name: str, **labels: str) -> str:
    """A selector of the job that the page shows."""
    matchers = {"job": "$job", **labels}
    return name + "{" + ", ".join(f'{label}=~"{value}"' for label, value in matchers.items()) + "}"


def _told(name: str, by: str = "") -> str:
    """What every worker tells alike."""
    return f"max{f' by ({by})' if by else ''} ({_of(name)})"


WORKER: Mapping[str, Sequence[Graph]] = {
    "Work": (
        Graph("Uploads", "ops", {"{{outcome}}": _rate("media_uploads_total", "outcome")}, stacked=True),
        Graph(
            "Failures",
            "ops",
            {"{{code}} ({{blame}})": _rate("media_upload_failures_total", "code, blame")},
            stacked=True,
        ),
        Graph(
            "Failures through us",
            "percentunit",
            {
                "of all tries": f"{_rate('media_upload_failures_total', blame='us')} / "
                f"{_rate('media_uploads_total', outcome='ready|failed|queued|deleted|fenced|unrecorded')}"
            },
        ),
        Graph("What a user waits", "s", _quantiles("media_upload_age_seconds")),
        Graph("What an upload takes", "s", _quantiles("media_upload_duration_seconds")),
        Graph(
            "Where the time goes",
            "s",
            {"{{stage}}": _rate("media_stage_duration_seconds_sum", "stage")},
            stacked=True,
        ),
        Graph("Formats", "ops", {"{{format}}": _rate("media_pictures_total", "format")}, stacked=True),
        Graph("Pixels decoded", "none", {"a second": _rate("media_picture_pixels_total")}),
        Graph("Work saved", "ops", {"{{kind}}": _rate("media_reuse_total", "kind")}),
    ),
    "Decoders": (
        Graph(
            "Decoders",
            "none",
            {
                "at work": f"sum ({_of('media_decoders_busy')})",
                "there are": f"sum ({_of('media_decoders')})",
                "pictures that wait for memory": f"sum ({_of('media_admission_waiting')})",
            },
        ),
        Graph("Decoders started", "ops", {"{{engine}}": _rate("media_decoder_starts_total", "engine")}),
        Graph("Decoders ended early", "ops", {"{{reason}}": _rate("media_decoder_kills_total", "reason")}),
        Graph(
            "CPU",
            "none",
            {
                "decoders": _rate("media_decoder_cpu_seconds_total"),
                "workers": _rate("media_worker_cpu_seconds_total"),
            },
            stacked=True,
        ),
        Graph(
            "Memory",
            "percentunit",
            {
                "{{instance}}": f"sum by (instance) ({_of('media_memory_bytes')}) "
                f"/ on (instance) {_of('media_memory_budget_bytes')}"
            },
            most=1,
        ),
        Graph(
            "Memory by part",
            "bytes",
            {"{{part}}": f"sum by (part) ({_of('media_memory_bytes')})"},
            stacked=True,
        ),
    ),
    "The process": (
        Graph("Health", "none", {"{{check}}": f"min by (check) ({_of('media_health')})"}, most=1),
        Graph("Degraded", "none", {"{{sign}}": f"max by (sign) ({_of('media_degraded')})"}, most=1),
        Graph("Event loop, late by", "s", _quantiles("media_event_loop_lag_seconds")),
        Graph("Catalog, p99", "s", _p99("media_catalog_duration_seconds", "operation")),
        Graph("Slow statements", "ops", {"a second": _rate("media_slow_statements_total")}),
        Graph("Storage, p99", "s", _p99("media_storage_duration_seconds", "operation")),
        Graph("Storage errors", "ops", {"{{operation}}": _rate("media_storage_errors_total", "operation")}),
        Graph("Versions", "none", {"{{version}}": f"count by (version) ({_of('media_build_info')})"}),
    ),
}

QUEUE: Mapping[str, Sequence[Graph]] = {
    "Queue": (
        Graph("Events that wait", "none", {"events": _told("media_queue_events")}),
        Graph("The oldest event waits for", "s", {"oldest": _told("media_queue_oldest_age_seconds")}),
        Graph("Jobs", "none", {"{{state}}": f"sum by (state) ({_of('media_queue_jobs')})"}, stacked=True),
        Graph("Workers", "none", {"{{state}}": _told("media_workers", "state")}, stacked=True),
        Graph("Events taken", "ops", {"{{result}}": _rate("media_events_total", "result")}),
        Graph("Messages sent", "ops", {"{{type}}": _rate("media_messages_total", "type")}),
        Graph("Webhooks", "ops", {"{{outcome}}": _rate("media_webhook_deliveries_total", "outcome")}),
        Graph(
            "The oldest webhook waits for",
            "s",
            {"{{endpoint}}": _told("media_webhook_oldest_age_seconds", "endpoint")},
        ),
        Graph("What webhooks take", "s", _quantiles("media_webhook_duration_seconds")),
        Graph("What the safety nets caught", "ops", {"{{kind}}": _rate("media_recoveries_total", "kind")}),
    ),
    "Storage": (
        Graph("Uploads by state", "none", {"{{state}}": _told("media_stored_uploads", "state")}),
        Graph("Bytes by kind", "bytes", {"{{kind}}": _told("media_stored_bytes", "kind")}, stacked=True),
        Graph(
            "Growth of a day",
            "bytes",
            {"{{kind}}": f"max by (kind) (deriv({_of('media_stored_bytes')}[6h])) * 86400"},
        ),
        Graph("Read and written", "Bps", {"{{direction}}": _rate("media_bytes_total", "direction")}),
        Graph(
            "Storage in use",
            "percentunit",
            {
                "used": f"1 - {_told('media_storage_free_bytes')} / {_told('media_storage_size_bytes')}",
            },
            most=1,
        ),
        Graph("Drift", "none", {"{{kind}}": _told("media_drift_files", "kind")}),
        Graph(
            "Since the last",
            "s",
            {"{{task}}": f"time() - {_told('media_last_success_timestamp_seconds', 'task')}"},
        ),
    ),
}

PAGES = {
    "worker": ("media-worker: workers", WORKER),
    "queue": ("media-worker: queue and storage", QUEUE),
}


def main() -> None:
    """Write every page anew."""
    FOLDER.mkdir(exist_ok=True)
    for name in PAGES:
        file_of(name).write_text(page(name), "utf-8")


def file_of(name: str) -> Path:
    """Where the page of that name is."""
    return FOLDER / f"{name}.json"


def page(name: str) -> str:
    """The page of that name as Grafana imports it."""
    title, rows = PAGES[name]
    built = (
        dashboard.Dashboard(title)
        .uid(f"media-worker-{name}")
        .tags(["media-worker"])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("job")
            .label("Job")
            .datasource(_SOURCE)
            .query("label_values(media_build_info, job)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        )
    )
    for row, graphs in rows.items():
        built = built.with_row(dashboard.Row(row))
        for graph in graphs:
            built = built.with_panel(_panel(graph))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _panel(graph: Graph) -> timeseries.Panel:
    panel = (
        timeseries.Panel()
        .title(graph.title)
        .description(graph.question)
        .unit(graph.unit)
        .datasource(_SOURCE)
        .min(0)
        .span(8)
        .height(8)
        .draw_style(GraphDrawStyle.LINE)
        .fill_opacity(30 if graph.stacked else 0)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if graph.stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if graph.most is not None:
        panel = panel.max(graph.most)
    for legend, query in graph.queries.items():
        panel = panel.with_target(
            prometheus.Dataquery().expr(query).legend_format(legend).datasource(_SOURCE)
        )
    return panel


if __name__ == "__main__":
    main()
