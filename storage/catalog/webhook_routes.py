"""Which messages an endpoint of webhooks is sent: by the recipe, or the owner, of their upload."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, and_, false, not_, or_, true

from storage.catalog.expressions import has_text
from storage.catalog.tables import outbox


@dataclass(frozen=True)
class WebhookRule:
    """Some messages: those about uploads with one of these recipes and of one of these owners; None: any."""

    recipes: AbstractSet[str] | None = None
    owners: AbstractSet[str] | None = None

    def has(self, content: Mapping[str, Any]) -> bool:
        """Whether a message is one of them, by its content."""
        return _is_in(content.get("recipe"), self.recipes) and _is_in(content.get("owner"), self.owners)

    @property
    def condition(self) -> ColumnElement[bool]:
        """The same of a row of the outbox."""
        wanted = (("recipe", self.recipes), ("owner", self.owners))
        return and_(true(), *(_is_one_of(field, values) for field, values in wanted if values is not None))


ANY = WebhookRule()


@dataclass(frozen=True)
class WebhookRoute:
    """The messages that one endpoint is sent: those of its rule that no `earlier` one has."""

    rule: WebhookRule = ANY
    earlier: Sequence[WebhookRule] = ()

    @property
    def has_all(self) -> bool:
        """Whether these are all messages."""
        return not self.earlier and self.rule == ANY

    def has(self, content: Mapping[str, Any]) -> bool:
        """Whether a message is one of them, by its content; one that is damaged is of no rule."""
        return self.rule.has(content) and not any(rule.has(content) for rule in self.earlier)

    @property
    def condition(self) -> ColumnElement[bool]:
        """The same of a row of the outbox."""
        return and_(self.rule.condition, *(not_(rule.condition) for rule in self.earlier))


EVERYTHING = WebhookRoute()
NOWHERE = WebhookRoute(WebhookRule(recipes=frozenset()))
"""The route of an endpoint that nobody knows any more."""


def _is_in(value: object, wanted: AbstractSet[str] | None) -> bool:
    return wanted is None or (isinstance(value, str) and value in wanted)


def _is_one_of(field: str, values: AbstractSet[str]) -> ColumnElement[bool]:
    texts = [orjson.dumps(value).decode() for value in sorted(values)]
    return or_(false(), *(has_text(outbox.c.body, field, text) for text in texts))
