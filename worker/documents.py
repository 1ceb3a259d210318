"""The JSON views of what the catalog has: uploads, failures, dead letters."""

from typing import Any

from pipelines.moments import moment
from storage.catalog.records import DeadLetter, State, Upload


def upload_document(upload: Upload) -> dict[str, Any]:
    """An upload with its original and its variants."""
    original = upload.original
    return {
        "id": str(upload.id),
        "source": upload.source,
        "state": upload.state,
        "recipe": upload.recipe,
        "metadata": upload.metadata,
        "attempts": upload.attempts,
        "claims": upload.claims,
        "queued": moment(upload.queued_ms),
        "changed": moment(upload.changed_ms),
        "next_try": moment(upload.not_before_ms) if upload.state == State.QUEUED else None,
        "error": {"code": upload.error_code, "message": upload.error_message} if upload.error_code else None,
        "original": None
        if original is None
        else {
            "sha256": original.sha256,
            "bytes": original.bytes,
            "format": original.format,
            "width": original.width,
            "height": original.height,
            "color": original.color,
        },
        "variants": [
            {
                "name": variant.name,
                "key": variant.key,
                "width": variant.width,
                "height": variant.height,
                "bytes": variant.bytes,
                "sha256": variant.sha256,
            }
            for variant in upload.variants
        ],
    }


def failure_document(upload: Upload) -> dict[str, Any]:
    """An upload with the error of its last attempt."""
    return {
        "id": str(upload.id),
        "source": upload.source,
        "time": moment(upload.changed_ms),
        "attempts": upload.attempts,
        "error": {"code": upload.error_code, "message": upload.error_message},
    }


def retry_document(upload: Upload) -> dict[str, Any]:
    """An upload that waits for another try."""
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
