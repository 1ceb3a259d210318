"""The fake of the Python client: what an app's tests have instead of Redis and a worker."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from media_worker_client import AsyncMediaClient, AsyncOutbox, MediaClient, Message, Outbox, upload_id
from media_worker_client.fake import AsyncFakeMedia, FakeMedia


def test_an_announced_upload_is_ready_at_once_and_listeners_hear_of_it() -> None:
    media = FakeMedia(url="http://testserver/files/")
    heard: list[Message] = []
    media.listen(heard.append, group="my-app")

    upload = media.announce("uploads/cat.jpg", metadata={"post": 7})
    status = media.status(upload)
    assert heard == []
    assert media.deliver() == heard

    assert status is not None
    assert (status.state, status.srcset) == ("ready", heard[0].srcset)
    assert (heard[0].type, heard[0].id, heard[0].metadata) == ("upload.ready", upload, {"post": 7})
    assert media.sent == [{"source": "uploads/cat.jpg", "id": upload, "metadata": {"post": 7}}]
    assert [one.url for one in heard[0].variants] == [
        f"http://testserver/files/{v.key}" for v in heard[0].variants
    ]
    assert media.deliver() == []


def test_the_files_of_variants_are_there_and_of_the_size_that_is_told(tmp_path: Path) -> None:
    media = FakeMedia(tmp_path)
    media.announce("uploads/cat.jpg")
    [message] = media.deliver()

    for variant in message.variants:
        file = tmp_path / variant.key
        with Image.open(file) as picture:
            assert (picture.size, file.stat().st_size) == ((variant.width, variant.height), variant.bytes)


def test_an_upload_fails_as_the_test_says_until_it_says_otherwise() -> None:
    media = FakeMedia()
    media.fail("uploads/cat.jpg", "too_many_pixels")
    media.announce("uploads/cat.jpg")
    media.succeed("uploads/cat.jpg")
    media.announce("uploads/cat.jpg")
    failed, ready = media.deliver()

    assert failed.error is not None
    assert (failed.type, failed.error.code) == ("upload.failed", "too_many_pixels")
    assert (ready.type, ready.seq > failed.seq) == ("upload.ready", True)


def test_a_replaced_upload_is_deleted_after_the_new_one_is_ready() -> None:
    media = FakeMedia()
    old = media.announce("uploads/a.jpg")
    new = media.replace(old, "uploads/b.jpg")
    media.delete(new, original=True)
    told = media.deliver()

    kinds = [("upload.ready", old), ("upload.ready", new), ("upload.deleted", old), ("upload.deleted", new)]
    assert [(message.type, message.id) for message in told] == kinds
    assert told[1].raw["replaces"] == old
    assert told[2].raw["replaced_by"] == new
    gone = media.status(new)
    assert gone is not None
    assert gone.state == "deleted"
    assert media.status(upload_id("uploads/unknown.jpg")) is None


def test_a_message_waits_on_where_the_handler_of_an_app_fails() -> None:
    media = FakeMedia()
    calls: list[Message] = []

    def handle(message: Message) -> None:
        calls.append(message)
        if len(calls) == 1:
            raise RuntimeError("the database is away")

    media.listen(handle)
    media.announce("uploads/a.jpg")
    with pytest.raises(RuntimeError, match="database"):
        media.deliver()

    assert media.deliver() == calls[:1]


def test_of_the_listeners_of_a_group_one_has_each_message() -> None:
    media = FakeMedia()
    heard: dict[str, list[Message]] = {name: [] for name in ("first", "last", "other", "alone", "alone too")}
    for name, group in (("first", "my-app"), ("last", "my-app"), ("other", "other"), ("alone", None)):
        media.listen(heard[name].append, group=group)
    media.listen(heard["alone too"].append)
    media.announce("uploads/a.jpg")
    media.deliver()

    told = {name: len(messages) for name, messages in heard.items()}
    assert told == {"first": 0, "last": 1, "other": 1, "alone": 1, "alone too": 1}


def test_what_the_worker_would_refuse_is_refused_by_the_fake() -> None:
    with pytest.raises(ValueError, match="begins with uploads/"):
        FakeMedia().announce("cat.jpg")


async def test_the_asynchronous_fake_awaits_handlers() -> None:
    media = AsyncFakeMedia()
    heard: list[str] = []

    async def handle(message: Message) -> None:
        heard.append(message.type)

    await media.listen(handle, group="my-app")
    media.fail("uploads/dog.jpg")
    old = await media.announce("uploads/cat.jpg")
    await media.replace(old, "uploads/dog.jpg")
    await media.delete(old)
    await media.deliver()

    assert heard[:2] == ["upload.ready", "upload.failed"]
    assert (await media.limits())["max_bytes"] == 10_485_760
    assert len(media.sent) == 3


@pytest.mark.parametrize("verb", ["announce", "replace", "delete", "send", "status", "limits"])
def test_the_clients_and_the_fake_take_the_same_words(verb: str) -> None:
    usual = inspect.signature(getattr(MediaClient, verb)).parameters

    assert inspect.signature(getattr(AsyncMediaClient, verb)).parameters == usual
    assert inspect.signature(getattr(FakeMedia, verb)).parameters == usual


def test_an_outbox_sends_what_is_pending_ever_more_seldom() -> None:
    media = FakeMedia()
    outbox = Outbox(media, lambda: [{"source": "uploads/a.jpg"}], every=0)
    slow = Outbox(
        media, lambda: [{"source": "uploads/b.jpg"}, {"delete": upload_id("uploads/c.jpg")}], every=60
    )

    assert [outbox.flush(), outbox.flush()] == [1, 1]
    assert [slow.flush(), slow.flush()] == [2, 0]
    assert [event.get("source") for event in media.sent[:3]] == ["uploads/a.jpg"] * 2 + ["uploads/b.jpg"]


def test_an_outbox_sends_what_is_behind_an_event_that_no_worker_takes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    media = FakeMedia()
    bad: list[dict[str, Any]] = [
        {"source": "elsewhere/a.jpg"},
        {"delete": "7"},
        {"source": "uploads/b.jpg", "size": 9},
        {},
        {"source": None},
        {"delete": 7},
        {"source": "uploads/b.jpg", "id": 7},
        {"source": "uploads/b.jpg", "replaces": 7},
        {"source": "uploads/b.jpg", "recipe": 7},
        {"source": "uploads/b.jpg", "owner": 42},
        {"source": "uploads/b.jpg", "metadata": [["post", 7]]},
    ]

    assert Outbox(media, lambda: [*bad, {"source": "uploads/c.jpg"}]).flush() == 1
    assert [event["source"] for event in media.sent] == ["uploads/c.jpg"]
    passed_over: list[Any] = [record.args for record in caplog.records]
    assert [event for event, _ in passed_over] == bad


async def test_an_asynchronous_outbox_goes_on_after_an_error() -> None:
    media = AsyncFakeMedia()
    rounds = 0

    async def pending() -> list[dict[str, str]]:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise RuntimeError("the database is away")
        return [{"source": "uploads/a.jpg"}]

    await AsyncOutbox(media, pending, every=0.01).run(stop=lambda: bool(media.sent))

    assert [event["source"] for event in media.sent] == ["uploads/a.jpg"]
