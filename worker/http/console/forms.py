"""Forms that do something: their fields, each checked, and none that is unknown."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_origin

from fastapi import Request
from pydantic import ValidationError

from worker.http.console.pages import ConsoleQuery, read_form
from worker.http.problems import Problem, reasons

Ticked = Literal["1"]
"""The value of a field that says yes by being there."""

F = TypeVar("F", bound=ConsoleQuery)


async def form_of(request: Request, model: type[F]) -> F:
    """The form that a request brings. Raises: Problem (bad_request)."""
    fields = await read_form(request)
    lists = {name for name, field in model.model_fields.items() if get_origin(field.annotation) is list}
    values: dict[str, Any] = {}
    for name, given in fields.items():
        if len(given) > 1 and name not in lists:
            raise Problem("bad_request", f"{repr(name[:64])[1:-1]}: it stands there more than once")
        values[name] = given if name in lists else given[0]
    return parse_fields(model, values)


def parse_fields(model: type[F], values: Mapping[str, Any]) -> F:
    """The fields as `model` says that they are. Raises: Problem (bad_request)."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Problem("bad_request", reasons(error.errors(include_url=False, include_input=False))) from error
