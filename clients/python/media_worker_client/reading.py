"""Reads the stream of messages: as a consumer of a group or alone, and notices what was lost."""

from __future__ import annotations

import logging
import random
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import NoPermissionError, ResponseError, TimeoutError

from media_worker_client.cursors import Cursor, SeqStore
from media_worker_client.errors import NotAwaitedError
from media_worker_client.messages import Message
from media_worker_client.steps import Call, Entry, Steps, as_text, command, entries_in, entries_of, place

log = logging.getLogger("media_worker_client")

Handler = Callable[[Message], Any]
Pending = Callable[[], Any]
"""Tells the ids of the uploads whose outcome the app waits for (or, of an async client, awaits them)."""

MOST_WAITING = 1000
"""Messages whose handler failed, or that are behind one: beyond, nothing new is read."""
COUNT = 32
"""Entries that are read at once; a listener that is stopped ends after them."""
_CHECK_S = 30.0  # between two looks whether the stream was trimmed, while nothing comes
_START = "0-0"
_ID = re.compile(r"[0-9]+(-[0-9]+)?")


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
    forget_after_s: float = 86_400.0
    """After so long, a consumer that reads no more and has left nothing is taken out of the group."""
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = random.random


NEW, TRIMMED = "new", "trimmed"
"""How messages may have been lost."""


@dataclass
class _StreamInfo:
    first: str | None
    last: str


class Reader:
    """What both kinds of readers have in common: they notice what was trimmed."""

    def __init__(self, asked: Listening) -> None:
        self._asked = asked
        self._lost = ""
        self._checked = float("-inf")
        self._known_gap: tuple[str, str | None] | None = None

    def load(self) -> Steps[None]:
        """Have the app say where to begin. Raises: whatever the app's own cursor does."""
        yield from ()

    def take_lost(self) -> str:
        """Whether messages may have been lost since this was asked last, and how."""
        lost, self._lost = self._lost, ""
        return lost

    def _info(self) -> Steps[_StreamInfo]:
        """What is on the stream. Raises: NoPermissionError where this may not be asked."""
        self._checked = self._asked.clock()
        try:
            reply = yield command("XINFO STREAM", self._asked.events)
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
        """Note whether entries behind `position` were trimmed; None where this may not be asked."""
        try:
            info = yield from self._info()
        except NoPermissionError:
            return None
        if place(position) == place(_START) or place(position) >= place(info.last):
            return info
        gap = (position, info.first)
        if (info.first is None or place(position) < place(info.first)) and gap != self._known_gap:
            self._known_gap = gap
            self._lost = TRIMMED
        return info

    def _is_check_due(self) -> bool:
        return self._asked.clock() - self._checked >= _CHECK_S


class GroupReader(Reader):
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
        """Make the group where there is none, and begin with what this consumer was given before."""
        yield from self._acknowledge()
        events, group = self._asked.events, self._group
        try:
            yield command("XGROUP CREATE", events, group, "0", "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            self._lost = NEW
        yield from self._see_position()
        yield from self._check(self._position)
        self._backlog_after = "0"
        self._claimed = float("-inf")

    def forget_consumers(self) -> Steps[None]:
        """Take those out of the group that have ended long ago: each process without a stable name is one."""
        try:
            consumers = yield command("XINFO CONSUMERS", self._asked.events, self._group)
        except NoPermissionError:
            return
        for one in consumers:
            name, idle_s = as_text(one["name"]), one["idle"] / 1000
            is_gone = one["pending"] == 0 and idle_s > self._asked.forget_after_s
            if is_gone and name != self._asked.consumer:
                yield from self._remove(name)

    def backlog(self) -> Steps[list[Entry]]:
        """What was delivered to this consumer and never acknowledged, some at a time."""
        if self._backlog_after is None:
            return []
        found = entries_in((yield from self._read_group(self._backlog_after, "COUNT", COUNT)))
        self._backlog_after = found[-1][0] if found else None
        return found

    def read(self, block_s: float) -> Steps[list[Entry]]:
        """What is new."""
        before = self._position
        block_ms = max(1, int(block_s * 1000))
        try:
            reply = yield from self._read_group(">", "COUNT", COUNT, "BLOCK", block_ms)
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
        for at in range(0, len(ids), COUNT):
            try:
                yield command("XCLAIM", *who, 0, *ids[at : at + COUNT], "JUSTID", parse_justid=True)
            except NoPermissionError:
                return

    def others(self) -> Steps[list[Entry]]:
        """What consumers that are dead have left; nothing where it is not time to look."""
        if self._asked.clock() - self._claimed < self._asked.claim_after_s / 3:
            return []
        self._claimed = self._asked.clock()
        # Where the client of redis-py itself has sent a read again, ours has what the first reply held.
        self._backlog_after = "0"
        who = (self._asked.events, self._group, self._asked.consumer)
        idle_ms = int(self._asked.claim_after_s * 1000)
        found: list[Entry] = []
        after = _START
        while len(found) < MOST_WAITING:
            try:
                reply = yield command("XAUTOCLAIM", *who, idle_ms, after, "COUNT", COUNT)
            except NoPermissionError:
                break
            found += entries_of(reply[1])
            # Trimmed while they were pending; Redis 6.2 has those in the backlog, now as ours.
            if any(reply[2:]):
                self._lost = TRIMMED
            after = as_text(reply[0])
            if after == _START:
                break
        return found

    def settle(self, entry_id: str) -> Steps[None]:
        """Tell that it is handled."""
        self._unacknowledged[entry_id] = None
        yield from self._acknowledge()

    def has_settled(self, entry_id: str) -> bool:
        """Whether it is handled, and Redis was away when that was to be told."""
        return entry_id in self._unacknowledged

    def leave(self, *, has_waiting: bool) -> Steps[None]:
        """Remove a consumer whom nobody will be again, unless others are to take what it has left."""
        if not self._asked.is_own_name or has_waiting:
            return
        # With a consumer goes what it has: also what it was given on a connection that broke.
        if not entries_in((yield from self._read_group("0", "COUNT", 1))):
            yield from self._remove(self._asked.consumer)

    def _remove(self, consumer: str) -> Steps[None]:
        """Take a consumer out of the group; where that may not be done, it stays, which does no harm."""
        with suppress(NoPermissionError):
            yield command("XGROUP DELCONSUMER", self._asked.events, self._group, consumer)

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


class CursorReader(Reader):
    """Reads alone, from where a cursor says; that follows what is handled, without a gap."""

    def __init__(self, asked: Listening) -> None:
        super().__init__(asked)
        self._loaded: str | None = None
        self._position: str | None = None
        self._settled = _START
        """Up to here all is handled."""
        self._kept: str | None = None
        """The cursor has this, as far as is known here."""
        self._is_unkept_told = False
        self._read: OrderedDict[str, bool] = OrderedDict()
        """What was read after that, and whether it is handled."""

    def open(self) -> Steps[None]:
        """Begin behind what is handled."""
        if self._position is None:
            self._settled = yield from self._first_position()
            self._kept = self._settled
        self._position = self._settled
        info = yield from self._check(self._position)
        if info is not None and place(info.last) < place(self._position):
            log.warning("The stream %s began anew; it is read from its beginning", self._asked.events)
            self._position, self._settled, self._lost = _START, _START, TRIMMED
            self._read.clear()

    def load(self) -> Steps[None]:
        """Ask the cursor. Raises: ValueError for what is no ID, and whatever the cursor does."""
        if self._asked.cursor is None:
            return
        saved = yield Call(self._asked.cursor.load)
        if saved is None:
            return
        self._loaded = as_text(saved)
        if not _ID.fullmatch(self._loaded):
            raise ValueError(f"{self._asked.cursor!r} has {saved!r}, which is no ID of a stream of Redis.")

    def _first_position(self) -> Steps[str]:
        if self._loaded is not None:
            return self._loaded
        self._lost = NEW
        if self._asked.cursor is not None:
            return _START
        return (yield from self._info()).last  # from now on

    def forget_consumers(self) -> Steps[None]:
        """Nothing."""
        yield from ()

    def backlog(self) -> Steps[list[Entry]]:
        """Nothing: what was not handled is read again."""
        yield from ()
        return []

    def read(self, block_s: float) -> Steps[list[Entry]]:
        """What is new."""
        yield from self._keep_cursor()
        before = self._position or _START
        block_ms = max(1, int(block_s * 1000))
        words = ("COUNT", COUNT, "BLOCK", block_ms, "STREAMS", self._asked.events, before)
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
        """Never: nobody else reads for it."""
        return False

    def keep(self, ids: list[str]) -> Steps[None]:
        """Nothing."""
        yield from ()

    def others(self) -> Steps[list[Entry]]:
        """Nothing."""
        yield from ()
        return []

    def settle(self, entry_id: str) -> Steps[None]:
        """Note that it is handled, and move the cursor up to the first that is not."""
        if entry_id in self._read:
            self._read[entry_id] = True
        while self._read and self._read[next(iter(self._read))]:
            self._settled, _ = self._read.popitem(last=False)
        yield from self._keep_cursor()

    def has_settled(self, entry_id: str) -> bool:
        """Whether it is handled, and comes again because something before it is not."""
        return self._read.get(entry_id, False)

    def leave(self, *, has_waiting: bool) -> Steps[None]:
        """Keep the cursor, if that did not go before."""
        yield from self._keep_cursor()

    def _keep_cursor(self) -> Steps[None]:
        """Have the cursor kept where it has moved; what fails is tried again, and what was handled is."""
        if self._settled == self._kept or self._asked.cursor is None:
            return
        try:
            yield Call(self._asked.cursor.save, (self._settled,))
        except NotAwaitedError:
            raise
        except Exception:
            if not self._is_unkept_told:
                log.exception("The cursor could not be kept; it is tried again: %r", self._asked.cursor)
            self._is_unkept_told = True
        else:
            self._kept, self._is_unkept_told = self._settled, False
