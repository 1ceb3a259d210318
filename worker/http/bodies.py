"""Bodies of requests, read no further than they may be."""

from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ValidationError

from worker.http.problems import Problem, reasons

MOST_JSON = 64 * 1024  # bytes

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, model: type[M]) -> M:
    """The JSON body of a request. Raises: Problem (bad_request), without having read more than it may."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_JSON:
            raise Problem("bad_request", f"A JSON body has at most {MOST_JSON} bytes.")
    try:
        content = orjson.loads(bytes(body))
    except orjson.JSONDecodeError as error:
        raise Problem("bad_request", f"The body is not JSON: {error}.") from error
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise Problem("bad_request", reasons(error.errors(include_url=False, include_input=False))) from error


def json_body(model: type[BaseModel], example: Mapping[str, Any]) -> dict[str, Any]:
    """What OpenAPI says of a route that reads such a body."""
    schema = model.model_json_schema()
    content = {"application/json": {"schema": schema, "example": example}}
    return {"requestBody": {"required": True, "content": content}}
