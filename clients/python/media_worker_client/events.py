"""What an app sends: the only place that knows the form of an event."""

from __future__ import annotations

import json
import unicodedata
import uuid
from collections.abc import Mapping
from typing import Any, Union

UploadId = Union[str, uuid.UUID]
Event = Mapping[str, Any]

_UPLOADS = "uploads/"
_MAX_SOURCE_BYTES = 1024
_MAX_NAME_BYTES = 255
_MAX_METADATA_BYTES = 4 * 1024
_MAX_OWNER = 64  # characters


def upload_id(source: str) -> str:
    """The id of an upload whose event names none: the same for each event about `source`."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"media:{source}"))


def upload_event(
    source: str,
    *,
    id: UploadId | None = None,
    recipe: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    owner: str | None = None,
    traceparent: str | None = None,
    replaces: UploadId | None = None,
) -> dict[str, Any]:
    """The event that an original is in the storage, with the upload's id in any case.

    Raises: ValueError, TypeError where a worker would refuse it.
    """
    event: dict[str, Any] = {
        "source": _source(source),
        "id": upload_id(source) if id is None else id_text(id),
    }
    if recipe is not None:
        event["recipe"] = _text("recipe", recipe)
    if metadata:
        event["metadata"] = _metadata(metadata)
    if owner is not None:
        event["owner"] = _owner(owner)
    if traceparent is not None:
        event["traceparent"] = _text("traceparent", traceparent)
    if replaces is not None:
        event["replaces"] = id_text(replaces)
        if event["replaces"] == event["id"]:
            raise ValueError(
                "An upload cannot replace itself: name another source, or announce the same one again."
            )
    return event


def delete_event(id: UploadId, *, original: bool = False, traceparent: str | None = None) -> dict[str, Any]:
    """The event that an upload is to be deleted, `original` and all. Raises: ValueError for no UUID."""
    event: dict[str, Any] = {"delete": id_text(id)}
    if original:
        event["original"] = True
    if traceparent is not None:
        event["traceparent"] = _text("traceparent", traceparent)
    return event


def status_question(id: UploadId) -> dict[str, Any]:
    """The question what the state of an upload is. Raises: ValueError for no UUID."""
    return {"status": id_text(id)}


def encoded(event: Event) -> str:
    """An event as it stands on the stream. Raises: TypeError, ValueError for what is no JSON."""
    return json.dumps(event, allow_nan=False, separators=(",", ":"))


def id_text(given: UploadId) -> str:
    """An upload's id as everybody writes it. Raises: ValueError, TypeError for what is no UUID."""
    if isinstance(given, uuid.UUID):
        return str(given)
    try:
        return str(uuid.UUID(_text("id", given)))
    except ValueError:
        raise ValueError(f"An upload's id is a UUID: {given!r}") from None


def _text(what: str, given: str) -> str:
    """What must be a text, and is not where it comes from somewhere else. Raises: TypeError."""
    if not isinstance(given, str):
        raise TypeError(f"An event's {what} is a text: {given!r}")
    return given


def _source(source: str) -> str:
    _text("source", source)
    if not source.startswith(_UPLOADS):
        raise ValueError(f"A source begins with {_UPLOADS}, and is the original's key: {source!r}")
    if any(segment in ("", ".", "..") for segment in source.split("/")):
        raise ValueError(f"A source has no empty, `.` or `..` segment: {source!r}")
    if _has_control(source):
        raise ValueError(f"A source has no control character: {source!r}")
    if any(len(segment.encode()) > _MAX_NAME_BYTES for segment in source.split("/")):
        raise ValueError(f"Each of a source's names has at most {_MAX_NAME_BYTES} bytes: {source!r}")
    if len(source.encode()) > _MAX_SOURCE_BYTES:
        raise ValueError(f"A source has at most {_MAX_SOURCE_BYTES} bytes, this one {len(source.encode())}.")
    return source


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(metadata, Mapping):
        raise TypeError(f"Metadata is an object: {metadata!r}")
    try:
        text = json.dumps(metadata, allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    except RecursionError:
        raise ValueError("Metadata is nested too deeply.") from None
    size = len(text.encode())
    if size > _MAX_METADATA_BYTES:
        raise ValueError(f"Metadata has at most {_MAX_METADATA_BYTES} bytes as JSON, this one {size}.")
    return dict(metadata)


def _owner(owner: str) -> str:
    if not 1 <= len(_text("owner", owner)) <= _MAX_OWNER:
        raise ValueError(f"An owner has 1 to {_MAX_OWNER} characters, this one {len(owner)}.")
    if _has_control(owner):
        raise ValueError(f"An owner has no control character: {owner!r}")
    return owner


def event_of(event: Event) -> dict[str, Any]:
    """An event that an app has kept, checked: `{"source": ...}` with further fields, or `{"delete": id}`.

    Raises: ValueError, TypeError where a worker would refuse it.
    """
    fields = dict(event)
    if "delete" in fields:
        return delete_event(fields.pop("delete"), **fields)
    return upload_event(**fields)


def _has_control(text: str) -> bool:
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text)
