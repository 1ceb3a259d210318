"""Notifications in a queue of SQS become events on the stream, each before its message is deleted."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from scripts.s3_server import S3Server
from worker.queue import Queue, QueueUnavailable
from worker.sqs import SqsListener, SqsQueue, SqsUnavailable

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
    return SqsListener(SqsQueue(url), queue.stream, "media", "")


def notification(key: str, sequencer: str) -> str:
    written = {"key": key, "sequencer": sequencer}
    s3 = {"bucket": {"name": "media"}, "object": written}
    return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": s3}]})


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


async def test_a_foreign_message_is_kept_as_a_bad_entry_of_the_stream(
    sqs: Any, url: str, listener: SqsListener, queue: Queue
) -> None:
    sqs.send_message(QueueUrl=url, MessageBody='{"delete": "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"}')

    assert await listener.step() == 1
    [entry] = await events(queue)
    assert entry["sqs_message"].startswith('{"delete"')
    assert left(sqs, url) == 0


async def test_a_message_whose_event_cannot_be_sent_stays_in_the_queue(
    sqs: Any, url: str, listener: SqsListener, queue: Queue
) -> None:
    await queue.redis.set("media:uploads", "no stream")
    sqs.send_message(QueueUrl=url, MessageBody=notification("uploads/a.jpg", "0001"))

    with pytest.raises(QueueUnavailable):
        await listener.step()
    assert left(sqs, url) == 1


async def test_a_queue_that_is_not_there_is_refused(aws: S3Server, queue: Queue) -> None:
    listener = SqsListener(SqsQueue(f"{aws.endpoint}/000000000000/none"), queue.stream, "media", "")

    with pytest.raises(SqsUnavailable) as refused:
        await listener.run()
    assert refused.value.refused
