"""What an app receives: the only place that knows the form of messages, answers and uploads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

STATUS = "upload.status"
STARTED = "upload.started"
_STATES = {
    "upload.ready": "ready",
    "upload.failed": "failed",
    "upload.deleted": "deleted",
    STARTED: "processing",
}
_OUTCOMES = {"ready": "upload.ready", "failed": "upload.failed", "deleted": "upload.deleted"}
_NO_SEQ = 2**53  # and above: no worker gives one


@dataclass(frozen=True)
class Variant:
    """A picture that was made of an original."""

    name: str
    key: str
    """Its path below the storage root; it never changes its bytes."""
    url: str | None
    """Its link, where the worker knows one (`MEDIA_HTTP_URL`)."""
    width: int
    height: int
    bytes: int


@dataclass(frozen=True)
class Failure:
    """Why an upload failed: a code of the table in media-worker's README, and a sentence for people."""

    code: str
    message: str


Original = Union[Mapping[str, Any], str, None]
"""Facts of an original (`width`, `height`, `format`, `bytes`, `color`); of a deleted upload what became of
it: `kept`, `trashed` or `missing`."""


@dataclass(frozen=True)
class Upload:
    """An upload as the worker has it now."""

    id: str
    state: str
    """`queued`, `processing`, `ready`, `failed`, `deleting` or `deleted`."""
    source: str | None
    seq: int = 0
    """Of its newest message; 0: none yet, or not told."""
    recipe: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0
    error: Failure | None = None
    original: Original = None
    thumbhash: str | None = None
    blurhash: str | None = None
    variants: Sequence[Variant] = ()
    srcset: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All that was answered."""


@dataclass(frozen=True)
class Message:
    """What has become of an upload."""

    type: str
    """`upload.ready`, `upload.failed`, `upload.deleted`, `upload.started`; `upload.status` where the answer
    to a listener's question is no outcome (`state` says what); `sweep.stopped`, which is about no upload."""
    id: str | None
    seq: int
    """It rises with every message of an upload."""
    source: str | None
    state: str | None
    """`ready`, `failed`, `deleted`, `processing` or `unknown`; None where it is about no upload."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    variants: Sequence[Variant] = ()
    srcset: str = ""
    thumbhash: str | None = None
    blurhash: str | None = None
    original: Original = None
    error: Failure | None = None
    entry: str | None = None
    """The ID of the event that was refused. The message is about that event alone, not about the upload."""
    entry_id: str | None = None
    """Its own ID in the stream of messages, from which a reader goes on; None where it came by HTTP."""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All of it."""

    @property
    def is_answer(self) -> bool:
        """Whether it is the answer to a question, and tells what a message before it may have told."""
        return self.raw.get("type") == STATUS

    def variant(self, name: str) -> Variant | None:
        """The variant of that name, such as `thumb`."""
        return next((one for one in self.variants if one.name == name), None)


def parse_message(document: Mapping[str, Any], entry_id: str | None = None) -> Message | None:
    """A message, or the answer to a question as the message that tells the same; None for what is neither.

    Of answers only those stay `upload.status` whose state is no outcome.
    """
    kind = document.get("type")
    if not isinstance(kind, str):
        return None
    state = document.get("state") if kind == STATUS else _STATES.get(kind)
    state = state if isinstance(state, str) else None
    is_answer = kind == STATUS
    if is_answer and state in _OUTCOMES:
        kind = _OUTCOMES[state]
    entry = None if is_answer else _text(document, "entry")
    shared = _shared(document)
    return Message(
        type=kind,
        id=_text(document, "id"),
        seq=_seq(document),
        source=_text(document, "source"),
        state=state,
        entry=entry,
        entry_id=entry_id,
        raw=document,
        **shared,
    )


def parse_upload(document: Mapping[str, Any]) -> Upload:
    """An upload, from the answer to a question or from the HTTP server."""
    attempts = document.get("attempts")
    return Upload(
        id=_text(document, "id") or "",
        state=_text(document, "state") or "",
        source=_text(document, "source"),
        seq=_seq(document),
        recipe=_text(document, "recipe"),
        attempts=attempts if isinstance(attempts, int) else 0,
        raw=document,
        **_shared(document),
    )


def read_document(body: bytes | str | None) -> Mapping[str, Any] | None:
    """The JSON object of an entry; None where it has none, for other programs may write there too."""
    if body is None:
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _shared(document: Mapping[str, Any]) -> dict[str, Any]:
    """What messages and uploads have in common."""
    metadata, original = document.get("metadata"), document.get("original")
    srcset = _text(document, "srcset") or ""
    return {
        "metadata": metadata if isinstance(metadata, dict) else {},
        "variants": _variants(document.get("variants"), srcset),
        "srcset": srcset,
        "thumbhash": _text(document, "thumbhash"),
        "blurhash": _text(document, "blurhash"),
        "original": original if isinstance(original, (dict, str)) else None,
        "error": _failure(document.get("error")),
    }


def _failure(error: object) -> Failure | None:
    if not isinstance(error, dict):
        return None
    return Failure(_text(error, "code") or "", _text(error, "message") or "")


def _variants(given: object, srcset: str) -> tuple[Variant, ...]:
    found = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    before = _before_keys(srcset, [str(one.get("key", "")) for one in found])
    return tuple(
        Variant(
            name=str(one.get("name", "")),
            key=(key := str(one.get("key", ""))),
            url=_text(one, "url") or (f"{before}{key}" if before else None),
            width=_number(one, "width"),
            height=_number(one, "height"),
            bytes=_number(one, "bytes"),
        )
        for one in found
    )


def _before_keys(srcset: str, keys: Sequence[str]) -> str:
    """What stands before the keys in a srcset that has links; messages tell links only there."""
    first = srcset.split(" ", 1)[0]
    return next((first[: -len(key)] for key in keys if key and first.endswith(key)), "")


def _seq(document: Mapping[str, Any]) -> int:
    seq = document.get("seq")
    return seq if type(seq) is int and 0 <= seq < _NO_SEQ else 0


def _number(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    return value if isinstance(value, int) else 0


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) else None
