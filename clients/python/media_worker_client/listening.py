"""How a listener reads messages: in which order, which it drops, what it tries again, what it asks for.

It is at least once: a message counts as read after its handler has returned.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from media_worker_client.cursors import MemorySeqs
from media_worker_client.errors import NotAwaitedError
from media_worker_client.events import UploadId, encoded, status_question
from media_worker_client.messages import STARTED, STATUS, Message, parse_message, read_document
from media_worker_client.reading import MOST_WAITING, TRIMMED, CursorReader, GroupReader, Listening
from media_worker_client.steps import (
    Call,
    Entry,
    Pause,
    Steps,
    as_text,
    command,
)

log = logging.getLogger("media_worker_client")


_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0  # while Redis is away
_STOP_POLL_S = 0.5
_AWAY = (
    ConnectionError,
    TimeoutError,
    OSError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_REFUSED = (AuthenticationError, AuthorizationError)
"""Of these redis-py says that the connection failed; but no other try will do better."""
_AWAY_REPLIES = ("BUSY ", "CLUSTERDOWN", "MASTERDOWN", "MISCONF", "NOREPLICAS", "TRYAGAIN")
"""How other replies begin that tell the same. redis-py leaves it out where it has an error of its own."""
_GONE_REPLIES = ("NOGROUP", "UNBLOCKED")
"""How replies begin that tell that the stream, and with it the group, is there no more."""


def listen(asked: Listening) -> Steps[None]:
    """Hand messages to the handler until the listener is stopped; ride out the absence of Redis."""
    listener = _Listener(asked)
    yield from listener.load()
    pauses = _Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, asked.jitter)
    while not asked.stopped():
        try:
            yield from listener.open()
            while not asked.stopped():
                yield from listener.turn()
                pauses.reset()
            yield from listener.leave()
        except _REFUSED:
            raise
        except _AWAY as error:
            yield from _ride_out(asked, pauses, error)
        except ResponseError as error:
            reply = str(error)
            if not reply.startswith(_GONE_REPLIES):
                if not reply.startswith(_AWAY_REPLIES):
                    raise
                yield from _ride_out(asked, pauses, error)


def _ride_out(asked: Listening, pauses: _Backoff, error: Exception) -> Steps[None]:
    pause_s = pauses.next_s()
    if pauses.count == 1:
        log.warning("Redis is away, the listener tries again: %s", error)
    yield from _pause(pause_s, asked.stopped)


def _pause(seconds: float, stopped: Callable[[], bool]) -> Steps[None]:
    """Pause for so long, or until the listener is stopped."""
    while seconds > 0 and not stopped():
        yield Pause(min(seconds, _STOP_POLL_S))
        seconds -= _STOP_POLL_S


class _Backoff:
    """Pauses that double, of which a random half is left out: those of many processes spread."""

    def __init__(self, first_s: float, longest_s: float, jitter: Callable[[], float]) -> None:
        self.count = 0
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter = jitter

    def next_s(self) -> float:
        longest = min(self._longest_s, self._first_s * 2.0 ** min(self.count, 30))
        self.count += 1
        return longest * (0.5 + self._jitter() / 2)

    def reset(self) -> None:
        self.count = 0


@dataclass
class _Waiting:
    """Messages about one upload: the first one's handler has failed, the others are behind it."""

    messages: deque[Message]
    retries: _Backoff
    due: float


class _Listener:
    """One listener: the messages that it has, and those that wait for another try."""

    def __init__(self, asked: Listening) -> None:
        self._asked = asked
        self._reader: GroupReader | CursorReader = (
            CursorReader(asked) if asked.group is None else GroupReader(asked, asked.group)
        )
        self._waiting: dict[str, _Waiting] = {}
        self._waiting_ids: set[str] = set()
        self._questions: set[str] = set()
        self._answered = MemorySeqs()
        self._lost = ""
        self._asking = _Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, asked.jitter)
        self._asking_due = float("-inf")
        self._pending: Mapping[str, None] | None = None
        """What the app waits for, as it said since the messages were read that are at hand."""

    def load(self) -> Steps[None]:
        """Have the app say where to begin."""
        yield from self._reader.load()

    def open(self) -> Steps[None]:
        """Begin, or go on after Redis was away: first with what was delivered and not handled."""
        yield from self._reader.open()
        yield from self._reader.forget_consumers()
        yield from self._catch_up()

    def turn(self) -> Steps[None]:
        """Try again what is due, then read once."""
        yield from self._retry()
        if len(self._waiting_ids) >= MOST_WAITING:
            yield from _pause(min(self._pause_s(), self._asked.block_s), self._asked.stopped)
        else:
            batch = yield from self._reader.backlog()
            if not batch:
                batch = yield from self._reader.read(min(self._pause_s(), self._asked.block_s))
            yield from self._catch_up()
            yield from self._take(batch)
            yield from self._catch_up()  # what was trimmed while it was pending
        if self._reader.is_keeping_due():
            yield from self._reader.keep(list(self._waiting_ids))
        yield from self._take((yield from self._reader.others()))

    def leave(self) -> Steps[None]:
        """End in order."""
        yield from self._reader.leave(has_waiting=bool(self._waiting_ids))

    # -- what is read

    def _take(self, batch: list[Entry]) -> Steps[None]:
        self._pending = None
        for at, (entry_id, fields) in enumerate(batch):
            if self._reader.is_keeping_due():
                yield from self._reader.keep([*self._waiting_ids, *(left for left, _ in batch[at:])])
            if entry_id in self._waiting_ids or self._reader.has_settled(entry_id):
                continue
            if not fields:  # it was trimmed while it was pending
                self._lost = TRIMMED
            message = self._message(entry_id, fields)
            if message is None:
                yield from self._reader.settle(entry_id)
                continue
            waiting = self._waiting.get(_order_of(message))
            if waiting is not None:
                waiting.messages.append(message)
                self._waiting_ids.add(entry_id)
            elif not (yield from self._attempt(message)):
                self._put_off(message)

    def _message(self, entry_id: str, fields: Any) -> Message | None:  # noqa: ANN401
        """The message of an entry; None where it is not for the handler."""
        document = read_document(fields.get("event"))
        message = None if document is None else parse_message(document, entry_id)
        if message is None:
            return None
        if message.entry in self._questions:
            log.warning("A worker refused the question for the state of an upload: %s", message.error)
            self._questions.discard(message.entry or "")
            return None
        if message.type == STATUS and message.state != "unknown":
            self._questions.discard(self._question_of(message))
            return None  # it is under way, and its outcome will come
        return message

    def _attempt(self, message: Message) -> Steps[bool]:
        """Have a message handled, unless it is old; returns whether that is done."""
        try:
            if (yield from self._is_news(message)):
                yield Call(self._asked.handler, (message,))
                yield from self._note(message)
        except NotAwaitedError:
            raise
        except Exception:
            log.exception(
                "The handler failed at %s of upload %s; it is tried again", message.type, message.id
            )
            return False
        yield from self._reader.settle(message.entry_id or "")
        return True

    def _is_news(self, message: Message) -> Steps[bool]:
        """Whether nothing newer about the upload was handled, nor the same."""
        if message.id is None or message.entry is not None:
            return True
        last = yield Call(self._asked.seqs.get, (message.id,))
        last = -1 if last is None else last
        if message.type == STARTED:  # which has the `seq` of the message before it
            return bool(message.seq >= last)
        if message.is_answer:
            if self._question_of(message) in self._questions:
                return bool(message.seq == 0 or message.seq >= last)
            if message.state == "unknown":  # another consumer of the group may have asked, or one before it
                return message.id in (yield from self._pending_ids())
            return bool(message.seq > max(last, self._answered.get(message.id) or 0))
        return bool(message.seq == 0 or message.seq > last)

    def _note(self, message: Message) -> Steps[None]:
        """Note what was handled. An answer is no message: the one that it repeats may be on its way."""
        if message.is_answer:
            self._questions.discard(self._question_of(message))
            if message.id is not None:
                self._answered.set(message.id, message.seq)
        elif message.id is not None and message.entry is None and message.seq and message.type != STARTED:
            yield Call(self._asked.seqs.set, (message.id, message.seq))

    @staticmethod
    def _question_of(message: Message) -> str:
        return str(message.raw.get("entry"))

    # -- what is tried again

    def _put_off(self, message: Message) -> None:
        retries = _Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, self._asked.jitter)
        due = self._asked.clock() + retries.next_s()
        self._waiting[_order_of(message)] = _Waiting(deque([message]), retries, due)
        self._waiting_ids.add(message.entry_id or "")

    def _retry(self) -> Steps[None]:
        self._pending = None
        now = self._asked.clock()
        for order, waiting in list(self._waiting.items()):
            if waiting.due > now:
                continue
            while waiting.messages:
                if self._reader.is_keeping_due():
                    yield from self._reader.keep(list(self._waiting_ids))
                message = waiting.messages[0]
                if not (yield from self._attempt(message)):
                    waiting.due = self._asked.clock() + waiting.retries.next_s()
                    break
                waiting.messages.popleft()
                self._waiting_ids.discard(message.entry_id or "")
                waiting.retries.reset()
            else:
                del self._waiting[order]

    def _pause_s(self) -> float:
        """Until the next try is due."""
        due = min((waiting.due for waiting in self._waiting.values()), default=float("inf"))
        return max(0.0, due - self._asked.clock())

    # -- what was lost

    def _catch_up(self) -> Steps[None]:
        """Where messages may have been lost, ask for the state of what the app waits for.

        What fails is tried again, and holds up no message.
        """
        self._lost = self._reader.take_lost() or self._lost
        if not self._lost or self._asked.clock() < self._asking_due:
            return
        if self._asked.pending is None:
            if self._lost == TRIMMED:
                log.warning("Messages of %s were trimmed before they were read here", self._asked.events)
        elif not (yield from self._ask()):
            self._asking_due = self._asked.clock() + self._asking.next_s()
            return
        self._asking.reset()
        self._lost = ""

    def _ask(self) -> Steps[bool]:
        """Ask for the state of all that the app waits for; returns whether that is done."""
        self._pending = None
        try:
            ids = yield from self._pending_ids()
        except NotAwaitedError:
            raise
        except Exception:
            log.exception("`pending` failed; it is called again")
            return False
        for upload in ids:
            try:
                reply = yield command(
                    "XADD", self._asked.stream, "*", "event", encoded(status_question(upload))
                )
            except OutOfMemoryError as error:  # which hands out messages all the same
                log.warning(
                    "Redis takes no questions for the state of uploads; they are asked again: %s", error
                )
                return False
            self._questions.add(as_text(reply))
        return True

    def _pending_ids(self) -> Steps[Mapping[str, None]]:
        """The uploads that the app waits for, in its order; it is asked once for the messages at hand."""
        if self._pending is None:
            found: dict[str, None] = {}
            given: Iterable[UploadId] = (
                () if self._asked.pending is None else (yield Call(self._asked.pending))
            )
            for upload in given:
                try:
                    found[status_question(upload)["status"]] = None
                except (TypeError, ValueError) as error:
                    log.warning("`pending` names %r, which is no upload's id: %s", upload, error)
            self._pending = found
        return self._pending


def _order_of(message: Message) -> str:
    """What must stay in order among themselves: the messages about one upload."""
    return message.id if message.id is not None and message.entry is None else f"entry {message.entry_id}"
