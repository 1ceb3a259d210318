"""The series of /metrics: the one table of their names, types, labels and the questions that they answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal, get_args

from pipelines.formats import FORMATS, Engine
from pipelines.metrics import End, Recovery, Reuse
from pipelines.stats.report import STATES
from pipelines.sweep.findings import Kind
from storage.catalog.webhooks import DEFAULT
from storage.watch import CatalogOperation, StorageOperation
from worker.retry import CODES, blame_of
from worker.status import CHECKS, LOOP, SIGNS, SWEEP
from worker.webhooks.endpoint import Outcome

OTHER = "other"
"""The value of a label for what its closed set does not have."""
ENDPOINT = "endpoint"  # the label whose values the settings name

OF_UPLOADS = ("upload.started", "upload.ready", "upload.failed", "upload.deleted", "upload.status")
WORKER_CPU = "media_worker_cpu_seconds_total"
STAGES = ("read", "hash", "probe", "decode", "resize", "encode", "publish")
# OpenTelemetry's, for the durations of a client of a database.
_OF_A_DATABASE = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


@dataclass(frozen=True)
class Series:
    """One metric: every series that it can ever have is in `labels`, each value of which is known before.

    `of` says whose the number is: this worker's, to be summed over workers, or the whole installation's,
    which every worker tells alike.
    """

    name: str
    type: Literal["counter", "gauge", "histogram", "info"]
    question: str
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    buckets: Sequence[float] = ()
    of: Literal["worker", "installation"] = "worker"
    pairs: Sequence[tuple[str, ...]] | None = None  # where not every value goes with every other

    @property
    def children(self) -> Iterable[tuple[str, ...]]:
        """The values of the labels, once for each series."""
        return self.pairs if self.pairs is not None else product(*self.labels.values())

    def of_endpoints(self, names: Sequence[str]) -> "Series":
        """The same of these endpoints of webhooks, where it is one of them."""
        return replace(self, labels={**self.labels, ENDPOINT: names}) if ENDPOINT in self.labels else self


_FAILURES = [(code, blame_of(code)) for code in (*sorted(CODES), OTHER)]

SERIES: Sequence[Series] = (
    Series(
        "media_build_info",
        "info",
        "Which version runs where, with which libvips and Python? Its count is the number of workers that "
        "are scraped.",
    ),
    Series(
        "media_health",
        "gauge",
        "What is ill? 1: well, 0: ill. `sweep` is ill while the breaker has stopped the sweep; `loop` while "
        "the event loop is blocked or checks hang, and then nothing is said to be well.",
        {"check": (*CHECKS, SWEEP, LOOP)},
    ),
    Series(
        "media_degraded",
        "gauge",
        "What needs somebody, although the worker works? 1: memory or space over 85 %, the oldest event over "
        "60 s, a sweep that was stopped, a backup that failed, is bad or old, a catalog's log over 64 MiB, "
        "a webhook that has waited for 15 minutes.",
        {"sign": SIGNS},
    ),
    Series(
        "media_event_loop_lag_seconds",
        "histogram",
        "Does something block the event loop?",
        buckets=(0.01, 0.05, 0.1, 0.5, 1, 5),
    ),
    Series(
        "media_events_total",
        "counter",
        "Is an app sending rubbish?",
        {"result": ("accepted", "invalid_event", "unknown_recipe", "internal_error", OTHER)},
    ),
    Series(
        "media_messages_total",
        "counter",
        "Are apps told what became of their uploads?",
        {"type": (*OF_UPLOADS, "sweep.stopped", OTHER)},
    ),
    Series(
        "media_uploads_total",
        "counter",
        "How many tries of uploads end, and how? `queued`: it is tried again; `skipped`: there was nothing "
        "to do; `fenced`: another worker has it by now; `unrecorded`: its rows are damaged.",
        {
            "outcome": (
                "ready",
                "failed",
                "queued",
                "deleting",
                "deleted",
                "skipped",
                "fenced",
                "unrecorded",
                OTHER,
            )
        },
    ),
    Series(
        "media_upload_failures_total",
        "counter",
        "Why do tries fail, also those that are made again? Only `us` may wake anybody.",
        {"code": [code for code, _ in _FAILURES], "blame": ("picture", "us")},
        pairs=_FAILURES,
    ),
    Series(
        "media_upload_duration_seconds",
        "histogram",
        "How long does an upload take that becomes ready, from its claim to its commit?",
        buckets=(0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 60),
    ),
    Series(
        "media_upload_age_seconds",
        "histogram",
        "How long does a user wait, from the event until the upload is ready?",
        buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200),
    ),
    Series(
        "media_stage_duration_seconds",
        "histogram",
        "Where does the time of an upload go?",
        {"stage": ("wait", *STAGES, "commit")},
        buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
    ),
    Series("media_decoders", "gauge", "How many pictures can be decoded at once?"),
    Series("media_decoders_busy", "gauge", "How many are decoded now?"),
    Series("media_admission_waiting", "gauge", "How many pictures wait for memory?"),
    Series(
        "media_decoder_starts_total",
        "counter",
        "Do decoders come and go?",
        {"engine": get_args(Engine)},
    ),
    Series(
        "media_decoder_kills_total",
        "counter",
        "Why did decoders end? Is somebody attacking? `fat`: it kept memory; `noisy`: it spoke unasked; "
        "`restless`: it used the CPU with nothing to do; `renewed`: the next picture was another owner's; "
        "`swapped`: another kind, or a picture that is decoded alone, needed its place; "
        "`bloated`: a picture took more memory than announced; "
        "`killed`: something else did it, mostly the kernel for lack of memory.",
        {"reason": get_args(End)},
    ),
    Series("media_decoder_cpu_seconds_total", "counter", "How much CPU do decoders take?"),
    Series(
        WORKER_CPU,
        "counter",
        "How much CPU does the worker itself take? It has this where `process_cpu_seconds_total` is missing, "
        "for want of `/proc/stat`.",
    ),
    Series(
        "media_memory_bytes",
        "gauge",
        "Where does the memory go?",
        {"part": ("worker", "decoders")},
    ),
    Series("media_memory_budget_bytes", "gauge", "How much memory may all processes take together?"),
    Series(
        "media_pictures_total",
        "counter",
        "Which formats come in?",
        {"format": (*(known.name for known in FORMATS), OTHER)},
    ),
    Series("media_picture_pixels_total", "counter", "How many pixels were decoded: what does one cost?"),
    Series(
        "media_bytes_total",
        "counter",
        "How many bytes of originals are read, and of variants written?",
        {"direction": ("read", "written")},
    ),
    Series(
        "media_reuse_total",
        "counter",
        "How much work is saved? `unchanged`: the file is as it was; `known_content`: its bytes are; "
        "`verdict`: such bytes have killed a decoder before.",
        {"kind": get_args(Reuse)},
    ),
    Series(
        "media_catalog_duration_seconds",
        "histogram",
        "How long do transactions of the catalog take? `lock` is the wait until one begins.",
        {"operation": get_args(CatalogOperation)},
        buckets=_OF_A_DATABASE,
    ),
    Series(
        "media_slow_statements_total",
        "counter",
        "How many statements took longer than `MEDIA_SLOW_MS`? The log has each.",
    ),
    Series(
        "media_storage_duration_seconds",
        "histogram",
        "How long does the storage take?",
        {"operation": get_args(StorageOperation)},
        buckets=_OF_A_DATABASE,
    ),
    Series(
        "media_storage_errors_total",
        "counter",
        "Is the storage failing?",
        {"operation": get_args(StorageOperation)},
    ),
    Series(
        "media_recoveries_total",
        "counter",
        "How often do the safety nets catch something? `requeued`: uploads whose job was gone; `taken_over`: "
        "events of a worker that is gone; `lease_lost`: jobs that another worker took meanwhile; `adopted`: "
        "originals without an event; `resent`: messages that had not gone out.",
        {"kind": get_args(Recovery)},
    ),
    Series(
        "media_webhook_deliveries_total",
        "counter",
        "Does the endpoint of webhooks take messages? `default` is that of `MEDIA_WEBHOOK_URL`; others have "
        "the names that they have in `MEDIA_WEBHOOK_ENDPOINTS`. `refused`: it answered something else than "
        "2xx; `gone`: it wants no more (410); `forbidden`: it is at an address that is not public; "
        "`given_up`: "
        "messages that it has not taken in 3 days, or that were removed from the catalog before.",
        {ENDPOINT: (DEFAULT,), "outcome": (*get_args(Outcome), "given_up", OTHER)},
    ),
    Series(
        "media_webhook_duration_seconds",
        "histogram",
        "How long does the endpoint take to answer?",
        {ENDPOINT: (DEFAULT,)},
        buckets=(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15),
    ),
    Series(
        "media_webhook_oldest_age_seconds",
        "gauge",
        "How long has the oldest message waited that the endpoint has not taken? 0: none waits. There is no "
        "such series without an endpoint.",
        {ENDPOINT: (DEFAULT,)},
        of="installation",
    ),
    Series(
        "media_workers",
        "gauge",
        "How many workers live, by their heartbeats?",
        {"state": ("healthy", "unhealthy")},
        of="installation",
    ),
    Series(
        "media_queue_events",
        "gauge",
        "How many events wait in the stream, and uploads for their owner's turn? From 100,000 of these on it "
        "is at least so many.",
        of="installation",
    ),
    Series(
        "media_queue_oldest_age_seconds",
        "gauge",
        "How long has the oldest of them waited? 0: none waits.",
        of="installation",
    ),
    Series(
        "media_queue_jobs",
        "gauge",
        "How many jobs are taken and not done?",
        {"state": ("waiting", "running", "postponed")},
    ),
    Series(
        "media_stored_uploads",
        "gauge",
        "How many uploads are there, and where do they stand?",
        {"state": STATES},
        of="installation",
    ),
    Series(
        "media_stored_bytes",
        "gauge",
        "What takes the room, and how does it grow? `trash` is as of the last sweep.",
        {"kind": ("originals", "variants", "superseded", "trash")},
        of="installation",
    ),
    Series(
        "media_drift_files",
        "gauge",
        "Does the disk agree with the catalog, as of the last sweep?",
        {"kind": [str(kind) for kind in Kind]},
        of="installation",
    ),
    Series("media_storage_free_bytes", "gauge", "How much room is left?", of="installation"),
    Series("media_storage_size_bytes", "gauge", "Of how much?", of="installation"),
    Series(
        "media_last_success_timestamp_seconds",
        "gauge",
        "When was the nightly work done last? There is no such series before the first time.",
        {"task": ("sweep", "snapshot", "backup", "backup_check")},
        of="installation",
    ),
)
