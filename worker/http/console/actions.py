"""Actions: what operators do from pages, by forms; each is logged with the name of whoever does it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Request, Response

from storage.catalog.reading import UploadFilter
from storage.errors import StorageError
from worker.http.console.bounded import queue_answer
from worker.http.console.confirmations import (
    FailuresForm,
    LettersForm,
    Verb,
    ask_about_failures,
    ask_about_letters,
)
from worker.http.console.dead_letters import PATH as LETTERS
from worker.http.console.failure_counts import PATH as FAILURES
from worker.http.console.forms import Ticked, form_of
from worker.http.console.pages import Console
from worker.http.console.paths import ROOT, NoFields, see_other, with_query
from worker.http.console.receipts import Receipt, Things, keep_receipt
from worker.http.console.visitors import Visitor
from worker.http.face import Face
from worker.http.failures import FailureKind, Handled, Meant, discard_meant, retry_meant
from worker.http.listing import look_up, send_deletion
from worker.http.problems import Problem, problem_of
from worker.queue import QueueUnavailable

log = structlog.get_logger(__name__)

VERBS: Sequence[Verb] = ("retry", "discard")

_MOST_NAMED = 50  # ids in a line of the log

_DO: Mapping[Verb, Callable[..., Awaitable[None]]] = {"retry": retry_meant, "discard": discard_meant}


class DeletionForm(NoFields):
    """The deletion of an upload."""

    confirmed: Ticked | None = None
    original: Ticked | None = None


def add_to(router: APIRouter, console: Console) -> None:
    """Add what forms of the console are sent to."""
    for verb in VERBS:
        _add_failures(router, console, verb)
        _add_letters(router, console, verb)
    _add_of_one(router, console)


def _add_failures(router: APIRouter, console: Console, verb: Verb) -> None:
    face, path = console.face, f"{FAILURES}/{verb}"

    @router.post(path, include_in_schema=False)
    async def failures(request: Request, visitor: Annotated[Visitor, Depends(console.operator)]) -> Response:
        """Ask whether those failures are meant; once that is confirmed, try them again or forget them."""
        form = await form_of(request, FailuresForm)
        if not form.tick and not form.all:
            raise Problem("bad_request", "Nothing is ticked: go back, and tick the uploads that are meant.")
        if not form.confirmed:
            asked = await ask_about_failures(face, visitor, verb, form)
            return console.page(request, visitor, "confirm.html", asked.title, asked=asked)
        meant = _meant_failures(face, visitor, form)
        token = await _act(face, visitor, verb, "uploads", meant, **(form.fields if form.all else {}))
        return see_other(with_query(FAILURES, **form.fields, done=token))

    _add_way_back(router, console, path, FAILURES)


def _add_letters(router: APIRouter, console: Console, verb: Verb) -> None:
    face, path = console.face, f"{LETTERS}/{verb}"

    @router.post(path, include_in_schema=False)
    async def letters(request: Request, visitor: Annotated[Visitor, Depends(console.operator)]) -> Response:
        """Ask whether those dead letters are meant; once that is confirmed, send or discard them."""
        form = await form_of(request, LettersForm)
        if not form.tick and not form.all:
            raise Problem("bad_request", "Nothing is ticked: go back, and tick the letters that are meant.")
        if not form.confirmed:
            asked = await ask_about_letters(face, visitor, verb, form)
            return console.page(request, visitor, "confirm.html", asked.title, asked=asked)
        meant = Meant(
            None if form.all else form.tick,
            UploadFilter(code=form.code),
            frozenset({FailureKind.LETTER}),
            last_letter=form.until,
        )
        token = await _act(face, visitor, verb, "letters", meant, **(form.fields if form.all else {}))
        return see_other(with_query(LETTERS, **form.fields, done=token))

    _add_way_back(router, console, path, LETTERS)


def _add_way_back(router: APIRouter, console: Console, path: str, to: str) -> None:
    @router.get(path, include_in_schema=False)
    async def back(visitor: Annotated[Visitor, Depends(console.visitor)]) -> Response:
        """Lead to the list whoever opens the address of an answer to a form."""
        return see_other(to)


def _add_of_one(router: APIRouter, console: Console) -> None:
    face = console.face

    @router.post(f"{ROOT}/uploads/{{upload_id}}/retry", include_in_schema=False)
    async def retry_one(
        request: Request, upload_id: UUID, visitor: Annotated[Visitor, Depends(console.operator)]
    ) -> Response:
        """Try an upload again that has failed, or that waits for another try."""
        await form_of(request, NoFields)
        upload = await look_up(face, visitor.caller, upload_id, 0, newest=True)
        meant = Meant([upload_id], kinds=frozenset({FailureKind.UPLOAD, FailureKind.WAITING}))
        token = await _act(
            face, visitor, "retry", "uploads", meant, code=upload.error_code, upload=str(upload_id)
        )
        return see_other(with_query(f"{ROOT}/uploads/{upload_id}", done=token))

    @router.post(f"{ROOT}/uploads/{{upload_id}}/delete", include_in_schema=False)
    async def delete_one(
        request: Request, upload_id: UUID, visitor: Annotated[Visitor, Depends(console.operator)]
    ) -> Response:
        """Ask whether an upload is to be deleted; once that is confirmed, have it deleted."""
        form = await form_of(request, DeletionForm)
        upload = await look_up(face, visitor.caller, upload_id, 0, newest=True)
        page = f"{ROOT}/uploads/{upload_id}"
        may_take_original = face.settings.delete_originals
        if not form.confirmed:
            return console.page(
                request,
                visitor,
                "confirm_delete.html",
                "Delete this upload?",
                upload=upload,
                may_take_original=may_take_original,
                page=page,
            )
        if form.original and not may_take_original:
            raise Problem("forbidden", "Originals are not deleted here: MEDIA_DELETE_ORIGINALS is off.")
        await _check_queue(face)
        await send_deletion(face, upload_id, with_original=bool(form.original))
        log.info(
            "console_action",
            action="delete",
            by=visitor.name,
            count=1,
            upload=str(upload_id),
            original=bool(form.original),
        )
        receipt = Receipt.of(visitor, "delete", "uploads", Handled(1, uploads=[upload_id]))
        return see_other(with_query(page, done=await _receipt_token(face, receipt)))

    for verb in ("retry", "delete"):

        @router.get(f"{ROOT}/uploads/{{upload_id}}/{verb}", include_in_schema=False)
        async def back(upload_id: UUID, visitor: Annotated[Visitor, Depends(console.visitor)]) -> Response:
            """Lead to the upload whoever opens the address of an answer to a form."""
            return see_other(f"{ROOT}/uploads/{upload_id}")


async def _act(
    face: Face, visitor: Visitor, verb: Verb, things: Things, meant: Meant, **about: str | None
) -> str | None:
    """Do it, log who did it to what, and keep a receipt; returns its token, None where Redis keeps none.

    `about` is how a person has chosen what is meant.

    Raises: Problem, which says what was done before something went wrong.
    """
    done = Handled()
    async with _told(done, verb):
        try:
            if verb == "retry":
                await _check_queue(face)
            await _DO[verb](face, visitor.caller, meant, done)
        finally:
            said = {name: value for name, value in about.items() if value is not None}
            log.info(
                "console_action",
                action=verb,
                by=visitor.name,
                what=things,
                count=done.count,
                kept=done.kept,
                **said,
                **_named(done.uploads or done.letters),
            )
    return await _receipt_token(face, Receipt.of(visitor, verb, things, done))


async def _check_queue(face: Face) -> None:
    """Check that Redis answers, before anything is asked of it that waits for as long as its client tries.

    Raises: QueueUnavailable.
    """
    await queue_answer(face.queue.ownership.check_not_of_another(face.stores.catalog.id))


def _named(ids: Sequence[UUID | int]) -> Mapping[str, Any]:
    """The first of these ids for the log, and how many more there are; sources can be personal."""
    named = {"ids": [one if isinstance(one, int) else str(one) for one in ids[:_MOST_NAMED]]}
    return {**named, "more": len(ids) - _MOST_NAMED} if len(ids) > _MOST_NAMED else named


async def _receipt_token(face: Face, receipt: Receipt) -> str | None:
    try:
        return await keep_receipt(face, receipt)
    except QueueUnavailable as error:  # it is done all the same
        log.warning("receipt_not_kept", reason=str(error))
        return None


@asynccontextmanager
async def _told(done: Handled, verb: Verb) -> AsyncIterator[None]:
    """Raises: Problem that says how much was done, in the place of what ended it in the midst."""
    try:
        yield
    except (Problem, StorageError, QueueUnavailable) as error:
        problem = problem_of(error)
        was = f" {done.count:,} {_were(done.count)} {_DONE[verb]} before that." if done.count else ""
        # What was queued without a job, a worker finds by itself.
        detail = f"{problem.detail}{was} Nothing is lost: what was not done is listed as before."
        raise replace(problem, detail=detail) from error


_DONE: Mapping[Verb, str] = {"retry": "queued again", "discard": "discarded"}


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _meant_failures(face: Face, visitor: Visitor, form: FailuresForm) -> Meant:
    kinds = frozenset({FailureKind.WAITING if form.waiting else FailureKind.UPLOAD})
    if not form.all:
        return Meant(form.tick, kinds=kinds | {FailureKind.UPLOAD})
    where = form.wanted(visitor, face.stores.catalog.database.now_ms())
    if where is None:
        return Meant([])
    where = replace(where, until_ms=form.until)
    return Meant(None, where if form.since is None else replace(where, since_ms=form.since), kinds)
