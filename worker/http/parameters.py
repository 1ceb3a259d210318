"""What holds for the parameters of every route, and how they are read."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from worker.http.problems import Problem


class DirectRoute(APIRoute):
    """A route that reads who calls, then its path and its query, as its signature declares them.

    FastAPI finds out at each request what a signature needs, which takes as long as reading the catalog.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What answers a request."""
        declared, endpoint = self.dependant, self.endpoint
        others = declared.header_params or declared.cookie_params or declared.body_params
        if others or len(declared.query_params) > 1 or not all(each.name for each in declared.dependencies):
            raise TypeError(f"{self.path}: a route declares who calls, its path and one model of its query")
        callers = [(str(each.name), each.call) for each in declared.dependencies if each.call is not None]
        in_path, in_query = declared.path_params, declared.query_params
        named = declared.request_param_name

        async def answer(request: Request) -> Response:
            _check_each_once(request)
            values: dict[str, Any] = {name: await caller(request) for name, caller in callers}
            mistakes: list[Any] = []
            for field in in_path:
                text = request.path_params[field.alias]
                values[field.name], wrong = field.validate(text, loc=("path", field.alias))
                mistakes += wrong
            for field in in_query:  # one, the model of all
                values[field.name], wrong = field.validate(dict(request.query_params), loc=("query",))
                mistakes += wrong
            if mistakes:
                raise RequestValidationError(mistakes)
            if named is not None:
                values[named] = request
            response: Response = await endpoint(**values)
            return response

        return answer


def _check_each_once(request: Request) -> None:
    """Raises: Problem (bad_request) where a parameter stands twice: one of its values would not count."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(names) > len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem("bad_request", f"{repr(twice[:64])[1:-1]}: it stands there more than once")
