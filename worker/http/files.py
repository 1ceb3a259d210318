"""Variants as files: for ever the same under their names, so that everybody may keep them."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from storage.blobs import SignLinks
from storage.blobs.opening import links_to
from storage.blobs.s3_place import is_s3
from storage.keys import parse_variant_key
from worker.http.face import Face
from worker.http.parameters import DirectRoute
from worker.http.problems import Problem, not_found
from worker.http.sending import OF_A_FILE, OF_AN_OBJECT, Blob, Sender, check_there
from worker.settings import Settings

PATH = "/files/variants/{first}/{second}/{file}"
FOR_EVER = 31_536_000  # seconds
REDIRECTED_S = 3600  # for so long a redirect leads to the bucket
_TO_BEGIN_S = 600  # of them are for whoever follows a redirect that a cache has kept

TYPES: Mapping[str, str] = {"jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}
"""The media types of variants, by how their keys end."""

_SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}
_ACCEL = "accel:"

Answer = Callable[[Request, str, int | None], Awaitable[Response]]
"""The answer for a key; with the seconds for which its link counts yet, where it is a signed one."""


class LinkQuery(BaseModel):
    """What a signed link brings."""

    model_config = ConfigDict(extra="forbid")

    expires: str = ""
    signature: str = ""


def routes(face: Face) -> APIRouter:
    """`/files/`: variants, also superseded ones as long as they are kept."""
    router = APIRouter(tags=["files"], route_class=DirectRoute)
    answer = answerer(face)

    async def variant(
        request: Request, first: str, second: str, file: str, link: Annotated[LinkQuery, Query()]
    ) -> Response:
        """Get a variant.

        It is found under the `url` that an upload says. Its bytes never change: keep them for ever.
        Where the server takes signed links alone, the link says until when it counts. Originals are not here.
        """
        key = f"variants/{first}/{second}/{file}"
        if parse_variant_key(key) is None:
            raise not_found("There is no such file.")
        left_s: int | None = None
        if face.settings.http_files == "signed":
            left_s = face.links.left_s(key, link.expires, link.signature)
            if left_s is None:
                raise Problem("forbidden", "The link is not signed, or it has expired: ask for the upload.")
        return await answer(request, key, left_s)

    router.get(PATH, response_class=Response, responses=_RESPONSES)(variant)
    return router


def answerer(face: Face) -> Answer:
    """What sends files as the settings say (MEDIA_HTTP_SEND). Raises: BlobsUnfit."""
    mode = face.settings.http_send
    if mode.startswith(_ACCEL):
        return _by_accel(mode.removeprefix(_ACCEL), face)
    if mode == "redirect" and (links := links_to(face.settings.storage_url)):
        return _by_redirect(links, _directly(face))
    return _directly(face)


def part_size(settings: Settings) -> int:
    """How many bytes are read at once of what is sent."""
    return OF_AN_OBJECT if is_s3(settings.storage_url) else OF_A_FILE


def _directly(face: Face) -> Answer:
    sender = Sender(part_size(face.settings))

    async def answer(request: Request, key: str, left_s: int | None) -> Response:
        blob = Blob(key, f'"{parse_variant_key(key)}"', _headers(key, left_s))
        return await sender.send(request, face.stores.blobs, blob)

    return answer


def _by_accel(prefix: str, face: Face) -> Answer:
    """The web server in front sends the file, and knows whether the client has it."""

    async def answer(_request: Request, key: str, left_s: int | None) -> Response:
        # nginx would keep these headers on its own 404, and caches that for ever.
        await check_there(face.stores.blobs, key)
        return Response(None, headers={**_headers(key, left_s), "X-Accel-Redirect": f"{prefix}{key}"})

    return answer


def _by_redirect(links: SignLinks, directly: Answer) -> Answer:
    async def answer(request: Request, key: str, left_s: int | None) -> Response:
        if request.method == "HEAD":  # which the bucket would refuse: the URL is signed for GET
            return await directly(request, key, left_s)
        lasting_s = REDIRECTED_S if left_s is None else min(REDIRECTED_S, left_s)
        url = await links.sign(key, lasting_s)
        kept_s = max(0, lasting_s - _TO_BEGIN_S)
        headers = {**_SAFE, "Cache-Control": f"private, max-age={kept_s}", "Location": url}
        return Response(None, HTTPStatus.FOUND.value, headers)

    return answer


def _headers(key: str, left_s: int | None) -> Mapping[str, str]:
    if left_s is None:
        keeping = {
            "Cache-Control": f"public, max-age={FOR_EVER}, immutable",
            "Cross-Origin-Resource-Policy": "cross-origin",
        }
    else:
        keeping = {"Cache-Control": f"private, max-age={left_s}"}
    return {"Content-Type": TYPES[key.rpartition(".")[2]], **keeping, **_SAFE}


_BINARY = {"schema": {"type": "string", "format": "binary"}, "example": "(bytes)"}
_BYTES = dict.fromkeys(TYPES.values(), _BINARY)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": _BYTES},
    206: {"description": "The range of it that was asked for.", "content": _BYTES},
    302: {"description": "It is at that URL of the bucket (MEDIA_HTTP_SEND=redirect)."},
    304: {"description": "The client has it."},
    403: {"description": "The link is not signed, or has expired (MEDIA_HTTP_FILES=signed)."},
    404: {"description": "There is no such file, or it was deleted."},
    416: {"description": "It has no bytes in that range."},
}
