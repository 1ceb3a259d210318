"""The catalog's records: the rows that leave storage, and the outcomes that enter it."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from storage.blobs import BlobInfo, Existence

Metadata = Mapping[str, Any]
ThumbHash = bytes


_LONGEST_WAIT_MS = 30 * 24 * 3600 * 1000  # of an event in the stream, while nobody takes it


class State(StrEnum):
    """Where an upload stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


class OriginalFate(StrEnum):
    """What became of the original of a deleted upload."""

    KEPT = "kept"
    TRASHED = "trashed"
    MISSING = "missing"


WAITING = (State.QUEUED, State.PROCESSING, State.DELETING)
"""The states of uploads that are on a job."""


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
class Domain:
    """What an app may speak of that has a stream of its own: the sources below `prefix`.

    Those below one of `others`, which are longer prefixes, are other apps'.
    """

    stream: str
    prefix: str
    others: Sequence[str] = ()

    def holds(self, source: str) -> bool:
        """Whether that source is this app's."""
        return source.startswith(self.prefix) and not source.startswith(tuple(self.others))

    def account_of(self, owner: str) -> str:
        """The account of an owner of this app; other apps' owners of that name have others."""
        return f"{self.stream.rpartition(':')[2]}:{owner}"


@dataclass(frozen=True)
class UploadRequested:
    """An app has announced this upload; or it is `adopted`: nobody did, but its original is there.

    Where a bucket announced it, `written_ms` is when the original was written.
    """

    position: StreamId
    id: UUID
    source: str
    recipe: str
    metadata: Metadata = field(default_factory=dict)
    adopted: bool = False
    written_ms: int | None = None
    traceparent: str | None = None  # of the trace in which the app asked for it
    owner: str | None = None  # whose it is; None: that of its folder
    domain: Domain | None = None  # of the app that asked for it; None: of one that may speak of everything
    replaces: UUID | None = None  # the upload that is superseded once this one is ready


@dataclass(frozen=True)
class DeletionRequested:
    """An app has asked to delete this upload, and with `original` its original too."""

    position: StreamId
    id: UUID
    original: bool = False
    traceparent: str | None = None  # of the trace in which the app asked for it
    domain: Domain | None = None  # as that of UploadRequested


@dataclass(frozen=True)
class StatusAsked:
    """An app has asked how this upload is. Nothing is kept of it; the answer names its `entry`."""

    position: StreamId
    id: UUID
    entry: str  # the ID of the question in the stream that the app wrote
    traceparent: str | None = None  # of the trace in which the app asked
    domain: Domain | None = None  # as that of UploadRequested

    @property
    def stream_id(self) -> str:
        """The ID of the question in the stream that workers read."""
        return f"{self.position.ms}-{self.position.n}"


@dataclass(frozen=True)
class About:
    """The upload that a refused event is about, as far as that can be read."""

    id: UUID | None
    source: str | None
    metadata: Metadata = field(default_factory=dict)
    traceparent: str | None = None
    owner: str | None = None  # that the event names; empty: what it names is none
    stream: str | None = None  # of the app that sent it, where that has one of its own
    entry: str | None = None  # its ID there; None: it was sent to the stream of all apps


@dataclass(frozen=True)
class DeadLetter:
    """Bytes that never became an upload: where they stood in the stream, and why they were refused.

    A message answers the app where the bytes say whom they are `about`.
    """

    stream_id: str
    code: str
    message: str
    body: bytes
    time_ms: int = 0
    id: int = 0
    about: About | None = None
    position: StreamId = StreamId()  # the same ID, with its epoch
    may_not_replace: str = ""  # the message instead, where what the event replaces is not of its app

    @property
    def sent_as(self) -> tuple[str | None, str | None]:
        """The stream of the app that sent them, and the ID there, where it has one of its own."""
        return (self.about.stream, self.about.entry) if self.about else (None, None)


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
    """An original as it was read: size in upright pixels; `stamp` changes when the file does."""

    stamp: str
    sha256: str
    bytes: int
    format: str
    width: int
    height: int
    color: str | None = None
    thumbhash: ThumbHash | None = None  # what is shown while a picture loads; of the two there is one at most
    blurhash: str | None = None
    placeholder_tried: str | None = None  # what could make no placeholder of it, as whoever tried names it


@dataclass(frozen=True)
class Upload:
    """One upload as the catalog sees it; times are ms since 1970."""

    id: UUID
    source: str | None  # the key of its original; None: a deletion of an id that was never seen
    state: State
    recipe: str  # its name
    metadata: Metadata  # the app's own, returned in every message
    attempts: int  # tries that failed because of the upload itself, since its newest event
    claims: int  # how many there were
    queued_ms: int  # when its newest event was taken
    changed_ms: int  # when its row last changed
    not_before_ms: int  # when the next try is due
    error_code: str | None  # of the last try, where it failed
    error_message: str | None
    original: Original | None  # as it was last read; None: never
    variants: Sequence[StoredVariant]  # the current ones
    seen: str | None = None  # the `fingerprint` of its original when the upload was put off because of that
    event_ms: int = 0  # when Redis numbered its newest event; 0: there was none
    traceparent: str | None = None  # of the trace in which an app asked for it
    owner: str = ""  # that its newest event names, else the first folder of its source; empty: none

    @property
    def asked_ms(self) -> int:
        """Since when somebody waits for its variants: its event, or what was ready and was queued again.

        Redis' clock counts only where it can be right.
        """
        waited_ms = self.queued_ms - self.event_ms
        is_first = self.original is None and 0 < waited_ms < _LONGEST_WAIT_MS
        return self.event_ms if is_first else self.queued_ms


@dataclass(frozen=True)
class KnownUpload:
    """An upload as it is now, and the `seq` of its newest message, 0 where none is kept."""

    upload: Upload
    seq: int = 0
    replaced_by: UUID | None = None  # the one that has come in its place


@dataclass(frozen=True)
class ReplacedUpload:
    """The upload in whose place another comes once that is ready, and the event that asks for it."""

    id: UUID
    asked: StreamId


@dataclass(frozen=True)
class Claim:
    """The right to write the next outcome of an upload, until somebody else claims it."""

    upload: Upload
    token: int  # fencing token: the outcome is written only while the row has the same one
    generation: int  # upload events so far: where the row has more by the end, the upload is done again
    crash_count: int  # workers that died, one after the other, while they had the upload
    delete_original: bool = False  # whether a deletion is to take the original too
    account: str = ""  # who is debited, and in whose turn it is done
    began_ms: int = 0  # when it was claimed, by the catalog's clock: older deletion marks do not matter
    superseded: Sequence[StoredVariant] = ()  # not the current ones any more, and not yet removed
    traceparent: str | None = None  # of this very try, where it is traced: its message names that one
    replaces: ReplacedUpload | None = None


@dataclass(frozen=True)
class BegunUpload:
    """An upload on which work has begun, and how many of its owner still waited at that time.

    The message about it has the `seq` of the newest one before it, 0 where none is kept.
    """

    claim: Claim
    seq: int
    waiting: int
    time_ms: int


@dataclass(frozen=True)
class Ready:
    """All variants are published."""

    claim: Claim
    original: Original
    variants: Sequence[StoredVariant]  # in the order of the recipe
    seen: BlobInfo | None = None  # the original as it was when it was read
    originals: Mapping[UUID, OriginalFate] = field(default_factory=dict)  # of uploads that it replaces


@dataclass(frozen=True)
class Failed:
    """The upload cannot be done."""

    claim: Claim
    code: str  # one of the contract's
    message: str  # for a person


@dataclass(frozen=True)
class Postponed:
    """Not now: the same again later."""

    claim: Claim
    code: str  # one of the contract's
    message: str  # for a person
    delay_ms: int
    counted: bool  # whether it was the upload's own try that failed
    seen: BlobInfo | Existence | None = None  # tried as soon as the original is not so any more
    keeps_crash_count: bool = (
        False  # whether the workers that died before still count: this one decoded nothing
    )


@dataclass(frozen=True)
class Removed:
    """Every blob of the upload that was to go is gone."""

    claim: Claim
    kept: str | None = None  # why the original stays all the same; None: it is gone, or was not to go
    original: OriginalFate = OriginalFate.KEPT


Outcome = Ready | Failed | Postponed | Removed


@dataclass(frozen=True)
class Message:
    """A message of the outbox: what became of an upload, or of an entry that was refused."""

    seq: int  # its place in the outbox, by which apps recognise what they have had
    kind: State  # the state that the upload has come to
    id: UUID | None  # None: a refused entry that names no upload
    source: str | None  # the key of the original, as the upload's event names it
    recipe: str  # its name
    metadata: Metadata  # the app's own, handed back
    time_ms: int  # when the outcome was committed, since 1970
    attempts: int = 0  # of the upload, since its newest event
    error_code: str | None = None  # one of the contract's; None unless it failed
    error_message: str | None = None  # for a person
    original: Original | None = None  # as it was last read
    variants: Sequence[StoredVariant] = ()  # all of them, once it is ready
    original_kept: bool = False  # whether a deletion that was to take the original too has left it
    entry: str | None = None  # the ID of the refused entry; None: the message is about an upload
    traceparent: str | None = None  # of the trace in which the app asked for it
    owner: str | None = None  # of its upload, as it is now where a `Reader` read it; None: nobody knows
    stream: str | None = None  # of the app that it answers, where its upload does not say so
    replaces: UUID | None = None  # the upload in whose place this one has come
    replaced_by: UUID | None = None  # the one that has come in the place of a deleted one
    original_fate: OriginalFate | None = None  # of a deleted one; None: an older version deleted it


@dataclass(frozen=True)
class Taken:
    """The result of an intake batch: the uploads of each new job, the refused entries, and the messages.

    `outdated` are the entries that came after a newer one of their upload, or once more. Of `parked` owners
    some uploads wait without a job. `asked` is still to be answered.
    """

    jobs: Mapping[str, Sequence[UUID]]
    refused: Sequence[DeadLetter]
    messages: Sequence[Message] = ()
    outdated: Sequence[str] = ()
    owners: Mapping[UUID, str] = field(default_factory=dict)  # of uploads that have a job now
    parked: AbstractSet[str] = frozenset()
    asked: Sequence[StatusAsked] = ()


@dataclass(frozen=True)
class PossibleRestart:
    """Nothing was taken: the stream is in another `epoch`, or entries are not newer than its `newest`.

    Either others read the stream too, or it has begun anew.
    """

    epoch: int
    newest: StreamId | None


@dataclass(frozen=True)
class Committed:
    """An outcome that was written: the state now (None: the claim no longer held), and the message of it.

    An upload that waits for work again is due in `due_in_ms`. `replaced` are the messages about uploads in
    whose place it has come.
    """

    id: UUID
    state: State | None
    attempts: int = 0
    message: Message | None = None
    due_in_ms: int = 0
    replaced: Sequence[Message] = ()

    @property
    def messages(self) -> Sequence[Message]:
        """All of them, in their order."""
        return [*([] if self.message is None else [self.message]), *self.replaced]


@dataclass(frozen=True)
class StalledUpload:
    """An upload that is due, and the job that should be working on it."""

    id: UUID
    job_id: str
    not_before_ms: int
