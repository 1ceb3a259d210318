"""HEAD wherever there is GET: the same answer without its body, for proxies, checks of uptime, browsers."""

from collections.abc import Sequence

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from worker.http.console.paths import LIVE

ENDLESS = ("/v1/events", LIVE)
"""Routes whose answers have no end: a stream would be open as long as whoever wants nothing of it stays."""


def api_routes(routers: Sequence[APIRouter]) -> Sequence[APIRoute]:
    """Their routes, without what is mounted."""
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


def answer_heads(routers: Sequence[APIRouter]) -> None:
    """Have all routes that answer GET answer HEAD as well, except for those without an end."""
    for route in api_routes(routers):
        methods = route.methods or set()
        if "GET" in methods and route.path not in ENDLESS:
            route.methods = {*methods, "HEAD"}


class WithoutBodies:
    """Sends of an answer to HEAD its head alone, which says how long the body of GET is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the app."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app(scope, receive, send_head)
