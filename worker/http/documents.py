"""Uploads as the HTTP face shows them."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response

from pipelines.moments import precise_moment
from storage.catalog.events import announced_upload
from storage.catalog.records import StoredVariant, StreamId, Upload, UploadRequested
from worker.documents import OUR_FAULT, placeholder_view
from worker.http.links import Links
from worker.srcset import srcset
from worker.upload_ids import default_id


def upload_view(upload: Upload, links: Links) -> dict[str, Any]:
    """An upload with links to its variants."""
    return {
        "id": str(upload.id),
        "source": upload.source,
        "state": upload.state,
        "recipe": upload.recipe,
        "metadata": upload.metadata,
        "attempts": upload.attempts,
        "error": _error(upload),
        "original": _original(upload),
        **placeholder_view(upload.original),
        "variants": [_variant(variant, links) for variant in upload.variants],
        "srcset": srcset(upload.variants, upload.original, links.of),
        "created": precise_moment(upload.queued_ms),
        "changed": precise_moment(upload.changed_ms),
    }


def upload_of_event(event: Mapping[str, Any], event_ms: int) -> Upload:
    """The upload as it will be once a worker has taken that event, of that time."""
    source = event["source"]
    asked = UploadRequested(
        StreamId(event_ms),
        default_id(source),
        source,
        event.get("recipe", "default"),
        event.get("metadata", {}),
        owner=event.get("owner"),
    )
    return announced_upload(asked)


def json_response(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A document that nobody is to keep."""
    return Response(
        orjson.dumps(document),
        int(status),
        {"Cache-Control": "no-store", **(headers or {})},
        "application/json",
    )


def _variant(variant: StoredVariant, links: Links) -> dict[str, Any]:
    return {
        "name": variant.name,
        "key": variant.key,
        "url": links.of(variant.key),
        "width": variant.width,
        "height": variant.height,
        "bytes": variant.bytes,
    }


def _original(upload: Upload) -> dict[str, Any] | None:
    original = upload.original
    if original is None:
        return None
    names = ("sha256", "bytes", "format", "width", "height", "color")
    return {name: getattr(original, name) for name in names}


def _error(upload: Upload) -> dict[str, Any] | None:
    if upload.error_code is None:
        return None
    internal = upload.error_code == "internal_error"  # whose traceback is not for the outside
    return {"code": upload.error_code, "message": OUR_FAULT if internal else upload.error_message}
