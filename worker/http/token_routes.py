"""Tokens for browsers and phones: what an app may make without knowing the secret that signs them."""

from http import HTTPStatus
from secrets import token_urlsafe
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from pipelines.moments import precise_moment
from worker.events import Metadata
from worker.http.access import Caller
from worker.http.bodies import json_body, read_json
from worker.http.documents import json_response
from worker.http.face import Face
from worker.http.parameters import DirectRoute
from worker.http.problems import Problem
from worker.http.schemas import NoParameters, document_of
from worker.http.tokens import MOST

LONGEST_S = 86_400


class TokenRequest(BaseModel):
    """What a token is to allow."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_bytes: Annotated[int, Field(ge=1, le=MOST)] | None = Field(
        None, description="An upload has at most so many bytes, and never more than the server takes."
    )
    expires_in: Annotated[int, Field(ge=1, le=LONGEST_S)] = Field(
        600, description="For how many seconds the token counts."
    )
    recipe: str | None = Field(None, description="The recipe of the uploads; without it they may name one.")
    metadata: Metadata | None = Field(
        None, description="The metadata of the uploads, at most 4 KiB; without it they may bring their own."
    )
    count: Annotated[int, Field(ge=1, le=MOST)] | None = Field(
        None, description="How many uploads it allows; without it any number, until it expires."
    )


class TokenView(BaseModel):
    """A token that was made."""

    token: str = Field(description="What goes into `Authorization: Bearer` in the place of a key.")
    expires: str = Field(description="When it ends, ISO 8601 in UTC.")
    url: str = Field(description="Where it uploads to: `POST`.")


def routes(face: Face) -> APIRouter:
    """`/v1/tokens`."""
    router = APIRouter(tags=["tokens"], route_class=DirectRoute)
    recipes = face.settings.recipe_book

    @router.post(
        "/v1/tokens",
        status_code=201,
        responses=_RESPONSES,
        openapi_extra=json_body(TokenRequest, {"max_bytes": 10_485_760, "expires_in": 600, "count": 1}),
    )
    async def make_token(
        request: Request,
        query: Annotated[NoParameters, Query()],
        caller: Annotated[Caller, Depends(face.access.requires("upload"))],
    ) -> Response:
        """Make a token with which a browser uploads, within limits, without knowing the key.

        It is bound to what the key is bound to, and counts no longer than the key does.
        """
        if not face.settings.http_secret:
            raise Problem("forbidden", "This server makes no tokens: MEDIA_HTTP_SECRET is not set.")
        wanted = await read_json(request, TokenRequest)
        if wanted.recipe is not None and wanted.recipe not in recipes:
            raise Problem("unknown_recipe", "There is no such recipe.")
        expires_at = face.access.expiry(wanted.expires_in)
        claims = {
            "max_bytes": wanted.max_bytes,
            "recipe": wanted.recipe,
            "metadata": wanted.metadata,
            "n": wanted.count,
            "owner": caller.owner,
            "prefix": caller.prefix,
            "key": caller.key,
            "jti": token_urlsafe(9),  # two tokens that allow the same are counted apart
        }
        given = {name: value for name, value in claims.items() if value is not None}
        document = {
            "token": face.access.sign(expires_at, given),
            "expires": precise_moment(expires_at * 1000),
            "url": f"{face.settings.http_url}/v1/uploads",
        }
        return json_response(document, HTTPStatus.CREATED)

    return router


_RESPONSES: dict[int | str, dict[str, Any]] = {
    201: document_of(
        TokenView,
        "The token, until when it counts, and where to upload.",
        {
            "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJhdWQiOiJtZWRpYSJ9.c2lnbmF0dXJl",
            "expires": "2026-11-29T10:10:00.000Z",
            "url": "https://media.example.com/v1/uploads",
        },
    ),
    400: {"description": "The body is not such a document."},
    403: {"description": "The key lacks the scope upload, or MEDIA_HTTP_SECRET is not set."},
    422: {"description": "There is no such recipe."},
}
