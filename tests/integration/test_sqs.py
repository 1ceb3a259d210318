"""Notifications in a queue of SQS become events on the stream, each before its message is deleted."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from structlog.testing import capture_logs

from scripts.redis_server import RedisServer
from scripts.s3_server import S3Server
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from tests.support.catalogs import upload, work
from tests.support.redis_urls import as_user
from worker.queue import Queue, QueueRefused, QueueUnavailable, StreamMismatch, connect
from worker.recorder import Recorder
from worker.sqs import SqsListener, SqsQueue, SqsUnavailable
from worker.upload_ids import default_id

SOURCE = "uploads/2026/11/grey cat.jpg"


@pytest.fixture
def aws(ministack: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The environment of a client of ministack."""
    for name, value in ministack.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", ministack.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return ministack


@pytest.fixture
def sqs(aws: S3Server) -> Any:
    return boto3.client("sqs")


@pytest.fixture
def url(sqs: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new queue, to which the bucket sends its notifications."""
    made: str = sqs.create_queue(QueueName="notifications")["QueueUrl"]
    yield made
    sqs.delete_queue(QueueUrl=made)


@pytest.fixture
async def listener(url: str, queue: Queue) -> SqsListener:
    return SqsListener(SqsQueue(url), queue, "media", "", lambda: "ours")


def notification(key: str, sequencer: str, written: datetime | None = None) -> str:
    s3 = {"bucket": {"name": "media"}, "object": {"key": key, "sequencer": sequencer}}
    time = written.isoformat() if written else None
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "eventTime": time, "s3": s3}]})


async def events(queue: Queue) -> list[Any]:
    return [json.loads(fields[b"event"]) for _, fields in await queue.redis.xrange("media:uploads")]


def left(sqs: Any, url: str) -> int:
    """How many messages are in the queue, received or not."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(map(int, found.values()))


async def test_an_original_that_is_put_into_the_bucket_is_announced(
    sqs: Any, url: str, listener: SqsListener, queue: Queue
) -> None:
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3 = boto3.client("s3")
    configured = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket="media", NotificationConfiguration={"QueueConfigurations": [configured]}
    )
    s3.put_object(Bucket="media", Key=SOURCE, Body=b"picture")
    s3.put_object(Bucket="media", Key="variants/ab/cd/v.jpg", Body=b"a worker's own")

    while left(sqs, url):
        await listener.step()

    assert await events(queue) == [{"source": SOURCE}]


async def test_two_writes_of_a_key_are_one_event_and_a_late_report_of_the_first_is_none(
    sqs: Any, url: str, listener: SqsListener, queue: Queue
) -> None:
    for sequencer in ("0002", "0001"):
        sqs.send_message(QueueUrl=url, MessageBody=notification("uploads/a.jpg", sequencer))
    while left(sqs, url):
        await listener.step()
    sqs.send_message(QueueUrl=url, MessageBody=notification("uploads/a.jpg", "0001"))
    await listener.step()

    assert await events(queue) == [{"source": "uploads/a.jpg"}]
    assert left(sqs, url) == 0


async def test_a_repeated_notification_does_not_undo_a_deletion_and_a_new_original_does(
    sqs: Any, url: str, queue: Queue, catalog: Catalog
) -> None:
    recorder = Recorder(queue, catalog.intake, catalog.epochs, frozenset({"default"}))
    await recorder.begin_anew()

    async def state_after(sequencer: str, written: datetime) -> State:
        """What becomes of the upload when another listener reports this write."""
        listener = SqsListener(SqsQueue(url), queue, "media", "", lambda: "ours")
        sqs.send_message(QueueUrl=url, MessageBody=notification("uploads/a.jpg", sequencer, written))
        await listener.step()
        await recorder.record(await queue.stream.read(10, None))
        return (await upload(catalog, default_id("uploads/a.jpg"))).state

    before = datetime.now(UTC)
    assert await state_after("0a", before) is State.QUEUED
    await queue.stream.add({"delete": str(default_id("uploads/a.jpg"))})
    await recorder.record(await queue.stream.read(10, None))
    await work(catalog, default_id("uploads/a.jpg"))

    assert await state_after("0a", before) is State.DELETED
    assert await state_after("0b", datetime.now(UTC) + timedelta(seconds=1)) is State.QUEUED


async def test_a_foreign_message_is_kept_as_a_bad_entry_of_the_stream(
    sqs: Any, url: str, listener: SqsListener, queue: Queue
) -> None:
    sqs.send_message(QueueUrl=url, MessageBody='{"delete": "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"}')

    with capture_logs() as logs:
        assert await listener.step() == 1
    assert [line["event"] for line in logs] == ["foreign_message", "only_foreign_messages"]
    assert listener.foreign == 1
    [entry] = await events(queue)
    assert entry["sqs_message"].startswith('{"delete"')
    assert left(sqs, url) == 0


async def test_a_foreign_message_that_redis_would_refuse_is_kept_in_part_and_holds_nothing_up(
    sqs: Any, url: str, listener: SqsListener, queue: Queue
) -> None:
    await queue.redis.config_set("proto-max-bulk-len", "1mb")
    sqs.send_message(QueueUrl=url, MessageBody='"' * 600_000)  # as JSON it has twice as many bytes
    sqs.send_message(QueueUrl=url, MessageBody=notification("uploads/a.jpg", "0001"))

    while left(sqs, url):
        await listener.step()

    assert (listener.sent, listener.foreign) == (1, 1)
    good, foreign = sorted(await events(queue), key=len)
    assert good == {"source": "uploads/a.jpg"}
    assert foreign["sqs_message"].strip('"') == ""


async def test_a_message_whose_event_cannot_be_sent_stays_in_the_queue(
    sqs: Any, url: str, listener: SqsListener, queue: Queue
) -> None:
    await queue.redis.set("media:uploads", "no stream")
    sqs.send_message(QueueUrl=url, MessageBody=notification("uploads/a.jpg", "0001"))

    with pytest.raises(QueueUnavailable):
        await listener.step()
    assert left(sqs, url) == 1


async def test_a_queue_that_is_not_there_is_refused(aws: S3Server, queue: Queue) -> None:
    listener = SqsListener(SqsQueue(f"{aws.endpoint}/000000000000/none"), queue, "media", "", lambda: "ours")

    with pytest.raises(SqsUnavailable) as refused:
        await listener.run()
    assert refused.value.refused


async def test_the_stream_of_another_catalog_gets_nothing_also_where_it_became_that_later(
    sqs: Any, url: str, queue: Queue
) -> None:
    owners = iter([None, "ours"])  # the bucket is nobody's at first
    listener = SqsListener(SqsQueue(url), queue, "media", "", lambda: next(owners))
    await queue.redis.set("media:uploads:catalog", "another")
    await listener.check_stream()
    sqs.send_message(QueueUrl=url, MessageBody=notification("uploads/a.jpg", "0001"))
    for listening in (listener.step, listener.run):
        with pytest.raises(StreamMismatch, match="another"):
            await listening()

    assert await events(queue) == []
    assert left(sqs, url) == 1


async def test_a_redis_that_refuses_for_good_ends_the_listener(
    url: str, server: RedisServer, queue: Queue
) -> None:
    await queue.redis.acl_setuser("app", enabled=True, nopass=True, keys=["*"], commands=["+xadd", "+select"])
    refused = connect(as_user(server.url, "app", "x"), "jobs")
    listener = SqsListener(
        SqsQueue(url), Queue(refused, "media:uploads", "me", 1000), "media", "", lambda: None
    )

    async with asyncio.timeout(10):
        with pytest.raises(QueueRefused, match="XLEN"):
            await listener.run()
    await refused.aclose(close_connection_pool=True)
