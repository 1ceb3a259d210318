"""Tokens for browsers: JWTs that this server, or an app in any language, signs with `MEDIA_HTTP_SECRET`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any

import jwt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

AUDIENCE = "media"
ALGORITHM = "HS256"
_LEEWAY_S = 5  # between the clocks of whoever signs and of this server


class TokenMistake(Exception):
    """The token does not count; the message says why, without any part of it."""


class TokenClaims(BaseModel):
    """What a token says; what it does not say is not limited."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    max_bytes: Annotated[int, Field(ge=1)] | None = None
    recipe: str | None = None
    metadata: dict[str, Any] | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    owner: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    prefix: str | None = None


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


@dataclass(frozen=True)
class Tokens:
    """Signs and reads tokens; without a secret, none counts."""

    secret: str = field(repr=False)

    def sign(self, expires_at: int, claims: Mapping[str, Any]) -> str:
        """A token that counts until then. Raises: TokenMistake without a secret."""
        if not self.secret:
            raise TokenMistake("Tokens need MEDIA_HTTP_SECRET on the server.")
        return jwt.encode({"aud": AUDIENCE, "exp": expires_at, **claims}, self.secret, ALGORITHM)

    def read(self, token: str) -> SignedToken:
        """What the token allows. Raises: TokenMistake."""
        if not self.secret:
            raise TokenMistake("That is no key, and this server takes no tokens.")
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
            expires_at = int(found["exp"])
        except jwt.ExpiredSignatureError as error:
            raise TokenMistake("The token has expired.") from error
        except jwt.InvalidAudienceError as error:
            raise TokenMistake(f"The token is not for us: its aud must be {AUDIENCE}.") from error
        except (jwt.PyJWTError, ValueError, OverflowError) as error:
            wrong = isinstance(error, ValidationError)
            raise TokenMistake(
                "The token has a wrong claim." if wrong else "The token is not valid."
            ) from error
        return SignedToken(sha256(token.encode()).hexdigest(), expires_at, **dict(claims))
