"""What `media webhooks list` and the console say of an endpoint."""

import pytest

from storage.catalog.webhooks import Backlog, EndpointState
from worker.webhooks.listing import WebhookReport


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (None, "was sent no message yet"),
        (EndpointState("ok", 1), "was sent no message yet"),
        (EndpointState("ok", 1, "it answered 500"), "has taken no message yet"),
        (EndpointState("ok", 1, None, 7), "takes messages"),
        (EndpointState("ok", 1, "it answered 500", 7), "takes messages"),
        (EndpointState("down", 1, "it answered 500"), "takes no messages at the moment"),
    ],
)
def test_an_endpoint_is_said_to_take_messages_only_once_it_has_taken_one(
    state: EndpointState | None, word: str
) -> None:
    report = WebhookReport("default", None, None, state, Backlog(0, 0, 0, None), [], [], 0)

    assert report.word == word
