"""The endpoint of webhooks, as `media doctor` finds it."""

from collections.abc import Sequence
from contextlib import suppress

from storage.catalog.database import open_to_read
from storage.catalog.webhooks import EndpointState, Webhooks
from storage.errors import StorageError
from worker.findings import Finding
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
    "410": "Set MEDIA_WEBHOOK_URL to where messages are wanted, or to nothing, and restart the workers.",
}
_REFUSES = "Its log says why. `media webhooks list` has the messages; they wait for 3 days."


async def check_webhooks(settings: Settings) -> Sequence[Finding]:
    """Whether messages can be posted to the endpoint, if there is one. Posts nothing."""
    if (endpoint := WebhookEndpoint.of(settings)) is None:
        return []
    try:
        check_installed()
    except CannotDeliver as error:
        return [Finding(_WHAT, "error", f"they cannot be sent from here: {error}")]
    state = None
    with suppress(StorageError, OSError):  # another finding reports it
        async with open_to_read(settings.catalog) as database:
            state = await Webhooks(database).state()
    return inspect_webhooks(endpoint, await _connect(endpoint), state)


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
    if tried.outcome != "delivered":
        advice = _ADVICE.get(tried.outcome, _UNREACHABLE)
        return [Finding(_WHAT, "error", f"{url} cannot be reached: {tried.problem}", advice)]
    found = []
    if state is not None and state.problem is not None and state.word != "ok":
        status = state.problem.removeprefix("it answered ")[:3]
        detail = f"{url} takes no messages: {state.problem}"
        found.append(Finding(_WHAT, "error", detail, _BY_STATUS.get(status, _REFUSES)))
    if not endpoint.is_https:
        detail = (
            f"{url} is reached without TLS: messages are signed, and everybody on their way can read them"
        )
        found.append(Finding(_WHAT, "warning", detail, "Use https in MEDIA_WEBHOOK_URL."))
    return found or [Finding(_WHAT, "ok", f"{url} can be reached")]
