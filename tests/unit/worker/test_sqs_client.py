"""The client of SQS: where its settings come from, and how mistakes in them are said."""

import boto3
import pytest

from worker.sqs import SqsQueue, SqsUnavailable, region_in


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/123456789012/q", "eu-central-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q", "cn-north-1"),
        ("https://queue.amazonaws.com/123456789012/q", None),
        ("http://127.0.0.1:7555/123456789012/q", None),
        ("http://127.0.0.1:7555/sqs.eu-central-1.amazonaws.com/q", None),
    ],
)
def test_the_region_of_a_queue_is_that_of_its_url(url: str, region: str | None) -> None:
    assert region_in(url) == region


def test_an_endpoint_without_a_scheme_is_refused_with_the_variable_s_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "127.0.0.1:7555")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with pytest.raises(SqsUnavailable, match=r"Invalid endpoint: 127.0.0.1:7555; AWS_ENDPOINT_URL_SQS "):
        SqsQueue("https://sqs.eu-central-1.amazonaws.com/123456789012/q")
