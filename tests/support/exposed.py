"""What a Prometheus reads of an exposition."""

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families


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
