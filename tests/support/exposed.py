"""What a Prometheus reads of an exposition."""

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.promql import grouped, selected
from worker.series import SERIES

_SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}


def families(exposition: bytes) -> dict[str, Metric]:
    """All metrics by name: that of a counter is without `_total`, as the parser has it."""
    return {family.name: family for family in text_string_to_metric_families(exposition.decode())}


def value(exposition: bytes, name: str, **labels: str) -> float | None:
    """The number of one series, None where there is none."""
    found = [
        sample.value
        for family in families(exposition).values()
        for sample in family.samples
        if (sample.name, sample.labels) == (name, labels)
    ]
    return found[0] if found else None


def values(exposition: bytes, name: str) -> dict[str, float]:
    """The numbers of a metric with one label, by its value."""
    return {
        next(iter(sample.labels.values())): sample.value
        for family in families(exposition).values()
        for sample in family.samples
        if sample.name == name
    }


def asked_in_vain(query: str, exposition: bytes) -> list[str]:
    """What a query asks for and a worker does not serve: names, labels, and values of labels."""
    known = families(exposition)
    served: dict[str, dict[str, set[str]]] = {}
    for family in known.values():
        for suffix in _SUFFIXES[family.type]:
            labels = served.setdefault(f"{family.name}{suffix}", {"job": set(), "instance": set()})
            labels |= {"le": set()} if suffix == "_bucket" else {}
        for sample in family.samples:
            for label, worth in sample.labels.items():
                served[sample.name].setdefault(label, set()).add(worth)
    served["up"] = {"job": set(), "instance": set()}  # Prometheus' own
    for series in SERIES:  # what nobody knows yet is not exposed
        for label, worths in series.labels.items():
            if series.type == "gauge":
                served[series.name][label] = set(worths)
    vain = [name for name in selected(query) if name not in served]
    for name, matchers in selected(query).items():
        for label, asked in matchers.items():
            there = served.get(name, {}).get(label)
            vain += [f"{name}{{{label}}}"] if there is None else sorted(asked - there if there else ())
    labels_of_all = {label for name in selected(query) for label in served.get(name, ())}
    return vain + sorted(grouped(query) - labels_of_all)
