"""Webhooks for people and programs: how each endpoint does, what waits for it, and what was given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.moments import precise_moment
from storage.catalog.webhook_routes import EVERYTHING, NOWHERE
from storage.catalog.webhooks import DEFAULT, Backlog, Delivery, EndpointState, Webhooks
from worker.settings import Settings
from worker.webhooks.endpoint import WebhookEndpoint
from worker.webhooks.signing import shown_endpoint

WORDS = {
    "ok": "takes messages",
    "down": "takes no messages at the moment",
    "gone": "wants no more messages (410); workers ask it again when they are started again",
}


@dataclass(frozen=True)
class WebhookReport:
    """How an endpoint does. `state` is None where no worker has delivered to it yet.

    `url` is shown to people; None: it is not in the settings here. `used_ms` is when a worker had it last.
    """

    name: str
    url: str | None
    used_ms: int | None
    state: EndpointState | None
    backlog: Backlog
    waiting: Sequence[Delivery]
    given_up: Sequence[Delivery]
    now_ms: int

    @property
    def word(self) -> str:
        """How it does, in words."""
        state = self.state
        if state is None or (state.word == "ok" and not state.delivered_ms):
            tried = state is not None and state.problem is not None
            return "has taken no message yet" if tried else "was sent no message yet"
        return WORDS[state.word]

    @property
    def problem(self) -> str | None:
        """What was wrong with the last attempt, where something was."""
        return None if self.state is None else self.state.problem

    @property
    def oldest_s(self) -> int | None:
        """For how long the oldest message has waited; None: none waits."""
        oldest_ms = self.backlog.oldest_ms
        return None if oldest_ms is None else max(0, self.now_ms - oldest_ms) // 1000


async def report_webhooks(webhooks: Webhooks, settings: Settings, limit: int) -> Sequence[WebhookReport]:
    """A report with up to `limit` messages of each kind for each endpoint that any worker has had.

    Those of the settings come first, in their order. Raises: CatalogUnavailable.
    """
    known = {one.name: one for one in WebhookEndpoint.of(settings)}
    there = await webhooks.endpoints()
    names = [*(name for name in known if name in there), *(name for name in there if name not in known)]
    return [await _report(_to(webhooks, name, known.get(name)), known.get(name), limit) for name in names]


def webhooks_to(webhooks: Webhooks, settings: Settings, name: str) -> Webhooks:
    """Those to the endpoint of that name, with the route that it has in the settings."""
    return _to(webhooks, name, next((one for one in WebhookEndpoint.of(settings) if one.name == name), None))


def _to(webhooks: Webhooks, name: str, known: WebhookEndpoint | None) -> Webhooks:
    unknown = EVERYTHING if name == DEFAULT else NOWHERE
    return webhooks.to(name, unknown if known is None else known.route)


async def _report(webhooks: Webhooks, endpoint: WebhookEndpoint | None, limit: int) -> WebhookReport:
    return WebhookReport(
        webhooks.endpoint,
        None if endpoint is None else shown_endpoint(endpoint.url),
        await webhooks.used_ms(),
        await webhooks.state(),
        await webhooks.backlog(),
        await webhooks.waiting(limit),
        await webhooks.given_up(limit),
        webhooks.now_ms(),
    )


def report_document(reports: Sequence[WebhookReport]) -> dict[str, Any]:
    """The reports as JSON."""
    return {"endpoints": [_document(one) for one in reports]}


def _document(report: WebhookReport) -> dict[str, Any]:
    state, backlog = report.state, report.backlog
    return {
        "name": report.name,
        "url": report.url,
        "used": _moment(report.used_ms),
        "state": state.word if state else None,
        "since": _moment(state.since_ms if state else None),
        "problem": state.problem if state else None,
        "delivered": _moment(state.delivered_ms if state else None),
        "total": {"waiting": backlog.waiting, "given_up": backlog.given_up, "behind": backlog.behind},
        "oldest": _moment(backlog.oldest_ms),
        "waiting": [delivery_document(one) for one in report.waiting],
        "given_up": [delivery_document(one) for one in report.given_up],
    }


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    """A message that was not delivered."""
    return {
        "seq": delivery.seq,
        "id": str(delivery.upload_id) if delivery.upload_id else None,
        "time": _moment(delivery.made_ms),
        "attempts": delivery.attempts,
        "tried": _moment(delivery.tried_ms),
        "next_try": _moment(delivery.next_ms) if delivery.given_up_ms is None else None,
        "problem": delivery.problem,
    }


def _moment(ms: int | None) -> str | None:
    return precise_moment(ms) if ms else None
