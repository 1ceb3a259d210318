"""The endpoints of webhooks, as `media doctor` finds them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain

from storage.catalog.database import open_to_read
from storage.catalog.webhooks import DEFAULT, EndpointState, Webhooks
from storage.errors import StorageError
from worker.findings import Finding
from worker.listen_address import is_loopback
from worker.settings import Settings
from worker.webhooks.endpoint import CannotDeliver, WebhookAnswer, WebhookEndpoint, check_installed
from worker.webhooks.signing import shown_endpoint

_WHAT = "Webhooks"
_ADVICE = {
    "forbidden": "Correct MEDIA_WEBHOOK_URL; where the endpoint is meant to be in a private network, set "
    "MEDIA_WEBHOOK_ALLOW_PRIVATE=1.",
    "tls": "Mend its certificate; one of an authority of your own is trusted where SSL_CERT_FILE names that.",
}
_UNREACHABLE = "Start it, or correct MEDIA_WEBHOOK_URL. Messages wait for it for 3 days."
_BY_STATUS = {
    "401": "Compare its secret with MEDIA_WEBHOOK_SECRET.",
    "403": "Compare its secret with MEDIA_WEBHOOK_SECRET.",
    "404": "Correct the path of MEDIA_WEBHOOK_URL.",
    "410": "Set MEDIA_WEBHOOK_URL to where messages are wanted, or take it away, and restart the workers.",
}
_REFUSES = "Its log says why. `media webhooks list` has the messages; they wait for 3 days."


async def check_webhooks(settings: Settings) -> Sequence[Finding]:
    """Whether messages can be posted to each endpoint. Posts nothing."""
    if not (endpoints := WebhookEndpoint.of(settings)):
        return []
    try:
        check_installed()
    except CannotDeliver as error:
        return [Finding(_WHAT, "error", f"they cannot be sent from here: {error}")]
    states: dict[str, EndpointState | None] = {}
    with suppress(StorageError, OSError):  # another finding reports it
        async with open_to_read(settings.catalog) as database:
            states = {one.name: await Webhooks(database, one.name).state() for one in endpoints}
    tried = await asyncio.gather(*map(_connect, endpoints))
    found = [
        inspect_webhooks(endpoint, answer, states.get(endpoint.name))
        for endpoint, answer in zip(endpoints, tried, strict=True)
    ]
    return [*chain(*found), *_inspect_recipes(endpoints, settings)]


def _inspect_recipes(endpoints: Sequence[WebhookEndpoint], settings: Settings) -> Iterator[Finding]:
    for endpoint in endpoints:
        for name in sorted((endpoint.route.rule.recipes or frozenset()) - settings.recipe_book.keys()):
            detail = f"{endpoint.name} is for the recipe {name}, and there is none of that name"
            yield Finding(_WHAT, "warning", detail, "Correct the recipes in MEDIA_WEBHOOK_ENDPOINTS.")


async def _connect(endpoint: WebhookEndpoint) -> WebhookAnswer:
    from worker.webhooks.sending import WebhookSender  # with an extra

    sender = WebhookSender(endpoint, 1, lambda: 0)
    try:
        return await sender.connect()
    finally:
        await sender.close()


def inspect_webhooks(
    endpoint: WebhookEndpoint, tried: WebhookAnswer, state: EndpointState | None
) -> Sequence[Finding]:
    """The findings about an endpoint: how a connection to it went, and what its last answers were."""
    url = shown_endpoint(endpoint.url)
    what = _WHAT if endpoint.name == DEFAULT else f"{_WHAT} to {endpoint.name}"
    if tried.outcome != "delivered":
        advice = _ADVICE.get(tried.outcome, _UNREACHABLE)
        return [Finding(what, "error", f"{url} cannot be reached: {tried.problem}", _for(endpoint, advice))]
    found = []
    if state is not None and state.problem is not None and state.word != "ok":
        status = state.problem.removeprefix("it answered ")[:3]
        detail = f"{url} takes no messages: {state.problem}"
        advice = _for(endpoint, _BY_STATUS.get(status, _REFUSES))
        found.append(Finding(what, "error", detail, advice))
    if not endpoint.is_https and not is_loopback((endpoint.host, endpoint.port)):
        detail = (
            f"{url} is reached without TLS: messages are signed, and everybody on their way can read them"
        )
        found.append(Finding(what, "warning", detail, _for(endpoint, "Use https in MEDIA_WEBHOOK_URL.")))
    return found or [Finding(what, "ok", f"{url} can be reached")]


def _for(endpoint: WebhookEndpoint, advice: str) -> str:
    """The same in the words of the file that names this endpoint."""
    if endpoint.name == DEFAULT:
        return advice
    of_file = f"of {endpoint.name} in MEDIA_WEBHOOK_ENDPOINTS"
    advice = advice.replace("MEDIA_WEBHOOK_URL", f"the url {of_file}")
    return advice.replace("MEDIA_WEBHOOK_SECRET", f"the secret {of_file}")
