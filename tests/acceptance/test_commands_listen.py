"""`media listen sqs`: an original that is put into the bucket becomes variants, and no app sends an event."""

import signal
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import redis

from scripts.s3_server import S3Server
from storage.keys import MARKER
from tests.support import pictures
from tests.support.commands import MEDIA, document, media
from tests.support.deployed_redis import deployed_redis
from tests.support.redis_urls import by_port
from tests.support.s3 import new_place
from tests.support.tcp_proxy import TcpProxy
from tests.support.workplace import Workplace, eventually

SOURCE = "uploads/2026/11/grey cat.jpg"


@pytest.fixture
def queue(ministack: S3Server) -> Iterator[str]:
    """The URL of a queue that has nothing."""
    sqs = boto3.client("sqs", endpoint_url=ministack.endpoint, region_name="us-east-1")
    url: str = sqs.create_queue(QueueName="listened")["QueueUrl"]
    yield url
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def place(workplace: Workplace, ministack: S3Server) -> Workplace:
    """A workplace on a bucket."""
    workplace.settings |= {
        **ministack.env,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_SQS": ministack.endpoint,
        "MEDIA_STORAGE_URL": str(new_place(ministack)),
    }
    return workplace


def put(place: Workplace, ministack: S3Server, queue: str) -> None:
    """Put an original into the bucket, which notifies the queue."""
    prefix = place.settings["MEDIA_STORAGE_URL"].removeprefix("s3://media/")
    s3 = boto3.client("s3", endpoint_url=ministack.endpoint)
    sqs = boto3.client("sqs", endpoint_url=ministack.endpoint, region_name="us-east-1")
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    notify: Any = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket="media", NotificationConfiguration=notify)
    s3.put_object(Bucket="media", Key=f"{prefix}/{SOURCE}", Body=pictures.small(1))
    s3.put_bucket_notification_configuration(Bucket="media", NotificationConfiguration={})


def test_an_original_in_the_bucket_becomes_ready_without_an_event_of_an_app(
    place: Workplace, ministack: S3Server, queue: str
) -> None:
    put(place, ministack, queue)

    ended = document(media(place.env(), "listen", "sqs", queue, "--once", "--json"))
    assert place.run("media", "--burst").returncode == 0

    assert ended == {"sent": 1, "foreign": 0}
    assert place.await_end_of(SOURCE)[SOURCE]["type"] == "upload.ready"


def test_a_listener_needs_only_the_rights_of_an_app_and_the_two_that_the_docs_name(
    place: Workplace, ministack: S3Server, queue: str
) -> None:
    command = [str(MEDIA), "listen", "sqs", queue]
    with deployed_redis() as urls, redis.Redis.from_url(urls["default"]) as admin:
        admin.execute_command("ACL SETUSER app +xlen +get ~media:uploads:catalog")
        admin.acl_log_reset()
        env = place.env(MEDIA_REDIS_URL=urls["app"])
        with subprocess.Popen(command, env=env, cwd=place.home) as listener:
            put(place, ministack, queue)
            eventually(lambda: admin.xlen("media:uploads") == 1)
            listener.terminate()

        assert [one["object"] for one in admin.acl_log() if one["object"] != "client|setinfo"] == []


def test_a_listener_listens_until_sigterm(place: Workplace, ministack: S3Server, queue: str) -> None:
    with subprocess.Popen([MEDIA, "listen", "sqs", queue], env=place.env(), cwd=place.home) as listener:
        put(place, ministack, queue)
        eventually(lambda: place.redis.xlen("media:uploads") == 1)
        listener.send_signal(signal.SIGTERM)

        assert listener.wait(20) == 128 + signal.SIGTERM


def test_a_listener_waits_for_a_redis_that_is_not_there_yet(
    place: Workplace, ministack: S3Server, queue: str
) -> None:
    put(place, ministack, queue)
    proxy = TcpProxy(urlsplit(place.redis_url).port or 0)
    proxy.refuse()
    env = place.env(MEDIA_REDIS_URL=by_port(place.redis_url, proxy.port))
    with subprocess.Popen(
        [MEDIA, "listen", "sqs", queue], env=env, cwd=place.home, stderr=subprocess.PIPE, text=True
    ) as listener:
        assert listener.stderr is not None
        try:
            assert any("listener_paused" in line for line in listener.stderr)
            proxy.accept()
            eventually(lambda: place.redis.xlen("media:uploads") == 1)
        finally:
            listener.terminate()
    proxy.close()


def test_only_a_bucket_is_listened_to(workplace: Workplace) -> None:
    ended = media(workplace.env(), "listen", "sqs", "http://127.0.0.1:1/queue")

    assert ended.returncode == 2
    assert "names no bucket" in ended.stderr


def test_a_queue_that_is_not_there_is_an_error_with_its_reason(place: Workplace, ministack: S3Server) -> None:
    ended = media(place.env(), "listen", "sqs", f"{ministack.endpoint}/000000000000/none")

    assert ended.returncode == 1
    assert "SQS:" in ended.stderr


def test_the_stream_of_another_catalog_is_refused(place: Workplace, ministack: S3Server, queue: str) -> None:
    prefix = place.settings["MEDIA_STORAGE_URL"].removeprefix("s3://media/")
    s3 = boto3.client("s3", endpoint_url=ministack.endpoint)
    s3.put_object(Bucket="media", Key=f"{prefix}/{MARKER}", Body=b'{"catalog": "ours"}')
    place.redis.set("media:uploads:catalog", "another's")

    for option in ([], ["--once"]):
        ended = media(place.env(), "listen", "sqs", queue, *option)
        assert ended.returncode == 1
        assert "belongs to the catalog another's" in ended.stderr
