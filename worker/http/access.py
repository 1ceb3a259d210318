"""Who asks, and what they may: keys, tokens, and nobody at all on a server that only this machine reaches."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from fastapi import Request
from starlette.requests import HTTPConnection

from storage.catalog.http_keys import HttpKey
from storage.errors import StorageError
from worker.http.keys import SCOPES, SECRET_PREFIX, digest_of
from worker.http.problems import Problem, not_found
from worker.http.tokens import SignedToken, TokenMistake, Tokens

log = structlog.get_logger(__name__)

FRESH_S = 2.0  # after which a key that was made or revoked counts everywhere
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Caller:
    """Who asks: a key's name, its scopes and the uploads that it is bound to; or a token."""

    name: str
    scopes: frozenset[str]
    owner: str | None = None
    prefix: str | None = None
    token: SignedToken | None = None

    def may_see(self, source: str | None, owner: str) -> bool:
        """Whether an upload with that source and that owner is theirs."""
        if self.owner is not None and owner != self.owner:
            return False
        return self.prefix is None or (source is not None and source.startswith(self.prefix))

    def check_theirs(self, source: str | None, owner: str) -> None:
        """Raises: Problem (not found): somebody else's is as unknown as what is not there."""
        if not self.may_see(source, owner):
            raise not_found("There is no such upload.")


ANYBODY = Caller("local", frozenset(SCOPES))
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
        self._reading = asyncio.Lock()

    def requires(self, *scopes: str, token: bool = False) -> "Requirement":
        """A dependency: the caller, who must have one of `scopes`, or, with `token`, a token."""
        return Requirement(self, scopes, token)

    async def caller(self, request: HTTPConnection) -> Caller:
        """Who asks. Raises: Problem (unauthorized, forbidden), CatalogUnavailable."""
        header = request.headers.get("authorization")
        if header is None:
            caller = await self._nobody(request)
        else:
            scheme, _, secret = header.partition(" ")
            if scheme.lower() != "bearer" or not secret.strip():
                raise Problem("unauthorized", "Authorization must be: Bearer KEY.")
            caller = await self.known(secret.strip())
        request.scope["media.caller"] = caller
        return caller

    async def known(self, secret: str) -> Caller:
        """Whose secret that is. Raises: Problem (unauthorized), CatalogUnavailable."""
        if secret.startswith(SECRET_PREFIX):
            digest = digest_of(secret)
            key = (await self.keys()).get(digest)
            if key is None or not hmac.compare_digest(key.sha256, digest) or key.revoked_ms is not None:
                raise Problem("unauthorized", "There is no such key, or it was revoked.")
            return Caller(key.name, key.scopes, key.owner, key.prefix)
        try:
            token = self._tokens.read(secret)
        except TokenMistake as error:
            raise Problem("unauthorized", str(error)) from error
        return Caller(f"token {token.digest[:8]}", frozenset(), token.owner, token.prefix, token)

    async def keys(self) -> Mapping[str, HttpKey]:
        """All keys by their digest, also revoked ones, as they were some seconds ago at most.

        While the catalog is away, those that were known go on to count.
        """
        if time.monotonic() - self._read_at > FRESH_S:
            async with self._reading:
                if time.monotonic() - self._read_at > FRESH_S:
                    await self._read_again()
        assert self._keys is not None
        return self._keys

    def forget(self) -> None:
        """Read the keys again at the next request."""
        self._read_at = float("-inf")

    async def _read_again(self) -> None:
        try:
            self._keys = {key.sha256: key for key in await self._read_keys()}
        except StorageError as error:
            if self._keys is None:
                raise
            log.warning("keys_not_read", reason=str(error))
        self._read_at = time.monotonic()

    async def _nobody(self, request: HTTPConnection) -> Caller:
        if not self._is_local or await self.keys():
            raise Problem("unauthorized", "Send a key: Authorization: Bearer mw_...")
        # A page that a browser on this machine shows must not get what anybody here may have.
        host = request.headers.get("host", "").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in _LOOPBACK:
            raise Problem("forbidden", "Without keys only this machine is answered: media keys new NAME.")
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            raise Problem("forbidden", "Pages of other sites need a key.")
        origin = request.headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host:
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
