"""Where the server of `media demo --serve` listens."""

import importlib.util
import socket
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from scripts.demo_server import choose_port
from scripts.terminal import CommandError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


def test_a_port_that_is_asked_for_and_taken_is_refused(taken: int) -> None:
    with pytest.raises(CommandError, match=f"--port: 127.0.0.1:{taken} is in use") as refused:
        choose_port(taken)

    assert refused.value.code == 2


def test_where_nobody_asks_and_the_usual_port_is_taken_another_is_found() -> None:
    with suppress(OSError), closing(socket.create_server(("127.0.0.1", 8080))):
        assert choose_port(None) != 8080
    assert choose_port(None) > 0


def test_without_the_extra_http_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(CommandError, match="HTTP needs the extra http, which is not installed") as refused:
        choose_port(None)

    assert refused.value.code == 2
