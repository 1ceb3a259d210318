"""Which messages a client wants, which it may have, and how far it has come."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from storage.errors import StorageError
from worker.http.access import Caller
from worker.http.face import Face
from worker.http.keys import folder_of_uploads
from worker.http.problems import Problem
from worker.http.tail import SentMessage

MOST_SEQ = 2**53 - 1  # as JavaScript can count
CHUNK = 32 * 1024  # bytes that are sent at once; as many may wait in the connection before


class EventsQuery(BaseModel):
    """Which messages are wanted."""

    model_config = ConfigDict(extra="forbid")

    id: UUID | None = Field(None, description="Only messages about this upload; a token needs it.")
    since: int | None = Field(
        None, ge=0, le=MOST_SEQ, description="Only messages after this `seq`; 0: all that are kept."
    )
    limit: int = Field(20, ge=1, le=100, description="Messages of a page; a stream has no pages.")


@dataclass(frozen=True)
class Gap:
    """Messages that a client has missed, and nobody has any more: from this `seq` to that."""

    start: int
    end: int

    @property
    def document(self) -> dict[str, int]:
        """The gap as clients are told it."""
        return {"from": self.start, "to": self.end}


@dataclass(frozen=True)
class MessageFilter:
    """Which messages a caller wants, and may have."""

    caller: Caller
    upload_id: UUID | None = None

    def takes(self, message: SentMessage) -> bool:
        """Whether the message is among them."""
        if self.upload_id is not None and message.id != self.upload_id:
            return False
        caller = self.caller
        if caller.token is not None:
            folder = folder_of_uploads(caller.owner, caller.prefix)
            return self._is_theirs(message) and (message.source or "").startswith(f"{folder}/")
        return (caller.owner is None and caller.prefix is None) or self._is_theirs(message)

    def _is_theirs(self, message: SentMessage) -> bool:
        # What is about no upload, such as an entry that was refused, is nobody's.
        return message.owner is not None and self.caller.may_see(message.source, message.owner)


def filter_of(query: EventsQuery, caller: Caller) -> MessageFilter:
    """The messages that are wanted. Raises: Problem where a token does not say of which upload."""
    if caller.token is not None and query.id is None:
        raise Problem("forbidden", "With a token, ask for one upload: ?id=.")
    return MessageFilter(caller, query.id)


class Place:
    """How far a client has come."""

    def __init__(self, face: Face, wanted: MessageFilter, seq: int, *, from_ring: bool = True) -> None:
        """Without the ring, what was committed a moment ago is there, too, at the price of a read."""
        self._face = face
        self._wanted = wanted
        self._from_ring = from_ring
        self.seq = seq

    async def next(self, limit: int | None = None) -> Sequence[SentMessage] | None:
        """The next wanted messages, maybe none among those that came; None: no more came.

        Raises: StorageError.
        """
        tail = self._face.tail
        newer = tail.after(self.seq) if self._from_ring else None
        if newer is None:
            newer = await tail.replay(self.seq, self._wanted.upload_id)
        if not newer:
            return None
        chosen, size = list[SentMessage](), 0
        for message in newer:
            if self._wanted.takes(message):
                size += len(message.data)
                if chosen and (size > CHUNK or len(chosen) == limit):
                    break
                chosen.append(message)
            self.seq = message.seq
        return chosen


@dataclass(frozen=True)
class Start:
    """Where a client begins: after that `seq`, up to which it has had all if it `comes_back`."""

    seq: int
    comes_back: bool

    @classmethod
    async def of(cls, face: Face, since: int | None) -> "Start":
        """After `since`; None: after what is committed by now. Raises: StorageError, Problem."""
        if since is not None:
            return cls(since, comes_back=since > 0)
        last = face.tail.last
        try:
            return cls(max(await face.reader.newest_seq(), last or 0), comes_back=False)
        except StorageError:
            if last is None:
                raise
            return cls(last, comes_back=False)


async def gap_before(face: Face, start: Start) -> Gap | None:
    """The messages after that start which are forgotten. Raises: StorageError, Problem."""
    last, since = face.tail.last, start.seq
    is_in_ring = last is not None and since <= last and face.tail.after(since) is not None
    if is_in_ring or not start.comes_back:
        return None
    oldest = await face.reader.oldest_seq()
    if oldest is not None and since < oldest:
        return Gap(since + 1, oldest - 1) if since + 1 < oldest else None
    given = await face.stores.catalog.outbox.given_seq()
    if since > given:  # of another catalog: what has happened in this one is not known
        return Gap(1, given)
    return Gap(since + 1, given) if oldest is None and since < given else None
