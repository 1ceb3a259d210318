"""Who looks at the console: whoever has a key, whomever a proxy names, or anybody."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request
from starlette.requests import HTTPConnection

from worker.http.access import Caller
from worker.http.access_log import Proxies
from worker.http.face import Face
from worker.http.problems import Problem

ASK_FOR_KEY: Mapping[str, str] = {"WWW-Authenticate": 'Basic realm="media-worker console", charset="UTF-8"'}
"""What has a browser ask for a user's name and a password, which is a key."""

SAFE_METHODS = ("GET", "HEAD")
_LONGEST_NAME = 64  # characters of a user's name


@dataclass(frozen=True)
class Visitor:
    """Who looks, what they may see, and whether they may do something about it."""

    caller: Caller
    is_demo: bool = False
    """Sees no names of sources, no metadata, and nothing of the machines."""

    @property
    def name(self) -> str:
        """The name in the log."""
        return self.caller.name

    @property
    def may_operate(self) -> bool:
        """Whether they may retry, discard and delete."""
        return "operate" in self.caller.scopes

    @property
    def may_upload(self) -> bool:
        """Whether they may drop pictures: whoever may delete them all may add one."""
        return bool(self.caller.scopes & {"operate", "upload"})

    @property
    def may_see_originals(self) -> bool:
        """Whether they get the bytes of originals."""
        return "originals" in self.caller.scopes

    @property
    def may_look_at_originals(self) -> bool:
        """Whether pages show them originals, where these harm no browser."""
        return bool(self.caller.scopes & {"operate", "originals"}) and not self.is_demo

    @property
    def sees_all(self) -> bool:
        """Whether their key is bound to no owner and to no folder."""
        return self.caller.owner is None and self.caller.prefix is None


class Visitors:
    """Finds out who looks."""

    def __init__(self, face: Face) -> None:
        self._access = face.access
        self._settings = face.settings
        self._proxies = Proxies.parse(face.settings.http_proxies)

    async def visitor(self, request: HTTPConnection) -> Visitor:
        """Who looks, and may. Raises: Problem (unauthorized, forbidden, not_found), CatalogUnavailable."""
        found = await self._find(request)
        request.scope["media.caller"] = found.caller
        return found

    async def _find(self, request: HTTPConnection) -> Visitor:
        match self._settings.console:
            case "off":
                raise Problem("not_found", "There is no console here.")
            case "demo":
                return Visitor(Caller("demo", frozenset({"read"})), is_demo=True)
        if name := self._name_by_proxy(request):
            scopes = {"read", "operate"} if self._settings.console_user_scope == "operate" else {"read"}
            return Visitor(Caller(name, frozenset(scopes)))
        if "authorization" not in request.headers:
            return Visitor(await self._nobody(request))
        return Visitor(await self._by_key(request))

    def _name_by_proxy(self, request: HTTPConnection) -> str | None:
        """The user's name, where a trusted proxy tells one."""
        header, peer = self._settings.console_user_header, request.scope.get("client")
        if not header or not self._proxies.believes(peer[0] if peer else None):
            return None
        names = [_as_written(name.strip()) for name in request.headers.getlist(header)]
        if not names or not names[0]:
            return None
        if len(names) > 1 or len(names[0]) > _LONGEST_NAME or not names[0].isprintable():
            raise Problem("forbidden", f"The proxy tells no acceptable name in {header}.")
        return names[0]

    async def _nobody(self, request: HTTPConnection) -> Caller:
        try:
            return await self._access.nobody(request, by_link=_follows_a_link(request))
        except Problem as problem:
            if problem.code == "unauthorized":
                raise _ask(
                    "The console takes a key: any user name, and the key as the password."
                ) from problem
            raise

    async def _by_key(self, request: HTTPConnection) -> Caller:
        """Whose key it is. Who has typed a wrong one is asked again."""
        headers = request.headers.getlist("authorization")
        secret = _secret_in(headers[0]) if len(headers) == 1 else ""
        try:
            caller = await self._access.known(secret)
        except Problem as problem:
            if problem.code == "unauthorized":
                raise _ask("There is no such key, or it was revoked.") from problem
            raise
        if caller.token is not None:
            raise _ask("The console takes a key, not a token.")
        if not caller.scopes & {"read", "operate"}:
            raise _ask("The key lacks the scope read or operate.")
        return caller


def check_same_site(request: Request) -> None:
    """Raises: Problem (forbidden) where a page of another site may have sent what changes something.

    Browsers say so by Sec-Fetch-Site; over plain HTTP only this machine hears it, others get Origin.
    """
    if request.method in SAFE_METHODS:
        return
    hosts = [host.lower() for host in request.headers.getlist("host")]
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site == "same-origin"
    else:
        is_ours = origin is not None and hosts == [origin.partition("://")[2].lower()]
    if not is_ours:
        raise Problem("forbidden", "Only a page of the console itself may do that.")


def _follows_a_link(request: HTTPConnection) -> bool:
    """Whether a browser opens the page as a whole: whoever has led it there learns nothing of it."""
    headers = request.headers
    return (
        request.scope.get("method") in SAFE_METHODS
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _as_written(value: str) -> str:
    """A value of a header, which is read as Latin-1, where whoever wrote it did so in UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _secret_in(header: str) -> str:
    scheme, _, content = header.partition(" ")
    if scheme.lower() == "bearer":
        return content.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return b64decode(content.strip(), validate=True).decode().partition(":")[2].strip()
    except ValueError:
        return ""


def _ask(detail: str) -> Problem:
    return Problem("unauthorized", detail, headers=ASK_FOR_KEY)
