"""What OpenAPI says of uploading."""

from collections.abc import Mapping
from typing import Any

from worker.http.openapi import problem
from worker.http.schemas import UploadView, document_of

EXAMPLE: Mapping[str, Any] = {
    "id": "0e5d4c1c-5a34-5e5b-9d2c-0a6c2a5c8a10",
    "source": "uploads/http/4a/4a2ca705-03aa-42b8-a8b8-e2aa1374070e.jpg",
    "state": "queued",
    "recipe": "default",
    "metadata": {"album": "42"},
    "attempts": 0,
    "error": None,
    "original": None,
    "thumbhash": None,
    "blurhash": None,
    "variants": [],
    "srcset": "",
    "created": "2026-11-28T12:00:00.000Z",
    "changed": "2026-11-28T12:00:00.000Z",
}

_ANSWERED: Mapping[str, Any] = {
    "Location": {"description": "the upload's own address", "schema": {"type": "string"}},
    "Preference-Applied": {"description": "`wait=N`, where that was preferred", "schema": {"type": "string"}},
}


def _upload(description: str) -> dict[str, Any]:
    return document_of(UploadView, description, EXAMPLE, _ANSWERED)


def _header(name: str, description: str, example: str) -> dict[str, Any]:
    schema = {"type": "string"}
    return {"name": name, "in": "header", "description": description, "schema": schema, "example": example}


_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "recipe": {"type": "string"},
            "metadata": {"type": "string", "description": "A JSON object, at most 4 KiB."},
        },
    }
}
_BODY = {"required": True, "content": {"image/*": _PICTURE, "multipart/form-data": _FORM}}
_HEADERS = [
    _header("Repr-Digest", "RFC 9530: the SHA-256 that the picture must have.", f"sha-256=:{'A' * 43}=:"),
    _header("Media-Recipe", "The name of the recipe that says which variants are made.", "default"),
    _header(
        "Media-Metadata", "A JSON object that every message hands back; at most 4 KiB.", '{"album": "42"}'
    ),
    _header("Prefer", "RFC 7240: `wait=N` waits up to N seconds (30 at most) for the variants.", "wait=5"),
    _header(
        "traceparent", "W3C: the trace of the app.", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    ),
]
_KEY = _header("Idempotency-Key", "A retry under the same key is the same upload.", "7f1c2a9e")
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _upload("The same bytes were there already."),
    201: _upload("The upload was taken."),
    408: problem(408, "The body came too slowly.", "bad_request"),
    413: problem(413, "The picture has too many bytes; `Upload-Limit` says the limit.", "source_too_large"),
    415: problem(415, "The body is no picture of an accepted format.", "unsupported_format"),
    422: problem(422, "The digest, the recipe, the metadata or the path is wrong.", "digest_mismatch"),
    429: problem(429, "Too many came under this key; `Retry-After` says when the next may.", "rate_limited"),
    503: problem(503, "There is no room for more just now, or something is away.", "busy"),
    507: problem(507, "The storage is full.", "storage_full"),
}
UPLOAD: dict[str, Any] = {
    "responses": _RESPONSES,
    "openapi_extra": {"requestBody": _BODY, "parameters": [_KEY, *_HEADERS]},
}
PUT: dict[str, Any] = {
    "responses": _RESPONSES,
    "openapi_extra": {"requestBody": _BODY, "parameters": _HEADERS},
}
