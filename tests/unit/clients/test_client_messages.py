"""What the Python client makes of messages and answers, and of what other programs write."""

from pathlib import Path
from typing import Any

import pytest

from media_worker_client.cursors import FileCursor, MemorySeqs
from media_worker_client.messages import parse_message, parse_upload, read_document

THUMB = {"name": "thumb", "key": "variants/ab/cd/abcd.jpg", "width": 150, "height": 100, "bytes": 4211}
LARGE = {**THUMB, "name": "large", "key": "variants/12/34/1234.jpg", "width": 480, "height": 320}
READY: dict[str, Any] = {
    "type": "upload.ready",
    "seq": 17,
    "id": "4a2ca705-03aa-52b8-a8b8-e2aa1374070e",
    "source": "uploads/2026/11/cat.jpg",
    "metadata": {"post": 7},
    "original": {"width": 480, "height": 320},
    "variants": [THUMB, LARGE],
    "srcset": "variants/ab/cd/abcd.jpg 150w, variants/12/34/1234.jpg 480w",
}
ANSWER = {**READY, "type": "upload.status", "state": "ready", "entry": "1-1"}


def test_a_ready_upload_has_its_variants_by_name() -> None:
    message = parse_message(READY, "5-0")

    assert message is not None
    assert (message.type, message.state, message.seq, message.entry_id) == (
        "upload.ready",
        "ready",
        17,
        "5-0",
    )
    thumb = message.variant("thumb")
    assert thumb is not None
    assert (thumb.key, thumb.url, thumb.width, thumb.bytes) == (THUMB["key"], None, 150, 4211)
    assert message.variant("huge") is None
    assert message.raw is READY


def test_variants_have_links_where_the_srcset_has_some() -> None:
    link = "https://media.example.com/files/"
    message = parse_message({**READY, "srcset": f"{link}{LARGE['key']} 480w"})

    assert message is not None
    assert [variant.url for variant in message.variants] == [f"{link}{one['key']}" for one in (THUMB, LARGE)]


def test_an_answer_that_tells_an_outcome_is_the_message_that_was_missed() -> None:
    answered = parse_message(ANSWER)

    assert answered is not None
    assert (answered.type, answered.seq, answered.entry) == ("upload.ready", 17, None)
    under_way = parse_message({**ANSWER, "state": "processing"})
    assert under_way is not None
    assert (under_way.type, under_way.state) == ("upload.status", "processing")


def test_a_refused_event_is_told_from_a_failed_upload() -> None:
    refused = {"type": "upload.failed", "seq": 3, "id": None, "source": None, "entry": "1-1", "metadata": {}}
    message = parse_message({**refused, "error": {"code": "invalid_event", "message": "source: is missing"}})

    assert message is not None
    assert message.error is not None
    assert (message.entry, message.error.code) == ("1-1", "invalid_event")


def test_an_upload_is_read_from_an_answer() -> None:
    upload = parse_upload({**ANSWER, "attempts": 1, "recipe": "default", "error": None})

    assert (upload.state, upload.attempts, upload.recipe, upload.error) == ("ready", 1, "default", None)
    assert [variant.name for variant in upload.variants] == ["thumb", "large"]


@pytest.mark.parametrize("body", [None, b"", b"\xff", b"[]", b"17", b"[" * 100_000, b'{"a": '])
def test_what_is_no_object_of_json_is_no_message(body: bytes | None) -> None:
    assert read_document(body) is None


@pytest.mark.parametrize(
    "odd",
    [
        {"seq": -1},
        {"seq": True},
        {"seq": 2**60},
        {"seq": "17"},
        {"id": 5, "metadata": [], "variants": [None, {"name": 5}], "srcset": 9, "error": "no", "original": 7},
    ],
)
def test_odd_fields_count_as_absent(odd: dict[str, Any]) -> None:
    message = parse_message({**READY, **odd})

    assert message is not None
    if "seq" in odd:
        assert message.seq == 0
    else:
        assert (message.id, message.metadata, message.srcset, message.error) == (None, {}, "", None)
    assert parse_message({**READY, "type": 7}) is None


def test_a_cursor_in_a_file_outlives_its_process(tmp_path: Path) -> None:
    path = tmp_path / "media.cursor"
    assert FileCursor(path).load() is None
    FileCursor(path).save("17-0")
    FileCursor(path).save("18-3")

    assert FileCursor(path).load() == "18-3"
    assert [file.name for file in tmp_path.iterdir()] == ["media.cursor"]
    path.write_text("")
    assert FileCursor(path).load() is None


def test_seqs_in_memory_are_bounded() -> None:
    seqs = MemorySeqs(uploads=2)
    for number, upload in enumerate("abca", 1):
        seqs.set(upload, number)

    assert [seqs.get(upload) for upload in "abc"] == [4, None, 3]
