"""A real Prometheus, which scrapes workers of the tests and evaluates the alerts that are deployed."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from scripts.processes import free_port, launch, stop, tail
from tests.support.clients import package_missing
from tests.support.workplace import eventually

RULES = Path(__file__).parents[2] / "deploy/prometheus/rules.yml"
_CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: tests
    file_sd_configs: [{{files: [{targets}]}}]
"""


def program(name: str, package: str = "prometheus") -> str:
    """Where a program of that Debian package is; skips where it is absent and nobody could install it."""
    found = shutil.which(name)
    return found or package_missing(f"no {name}: apt-get install {package}")


class PrometheusServer:
    """One that runs, and whom it scrapes."""

    def __init__(self, port: int, targets: Path) -> None:
        self._port = port
        self._targets = targets
        self.scrape({})

    def scrape(self, ports: Mapping[str, int]) -> None:
        """Scrape from now on the workers behind these ports, each as the job of that name."""
        groups = [{"targets": [f"127.0.0.1:{port}"], "labels": {"job": job}} for job, port in ports.items()]
        written = self._targets.with_suffix(".new")
        written.write_text(json.dumps(groups))
        written.replace(self._targets)

    def query(self, expression: str) -> Sequence[Any]:
        """The series that it evaluates to now, each with its labels and its value."""
        found: Sequence[Any] = self._ask("query", query=expression)["result"]
        return found

    def names(self, job: str) -> set[str]:
        """The names of all series that it has of that job."""
        return set(self._ask("label/__name__/values", **{"match[]": f'{{job="{job}"}}'}))

    def rules(self) -> Sequence[Any]:
        """Every rule with its health and its state."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[tuple[str, str]]:
        """The alerts that fire, each with its job, if it has one."""
        alerts = self._ask("alerts")["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("job", ""))
            for alert in alerts
            if alert["state"] == "firing"
        }

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=1):
                return True
        except (URLError, OSError):
            return False

    def _ask(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{what}?{urlencode(parameters)}"
        with urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


@contextmanager
def prometheus(folder: Path) -> Iterator[PrometheusServer]:
    """A server with the alerts of `deploy/`, which fire at once: how long they wait, promtool tests."""
    executable = program("prometheus")
    targets, config, log = folder / "targets.json", folder / "prometheus.yml", folder / "log"
    (folder / "rules.yml").write_text(re.sub(r"\bfor: \w+", "for: 0s", RULES.read_text("utf-8")))
    config.write_text(_CONFIG.format(targets=targets))
    port = free_port()
    server = PrometheusServer(port, targets)
    options = {
        "config.file": config,
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    with log.open("wb") as output:
        process = launch([executable, *(f"--{name}={value}" for name, value in options.items())], output)
    try:
        eventually(lambda: process.poll() is not None or server.is_ready())
        assert process.poll() is None, tail(log)
        yield server
    finally:
        stop(process)
