"""Sends again what has no answer: the decisions of an outbox, when and what."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from media_worker_client.events import encoded, event_of
from media_worker_client.steps import Call, Pause, Steps

log = logging.getLogger("media_worker_client")

_SELDOM = 16  # times `every`: so long at most until the same event is sent again
_STOP_POLL_S = 0.5


class Sender(Protocol):
    """A client that sends events; where that is a coroutine, it is awaited."""

    def send(self, event: Mapping[str, Any], /) -> Any:  # noqa: ANN401
        """Send one."""


class Resending:
    """The events that have no answer yet, and when each is due."""

    def __init__(
        self,
        send: Callable[[Mapping[str, Any]], Any],
        pending: Callable[[], Any],
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._pending = pending
        self._every_s = every_s
        self._clock = clock
        self._due: dict[str, tuple[float, float]] = {}

    def flush(self) -> Steps[int]:
        """Send what is due; returns how many events. The more often one was sent, the more seldom it is.

        An event that no worker would take is logged, and holds up no other.
        """
        events: Iterable[Mapping[str, Any]] = yield Call(self._pending)
        now, due, sent = self._clock(), dict[str, tuple[float, float]](), 0
        known, self._due = self._due, due
        for event in events:
            try:
                checked = event_of(event)
                key = encoded(checked)
            except (TypeError, ValueError) as error:
                log.warning("The outbox passes over %s, which no worker would take: %s", event, error)
                continue
            at, pause_s = known.get(key, (now, self._every_s))
            if at <= now:
                due[key] = (at, pause_s)  # if it cannot be sent
                yield Call(self._send, (checked,))
                sent += 1
                at, pause_s = now + pause_s, min(pause_s * 2, self._every_s * _SELDOM)
            due[key] = (at, pause_s)
        return sent

    def run(self, stopped: Callable[[], bool]) -> Steps[None]:
        """Send what is due again and again, also after errors, until it is stopped."""
        while not stopped():
            try:
                yield from self.flush()
            except Exception:
                log.exception("The outbox could not send what is pending; it tries again")
            seconds = self._every_s
            while seconds > 0 and not stopped():
                yield Pause(min(seconds, _STOP_POLL_S))
                seconds -= _STOP_POLL_S
