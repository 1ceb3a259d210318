"""Webhooks for people and programs: how the endpoint does, what waits for it, and what was given up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.moments import precise_moment
from storage.catalog.webhooks import Backlog, Delivery, EndpointState, Webhooks
from worker.settings import Settings
from worker.webhooks.signing import shown_endpoint

WORDS = {
    "ok": "takes messages",
    "down": "takes no messages at the moment",
    "gone": "wants no more messages (410); workers ask it again when they are started again",
}


@dataclass(frozen=True)
class WebhookReport:
    """How an endpoint does. `state` is None where it was never tried."""

    state: EndpointState | None
    backlog: Backlog
    waiting: Sequence[Delivery]
    given_up: Sequence[Delivery]
    now_ms: int

    @property
    def word(self) -> str:
        """How it does, in words."""
        return "was not tried yet" if self.state is None else WORDS[self.state.word]

    @property
    def problem(self) -> str | None:
        """What was wrong with the last attempt, where something was."""
        return None if self.state is None else self.state.problem

    @property
    def oldest_s(self) -> int | None:
        """For how long the oldest message has waited; None: none waits."""
        oldest_ms = self.backlog.oldest_ms
        return None if oldest_ms is None else max(0, self.now_ms - oldest_ms) // 1000


async def report_webhooks(webhooks: Webhooks, limit: int) -> WebhookReport | None:
    """The report with up to `limit` messages of each kind; None where there never was an endpoint.

    Raises: CatalogUnavailable.
    """
    if not await webhooks.has_begun():
        return None
    return WebhookReport(
        await webhooks.state(),
        await webhooks.backlog(),
        await webhooks.waiting(limit),
        await webhooks.given_up(limit),
        webhooks.now_ms(),
    )


def report_document(report: WebhookReport | None, settings: Settings) -> dict[str, Any]:
    """The report as JSON."""
    state = report.state if report else None
    backlog = report.backlog if report else Backlog(0, 0, 0, None)
    return {
        "url": shown_endpoint(settings.webhook_url) or None,
        "state": state.word if state else None,
        "since": _moment(state.since_ms if state else None),
        "problem": state.problem if state else None,
        "delivered": _moment(state.delivered_ms if state else None),
        "total": {"waiting": backlog.waiting, "given_up": backlog.given_up, "behind": backlog.behind},
        "oldest": _moment(backlog.oldest_ms),
        "waiting": [delivery_document(one) for one in (report.waiting if report else ())],
        "given_up": [delivery_document(one) for one in (report.given_up if report else ())],
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
