"""Which failures a page or an action is about, and how many there are of each code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from storage.catalog.reading import PutOff, UploadFilter
from storage.catalog.records import State
from worker.http.console.forms import Ticked
from worker.http.console.paths import ROOT, ConsoleQuery, with_query
from worker.http.console.searches import plain, source_prefix
from worker.http.console.visitors import Visitor
from worker.http.console.wording import Number
from worker.http.face import Face
from worker.http.failures import MOST
from worker.http.listing import Code, bound
from worker.http.problems import Problem

PATH = f"{ROOT}/failures"
WINDOWS: Mapping[str, int] = {"1h": 3_600_000, "24h": 86_400_000, "7d": 7 * 86_400_000}
"""The windows of time that failures are counted in, in ms."""
COLUMNS = (*WINDOWS, None)
"""Those of the table; None: however long ago."""
WORDS: Mapping[str, str] = {"1h": "the last hour", "24h": "the last 24 hours", "7d": "the last 7 days"}
COUNTED = 1000  # failures of each code in the table of codes, and behind a tab


class FailuresFilter(ConsoleQuery):
    """Which failures a page shows, and an action is about."""

    code: Code | None = None
    within: Literal["1h", "24h", "7d"] | None = None
    owner: Annotated[str, AfterValidator(plain), Field(max_length=64)] | None = None
    source: (
        Annotated[str, AfterValidator(plain), AfterValidator(source_prefix), Field(max_length=1024)] | None
    ) = None
    waiting: Ticked | None = None

    def wanted(self, visitor: Visitor, now_ms: int) -> UploadFilter | None:
        """The uploads that are meant, of those that the visitor may see; None: none can be."""
        self.check(visitor)
        where = UploadFilter(
            state=None if self.waiting else State.FAILED,
            is_put_off=bool(self.waiting),
            code=self.code,
            since_ms=None if self.within is None else now_ms - WINDOWS[self.within],
            owner=self.owner,
            source_prefix=self.source,
        )
        return bound(where, visitor.caller)

    def check(self, visitor: Visitor) -> None:
        """Raises: Problem where a demo's visitor would find out names by asking for them."""
        if visitor.is_demo and (self.source or self.owner):
            raise Problem("forbidden", "A demo shows no names of sources and owners.")

    @property
    def fields(self) -> Mapping[str, str]:
        """The fields as forms and links carry them."""
        chosen = {name: getattr(self, name) for name in FailuresFilter.model_fields}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def path(self) -> str:
        """Where the list is."""
        return with_query(PATH, **self.fields)

    def described(self, number: Number, *, all_of_them: bool = True) -> str:
        """So many of these in words, such as `19 failed uploads with corrupt_image in the last hour`."""
        uploads = "upload" if number.count == 1 else "uploads"
        kind = f"{uploads} waiting for another try" if self.waiting else f"failed {uploads}"
        parts = ["all" if number.count is None else str(number), kind]
        if not all_of_them:
            return " ".join(parts)
        parts += [f"with {self.code}"] if self.code else []
        parts += [f"of {self.owner}"] if self.owner else []
        parts += [f"below {self.source}"] if self.source else []
        parts += [f"in {WORDS[self.within]}"] if self.within else []
        return " ".join(parts)


@dataclass(frozen=True)
class CodeRow:
    """How many uploads have failed with a code, in each window and in all."""

    code: str | None
    counts: Sequence[int]
    most: int
    """From which number on there may be more."""

    def number(self, window: int) -> Number:
        """How many in that window."""
        return Number.of(self.counts[window], self.most)


@dataclass(frozen=True)
class CodesTogether:
    """How many uploads have failed with any code, in each window and in all."""

    rows: Sequence[CodeRow]
    code: str | None = None

    def number(self, window: int) -> Number:
        """How many in that window."""
        numbers = [row.number(window) for row in self.rows]
        return Number(
            sum(number.count or 0 for number in numbers), any(number.is_least for number in numbers)
        )


@dataclass(frozen=True)
class FailureCounts:
    """How many uploads have failed, by code; the most frequent first."""

    rows: Sequence[CodeRow]

    @property
    def total(self) -> CodesTogether:
        """Those of all codes."""
        return CodesTogether(self.rows)

    @classmethod
    async def of(
        cls, face: Face, visitor: Visitor, query: FailuresFilter, now_ms: int, most: int = MOST
    ) -> "FailureCounts":
        """Of the failures that the visitor may see, of the owner and below the source that are asked for.

        Of each code, and in each window, `most` are counted.
        """
        theirs = bound(UploadFilter(owner=query.owner, source_prefix=query.source), visitor.caller)
        moments = [*(now_ms - window for window in WINDOWS.values()), 0]
        found: Mapping[str, Sequence[int]] = {}
        if theirs is not None:
            found = await face.reader.failures_by_code(
                moments, most, owner=theirs.owner, source_prefix=theirs.source_prefix
            )
        rows = [CodeRow(code, counts, most) for code, counts in found.items() if counts[-1]]
        rows.sort(key=lambda row: (-row.counts[-1], row.code or ""))
        return cls(rows)

    def of_codes(self, query: FailuresFilter) -> Mapping[str, int]:
        """How many of those that a query asks for have failed with each code."""
        place = COLUMNS.index(query.within)
        rows = [row for row in self.rows if query.code in (None, row.code) and row.counts[place]]
        return {str(row.code): row.counts[place] for row in rows}


@dataclass(frozen=True)
class TabCounts:
    """How many there are behind each tab of the pages of failures, as far as is quickly told."""

    failed: Number
    waiting: Number
    letters: Number

    @classmethod
    async def of(cls, face: Face, visitor: Visitor, failed: FailureCounts, put_off: PutOff) -> "TabCounts":
        """Of the letters that somebody who is bound may see, nobody knows how many there are."""
        letters = await count_all_letters(face) if visitor.sees_all else Number(None)
        return cls(failed.total.number(-1), Number(put_off.count, put_off.has_more), letters)


async def count_meant(face: Face, where: UploadFilter | None) -> Number:
    """How many uploads are so, as far as is quickly told. Raises: CatalogUnavailable."""
    if where is None:
        return Number(0)
    if where.is_put_off:
        put_off = await face.reader.put_off(where)
        return Number(put_off.count, put_off.has_more)
    return Number.of(await face.reader.count(where, MOST), MOST)


async def count_all_letters(face: Face) -> Number:
    """How many dead letters there are. Raises: CatalogUnavailable."""
    return Number.of(await face.reader.count_dead_letters(0, MOST), MOST)


async def put_off_of(face: Face, visitor: Visitor, query: FailuresFilter) -> PutOff:
    """What waits for another try, of the owner and below the source that are asked for."""
    theirs = bound(UploadFilter(owner=query.owner, source_prefix=query.source), visitor.caller)
    return PutOff(0, None, has_more=False) if theirs is None else await face.reader.put_off(theirs)
