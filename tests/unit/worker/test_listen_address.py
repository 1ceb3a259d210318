"""HOST:PORT: what an operator may write where a worker is to listen."""

import pytest

from worker.listen_address import parse_address, reachable_from_here, shown_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8469", ("127.0.0.1", 8469)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::]:8469", ("::", 8469)),
        ("[fe80::1%eth0]:8469", ("fe80::1%eth0", 8469)),
    ],
)
def test_a_host_and_a_port_are_an_address_and_shown_as_they_were_written(
    text: str, address: tuple[str, int]
) -> None:
    assert parse_address(text) == address
    assert shown_address(*address) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("8469", "HOST:PORT"),
        ("localhost", "HOST:PORT"),
        ("http://localhost:8469", "HOST:PORT"),
        ("local host:8469", "HOST:PORT"),
        (":8469", "0.0.0.0 is every address"),
        ("*:8469", "0.0.0.0 is every address"),
        ("localhost:", "1 to 65535"),
        ("localhost:http", "1 to 65535"),
        ("localhost:65536", "1 to 65535"),
        ("localhost:-1", "1 to 65535"),
        ("localhost:٣", "1 to 65535"),
        ("localhost:0", "found by nobody"),
        ("::1:8469", "in brackets"),
        ("[::g]:8469", "no address of IPv6"),
        ("256.1.1.1:8469", "no address of IPv4"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("[", r"\[")):
        parse_address(text)


@pytest.mark.parametrize(
    ("host", "here"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("10.0.0.7", "10.0.0.7")]
)
def test_what_listens_everywhere_is_found_on_the_loopback(host: str, here: str) -> None:
    assert reachable_from_here(host) == here
