"""The page of all uploads: pictures, newest first, filtered and searched; all of it is in the URL."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, Field

from storage.catalog.reading import Cursor, UploadFilter
from storage.catalog.records import State, Upload
from storage.errors import CatalogUnavailable
from worker.http.console.pages import Console
from worker.http.console.paths import ROOT, ConsoleQuery, see_other, with_query
from worker.http.console.searches import ids_of, plain, source_prefix
from worker.http.console.vain_searches import VainSearches
from worker.http.console.visitors import Visitor
from worker.http.console.wording import Number, earlier_ms
from worker.http.cursors import cursor_of, place_in
from worker.http.face import Face
from worker.http.listing import Code, CursorText, bound, look_up, parse_moment_ms
from worker.http.problems import Problem
from worker.retry import CODES

PATH = f"{ROOT}/uploads"
PAGE = 40
MOST = 1000  # uploads that are counted where no total says how many there are
SPANS = {"1h": "Last hour", "24h": "24 hours", "7d": "7 days"}
"""The spans of time that are a click away."""

_SPAN = re.compile(r"([0-9]{1,4}) ?(min|h|d)")
_SECONDS = {"min": 60, "h": 3600, "d": 86_400}
_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


def moment_of(text: str) -> int:
    """The moment that a span such as `24h` before now begins, or that is written out. Raises: ValueError."""
    if span := _SPAN.fullmatch(text):
        return earlier_ms(int(span[1]) * _SECONDS[span[2]])
    return parse_moment_ms(text)


def _known_moment(text: str) -> str:
    try:
        moment_of(text)
    except ValueError:
        raise ValueError(
            "must be a span such as 1h, 24h or 7d, or a moment such as 2026-11-30T10:00"
        ) from None
    return text


Moment = Annotated[str, Field(max_length=64), AfterValidator(_known_moment)]
Word = Annotated[str, Field(max_length=64), AfterValidator(plain)]


class UploadsQuery(ConsoleQuery):
    """Which uploads are shown; a link to the page says all of it."""

    state: State | None = None
    code: Code | None = None
    recipe: Word | None = None
    owner: Word | None = None
    since: Moment | None = None
    until: Moment | None = None
    source: Annotated[str, Field(max_length=1024), AfterValidator(plain)] | None = None
    cursor: CursorText | None = None

    @property
    def upload_id(self) -> UUID | None:
        """The upload that is searched by its id."""
        return UUID(self.source) if self.source and _ID.fullmatch(self.source) else None

    @property
    def ids(self) -> tuple[UUID, UUID] | None:
        """The first and the last id that begin with what is searched."""
        return ids_of(self.source) if self.source else None

    @property
    def prefix(self) -> str | None:
        """How the sources begin that are searched."""
        return source_prefix(self.source) if self.source else None

    @property
    def where(self) -> UploadFilter:
        """The same as the catalog is asked."""
        return UploadFilter(
            state=self.state,
            code=self.code,
            recipe=self.recipe,
            owner=self.owner,
            since_ms=None if self.since is None else moment_of(self.since),
            until_ms=None if self.until is None else moment_of(self.until),
            source_prefix=self.prefix,
            hides_deleted=self.state is None,
        )

    @property
    def filters(self) -> dict[str, str]:
        """What is asked, but for the place in the list."""
        return {
            name: str(value) for name, value in self.model_dump(exclude={"cursor"}, exclude_none=True).items()
        }


@dataclass(frozen=True)
class ShownPage:
    """The uploads of a page, and the cursor of the next; they may be few, or none, though others follow."""

    uploads: Sequence[Upload]
    number: Number
    following: str | None = None
    is_all: bool = True
    """Whether it is the first page, and the last."""


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/uploads`."""
    face = console.face
    searches = face.shared(VainSearches)

    @router.get(PATH, include_in_schema=False)
    async def uploads(
        request: Request,
        query: Annotated[UploadsQuery, Query()],
        visitor: Annotated[Visitor, Depends(console.visitor)],
    ) -> Response:
        """Show a page of uploads, or the one whose id is searched."""
        if visitor.is_demo and ((query.source and query.ids is None) or query.owner):
            raise Problem(
                "bad_request", "A demo names neither sources nor owners: search for an upload by its id."
            )
        if "" in request.query_params.values():  # of fields that nobody has filled: not for a link to pass on
            return see_other(with_query(PATH, **query.filters, cursor=query.cursor))
        if query.upload_id is not None and await _is_there(face, visitor, query.upload_id):
            return see_other(f"{PATH}/{query.upload_id}")
        by_id = await _of_ids(face, visitor, query)
        if len(by_id) == 1:
            return see_other(f"{PATH}/{by_id[0].id}")
        if by_id or (visitor.is_demo and query.ids):
            shown = ShownPage(by_id[:PAGE], Number(min(len(by_id), PAGE), is_least=len(by_id) > PAGE))
        else:
            shown = await _page(face, visitor, query)
        vain = None
        if query.source and shown.is_all and not (shown.uploads or query.upload_id or visitor.is_demo):
            by_source = query.filters.keys() == {"source"}
            vain = await searches.explain(visitor, query.where, by_source_alone=by_source)
        filters = query.filters

        def link(**changes: object) -> str:
            return with_query(PATH, **{**filters, **changes})

        return console.page(
            request,
            visitor,
            "uploads.html",
            "Uploads",
            uploads=shown.uploads,
            vain=vain,
            asked=filters,
            unknown_id=query.upload_id,
            number=shown.number,
            link=link,
            first=link() if query.cursor else None,
            next=shown.following and link(cursor=shown.following),
            states=list(State),
            spans=SPANS,
            codes=sorted(CODES),
            recipes=sorted(face.settings.recipe_book),
        )


async def _is_there(face: Face, visitor: Visitor, upload_id: UUID) -> bool:
    try:
        await look_up(face, visitor.caller, upload_id, 0)
    except Problem as problem:
        return problem.more.get("state") == State.DELETED  # its page says so
    return True


async def _of_ids(face: Face, visitor: Visitor, query: UploadsQuery) -> Sequence[Upload]:
    """The uploads whose ids begin with what is searched, one more than a page at most."""
    if query.ids is None or query.upload_id is not None or query.cursor is not None:
        return []
    found = await face.reader.uploads_between(*query.ids, PAGE + 1)
    return [one for one in found if visitor.caller.may_see(one.source, one.owner)]


async def _page(face: Face, visitor: Visitor, query: UploadsQuery) -> ShownPage:
    caller = visitor.caller
    question = ["console", query.filters, caller.owner, caller.prefix]
    after = None if query.cursor is None else Cursor(*place_in(question, query.cursor, int, UUID))
    theirs = None if query.upload_id else bound(query.where, caller)
    number = Number(None) if query.upload_id else await _count(face, visitor, query)
    if theirs is None:
        return ShownPage([], number)
    found, place = await face.reader.page_within(theirs, after, PAGE)
    following = None if place is None else cursor_of(question, [place.changed_ms, str(place.id)])
    return ShownPage(found, number, following, is_all=after is None and following is None)


async def _count(face: Face, visitor: Visitor, query: UploadsQuery) -> Number:
    """How many uploads are so, as far as can be said at once."""
    if visitor.sees_all and query.filters.keys() <= {"state"}:
        try:
            states = await face.stores.catalog.reports.states()
        except CatalogUnavailable:
            pass  # a replica may be there to be counted
        else:
            deleted = states[State.DELETED]
            return Number(states[query.state] if query.state else sum(states.values()) - deleted)
    theirs = bound(query.where, visitor.caller)
    count = 0 if theirs is None else await face.reader.count(theirs, MOST + 1)
    return Number(None) if count is None else Number(min(count, MOST), is_least=count > MOST)
