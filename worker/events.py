"""The events that apps may send: parsed, and refused with a reason that the sender understands."""

import json
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import orjson
import structlog
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    TypeAdapter,
    ValidationError,
)

from storage.catalog.records import About, DeletionRequested, StatusAsked, StreamId, UploadRequested
from storage.errors import KeyRefused
from storage.keys import MAX_SOURCE_BYTES, UPLOADS, source_key
from worker.json_errors import why_no_json
from worker.traceparent import FORM, parse_traceparent
from worker.upload_ids import default_id

log = structlog.get_logger(__name__)

MAX_EVENT_BYTES = 64 * 1024
MAX_METADATA_BYTES = 4 * 1024
MAX_OWNER = 64  # characters
MAX_READ_BYTES = 1024 * 1024  # of an event that is refused, to find out which upload it names
NO_FIELD = "the entry has no field named event"
"""The reason by which dead letters, also old ones, are known whose bytes are no event's."""


class InvalidEvent(Exception):
    """An entry of the stream that is no event: `code` from the contract, and a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


_WORDS = {"extra_forbidden": "there is no such field"}


def _source(value: str) -> str:
    try:
        return source_key(value)
    except KeyRefused as error:
        raise ValueError(str(error)) from error


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(orjson.dumps(value))
    except TypeError as error:  # what can be read is not always what can be written again
        raise ValueError("is nested too deeply") from error
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"has at most {MAX_METADATA_BYTES} bytes as JSON, this one has {size}")
    return value


def _owner(value: str) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError("must not contain control characters")
    return value


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be a string")  # noqa: TRY004 (pydantic expects ValueError)
    return value


Id = Annotated[UUID, BeforeValidator(_text)]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]
"""What an app says of its upload: at most 4 KiB as JSON."""


class _Event(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    traceparent: object = Field(
        None,
        json_schema_extra={"type": ["string", "null"], "pattern": f"^{FORM}"},
        description="The W3C traceparent of the app's trace, handed back in every message about the upload. "
        "A wrong one is left out; it refuses no event.",
    )


class UploadEvent(_Event):
    """An original is in the storage, and its variants are to be made."""

    source: Annotated[str, AfterValidator(_source)] = Field(
        min_length=1,
        max_length=MAX_SOURCE_BYTES,
        json_schema_extra={"pattern": f"^{UPLOADS}/"},  # `source_key` checks the rest, and says what is wrong
        description="The original's key: at most 1,024 bytes, no empty, `.` or `..` segment, no control "
        "character.",
    )
    id: Id | None = Field(
        None,
        description="The upload's UUID; by default uuid5(NAMESPACE_URL, 'media:' + source). "
        "An id belongs to its first source.",
    )
    recipe: str = Field("default", description="The name of the recipe that says which variants are made.")
    metadata: Metadata = Field(
        default_factory=dict,
        description="Handed back in every message about the upload; at most 4 KiB as JSON. People are told "
        "its `filename` where the source is a hash.",
    )
    owner: Annotated[str, AfterValidator(_owner)] | None = Field(
        None,
        min_length=1,
        max_length=MAX_OWNER,
        description="Whose the upload is, for keys of the HTTP server that open one owner's uploads alone; "
        "no control character. By default the first folder below `uploads/`.",
    )
    replaces: Id | None = Field(
        None,
        description="The upload in whose place this one comes: once this one is ready, that one is deleted, "
        "and its variants stay served for a while. Where this one fails, that one stays.",
    )


class DeleteEvent(_Event):
    """An upload is to be deleted."""

    delete: Id = Field(description="The upload's UUID.")
    original: StrictBool = Field(
        False, description="Whether the original goes to the trash too, where the operator allows it."
    )


class StatusEvent(_Event):
    """A question how an upload is, which is answered on the stream of messages and changes nothing."""

    status: Id = Field(description="The upload's UUID.")


_ID: TypeAdapter[UUID] = TypeAdapter(Id)
_EVENT: TypeAdapter[UploadEvent | DeleteEvent | StatusEvent] = TypeAdapter(
    UploadEvent | DeleteEvent | StatusEvent
)


def event_schema() -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Upload event",
        **_EVENT.json_schema(),
    }


def parse_stream_id(stream_id: str, epoch: int = 0) -> StreamId:
    """The place that an entry's ID names in that epoch of the stream."""
    ms, _, n = stream_id.partition("-")
    return StreamId(int(ms), int(n or 0), epoch)


def parse_event(
    body: bytes | None, position: StreamId, recipes: frozenset[str], written_ms: int | None = None
) -> UploadRequested | DeletionRequested | StatusAsked:
    """The event in the field `event` of a stream entry (None: it has no such field).

    `written_ms` is what a bucket says of its original.

    Raises: InvalidEvent, with a reason that the sender understands.
    """
    if body is None:
        raise InvalidEvent("invalid_event", NO_FIELD)
    if len(body) > MAX_EVENT_BYTES:
        raise InvalidEvent(
            "invalid_event", f"an event has at most {MAX_EVENT_BYTES} bytes, this one has {len(body)}"
        )
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidEvent("invalid_event", f"not JSON: {why_no_json(body, error)}") from error
    if not isinstance(content, dict):
        raise InvalidEvent("invalid_event", "not a JSON object")
    try:
        event = _model_of(content).model_validate(content)
    except ValidationError as error:
        raise InvalidEvent("invalid_event", _reasons(error)) from error
    traceparent = parse_traceparent(event.traceparent)
    if traceparent is None and event.traceparent is not None:
        # What it holds may be anybody's, and is not repeated.
        reason = "is no traceparent of the W3C"
        log.warning("traceparent_dropped", stream_id=f"{position.ms}-{position.n}", reason=reason)
    if isinstance(event, DeleteEvent):
        return DeletionRequested(position, event.delete, event.original, traceparent)
    if isinstance(event, StatusEvent):
        return StatusAsked(position, event.status, f"{position.ms}-{position.n}", traceparent)
    if not isinstance(event, UploadEvent):
        raise TypeError(event)
    if event.recipe not in recipes:
        known = ", ".join(sorted(recipes))
        reason = f"there is no recipe {event.recipe[:64]!r}; when the worker started, there was: {known}"
        raise InvalidEvent("unknown_recipe", reason)
    upload_id = event.id or default_id(event.source)
    if event.replaces == upload_id:
        raise InvalidEvent("invalid_event", "replaces: an upload cannot take its own place")
    return UploadRequested(
        position,
        upload_id,
        event.source,
        event.recipe,
        event.metadata,
        written_ms=written_ms,
        traceparent=traceparent,
        owner=event.owner,
        replaces=event.replaces,
    )


def _model_of(content: Mapping[str, Any]) -> type[UploadEvent | DeleteEvent | StatusEvent]:
    if "delete" in content:
        return DeleteEvent
    return StatusEvent if _is_question(content) else UploadEvent


def _is_question(content: Mapping[str, Any]) -> bool:
    return "status" in content and "source" not in content


def is_json(body: bytes | None) -> bool:
    """Whether the bytes of a refused event are JSON, so that they may become one yet."""
    try:
        orjson.loads(body if body is not None else b"")
    except orjson.JSONDecodeError:
        return False
    return True


def read_about(body: bytes | None) -> About | None:
    """The upload that a refused event names; None where neither id nor source can be read."""
    content = _read(body) if body is not None and len(body) <= MAX_READ_BYTES else None
    if not isinstance(content, dict):
        return None
    source = _read_source(content.get("source"))
    given = content.get("delete", content["status"] if _is_question(content) else content.get("id"))
    upload_id = _uuid(given) if given is not None else default_id(source) if source else None
    if upload_id is None and source is None:
        return None
    metadata, traceparent = content.get("metadata"), parse_traceparent(content.get("traceparent"))
    try:
        handed_back = _metadata(metadata) if isinstance(metadata, dict) else {}
    except ValueError:
        handed_back = {}
    owner = content.get("owner")
    return About(
        upload_id, source, handed_back, traceparent, owner if owner is None or isinstance(owner, str) else ""
    )


def _read(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        content: object = json.loads(body)  # which takes what some apps write, such as NaN
    except (ValueError, RecursionError):
        return None
    return content


def _read_source(source: object) -> str | None:
    """A source as it was given, if that is a text of a source's length."""
    try:
        return source if isinstance(source, str) and 0 < len(source.encode()) <= MAX_SOURCE_BYTES else None
    except UnicodeEncodeError:  # half a surrogate
        return None


def _uuid(given: object) -> UUID | None:
    try:
        return _ID.validate_python(given)
    except ValidationError:
        return None


def _reasons(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(repr(str(part))[1:-1] for part in mistake['loc']) or 'event'}: "
        + _WORDS.get(mistake["type"], mistake["msg"].removeprefix("Value error, "))
        for mistake in error.errors(include_url=False)[:5]
    )[:1000]
