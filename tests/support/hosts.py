"""Hosts on one machine: network namespaces, each with one link to this machine's own network."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.clients import missing, package_missing
from tests.support.tcp_proxy import TcpProxy

_NAME = re.compile(r"media-(\d+)-\d+")


class Host:
    """A network namespace; of this machine it reaches what it is let to reach."""

    def __init__(self, number: int) -> None:
        self.name = f"media-{os.getpid()}-{number}"
        self._link = f"mw{os.getpid() % 1_000_000}-{number}"
        net = f"10.213.{os.getpid() % 256}"
        self.gateway = f"{net}.{4 * number + 1}"
        _ip("netns", "add", self.name)
        try:
            self._connect(f"{net}.{4 * number + 2}")
        except BaseException:
            self.close()
            raise

    def _connect(self, address: str) -> None:
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("addr", "add", f"{self.gateway}/30", "dev", self._link)
        _ip("-n", self.name, "addr", "add", f"{address}/30", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "link", "set", "eth0", "up")
        self.join()

    def cut_off(self) -> None:
        """Nothing comes through any more, in either direction; nobody is told."""
        _ip("link", "set", self._link, "down")

    def join(self) -> None:
        """The link is up (again)."""
        _ip("link", "set", self._link, "up")

    @contextmanager
    def reaching(self, url: str, through: Callable[[int, str], TcpProxy] = TcpProxy) -> Iterator[str]:
        """Let it reach a server of this machine; yields the server's URL as it is there."""
        port = urlsplit(url).port
        assert port, url
        proxy = through(port, self.gateway)
        try:
            yield url.replace(f"127.0.0.1:{port}", f"{self.gateway}:{proxy.port}")
        finally:
            proxy.close()

    def close(self) -> None:
        """Remove the namespace, and the link with it."""
        _ip("netns", "del", self.name)


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two of them, which vanish at the end; skips where this user may make none."""
    if os.geteuid() or shutil.which("ip") is None:
        package_missing("network namespaces are made by root, with the program ip")
    _remove_left()
    with ExitStack() as stack:
        yield _made(stack, 0), _made(stack, 1)


def _made(stack: ExitStack, number: int) -> Host:
    try:
        host = Host(number)
    except subprocess.CalledProcessError as error:
        missing(f"this machine gives no network namespaces: {error.stderr.decode().strip()}")
    stack.callback(host.close)
    return host


def _remove_left() -> None:
    """Those of tests that were killed."""
    for name in _ip("netns", "list").split():
        owner = _NAME.fullmatch(name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            _ip("netns", "del", name)


def _ip(*words: str) -> str:
    return subprocess.run([_program(), *words], check=True, capture_output=True).stdout.decode()


def _program() -> str:
    return shutil.which("ip") or "ip"
