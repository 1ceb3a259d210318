"""The page of one upload: its picture, what is known of it, what became of it, and what to do about it."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from storage.catalog.records import Message, State, Upload
from worker.documents import payload
from worker.http.announced import announced
from worker.http.console.bounded import queue_answer
from worker.http.console.pages import Console
from worker.http.console.paths import ROOT, ConsoleQuery
from worker.http.console.reasons import reason, retry_hint, traceback
from worker.http.console.receipts import DoneToken, done_since
from worker.http.console.rendering import file_name
from worker.http.console.searches import sending_of
from worker.http.console.stored_files import GoneFiles, StoredFiles
from worker.http.console.visitors import Visitor
from worker.http.documents import upload_view
from worker.http.problems import not_found
from worker.srcset import Link

MESSAGES = 20  # the newest, on a page
_WAITS = (State.QUEUED, State.DELETING)
_LOOKED_AT = (State.READY, State.FAILED, State.DELETED)
"""The states in which files that are gone stay so: in others a worker is about to find out."""


class UploadQuery(ConsoleQuery):
    """What an action has led to the page with."""

    done: DoneToken | None = None


@dataclass(frozen=True)
class ShownMessage:
    """A message, and its body as text; None: the visitor is not to see it."""

    message: Message
    body: str | None


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/uploads/{id}`."""
    face = console.face
    files = face.shared(StoredFiles)

    @router.get(f"{ROOT}/uploads/{{upload_id}}", include_in_schema=False)
    async def upload(
        request: Request,
        upload_id: UUID,
        query: Annotated[UploadQuery, Query()],
        visitor: Annotated[Visitor, Depends(console.visitor)],
    ) -> Response:
        """Show an upload; one that was deleted says so."""
        stored = await face.reader.upload(upload_id)
        upload = stored or await queue_answer(announced(face, upload_id))
        if upload is None:
            raise not_found("There is no such upload.")
        visitor.caller.check_theirs(upload.source, upload.owner)
        messages = await face.reader.newest_messages(upload_id, MESSAGES + 1)
        # A page that is open is refreshed all the same: by htmx, which shows no errors.
        is_gone = upload.state is State.DELETED and "hx-request" not in request.headers
        gone = await files.gone(upload) if upload.state in _LOOKED_AT else GoneFiles()
        there = [one for one in upload.variants if one.key not in gone.variants]
        return console.page(
            request,
            visitor,
            "upload.html",
            file_name(upload, visitor),
            HTTPStatus.NOT_FOUND if is_gone else HTTPStatus.OK,
            upload=upload,
            done=await done_since(face, visitor, query.done),
            is_announced=stored is None,
            gone=gone,
            resend=_resend(face.settings.stream, upload, visitor),
            large=max(there, key=lambda one: one.width * one.height, default=None),
            links={} if visitor.is_demo else {one.key: face.links.of(one.key) for one in upload.variants},
            srcset=upload_view(upload, face.links)["srcset"],
            links_expire=face.settings.http_files == "signed",
            metadata=None if visitor.is_demo or not upload.metadata else _pretty(upload.metadata),
            reason=reason(upload, visitor),
            retry_hint=retry_hint(upload),
            traceback=traceback(upload, visitor),
            messages=[_shown(one, visitor, face.lasting_link) for one in messages[:MESSAGES]],
            has_more=len(messages) > MESSAGES,
            most_tries=face.settings.max_attempts,
            waits_for_next=upload.state in _WAITS and upload.not_before_ms > upload.changed_ms,
        )


def _resend(stream: str, upload: Upload, visitor: Visitor) -> str | None:
    """The command that announces an upload once more; None: not to this visitor."""
    if visitor.is_demo or upload.source is None:
        return None
    return sending_of(stream, upload.source, upload.id, upload.recipe, upload.owner)


def _shown(message: Message, visitor: Visitor, link: Link) -> ShownMessage:
    return ShownMessage(message, None if visitor.is_demo else _pretty(payload(message, link)))


def _pretty(document: object) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()
