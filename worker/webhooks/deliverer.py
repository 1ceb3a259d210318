"""The deliverer: it posts the messages of the outbox to an endpoint until it has taken them.

Each endpoint has one in every worker that knows it; it works in the one that has the endpoint's lease. The
messages of an upload go in their order. Nobody waits for it: it reads what was committed, and what is not
delivered stays in the catalog.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

import orjson
import structlog

from pipelines.metrics import NO_METRICS, Metrics
from storage.catalog.outbox import Outbox
from storage.catalog.records import Message
from storage.catalog.webhooks import MOST_WAITING, TAKEN, Attempted, Delivery, EndpointState, Webhooks
from storage.errors import CatalogUnavailable
from worker.documents import payload
from worker.leases import KEEP_MESSAGES_MS
from worker.outage_log import OutageLog
from worker.srcset import Link
from worker.webhooks.endpoint import WebhookAnswer
from worker.webhooks.pacing import CONCURRENCY, EndpointPace, delay_ms
from worker.webhooks.sending import WebhookSender

log = structlog.get_logger(__name__)

GIVEN_UP_AFTER_MS = 3 * 24 * 3600 * 1000
LOST_AFTER_MS = KEEP_MESSAGES_MS - 600_000  # the outbox then has a message for ten more minutes
POLL_S = 1.0  # after which the outbox is read, whether or not this worker has written to it
TOGETHER_S = 0.05  # what ends within this time is recorded by one transaction
TOGETHER_MOST_S = 0.25  # or within this, where turns take long
AHEAD = 64  # messages that are read before their turn
TIDY_S = 5.0
USED_S = 600.0  # after which it is noted again that there is this endpoint
CLOSE_S = 5.0  # for attempts that run when the worker ends


class WebhookDeliverer:
    """Delivers the messages of one catalog to one endpoint."""

    def __init__(
        self,
        webhooks: Webhooks,
        outbox: Outbox,
        sender: WebhookSender,
        catalog_id: str,
        holder: str,
        lease_s: float,
        stopping: Callable[[], bool] = lambda: False,
        metrics: Metrics = NO_METRICS,
        link: Link = str,
    ) -> None:
        """`link` leads to a variant, in the srcset of messages; `holder` is this worker's name."""
        self._webhooks = webhooks
        self._outbox = outbox
        self._sender = sender
        self._prefix = f"msg_{catalog_id.replace('-', '')[:12]}"
        self._holder = holder
        self._lease_s = lease_s
        self._stopping = stopping
        self._metrics = metrics
        self._link = link
        self._pace = EndpointPace(webhooks.now_ms)
        self._outage = OutageLog()
        self._wake = asyncio.Event()
        self._turning = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self._ready: deque[tuple[Delivery, Message]] = deque()
        self._busy: set[int] = set()  # the `seq` of what is ready, runs, or is not recorded yet
        self._ended: list[Attempted] = []
        self._recovered = False  # and what waits is not due yet
        self._leads = self._was_forbidden = False
        self._holds = False  # as the catalog said last
        self._used = float("-inf")
        self._log = log.bind(endpoint=webhooks.endpoint)
        self._asked = self._tidied = float("-inf")  # `_asked`: before the lease was taken, or was another's
        self._noted: EndpointState | None = None

    async def begin(self, *, instead_of_default: bool = False) -> None:
        """Deliver messages from now on, unless that has begun before; of an endpoint that is new those that
        the default one has not come to, if it is in its place. Raises: CatalogUnavailable.
        """
        await self._webhooks.begin(instead_of_default=instead_of_default)
        await self._note_use()

    def wake(self) -> None:
        """There are new messages; called where uploads are worked on, so it only notes that."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled, through every outage of the catalog; `close` ends what runs then."""
        while True:
            began = monotonic()
            try:
                await self.turn()
                self._outage.over()
            except CatalogUnavailable as error:
                self._outage.met(error)
                self._wake.clear()
            await self._rest(monotonic() - began)

    async def turn(self) -> None:
        """Record what has ended, take what is new, and begin as many attempts as may run.

        Raises: CatalogUnavailable.
        """
        async with self._turning:
            await self._turn()

    async def _turn(self) -> None:
        self._wake.clear()
        await self._record()
        if self._stopping():
            self._drop_ready()
            if self._running and self._holds:  # others wait for what runs
                await self._may_lead()
            elif self._holds and not self._ended:
                await self._give_back()
            return
        if not await self._may_lead():
            self._drop_ready()
            return
        await self._tidy()
        if self._pace.is_gone:
            return
        most = TAKEN if self._pace.is_down else MOST_WAITING
        if await self._webhooks.take(most) == TAKEN:
            self.wake()
        await self._begin()

    async def close(self) -> None:
        """End: what runs may finish, if that goes quickly; then another worker may go on."""
        self._drop_ready()
        if self._running:
            await asyncio.wait(self._running, timeout=CLOSE_S)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        with suppress(TimeoutError, CatalogUnavailable):
            async with asyncio.timeout(CLOSE_S):
                await self._record()
                if self._holds:
                    await self._give_back()
        await self._sender.close()

    async def _give_back(self) -> None:
        """Let another worker go on."""
        await self._note_state()
        await self._webhooks.end_lease(self._holder)
        self._holds = self._leads = False

    async def _rest(self, took_s: float) -> None:
        pause_s = min(POLL_S, self._lease_s / 6) if self._may_begin else max(POLL_S, self._lease_s / 3)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._wake.wait()
        # What a turn costs, the uploads of this worker do without: under load it does more at once.
        await asyncio.sleep(min(max(TOGETHER_S, 10 * took_s), TOGETHER_MOST_S))

    @property
    def _may_begin(self) -> bool:
        """Whether no other worker can have the lease, which lasts through an outage of the catalog."""
        return self._holds and monotonic() - self._asked < self._lease_s

    async def _may_lead(self) -> bool:
        """Whether this worker has the lease, which it renews long before its end."""
        began = monotonic()
        if began - self._asked >= self._lease_s / 3:
            led, self._leads = self._leads, False  # where nobody knows, it may soon be another's
            self._holds = await self._webhooks.lease(self._holder, self._lease_s)
            self._asked = began
            if self._holds and not led:
                await self._go_on_from_others()
                self._log.info("webhooks_led")
            self._leads = self._holds
        return self._leads

    async def _go_on_from_others(self) -> None:
        """Begin as the endpoint did last, by what the worker has noted that had the lease before."""
        self._noted = None
        if (state := await self._webhooks.state()) is not None:
            self._pace.go_on_from(state)

    async def _record(self) -> None:
        if ended := list(self._ended):
            await self._webhooks.record(ended)
            del self._ended[: len(ended)]
            self._busy -= {each.delivery.seq for each in ended}
        if self._recovered:
            await self._webhooks.make_due()
            self._recovered = False

    async def _tidy(self) -> None:
        """Now and then give up what is too old, and note how the endpoint does."""
        if monotonic() - self._tidied < TIDY_S:
            return
        before_ms = self._webhooks.now_ms() - GIVEN_UP_AFTER_MS
        untried = self._pace.word != "ok" and self._pace.delivered_ms < before_ms  # nothing gets through
        count = await self._webhooks.give_up(before_ms, untried=untried)
        count += await self._webhooks.lose(self._webhooks.now_ms() - LOST_AFTER_MS)
        count += await self._webhooks.make_room()
        if count:
            await self._webhooks.prune_surplus()
            self._metrics.webhooks_given_up(self._webhooks.endpoint, count)
            self._log.error("webhooks_given_up", messages=count, reason=self._pace.problem)
        await self._note_state()
        if monotonic() - self._used >= USED_S:
            await self._note_use()
        self._tidied = monotonic()

    async def _note_use(self) -> None:
        await self._webhooks.note_use()
        self._used = monotonic()

    async def _note_state(self) -> None:
        before = self._noted or await self._webhooks.state()
        if before is not None and not self._pace.has_tried:
            return  # nobody knows better than the one who had the lease before
        pace, now_ms = self._pace, self._webhooks.now_ms()
        since_ms = before.since_ms if before is not None and before.word == pace.word else now_ms
        delivered_ms = pace.delivered_ms or (before.delivered_ms if before is not None else 0)
        state = EndpointState(pace.word, since_ms, pace.problem, delivered_ms)
        if state != before:
            await self._webhooks.note_state(state)
        self._noted = state

    async def _begin(self) -> None:
        """Begin what may run now; what may run next is read before."""
        self._begin_ready()
        if not self._pace.places(len(self._running)) or len(self._ready) >= CONCURRENCY:
            return
        is_down = self._pace.is_down
        if is_down and self._ready:
            return
        find, most = (self._webhooks.to_probe, 1) if is_down else (self._webhooks.due, AHEAD)
        found = [each for each in await find(most + len(self._busy)) if each.seq not in self._busy]
        messages = {each.seq: each for each in await self._outbox.with_seqs([each.seq for each in found])}
        for delivery in found:
            self._busy.add(delivery.seq)
            if delivery.seq in messages:
                self._ready.append((delivery, messages[delivery.seq]))
            else:  # it cannot be read, or was removed
                self._end(Attempted(delivery))
                self._metrics.webhooks_given_up(self._webhooks.endpoint, 1)
                self._log.error("webhooks_given_up", messages=1, reason=f"the message {delivery.seq} is lost")
        self._begin_ready()

    def _begin_ready(self) -> None:
        """Begin what is ready, unless the lease is over: this process may have been frozen."""
        while self._ready and not self._stopping() and self._may_begin:
            if not self._pace.places(len(self._running)):
                return
            task = asyncio.create_task(self._deliver(*self._ready.popleft()))
            self._running.add(task)
            task.add_done_callback(self._ended_one)

    def _ended_one(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin_ready()

    def _drop_ready(self) -> None:
        self._busy -= {delivery.seq for delivery, _ in self._ready}
        self._ready.clear()

    def _end(self, attempted: Attempted) -> None:
        self._ended.append(attempted)
        self.wake()

    async def _deliver(self, delivery: Delivery, message: Message) -> None:
        body = orjson.dumps(payload(message, self._link))
        began = monotonic()
        try:
            answer = await self._sender.send(f"{self._prefix}_{delivery.seq}", body)
        except asyncio.CancelledError:
            self._busy.discard(delivery.seq)  # nobody knows whether it has come; it is sent again
            raise
        self._metrics.webhook_tried(self._webhooks.endpoint, answer.outcome, monotonic() - began)
        self._learn(answer, delivery.seq)
        if answer.outcome == "delivered":
            self._end(Attempted(delivery))
            return
        wait_ms = max(delay_ms(delivery.attempts + 1), int(answer.pause_s * 1000))
        problem = answer.problem or answer.outcome
        self._end(Attempted(delivery, problem, self._webhooks.now_ms() + wait_ms))

    def _learn(self, answer: WebhookAnswer, seq: int) -> None:
        """Learn how the endpoint does; what changes is a line in the log."""
        if answer.outcome == "forbidden" and not self._was_forbidden:
            self._was_forbidden = True  # each attempt says it; the log once
            self._log.error("webhooks_forbidden", reason=answer.problem)
        before = self._pace.word
        if not (self._pace.has_tried and self._pace.delivered_ms):
            self._tidied = float("-inf")  # others are to know what was never so before
        if self._pace.met(answer, seq):
            self._recovered = True
        if (now := self._pace.word) == before:
            return
        self._tidied = float("-inf")  # others are to know
        match now:
            case "ok":
                self._log.info("webhooks_go_on")
            case "down":
                self._log.warning("webhooks_wait", reason=answer.problem)
            case "gone":
                self._log.error("webhooks_unwanted", reason=answer.problem)
