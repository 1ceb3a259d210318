"""Uploads: listed, looked up and deleted."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from storage.catalog.reading import Cursor, UploadFilter
from storage.catalog.records import WAITING, State, Upload
from worker.http.access import Caller
from worker.http.announced import announced
from worker.http.cursors import LONGEST, cursor_of, page_response, place_in
from worker.http.documents import json_response, upload_view
from worker.http.face import Face
from worker.http.parameters import DirectRoute
from worker.http.problems import Problem, not_found
from worker.http.schemas import (
    CURSOR,
    ID,
    LINK,
    UPLOAD,
    ErrorView,
    OriginalView,
    UploadPage,
    UploadView,
    VariantView,
    document_of,
)
from worker.http.sending import has_it
from worker.http.waiting import LONGEST_WAIT_S, settled
from worker.retry import CODES
from worker.traceparent import parse_traceparent

_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,6})?")
_NESTED: Mapping[str, type[BaseModel]] = {
    "error": ErrorView,
    "original": OriginalView,
    "variants": VariantView,
}


def parse_moment_ms(value: object) -> int:
    """A moment in ms since 1970, of ISO 8601 or seconds. Raises: ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be a moment")  # noqa: TRY004 (pydantic expects ValueError)
    if _SECONDS.fullmatch(value):
        return int(float(value) * 1000)
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=moment.tzinfo or UTC)
        return max(0, int(moment.timestamp() * 1000))
    except (ValueError, OverflowError) as error:
        raise ValueError("must be ISO 8601 (a + in it as %2B), or seconds since 1970") from error


def _known_code(value: str) -> str:
    if value not in CODES:
        raise ValueError(f"there is no such code; there are {', '.join(sorted(CODES))}")
    return value


def _text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("must not contain control characters")
    return value


Fields = Mapping[str, frozenset[str] | None]
"""The fields that are wanted, and of those that are documents themselves, which of theirs; None: all."""


def _fields(value: object) -> Fields:
    wanted: dict[str, frozenset[str] | None] = {}
    for path in str(value).split(","):
        name, dot, inner = path.strip().partition(".")
        known = _NESTED[name].model_fields if name in _NESTED else {}
        if name not in UploadView.model_fields or (dot and inner not in known):
            raise ValueError(f"there is no field {path.strip()[:64]!r}")
        before = wanted.get(name, frozenset())
        wanted[name] = before | {inner} if dot and before is not None else None
    return wanted


def project(document: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    """Of a document, those fields alone."""
    return {name: _part(value, fields[name]) for name, value in document.items() if name in fields}


def _part(value: Any, names: frozenset[str] | None) -> Any:  # noqa: ANN401 (JSON)
    if names is None or value is None:
        return value
    if isinstance(value, list):
        return [_part(each, names) for each in value]
    return {name: inner for name, inner in value.items() if name in names}


Code = Annotated[
    str,
    AfterValidator(_known_code),
    Field(description="of the last try that failed", json_schema_extra={"enum": sorted(CODES)}),
]
Since = Annotated[
    int,
    BeforeValidator(parse_moment_ms, json_schema_input_type=str),
    Field(
        description="changed then or later: ISO 8601 (UTC unless it says otherwise), or seconds since 1970",
        examples=["2026-11-21T10:00:00Z"],
    ),
]
Limit = Annotated[int, Field(ge=1, le=100, description="how many at most")]
CursorText = Annotated[
    str, Field(min_length=1, max_length=LONGEST, description="`next` of the page before; of the same filters")
]


UploadId = Annotated[UUID, Path(description="its id", examples=[ID])]


class PageQuery(BaseModel):
    """What every list takes."""

    model_config = ConfigDict(extra="forbid")

    cursor: CursorText | None = None
    limit: Limit = 20


class Paged(PageQuery):
    """What every list of uploads takes."""

    code: Code | None = None
    since: Since | None = None
    source: (
        Annotated[
            str,
            AfterValidator(_text),
            Field(max_length=1024, description="how their sources begin", examples=["uploads/2026/"]),
        ]
        | None
    ) = None
    fields: (
        Annotated[
            Fields,
            BeforeValidator(_fields, json_schema_input_type=str),
            Field(
                description="of each, these alone, separated by commas; `variants.url` is one, too",
                examples=["id,state,variants.url"],
            ),
        ]
        | None
    ) = None


class Filters(Paged):
    """What the list of all uploads takes besides."""

    state: Annotated[State, Field(description="without it and `since`: all but the deleted ones")] | None = (
        None
    )
    recipe: Annotated[str, AfterValidator(_text), Field(max_length=64, examples=["default"])] | None = None


class Waiting(BaseModel):
    """How a look at one upload may wait."""

    model_config = ConfigDict(extra="forbid")

    wait: float = Field(
        0,
        ge=0,
        le=LONGEST_WAIT_S,
        description="seconds in which the answer waits until the upload is ready, failed or deleted",
    )


class Deletion(BaseModel):
    """What is to be deleted."""

    model_config = ConfigDict(extra="forbid")

    original: bool = Field(
        False, description="also the original, where the operator allows it (`MEDIA_DELETE_ORIGINALS`)"
    )


class DeletionView(BaseModel):
    """An upload that will be deleted."""

    id: str
    state: Literal["deleting"]


def bound(where: UploadFilter, caller: Caller) -> UploadFilter | None:
    """The same filter among what a caller may see; None: nothing can be so."""
    asked, own = where.source_prefix or "", caller.prefix or ""
    if not (asked.startswith(own) or own.startswith(asked)):
        return None
    if caller.owner is not None and where.owner not in (None, caller.owner):
        return None
    owner = where.owner if caller.owner is None else caller.owner
    return replace(where, owner=owner, source_prefix=max(asked, own, key=len) or None)


async def list_uploads(
    face: Face, caller: Caller, request: Request, query: Paged, where: UploadFilter
) -> Response:
    """A page of the uploads that are so. Raises: Problem, CatalogUnavailable."""
    question = [asdict(where), caller.owner, caller.prefix]
    after = None
    if query.cursor is not None:
        after = Cursor(*place_in(question, query.cursor, int, UUID))
    theirs = bound(where, caller)
    # One more than is shown says whether there are more.
    found = [] if theirs is None else await face.reader.page(theirs, after, query.limit + 1)
    shown = found[: query.limit]
    following = cursor_of(question, _place(shown[-1])) if len(found) > len(shown) else None
    items = [upload_view(upload, face.links) for upload in shown]
    if query.fields is not None:
        items = [project(item, query.fields) for item in items]
    return page_response(request, face.links.base, items, following, lag(face))


def lag(face: Face) -> dict[str, str]:
    """How far what was read may lag behind, as a header, where a replica of the catalog is read."""
    seconds = face.reader.lag_s
    return {} if seconds is None else {"Media-Lag": f"{seconds:.3f}"}


async def send_deletion(
    face: Face, upload_id: UUID, *, with_original: bool, traceparent: str | None = None
) -> None:
    """Have an upload deleted, in the order of events. Raises: QueueUnavailable, StreamMismatch."""
    event: dict[str, Any] = {"delete": str(upload_id)}
    if with_original:
        event["original"] = True
    if traceparent:
        event["traceparent"] = traceparent
    await face.queue.ownership.check_not_of_another(face.stores.catalog.id)
    await face.queue.stream.add(event)


def routes(face: Face) -> APIRouter:
    """`/v1/uploads`, but for what uploads."""
    router = APIRouter(tags=["uploads"], route_class=DirectRoute)
    read, operate = face.access.requires("read"), face.access.requires("operate")
    page = {"items": [UPLOAD], "next": CURSOR}

    @router.get("/v1/uploads", responses={200: document_of(UploadPage, "A page.", page, LINK)})
    async def list_all(
        request: Request, query: Annotated[Filters, Query()], caller: Annotated[Caller, Depends(read)]
    ) -> Response:
        """List uploads, those that changed last first.

        An upload that changes meanwhile moves to the front: whoever needs each of them asks afterwards for
        those that have changed `since` the first page. Then the deleted ones are told, too.
        """
        where = UploadFilter(
            state=query.state,
            code=query.code,
            recipe=query.recipe,
            since_ms=query.since,
            source_prefix=query.source,
            # Whoever follows changes has to hear of deletions.
            hides_deleted=query.state is None and query.since is None,
        )
        return await list_uploads(face, caller, request, query, where)

    @router.get(
        "/v1/uploads/{upload_id}",
        responses={
            200: document_of(
                UploadView, "The upload.", UPLOAD, {"ETag": _header("changes with the document")}
            ),
            304: {"description": "It is as `If-None-Match` says."},
        },
    )
    async def show(
        request: Request,
        upload_id: UploadId,
        query: Annotated[Waiting, Query()],
        caller: Annotated[Caller, Depends(read)],
    ) -> Response:
        """Show one upload; with `wait`, once nothing is to be done for it any more.

        One that was deleted is not found; the problem's `state` says that it was there.
        """
        upload = await look_up(face, caller, upload_id, query.wait)
        return _conditional(request, upload_view(upload, face.links), lag(face))

    @router.delete(
        "/v1/uploads/{upload_id}",
        status_code=HTTPStatus.ACCEPTED,
        responses={
            202: document_of(DeletionView, "It will be deleted.", {"id": ID, "state": "deleting"}),
        },
    )
    async def delete(
        request: Request,
        upload_id: UploadId,
        query: Annotated[Deletion, Query()],
        caller: Annotated[Caller, Depends(operate)],
    ) -> Response:
        """Delete an upload: its variants, and the original where that is asked for and allowed.

        It is done in the order of events; `upload.deleted` tells when, and whether the original was kept.
        """
        await look_up(face, caller, upload_id, 0, newest=True)
        traceparent = parse_traceparent(request.headers.get("traceparent"))
        await send_deletion(face, upload_id, with_original=query.original, traceparent=traceparent)
        return json_response(
            {"id": str(upload_id), "state": State.DELETING},
            HTTPStatus.ACCEPTED,
            {"Location": face.links.of_upload(upload_id)},
        )

    return router


async def look_up(
    face: Face, caller: Caller, upload_id: UUID, wait_s: float, *, newest: bool = False
) -> Upload:
    """The upload, which is there and theirs; `newest`: also where only the catalog itself has it yet.

    Raises: Problem (not_found), CatalogUnavailable.
    """
    upload = await face.reader.upload(upload_id)
    if upload is None:
        upload = await announced(face, upload_id)
    if upload is None and newest and face.reader.lag_s is not None:
        upload = await face.stores.catalog.reports.find(upload_id)
    _check_there(upload, caller, waits=wait_s > 0)
    if wait_s > 0 and (upload is None or upload.state in WAITING):
        upload = await settled(face, upload_id, wait_s) or await announced(face, upload_id) or upload
    _check_there(upload, caller)
    assert upload is not None
    return upload


def _check_there(upload: Upload | None, caller: Caller, *, waits: bool = False) -> None:
    """Raises: Problem. Who is bound waits for nothing unknown: it would tell them from what is another's."""
    if upload is None:
        if waits and caller.owner is None and caller.prefix is None:
            return
        raise not_found("There is no such upload.")
    caller.check_theirs(upload.source, upload.owner)
    if upload.state is State.DELETED:
        raise Problem("not_found", "The upload was deleted.", more={"state": State.DELETED})


def _conditional(request: Request, document: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    """The document, unless the client has it as it is."""
    body = orjson.dumps(document)
    # Of what is shown, not of the row alone: signed links change, too. Weak, as it may be compressed.
    tag = f'"{sha256(body).hexdigest()[:24]}"'
    headers = {"Cache-Control": "private, no-cache", "ETag": f"W/{tag}", **headers}
    if has_it(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, "application/json")


def _place(upload: Upload) -> Sequence[int | str]:
    place = Cursor.of(upload)
    return place.changed_ms, str(place.id)


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string"}}
