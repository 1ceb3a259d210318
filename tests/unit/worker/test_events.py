"""The wire contract: which events are taken, how mistakes are reported, which messages apps receive."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from structlog.testing import capture_logs

from storage.catalog.records import (
    About,
    DeletionRequested,
    Message,
    Original,
    OriginalFate,
    State,
    StatusAsked,
    StoredVariant,
    StreamId,
    UploadRequested,
)
from tests.support.catalogs import THUMBHASH
from worker.documents import payload
from worker.events import (
    MAX_EVENT_BYTES,
    MAX_METADATA_BYTES,
    MAX_READ_BYTES,
    InvalidEvent,
    event_schema,
    parse_event,
    parse_stream_id,
    read_about,
)
from worker.upload_ids import default_id

SCHEMA = Path(__file__).parents[3] / "docs" / "event.schema.json"
RECIPES = frozenset({"default", "posters"})
CAT = "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"


def parsed(event: object) -> UploadRequested | DeletionRequested | StatusAsked:
    body = event if isinstance(event, bytes) else orjson.dumps(event)
    return parse_event(body, StreamId(1, 2), RECIPES)


def refusal(event: object) -> tuple[str, str]:
    with pytest.raises(InvalidEvent) as refused:
        parsed(event)
    return refused.value.code, str(refused.value)


# -- what is taken


def test_an_event_needs_only_a_source() -> None:
    assert parsed({"source": "uploads/2026/11/cat.jpg"}) == UploadRequested(
        StreamId(1, 2), UUID(CAT), "uploads/2026/11/cat.jpg", "default", {}
    )


def test_everything_that_an_event_may_say_is_taken_as_it_is() -> None:
    metadata = {"owner": "42", "tags": ["a", None, 1.5, True], "nested": {"ü": "😺"}}
    upload_id = "6f1c0000-0000-4000-8000-000000000001"
    event = {"source": "uploads/a", "id": upload_id, "recipe": "posters", "metadata": metadata}

    assert parsed(event) == UploadRequested(StreamId(1, 2), UUID(upload_id), "uploads/a", "posters", metadata)


@pytest.mark.fault(23)
def test_two_events_for_one_source_are_one_upload() -> None:
    assert parsed({"source": "uploads/a"}).id == parsed({"source": "uploads/a"}).id == default_id("uploads/a")


@pytest.mark.parametrize(
    ("event", "original"),
    [
        ({"delete": CAT}, False),
        ({"delete": CAT, "original": False}, False),
        ({"delete": CAT, "original": True}, True),
    ],
)
def test_a_delete_event_names_an_id_and_maybe_the_original(event: object, *, original: bool) -> None:
    assert parsed(event) == DeletionRequested(StreamId(1, 2), UUID(CAT), original)


def test_an_event_may_name_the_upload_in_whose_place_it_comes() -> None:
    taken = parsed({"source": "uploads/a", "replaces": CAT})

    assert isinstance(taken, UploadRequested)
    assert (taken.replaces, taken.id) == (UUID(CAT), default_id("uploads/a"))


def test_a_question_names_an_id_and_its_answer_the_entry() -> None:
    assert parsed({"status": CAT}) == StatusAsked(StreamId(1, 2), UUID(CAT), "1-2")


@pytest.mark.parametrize("owner", ["42", "\N{SNOWMAN}" * 64, "a/b c"])
def test_an_event_may_say_whose_the_upload_is(owner: str) -> None:
    taken = parsed({"source": "uploads/a", "owner": owner})

    assert isinstance(taken, UploadRequested)
    assert taken.owner == owner


@pytest.mark.parametrize("owner", ["", "x" * 65, "a\nb", "a\x00", "a\x85b", 42, ["x"]])
def test_an_owner_is_a_text_of_1_to_64_characters_without_control_characters(owner: object) -> None:
    code, why = refusal({"source": "uploads/a", "owner": owner})

    assert code == "invalid_event"
    assert why.startswith("owner: ")


TRACED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize("event", [{"source": "uploads/a"}, {"delete": CAT}, {"status": CAT}])
def test_an_event_may_name_the_trace_that_it_belongs_to(event: Mapping[str, Any]) -> None:
    assert parsed({**event, "traceparent": TRACED}).traceparent == TRACED


@pytest.mark.parametrize(
    "wrong", ["", "x", "mary@example.com", 7, [], {}, False, TRACED.upper(), TRACED * 99]
)
def test_a_wrong_traceparent_is_left_out_with_one_warning_and_never_a_refusal(wrong: object) -> None:
    with capture_logs() as logged:
        taken = parsed({"source": "uploads/a", "traceparent": wrong})

    assert taken == parsed({"source": "uploads/a"})
    assert [(line["event"], line["log_level"]) for line in logged] == [("traceparent_dropped", "warning")]
    assert logged[0]["stream_id"] == "1-2"
    assert "mary" not in str(logged)


def test_no_traceparent_is_no_mistake() -> None:
    with capture_logs() as logged:
        taken = parsed({"source": "uploads/a", "traceparent": None})

    assert (taken.traceparent, logged) == (None, [])


SOURCES = [
    "uploads/ü 猫 😺.jpg",
    "uploads/-rf",
    "uploads/...",
    "uploads/a'b\"c",
    "uploads/" + "é" * 100 + "/a",
]


@pytest.mark.parametrize("source", [*SOURCES, "uploads/" + "/".join(["a" * 250] * 4)])
def test_unusual_names_are_names(source: str) -> None:
    event = parsed({"source": source})

    assert isinstance(event, UploadRequested)
    assert event.source == source


# -- what is refused, and with which reason


def nested(depth: int) -> bytes:
    return b'{"source":"uploads/a","metadata":{"a":' + b"[" * depth + b"]" * depth + b"}}"


MISTAKES: Mapping[str, tuple[object, str]] = {
    "not json": (b"{", "not JSON: unexpected end of data at line 1, column 2"),
    "a word": (b"foo=bar", "not JSON: invalid literal at line 1, column 1"),
    "a name without quotes": (b"{\n source: 1}", "not JSON: unexpected character at line 2, column 2"),
    "nothing": (b"", "not JSON: it is empty"),
    "spaces": (b" \n", "not JSON: it is empty"),
    "not utf-8": (b'{"source": "uploads/\xff"}', "not JSON: byte 21 is no UTF-8"),
    "half a surrogate": (b'{"source": "uploads/\\ud800"}', "not JSON"),
    "not a number": (b'{"source": "uploads/a", "metadata": {"x": NaN}}', "not JSON"),
    "a list": ([1], "not a JSON object"),
    "a string": ("uploads/a", "not a JSON object"),
    "null": (None, "not a JSON object"),
    "no source": ({}, "source: Field required"),
    "an unknown field": ({"source": "uploads/a", "soucre": 1}, "soucre: there is no such field"),
    "a source that is a number": ({"source": 1}, "source: Input should be a valid string"),
    "a source elsewhere": ({"source": "etc/passwd"}, "source: source must start with uploads/"),
    "a source that climbs": ({"source": "uploads/../a"}, "source: a key must not contain an empty, '.' or"),
    "a source that is a folder": (
        {"source": "uploads/a/"},
        "source: a key must not contain an empty, '.' or",
    ),
    "a source with a control": ({"source": "uploads/\x1b[31m"}, "source: a key must not contain control"),
    "a source with a zero": ({"source": "uploads/a\0"}, "source: a key must not contain control"),
    "a long source": ({"source": "uploads/" + "/a" * 600}, "source: String should have at most 1024"),
    "a long source in bytes": (
        {"source": "uploads/" + "é/é" * 250},
        "source: source has more than 1024 bytes",
    ),
    "a long name": ({"source": "uploads/" + "a" * 256}, "source: each segment of a key has at most 255"),
    "an id that is none": ({"source": "uploads/a", "id": "cat"}, "id: Input should be a valid UUID"),
    "an id that is a number": ({"source": "uploads/a", "id": 7}, "id: must be a string"),
    "a recipe that is none": (
        {"source": "uploads/a", "recipe": None},
        "recipe: Input should be a valid string",
    ),
    "metadata that is a list": (
        {"source": "uploads/a", "metadata": []},
        "metadata: Input should be a valid dict",
    ),
    "much metadata": (
        {"source": "uploads/a", "metadata": {"a": "x" * MAX_METADATA_BYTES}},
        f"metadata: has at most {MAX_METADATA_BYTES} bytes as JSON, this one has {MAX_METADATA_BYTES + 8}",
    ),
    "deep metadata": (nested(300), "metadata: is nested too deeply"),
    "very deep metadata": (nested(1500), "not JSON"),
    "a large event": (b" " * MAX_EVENT_BYTES + b"{}", f"at most {MAX_EVENT_BYTES} bytes, this one has"),
    "a delete of nothing": ({"delete": None}, "delete: must be a string"),
    "a delete of no id": ({"delete": "cat"}, "delete: Input should be a valid UUID"),
    "a delete with a source": (
        {"delete": CAT, "source": "uploads/a"},
        "source: there is no such field",
    ),
    "an upload in its own place": (
        {"source": "uploads/2026/11/cat.jpg", "replaces": CAT},
        "replaces: an upload cannot take its own place",
    ),
    "an upload in the place of no id": (
        {"source": "uploads/a", "replaces": "cat"},
        "replaces: Input should be",
    ),
    "a question about nothing": ({"status": None}, "status: must be a string"),
    "a question about no id": ({"status": "ready"}, "status: Input should be a valid UUID"),
    "a question with more": ({"status": CAT, "metadata": {}}, "metadata: there is no such field"),
    "an upload with a status": ({"source": "uploads/a", "status": CAT}, "status: there is no such field"),
    "a deletion with a status": ({"delete": CAT, "status": CAT}, "status: there is no such field"),
    "an original that is a word": (
        {"delete": CAT, "original": "yes"},
        "original: Input should be a valid boolean",
    ),
}


@pytest.mark.parametrize(("event", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_reported_so_that_its_sender_understands_it(event: object, expected: str) -> None:
    code, sent = refusal(event)

    assert code == "invalid_event"
    assert expected in sent
    assert len(sent) <= 1000


def test_every_mistake_of_an_event_is_reported() -> None:
    _, sent = refusal({"source": 1, "id": 2, "metadata": 3})

    assert [part.split(":")[0] for part in sent.split("; ")] == ["source", "id", "metadata"]


def test_an_entry_without_an_event_is_reported() -> None:
    with pytest.raises(InvalidEvent, match="no field named event"):
        parse_event(None, StreamId(), RECIPES)


def test_an_unknown_recipe_has_a_code_of_its_own_and_a_list_of_the_known_ones() -> None:
    code, sent = refusal({"source": "uploads/a", "recipe": "poster"})

    known = "when the worker started, there was: default, posters"
    assert (code, sent) == ("unknown_recipe", f"there is no recipe 'poster'; {known}")


def test_a_refusal_shows_nothing_that_a_terminal_obeys() -> None:
    for event in ({"source": "uploads/a", "recipe": "\x1b[31m"}, {"source": "uploads/a", "\x1b[31m": 1}):
        assert refusal(event)[1].isprintable()


# -- whom a refused event is about

ABOUT: Mapping[str, tuple[object, About | None]] = {
    "an id and a source": ({"id": CAT, "source": "uploads/a", "x": 1}, About(UUID(CAT), "uploads/a")),
    "a source, whose id is derived": (
        {"source": "etc/passwd"},
        About(default_id("etc/passwd"), "etc/passwd"),
    ),
    "a source with a zero": ({"source": "uploads/a\0"}, About(default_id("uploads/a\0"), "uploads/a\0")),
    "an id that is none": ({"id": "cat", "source": "uploads/a"}, About(None, "uploads/a")),
    "an id that is a number": ({"id": 7, "source": "uploads/a"}, About(None, "uploads/a")),
    "an id alone": ({"id": CAT}, About(UUID(CAT), None)),
    "a long source": ({"id": CAT, "source": "uploads/" + "a" * 2000}, About(UUID(CAT), None)),
    "a source that is a list": ({"source": [1]}, None),
    "no source": ({"source": ""}, None),
    "a delete": ({"delete": CAT, "source": "uploads/a"}, About(UUID(CAT), "uploads/a")),
    "a delete of no id": ({"delete": "all"}, None),
    "a question": ({"status": CAT, "x": 1}, About(UUID(CAT), None)),
    "a question about no id": ({"status": "ready"}, None),
    "an upload with a status": (
        {"source": "uploads/a", "status": CAT},
        About(default_id("uploads/a"), "uploads/a"),
    ),
    "metadata": ({"source": 7, "id": CAT, "metadata": {"o": 1}}, About(UUID(CAT), None, {"o": 1})),
    "much metadata": ({"id": CAT, "metadata": {"o": "x" * MAX_METADATA_BYTES}}, About(UUID(CAT), None)),
    "metadata that is none": ({"id": CAT, "metadata": 7}, About(UUID(CAT), None)),
    "a traceparent": (
        {"source": "etc/a", "traceparent": TRACED},
        About(default_id("etc/a"), "etc/a", traceparent=TRACED),
    ),
    "a traceparent that is none": ({"id": CAT, "traceparent": 7, "x": 1}, About(UUID(CAT), None)),
    "a large event": (
        b'{"id": "%s", "x": "%s"}' % (CAT.encode(), b"x" * MAX_EVENT_BYTES),
        About(UUID(CAT), None),
    ),
    "a number that is none": (b'{"id": "%s", "x": NaN}' % CAT.encode(), About(UUID(CAT), None)),
    "half a surrogate": (b'{"id": "%s", "source": "uploads/\\ud800"}' % CAT.encode(), About(UUID(CAT), None)),
    "a huge event": (b'{"id": "%s", "x": "%s"}' % (CAT.encode(), b"x" * MAX_READ_BYTES), None),
    "deep": (b"[" * 30_000, None),
    "not utf-8": (b'{"source": "uploads/\xff"}', None),
    "not json": (b"{", None),
    "a list": ([1], None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize(("event", "expected"), ABOUT.values(), ids=ABOUT.keys())
def test_whom_a_refused_event_is_about_is_read_wherever_it_can_be(
    event: object, expected: About | None
) -> None:
    body = event if isinstance(event, bytes) else orjson.dumps(event)
    with pytest.raises(InvalidEvent):
        parse_event(body, StreamId(), RECIPES)

    assert read_about(body) == expected


def test_an_entry_without_an_event_is_about_nobody() -> None:
    assert read_about(None) is None


def test_a_refused_event_is_reported_with_its_entry() -> None:
    sent = payload(message(State.FAILED, error_code="unknown_recipe", error_message="None.", entry="7-1"))

    assert (sent["type"], sent["entry"], sent["attempts"]) == ("upload.failed", "7-1", 0)
    assert sent["error"] == {"code": "unknown_recipe", "message": "None."}


def test_a_message_about_an_entry_whose_id_cannot_be_read_has_none() -> None:
    sent = payload(replace(message(State.FAILED, entry="7-1"), id=None))

    assert sent["id"] is None


def test_the_place_of_an_entry_is_its_id_in_its_epoch() -> None:
    assert parse_stream_id("1700000000000-7", 3) == StreamId(1_700_000_000_000, 7, 3)


def test_the_published_schema_is_the_models() -> None:
    assert orjson.loads(SCHEMA.read_bytes()) == event_schema()


# -- what apps hear

VARIANT = StoredVariant("thumb", "variants/ab/cd/x.jpg", 150, 113, 4211, "a" * 64)
ORIGINAL = Original("stamp", "b" * 64, 1000, "jpeg", 4000, 3000, "#102030", THUMBHASH)


def message(kind: State, **more: Any) -> Message:
    fields: dict[str, Any] = {
        "source": "uploads/a",
        "recipe": "default",
        "metadata": {"owner": "42"},
        "time_ms": 0,
    }
    return Message(seq=17, kind=kind, id=UUID(CAT), **fields, **more)


def test_a_ready_upload_is_reported_with_its_variants() -> None:
    sent = payload(message(State.READY, original=ORIGINAL, variants=[VARIANT]))

    assert sent == {
        "type": "upload.ready",
        "seq": 17,
        "id": CAT,
        "source": "uploads/a",
        "metadata": {"owner": "42"},
        "time": "1970-01-01T00:00:00.000Z",
        "recipe": "default",
        "original": {"width": 4000, "height": 3000, "format": "jpeg", "bytes": 1000, "color": "#102030"},
        "thumbhash": "1mYGRZYXaIhwh4iBilmIhhePcnAI",
        "blurhash": None,
        "variants": [
            {"name": "thumb", "key": "variants/ab/cd/x.jpg", "width": 150, "height": 113, "bytes": 4211}
        ],
        "srcset": "variants/ab/cd/x.jpg 150w",
    }


def test_a_ready_upload_is_reported_with_links_where_they_are_known() -> None:
    sent = payload(
        message(State.READY, original=ORIGINAL, variants=[VARIANT]), lambda key: f"https://m/{key}"
    )

    assert sent["srcset"] == "https://m/variants/ab/cd/x.jpg 150w"


def test_a_ready_upload_whose_recipe_asks_for_a_blurhash_is_reported_with_that() -> None:
    blurred = replace(ORIGINAL, thumbhash=None, blurhash="LEHV6nWB2yk8pyo0adR*.7kCMdnj")
    sent = payload(message(State.READY, original=blurred, variants=[VARIANT]))

    assert (sent["thumbhash"], sent["blurhash"]) == (None, "LEHV6nWB2yk8pyo0adR*.7kCMdnj")


def test_a_failed_upload_is_reported_with_code_and_message() -> None:
    sent = payload(message(State.FAILED, attempts=3, error_code="corrupt_image", error_message="Damaged."))

    assert (sent["type"], sent["attempts"]) == ("upload.failed", 3)
    assert sent["error"] == {"code": "corrupt_image", "message": "Damaged."}
    assert "variants" not in sent


@pytest.mark.parametrize("fate", OriginalFate)
def test_a_deleted_upload_is_reported_with_what_became_of_its_original(fate: OriginalFate) -> None:
    sent = payload(message(State.DELETED, original_fate=fate))

    assert sent.keys() == {"type", "seq", "id", "source", "metadata", "time", "original"}
    assert (sent["type"], sent["original"]) == ("upload.deleted", fate.value)


def test_of_what_an_older_version_deleted_only_originals_that_were_to_go_are_reported() -> None:
    assert payload(message(State.DELETED, original_kept=True))["original"] == "kept"
    assert "original" not in payload(message(State.DELETED))


def test_an_upload_that_takes_the_place_of_another_is_reported_so_and_so_is_the_other() -> None:
    other = UUID("6f1c0000-0000-4000-8000-000000000001")

    assert payload(message(State.READY, replaces=other))["replaces"] == str(other)
    assert payload(message(State.DELETED, replaced_by=other))["replaced_by"] == str(other)


@pytest.mark.parametrize("kind", [State.READY, State.FAILED, State.DELETED])
def test_the_traceparent_is_handed_back_where_there_is_one(kind: State) -> None:
    sent = payload(message(kind, traceparent=TRACED))

    assert sent.pop("traceparent") == TRACED
    assert sent == payload(message(kind))


@pytest.mark.parametrize("kind", [State.READY, State.FAILED, State.DELETED])
def test_every_message_is_json(kind: State) -> None:
    sent = payload(message(kind, original=ORIGINAL, variants=[VARIANT]))

    assert orjson.loads(orjson.dumps(sent)) == sent
