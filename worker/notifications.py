"""Notifications of a bucket: which originals were put there, each key's in the order of its sequencers."""

from bisect import bisect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import unquote_plus

import orjson

from storage.blobs.s3_place import LONGEST_KEY
from storage.keys import UPLOADS
from worker.recorder import MAX_DEAD_LETTER_BYTES

_KEYS_KEPT = 100_000  # whose newest sequencer is remembered
_SHOWN = 100  # characters of what should be the name of a bucket


class NotANotification(Exception):
    """The body of a message that no bucket of ours has sent; the message says why."""


@dataclass(frozen=True)
class CreatedObject:
    """An object that was written: its key below the prefix, a sequencer, and when (ms since 1970).

    The sequencer rises with each write of a key, and is the same in each report of one write. Some servers
    have none. 0: nobody says when it was written.
    """

    key: str
    sequencer: str = ""
    written_ms: int = 0


def read_notification(body: str, bucket: str, prefix: str = "") -> Sequence[CreatedObject]:
    """The originals that a notification reports as written, in the bucket below `prefix`.

    SNS may have passed it on. None for the test that S3 sends when notifications are set up, and for what
    lies elsewhere in the bucket.

    Raises: NotANotification.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotANotification("it is no JSON") from error
    match document:
        case {"Event": "s3:TestEvent"}:
            return []
        case {"Type": "Notification", "TopicArn": _, "Message": str(message)}:
            return read_notification(message, bucket, prefix)  # which SNS has wrapped
        case {"Type": "SubscriptionConfirmation"}:
            raise NotANotification("SNS asks to confirm a subscription: open the SubscribeURL of the message")
        case {"detail-type": _}:
            raise NotANotification(
                "it comes from EventBridge: have S3 send its notifications to the queue itself, or to SNS"
            )
        case {"Records": [*records]}:
            read = [_read(record, bucket) for record in records]
        case _:
            raise NotANotification("it has no Records")
    below = f"{prefix}/" if prefix else ""
    return [
        replace(one, key=one.key.removeprefix(below))
        for one in read
        if one is not None and one.key.startswith(f"{below}{UPLOADS}/") and not one.key.endswith("/")
    ]


def _read(record: object, bucket: str) -> CreatedObject | None:
    """What was written; None where something else has happened."""
    match record:
        case {
            "eventName": str(name),
            "s3": {"bucket": {"name": str(its)}, "object": {"key": str(key), **rest}},
            **more,
        }:
            if its != bucket:
                raise NotANotification(f"it is about the bucket {its[:_SHOWN]}")
            if not name.removeprefix("s3:").startswith("ObjectCreated:"):
                return None
            if len((key := unquote_plus(key)).encode()) > LONGEST_KEY:
                raise NotANotification(f"it has a key of more than {LONGEST_KEY} bytes")
            return CreatedObject(key, str(rest.get("sequencer", "")), _ms(more.get("eventTime")))
    raise NotANotification("a record has no bucket and key")


def _ms(time: object) -> int:
    try:
        read = datetime.fromisoformat(str(time))
    except ValueError:
        return 0
    return max(0, int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1000))


class Sequencers:
    """The newest sequencer of each key lately: reports of a bucket come late, twice, and out of order."""

    def __init__(self, keys: int = _KEYS_KEPT) -> None:
        self._keys = keys
        self._newest: OrderedDict[str, str] = OrderedDict()

    def newest_of(self, objects: Sequence[CreatedObject]) -> Iterator[CreatedObject]:
        """The last write of each key among `objects`, unless that or a newer one has been here before."""
        last: Mapping[str, CreatedObject] = {
            one.key: one for one in sorted(objects, key=lambda one: _padded(one.sequencer))
        }
        for one in last.values():
            if not one.sequencer or _padded(one.sequencer) > self._newest.get(one.key, ""):
                yield one

    def note(self, sent: CreatedObject) -> None:
        """Remember what was sent."""
        if not sent.sequencer:
            return
        self._newest[sent.key] = _padded(sent.sequencer)
        self._newest.move_to_end(sent.key)
        while len(self._newest) > self._keys:
            self._newest.popitem(last=False)


def _padded(sequencer: str) -> str:
    """A sequencer as a text that can be compared: S3 has the shorter of two filled up with zeros."""
    return sequencer.upper().ljust(64, "0")


def as_bad_entry(body: str, reason: str) -> Mapping[str, str]:
    """What a body that is no notification is on the stream: no event, so a dead letter keeps it.

    It has as much of the body as a dead letter keeps: Redis might refuse the whole again and again.
    """
    body = body.encode(errors="replace").decode()[:MAX_DEAD_LETTER_BYTES]

    def entry(characters: int) -> Mapping[str, str]:
        return {"refused": reason, "sqs_message": body[:characters]}

    sizes = range(1, len(body) + 1)
    return entry(bisect(sizes, MAX_DEAD_LETTER_BYTES, key=lambda count: len(orjson.dumps(entry(count)))))
