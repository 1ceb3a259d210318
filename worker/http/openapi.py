"""The description of the API: what FastAPI finds out, with keys and problems."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from worker.http.access import Requirement
from worker.http.heads import api_routes
from worker.http.problems import MEDIA_TYPE, TYPES
from worker.http.schemas import ProblemView

TITLE = "media-worker"
VERSION = "1"  # of the API, as its paths have it; that of the program is told by `/v1/limits`
DESCRIPTION = """Pictures in, variants out: upload, look, wait, list, delete.

Errors are problems (RFC 9457): `code` is for programs, `detail` for people. Lists are pages, the latest
first: `next` is the `cursor` of the next one. Unknown parameters are an error. What is somebody else's is not
found.
"""
_SCHEMES: Mapping[str, Any] = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key: `media keys new NAME --scope upload,read`. A server that only its own machine "
        "reaches needs none until there is one.",
    },
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token for browsers, from `POST /v1/tokens` or signed by an app with "
        "`MEDIA_HTTP_SECRET` (HS256, `aud` `media`, `exp`).",
    },
}
_TITLES = {
    400: "A parameter, a header or the body is wrong.",
    401: "There is no key, or it does not count.",
    403: "The key has not the scope.",
    404: "There is no such thing, or it is somebody else's.",
    500: "An error of the server itself.",
    503: "Catalog, storage or Redis does not answer. Try again soon.",
}
_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    500: "internal_error",
    503: "catalog_unavailable",
}


def describe(routers: Sequence[APIRouter]) -> dict[str, Any]:
    """The OpenAPI document of an application with these routes."""
    routes = [_without_head(route) for route in api_routes(routers)]
    document = get_openapi(title=TITLE, version=VERSION, description=DESCRIPTION, routes=routes)
    components = document.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    schemas[ProblemView.__name__] = ProblemView.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for route, operation in _operations(routes, document):
        _describe(route, operation)
    return _without_null_parameters(document)


def _without_head(route: APIRoute) -> APIRoute:
    """The same route without HEAD, which is GET's and no operation of its own."""
    described = copy(route)
    described.methods = (route.methods or set()) - {"HEAD"}
    return described


def _operations(
    routes: Sequence[APIRoute], document: Mapping[str, Any]
) -> Iterator[tuple[APIRoute, dict[str, Any]]]:
    for route in routes:
        for method in (route.methods or ()) if route.include_in_schema else ():
            yield route, document["paths"][route.path_format][method.lower()]


def _describe(route: APIRoute, operation: dict[str, Any]) -> None:
    summary, _, rest = (operation.get("description") or "").partition("\n")
    operation["summary"] = summary.rstrip(".")
    operation["description"] = rest.strip() or summary
    responses = operation["responses"]
    if HTTPStatus.SWITCHING_PROTOCOLS in route.responses:
        del responses["200"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    needed = [each.call for each in route.dependant.dependencies if isinstance(each.call, Requirement)]
    for requirement in needed:
        operation["security"] = [{"key": []}, *([{"token": []}] if requirement.token else [])]
        scopes = " or ".join(f"`{scope}`" for scope in requirement.scopes)
        operation["description"] += f"\n\nScope: {scopes}{', or a token' if requirement.token else ''}."
    statuses = [400, 500, 503]
    statuses += [401, 403] if needed else []
    statuses += [404] if "{" in route.path else []
    for status in statuses:
        responses.setdefault(str(status), problem(status, _TITLES[status], _CODES[status]))
    for status, response in responses.items():
        if status.isdigit() and int(status) >= HTTPStatus.BAD_REQUEST and "content" not in response:
            code = _CODES.get(int(status), "bad_request")
            response["content"] = problem(int(status), "", code)["content"]
    for number, said in route.responses.items():
        for media_type, content in said.get("content", {}).items():
            if "example" in content:  # FastAPI leaves out what is null
                responses[str(number)]["content"][media_type]["example"] = content["example"]
    operation["responses"] = dict(sorted(responses.items()))


def problem(status: int, description: str, code: str) -> dict[str, Any]:
    """What OpenAPI says of a problem."""
    example = {
        "type": f"{TYPES}{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": description,
    }
    schema = {"$ref": f"#/components/schemas/{ProblemView.__name__}"}
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schema, "example": example}}}


def _without_null_parameters(document: dict[str, Any]) -> dict[str, Any]:
    """The same, with parameters that are there or not: none can be null."""
    for path in document["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                kinds = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
                if len(kinds) == 1:
                    del schema["anyOf"]
                    parameter["schema"] = {**kinds[0], **schema}
    return document
