"""The two streams of an app and a worker, on which a test writes what a worker would."""

import json
from typing import Any

import redis

A, B = "4a2ca705-03aa-52b8-a8b8-e2aa1374070e", "6f1c2f5e-5a4e-4d55-9a7e-0d3f6f2f1a11"
GROUP = "my-app"


def seqs(heard: Any) -> list[tuple[str, int]]:
    """Of which upload each message that was heard is, and its `seq`."""
    return [(message.id, message.seq) for message in heard]


class TwoStreams:
    """A Redis with both streams, on which the test writes what a worker would."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.redis: Any = redis.Redis.from_url(url, socket_timeout=10)
        self.redis.flushdb()

    def say(self, upload: str, seq: int, kind: str = "ready", **more: Any) -> str:
        """Send a message about an upload; returns its ID in the stream."""
        message = {"type": f"upload.{kind}", "seq": seq, "id": upload, "source": "uploads/a.jpg", **more}
        return str(self.redis.xadd("media:events", {"event": json.dumps(message)}).decode())

    def questions(self) -> dict[str, str]:
        """What was asked: the upload of each question, by its ID."""
        entries = self.redis.xrange("media:uploads")
        asked = {entry.decode(): json.loads(fields[b"event"]) for entry, fields in entries}
        return {entry: event["status"] for entry, event in asked.items() if "status" in event}

    def pending(self) -> int:
        """Messages that the group was given and has not acknowledged."""
        return int(self.redis.xpending("media:events", GROUP)["pending"])

    def settled(self) -> bool:
        """Whether the group has had all there is, and has acknowledged it."""
        [group] = self.redis.xinfo_groups("media:events")
        newest = self.redis.xrevrange("media:events", count=1)
        return bool(group["pending"] == 0 and newest and group["last-delivered-id"] == newest[0][0])
