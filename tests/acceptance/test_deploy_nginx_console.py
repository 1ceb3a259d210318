"""deploy/nginx/console-*.conf: an oauth2-proxy or nginx itself says who looks at the console, nobody else."""

import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from scripts.processes import free_port
from tests.support.deployed_nginx import WebServer, deployed_nginx
from tests.support.deployment import DEPLOY, SNIPPETS
from tests.support.spare_host import SpareHost

USERS = DEPLOY / "nginx/console-users.conf"
INCLUDED = "include /etc/nginx/media.d/*.conf;"
ADA = {"Cookie": "session=ada", "X_Forwarded_User": "mallory"}


PASSWORDS = DEPLOY / "nginx/console-passwords.conf"
MALLORY = {"X_Forwarded_User": "mallory"}
HTPASSWD = "/etc/nginx/console.htpasswd"


class SignedInUsers(BaseHTTPRequestHandler):
    """What an oauth2-proxy answers: who has a session is named, others get a page that leads on."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/oauth2/sign_in":
            self._sign_in(parse_qs(asked.query).get("rd"))
            return
        _, _, user = self.headers.get("Cookie", "").partition("session=")
        self.send_response(202 if user else 401)
        if user:
            self.send_header("X-Auth-Request-Email", f"{user}@example.com")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _sign_in(self, rd: list[str] | None) -> None:
        leads_to = rd[0] if rd else self.headers.get("X-Auth-Request-Redirect", "/")
        self.send_response(403)
        self.send_header("X-Leads-To", leads_to)
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


def edited(file: Path, old: str, new: str) -> Callable[[str], str]:
    """What puts that file into media.conf, changed."""

    def change(text: str) -> str:
        assert text.count(INCLUDED) == 1
        assert old in file.read_text()
        return text.replace(INCLUDED, file.read_text().replace(old, new))

    return change


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with signed_in_users() as users:
        change = edited(USERS, "127.0.0.1:4180", users)
        with deployed_nginx(tmp_path_factory.mktemp("nginx"), edited=change) as web:
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
    for path in ("/console", "/console/uploads?state=failed&source=a%26b&rd=/elsewhere", "/console/a%2Fb"):
        for method, body in (("GET", None), ("POST", bytes(2 << 20))):
            status, headers, _ = web.ask(path, method, body, X_Forwarded_User="mallory")
            assert (status, headers["x-leads-to"]) == (403, path)

    assert len(web.app.asked) == before


def test_while_the_server_is_away_its_users_get_a_page_that_says_so(tmp_path: Path) -> None:
    with signed_in_users() as users:
        change = edited(USERS, "127.0.0.1:4180", users)
        with deployed_nginx(tmp_path, f"127.0.0.1:{free_port()}", change) as alone:
            status, headers, body = alone.ask("/console/uploads", Cookie="session=ada", Accept="text/html")

    assert (status, headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert b"The console is away" in body


def test_both_files_pass_requests_on_alike() -> None:
    rests = [file.read_text().partition("proxy_pass http://media_serve;")[2] for file in (USERS, PASSWORDS)]

    assert "$media_away" in rests[0]
    assert rests[0] == rests[1]


def test_nowhere_else_a_client_says_who_it_is(web: WebServer) -> None:
    web.ask("/v1/uploads", X_Forwarded_User="mallory")
    assert "X-Forwarded-User" not in asked(web)


def test_with_nginxs_own_passwords_it_says_who_looks_and_keeps_the_password_to_itself(tmp_path: Path) -> None:
    users = tmp_path / "htpasswd"
    users.write_text(f"ada:{subprocess.check_output(['openssl', 'passwd', '-apr1', 'right'], text=True)}")
    with deployed_nginx(tmp_path, edited=edited(PASSWORDS, HTPASSWD, str(users))) as web:
        web.app.answers["/console/uploads?state=failed"] = ({}, b"{}")
        refused = [web.ask("/console", "GET", None, **login) for login in (MALLORY, basic("wrong"))]
        taken = web.ask("/console/uploads?state=failed", "GET", None, **basic("right"))

        assert [answer[0] for answer in (*refused, taken)] == [401, 401, 200]
        assert refused[0][1]["www-authenticate"] == 'Basic realm="media-worker console"'
        assert (len(web.app.asked), asked(web)["X-Forwarded-User"]) == (1, "ada")
        assert "Authorization" not in asked(web)


def basic(password: str) -> Mapping[str, str]:
    return {**MALLORY, "Authorization": f"Basic {b64encode(f'ada:{password}'.encode()).decode()}"}


@pytest.mark.parametrize(
    ("snippet", "file"), [("nginx-console", USERS), ("nginx-console-passwords", PASSWORDS)]
)
def test_the_configuration_of_debian_takes_the_file_as_it_is(
    tmp_path: Path, snippet: str, file: Path
) -> None:
    if not Path("/etc/nginx/nginx.conf").exists():
        pytest.skip("no nginx of the system")
    host = SpareHost(tmp_path)
    done = host.run(SNIPPETS["nginx"] + SNIPPETS[snippet])

    assert done.returncode == 0, done.stderr
    assert host.changed(f"/etc/nginx/media.d/{file.name}").read_text() == file.read_text()
    if file is PASSWORDS:
        made = host.changed(HTPASSWD)
        assert made.read_text().startswith("ada:$apr1$")
        assert made.stat().st_mode & 0o777 == 0o640
