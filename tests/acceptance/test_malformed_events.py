"""Whatever an app writes to the stream: good events are processed, invalid ones become dead letters."""

import io
import os
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid5

import pytest
from PIL import Image

from tests.support import pictures
from tests.support.workplace import Workplace
from worker.recorder import NO_JSON_BYTES

FIRST = "uploads/good/first.jpg"
FIRST_ID = str(uuid5(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), f"media:{FIRST}"))
MALFORMED: Mapping[str, tuple[Mapping[Any, Any], str, str]] = {
    "not JSON": ({"event": "{"}, "invalid_event", "JSON"),
    "not an object": ({"event": "[1]"}, "invalid_event", "object"),
    "null": ({"event": "null"}, "invalid_event", "object"),
    "source of a wrong type": ({"event": '{"source": 7}'}, "invalid_event", "source"),
    "metadata of a wrong type": (
        {"event": '{"source": "uploads/x", "metadata": []}'},
        "invalid_event",
        "metadata",
    ),
    "id that is no UUID": ({"event": '{"source": "uploads/x", "id": "7"}'}, "invalid_event", "id"),
    "unknown recipe": ({"event": '{"source": "uploads/x", "recipe": "huge"}'}, "unknown_recipe", "huge"),
    "source elsewhere": ({"event": '{"source": "etc/passwd"}'}, "invalid_event", "uploads/"),
    "source that climbs": ({"event": '{"source": "uploads/../x"}'}, "invalid_event", "'..'"),
    "absolute source": ({"event": '{"source": "/uploads/x"}'}, "invalid_event", "uploads/"),
    "NUL in the source": ({"event": r'{"source": "uploads/x\u0000"}'}, "invalid_event", "control"),
    "half a surrogate": ({"event": r'{"source": "uploads/\ud800"}'}, "invalid_event", ""),
    "100 KB": (
        {"event": '{"source": "uploads/x", "metadata": {"x": "' + "x" * 100_000 + '"}}'},
        "invalid_event",
        "65536",
    ),
    "deep": ({"event": "[" * 30_000}, "invalid_event", "JSON"),
    "missing source": ({"event": '{"recipe": "default"}'}, "invalid_event", "source"),
    "unknown field": ({"event": '{"source": "uploads/x", "sauce": 1}'}, "invalid_event", "sauce"),
    "no event field": ({"upload": "uploads/x"}, "invalid_event", "event"),
    "non-UTF-8": ({"event": b'{"source": "uploads/\xff"}'}, "invalid_event", "JSON"),
    "non-UTF-8 field": ({b"\xff\xfe": b"\x00"}, "invalid_event", "event"),
    "another's id": (
        {"event": f'{{"source": "uploads/other.jpg", "id": "{FIRST_ID}"}}'},
        "invalid_event",
        "another source",
    ),
    "a delete of no id": ({"event": '{"delete": "all"}'}, "invalid_event", "delete"),
    "a huge number": ({"event": '{"source": 1e999}'}, "invalid_event", ""),
}


def _place(letter: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(part) for part in letter["stream_id"].split("-"))


@pytest.mark.fault(20)
@pytest.mark.parametrize("batch_size", ["50", "1"])
@pytest.mark.rotating(1)
def test_malformed_events_of_every_kind_between_good_ones_harm_none(
    workplace: Workplace, batch_size: str
) -> None:
    worker = workplace.start("arq", MEDIA_BATCH_SIZE=batch_size)
    good = [workplace.put(FIRST, pictures.small())]
    workplace.send({"source": FIRST})
    for number, (fields, _, _) in enumerate(MALFORMED.values(), start=1):
        workplace.send_raw(fields)
        good.append(workplace.put(f"uploads/good/{number}.jpg", pictures.small(number)))
        workplace.send({"source": good[-1]})

    ends = workplace.await_end_of(*good)

    assert {answer["type"] for answer in ends.values()} == {"upload.ready"}
    assert worker.process.poll() is None
    letters = sorted(workplace.check().letters, key=_place)
    assert len(letters) == len(MALFORMED)
    for letter, (kind, (fields, code, reason)) in zip(letters, MALFORMED.items(), strict=True):
        [(name, value)] = fields.items()
        sent = value.encode() if isinstance(value, str) else value
        assert letter["code"] == code, kind
        assert reason in letter["message"], kind
        kept = sent[:NO_JSON_BYTES] if reason == "JSON" else sent
        assert letter["body"] == kept or name != "event", kind
    _check_answers(workplace, {letter["stream_id"]: letter for letter in letters})


def _check_answers(workplace: Workplace, letters: Mapping[str, Mapping[str, Any]]) -> None:
    answers = [answer for answer in workplace.messages if "entry" in answer]
    silent = {"not JSON", "not an object", "null", "source of a wrong type", "half a surrogate", "deep"}
    silent |= {"missing source", "no event field", "non-UTF-8", "non-UTF-8 field", "a delete of no id"}
    silent |= {"a huge number"}

    assert len(answers) == len(MALFORMED) - len(silent) == len({answer["entry"] for answer in answers})
    for answer in answers:
        letter = letters[answer["entry"]]
        assert (answer["type"], answer["attempts"]) == ("upload.failed", 0)
        assert answer["error"] == {"code": letter["code"], "message": letter["message"]}
        assert answer["source"] or answer["id"]


def test_an_event_that_comes_before_its_file_waits_for_it(workplace: Workplace) -> None:
    worker = workplace.start("arq")
    workplace.send({"source": "uploads/late.jpg"})
    assert worker.await_log("upload_not_ready")["will_retry"] is True
    workplace.put("uploads/late.jpg", pictures.small())

    ends = workplace.await_end_of("uploads/late.jpg")

    assert ends["uploads/late.jpg"]["type"] == "upload.ready"
    assert workplace.check().uploads["uploads/late.jpg"]["attempts"] == 0


def test_a_file_that_is_announced_while_it_is_written_is_ready_when_it_is_whole(workplace: Workplace) -> None:
    worker = workplace.start("media", MEDIA_SETTLE="10")
    whole = pictures.small()
    path = workplace.root / "uploads" / "slow.jpg"
    with path.open("wb", buffering=0) as file:
        file.write(whole[: len(whole) // 2])
        workplace.send({"source": "uploads/slow.jpg"})
        worker.await_log("upload_not_ready")
        file.write(whole[len(whole) // 2 :])

    ends = workplace.await_end_of("uploads/slow.jpg")

    assert ends["uploads/slow.jpg"]["type"] == "upload.ready"
    assert workplace.check().uploads["uploads/slow.jpg"]["attempts"] == 0


def test_a_picture_that_is_ready_before_it_is_whole_has_a_second_message_when_it_is(
    workplace: Workplace,
) -> None:
    workplace.start("media", MEDIA_SETTLE="4")
    encoded = io.BytesIO()
    Image.frombytes("L", (120, 80), os.urandom(120 * 80)).save(encoded, "GIF")
    whole, source = encoded.getvalue(), "uploads/copied.gif"
    half = whole[: len(whole) // 2]
    workplace.put(source, half + bytes(len(whole) - len(half)))
    workplace.send({"source": source})
    first = workplace.await_end_of(source)[source]
    with (workplace.root / source).open("r+b") as file:
        file.write(whole)
    second = workplace.await_end_of(source, times=2)[source]

    assert (first["type"], second["type"]) == ("upload.ready", "upload.ready")
    assert second["seq"] > first["seq"]
    assert second["variants"][0]["key"] != first["variants"][0]["key"]
    workplace.check()


@pytest.mark.fault(37)
@pytest.mark.campaign
def test_an_event_without_a_file_fails_after_a_second_search(workplace: Workplace) -> None:
    workplace.start("arq")
    began = time.monotonic()
    workplace.send({"source": "uploads/never.jpg"})

    ends = workplace.await_end_of("uploads/never.jpg")

    assert ends["uploads/never.jpg"]["error"]["code"] == "source_missing"
    assert 10 <= time.monotonic() - began < 15
    workplace.check()
