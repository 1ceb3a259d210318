"""Originals, which are strangers' bytes: to be saved by whoever may have them, never to be shown."""

import hashlib
import re
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from pipelines.formats import HEAD, sniff
from storage.blobs import BlobPart
from storage.catalog.records import State, Upload
from storage.errors import BlobNotFound, BlobRefused
from worker.http.access import Caller
from worker.http.face import Face
from worker.http.files import part_size
from worker.http.parameters import DirectRoute
from worker.http.problems import Problem, not_found
from worker.http.schemas import NoParameters
from worker.http.sending import Blob, Sender

HARMED = frozenset({"decoder_crashed", "decode_timeout", "too_much_memory", "too_many_pixels"})
"""What killed a decoder here, or would have: it is sent as bytes of no type, so that nothing decodes it."""

_EXTENSIONS = {"jpeg": "jpg", "tiff": "tif"}
_TYPES = {"ico": "image/vnd.microsoft.icon"}
_NO_TYPE = "application/octet-stream"
_GONE = (State.DELETING, State.DELETED)
_LONGEST_NAME = 100  # characters
_UNSAFE = re.compile(r'[<>:"/\\|?*%;]|^[.\s~-]+|[.\s]+$')  # in a name, for a shell or for Windows


def routes(face: Face) -> APIRouter:
    """`/v1/uploads/{id}/original`."""
    router = APIRouter(tags=["files"], route_class=DirectRoute)
    sender = Sender(part_size(face.settings))

    @router.get("/v1/uploads/{upload_id}/original", response_class=Response, responses=_RESPONSES)
    async def original(
        request: Request,
        upload_id: UUID,
        query: Annotated[NoParameters, Query()],
        caller: Annotated[Caller, Depends(face.access.requires("originals"))],
    ) -> Response:
        """Get the original of an upload, as a file to save: what somebody has sent, unchecked.

        Its type is that of its first bytes. What made a decoder crash or take too much is sent as
        `application/octet-stream` with the ending `.bin`, so that no program decodes it by itself.
        """
        return await send_original(face, sender, request, caller, upload_id)

    return router


async def send_original(
    face: Face, sender: Sender, request: Request, caller: Caller, upload_id: UUID
) -> Response:
    """The original of an upload of theirs, as a file to save. Raises: Problem, StorageError."""
    upload, head = await find_original(face, caller, upload_id)
    blob = original_blob(upload, head, headers_of(upload, head.content))
    return await sender.send(request, face.stores.blobs, blob)


async def find_original(face: Face, caller: Caller, upload_id: UUID) -> tuple[Upload, BlobPart]:
    """An upload of theirs, and how its original begins. Raises: Problem (not found), StorageError."""
    upload = await face.reader.upload(upload_id)
    if upload is None or upload.source is None:
        raise not_found("There is no such upload.")
    caller.check_theirs(upload.source, upload.owner)
    if upload.state in _GONE:
        raise not_found("The upload was deleted.")
    try:
        return upload, await face.stores.blobs.read_part(upload.source, 0, HEAD)
    except (BlobNotFound, BlobRefused) as error:
        raise Problem("source_missing", "The original is not there any more.") from error


def original_blob(upload: Upload, head: BlobPart, headers: Mapping[str, str]) -> Blob:
    """The original that begins so, and no other that may come in its place."""
    etag = f'"{hashlib.sha256(head.stamp.encode()).hexdigest()[:32]}"'
    return Blob(upload.source or "", etag, headers, head.stamp)


def headers_of(upload: Upload, head: bytes) -> Mapping[str, str]:
    """What is said of an original that begins so."""
    known = sniff(head) if upload.error_code not in HARMED else None
    if known is None:
        kind, ending = _NO_TYPE, "bin"
    else:
        kind = _TYPES.get(known.name, f"image/{known.name}")
        ending = _EXTENSIONS.get(known.name, known.name)
    return {
        "Content-Type": kind,
        "Content-Disposition": attachment(upload.source or "", ending),
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def attachment(source: str, ending: str) -> str:
    """The Content-Disposition of a file to save, named like `source`, but with the ending of what it is."""
    name = source.rpartition("/")[2]
    stem = name.rpartition(".")[0] or name
    printable = "".join(one if one.isprintable() else "_" for one in stem)  # a name can also turn the text
    safe = _UNSAFE.sub("_", printable)[:_LONGEST_NAME] or "original"
    plain = safe.encode("ascii", "replace").decode().replace("?", "_")
    return f"attachment; filename=\"{plain}.{ending}\"; filename*=UTF-8''{quote(safe, safe='')}.{ending}"


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes, to be saved.",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}, "example": "(bytes)"}},
    },
    206: {
        "description": "The range of them that was asked for.",
        "content": {"*/*": {"schema": {"type": "string", "format": "binary"}, "example": "(bytes)"}},
    },
    403: {"description": "The key lacks the scope originals."},
    404: {"description": "There is no such upload, it was deleted, or its original is gone."},
    416: {"description": "There are no bytes in that range."},
}
