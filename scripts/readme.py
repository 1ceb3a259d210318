"""Writes what the documentation takes from the code: settings, formats, metrics, schemas, and the API.

Run it with `.venv/bin/python -m scripts.readme`.
"""

import json
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic.fields import FieldInfo

from pipelines.formats import FORMATS, Format
from pipelines.stats import report
from worker.decoders import allowance
from worker.events import event_schema
from worker.http.app import description
from worker.limits import available_cpus
from worker.series import SERIES, Series
from worker.settings import Settings, variable
from worker.variables import written

README = Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
REDIS = DOCS / "redis.md"
METRICS = DOCS / "metrics.md"
DEPLOY = README.parent / "deploy"
USERS = DEPLOY / "redis/users.acl"
ALERTS = DEPLOY / "prometheus/rules.yml"
ALERTS_OF_KUBERNETES = DEPLOY / "kubernetes/components/monitoring/rules.yaml"
API = DOCS / "openapi.json"
SCHEMAS = {"event": event_schema, "stats": report.json_schema}
COMMAND = ".venv/bin/python -m scripts.readme"
_CPUS = "CPUs of the cgroup or affinity mask"
_CONFINEMENT = "`require` where the kernel has seccomp, else `try`"


def main() -> None:
    """Bring README.md, the docs and the schemas up to date."""
    README.write_text(updated(README.read_text("utf-8")), "utf-8")
    REDIS.write_text(with_users(REDIS.read_text("utf-8")), "utf-8")
    ALERTS_OF_KUBERNETES.write_text(alerts_of_kubernetes(), "utf-8")
    METRICS.write_text(with_metrics(METRICS.read_text("utf-8")), "utf-8")
    for name in SCHEMAS:
        schema_file(name).write_text(schema(name), "utf-8")
    API.write_text(api(), "utf-8")


def schema_file(name: str) -> Path:
    """Where the schema of events or reports is published."""
    return DOCS / f"{name}.schema.json"


def schema(name: str) -> str:
    """What apps may send, or what reports hold, as the text of a JSON Schema."""
    return json.dumps(SCHEMAS[name](), indent=2) + "\n"


def api() -> str:
    """The description of the HTTP API."""
    return json.dumps(description(), indent=1, ensure_ascii=False) + "\n"


def updated(page: str) -> str:
    """`page` with its generated parts made anew. Raises: ValueError when it has no place for one."""
    for name, lines in _parts().items():
        page = with_part(page, name, lines)
    return page


def with_users(page: str) -> str:
    """`page` with the commands that make the users of deploy/redis, but for its administrator."""
    users = [line.removeprefix("user ") for line in USERS.read_text("utf-8").splitlines()]
    commands = [f"ACL SETUSER {user}" for user in users if not user.startswith("default ")]
    return with_part(page, "acl", ["```", *commands, "```"])


def with_metrics(page: str) -> str:
    """`page` with the table of all series."""
    rows = (
        (f"`{series.name}`", series.type, _labels(series), series.of, series.question) for series in SERIES
    )
    return with_part(page, "metrics", _table(("name", "type", "labels", "of", "question"), rows))


def _labels(series: Series) -> str:
    return "; ".join(f"`{name}`: {', '.join(values)}" for name, values in series.labels.items())


def alerts_of_kubernetes() -> str:
    """The alerts of deploy/prometheus as what the Prometheus operator takes."""
    rules = ALERTS.read_text("utf-8")
    head = (
        f"# Written by `{COMMAND}` from deploy/prometheus/rules.yml.\napiVersion: monitoring.coreos.com/v1\n"
    )
    head += "kind: PrometheusRule\nmetadata:\n  name: media-worker\nspec:\n"
    return head + textwrap.indent(rules[rules.index("groups:") :], "  ")


def with_part(page: str, name: str, lines: Sequence[str]) -> str:
    """`page` with `lines` between the marks of that name. Raises: ValueError when it has no such place."""
    opening, closing = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if page.count(opening) != 1 or page.count(closing) != 1:
        raise ValueError(f"The page needs {opening.strip()} and {closing} once each.")
    before, _, rest = page.partition(opening)
    _, _, after = rest.partition(closing)
    return before + opening + "".join(f"{line}\n" for line in lines) + closing + after


def _parts() -> Mapping[str, Sequence[str]]:
    # One CPU, whatever machine this runs on: the page is the same everywhere.
    usual = Settings.model_construct(cpus=1)
    return {"settings": _settings(), "formats": _formats(usual)}


def _settings() -> Sequence[str]:
    fields = Settings.model_fields.items()
    rows = ((f"`{variable(name)}`", _default(field), field.description or "") for name, field in fields)
    return _table(("variable", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    if field.default_factory is available_cpus:
        return _CPUS
    if field.default_factory is not None:
        return _CONFINEMENT
    text = "" if field.default is None else written(field.default)
    return f"`{text}`" if text else ""


def _formats(settings: Settings) -> Sequence[str]:
    budget = allowance(settings).memory_alone
    rows = (
        (known.title, _decoder(known), known.reach(budget, settings.max_pixels), known.note)
        for known in FORMATS
    )
    largest = f"largest at least, one at a time in {settings.memory_mb} MiB"
    return _table(("format", "decoder", largest, "note"), rows)


def _decoder(known: Format) -> str:
    if known.engine == "vips":
        return "libvips"
    return "libvips, Pillow" if known.loaders else "Pillow"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Sequence[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]


if __name__ == "__main__":
    main()
