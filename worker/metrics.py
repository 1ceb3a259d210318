"""The metrics of a worker for Prometheus: what happened is counted here, and shown as `/metrics` shows it."""

import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate
from math import inf
from typing import Protocol

import structlog
from prometheus_client import Counter, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from pipelines.formats import Engine
from pipelines.metrics import End, EndedTry, Metrics, Recovery, Reuse, Station
from storage.catalog.webhooks import DEFAULT
from storage.watch import CatalogOperation, StorageOperation
from worker.retry import blame_of
from worker.series import OTHER, SERIES, WORKER_CPU, Series
from worker.stores import Watches

log = structlog.get_logger(__name__)

_SHOWN = 200  # characters of a slow statement

Labels = tuple[str, ...]


class WorkerMetrics(Metrics):
    """The counts of one process, through all restarts of the worker in it.

    `exposition` is called by another thread than the event loop's, which may be blocked: it asks nobody, and
    reads what is in memory.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, endpoints: Sequence[str] = (DEFAULT,)
    ) -> None:
        """`endpoints` are the names of those of webhooks."""
        self._clock = clock
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        self._families = {series.name: _family(series.of_endpoints(endpoints), clock) for series in SERIES}
        self._registry.register(_Table(list(self._families.values())))
        ProcessCollector(registry=self._registry)
        self._uploads = self._counts("media_uploads_total")
        self._failures = self._counts("media_upload_failures_total")
        self._stages = self._times("media_stage_duration_seconds")
        self._duration = self._time("media_upload_duration_seconds")
        self._age = self._time("media_upload_age_seconds")
        self._lag = self._time("media_event_loop_lag_seconds")
        self._events = self._counts("media_events_total")
        self._messages = self._counts("media_messages_total")
        self._starts = self._counts("media_decoder_starts_total")
        self._kills = self._counts("media_decoder_kills_total")
        self._cpu = self._count("media_decoder_cpu_seconds_total")
        self._pictures = self._counts("media_pictures_total")
        self._pixels = self._count("media_picture_pixels_total")
        self._bytes = self._counts("media_bytes_total")
        self._reuse = self._counts("media_reuse_total")
        self._recoveries = self._counts("media_recoveries_total")
        self._webhooks = self._counts("media_webhook_deliveries_total")
        self._webhook_duration = self._times("media_webhook_duration_seconds")

    def exposition(self) -> bytes:
        """All series in Prometheus' text format."""
        return generate_latest(self._registry)

    def show(self, name: str, values: Mapping[str, float] | float | None, *, for_s: float = inf) -> None:
        """Have a gauge say that from now on: a number, one for each value of its label, or nothing (None).

        After `for_s` seconds it says nothing, unless somebody has found out anew by then.
        """
        gauge = self._families[name]
        assert isinstance(gauge, _Gauge)
        if isinstance(values, Mapping):
            gauge.values = {(label,): value for label, value in values.items() if (label,) in gauge.children}
        else:
            gauge.values = {} if values is None else {(): values}
        gauge.until = self._clock() + for_s

    def add(self, name: str, values: Mapping[str, float]) -> None:
        """Have a gauge say that, too; what it said before of other values of its label stays."""
        gauge = self._families[name]
        assert isinstance(gauge, _Gauge)
        self.show(name, {label: value for (label,), value in gauge.values.items()} | dict(values))

    def show_live(self, name: str, read: Callable[[], float]) -> None:
        """Have a gauge say what `read` finds in memory whenever somebody asks."""
        gauge = self._families[name]
        assert isinstance(gauge, _Gauge)
        gauge.read = read

    def loop_lagged(self, seconds: float) -> None:
        """The event loop was so much later than it was to be."""
        self._lag.observe(seconds)

    def watches(self, slow_ms: int) -> Watches:
        """Who counts how long catalog and storage take, and logs statements that take more than `slow_ms`."""
        slow = self._count("media_slow_statements_total")
        durations = self._times("media_storage_duration_seconds")
        return Watches(
            _CatalogTimes(self._times("media_catalog_duration_seconds"), slow, slow_ms / 1000 or inf),
            _StorageTimes(durations, self._counts("media_storage_errors_total")),
        )

    # -- what happened

    def upload_tried(self, ended: EndedTry) -> None:
        _of(self._uploads, ended.outcome).inc()
        if ended.code is not None:
            self._failures.get((ended.code, blame_of(ended.code)), self._failures[OTHER, "us"]).inc()
        if ended.outcome == "ready":
            self._duration.observe(ended.seconds)
            self._age.observe(ended.age_s)

    def stages_finished(self, ms: Mapping[str, float]) -> None:
        for stage, value in ms.items():
            if (stage,) in self._stages:  # `upload` is all of them together
                self._stages[(stage,)].observe(value / 1000)

    def stage_finished(self, stage: Station, seconds: float) -> None:
        self._stages[(stage,)].observe(seconds)

    def picture_made(self, picture_format: str, pixels: int, read: int, written: int) -> None:
        _of(self._pictures, picture_format).inc()
        self._pixels.inc(pixels)
        self._bytes[("read",)].inc(read)
        self._bytes[("written",)].inc(written)

    def reused(self, kind: Reuse) -> None:
        self._reuse[(kind,)].inc()

    def decoder_started(self, engine: Engine) -> None:
        self._starts[(engine,)].inc()

    def decoder_ended(self, reason: End) -> None:
        self._kills[(reason,)].inc()

    def decoders_used(self, cpu_s: float) -> None:
        """Decoders took so many more seconds of CPU."""
        self._cpu.inc(cpu_s)

    def events_taken(self, accepted: int, refused: Sequence[str]) -> None:
        self._events[("accepted",)].inc(accepted)
        for code in refused:
            _of(self._events, code).inc()

    def messages_sent(self, types: Sequence[str]) -> None:
        for each in types:
            _of(self._messages, each).inc()

    def webhook_tried(self, endpoint: str, outcome: str, seconds: float) -> None:
        self._webhooks.get((endpoint, outcome), self._webhooks[endpoint, OTHER]).inc()
        self._webhook_duration[(endpoint,)].observe(seconds)

    def webhooks_given_up(self, endpoint: str, count: int) -> None:
        self._webhooks[endpoint, "given_up"].inc(count)

    def recovered(self, kind: Recovery, count: int = 1) -> None:
        self._recoveries[(kind,)].inc(count)

    # -- children, made once: `labels()` costs more than counting

    def _counts(self, name: str) -> dict[Labels, Counter]:
        family = self._families[name]
        assert isinstance(family, _Counted)
        return family.counters

    def _count(self, name: str) -> Counter:
        return self._counts(name)[()]

    def _times(self, name: str) -> Mapping[Labels, "_Histogram"]:
        family = self._families[name]
        assert isinstance(family, _Timed)
        return family.histograms

    def _time(self, name: str) -> "_Histogram":
        return self._times(name)[()]


class _CatalogTimes:
    def __init__(self, times: Mapping[Labels, "_Histogram"], slow: Counter, slow_s: float) -> None:
        self.slow_s = slow_s
        self._times = times
        self._slow = slow

    def took(self, operation: CatalogOperation, seconds: float) -> None:
        self._times[(operation,)].observe(seconds)

    def was_slow(self, statement: str, seconds: float) -> None:
        self._slow.inc()
        log.warning("slow_statement", ms=round(seconds * 1000), statement=statement[:_SHOWN])


class _StorageTimes:
    def __init__(self, times: Mapping[Labels, "_Histogram"], errors: Mapping[Labels, Counter]) -> None:
        self._times = times
        self._errors = errors

    def took(self, operation: StorageOperation, seconds: float) -> None:
        self._times[(operation,)].observe(seconds)

    def failed(self, operation: StorageOperation) -> None:
        self._errors[(operation,)].inc()


def _of(counters: Mapping[Labels, Counter], value: str) -> Counter:
    """The counter of that value, or that of all values which nobody foresaw."""
    return counters.get((value,)) or counters[(OTHER,)]


class _Family(Protocol):
    def collect(self) -> Iterator[Metric]: ...


class _Table:
    """All families, in the order of the table."""

    def __init__(self, families: Sequence[_Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield from family.collect()


class _Counted:
    def __init__(self, series: Series) -> None:
        self._metric = Counter(series.name, series.question, list(series.labels), registry=None)
        self.counters = _children(self._metric, series)

    def collect(self) -> Iterator[Metric]:
        yield from self._metric.collect()


class _Timed:
    def __init__(self, series: Series) -> None:
        self._series = series
        self.histograms = {values: _Histogram(series.buckets) for values in series.children}

    def collect(self) -> Iterator[Metric]:
        series = self._series
        family = HistogramMetricFamily(series.name, series.question, labels=list(series.labels))
        for values, histogram in self.histograms.items():
            family.add_metric(values, histogram.buckets(), histogram.sum)
        yield family


class _Histogram:
    """Counts of values by size, without the lock of the library's: one thread alone counts.

    An upload is counted some twenty times, so it matters what that costs.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = [*map(float, bounds), inf]
        self._counts = [0] * len(self._bounds)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> Sequence[tuple[str, float]]:
        """How many values were no larger than each bound."""
        names = map(floatToGoString, self._bounds)
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class _Gauge:
    """Numbers that somebody found out, or that are read when asked; none as long as nobody knows."""

    def __init__(self, series: Series, clock: Callable[[], float]) -> None:
        self._series = series
        self._clock = clock
        self.until = inf
        self.children = frozenset(series.children)
        self.values: Mapping[Labels, float] = {}
        self.read: Callable[[], float] | None = None

    def collect(self) -> Iterator[Metric]:
        known = self.values if self._clock() < self.until else {}
        values = known if self.read is None else {(): self.read()}
        family = GaugeMetricFamily(self._series.name, self._series.question, labels=list(self._series.labels))
        for labels, value in values.items():
            family.add_metric(labels, value)
        yield family


class _BuildInfo:
    def __init__(self, series: Series) -> None:
        self._series = series
        self._value = {
            "version": version("media-worker"),
            "libvips": version("pyvips-binary"),
            "python": ".".join(map(str, sys.version_info[:3])),
        }

    def collect(self) -> Iterator[Metric]:
        name = self._series.name.removesuffix("_info")
        yield InfoMetricFamily(name, self._series.question, value=self._value)


class _CpuTime:
    """The CPU time of this process without its children, asked of the kernel by whoever asks."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._series.name, self._series.question, value=time.process_time())


def _family(series: Series, clock: Callable[[], float]) -> _Counted | _Timed | _Gauge | _BuildInfo | _CpuTime:
    match series.type:
        case "counter" if series.name == WORKER_CPU:
            return _CpuTime(series)
        case "counter":
            return _Counted(series)
        case "histogram":
            return _Timed(series)
        case "gauge":
            return _Gauge(series, clock)
        case "info":
            return _BuildInfo(series)


def _children(metric: Counter, series: Series) -> dict[Labels, Counter]:
    return {values: metric.labels(*values) if values else metric for values in series.children}
