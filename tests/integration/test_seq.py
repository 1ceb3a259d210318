"""`seq` rises over all messages that were ever sent, whatever became of the catalog in between."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from storage.catalog.clock import now_ms
from storage.catalog.opening import Catalog, open_catalog
from tests.conftest import url_of
from tests.support.catalogs import delete_event, outbox_of, take
from tests.support.damage import settle
from worker.documents import payload
from worker.publisher import go_on_above
from worker.queue import Queue

JAVASCRIPT = 2**53


async def _tell(catalog: Catalog, queue: Queue, *ms: int) -> list[int]:
    """Messages about deletions; gives the `seq` of each."""
    messages = [
        message for each in ms for message in (await take(catalog, delete_event(each, uuid4()))).messages
    ]
    await queue.messages.send([payload(message) for message in messages])
    return [message.seq for message in messages]


async def test_a_new_catalog_counts_from_one(catalog: Catalog, queue: Queue) -> None:
    await go_on_above(catalog.outbox, queue)

    assert await _tell(catalog, queue, 1) == [1]


async def test_a_catalog_goes_on_where_it_was_also_when_its_messages_were_pruned(
    catalog: Catalog, queue: Queue
) -> None:
    first = await _tell(catalog, queue, 1, 2)
    await catalog.outbox.mark_sent(await outbox_of(catalog))
    await catalog.outbox.prune(now_ms() + 1000)
    await go_on_above(catalog.outbox, queue)

    assert await _tell(catalog, queue, 3) == [max(first) + 1]


async def test_a_restored_backup_goes_on_above_what_was_published_since(
    catalog: Catalog, queue: Queue, tmp_path: Path
) -> None:
    await _tell(catalog, queue, 1)
    settle(tmp_path / "catalog.db")
    backup = Path(shutil.copy(tmp_path / "catalog.db", tmp_path / "backup.db"))
    since = await _tell(catalog, queue, 2, 3, 4)
    await queue.redis.xadd("media:events", {"event": "no message"})

    async with open_catalog(url_of(backup)) as restored:
        await go_on_above(restored.outbox, queue)
        assert await _tell(restored, queue, 5) == [max(since) + 1]


@pytest.mark.parametrize("rebuilt", [True, False])
async def test_without_a_stream_of_messages_the_clock_is_above_all_that_was_counted(
    catalog: Catalog, queue: Queue, *, rebuilt: bool
) -> None:
    if not rebuilt:
        await _tell(catalog, queue, 1)
        await queue.redis.delete("media:events")
    before = now_ms()
    await go_on_above(catalog.outbox, queue, rebuilt=rebuilt)
    await go_on_above(catalog.outbox, queue, rebuilt=rebuilt)

    [seq] = await _tell(catalog, queue, 2)
    assert before < seq < JAVASCRIPT


async def test_a_rebuilt_catalog_goes_on_above_the_newest_message(catalog: Catalog, queue: Queue) -> None:
    await queue.messages.send([{"type": "upload.ready", "seq": 100_000}, {"type": "sweep.stopped", "seq": 0}])
    await go_on_above(catalog.outbox, queue, rebuilt=True)

    assert await _tell(catalog, queue, 1) == [100_001]


@pytest.mark.parametrize("kind", ["upload.status", "upload.started"])
async def test_many_answers_to_questions_hide_no_newer_message(
    catalog: Catalog, queue: Queue, kind: str
) -> None:
    await queue.messages.send([{"type": "upload.ready", "seq": 5000}])
    await queue.messages.send([{"type": kind, "seq": 3}] * 1001)
    await go_on_above(catalog.outbox, queue)

    assert await _tell(catalog, queue, 1) == [5001]


async def test_where_answers_have_trimmed_every_message_the_number_is_above_all_of_them(
    catalog: Catalog, queue: Queue
) -> None:
    small = Queue(queue.redis, "media:uploads", "me", 100)
    await small.messages.send([{"type": "upload.ready", "seq": 5000}])
    await small.messages.answer([{"type": "upload.status", "seq": 3}] * 300, [None] * 300)
    await go_on_above(catalog.outbox, small)

    [seq] = await _tell(catalog, small, 1)
    assert now_ms() - 60_000 < seq <= now_ms() + 60_000


@pytest.mark.parametrize("seq", [2**64 - 1, 2**63, JAVASCRIPT, -1, True, 1.5, "7", None])
async def test_a_number_that_no_message_has_is_left_out_of_account(
    catalog: Catalog, queue: Queue, seq: object
) -> None:
    await queue.messages.send([{"type": "upload.ready", "seq": 41}])
    await queue.redis.xadd("media:events", {"event": orjson.dumps({"seq": seq})})
    await go_on_above(catalog.outbox, queue)

    assert await _tell(catalog, queue, 1) == [42]


async def test_the_number_is_kept_in_the_catalog_and_not_in_the_process(
    catalog: Catalog, tmp_path: Path
) -> None:
    await catalog.outbox.begin_above(500)
    await catalog.outbox.begin_above(400)

    with closing(sqlite3.connect(tmp_path / "catalog.db")) as database:
        query = "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'"
        assert database.execute(query).fetchall() == [(500,)]
