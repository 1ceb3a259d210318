"""What a route may declare, and how that is read."""

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict

from worker.http.parameters import DirectRoute
from worker.http.problems import Problem, problem_of, reasons

ID = "4a2ca705-03aa-52b8-a8b8-e2aa1374070e"


class Question(BaseModel):
    """What is asked."""

    model_config = ConfigDict(extra="forbid")

    wait: float = 0


async def _caller(request: Request) -> str:
    if "authorization" not in request.headers:
        raise Problem("unauthorized", "Send a key.")
    return request.headers["authorization"]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app, router = FastAPI(), APIRouter(route_class=DirectRoute)

    @router.get("/{number}")
    async def _show(
        number: UUID, query: Annotated[Question, Query()], caller: Annotated[str, Depends(_caller)]
    ) -> Response:
        return Response(f"{number.version} {query.wait} {caller}")

    @app.exception_handler(Problem)
    async def _refused(_: Request, error: Problem) -> Response:
        return problem_of(error).response()

    @app.exception_handler(RequestValidationError)
    async def _wrong(_: Request, error: RequestValidationError) -> Response:
        return Response(reasons(error.errors()), 400)

    app.router.routes += router.routes
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as found:
        yield found


async def test_path_query_and_caller_come_as_they_are_declared(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/{ID}?wait=1.5", headers={"Authorization": "me"})

    assert answer.text == "5 1.5 me"


async def test_who_calls_is_asked_before_what_is_wrong(client: httpx.AsyncClient) -> None:
    assert (await client.get("/none?wait=soon")).status_code == 401


async def test_all_that_is_wrong_is_told_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.get("/none?wait=soon&until=x", headers={"Authorization": "me"})

    assert answer.status_code == 400
    assert [each.partition(":")[0] for each in answer.text.split("; ")] == [
        "number",
        "wait",
        "there is no parameter until",
    ]


async def test_what_stands_there_more_than_once_is_wrong(client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/{ID}?wait=1&wait=2")

    assert (answer.status_code, answer.json()["detail"]) == (400, "wait: it stands there more than once")


def test_a_route_that_declares_what_nobody_would_read_is_refused() -> None:
    router: Any = APIRouter(route_class=DirectRoute)

    async def _of_a_header(range: Annotated[str, Header()]) -> Response:
        return Response(range)

    async def _of_loose_parameters(first: str, second: str) -> Response:
        return Response(first + second)

    for each in (_of_a_header, _of_loose_parameters):
        with pytest.raises(TypeError, match="one model of its query"):
            router.get("/")(each)
