"""What other programs write to the stream of messages is never taken for ours, and stops nobody."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from scripts.enqueue import Follower, Sent
from scripts.progress import Progress
from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog
from worker.doctor.broker import check_messages, check_redis
from worker.queue import Queue
from worker.settings import Settings

ID = str(uuid4())
FOREIGN: list[dict[Any, Any]] = [
    {"event": b'{"seq":5,"type":"order.paid"}'},
    {"event": b"no JSON"},
    {"event": b"\xff\xfe"},
    {"event": b""},
    {"event": b'{"seq":5,"id":["a","list"],"type":"upload.ready"}'},
    {"event": b'{"seq":5,"id":{},"type":"upload.ready"}'},
    {"event": b'{"seq":5,"id":7,"type":[]}'},
    {"event": b'{"seq":"5","id":"a","type":"upload.ready"}'},
    {"event": b'{"seq":1e400,"id":"a"}'},
    {"event": b'{"seq":99999999999999999999,"id":"a"}'},
    {"event": b'{"seq":true,"id":"a"}'},
    {"event": b'["seq","id"]'},
    {"event": b"null"},
    {"event": b"[" * 5000},
    {"another": b"field"},
]


async def test_each_foreign_entry_is_counted_as_not_this_catalogs(
    queue: Queue, server: RedisServer, catalog: Catalog
) -> None:
    for fields in FOREIGN:
        await queue.redis.xadd(queue.messages.name, fields)
    await queue.messages.send([{"type": "sweep.stopped", "seq": 0, "id": None}])  # no catalog keeps that

    settings = Settings(redis_url=server.url)
    [found] = await check_messages(settings, await check_redis(settings), catalog)

    assert found.level == "warning"
    assert f"{len(FOREIGN)} of the newest {len(FOREIGN)} on media:events" in found.detail


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"type": ["upload.ready"]},
        {"type": "order.paid"},
        {"type": "upload.ready"},
        {"type": "upload.ready", "variants": ["thumb"]},
        {"type": "upload.ready", "variants": [{"name": "thumb"}]},
        {"type": "upload.failed"},
        {"type": "upload.failed", "error": "broken"},
        {"type": "upload.failed", "error": {"code": [], "message": 7}},
    ],
)
async def test_who_waits_for_an_outcome_waits_on_at_what_is_none(
    queue: Queue, answer: dict[str, Any]
) -> None:
    sent = Sent(Path("a.jpg"), id=ID)
    follower = Follower(queue, "0")
    follower.expect(sent)
    follower.all_sent.set()
    for fields in FOREIGN:
        await queue.redis.xadd(queue.messages.name, fields)
    await queue.messages.send(
        [{"seq": 1, "id": ID, **answer}, {"seq": 2, "id": ID, "type": "upload.deleted"}]
    )

    with Progress("pictures", 1) as progress:
        await follower.run(progress)

    assert sent.error == {"code": "deleted", "message": "The upload was deleted."}
