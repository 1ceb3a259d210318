"""Dead letters: events that were refused, with their bytes, and what a person can do about them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from storage.catalog.records import DeadLetter
from worker.failures import has_event
from worker.http.console.failure_counts import (
    COUNTED,
    FailureCounts,
    FailuresFilter,
    TabCounts,
    count_all_letters,
    put_off_of,
)
from worker.http.console.pages import Console
from worker.http.console.paths import ROOT, ConsoleQuery, with_query
from worker.http.console.receipts import DoneToken, done_since
from worker.http.console.visitors import Visitor
from worker.http.console.wording import Number
from worker.http.cursors import cursor_of, place_in
from worker.http.face import Face
from worker.http.failures import letters_for
from worker.http.listing import Code, CursorText

PATH = f"{ROOT}/dead-letters"

_PAGE = 20
_GLANCE = 200  # bytes that are shown at once
_MOST_SHOWN = 4096  # bytes that are shown at all


class LettersFilter(ConsoleQuery):
    """Which dead letters a page shows, and an action is about."""

    code: Code | None = None

    @property
    def path(self) -> str:
        """Where the list is."""
        return with_query(PATH, **self.fields)

    @property
    def fields(self) -> Mapping[str, str]:
        """The fields as forms and links carry them."""
        return {} if self.code is None else {"code": self.code}


class LettersQuery(LettersFilter):
    """The query of the page of dead letters."""

    cursor: CursorText | None = None
    done: DoneToken | None = None


@dataclass(frozen=True)
class LetterRow:
    """A dead letter as it is shown: its bytes as text, what is no UTF-8 like `\\xff`; a demo has none."""

    letter: DeadLetter
    reason: str
    glance: str | None
    body: str | None
    """More of its bytes, where there are more."""
    left_out: int
    """Bytes that are not shown."""
    has_event: bool
    """Whether it can be sent again."""

    @classmethod
    def of(cls, letter: DeadLetter, visitor: Visitor) -> "LetterRow":
        """The row that a visitor sees."""
        size, known = len(letter.body), has_event(letter)
        if visitor.is_demo:
            return cls(letter, "", None, None, size, known)
        body = _as_text(letter.body[:_MOST_SHOWN]) if size > _GLANCE else None
        left_out = max(0, size - _MOST_SHOWN)
        return cls(letter, letter.message[:1000], _as_text(letter.body[:_GLANCE]), body, left_out, known)


async def count_letters(face: Face, visitor: Visitor, query: LettersFilter) -> Number:
    """How many are meant, where that is quickly told. Raises: CatalogUnavailable."""
    if query.code is not None or not visitor.sees_all:
        return Number(None)
    return await count_all_letters(face)


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/dead-letters`."""
    face = console.face

    @router.get(PATH, include_in_schema=False)
    async def dead_letters(
        request: Request,
        query: Annotated[LettersQuery, Query()],
        visitor: Annotated[Visitor, Depends(console.visitor)],
    ) -> Response:
        """Show the events that were refused, newest first."""
        caller = visitor.caller
        question = ["console-dead-letters", query.fields, caller.owner, caller.prefix]
        after = None if query.cursor is None else place_in(question, query.cursor, int)[0]
        letters, following = await letters_for(face, caller, after, _PAGE, query.code)
        older = None
        if following is not None:
            older = with_query(PATH, **query.fields, cursor=cursor_of(question, [following]))
        everything, now_ms = FailuresFilter(), face.stores.catalog.database.now_ms()
        failed = await FailureCounts.of(face, visitor, everything, now_ms, COUNTED)
        return console.page(
            request,
            visitor,
            "dead_letters.html",
            "Dead letters",
            query=query,
            rows=[LetterRow.of(letter, visitor) for letter in letters],
            number=await count_letters(face, visitor, query),
            tab_counts=await TabCounts.of(face, visitor, failed, await put_off_of(face, visitor, everything)),
            older=older,
            newest=query.path if query.cursor else None,
            done=await done_since(face, visitor, query.done),
        )


def _as_text(body: bytes) -> str:
    return body.decode("utf-8", "backslashreplace")
