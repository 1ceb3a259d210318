"""Confirmations: what a person is asked before something is done: how many are meant, and of which kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from pipelines.poison import DEADLY_CODES
from storage.catalog.records import Upload
from worker.failures import has_event
from worker.http.console.dead_letters import PATH as LETTERS
from worker.http.console.dead_letters import LettersFilter, count_letters
from worker.http.console.failure_counts import PATH as FAILURES
from worker.http.console.failure_counts import FailureCounts, FailuresFilter, count_meant
from worker.http.console.forms import Ticked
from worker.http.console.visitors import Visitor
from worker.http.console.wording import Number
from worker.http.face import Face
from worker.http.failures import MOST, named_failures
from worker.http.problems import Problem
from worker.retry import blame_of

Verb = Literal["retry", "discard"]

_EXAMPLES = 10  # uploads that a confirmation names
_MOST_TICKED = 1000

Moment = Annotated[int, Field(ge=0, lt=1 << 63)]
Number63 = Annotated[int, Field(ge=1, lt=1 << 63)]


class FailuresForm(FailuresFilter):
    """Failed uploads that are ticked, or `all` that match; confirmed, it is done to those of that time."""

    tick: Annotated[list[UUID], Field(max_length=_MOST_TICKED)] = Field(default_factory=list)
    all: Ticked | None = None
    confirmed: Ticked | None = None
    since: Moment | None = None
    until: Moment | None = None


class LettersForm(LettersFilter):
    """Dead letters that are ticked, or `all` that match; confirmed, it is done to those of that time."""

    tick: Annotated[list[Number63], Field(max_length=_MOST_TICKED)] = Field(default_factory=list)
    all: Ticked | None = None
    confirmed: Ticked | None = None
    until: Number63 | None = None


@dataclass(frozen=True)
class Confirmation:
    """What a person is asked before it is done."""

    title: str
    path: str
    fields: Sequence[tuple[str, str]]
    button: str
    back: str
    kinds: Sequence[tuple[str, str]] = ()
    """Codes, and how many have failed with each."""
    uploads: Sequence[Upload] = ()
    """Some of them."""
    more: int | None = 0
    """How many others there are; None: nobody knows."""
    notes: Sequence[str] = ()
    is_danger: bool = False
    is_possible: bool = True
    """Whether anything is left to be done."""


async def ask_about_failures(face: Face, visitor: Visitor, verb: Verb, form: FailuresForm) -> Confirmation:
    if verb == "discard" and form.waiting:
        raise Problem("bad_request", "What waits for another try has not failed yet: delete it instead.")
    if form.all:
        number, kinds, some, fields = await _all_that_match(face, visitor, form)
    else:
        number, kinds, some, fields = await _ticked(face, visitor, form)
    what = form.described(number, all_of_them=bool(form.all))
    others = None if number.count is None else number.count - len(some)
    return Confirmation(
        title=f"{_VERBS[verb]} {what}?" if number.count != 0 else "Nothing to do",
        path=f"{FAILURES}/{verb}",
        fields=[*fields, *form.fields.items()],
        button=f"{_VERBS[verb]} {number}".strip(),
        back=form.path,
        kinds=[(code, f"{count:,}") for code, count in kinds.items()],
        uploads=some,
        more=others,
        notes=_notes(verb, number, kinds, some, form),
        is_danger=verb == "discard",
        is_possible=number.count != 0,
    )


Asked = tuple[Number, Mapping[str, int], Sequence[Upload], list[tuple[str, str]]]
"""How many are meant, with which codes, some of them, and the fields that say so once more."""


async def _all_that_match(face: Face, visitor: Visitor, form: FailuresForm) -> Asked:
    now_ms = face.stores.catalog.database.now_ms()
    where = form.wanted(visitor, now_ms)
    some = [] if where is None else await face.reader.page(where, None, _EXAMPLES)
    if where is None or not some:
        return Number(0), {}, [], []
    number = await count_meant(face, where)
    kinds: dict[str, int] = {}
    if not form.waiting and number.count is not None:  # else these are not all
        counts = await FailureCounts.of(face, visitor, form, now_ms)
        kinds = dict(counts.of_codes(form))
    # Those that are there now: what fails later was not seen.
    fields = [("all", "1"), ("until", str(some[0].changed_ms + 1))]
    if where.since_ms is not None:
        fields.append(("since", str(where.since_ms)))
    return number, kinds, some, fields


async def _ticked(face: Face, visitor: Visitor, form: FailuresForm) -> Asked:
    found = await named_failures(face, visitor.caller, form.tick, waits=bool(form.waiting))
    uploads = [*found.uploads, *found.waiting]
    kinds: dict[str, int] = {}
    for upload in uploads:
        kinds[upload.error_code or ""] = kinds.get(upload.error_code or "", 0) + 1
    fields = [("tick", str(upload.id)) for upload in uploads]
    return Number(len(uploads)), kinds, uploads[:_EXAMPLES], fields


def _notes(
    verb: Verb, number: Number, kinds: Mapping[str, int], some: Sequence[Upload], form: FailuresForm
) -> Sequence[str]:
    notes = []
    if not form.all and (gone := len(set(form.tick)) - (number.count or 0)):
        notes.append(f"{gone} of those that were ticked {'is' if gone == 1 else 'are'} not failed any more.")
    if number.count == 0:
        return [*notes, "There is nothing left that matches."]
    if number.is_least:
        notes.append(f"At once {MOST:,} are done, the newest first; then the list says that there are more.")
    if verb == "discard":
        notes.append(
            "Discarded uploads are forgotten; their originals stay where they are. An upload that still has "
            "variants of earlier content is kept, as they are served: delete it instead."
        )
        return notes
    ours = sum(count for code, count in kinds.items() if blame_of(code) == "us")
    if kinds and not ours:
        notes.append("It is the pictures that have failed: unless they were replaced, they fail again.")
    if DEADLY_CODES & kinds.keys():
        notes.append("Some have killed their decoder. They are tried all the same.")
    return notes


async def ask_about_letters(face: Face, visitor: Visitor, verb: Verb, form: LettersForm) -> Confirmation:
    """What a person is asked who wants to deal with dead letters. Raises: CatalogUnavailable."""
    if form.all:
        newest = await face.reader.dead_letters(None, 1)
        number = await count_letters(face, visitor, form) if newest else Number(0)
        fields = [("all", "1"), *(("until", str(letter.id)) for letter in newest)]
        notes = _NOTES[verb] if number.count != 0 else []
    else:
        number, fields, notes = await _ticked_letters(face, visitor, verb, form)
    what = (
        "all dead letters"
        if number.count is None
        else f"{number} dead letter{'' if number.count == 1 else 's'}"
    )
    if form.all and form.code:
        what = f"{what} with {form.code}"
    if number.is_least:
        what = f"{what} at most"
    does = {"retry": "Send again", "discard": "Discard"}[verb]
    return Confirmation(
        title=f"{does}: {what}?" if number.count != 0 else "Nothing to do",
        path=f"{LETTERS}/{verb}",
        fields=[*fields, *form.fields.items()],
        button=f"{does} {number}".strip(),
        back=form.path,
        notes=notes or ["There is nothing left that matches."],
        more=0,
        is_danger=verb == "discard",
        is_possible=number.count != 0,
    )


async def _ticked_letters(
    face: Face, visitor: Visitor, verb: Verb, form: LettersForm
) -> tuple[Number, list[tuple[str, str]], Sequence[str]]:
    """How many of the ticked ones can be dealt with, the fields that say so once more, and notes."""
    found = (await named_failures(face, visitor.caller, form.tick, waits=False)).letters
    meant = [one for one in found if verb == "discard" or has_event(one)]
    notes = [_NOTES[verb][0]] if meant else []
    if stay := len(found) - len(meant):
        why = "stays, as its entry" if stay == 1 else "stay, as their entries"
        notes.append(f"{stay} of those that were ticked {why} had no event to send: discard is all there is.")
    if gone := len(set(form.tick)) - len(found):
        notes.append(f"{gone} of those that were ticked {'is' if gone == 1 else 'are'} not there any more.")
    return Number(len(meant)), [("tick", str(one.id)) for one in meant], notes


_NOTES: Mapping[Verb, Sequence[str]] = {
    "retry": (
        "Their events are put on the stream once more, as they are. Those that are refused again come back "
        "here.",
        "Those whose entries had no event to send stay, as they can only be discarded.",
    ),
    "discard": ("Their bytes are thrown away for good.",),
}
_VERBS: Mapping[Verb, str] = {"retry": "Retry", "discard": "Discard"}
