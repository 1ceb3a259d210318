"""Who asks, and what they may: keys, tokens, and nobody at all on a server that only this machine reaches."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import Request
from starlette.requests import HTTPConnection

from storage.catalog.http_keys import HttpKey
from storage.errors import StorageError
from worker.http.keys import NOBODY, SECRET_PREFIX, digest_of
from worker.http.problems import Problem, not_found
from worker.http.scopes import SCOPES
from worker.http.tokens import SignedToken, TokenMistake, Tokens

log = structlog.get_logger(__name__)

FRESH_S = 2.0  # after which a key that was revoked counts nowhere any more
_AGAIN_S = 0.25  # after which an unknown key is looked up again: it may have been made meanwhile
_PATIENCE_S = 1.0  # for a catalog that does not answer; then the keys that were known count
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_OF_PROXIES = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


@dataclass(frozen=True)
class Caller:
    """Who asks: a key's name, its scopes and the uploads that it is bound to; or a token."""

    name: str
    scopes: frozenset[str]
    owner: str | None = None
    prefix: str | None = None
    token: SignedToken | None = None
    key: str | None = None  # the name of the key, if it is one

    def may_see(self, source: str | None, owner: str) -> bool:
        """Whether an upload with that source and that owner is theirs."""
        if self.owner is not None and owner != self.owner:
            return False
        return self.prefix is None or (source is not None and source.startswith(self.prefix))

    def check_theirs(self, source: str | None, owner: str) -> None:
        """Raises: Problem (not found): somebody else's is as unknown as what is not there."""
        if not self.may_see(source, owner):
            raise not_found("There is no such upload.")


ANYBODY = Caller(NOBODY, frozenset(SCOPES))
"""Whoever reaches a server that listens to this machine alone, while no key was ever made."""


class Access:
    """Knows the keys, as they were read lately, and what a request carries."""

    def __init__(
        self, read_keys: Callable[[], Awaitable[Sequence[HttpKey]]], tokens: Tokens, *, is_local: bool
    ) -> None:
        self._read_keys = read_keys
        self._tokens = tokens
        self._is_local = is_local
        self._keys: Mapping[str, HttpKey] | None = None
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None
        self._failure: StorageError | Problem | None = None

    def requires(self, *scopes: str, token: bool = False) -> "Requirement":
        """A dependency: the caller, who must have one of `scopes`, or, with `token`, a token."""
        return Requirement(self, scopes, token)

    async def caller(self, request: HTTPConnection) -> Caller:
        """Who asks. Raises: Problem (unauthorized, forbidden), CatalogUnavailable."""
        headers = request.headers.getlist("authorization")
        if not headers:
            caller = await self.nobody(request)
        else:
            scheme, _, secret = headers[0].partition(" ")
            if len(headers) > 1 or scheme.lower() != "bearer" or not secret.strip():
                raise Problem("unauthorized", "Authorization must be, once: Bearer KEY.")
            caller = await self.known(secret.strip())
        request.scope["media.caller"] = caller
        return caller

    async def known(self, secret: str) -> Caller:
        """Whose secret that is. Raises: Problem (unauthorized), CatalogUnavailable."""
        if secret.startswith(SECRET_PREFIX):
            # A dictionary tells by its time at most something of digests, from which no secret is guessed.
            digest = digest_of(secret)
            key = (await self.keys()).get(digest) or (await self.keys(_AGAIN_S)).get(digest)
            if key is None or key.revoked_ms is not None:
                raise Problem("unauthorized", "There is no such key, or it was revoked.")
            return Caller(key.name, key.scopes, key.owner, key.prefix, key=key.name)
        try:
            token = self._tokens.read(secret)
        except TokenMistake as error:
            raise Problem("unauthorized", str(error)) from error
        if token.key is not None and not await self._counts(token.key):
            raise Problem("unauthorized", "The key that made the token was revoked.")
        return Caller(f"token {token.digest[:8]}", frozenset(), token.owner, token.prefix, token)

    def expiry(self, seconds: int) -> int:
        """When a token ends that counts for so long from now on, in seconds since 1970."""
        return self._tokens.expiry(seconds)

    def sign(self, expires_at: int, claims: Mapping[str, Any]) -> str:
        """A token that counts until then (seconds since 1970). Raises: TokenMistake without a secret."""
        return self._tokens.sign(expires_at, claims)

    async def _counts(self, name: str) -> bool:
        return any(key.name == name and key.revoked_ms is None for key in (await self.keys()).values())

    async def _is_any(self) -> bool:
        """Whether a key was ever made; as long as none was, the next one is to count at once."""
        return bool(await self.keys() or await self.keys(0))

    async def keys(self, fresh_s: float = FRESH_S) -> Mapping[str, HttpKey]:
        """All keys by their digest, also revoked ones, as they were so many seconds ago at most.

        While the catalog is away, those that were known go on to count.

        Raises: CatalogUnavailable, Problem (catalog_unavailable) where none ever was.
        """
        if time.monotonic() - self._read_at > fresh_s:
            await self._read_again()
        if self._keys is None:
            raise self._failure or Problem("catalog_unavailable", "The catalog does not answer yet.")
        return self._keys

    def forget(self) -> None:
        """Read the keys again at the next request."""
        self._read_at = float("-inf")

    async def _read_again(self) -> None:
        """Wait until the keys are read; not for long where some are known, and the catalog hangs."""
        if self._reading is None or self._reading.done():
            self._asked_at = time.monotonic()
            self._reading = asyncio.create_task(self._read(), name="read-keys")
        within = None if self._keys is None else max(0, self._asked_at + _PATIENCE_S - time.monotonic())
        await asyncio.wait([self._reading], timeout=within)

    async def _read(self) -> None:
        try:
            self._keys = {key.sha256: key for key in await self._read_keys()}
            self._failure = None
        except (StorageError, Problem) as error:
            if self._failure is None:
                log.warning("keys_not_read", reason=str(error))
            self._failure = error
        if self._keys is not None:
            self._read_at = time.monotonic()

    async def nobody(self, request: HTTPConnection, *, by_link: bool = False) -> Caller:
        """Whoever has no key, where none is needed; `by_link`: also led there by a page of another site.

        Raises: Problem (unauthorized, forbidden), CatalogUnavailable.
        """
        if not self._is_local or await self._is_any():
            raise Problem("unauthorized", "Send a key: Authorization: Bearer mw_...")
        # A page that a browser on this machine shows must not get what anybody here may have.
        hosts = [host.lower() for host in request.headers.getlist("host")]
        if len(hosts) != 1 or _name_in(hosts[0]) not in _LOOPBACK:
            raise Problem("forbidden", "Without keys only this machine is answered: media keys new NAME.")
        if any(name in request.headers for name in _OF_PROXIES):
            raise Problem("forbidden", "A proxy asks for somebody: that takes a key: media keys new NAME.")
        if not by_link and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Problem("forbidden", "Pages of other sites need a key.")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != hosts[0]:
            raise Problem("forbidden", "Pages of other sites need a key.")
        return ANYBODY


@dataclass(frozen=True, eq=False)
class Requirement:
    """What a route asks of whoever calls it: one of the scopes, or a token where that will do."""

    access: Access
    scopes: Sequence[str]
    token: bool

    async def __call__(self, request: Request) -> Caller:
        """The caller. Raises: Problem (unauthorized, forbidden), CatalogUnavailable."""
        caller = await self.access.caller(request)
        if caller.token is not None:
            if not self.token:
                raise Problem("forbidden", "A token is not enough here: it takes a key.")
        elif not caller.scopes.intersection(self.scopes):
            raise Problem("forbidden", f"The key lacks the scope {' or '.join(self.scopes)}.")
        return caller


def _name_in(host: str) -> str:
    return host if host.endswith("]") else host.rpartition(":")[0] or host
