"""What OpenAPI says of answers: the documents of more than one route, each with an example."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from storage.catalog.records import State

ID = "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"
KEY = "variants/b2/bf/b2bf9aec-d6b9-5c89-90b6-5217b806b15f.jpg"


Next = Annotated[str | None, Field(description="the `cursor` of the next page; null: this is the last")]


class NoParameters(BaseModel):
    """What a route takes that takes nothing."""

    model_config = ConfigDict(extra="forbid")


class VariantView(BaseModel):
    """A picture that was made of an original."""

    name: str
    key: str = Field(description="its key in the storage")
    url: str = Field(description="where it is served, for ever or, where links are signed, for an hour")
    width: int
    height: int
    bytes: int


class OriginalView(BaseModel):
    """An original as it was last read; the size is that of the upright picture."""

    sha256: str
    bytes: int
    format: str
    width: int
    height: int
    color: str | None = Field(description="the commonest of its smallest variant, as #rrggbb")


class ErrorView(BaseModel):
    """Why the last try failed."""

    code: str
    message: str | None


class UploadView(BaseModel):
    """An upload: where it stands, and what was made of it."""

    id: str
    source: str | None = Field(description="the key of its original; null: it was never known")
    state: State
    recipe: str
    metadata: dict[str, Any] = Field(description="the app's own")
    attempts: int = Field(description="tries that failed because of the upload itself")
    error: ErrorView | None
    original: OriginalView | None = Field(description="null: it was not read yet")
    thumbhash: str | None = Field(
        description="what to show while it loads, in base64; null: it was made before there were any, or the "
        "recipe asks for another kind"
    )
    blurhash: str | None = Field(description="the same as a BlurHash, where the recipe asks for that")
    variants: list[VariantView] = Field(description="the smallest first")
    srcset: str = Field(
        description="for an `<img srcset>`: the variants of the original's proportions, each width once"
    )
    created: str = Field(description="when its newest event was taken: ISO 8601, UTC")
    changed: str = Field(description="when it last changed: ISO 8601, UTC")


class UploadPart(BaseModel):
    """Of an upload, the `fields` that were asked for."""

    model_config = ConfigDict(extra="allow")


class UploadPage(BaseModel):
    """Uploads, the latest first."""

    items: list[UploadView | UploadPart]
    next: Next


class ProblemView(BaseModel):
    """Why not, as RFC 9457 says it."""

    type: str = Field(description="the documentation of the code")
    title: str
    status: int
    code: str = Field(description="for programs")
    detail: str = Field(description="for people")


UPLOAD: Mapping[str, Any] = {
    "id": ID,
    "source": "uploads/2026/11/cat.jpg",
    "state": "ready",
    "recipe": "default",
    "metadata": {"owner": "42"},
    "attempts": 0,
    "error": None,
    "original": {
        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "bytes": 3_512_004,
        "format": "jpeg",
        "width": 4032,
        "height": 3024,
        "color": "#8a7f6b",
    },
    "thumbhash": "1mYGRZYXaIhwh4iBilmIhhePcnAI",
    "blurhash": None,
    "variants": [
        {
            "name": "thumb",
            "key": KEY,
            "url": f"/files/{KEY}",
            "width": 150,
            "height": 113,
            "bytes": 4211,
        }
    ],
    "srcset": f"/files/{KEY} 150w",
    "created": "2026-11-21T10:00:00.000Z",
    "changed": "2026-11-21T10:00:00.310Z",
}
"""An upload, as an example."""

CURSOR = "Qx3vX2gGWzE3NjM3MTkyMDAzMTAsIjRhMmNhNzA1Il0"


LINK: Mapping[str, Any] = {
    "Link": {"description": "`rel=next`: the next page, if there is one", "schema": {"type": "string"}}
}
"""What OpenAPI says of the headers of a page."""


def document_of(
    model: type[Any], description: str, example: object, headers: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What OpenAPI says of an answer that is such a document."""
    content = {"application/json": {"example": example}}
    said: dict[str, Any] = {"model": model, "description": description, "content": content}
    return {**said, "headers": headers} if headers else said
