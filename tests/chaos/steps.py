"""The steps of the way of an upload, as attributes that can be wrapped: where a worker can be made to die."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from arq.worker import Worker

from pipelines.sandbox import Sandbox
from pipelines.sandbox.child import Child
from storage.blobs.bucket import Bucket
from storage.blobs.local import LocalBlobs
from storage.blobs.s3 import S3Blobs
from storage.blobs.staging import Staging
from storage.catalog.claims import Claims
from storage.catalog.database import Database
from storage.catalog.intake import EventStore
from storage.catalog.kv import Checkpoint
from storage.catalog.outbox import Outbox
from storage.catalog.parking import Parking
from storage.catalog.requeuer import Requeuer
from storage.catalog.sweeps import Sweeps
from worker import tasks
from worker.adoption import Adoption
from worker.queue.jobs import Jobs
from worker.queue.messages import Messages
from worker.queue.stream import EventStream

When = Literal["before", "commit", "after"]
"""Before a step begins, before the transaction in it is committed, after it has ended."""


@dataclass(frozen=True)
class Step:
    """One step: whose attribute it is, and at which of its moments it is worth dying."""

    owner: Any
    attribute: str
    whens: Sequence[When] = ("before", "after")
    only_with_result: bool = False  # what comes back empty was no step


_DURABLE: Sequence[When] = ("before", "commit", "after")
_AFTER: Sequence[When] = ("after",)

INTAKE: Mapping[str, Step] = {
    "read": Step(EventStream, "read", _AFTER, only_with_result=True),
    "take": Step(EventStore, "take", _DURABLE),
    "enqueue": Step(Jobs, "enqueue"),
    "acknowledge": Step(EventStream, "acknowledge"),
}
DISPATCH: Mapping[str, Step] = {
    "dispatch": Step(Parking, "take", _DURABLE),
}
JOB: Mapping[str, Step] = {
    "begin": Step(Jobs, "begin", only_with_result=True),
    "job": Step(tasks, "process_batch", ("before",)),
    "claim": Step(Claims, "claim", _DURABLE),
}
DECODE: Mapping[str, Step] = {
    "ask": Step(Child, "send"),
    "answer": Step(Child, "receive"),
    "render": Step(Sandbox, "render", _AFTER),
}
RENDER: Mapping[str, Step] = {
    "source": Step(LocalBlobs, "open"),
    "stage": Step(Staging, "make", _AFTER),
    **DECODE,
}
# Calls of the operating system by the storage: dying after one is dying before the next.
DISK: Mapping[str, Step] = {
    "store": Step(LocalBlobs, "store"),
    "os.mkdir": Step("os", "mkdir", _AFTER),
    "os.fsync": Step("os", "fsync", _AFTER),
    "os.rename": Step("os", "rename", _AFTER),
}
BUCKET: Mapping[str, Step] = {
    "bucket.open": Step(S3Blobs, "open"),
    "bucket.store": Step(S3Blobs, "store"),
    "bucket.put": Step(Bucket, "put"),
    "bucket.delete": Step(Bucket, "delete"),
}
OUTCOME: Mapping[str, Step] = {
    "commit": Step(Claims, "commit", _DURABLE),
    "send": Step(Messages, "send"),
    "mark_sent": Step(Outbox, "mark_sent", _DURABLE),
    "finish": Step(Worker, "finish_job"),
}
DELETE: Mapping[str, Step] = {
    "delete": Step(LocalBlobs, "delete"),
    "os.unlink": Step("os", "unlink", _AFTER),
    "move": Step(LocalBlobs, "move"),
}
ADOPT: Mapping[str, Step] = {
    "page": Step(Adoption, "page"),
    "progress": Step(Checkpoint, "save", _DURABLE),
}
REBUILD: Mapping[str, Step] = {
    "rebind": Step(LocalBlobs, "rebind"),
    "bound": Step(Database, "mark_bound", _DURABLE),
}

SWEEP: Mapping[str, Step] = {
    "lease": Step(Sweeps, "lease", _DURABLE),
    "progress": Step(Checkpoint, "save", _DURABLE),
    "clear": Step(Checkpoint, "clear", _DURABLE),
    "remember": Step(Sweeps, "remember", _DURABLE),
    "mark_for_deletion": Step(Sweeps, "mark_for_deletion", _DURABLE),
    "clear_marks": Step(Sweeps, "clear_marks", _DURABLE),
}

UPLOAD = {**INTAKE, **JOB, **RENDER, **DISK, **OUTCOME}
UPLOAD_ON_S3 = {
    **INTAKE,
    **JOB,
    **DECODE,
    **BUCKET,
    **OUTCOME,
}
DELETION = {**INTAKE, **JOB, **DELETE, "os.fsync": DISK["os.fsync"], **OUTCOME}
PARKED_UPLOAD = {**UPLOAD, **DISPATCH}
ADOPTION = {**ADOPT, "take": INTAKE["take"], "enqueue": INTAKE["enqueue"]}
REBUILDING = {**REBUILD, **ADOPTION, "os.fsync": DISK["os.fsync"]}
TIDY: Mapping[str, Step] = {
    "mark_superseded": Step(Sweeps, "mark_superseded", _DURABLE),
    "drop_superseded": Step(Sweeps, "drop_superseded", _DURABLE),
    "requeue": Step(Requeuer, "requeue", _DURABLE),
    "os.link": Step("os", "link", _AFTER),
}

SWEEPING = {**SWEEP, "move": DELETE["move"], "os.rename": DISK["os.rename"]}
KILLED_SWEEP = {**SWEEP, **TIDY, **DELETE, "put": Step(LocalBlobs, "put"), **DISK}
EVERY = {**PARKED_UPLOAD, **DELETE, **ADOPT, **REBUILD, **KILLED_SWEEP, **BUCKET}
