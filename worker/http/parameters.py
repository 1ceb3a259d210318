"""What holds for the parameters of every route."""

from starlette.requests import HTTPConnection

from worker.http.problems import Problem


async def check_each_once(connection: HTTPConnection) -> None:
    """Raises: Problem (bad_request) where a parameter stands twice: one of its values would not count."""
    names = [name for name, _ in connection.query_params.multi_items()]
    if connection.scope["type"] == "http" and len(names) > len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise Problem("bad_request", f"{repr(twice[:64])[1:-1]}: it stands there more than once")
