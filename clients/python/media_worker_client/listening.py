"""How a listener reads messages: in which order, which it drops, what it tries again, what it asks for.

It is at least once: a message counts as read after its handler has returned.
"""

from __future__ import annotations

import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from media_worker_client.cursors import Cursor, SeqStore
from media_worker_client.events import UploadId, encoded, status_question
from media_worker_client.messages import STATUS, Message, parse_message, read_document
from media_worker_client.steps import (
    Call,
    Entry,
    Pause,
    Steps,
    as_text,
    command,
    entries_in,
    entries_of,
    place,
)

log = logging.getLogger("media_worker_client")

Handler = Callable[[Message], Any]
Pending = Callable[[], Any]
"""Tells the ids of the uploads whose outcome the app waits for (or, of an async client, awaits them)."""

_COUNT = 32  # entries read at once; a listener that is stopped ends after them
_MOST_WAITING = 1000  # messages whose handler failed, or that are behind one: beyond, nothing new is read
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 10.0  # while Redis is away
_CHECK_S = 30.0  # between two looks whether the stream was trimmed, while nothing comes
_STOP_POLL_S = 0.5
_START = "0-0"
_AWAY = (ConnectionError, TimeoutError, ReadOnlyError, OSError)
_REFUSED = (AuthenticationError, AuthorizationError)
"""Of these redis-py says that the connection failed; but no other try will do better."""
_AWAY_REPLIES = (
    "LOADING",
    "MASTERDOWN",
    "READONLY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
)
_GONE_REPLIES = ("NOGROUP", "UNBLOCKED")
"""How replies begin that tell that the stream, and with it the group, is there no more."""


@dataclass
class Listening:
    """What a listener was asked for."""

    handler: Handler
    events: str
    stream: str
    stopped: Callable[[], bool]
    seqs: SeqStore
    block_s: float
    """How long a read may block."""
    pending: Pending | None = None
    group: str | None = None
    consumer: str = ""
    is_own_name: bool = False
    """Whether nobody else will ever have that consumer's name."""
    claim_after_s: float = 60.0
    cursor: Cursor | None = None
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random


def listen(asked: Listening) -> Steps[None]:
    """Hand messages to the handler until the listener is stopped; ride out the absence of Redis."""
    listener = _Listener(asked)
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
        self._reader: _GroupReader | _CursorReader = (
            _CursorReader(asked) if asked.group is None else _GroupReader(asked, asked.group)
        )
        self._waiting: dict[str, _Waiting] = {}
        self._waiting_ids: set[str] = set()
        self._questions: set[str] = set()

    def open(self) -> Steps[None]:
        """Begin, or go on after Redis was away: first with what was delivered and not handled."""
        yield from self._reader.open()
        yield from self._catch_up()

    def turn(self) -> Steps[None]:
        """Try again what is due, then read once."""
        yield from self._retry()
        if len(self._waiting_ids) >= _MOST_WAITING:
            yield from _pause(min(self._pause_s(), self._asked.block_s), self._asked.stopped)
        else:
            batch = yield from self._reader.backlog()
            if not batch:
                batch = yield from self._reader.read(min(self._pause_s(), self._asked.block_s))
            yield from self._catch_up()
            yield from self._take(batch)
        if self._reader.is_keeping_due():
            yield from self._reader.keep(list(self._waiting_ids))
        yield from self._take((yield from self._reader.others()))

    def leave(self) -> Steps[None]:
        """End in order."""
        yield from self._reader.leave(has_waiting=bool(self._waiting_ids))

    # -- what is read

    def _take(self, batch: list[Entry]) -> Steps[None]:
        for at, (entry_id, fields) in enumerate(batch):
            if self._reader.is_keeping_due():
                yield from self._reader.keep([*self._waiting_ids, *(left for left, _ in batch[at:])])
            if entry_id in self._waiting_ids or self._reader.has_settled(entry_id):
                continue
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
        if message is None or document is None:
            return None
        entry = document.get("entry")
        is_ours = isinstance(entry, str) and entry in self._questions
        if is_ours:
            self._questions.discard(entry)
        if message.entry is not None and is_ours:
            log.warning("A worker refused the question for the state of an upload: %s", message.error)
            return None
        if document.get("type") == STATUS and not message.seq and not is_ours:
            return None  # another's question, and no news
        if message.type == STATUS and message.state != "unknown":
            return None  # it is under way, and its outcome will come
        return message

    def _attempt(self, message: Message) -> Steps[bool]:
        """Have a message handled, unless it is old; returns whether that is done."""
        upload = message.id if message.seq and message.entry is None else None
        if upload is not None:
            last = yield Call(self._asked.seqs.get, (upload,))
            if last is not None and message.seq <= last:
                yield from self._reader.settle(message.entry_id or "")
                return True
        try:
            yield Call(self._asked.handler, (message,))
        except Exception:
            log.exception(
                "The handler failed at %s of upload %s; it is tried again", message.type, message.id
            )
            return False
        if upload is not None:
            yield Call(self._asked.seqs.set, (upload, message.seq))
        yield from self._reader.settle(message.entry_id or "")
        return True

    # -- what is tried again

    def _put_off(self, message: Message) -> None:
        retries = _Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, self._asked.jitter)
        due = self._asked.clock() + retries.next_s()
        self._waiting[_order_of(message)] = _Waiting(deque([message]), retries, due)
        self._waiting_ids.add(message.entry_id or "")

    def _retry(self) -> Steps[None]:
        now = self._asked.clock()
        for order, waiting in list(self._waiting.items()):
            if waiting.due > now:
                continue
            while waiting.messages:
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
        """Where messages may have been lost, ask for the state of what the app waits for."""
        lost = self._reader.take_lost()
        if not lost:
            return
        if self._asked.pending is None:
            if lost == _TRIMMED:
                log.warning("Messages of %s were trimmed before they were read here", self._asked.events)
            return
        ids: Iterable[UploadId] = yield Call(self._asked.pending)
        for upload in ids:
            question = encoded(status_question(upload))
            reply = yield command("XADD", self._asked.stream, "*", "event", question)
            self._questions.add(as_text(reply))


def _order_of(message: Message) -> str:
    """What must stay in order among themselves: the messages about one upload."""
    return message.id if message.id is not None and message.entry is None else f"entry {message.entry_id}"


_NEW, _TRIMMED = "new", "trimmed"


@dataclass
class _StreamInfo:
    first: str | None
    last: str


class _Reader:
    """What both kinds of readers have in common: they notice what was trimmed."""

    def __init__(self, asked: Listening) -> None:
        self._asked = asked
        self._lost = ""
        self._checked = float("-inf")
        self._known_gap: tuple[str, str | None] | None = None

    def take_lost(self) -> str:
        """Whether messages may have been lost since this was asked last, and how."""
        lost, self._lost = self._lost, ""
        return lost

    def _info(self) -> Steps[_StreamInfo | None]:
        """What is on the stream; None where there is none, or where this may not be asked."""
        self._checked = self._asked.clock()
        try:
            reply = yield command("XINFO STREAM", self._asked.events)
        except NoPermissionError:
            return None
        except ResponseError as error:
            if "no such key" in str(error).lower():
                return _StreamInfo(None, _START)
            raise
        first = reply.get("first-entry")
        return _StreamInfo(
            as_text(first[0]) if first and first[0] is not None else None,
            as_text(reply["last-generated-id"]),
        )

    def _check(self, position: str) -> Steps[_StreamInfo | None]:
        """Note whether entries behind `position` were trimmed."""
        info = yield from self._info()
        if info is None or place(position) == place(_START) or place(position) >= place(info.last):
            return info
        gap = (position, info.first)
        if (info.first is None or place(position) < place(info.first)) and gap != self._known_gap:
            self._known_gap = gap
            self._lost = _TRIMMED
        return info

    def _is_check_due(self) -> bool:
        return self._asked.clock() - self._checked >= _CHECK_S


class _GroupReader(_Reader):
    """Reads as a consumer of a group, which has no entry twice at a time."""

    def __init__(self, asked: Listening, group: str) -> None:
        super().__init__(asked)
        self._group = group
        self._position = _START
        self._backlog_after: str | None = None
        self._unacknowledged: dict[str, None] = {}
        self._claimed = float("-inf")
        self._kept = asked.clock()

    def open(self) -> Steps[None]:
        yield from self._acknowledge()
        events, group = self._asked.events, self._group
        try:
            yield command("XGROUP CREATE", events, group, "0", "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            self._lost = _NEW
        yield from self._see_position()
        yield from self._check(self._position)
        self._backlog_after = "0"
        self._claimed = float("-inf")

    def backlog(self) -> Steps[list[Entry]]:
        """What was delivered to this consumer and never acknowledged, some at a time."""
        if self._backlog_after is None:
            return []
        found = entries_in((yield from self._read_group(self._backlog_after, "COUNT", _COUNT)))
        self._backlog_after = found[-1][0] if found else None
        self._note_deleted(found)
        return found

    def read(self, block_s: float) -> Steps[list[Entry]]:
        """What is new."""
        before = self._position
        block_ms = max(1, int(block_s * 1000))
        try:
            reply = yield from self._read_group(">", "COUNT", _COUNT, "BLOCK", block_ms)
        except TimeoutError:
            # The client's own timeout is shorter; what came for the lost connection is in the backlog.
            self._backlog_after = "0"
            return (yield from self.backlog())
        found = entries_in(reply)
        if found:
            self._position = found[-1][0]
            yield from self._check(before)
        elif self._is_check_due():
            yield from self._see_position()
            yield from self._check(self._position)
        return found

    def is_keeping_due(self) -> bool:
        """Whether it is time to say that what is here is still worked on."""
        return self._asked.clock() - self._kept >= self._asked.claim_after_s / 3

    def keep(self, ids: list[str]) -> Steps[None]:
        """Keep other consumers from taking these entries for those of a dead one."""
        self._kept = self._asked.clock()
        who = (self._asked.events, self._group, self._asked.consumer)
        for at in range(0, len(ids), _COUNT):
            try:
                yield command("XCLAIM", *who, 0, *ids[at : at + _COUNT], "JUSTID", parse_justid=True)
            except NoPermissionError:
                return

    def others(self) -> Steps[list[Entry]]:
        """What consumers that are dead have left; nothing where it is not time to look."""
        if self._asked.clock() - self._claimed < self._asked.claim_after_s / 3:
            return []
        self._claimed = self._asked.clock()
        who = (self._asked.events, self._group, self._asked.consumer)
        idle_ms = int(self._asked.claim_after_s * 1000)
        found: list[Entry] = []
        after = _START
        while len(found) < _MOST_WAITING:
            try:
                reply = yield command("XAUTOCLAIM", *who, idle_ms, after, "COUNT", _COUNT)
            except NoPermissionError:
                break
            found += entries_of(reply[1])
            if any(one is None or one[0] is None for one in reply[1]) or any(reply[2:]):
                self._lost = _TRIMMED  # while they were pending
            after = as_text(reply[0])
            if after == _START:
                break
        return found

    def settle(self, entry_id: str) -> Steps[None]:
        self._unacknowledged[entry_id] = None
        yield from self._acknowledge()

    def has_settled(self, entry_id: str) -> bool:
        return entry_id in self._unacknowledged

    def leave(self, *, has_waiting: bool) -> Steps[None]:
        if self._asked.is_own_name and not has_waiting:
            yield command("XGROUP DELCONSUMER", self._asked.events, self._group, self._asked.consumer)

    def _acknowledge(self) -> Steps[None]:
        if self._unacknowledged:
            ids = list(self._unacknowledged)
            yield command("XACK", self._asked.events, self._group, *ids)
            self._unacknowledged.clear()

    def _read_group(self, after: str, *options: str | int) -> Steps[Any]:
        who = ("GROUP", self._group, self._asked.consumer)
        return (yield command("XREADGROUP", *who, *options, "STREAMS", self._asked.events, after))

    def _see_position(self) -> Steps[None]:
        """Ask what the group was given last, by any of its consumers."""
        try:
            groups = yield command("XINFO GROUPS", self._asked.events)
        except NoPermissionError:
            return
        for one in groups:
            if as_text(one["name"]) == self._group:
                self._position = as_text(one["last-delivered-id"])

    def _note_deleted(self, entries: Iterable[Entry]) -> None:
        """Of what was trimmed while it was pending only the ID is left."""
        if any(not fields for _, fields in entries):
            self._lost = _TRIMMED


class _CursorReader(_Reader):
    """Reads alone, from where a cursor says; that follows what is handled, without a gap."""

    def __init__(self, asked: Listening) -> None:
        super().__init__(asked)
        self._position: str | None = None
        self._settled = _START
        """Up to here all is handled."""
        self._read: OrderedDict[str, bool] = OrderedDict()
        """What was read after that, and whether it is handled."""

    def open(self) -> Steps[None]:
        if self._position is None:
            self._settled = yield from self._first_position()
        self._position = self._settled
        info = yield from self._check(self._position)
        if info is not None and place(info.last) < place(self._position):
            log.warning("The stream %s began anew; it is read from its beginning", self._asked.events)
            self._position, self._settled, self._lost = _START, _START, _TRIMMED
            self._read.clear()

    def _first_position(self) -> Steps[str]:
        if self._asked.cursor is None:  # from now on
            self._lost = _NEW
            info = yield from self._info()
            return _START if info is None else info.last
        saved = yield Call(self._asked.cursor.load)
        if saved is None:
            self._lost = _NEW
            return _START
        return as_text(saved)

    def backlog(self) -> Steps[list[Entry]]:
        yield from ()
        return []

    def read(self, block_s: float) -> Steps[list[Entry]]:
        before = self._position or _START
        block_ms = max(1, int(block_s * 1000))
        words = ("COUNT", _COUNT, "BLOCK", block_ms, "STREAMS", self._asked.events, before)
        try:
            found = entries_in((yield command("XREAD", *words)))
        except TimeoutError:  # the client's own timeout is shorter
            return []
        if found:
            self._position = found[-1][0]
            for entry_id, _ in found:
                self._read.setdefault(entry_id, False)
            yield from self._check(before)
        elif self._is_check_due() and not self._read:
            yield from self.open()
        return found

    def is_keeping_due(self) -> bool:
        return False

    def keep(self, ids: list[str]) -> Steps[None]:
        yield from ()

    def others(self) -> Steps[list[Entry]]:
        yield from ()
        return []

    def settle(self, entry_id: str) -> Steps[None]:
        if entry_id in self._read:
            self._read[entry_id] = True
        before = self._settled
        while self._read and self._read[next(iter(self._read))]:
            self._settled, _ = self._read.popitem(last=False)
        if self._settled != before and self._asked.cursor is not None:
            yield Call(self._asked.cursor.save, (self._settled,))

    def has_settled(self, entry_id: str) -> bool:
        return self._read.get(entry_id, False)

    def leave(self, *, has_waiting: bool) -> Steps[None]:
        yield from ()
