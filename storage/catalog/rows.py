"""Between rows and records: the one place that knows how a record's field is stored in a column."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from storage.catalog import tokens
from storage.catalog.expressions import effective_owner
from storage.catalog.records import (
    Message,
    Metadata,
    Original,
    OriginalFate,
    State,
    StoredVariant,
    Upload,
)
from storage.errors import CatalogDamaged

Row = dict[str, Any]

_LATER_IDS = ("replaces", "replaced_by")
_LATER = (*_LATER_IDS, "original_fate")
# A worker of the version before may be at work still: it reads no message with a field that it does not know.
_OF_A_BODY = Message.__dataclass_fields__.keys() - {"traceparent", "owner", "stream", *_LATER}
# Nor any original with one; what it does not know beside the message's own fields, it leaves out.
_PLACEHOLDERS = ("thumbhash", "blurhash")
_OF_A_PICTURE = (*_PLACEHOLDERS, "placeholder_tried")
_OF_AN_ORIGINAL = [name for name in Original.__dataclass_fields__ if name not in _OF_A_PICTURE]
_FIRST = ("seq", "kind", "id", "source", "recipe")
_OWNER = "owner"  # for the routes of webhooks, which look for it before what apps have written
_PLACEHOLDER = "placeholder"
_STREAM = "stream"


def dump_metadata(metadata: Metadata) -> str:
    """An app's metadata as JSON text."""
    return orjson.dumps(metadata).decode()


def load_metadata(text: str) -> Metadata:
    """An app's metadata out of its JSON text. Raises: CatalogDamaged."""
    metadata: Metadata = load_json(text)
    return metadata


def load_json(text: str) -> Any:  # noqa: ANN401 (whatever was written)
    """What was written as JSON. Raises: CatalogDamaged, as nothing but JSON was ever written there."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CatalogDamaged(f"a row of the catalog is damaged: {error}") from error


def without_nul(text: str) -> str:
    """The text as every database can keep it: Postgres takes no NUL."""
    return text.replace("\0", "\ufffd")


def to_original(row: Mapping[str, Any]) -> Original | None:
    """What was read of the original, or None while nothing has been."""
    if row["sha256"] is None:
        return None
    known = {name: row[name] for name in Original.__dataclass_fields__}
    if row["placeholder_of"] != placeholder_of(row["sha256"]):  # of the picture before this one
        known |= dict.fromkeys(_OF_A_PICTURE)
    return Original(**known)


def placeholder_of(sha256: str) -> str:
    """What a row keeps of the content that its placeholder is of."""
    return sha256[:8]


def to_variant(row: Mapping[str, Any]) -> StoredVariant:
    """A stored variant."""
    return StoredVariant(**{name: row[name] for name in StoredVariant.__dataclass_fields__})


def to_upload(row: Mapping[str, Any], variants: Sequence[StoredVariant]) -> Upload:
    """An upload with its current variants. Raises: CatalogDamaged."""
    return Upload(
        id=UUID(row["id"]),
        source=row["source"],
        state=State(row["state"]),
        recipe=row["recipe"],
        metadata=load_metadata(row["metadata"]),
        attempts=row["attempts"],
        claims=tokens.count(row["claim"]),
        queued_ms=row["queued_ms"],
        changed_ms=row["changed_ms"],
        not_before_ms=row["not_before_ms"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        original=to_original(row),
        variants=variants,
        seen=row["seen"],
        event_ms=row["event_ms"],
        traceparent=row["traceparent"],
        owner=effective_owner(row["owner"], row["source"]),
    )


def message_of(
    row: Mapping[str, Any], metadata: str, variants: Sequence[StoredVariant], now_ms: int
) -> Message:
    """The message about the present state of a row; `metadata` is the app's own JSON."""
    is_deleted = row["state"] == State.DELETED
    return Message(
        seq=0,
        kind=State(row["state"]),
        id=UUID(row["id"]),
        source=row["source"],
        recipe=row["recipe"],
        metadata=load_metadata(metadata),
        time_ms=now_ms,
        attempts=row["attempts"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        original=to_original(row),
        variants=variants,
        traceparent=row["traceparent"],
        owner=effective_owner(row["owner"], row["source"]),
        replaced_by=_uuid(row["replaced_by"]) if is_deleted else None,
        original_fate=_fate(row["original_fate"]) if is_deleted else None,
    )


def dump_message(message: Message) -> str:
    """A message as JSON text; its `seq` and its `traceparent` are the row's."""
    body = {**{name: getattr(message, name) for name in _FIRST}, _OWNER: message.owner}
    body |= {name: value for name, value in vars(message).items() if name in _OF_A_BODY}
    if (read := message.original) is not None:
        body["original"] = {name: getattr(read, name) for name in _OF_AN_ORIGINAL}
        body[_PLACEHOLDER] = {
            "thumbhash": read.thumbhash and b64encode(read.thumbhash).decode(),
            "blurhash": read.blurhash,
        }
    if message.stream is not None:
        body[_STREAM] = message.stream
    body |= {name: str(value) for name in _LATER if (value := getattr(message, name)) is not None}
    return orjson.dumps(body).decode()


def to_message(seq: int, body: str, traceparent: str | None) -> Message:
    """A message out of the outbox, without what only a newer version knows. Raises: CatalogDamaged."""
    content = load_json(body)
    fields = {name: value for name, value in content.items() if name in _OF_A_BODY}
    return Message(
        **{
            **fields,
            "seq": seq,
            "kind": State(fields["kind"]),
            "id": UUID(fields["id"]) if fields["id"] else None,
            "original": _to_original(fields["original"], content.get(_PLACEHOLDER) or {}),
            "variants": [StoredVariant(**variant) for variant in fields["variants"]],
            "traceparent": traceparent,
            "owner": content.get(_OWNER),
            "stream": content.get(_STREAM),
            **{name: _uuid(content.get(name)) for name in _LATER_IDS},
            "original_fate": _fate(content.get("original_fate")),
        }
    )


def _uuid(text: str | None) -> UUID | None:
    return UUID(text) if text else None


def _fate(text: str | None) -> OriginalFate | None:
    return OriginalFate(text) if text else None


def _to_original(fields: Mapping[str, Any] | None, placeholder: Mapping[str, str | None]) -> Original | None:
    if not fields:
        return None
    thumbhash, blurhash = (placeholder.get(name) for name in _PLACEHOLDERS)
    return Original(**fields, thumbhash=b64decode(thumbhash) if thumbhash else None, blurhash=blurhash)
