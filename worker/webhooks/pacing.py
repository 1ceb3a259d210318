"""When an endpoint is tried again, and with how many messages: by its answers alone."""

import random
from collections.abc import Callable

from storage.catalog.clock import SKEW_MS
from storage.catalog.webhooks import LONGEST_MS, MOST_WAITING, EndpointState, Word
from worker.webhooks.endpoint import WebhookAnswer

CONCURRENCY = 8
FIRST_MS = 5_000
DOWN_AFTER = 5  # failures one after the other
LONGEST_PROBE_MS = 300_000  # from one attempt to the next, while the endpoint is down
_JITTER = 0.25
_OF_ONE_MESSAGE = ("refused", "timeout")  # outcomes that may be


def delay_ms(attempts: int, longest_ms: int = LONGEST_MS, chance: Callable[[], float] = random.random) -> int:
    """How long a message waits after so many attempts: from 5 s on twice as long each time, by chance."""
    doubled = FIRST_MS * 2 ** min(attempts - 1, 20)
    return int(min(doubled, longest_ms) * (1 + _JITTER * (2 * chance() - 1)))


class EndpointPace:
    """How an endpoint does, by its last answers: whether, and how many, messages may be tried now."""

    def __init__(self, now_ms: Callable[[], int], chance: Callable[[], float] = random.random) -> None:
        self._now_ms = now_ms
        self._chance = chance
        self._failures = 0  # one after the other
        self._unwanted: dict[int, None] = {}  # messages that were not taken, the oldest first
        self._not_before_ms = 0
        self._asked_until_ms = 0  # by the endpoint: what it takes of messages on their way does not end that
        self.has_tried = False
        """Whether there was an answer."""
        self.is_gone = False
        """Whether it has said that it wants no more messages; it is asked again after a restart."""
        self.problem: str | None = None
        """Of the last attempt."""
        self.delivered_ms = 0
        """When it took a message last; 0: never."""

    @property
    def is_down(self) -> bool:
        """Whether nothing gets through."""
        return self._failures >= DOWN_AFTER

    @property
    def word(self) -> Word:
        """How it does."""
        return "gone" if self.is_gone else "down" if self.is_down else "ok"

    def go_on_from(self, state: EndpointState) -> None:
        """Begin as another worker found it, unless this one has tried it: one that took nothing, or wanted no
        more, is first tried with one message.
        """
        self.delivered_ms = max(self.delivered_ms, state.delivered_ms)
        if not self.has_tried and state.word != "ok":
            self._failures, self.problem = DOWN_AFTER, state.problem

    def met(self, answer: WebhookAnswer, seq: int) -> bool:
        """Learn from the answer to a message; returns whether the endpoint was down until now.

        An endpoint that answers may refuse, or hang on, that message alone: each counts once, also where
        others are taken meanwhile.
        """
        now, was_down = self._now_ms(), self.is_down
        self.has_tried, self.problem = True, answer.problem
        if answer.outcome == "delivered":
            self._failures, self._not_before_ms, self.delivered_ms = 0, 0, now
            self._unwanted.pop(seq, None)
            return was_down
        if was_down or answer.outcome not in _OF_ONE_MESSAGE or seq not in self._unwanted:
            self._failures += 1
        self._remember(seq)
        self.is_gone = self.is_gone or answer.outcome == "gone"
        asked_ms = max(self._left_ms(self._asked_until_ms), int(answer.pause_s * 1000))
        self._asked_until_ms = now + asked_ms
        if self.is_down:
            probes = self._failures - DOWN_AFTER + 1
            pause_ms = delay_ms(probes, LONGEST_PROBE_MS, self._chance)
            self._not_before_ms = now + max(self._left_ms(self._not_before_ms), pause_ms)
        return False

    def _remember(self, seq: int) -> None:
        self._unwanted[seq] = None
        if len(self._unwanted) > MOST_WAITING:  # more never wait: some were given up
            del self._unwanted[next(iter(self._unwanted))]

    def wait_ms(self) -> int:
        """How long nothing may be tried."""
        return max(self._left_ms(self._not_before_ms), self._left_ms(self._asked_until_ms))

    def _left_ms(self, until_ms: int) -> int:
        left = until_ms - self._now_ms()
        return 0 if left > 2 * LONGEST_MS + SKEW_MS else max(0, left)  # the clock was put back

    def places(self, running: int) -> int:
        """How many more attempts may begin while so many run."""
        if self.is_gone or self.wait_ms():
            return 0
        return max(0, (1 if self.is_down else CONCURRENCY) - running)
