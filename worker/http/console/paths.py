"""Where pages are, and how a link says what they show."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from fastapi import Response
from pydantic import BaseModel, ConfigDict, model_validator

ROOT = "/console"
LIVE = f"{ROOT}/live"  # a stream


class ConsoleQuery(BaseModel):
    """The query of a page: forms send the fields that nobody has filled, too."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_empty_fields(cls, values: Any) -> Any:  # noqa: ANN401 (pydantic's)
        if not isinstance(values, Mapping):
            return values
        return {name: value for name, value in values.items() if value != ""}


class NoFields(ConsoleQuery):
    """The query of a page that takes none."""


def with_query(path: str, **values: object) -> str:
    """A path with a query, of those values that are given."""
    given = [(name, value) for name, value in values.items() if value not in (None, "")]
    return f"{path}?{urlencode(given)}" if given else path


def see_other(path: str) -> Response:
    """After a form was taken: the page that shows what became of it."""
    return Response(status_code=HTTPStatus.SEE_OTHER.value, headers={"Location": path})


def picture_path(key: str) -> str:
    """Where the console shows a variant: by itself, however apps get theirs."""
    return f"{ROOT}/{key}"
