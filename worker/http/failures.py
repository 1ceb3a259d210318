"""Failures: failed uploads and dead letters, listed, retried and discarded."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from storage.catalog.reading import Cursor, UploadFilter
from storage.catalog.records import DeadLetter, State, Upload
from storage.keys import owner_of_source
from worker.documents import dead_letter_document
from worker.events import read_about
from worker.failures import Chosen, choose, discard, retry
from worker.http.access import Caller
from worker.http.bodies import json_body, read_json
from worker.http.cursors import cursor_of, page_response, place_in
from worker.http.documents import json_response
from worker.http.face import Face
from worker.http.listing import Code, Paged, PageQuery, bound, lag, list_uploads
from worker.http.parameters import DirectRoute
from worker.http.schemas import (
    CURSOR,
    ID,
    LINK,
    UPLOAD,
    ErrorView,
    Next,
    NoParameters,
    UploadPage,
    document_of,
)

MOST = 5000  # failures that one request retries or discards
_PAGE = 200
_LETTERS = 100  # of at most 64 kB each
_LOOKED_AT = 1000  # letters, for a page of those that a caller may see
_MOST_IDS = 1000


class DeadLetterView(BaseModel):
    """An event that was refused: its bytes, and why."""

    id: int
    stream_id: str = Field(description="the ID of its entry in the stream")
    time: str = Field(description="when it was refused: ISO 8601, UTC")
    error: ErrorView
    bytes: int
    body: str = Field(description="its bytes as text; those that are not UTF-8 as \\xff")


class DeadLetterPage(BaseModel):
    """Dead letters, the latest first."""

    items: list[DeadLetterView]
    next: Next


def _failure_id(value: object) -> UUID | int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 63:
        return value
    try:
        return UUID(value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError("must be the id of an upload or the number of a dead letter") from None


FailureId = Annotated[
    UUID | int,
    BeforeValidator(_failure_id),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "uuid"},
                {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
            ]
        }
    ),
]


class Which(BaseModel):
    """Which failures are meant: exactly one of the three."""

    model_config = ConfigDict(extra="forbid")

    ids: (
        Annotated[
            list[FailureId],
            Field(
                min_length=1,
                max_length=_MOST_IDS,
                description="ids of failed uploads, and numbers of dead letters",
            ),
        ]
        | None
    ) = None
    code: Code | None = None
    all: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len([each for each in (self.ids, self.code, self.all) if each is not None]) != 1:
            raise ValueError("say exactly one of ids, code and all")
        return self


NotFailed = Annotated[list[str], Field(description="those of `ids` that name no failure")]
More = Annotated[bool, Field(description="whether the same request has more to do")]


class Retried(BaseModel):
    """What is tried again."""

    queued: int
    kept: int = Field(
        description="dead letters that stay: their entries had no field `event`, they can only be discarded"
    )
    not_failed: NotFailed
    more: More


class Discarded(BaseModel):
    """What is forgotten."""

    discarded: int
    kept: int = Field(description="uploads that stay, as they have variants")
    not_failed: NotFailed
    more: More


class FailureKind(Enum):
    """What a person can deal with."""

    UPLOAD = auto()
    WAITING = auto()
    """An upload that waits for another try."""
    LETTER = auto()


@dataclass(frozen=True)
class Meant:
    """Which failures are meant: those with `ids`, or all of these kinds that are so."""

    ids: Sequence[UUID | int] | None = None
    where: UploadFilter = field(default_factory=UploadFilter)  # of letters, the code alone counts
    kinds: Collection[FailureKind] = frozenset(FailureKind)
    last_letter: int | None = None  # newer ones are not meant

    @classmethod
    def of(cls, which: Which) -> Self:
        """What a program asks for: of all kinds."""
        return cls(which.ids, UploadFilter(code=which.code))


@dataclass
class Handled:
    """What was done so far, and the ids that are of no failure that the caller may see."""

    count: int = 0
    kept: int = 0
    not_failed: Sequence[str] = ()
    more: bool = False
    uploads: list[UUID] = field(default_factory=list)
    """Those that are tried again, or are no more."""
    letters: list[int] = field(default_factory=list)
    """The dead letters that were sent, or are no more."""
    changed: int = 0
    """Uploads that somebody else had dealt with before it came to them."""


def routes(face: Face) -> APIRouter:
    """`/v1/failures` and `/v1/dead-letters`."""
    router = APIRouter(tags=["failures"], route_class=DirectRoute)
    read, operate = face.access.requires("read"), face.access.requires("operate")

    @router.get("/v1/failures", responses={200: document_of(UploadPage, "A page.", _page(_FAILED), LINK)})
    async def list_failures(
        request: Request, query: Annotated[Paged, Query()], caller: Annotated[Caller, Depends(read)]
    ) -> Response:
        """List the uploads that have failed, the latest first."""
        where = UploadFilter(
            state=State.FAILED, code=query.code, since_ms=query.since, source_prefix=query.source
        )
        return await list_uploads(face, caller, request, query, where)

    @router.get(
        "/v1/dead-letters", responses={200: document_of(DeadLetterPage, "A page.", _page(_LETTER), LINK)}
    )
    async def list_letters(
        request: Request, query: Annotated[PageQuery, Query()], caller: Annotated[Caller, Depends(read)]
    ) -> Response:
        """List the events that were refused, the latest first.

        A key that is bound to an owner or to a folder sees those that name a source of theirs; then a page
        may hold fewer than `limit`, although another follows.
        """
        question = ["dead-letters", caller.owner, caller.prefix]
        after = None if query.cursor is None else place_in(question, query.cursor, int)[0]
        letters, following = await letters_for(face, caller, after, query.limit)
        items = [dead_letter_document(letter) for letter in letters]
        cursor = None if following is None else cursor_of(question, [following])
        return page_response(request, face.links.base, items, cursor, lag(face))

    @router.post(
        "/v1/failures/retry",
        status_code=HTTPStatus.ACCEPTED,
        responses={202: document_of(Retried, "They are queued.", {"queued": 19, "kept": 0, **_REST})},
        openapi_extra=json_body(Which, {"code": "storage_full"}),
    )
    async def retry_failures(
        request: Request,
        query: Annotated[NoParameters, Query()],
        caller: Annotated[Caller, Depends(operate)],
    ) -> Response:
        """Queue failed uploads again, and send dead letters to the stream once more.

        Those that wait for another try are tried now, and count as queued. Pictures that killed their
        decoder are tried again, too. Dead letters whose entries had no field `event` stay (`kept`): they
        can only be discarded. Of very many, the first some thousand; `more` says so.
        """
        done = Handled()
        await retry_meant(face, caller, Meant.of(await read_json(request, Which)), done)
        answer = {
            "queued": done.count,
            "kept": done.kept,
            "not_failed": done.not_failed,
            "more": done.more,
        }
        return json_response(answer, HTTPStatus.ACCEPTED)

    @router.post(
        "/v1/failures/discard",
        status_code=HTTPStatus.ACCEPTED,
        responses={202: document_of(Discarded, "They are gone.", {"discarded": 19, "kept": 1, **_REST})},
        openapi_extra=json_body(Which, {"ids": [ID, 17]}),
    )
    async def discard_failures(
        request: Request,
        query: Annotated[NoParameters, Query()],
        caller: Annotated[Caller, Depends(operate)],
    ) -> Response:
        """Forget failed uploads without variants, and dead letters. Originals stay where they are.

        An upload that has variants of earlier content is kept, as they are still served: delete it instead.
        """
        done = Handled()
        await discard_meant(face, caller, Meant.of(await read_json(request, Which)), done)
        answer = {
            "discarded": done.count,
            "kept": done.kept,
            "not_failed": done.not_failed,
            "more": done.more,
        }
        return json_response(answer, HTTPStatus.ACCEPTED)

    return router


async def retry_meant(face: Face, caller: Caller, meant: Meant, done: Handled) -> None:
    """Queue uploads again, and send dead letters once more, as far as the caller may see them.

    `done` tells what was done also where this ends in the midst.

    Raises: Problem, StorageError, QueueUnavailable.
    """
    await face.queue.ownership.check_not_of_another(face.stores.catalog.id)
    async for chosen in _chosen(face, caller, meant, done):
        again = await retry(chosen, face.stores, face.queue)
        done.uploads += [*again.queued, *again.due]
        done.changed += len(chosen.uploads) - len(again.queued)
        done.letters += again.sent
        done.count += len(again.queued) + len(again.due) + len(again.sent)
        done.kept += len(chosen.letters) - len(again.sent)


async def discard_meant(face: Face, caller: Caller, meant: Meant, done: Handled) -> None:
    """Forget failed uploads without variants, and dead letters, as far as the caller may see them.

    Raises: Problem, StorageError.
    """
    kinds = frozenset(meant.kinds) - {FailureKind.WAITING}
    async for chosen in _chosen(face, caller, replace(meant, kinds=kinds), done):
        gone = await discard(chosen, face.stores.catalog)
        done.uploads += gone
        done.letters += [letter.id for letter in chosen.letters]
        done.count += len(gone) + len(chosen.letters)
        done.kept += len(chosen.uploads) - len(gone)


async def _chosen(face: Face, caller: Caller, meant: Meant, done: Handled) -> AsyncIterator[Chosen]:
    """The failures that are meant and that the caller may see, in parts, each once: the newest first.

    What fails again meanwhile is newer than all that comes yet.
    """
    if meant.ids is not None:
        chosen = await named_failures(face, caller, meant.ids, waits=FailureKind.WAITING in meant.kinds)
        done.not_failed = chosen.missing
        yield chosen
        return
    parts = [_failed_uploads(face, caller, meant), _waiting_uploads(face, caller, meant)]
    for part in (*parts, _refused_events(face, caller, meant)):
        async for chosen in part:
            yield chosen
            if done.count >= MOST:
                done.more = True
                return


async def _failed_uploads(face: Face, caller: Caller, meant: Meant) -> AsyncIterator[Chosen]:
    theirs = bound(replace(meant.where, state=State.FAILED), caller)
    after: Cursor | None = None
    while theirs and FailureKind.UPLOAD in meant.kinds and (page := await _page_of(face, theirs, after)):
        yield Chosen(page, [], [])
        after = Cursor.of(page[-1])


async def _waiting_uploads(face: Face, caller: Caller, meant: Meant) -> AsyncIterator[Chosen]:
    theirs = bound(replace(meant.where, is_put_off=True), caller)
    after: Cursor | None = None
    while theirs and FailureKind.WAITING in meant.kinds and (page := await _page_of(face, theirs, after)):
        yield Chosen([], [], [], page)
        after = Cursor.of(page[-1])


async def _page_of(face: Face, where: UploadFilter, after: Cursor | None) -> Sequence[Upload]:
    return await face.reader.page(where, after, _PAGE)


async def _refused_events(face: Face, caller: Caller, meant: Meant) -> AsyncIterator[Chosen]:
    code, after = meant.where.code, None if meant.last_letter is None else meant.last_letter + 1
    while FailureKind.LETTER in meant.kinds and (letters := await face.reader.dead_letters(after, _LETTERS)):
        if wanted := [one for one in letters if code in (None, one.code) and may_see_letter(caller, one)]:
            yield Chosen([], wanted, [])
        after = letters[-1].id


async def named_failures(face: Face, caller: Caller, ids: Sequence[UUID | int], *, waits: bool) -> Chosen:
    """Those of `ids` that are failures and that the caller may see. Raises: CatalogUnavailable."""
    numbers = [each for each in ids if isinstance(each, int)]
    uuids = [each for each in ids if isinstance(each, UUID)]
    found = await choose(face.stores.catalog, uuids, numbers, None, waits=waits)
    uploads = [upload for upload in found.uploads if caller.may_see(upload.source, upload.owner)]
    waiting = [upload for upload in found.waiting if caller.may_see(upload.source, upload.owner)]
    letters = [letter for letter in found.letters if may_see_letter(caller, letter)]
    known = {one.id for some in (uploads, letters, waiting) for one in some}
    return Chosen(uploads, letters, [str(each) for each in ids if each not in known], waiting)


async def letters_for(
    face: Face, caller: Caller, after: int | None, limit: int, code: str | None = None
) -> tuple[Sequence[DeadLetter], int | None]:
    """The next dead letters that the caller may see, and after which others may follow; None: after none."""
    seen: list[DeadLetter] = []
    looked_at = 0
    while page := await face.reader.dead_letters(after, min(limit + 1, _LETTERS)):
        for letter in page:
            if len(seen) == limit or looked_at == _LOOKED_AT:
                return seen, after
            seen += [letter] if code in (None, letter.code) and may_see_letter(caller, letter) else []
            after, looked_at = letter.id, looked_at + 1
    return seen, None


def may_see_letter(caller: Caller, letter: DeadLetter) -> bool:
    """Whether a letter is theirs: of a caller who is bound, only what names a source of theirs."""
    if caller.owner is None and caller.prefix is None:
        return True
    about = read_about(letter.body)
    if about is None or about.source is None:
        return False
    owner = owner_of_source(about.source) if about.owner is None else about.owner
    return caller.may_see(about.source, owner)


def _page(example: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"items": [example], "next": CURSOR}


_REST = {"not_failed": [], "more": False}
_FAILED = {
    **UPLOAD,
    "state": "failed",
    "attempts": 1,
    "error": {"code": "corrupt_image", "message": "The picture is damaged."},
    "original": None,
    "thumbhash": None,
    "blurhash": None,
    "variants": [],
    "srcset": "",
}
_LETTER = {
    "id": 17,
    "stream_id": "1763719200310-0",
    "time": "2026-11-21T10:00:00+00:00",
    "error": {"code": "invalid_event", "message": "source: must start with uploads/"},
    "bytes": 25,
    "body": '{"source": "photos/1.jpg"}',
}
