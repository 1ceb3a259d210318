"""Forms that do something: their fields, each checked, and none that is unknown."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, get_origin
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import ValidationError

from worker.http.bodies import Body
from worker.http.console.paths import ConsoleQuery
from worker.http.problems import Problem, reasons

Ticked = Literal["1"]
"""The value of a field that says yes by being there."""

MOST_OF_A_FORM = 256 * 1024  # bytes
_MOST_FIELDS = 2000  # a thousand ticks, and more

F = TypeVar("F", bound=ConsoleQuery)


async def form_of(request: Request, model: type[F]) -> F:
    """The form that a request brings. Raises: Problem (bad_request)."""
    fields = await _read_form(request)
    lists = {name for name, field in model.model_fields.items() if get_origin(field.annotation) is list}
    values: dict[str, Any] = {}
    for name, given in fields.items():
        if len(given) > 1 and name not in lists:
            raise Problem("bad_request", f"{repr(name[:64])[1:-1]}: it stands there more than once")
        values[name] = given if name in lists else given[0]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise Problem("bad_request", reasons(error.errors(include_url=False, include_input=False))) from error


async def _read_form(request: Request) -> Mapping[str, Sequence[str]]:
    """The fields of a form, each with its values. Raises: Problem (bad_request)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem("bad_request", "The body must be a form.")
    read = bytearray()
    async for chunk in Body(request).chunks():
        read += chunk
        if len(read) > MOST_OF_A_FORM:
            raise Problem("bad_request", f"A form has at most {MOST_OF_A_FORM} bytes.")
    if read.count(b"&") >= _MOST_FIELDS:
        raise Problem("bad_request", f"A form has at most {_MOST_FIELDS} fields.")
    fields: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(read.decode(), keep_blank_values=True, errors="strict"):
            fields.setdefault(name, []).append(value)
    except ValueError as error:
        raise Problem("bad_request", "The form is not UTF-8.") from error
    return fields
