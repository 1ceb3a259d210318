"""Notifications of a bucket: what they report, and which of two writes of a key counts."""

import json
from typing import Any
from urllib.parse import quote_plus

import orjson
import pytest

from worker.notifications import CreatedObject, NotANotification, Sequencers, as_bad_entry, read_notification
from worker.recorder import MAX_DEAD_LETTER_BYTES


def record(key: str, sequencer: str = "01", name: str = "ObjectCreated:Put", bucket: str = "media") -> Any:
    written = {"key": quote_plus(key), "sequencer": sequencer, "size": 3}
    return {"eventName": name, "s3": {"bucket": {"name": bucket}, "object": written}}


def body(*records: Any) -> str:
    return json.dumps({"Records": records})


def keys(text: str, prefix: str = "") -> list[str]:
    return [one.key for one in read_notification(text, "media", prefix)]


@pytest.mark.parametrize("key", ["uploads/a b+c%20.jpg", "uploads/ü/猫.jpg", 'uploads/"#?&.jpg'])
def test_a_key_comes_out_as_it_was_put(key: str) -> None:
    assert keys(body(record(key))) == [key]


def test_keys_are_relative_to_the_prefix_and_others_are_passed_over() -> None:
    text = body(record("app/uploads/a.jpg"), record("app/variants/ab/cd/v.jpg"), record("uploads/b.jpg"))

    assert keys(text, "app") == ["uploads/a.jpg"]


@pytest.mark.parametrize("name", ["ObjectRemoved:Delete", "ObjectTagging:Put", "LifecycleExpiration:Delete"])
def test_only_what_was_written_counts(name: str) -> None:
    assert keys(body(record("uploads/a.jpg", name=name), record("uploads/b.jpg"))) == ["uploads/b.jpg"]


def test_a_folder_that_a_console_made_is_no_original() -> None:
    assert keys(body(record("uploads/2026/"))) == []


@pytest.mark.parametrize(
    ("time", "written_ms"),
    [
        ("2026-11-29T16:20:00.250Z", 1795969200250),
        ("2026-11-29T16:20:00", 1795969200000),
        ("yesterday", 0),
        (None, 0),
        ("0001-01-01T00:00:00Z", 0),
    ],
)
def test_an_original_is_as_old_as_the_bucket_says(time: object, written_ms: int) -> None:
    [one] = read_notification(body(record("uploads/a.jpg") | {"eventTime": time}), "media")

    assert one.written_ms == written_ms


def test_the_test_of_s3_reports_nothing() -> None:
    assert keys('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "media"}') == []


@pytest.mark.parametrize("extra", [{}, {"Subject": "Amazon S3 Notification", "Signature": "x"}])
def test_what_sns_passes_on_is_read_as_if_it_came_from_s3(extra: dict[str, str]) -> None:
    topic = "arn:aws:sns:us-east-1:000000000000:originals"
    envelope = {"Type": "Notification", "TopicArn": topic, **extra}
    passed_on = json.dumps({**envelope, "Message": body(record("uploads/a.jpg"))})

    assert keys(passed_on) == ["uploads/a.jpg"]
    assert keys(json.dumps({**envelope, "Message": '{"Event": "s3:TestEvent"}'})) == []
    with pytest.raises(NotANotification):
        keys(json.dumps({**envelope, "Message": "hello"}))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"detail-type": "Object Created", "source": "aws.s3", "detail": {}}', "have S3 send"),
        ('{"Type": "SubscriptionConfirmation", "SubscribeURL": "https://sns/"}', "open the SubscribeURL"),
    ],
)
def test_the_reason_of_a_dead_letter_says_what_to_set(text: str, reason: str) -> None:
    with pytest.raises(NotANotification, match=reason):
        keys(text)


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "[]",
        '{"delete": "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"}',
        body({"eventName": "ObjectCreated:Put"}),
        body(record("uploads/a.jpg", bucket="another")),
        body(record("uploads/a.jpg", bucket="another" * 1000)),
        body(record("uploads/" + "é" * 509)),  # 1,026 bytes: S3 has no such key
    ],
)
def test_what_no_bucket_of_ours_has_sent_is_refused(text: str) -> None:
    with pytest.raises(NotANotification) as refused:
        read_notification(text, "media")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["x" * 200_000, '"' * 100_000, "\u0007" * 1000 + "ä€😀" * 40_000])
def test_of_a_long_body_as_much_is_kept_as_a_dead_letter_keeps(text: str) -> None:
    entry = as_bad_entry(text, "it is no JSON")

    assert MAX_DEAD_LETTER_BYTES - 6 < len(orjson.dumps(entry)) <= MAX_DEAD_LETTER_BYTES
    assert text.startswith(entry["sqs_message"])
    assert entry["refused"] == "it is no JSON"


def test_a_body_that_is_no_text_is_kept_without_what_is_none() -> None:
    assert as_bad_entry("a\ud800b", "it is no JSON") == {"refused": "it is no JSON", "sqs_message": "a?b"}


def test_of_several_writes_of_a_key_the_last_one_counts_whatever_their_order() -> None:
    writes = [CreatedObject("uploads/a.jpg", each) for each in ("0055AED6DCD90281E5", "0055", "0055AED7")]
    sequencers = Sequencers()

    [last] = sequencers.newest_of(writes)

    assert last.sequencer == "0055AED7"


def test_a_write_that_is_reported_after_a_newer_one_is_passed_over() -> None:
    sequencers = Sequencers()
    newer, older = CreatedObject("uploads/a.jpg", "0b"), CreatedObject("uploads/a.jpg", "0a")
    sequencers.note(newer)

    assert list(sequencers.newest_of([older])) == []


def test_a_write_that_is_reported_twice_is_passed_over_the_second_time() -> None:
    sequencers = Sequencers()
    write = CreatedObject("uploads/a.jpg", "0b")
    sequencers.note(write)

    assert list(sequencers.newest_of([write, write])) == []
    assert list(sequencers.newest_of([CreatedObject("uploads/a.jpg", "0B01")])) != []


def test_a_write_without_a_sequencer_is_sent_whatever_was_sent_before() -> None:
    sequencers = Sequencers()
    sequencers.note(CreatedObject("uploads/a.jpg", "0b"))
    unknown = CreatedObject("uploads/a.jpg")
    for _ in range(2):
        assert list(sequencers.newest_of([unknown])) == [unknown]
        sequencers.note(unknown)
    assert list(sequencers.newest_of([CreatedObject("uploads/a.jpg", "0a")])) == []


def test_the_sequencers_of_so_many_keys_are_remembered() -> None:
    sequencers = Sequencers(keys=2)
    for number in range(3):
        sequencers.note(CreatedObject(f"uploads/{number}.jpg", "0b"))

    forgotten, known = (CreatedObject(f"uploads/{number}.jpg", "0a") for number in (0, 2))

    assert list(sequencers.newest_of([forgotten, known])) == [forgotten]
