"""The catalog's records: the rows that leave storage, and the outcomes that enter it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from storage.blobs import BlobInfo, Existence

Metadata = Mapping[str, Any]


class State(StrEnum):
    """Where an upload stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


@dataclass(frozen=True)
class StreamId:
    """The position of an event in its stream; events of one upload apply in this order.

    It is the entry's ID in that `epoch` of the stream: those of a later epoch are newer, wherever they lie.
    """

    ms: int = 0
    n: int = 0
    epoch: int = 0

    def __le__(self, other: "StreamId") -> bool:
        return (self.epoch, self.ms, self.n) <= (other.epoch, other.ms, other.n)


@dataclass(frozen=True)
class UploadRequested:
    """An app has announced this upload; or it is `adopted`: nobody did, but its original is there."""

    position: StreamId
    id: UUID
    source: str
    recipe: str
    metadata: Metadata = field(default_factory=dict)
    adopted: bool = False


@dataclass(frozen=True)
class DeletionRequested:
    """An app has asked to delete this upload, and with `original` its original too."""

    position: StreamId
    id: UUID
    original: bool = False


@dataclass(frozen=True)
class About:
    """Whom a refused event is about, as far as that can be read."""

    id: UUID | None
    source: str | None
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True)
class DeadLetter:
    """Bytes that never became an upload: where they stood in the stream, and why they were refused.

    Who sent them is told so if they say whom they are `about`.
    """

    stream_id: str
    code: str
    message: str
    body: bytes
    time_ms: int = 0
    id: int = 0
    about: About | None = None
    position: StreamId = StreamId()  # the same ID, with its epoch


@dataclass(frozen=True)
class StoredVariant:
    """A variant that exists: its key, its size in pixels and bytes, and the SHA-256 of its bytes."""

    name: str
    key: str
    width: int
    height: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Original:
    """What was read of an original: size in upright pixels; `stamp` changes when the file does."""

    stamp: str
    sha256: str
    bytes: int
    format: str
    width: int
    height: int
    color: str | None = None


@dataclass(frozen=True)
class Upload:
    """One upload as the catalog sees it."""

    id: UUID
    source: str | None
    state: State
    recipe: str
    metadata: Metadata
    attempts: int
    claims: int
    queued_ms: int
    changed_ms: int
    not_before_ms: int
    error_code: str | None
    error_message: str | None
    original: Original | None
    variants: Sequence[StoredVariant]
    seen: str | None = None
    """The `sight` of its original when the upload was put off because of that."""


@dataclass(frozen=True)
class Claim:
    """The right to write the next outcome of an upload, until somebody else claims it."""

    upload: Upload
    number: int
    generation: int
    crash_count: int
    delete_original: bool = False
    began_ms: int = 0
    superseded: Sequence[StoredVariant] = ()
    """Variants of the upload that are not its current ones, and not yet removed."""


@dataclass(frozen=True)
class Ready:
    """All variants are published, of an original that was `seen` so when it was read."""

    claim: Claim
    original: Original
    variants: Sequence[StoredVariant]
    seen: BlobInfo | None = None


@dataclass(frozen=True)
class Failed:
    """The upload cannot be done; a person reads the message."""

    claim: Claim
    code: str
    message: str


@dataclass(frozen=True)
class Postponed:
    """Not now: the same again after `delay_ms`. `counted` when it was the upload's own try that failed.

    With `seen` it may be sooner: as soon as the original is not as it was seen any more.
    """

    claim: Claim
    code: str
    message: str
    delay_ms: int
    counted: bool
    seen: BlobInfo | Existence | None = None


@dataclass(frozen=True)
class Removed:
    """Every blob of the upload that was to go is gone, or `kept` says why its original stays."""

    claim: Claim
    kept: str | None = None


Outcome = Ready | Failed | Postponed | Removed


@dataclass(frozen=True)
class Message:
    """A message of the outbox: what apps are told, in the order of `seq`.

    With `entry` it is about that entry of the stream, which was refused, and not about any upload.
    """

    seq: int
    kind: State
    id: UUID | None
    source: str | None
    recipe: str
    metadata: Metadata
    time_ms: int
    attempts: int = 0
    error_code: str | None = None
    error_message: str | None = None
    original: Original | None = None
    variants: Sequence[StoredVariant] = ()
    original_kept: bool = False
    entry: str | None = None


@dataclass(frozen=True)
class Taken:
    """What an intake batch came to: the uploads of each new job, what was refused, and the messages.

    `outdated` are the entries that came after a newer one of their upload, or once more.
    """

    jobs: Mapping[str, Sequence[UUID]]
    refused: Sequence[DeadLetter]
    messages: Sequence[Message] = ()
    outdated: Sequence[str] = ()


@dataclass(frozen=True)
class Doubt:
    """Nothing was taken: the stream is in another `epoch`, or entries are not newer than its `newest`.

    Either others read the stream too, or it has begun anew.
    """

    epoch: int
    newest: StreamId | None


@dataclass(frozen=True)
class Committed:
    """What became of an outcome: the state now (None: the claim no longer held), and the message of it.

    An upload that waits for work again is due in `due_in_ms`.
    """

    id: UUID
    state: State | None
    attempts: int = 0
    message: Message | None = None
    due_in_ms: int = 0


@dataclass(frozen=True)
class StalledUpload:
    """An upload that is due, and the job that should be working on it."""

    id: UUID
    job_id: str
    not_before_ms: int
