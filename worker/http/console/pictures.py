"""Pictures that pages show: variants by the console itself, and originals where a browser may have them."""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from pipelines.formats import sniff
from storage.keys import parse_variant_key
from worker.http.console.pages import Console
from worker.http.console.paths import ROOT, NoFields
from worker.http.console.safe_originals import OF_BROWSERS, is_safe
from worker.http.console.visitors import Visitor
from worker.http.files import TYPES, part_size
from worker.http.originals import find_original, original_blob, send_original
from worker.http.problems import not_found
from worker.http.sending import Blob, Sender

KEPT_S = 86_400  # by the visitor's browser: a variant never changes, but one that was deleted is to go soon

_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/variants/`, `/console/originals/` and `/console/uploads/{id}/original`."""
    face = console.face
    sender = Sender(part_size(face.settings))

    async def variant(
        request: Request,
        first: str,
        second: str,
        file: str,
        query: Annotated[NoFields, Query()],
        visitor: Annotated[Visitor, Depends(console.visitor)],
    ) -> Response:
        """Show a variant, also a superseded one, however apps get theirs."""
        key = f"variants/{first}/{second}/{file}"
        name = parse_variant_key(key)
        if name is None:
            raise not_found("There is no such picture.")
        if not visitor.sees_all:
            upload = await face.reader.upload_of_variant(key)
            if upload is None:
                raise not_found("There is no such picture.")
            visitor.caller.check_theirs(upload.source, upload.owner)
        headers = {
            "Content-Type": TYPES[key.rpartition(".")[2]],
            "Cache-Control": f"private, max-age={KEPT_S}, immutable",
            **_HEADERS,
        }
        return await sender.send(request, face.stores.blobs, Blob(key, f'"{name}"', headers))

    path = f"{ROOT}/variants/{{first}}/{{second}}/{{file}}"
    router.get(path, include_in_schema=False)(variant)

    @router.get(f"{ROOT}/originals/{{upload_id}}", include_in_schema=False)
    async def original(
        request: Request,
        upload_id: UUID,
        query: Annotated[NoFields, Query()],
        visitor: Annotated[Visitor, Depends(console.visitor)],
    ) -> Response:
        """Show the original of an upload that has failed, where that harms no browser."""
        upload, head = await find_original(face, visitor.caller, upload_id)
        kind = sniff(head.content)
        is_large = head.bytes > face.settings.max_source_bytes
        if not is_safe(upload, visitor) or kind is None or kind.name not in OF_BROWSERS or is_large:
            raise not_found("The original of this upload is not shown.")
        headers = {"Content-Type": f"image/{kind.name}", "Cache-Control": "private, no-store", **_HEADERS}
        return await sender.send(request, face.stores.blobs, original_blob(upload, head, headers))

    @router.get(f"{ROOT}/uploads/{{upload_id}}/original", include_in_schema=False)
    async def save_original(
        request: Request,
        upload_id: UUID,
        query: Annotated[NoFields, Query()],
        visitor: Annotated[Visitor, Depends(console.originals)],
    ) -> Response:
        """Send the original of an upload, to be saved."""
        return await send_original(face, sender, request, visitor.caller, upload_id)
