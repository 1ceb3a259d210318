"""The endpoints of webhooks as the settings describe them, and what they answer."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from storage.catalog.webhook_routes import EVERYTHING, WebhookRoute
from storage.catalog.webhooks import DEFAULT
from storage.errors import lacking
from worker.settings import Settings
from worker.webhooks.signing import parse_secrets

PACKAGES = ("httpcore", "anyio")
"""What the extra `webhooks` installs."""

Outcome = Literal["delivered", "refused", "gone", "timeout", "unreachable", "tls", "forbidden"]
"""What became of an attempt. `refused`: the answer was not 2xx; `gone`: it was 410; `tls`: its certificate is
not good; `forbidden`: it is at an address that is not public.
"""


class CannotDeliver(Exception):
    """Webhooks were asked for and cannot be sent; the message says why."""


@dataclass(frozen=True)
class WebhookEndpoint:
    """Where messages are posted, with which secrets, and how long an attempt may take."""

    url: str = field(repr=False)  # its query may hold a secret
    secrets: Sequence[bytes] = field(repr=False)
    allow_private: bool
    timeout_s: float
    name: str = DEFAULT
    route: WebhookRoute = EVERYTHING

    @classmethod
    def of(cls, settings: Settings) -> "Sequence[WebhookEndpoint]":
        """Those of the settings, that of MEDIA_WEBHOOK_URL first."""
        allow_private, timeout_s = settings.webhook_allow_private, settings.webhook_timeout
        tables = settings.further_endpoints
        rules = [table.rule for table in tables.values()]
        further = [
            cls(
                *(table.url, parse_secrets(table.secret), allow_private, timeout_s, name),
                WebhookRoute(table.rule, rules[:number]),
            )
            for number, (name, table) in enumerate(tables.items())
        ]
        if not settings.webhook_url:
            return further
        secrets = parse_secrets(settings.webhook_secret)
        route = WebhookRoute(earlier=rules)
        return [
            cls(settings.webhook_url, secrets, allow_private, timeout_s, DEFAULT, route),
            *further,
        ]

    def lease_s(self, least_s: float) -> float:
        """How long a worker may deliver alone: longer than an attempt of it takes, and at least so long."""
        return max(least_s, self.timeout_s + 5)

    @property
    def host(self) -> str:
        """The host of the URL."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port of the URL."""
        return urlsplit(self.url).port or (443 if self.is_https else 80)

    @property
    def is_https(self) -> bool:
        """Whether messages are encrypted on their way."""
        return urlsplit(self.url).scheme == "https"  # in lower case


@dataclass(frozen=True)
class WebhookAnswer:
    """What became of an attempt, what is wrong if something is, and how long the endpoint asks to wait."""

    outcome: Outcome
    problem: str | None = None
    pause_s: float = 0.0


def check_installed() -> None:
    """Raises: CannotDeliver where the packages are missing that webhooks are sent with."""
    if not all(importlib.util.find_spec(name) for name in PACKAGES):
        raise CannotDeliver(f"an endpoint of webhooks {lacking('webhooks')}")
