"""A queue of SQS, and what its messages become: events on the stream, sent before the message is deleted."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from pipelines.backoff import Backoff
from storage.tasks import together
from storage.threads import in_thread
from worker.notifications import CreatedObject, NotANotification, Sequencers, as_bad_entry, read_notification
from worker.queue import Queue, QueueUnavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

_BATCH = 10  # messages: the most that SQS returns
_WAIT_S = 5  # for the first; a listener that is stopped waits as long
_INVISIBLE_S = 120  # in which a received message is deleted, or comes again
_RECEIVERS = 4
_MOST_WAITING = 10_000  # events on the stream: more wait in SQS, which costs Redis no memory
_PAUSE_S = 1.0
_SHOWN = 200  # characters of a body
_REGION = re.compile(r"https?://sqs\.([a-z]+(?:-[a-z0-9]+)+)\.amazonaws\.com")
_REFUSALS = {
    "AccessDenied",
    "AccessDeniedException",
    "AWS.SimpleQueueService.NonExistentQueue",
    "InvalidClientTokenId",
    "InvalidAddress",
    "QueueDoesNotExist",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}


class SqsUnavailable(Exception):
    """SQS did not do what was asked; where it is `refused`, no other try helps."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


@dataclass(frozen=True)
class SqsMessage:
    """A message that was received: its body, and the receipt by which it is deleted."""

    body: str
    receipt: str


class SqsQueue:
    """The queue at `url`. Every verb raises SqsUnavailable."""

    def __init__(self, url: str) -> None:
        self._url = url
        config = Config(connect_timeout=5, read_timeout=_WAIT_S + 10, retries={"total_max_attempts": 2})
        self._client = _named(lambda: boto3.client("sqs", region_name=region_in(url), config=config))

    async def receive(self) -> Sequence[SqsMessage]:
        """The next messages, once there are any, or none after a while."""
        limits = {
            "MaxNumberOfMessages": _BATCH,
            "WaitTimeSeconds": _WAIT_S,
            "VisibilityTimeout": _INVISIBLE_S,
        }
        answer = await _call(lambda: self._client.receive_message(QueueUrl=self._url, **limits))
        return [SqsMessage(one["Body"], one["ReceiptHandle"]) for one in answer.get("Messages", ())]

    async def delete(self, messages: Sequence[SqsMessage]) -> None:
        """Delete messages; those that cannot be come again."""
        entries = [{"Id": str(at), "ReceiptHandle": one.receipt} for at, one in enumerate(messages)]
        answer = await _call(lambda: self._client.delete_message_batch(QueueUrl=self._url, Entries=entries))
        if failed := answer.get("Failed"):
            log.warning("messages_not_deleted", count=len(failed), reason=failed[0].get("Message"))


def region_in(url: str) -> str | None:
    """The region that the URL of a queue of Amazon's names; a request is signed for it."""
    found = _REGION.match(url)
    return found[1] if found else None


async def _call(call: Callable[[], Any]) -> dict[str, Any]:
    answer: dict[str, Any] = await in_thread(_named, call)
    return answer


def _named(call: Callable[[], T]) -> T:
    try:
        return call()
    except (NoCredentialsError, NoRegionError) as error:
        raise SqsUnavailable(f"{error} Set AWS_REGION and the credentials (AWS_*).", refused=True) from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        raise SqsUnavailable(str(error), refused=code in _REFUSALS) from error
    except (BotoCoreError, OSError) as error:
        raise SqsUnavailable(str(error)) from error
    except ValueError as error:
        advice = "AWS_ENDPOINT_URL_SQS and AWS_ENDPOINT_URL must be http://HOST[:PORT] or https://HOST[:PORT]"
        raise SqsUnavailable(f"{error}; {advice}", refused=True) from error


class SqsListener:
    """Sends an event for each original that the notifications in a queue report.

    `owner` returns the ID of the catalog that the bucket belongs to; None where nobody can say.
    """

    def __init__(
        self, sqs: SqsQueue, queue: Queue, bucket: str, prefix: str, owner: Callable[[], str | None]
    ) -> None:
        self._sqs = sqs
        self._queue = queue
        self._owner = owner
        self._catalog_id: str | None = None
        self._bucket = bucket
        self._prefix = prefix
        self._sequencers = Sequencers()
        self.sent = 0
        """How many events were sent."""
        self.foreign = 0
        """How many messages became dead letters."""
        self._sending = asyncio.Lock()  # of two writes of a key the newer one is sent last

    async def run(self) -> None:
        """Listen until it is cancelled; wait while SQS or Redis is unavailable.

        Raises: SqsUnavailable where SQS refuses what a listener does, QueueRefused where Redis does, or where
        the stream is another catalog's.
        """
        backoff = _backoff()
        while not await self._is_done(self.check_stream, backoff):
            pass
        await together(*(self._receive() for _ in range(_RECEIVERS)))

    async def _receive(self) -> None:
        backoff = _backoff()
        while True:
            await self._is_done(self._step_or_pause, backoff)

    async def _step_or_pause(self) -> None:
        if await self._queue.stream.depth() >= _MOST_WAITING:
            await asyncio.sleep(_PAUSE_S)
        else:
            await self.step()

    async def _is_done(self, step: Callable[[], Awaitable[None]], backoff: Backoff) -> bool:
        """Whether the step was done; after one that SQS or Redis did not let be done there was a pause.

        Raises: SqsUnavailable, QueueUnavailable where no other try helps.
        """
        try:
            await step()
        except (SqsUnavailable, QueueUnavailable) as error:
            if _is_final(error):
                raise
            log.warning("listener_paused", reason=str(error))
            await asyncio.sleep(backoff.next_s())
            return False
        backoff.reset()
        return True

    async def check_stream(self) -> None:
        """Check that no other catalog than the bucket's has the stream. Raises: QueueUnavailable."""
        if self._catalog_id is None:
            self._catalog_id = await in_thread(self._owner)
        await self._queue.ownership.check_not_of_another(self._catalog_id)

    async def step(self) -> int:
        """Send the events of the next messages, then delete those; returns how many messages there were.

        Raises: SqsUnavailable, QueueUnavailable; what was not deleted comes again.
        """
        messages = await self._sqs.receive()
        if messages:
            await self.check_stream()
            async with self._sending:
                await self._send(messages)
            await self._sqs.delete(messages)
        return len(messages)

    async def _send(self, messages: Sequence[SqsMessage]) -> None:
        """Send what is good first: what Redis may have against a foreign message does not hold it up."""
        created: list[CreatedObject] = []
        foreign: list[tuple[str, str]] = []
        for message in messages:
            try:
                found = read_notification(message.body, self._bucket, self._prefix)
            except NotANotification as error:
                foreign.append((message.body, str(error)))
                continue
            if not found:
                log.info("message_without_original", body=message.body[:_SHOWN])
            created += found
        await self._announce(created)
        for body, reason in foreign:
            entry = await self._queue.stream.add(as_bad_entry(body, reason))
            self.foreign += 1
            log.warning("foreign_message", reason=reason, entry=entry, body=body[:_SHOWN])
        if foreign and not self.sent:
            log.error("only_foreign_messages", count=self.foreign, reason=foreign[-1][1])

    async def _announce(self, created: Sequence[CreatedObject]) -> None:
        newest = list(self._sequencers.newest_of(created))
        for one in newest:
            await self._queue.stream.announce(one.key, one.written_ms)
            self._sequencers.note(one)
            self.sent += 1
        if outdated := len(created) - len(newest):
            log.info("outdated_notifications", count=outdated)


def _backoff() -> Backoff:
    return Backoff(first_s=0.5, longest_s=30)


def _is_final(error: SqsUnavailable | QueueUnavailable) -> bool:
    """Whether no other try helps."""
    if isinstance(error, SqsUnavailable):
        return error.refused
    return error.refusal is not None and not error.refusal.transient
