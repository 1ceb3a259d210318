"""Where webhooks may go: to addresses of the public internet, and to those alone that were checked."""

import socket
from typing import Any

import pytest

from tests.support.receiver import SECRET, receiving
from worker.webhooks.addresses import AddressForbidden, is_public, resolve
from worker.webhooks.endpoint import WebhookEndpoint
from worker.webhooks.sending import WebhookSender
from worker.webhooks.signing import parse_secrets


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808"]
)
def test_an_address_of_the_public_internet_is_one(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "::1", "::"),  # this machine
        *("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "fec0::1"),  # private
        *("169.254.169.254", "fe80::1", "fe80::1%eth0", "168.63.129.16", "fd00:ec2::254"),  # links, metadata
        *(
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
        ),  # IPv4 within
        *("2002:7f00:1::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),  # 6to4, Teredo
        *("192.0.0.8", "192.0.0.192", "192.88.99.1", "3fff::1"),  # special
        *("224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "2001:db8::1"),  # nobody's
    ],
)
def test_no_other_address_is_public_in_whichever_notation(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "::ffff:127.0.0.1"])
async def test_every_way_to_write_this_machine_is_refused_unless_it_is_allowed(host: str) -> None:
    with pytest.raises(AddressForbidden, match="not public: MEDIA_WEBHOOK_ALLOW_PRIVATE=1"):
        await resolve(host, 80, 5, allow_private=False)

    assert await resolve(host, 80, 5, allow_private=True)


def endpoint(url: str, *, allow_private: bool) -> WebhookEndpoint:
    return WebhookEndpoint(url, parse_secrets(SECRET), allow_private, 5)


@pytest.mark.parametrize(("url", "port"), [("HTTPS://app.example/", 443), ("Http://app.example/", 80)])
def test_the_scheme_of_an_endpoint_may_be_in_capitals(url: str, port: int) -> None:
    found = endpoint(url, allow_private=False)

    assert (found.is_https, found.port) == (port == 443, port)


async def test_a_name_is_resolved_once_and_the_connection_goes_to_what_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right, asked = socket.getaddrinfo, []

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return right("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with receiving() as receiver:
        url = receiver.url.replace("127.0.0.1", "rebind.example")
        sender = WebhookSender(endpoint(url, allow_private=True), 1, lambda: 0)
        answer = await sender.send("msg_1", b"{}")
        await sender.close()

        [hook] = receiver.hooks
    assert (answer.outcome, asked) == ("delivered", ["rebind.example"])
    assert hook.headers["host"].startswith("rebind.example:")


async def test_nothing_is_sent_to_a_private_address_that_is_not_allowed() -> None:
    with receiving() as receiver:
        sender = WebhookSender(endpoint(receiver.url, allow_private=False), 1, lambda: 0)
        answer = await sender.send("msg_1", b"{}")
        await sender.close()

        assert receiver.hooks == []
    assert answer.outcome == "forbidden"
    assert "127.0.0.1, which is not public" in (answer.problem or "")


@pytest.mark.parametrize(("least_s", "timeout_s", "lease_s"), [(30, 5, 30), (3, 5, 10), (30, 60, 65)])
def test_a_worker_delivers_alone_for_longer_than_an_attempt_may_take(
    least_s: float, timeout_s: float, lease_s: float
) -> None:
    assert WebhookEndpoint("https://app.example/", [], False, timeout_s).lease_s(least_s) == lease_s
