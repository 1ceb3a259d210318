"""What the Python client sends: events that the worker takes, and mistakes that are told at once."""

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from media_worker_client.events import delete_event, encoded, event_of, upload_event, upload_id
from storage.catalog.records import StreamId
from worker.events import InvalidEvent, parse_event
from worker.upload_ids import default_id

RECIPES = frozenset({"default", "avatar"})
OLD = "6f1c2f5e-5a4e-4d55-9a7e-0d3f6f2f1a11"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def taken(event: dict[str, Any]) -> Any:
    """The event as the worker reads it."""
    return parse_event(encoded(event).encode(), StreamId(), RECIPES)


def test_the_id_of_a_source_is_the_one_that_the_worker_gives_it() -> None:
    source = "uploads/2026/11/cat.jpg"

    assert upload_id(source) == str(default_id(source)) == "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"
    assert upload_event(source)["id"] == upload_id(source)


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"id": OLD},
        {"id": UUID(OLD), "recipe": "avatar"},
        {"metadata": {"post": 7, "name": "Größe\u2028"}, "owner": "42"},
        {"metadata": {"long": "x" * 4080}, "owner": "ö" * 64},
        {"traceparent": TRACE},
    ],
)
def test_the_worker_takes_each_event_with_what_was_said(about: dict[str, Any]) -> None:
    event = upload_event("uploads/ä/cat.jpg", **about)
    read = taken(event)

    assert (read.source, str(read.id)) == ("uploads/ä/cat.jpg", event["id"])
    assert read.metadata == about.get("metadata", {})
    assert (read.owner, read.recipe) == (about.get("owner"), about.get("recipe", "default"))
    assert read.traceparent == about.get("traceparent")


def test_the_worker_takes_deletions() -> None:
    assert str(taken(delete_event(OLD.upper())).id) == OLD
    assert taken(delete_event(UUID(OLD), original=True)).original
    assert taken(delete_event(OLD, traceparent=TRACE)).traceparent == TRACE


@pytest.mark.parametrize(
    "source",
    [
        "photos/cat.jpg",
        "uploads/",
        "uploads//a.jpg",
        "uploads/../a.jpg",
        "uploads/a\n.jpg",
        "uploads/a\ud800",
        "uploads/" + "ä/" * 339 + "ab",
        "uploads/" + "ä" * 128,
    ],
)
def test_a_source_that_the_worker_refuses_is_refused_at_once(source: str) -> None:
    with pytest.raises(InvalidEvent):
        taken({"source": source})
    with pytest.raises(ValueError, match=r"[Ss]ource|names"):
        upload_event(source)


@pytest.mark.parametrize(
    "about",
    [
        {"id": "cat"},
        {"metadata": {"long": "x" * 4090}},
        {"metadata": {"not": float("nan")}},
        {"owner": ""},
        {"owner": "x" * 65},
        {"owner": "a\nb"},
        {"replaces": "cat"},
    ],
)
def test_what_else_the_worker_refuses_is_refused_at_once(about: dict[str, Any]) -> None:
    body = json.dumps({"source": "uploads/a.jpg", **about}).encode()
    with pytest.raises(InvalidEvent):
        parse_event(body, StreamId(), RECIPES)
    with pytest.raises(ValueError, match=r".+"):
        upload_event("uploads/a.jpg", **about)


def test_metadata_that_are_nested_too_deeply_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested"):
        upload_event("uploads/a.jpg", metadata={"deep": deep})


def test_an_upload_does_not_replace_itself() -> None:
    with pytest.raises(ValueError, match="cannot replace itself"):
        upload_event("uploads/a.jpg", replaces=upload_id("uploads/a.jpg"))


def test_an_event_that_an_app_has_kept_is_checked_like_a_new_one() -> None:
    upload = uuid4()

    assert event_of({"delete": str(upload), "original": True}) == delete_event(upload, original=True)
    assert event_of({"source": "uploads/a.jpg", "owner": "42"}) == upload_event("uploads/a.jpg", owner="42")
    traced = {"source": "uploads/a.jpg", "traceparent": TRACE}
    assert event_of(traced) == upload_event("uploads/a.jpg", traceparent=TRACE)
    with pytest.raises(TypeError, match="sauce"):
        event_of({"sauce": "uploads/a.jpg"})
