"""Failures: which uploads have failed, grouped by code and time, and what a person can do about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from storage.catalog.reading import Cursor
from storage.catalog.records import WAITING, State, Upload
from worker.http.console.failure_counts import (
    COLUMNS,
    COUNTED,
    PATH,
    FailureCounts,
    FailuresFilter,
    TabCounts,
    count_meant,
    put_off_of,
)
from worker.http.console.pages import Console
from worker.http.console.paths import ConsoleQuery, with_query
from worker.http.console.reasons import reason, traceback
from worker.http.console.receipts import DoneToken, done_since, uploads_in
from worker.http.console.safe_originals import is_shown
from worker.http.console.visitors import Visitor
from worker.http.cursors import cursor_of, place_in
from worker.http.listing import CursorText

_PAGE = 50
_LONGEST_REASON = 300  # characters
_LONGEST_ENDING = 5

_GROUPS: Mapping[str, Sequence[State]] = {
    "Failed again": (State.FAILED,),
    "Still waiting": WAITING,
    "Ready": (State.READY,),
}


class FailuresQuery(FailuresFilter):
    """The query of the page of failures."""

    cursor: CursorText | None = None
    done: DoneToken | None = None


class OutcomeQuery(ConsoleQuery):
    """Of which action the outcome is asked."""

    done: DoneToken


@dataclass(frozen=True)
class FailureRow:
    """An upload that has failed, as it is shown."""

    upload: Upload
    reason: str
    traceback: str | None
    picture: Literal["variant", "original", "tile"]
    format: str

    @classmethod
    def of(cls, upload: Upload, visitor: Visitor) -> "FailureRow":
        """The row that a visitor sees."""
        picture: Literal["variant", "original", "tile"] = "tile"
        if upload.variants:
            picture = "variant"
        elif is_shown(upload, visitor):
            picture = "original"
        return cls(
            upload,
            _shortened(reason(upload, visitor)),
            traceback(upload, visitor),
            picture,
            _format_of(upload),
        )


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/failures`, and what has become of those that were tried again."""
    face = console.face

    @router.get(PATH, include_in_schema=False)
    async def failures(
        request: Request,
        query: Annotated[FailuresQuery, Query()],
        visitor: Annotated[Visitor, Depends(console.visitor)],
    ) -> Response:
        """Show what has failed, newest first, and how much of it there is of each code."""
        now_ms = face.stores.catalog.database.now_ms()
        theirs = query.wanted(visitor, now_ms)
        question = ["console-failures", query.fields, visitor.caller.owner, visitor.caller.prefix]
        after = None
        if query.cursor is not None:
            after = Cursor(*place_in(question, query.cursor, int, UUID))
        found: Sequence[Upload] = []
        place: Cursor | None = None
        if theirs is not None:
            found, place = await face.reader.page_within(theirs, after, _PAGE)
        older = None
        if place is not None:
            older = with_query(
                PATH, **query.fields, cursor=cursor_of(question, (place.changed_ms, str(place.id)))
            )
        counts = await FailureCounts.of(face, visitor, query, now_ms, COUNTED)
        number = await count_meant(face, theirs)
        put_off = await put_off_of(face, visitor, query)
        return console.page(
            request,
            visitor,
            "failures.html",
            "Failures",
            query=query,
            rows=[FailureRow.of(upload, visitor) for upload in found],
            counts=counts,
            windows=COLUMNS,
            number=number,
            put_off=put_off,
            tab_counts=await TabCounts.of(face, visitor, counts, put_off),
            older=older,
            newest=query.path if query.cursor else None,
            done=await done_since(face, visitor, query.done),
        )

    @router.get(f"{PATH}/outcome", include_in_schema=False)
    async def outcome(
        request: Request,
        query: Annotated[OutcomeQuery, Query()],
        visitor: Annotated[Visitor, Depends(console.visitor)],
    ) -> Response:
        """Show what has become of those that were tried again: which have failed again, and which wait."""
        done = await done_since(face, visitor, query.done)
        found: Sequence[Sequence[Upload]] = []
        if done is not None:
            found = await uploads_in(face, visitor, done.receipt, list(_GROUPS.values()))
        rows = [[FailureRow.of(upload, visitor) for upload in some] for some in found]
        groups = list(zip(_GROUPS, rows, strict=False))
        return console.page(request, visitor, "outcome.html", "Tried again", done=done, groups=groups)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"


def _format_of(upload: Upload) -> str:
    """What an original is, as far as is known without a look into it."""
    if upload.original is not None:
        return upload.original.format
    ending = (upload.source or "").rpartition("/")[2].rpartition(".")[2].lower()
    return ending if ending.isalnum() and len(ending) <= _LONGEST_ENDING else ""
