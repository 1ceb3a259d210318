"""Further endpoints of webhooks, from a TOML file: a table an endpoint, mistakes reported by their key."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from storage.catalog.webhook_routes import WebhookRule
from storage.catalog.webhooks import DEFAULT
from worker.webhooks.signing import MAKE, check_endpoint_url, parse_secrets

_NAME: TypeAdapter[str] = TypeAdapter(Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")])
_WORDS = {
    "missing": "{where} is missing",
    "extra_forbidden": "{where} means nothing here; there are {keys}",
    "model_type": "{where} is no table; an endpoint is [{where}]",
    "string_type": "{where} is a text, in quotes",
    "list_type": '{where} is a list, such as ["one", "another"]',
    "too_short": "{where} names at least one",
}


class EndpointMistakes(Exception):
    """The file does not describe endpoints; the message has a line for each mistake, and no secret."""


def _check_secrets(value: str) -> str:
    if not parse_secrets(value):
        raise ValueError(f"must not be empty; {MAKE} makes one")
    return value


_Names = Annotated[list[str], Field(min_length=1)]


class EndpointTable(BaseModel):
    """An endpoint's table in a file of endpoints."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    url: Annotated[str, AfterValidator(check_endpoint_url)] = Field(repr=False)
    secret: Annotated[str, AfterValidator(_check_secrets)] = Field(repr=False)
    recipes: _Names | None = None
    owners: _Names | None = None

    @model_validator(mode="after")
    def _has_a_rule(self) -> Self:
        if self.recipes is None and self.owners is None:
            raise PydanticCustomError(
                "rule", "has recipes, or owners: the endpoint of all others is MEDIA_WEBHOOK_URL"
            )
        return self

    @property
    def rule(self) -> WebhookRule:
        """Which messages it is sent, unless an endpoint before it is."""
        return WebhookRule(
            frozenset(self.recipes) if self.recipes is not None else None,
            frozenset(self.owners) if self.owners is not None else None,
        )


def load_endpoints(path: Path) -> Mapping[str, EndpointTable]:
    """The endpoints of the file at `path` by their names, in its order.

    Raises: EndpointMistakes, with all.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EndpointMistakes(error.strerror) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EndpointMistakes("is no TOML in UTF-8") from error  # what it quotes may be of a secret
    mistakes: list[str] = []
    endpoints = {name: _endpoint(name, table, mistakes) for name, table in tables.items()}
    if mistakes:
        raise EndpointMistakes("\n".join(mistakes))
    return {name: one for name, one in endpoints.items() if one is not None}


def _endpoint(name: str, table: object, mistakes: list[str]) -> EndpointTable | None:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        mistakes.append(f"{name}: a name is 1 to 32 of a-z, 0-9, _ and -")
    if name == DEFAULT:
        mistakes.append(f"{name} is the endpoint of MEDIA_WEBHOOK_URL; choose another name")
    try:
        return EndpointTable.model_validate(table)
    except ValidationError as error:
        for mistake in error.errors(include_url=False, include_input=False):
            words = _WORDS.get(mistake["type"], "{where} {said}")
            where = ".".join([name, *(str(part) for part in mistake["loc"])])
            said = mistake["msg"].removeprefix("Value error, ")
            mistakes.append(words.format(where=where, said=said, keys=", ".join(EndpointTable.model_fields)))
    return None
