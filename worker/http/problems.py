"""Errors as RFC 9457 describes them: which status each code has, and how an exception becomes one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from storage.errors import StorageError
from worker.queue import QueueUnavailable
from worker.retry import POLICIES

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2  # of what is away for now

TYPES = "https://github.com/media-worker/media-worker/blob/main/docs/http.md#"

STATUS: Mapping[str, HTTPStatus] = {
    "bad_request": HTTPStatus.BAD_REQUEST,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "busy": HTTPStatus.SERVICE_UNAVAILABLE,
    "digest_mismatch": HTTPStatus.UNPROCESSABLE_ENTITY,
    "source_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported_format": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "invalid_event": HTTPStatus.UNPROCESSABLE_ENTITY,
    "unknown_recipe": HTTPStatus.UNPROCESSABLE_ENTITY,
    "source_missing": HTTPStatus.NOT_FOUND,
    "storage_full": HTTPStatus.INSUFFICIENT_STORAGE,
    "storage_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "catalog_unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""The codes of answers, with the status that each has unless its problem says another."""


@dataclass
class Problem(Exception):
    """An answer that says why not; `detail` is for people, `more` are further members."""

    code: str
    detail: str
    status: HTTPStatus | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """What the log says; it would be the tuple of all members."""
        return self.detail

    def response(self) -> Response:
        """The answer."""
        status = self.status or STATUS[self.code]
        body = {
            "type": f"{TYPES}{self.code}",
            "title": status.phrase,
            "status": status.value,
            "code": self.code,
            "detail": self.detail,
            **self.more,
        }
        headers = {
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **_usual_headers(status),
            **self.headers,
        }
        return Response(orjson.dumps(body), status.value, headers, MEDIA_TYPE)


def not_found(detail: str) -> Problem:
    """There is no such thing, or the caller may not know of it."""
    return Problem("not_found", detail)


def too_large(limit: int) -> Problem:
    """The upload has more than `limit` bytes."""
    return Problem(
        "source_too_large",
        f"An upload has at most {limit} bytes.",
        headers={"Upload-Limit": f"max-size={limit}"},
        more={"max_bytes": limit},
    )


def problem_of(error: Exception) -> Problem:
    """What is answered where `error` ended a request."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QueueUnavailable):
        if error.refusal is not None:  # what Redis says, and the remedy, is its operator's affair
            return Problem("busy", "Redis answers, but refuses. The log of the server says why.")
        return Problem("busy", "Redis does not answer. Try again soon.")
    if isinstance(error, StorageError):
        code = POLICIES[type(error)].code
        # Where the storage lies, and under which name, is its operator's affair.
        return Problem(code, _DETAILS[code])
    return Problem("internal_error", "An error of the server itself; its log says more.")


_DETAILS = {
    "storage_unavailable": "The storage does not answer. Try again soon.",
    "storage_full": "The storage is full.",
    "catalog_unavailable": "The catalog does not answer. Try again soon.",
    "invalid_event": "The key of the original is not acceptable.",
    "source_missing": "There is no such file.",
    "unsupported_format": "There is no file under that key.",
}


def install(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Have every error of `app`, which has these routes, answered as a problem."""

    async def answer(_request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem.code in ("storage_unavailable", "catalog_unavailable", "busy"):
            log.warning("request_failed", code=problem.code, reason=str(error)[:300])
        return problem.response()

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return Problem("bad_request", reasons(error.errors())).response()

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        code = {404: "not_found", 401: "unauthorized", 403: "forbidden"}.get(status, "bad_request")
        headers, detail = error.headers or {}, f"{status.description or status.phrase}."
        if status is HTTPStatus.NOT_FOUND:
            detail = "There is no such path: /openapi.json lists all."
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            methods = _methods_at(routers, request.scope["path"])
            headers, detail = {"Allow": methods}, f"That path takes {methods}, and no other method."
        return Problem(code, detail, status, headers).response()

    async def left(_request: Request, _error: Exception) -> Response:
        return Response(status_code=HTTPStatus.BAD_REQUEST)  # which nobody gets

    async def failed(request: Request, error: Exception) -> Response:
        log.error("request_crashed", exc_info=error)
        request.scope["media.logged"] = True
        return problem_of(error).response()

    app.add_exception_handler(Problem, answer)
    app.add_exception_handler(StorageError, answer)
    app.add_exception_handler(QueueUnavailable, answer)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(ClientDisconnect, left)
    app.add_exception_handler(Exception, failed)


def _methods_at(routers: Sequence[APIRouter], path: str) -> str:
    """The methods of all routes at a path; Starlette names those of the first."""
    routes = [route for router in routers for route in router.routes if isinstance(route, Route)]
    return ", ".join(
        sorted({each for one in routes if one.path_regex.match(path) for each in one.methods or ()})
    )


def reasons(mistakes: Sequence[Any]) -> str:
    """What is wrong with parameters or a body, without their values."""
    return "; ".join(map(_reason, mistakes[:5]))[:1000]


def _reason(mistake: Mapping[str, Any]) -> str:
    where = ".".join(repr(str(part))[1:-1] for part in mistake["loc"] if part not in ("query", "path"))
    if mistake["type"] == "extra_forbidden":
        return f"there is no parameter {where[:64]}"
    return f"{where or 'body'}: {in_json(mistake['msg'].removeprefix('Value error, '))}"


def in_json(message: str) -> str:
    """What pydantic says of a value, in the words of JSON."""
    for theirs, ours in _IN_JSON.items():
        if message.startswith(theirs):
            return ours
    return message.replace("Input should be", "must be", 1)


_IN_JSON: Mapping[str, str] = {
    "Input should be a valid dictionary": "must be an object of JSON",
    "Input should be a valid list": "must be an array of JSON",
    "Input should be True": "must be true",
    "Input should be a valid boolean": "must be true or false",
    "Input should be a valid string": "must be a text",
    "Field required": "is missing",
}
"""By how what they say begins."""


def _usual_headers(status: HTTPStatus) -> Mapping[str, str]:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": 'Bearer realm="media"'}
        case HTTPStatus.SERVICE_UNAVAILABLE | HTTPStatus.TOO_MANY_REQUESTS:
            return {"Retry-After": str(RETRY_AFTER_S)}
    return {}
