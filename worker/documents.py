"""The JSON that leaves: messages for apps; uploads, failures and dead letters for people."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from pipelines.moments import moment, precise_moment
from storage.catalog.records import (
    BegunUpload,
    DeadLetter,
    KnownUpload,
    Message,
    Original,
    OriginalFate,
    State,
    StatusAsked,
    StoredVariant,
    Upload,
)
from storage.filenames import filename_in
from worker.srcset import Link, srcset

OUR_FAULT = "An error of the worker itself; `media show` has the traceback."
_VARIANT = ("name", "key", "width", "height", "bytes")
_ORIGINAL = ("width", "height", "format", "bytes", "color")


def payload(message: Message, link: Link = str) -> dict[str, Any]:
    """A message as apps receive it, with a `link` to each variant in its srcset."""
    body: dict[str, Any] = {
        "type": f"upload.{message.kind}",
        "seq": message.seq,
        "id": str(message.id) if message.id else None,
        "source": message.source,
        "metadata": message.metadata,
        "time": precise_moment(message.time_ms),
    }
    if message.kind is State.READY:
        body["recipe"] = message.recipe
        if message.original is not None:
            body["original"] = _view(message.original, *_ORIGINAL)
        body |= placeholder_view(message.original)
        body["variants"] = [_view(variant, *_VARIANT) for variant in message.variants]
        body["srcset"] = srcset(message.variants, message.original, link)
        if message.replaces is not None:
            body["replaces"] = str(message.replaces)
    if message.kind is State.FAILED:
        error = _error_view(message.error_code, message.error_message)
        body |= {"attempts": message.attempts, "error": error}
    if message.traceparent is not None:
        body["traceparent"] = message.traceparent
    if message.entry is not None:
        body["entry"] = message.entry
    if message.kind is State.DELETED:
        # What an older version deleted, and is asked for again, may be here or not.
        fate = OriginalFate.KEPT if message.original_kept else message.original_fate
        body |= {} if fate is None else {"original": fate}
        body |= {} if message.replaced_by is None else {"replaced_by": str(message.replaced_by)}
    return body


def status_answer(
    asked: StatusAsked, known: KnownUpload | None, time_ms: int, link: Link = str
) -> dict[str, Any]:
    """The message that answers a question, with the `seq` of the upload's newest message."""
    upload = known.upload if known else None
    original = upload.original if upload else None
    variants = upload.variants if upload else ()
    body: dict[str, Any] = {
        "type": "upload.status",
        "seq": known.seq if known else 0,
        "id": str(asked.id),
        "source": upload.source if upload else None,
        "metadata": upload.metadata if upload else {},
        "time": precise_moment(time_ms),
        "state": upload.state if upload else "unknown",
        "recipe": upload.recipe if upload else None,
        "attempts": upload.attempts if upload else 0,
        "error": _error_view(upload.error_code, upload.error_message) if upload else None,
        "original": None if original is None else _view(original, *_ORIGINAL),
        **placeholder_view(original),
        "variants": [_view(variant, *_VARIANT) for variant in variants],
        "srcset": srcset(variants, original, link),
        "entry": asked.entry,
    }
    if known is not None and known.replaced_by is not None:
        body["replaced_by"] = str(known.replaced_by)
    return body if asked.traceparent is None else {**body, "traceparent": asked.traceparent}


def started_message(begun: BegunUpload) -> dict[str, Any]:
    """The message that work on an upload begins, which no catalog keeps."""
    upload = begun.claim.upload
    body: dict[str, Any] = {
        "type": "upload.started",
        "seq": begun.seq,
        "id": str(upload.id),
        "source": upload.source,
        "metadata": upload.metadata,
        "time": precise_moment(begun.time_ms),
        "recipe": upload.recipe,
        "attempts": upload.attempts,
        "waiting": begun.waiting,
    }
    traceparent = begun.claim.traceparent or upload.traceparent
    return body if traceparent is None else {**body, "traceparent": traceparent}


def _error_view(code: str | None, message: str | None) -> dict[str, str | None] | None:
    """Why an upload failed; the traceback of a bug, which the catalog keeps, is not for the outside."""
    if code is None:
        return None
    return {"code": code, "message": OUR_FAULT if code == "internal_error" else message}


def sweep_stopped(reason: str, plan: str | None, time_ms: int, numbers: Mapping[str, int]) -> dict[str, Any]:
    """The message that a sweep was stopped; it is about no upload."""
    nobody: dict[str, Any] = {"seq": 0, "id": None, "source": None, "metadata": {}}
    about = {"time": precise_moment(time_ms), "plan": plan, "reason": reason}
    return {"type": "sweep.stopped", **nobody, **about, **numbers}


def upload_document(upload: Upload) -> dict[str, Any]:
    """An upload with its original and its variants."""
    original = upload.original
    names = ("sha256", "bytes", "format", "width", "height", "color")
    return {
        "id": str(upload.id),
        **_view(upload, "source", "owner", "state", "recipe", "metadata", "attempts", "claims"),
        "queued": moment(upload.queued_ms),
        "changed": moment(upload.changed_ms),
        "next_try": moment(upload.not_before_ms) if upload.state == State.QUEUED else None,
        "traceparent": upload.traceparent,
        "error": {"code": upload.error_code, "message": upload.error_message} if upload.error_code else None,
        "original": None if original is None else _view(original, *names),
        **placeholder_view(original),
        "variants": [_view(variant, *_VARIANT, "sha256") for variant in upload.variants],
    }


def placeholder_view(original: Original | None) -> dict[str, str | None]:
    """What is shown while the picture loads: its ThumbHash in base64, or its BlurHash; null for the other."""
    thumbhash, blurhash = (original.thumbhash, original.blurhash) if original else (None, None)
    return {"thumbhash": b64encode(thumbhash).decode() if thumbhash else None, "blurhash": blurhash}


def failure_document(upload: Upload) -> dict[str, Any]:
    return {
        "id": str(upload.id),
        "source": upload.source,
        "filename": filename_in(upload.metadata),
        "time": moment(upload.changed_ms),
        "attempts": upload.attempts,
        "error": {"code": upload.error_code, "message": upload.error_message},
    }


def retry_document(upload: Upload) -> dict[str, Any]:
    return {**failure_document(upload), "next_try": moment(upload.not_before_ms)}


def dead_letter_document(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter with its bytes as text; bytes that are not UTF-8 are escaped."""
    return {
        "id": letter.id,
        "stream_id": letter.stream_id,
        "time": moment(letter.time_ms),
        "error": {"code": letter.code, "message": letter.message},
        "bytes": len(letter.body),
        "body": letter.body.decode("utf-8", "backslashreplace"),
    }


def _view(record: Original | StoredVariant | Upload, *names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}
