"""Pictures that are dropped on the console: a test upload, and what becomes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response

from pipelines.formats import BY_NAME
from worker.http.bodies import Body, still_sent
from worker.http.console.pages import Console, prefers_json
from worker.http.console.paths import ROOT, NoFields, see_other
from worker.http.console.reasons import reason
from worker.http.console.visitors import Visitor
from worker.http.console.wording import limit
from worker.http.documents import json_response
from worker.http.incoming import extension_of
from worker.http.keys import folder_of_uploads
from worker.http.listing import look_up
from worker.http.problems import Problem
from worker.http.uploads import UploadIntake
from worker.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DropLimits:
    """What is told of uploads before somebody sends one."""

    most_bytes: int
    formats: Sequence[str]
    """Their titles."""
    accept: str
    """As the file dialogue of a browser takes it."""
    recipes: Sequence[str]

    @classmethod
    def of(cls, settings: Settings) -> "DropLimits":
        """Those of these settings."""
        kinds = [f"image/{name},.{extension_of(name)}" for name in settings.formats]
        titles = [BY_NAME[name].title for name in settings.formats]
        recipes = sorted(settings.recipe_book, key=lambda name: (name != "default", name))
        return cls(settings.max_source_bytes, titles, ",".join(kinds), recipes)

    @property
    def too_large(self) -> str:
        """What is said of a larger one."""
        return f"An upload has at most {limit(self.most_bytes)}."


def add_to(router: APIRouter, console: Console) -> None:
    """Add `/console/drop`, and to `/console/uploads` that pictures can be posted there."""
    face = console.face
    intake, limits = face.shared(UploadIntake), DropLimits.of(face.settings)

    async def uploader(request: Request) -> Visitor:
        visitor = await console.visitor(request)
        if not visitor.may_upload:
            raise Problem("forbidden", "That takes a key with the scope upload or operate.")
        return visitor

    @router.get(f"{ROOT}/drop", include_in_schema=False)
    async def drop(
        request: Request, query: Annotated[NoFields, Query()], visitor: Annotated[Visitor, Depends(uploader)]
    ) -> Response:
        """Show where pictures can be dropped, and what is taken."""
        folder = folder_of_uploads(visitor.caller.owner, visitor.caller.prefix)
        return console.page(request, visitor, "drop.html", "Drop pictures", limits=limits, folder=folder)

    @router.post(f"{ROOT}/uploads", include_in_schema=False)
    async def upload(request: Request, visitor: Annotated[Visitor, Depends(uploader)]) -> Response:
        """Take a picture; then its page shows what becomes of it, or a script is told where to look."""
        body = Body(request)
        try:
            taken = await intake.take(request, body, visitor.caller)
        except Problem as problem:
            is_large = problem.code == "source_too_large"
            raise still_sent(
                replace(problem, detail=limits.too_large) if is_large else problem, body
            ) from problem
        log.info("console_action", action="upload", by=visitor.name, upload=str(taken.id))
        page = f"{ROOT}/uploads/{taken.id}"
        if not prefers_json(request):
            return see_other(page)
        document = {"id": str(taken.id), "outcome": f"{ROOT}/drop/{taken.id}"}
        return json_response(document, HTTPStatus.CREATED, {"Location": page})

    @router.get(f"{ROOT}/drop/{{upload_id}}", include_in_schema=False)
    async def outcome(
        upload_id: UUID,
        query: Annotated[NoFields, Query()],
        visitor: Annotated[Visitor, Depends(uploader)],
    ) -> Response:
        """Show what has become of a dropped picture, as a part of a page."""
        found = await look_up(face, visitor.caller, upload_id, 0)
        return console.part("drop_outcome.html", upload=found, reason=reason(found, visitor))
