"""Tokens for browsers: JWTs that this server, or an app in any language, signs with `MEDIA_HTTP_SECRET`."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any, Self

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.events import Metadata
from worker.http.keys import KeyMistake, check_binding

AUDIENCE = "media"
ALGORITHM = "HS256"
_LEEWAY_S = 5  # between the clocks of whoever signs and of this server
_LONGEST = 24 * 1024  # characters: 4 KiB of metadata, each letter of which JSON may escape, are 16
_LAST_EXP = 253_402_300_800  # the end of the year 9999
MOST = 2**53  # the numbers up to it are the same in every language
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class TokenMistake(Exception):
    """The token does not count; the message says why, without any part of it."""


class TokenClaims(BaseModel):
    """What a token says; what it does not say is not limited."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    exp: Annotated[float, Field(gt=0, lt=_LAST_EXP)]
    max_bytes: Annotated[int, Field(ge=1, le=MOST)] | None = None
    recipe: str | None = None
    metadata: Metadata | None = None
    n: Annotated[int, Field(ge=1, le=MOST)] | None = None
    owner: str | None = None
    prefix: str | None = None
    key: str | None = None

    @model_validator(mode="after")
    def _is_bound_as_keys_are(self) -> Self:
        claim = "owner"
        try:
            check_binding(self.owner, None)
            claim = "prefix"
            check_binding(self.owner, self.prefix)
        except KeyMistake as error:
            raise ValueError(claim) from error
        return self


@dataclass(frozen=True)
class SignedToken:
    """A token that counts: what it allows, and the digest by which its uploads are counted."""

    digest: str
    expires_at: int  # in seconds since 1970
    max_bytes: int | None = None
    recipe: str | None = None
    metadata: Mapping[str, Any] | None = None
    n: int | None = None
    owner: str | None = None
    prefix: str | None = None
    key: str | None = None  # whose token it is: it counts as long as that key


@dataclass(frozen=True)
class Tokens:
    """Signs and reads tokens; without a secret, none counts."""

    secret: str = field(repr=False)
    clock: Callable[[], float] = time.time

    def expiry(self, seconds: int) -> int:
        """When a token ends that counts for so long from now on."""
        return int(self.clock()) + seconds

    def sign(self, expires_at: int, claims: Mapping[str, Any]) -> str:
        """A token that counts until then. Raises: TokenMistake without a secret."""
        if not self.secret:
            raise TokenMistake("Tokens need MEDIA_HTTP_SECRET on the server.")
        return jwt.encode({"aud": AUDIENCE, "exp": expires_at, **claims}, self.secret, ALGORITHM)

    def read(self, token: str) -> SignedToken:
        """What the token allows. Raises: TokenMistake."""
        if not self.secret:
            raise TokenMistake("That is no key, and this server takes no tokens.")
        if len(token) > _LONGEST or not _COMPACT.fullmatch(token):
            raise TokenMistake("That is neither a key nor a token.")
        try:
            found = jwt.decode(
                token,
                self.secret,
                [ALGORITHM],
                audience=AUDIENCE,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "aud"]},
            )
            claims = TokenClaims.model_validate(found)
        except jwt.ExpiredSignatureError as error:
            raise TokenMistake("The token has expired.") from error
        except jwt.MissingRequiredClaimError as error:
            raise TokenMistake(f"The token lacks the claim {error.claim}.") from error
        except jwt.InvalidAudienceError as error:
            raise TokenMistake(f"The token is not for us: its aud must be {AUDIENCE}.") from error
        except ValidationError as error:
            raise TokenMistake(f"The token has a wrong claim: {_wrong_claim(error)}.") from error
        # Its header is read before its signature is checked; it may be nested as deeply as one likes.
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise TokenMistake("The token is not valid.") from error
        # The signature itself can be spelled in several ways, and each would be counted anew.
        digest = sha256(token.rpartition(".")[0].encode()).hexdigest()
        said = claims.model_dump(exclude={"exp"})
        return SignedToken(digest, int(claims.exp), **said)


def _wrong_claim(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return str(first["loc"][0]) if first["loc"] else first["msg"].removeprefix("Value error, ")
