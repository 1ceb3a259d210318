"""deploy/nginx/console-users.conf: an oauth2-proxy says who looks at the console, and nobody else does."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from scripts.processes import free_port
from tests.support.deployed_nginx import WebServer, deployed_nginx
from tests.support.deployment import DEPLOY, SNIPPETS
from tests.support.spare_host import SpareHost

USERS = DEPLOY / "nginx/console-users.conf"
INCLUDED = "include /etc/nginx/media.d/*.conf;"
ADA = {"Cookie": "session=ada", "X_Forwarded_User": "mallory"}


class SignedInUsers(BaseHTTPRequestHandler):
    """What an oauth2-proxy answers: who has a session is named."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        _, _, user = self.headers.get("Cookie", "").partition("session=")
        self.send_response(202 if user else 401)
        if user:
            self.send_header("X-Auth-Request-Email", f"{user}@example.com")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


@contextmanager
def signed_in_users() -> Iterator[str]:
    """Its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SignedInUsers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with signed_in_users() as users:

        def edited(text: str) -> str:
            assert text.count(INCLUDED) == 1
            return text.replace(INCLUDED, USERS.read_text().replace("127.0.0.1:4180", users))

        with deployed_nginx(tmp_path_factory.mktemp("nginx"), edited=edited) as web:
            for path in ("/console", "/console/uploads", "/v1/uploads"):
                web.app.answers[path] = ({}, b"{}")
            yield web


def asked(web: WebServer) -> Mapping[str, str]:
    """The headers of the last request that came through."""
    return web.app.asked[-1][2]


@pytest.mark.parametrize(("path", "method"), [("/console", "GET"), ("/console/uploads", "POST")])
def test_the_console_is_told_the_user_of_the_session_whatever_the_client_says(
    web: WebServer, path: str, method: str
) -> None:
    body = bytes(12 << 20) if method == "POST" else None  # more than nginx takes elsewhere
    assert web.ask(path, method, body, **ADA)[0] == 200

    assert asked(web)["X-Forwarded-User"] == "ada@example.com"
    assert asked(web)["X-Forwarded-For"] == "127.0.0.1"
    assert web.app.asked[-1][3] == len(body or b"")


def test_who_has_no_session_is_sent_to_sign_in_and_back(web: WebServer) -> None:
    before = len(web.app.asked)
    status, headers, _ = web.ask("/console", X_Forwarded_User="mallory")

    assert (status, len(web.app.asked)) == (302, before)
    assert headers["location"].endswith("/oauth2/sign_in?rd=/console")


def test_while_the_server_is_away_its_users_get_a_page_that_says_so(tmp_path: Path) -> None:
    with signed_in_users() as users:
        included = USERS.read_text().replace("127.0.0.1:4180", users)
        with deployed_nginx(
            tmp_path, f"127.0.0.1:{free_port()}", lambda text: text.replace(INCLUDED, included)
        ) as alone:
            status, headers, body = alone.ask("/console/uploads", Cookie="session=ada", Accept="text/html")

    assert (status, headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert b"The console is away" in body


def test_nowhere_else_a_client_says_who_it_is(web: WebServer) -> None:
    web.ask("/v1/uploads", X_Forwarded_User="mallory")
    assert "X-Forwarded-User" not in asked(web)


def test_the_configuration_of_debian_takes_the_file_as_it_is(tmp_path: Path) -> None:
    if not Path("/etc/nginx/nginx.conf").exists():
        pytest.skip("no nginx of the system")
    host = SpareHost(tmp_path)
    done = host.run(SNIPPETS["nginx"] + SNIPPETS["nginx-console"])

    assert done.returncode == 0, done.stderr
    assert host.changed("/etc/nginx/media.d/console-users.conf").read_text() == USERS.read_text()
