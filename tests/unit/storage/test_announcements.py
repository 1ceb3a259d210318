"""Notifications of a bucket: which of them announce originals that a copy writes."""

from xml.etree.ElementTree import fromstring

import boto3
import pytest

from scripts.s3_server import S3Server
from storage.blobs.announcements import announces_originals, is_told
from storage.blobs.s3_place import S3Place
from storage.errors import BlobsUnavailable


def is_told_of(configured: str) -> bool:
    """Whether somebody is told of originals of the storage at site/."""
    text = f"<NotificationConfiguration>{configured}</NotificationConfiguration>"
    return is_told(fromstring(text), "site")


def queue(event: str, prefix: str) -> str:
    rule = f"<FilterRule><Name>Prefix</Name><Value>{prefix}</Value></FilterRule>"
    filtered = f"<Filter><S3Key>{rule}</S3Key></Filter>"
    return f"<QueueConfiguration><Event>{event}</Event>{filtered}</QueueConfiguration>"


@pytest.mark.parametrize("prefix", ["", "si", "site/uploads/", "site/uploads/2026/"])
@pytest.mark.parametrize("event", ["s3:ObjectCreated:*", "s3:ObjectCreated:Put"])
def test_a_queue_of_what_is_written_is_told(event: str, prefix: str) -> None:
    assert is_told_of(queue(event, prefix))
    assert is_told_of("<EventBridgeConfiguration/>")


@pytest.mark.parametrize(
    "configured",
    ["", queue("s3:ObjectRemoved:*", ""), queue("s3:ObjectCreated:*", "site/variants/")],
    ids=["nothing", "of what is removed", "of another folder"],
)
def test_who_is_told_of_something_else_is_not_told(configured: str) -> None:
    assert not is_told_of(configured)


def test_what_is_no_configuration_is_not_an_empty_one() -> None:
    with pytest.raises(BlobsUnavailable, match="AccessDenied"):
        is_told(fromstring("<Error><Code>AccessDenied</Code></Error>"), "site")


def test_a_server_that_is_asked_says_whether_it_announces(ministack: S3Server) -> None:
    s3 = boto3.client("s3", endpoint_url=ministack.endpoint, region_name="us-east-1")
    s3.create_bucket(Bucket="announcing")
    place = S3Place("announcing", "", ministack.endpoint, "path")
    before = announces_originals(place)
    sqs = boto3.client("sqs", endpoint_url=ministack.endpoint, region_name="us-east-1")
    url = sqs.create_queue(QueueName="announced")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.put_bucket_notification_configuration(
        Bucket="announcing",
        NotificationConfiguration={
            "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
        },
    )

    assert (before, announces_originals(place)) == (False, True)
    s3.close()
    sqs.close()
