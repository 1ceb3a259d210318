"""The README's uploads over HTTP, and the form for browsers, against a real server and a real worker."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from scripts import readme
from scripts.redis_server import RedisServer
from tests.support.commands import document, media
from tests.support.face import FaceProcess, start_face
from tests.support.ports import free_port
from tests.support.workplace import Workplace, database_on

pytestmark = pytest.mark.rotating(6, of="module")

ROOT = readme.README.parent
PICTURE = ROOT / "scripts/pictures/cairn.jpg"
SNIPPETS = dict(
    re.findall(
        r"<!-- snippet: upload-(\w+) -->\n```\w+\n(.*?)```\n", readme.README.read_text("utf-8"), re.DOTALL
    )
)
FORM = (ROOT / "examples/upload.html").read_text("utf-8")
APP = "http://app.example.com"


@pytest.fixture(scope="module")
def place(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    place = Workplace(tmp_path_factory.mktemp("live"), database_on(redis_server.url), migrated)
    shutil.copy(PICTURE, place.home / "cat.jpg")
    place.start()
    yield place
    place.close()


@pytest.fixture(scope="module")
def face(place: Workplace) -> FaceProcess:
    return start_face(place, MEDIA_HTTP_ORIGINS=APP)


@pytest.fixture(scope="module")
def key(place: Workplace, face: FaceProcess) -> str:
    """A key, made as the README says."""
    [line] = re.findall(r"^KEY=\$\(media (keys new .*?)\)", readme.README.read_text("utf-8"), re.MULTILINE)
    secret: str = document(media(place.env(), *line.split(), "--json"))["secret"]
    return secret


def run(command: list[str], place: Workplace, face: FaceProcess, key: str) -> str:
    env = {"PATH": os.environ["PATH"], "URL": face.url, "KEY": key}
    done = subprocess.run(command, env=env, cwd=place.home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.rotating(1)
def test_curl_uploads_a_picture_and_gets_its_variants(place: Workplace, face: FaceProcess, key: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")

    upload = httpx.Response(200, text=run(["sh", "-euc", SNIPPETS["curl"]], place, face, key)).json()

    assert upload["state"] == "ready"
    assert [variant["name"] for variant in upload["variants"]] == ["thumb", "medium", "large"]
    picture = httpx.get(face.url + upload["variants"][0]["url"], trust_env=False)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")


@pytest.mark.rotating(1)
def test_python_uploads_a_picture_and_waits_for_it(place: Workplace, face: FaceProcess, key: str) -> None:
    state, _, links = run([sys.executable, "-c", SNIPPETS["python"]], place, face, key).partition(" ")

    assert state == "ready"
    assert links.count("/files/variants/") == 3


class FormPage(HTMLParser):
    """What of a page matters here."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.script = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.script += data


def test_the_form_loads_nothing_from_elsewhere_and_shows_progress() -> None:
    page = FormPage(FORM)

    assert not [attrs for _, attrs in page.tags if {"src", "href"} & attrs.keys()]
    assert {"form", "input", "button", "progress", "output", "script"} <= {tag for tag, _ in page.tags}
    [form] = [attrs for tag, attrs in page.tags if tag == "form"]
    assert {"data-media", "data-token"} <= form.keys()
    assert "upload.onprogress" in page.script


BROWSER = """
const fs = require("fs");
const [script, media, token, picture, origin] = process.argv.slice(2);
const log = { headers: {}, images: [], texts: [], tries: 0, pauses: [] };
const output = { set textContent(text) { log.texts.push(text); } };
const pictures = {
  replaceChildren: () => (log.images = []),
  append: (image) => log.images.push(String(image.src)),
};
const parts = { progress: {}, output, button: {}, div: pictures };
const file = Object.assign(new Blob([fs.readFileSync(picture)]));
Object.defineProperty(file, "type", { value: "image/jpeg" });
const form = {
  dataset: { media, token },
  elements: { file: { files: [file] } },
  querySelector: (name) => parts[name],
  addEventListener: (_, listener) => (form.submit = listener),
};
const real = fetch;
const soon = (then, ms) => { log.pauses.push(ms / 1000); setTimeout(then, 0); };
async function asPage(url, { mode, headers, ...rest } = {}) {
  const answer = await real(url, { ...rest, headers: { ...headers, Origin: origin } });
  const allowed = answer.headers.get("access-control-allow-origin") === origin;
  const isShown = mode === "no-cors" || url === token || allowed;
  if (!isShown) throw new TypeError("Failed to fetch");
  return answer;
}
globalThis.location = { origin };
globalThis.document = { querySelector: () => form };
globalThis.fetch = asPage;
globalThis.Image = class {};
globalThis.XMLHttpRequest = class {
  upload = {};
  headers = {};
  status = 0;
  responseText = "";
  open(method, url) { this.method = method; this.url = url; }
  setRequestHeader(name, value) { this.headers[name] = value; }
  getResponseHeader(name) { return this.answer.headers.get(name); }
  async send(body) {
    log.headers = this.headers;
    log.tries++;
    this.upload.onprogress({ loaded: 1, total: 2 });
    log.bar = parts.progress.value;
    try {
      this.answer = await asPage(this.url, { method: this.method, headers: this.headers, body });
      this.responseText = await this.answer.text();
      this.status = this.answer.status;
    } catch {}
    this.onloadend();
  }
};
new Function("setTimeout", fs.readFileSync(script, "utf8"))(soon);
const show = () => console.log(JSON.stringify({ ...log, text: log.texts.pop() }));
form.submit({ preventDefault() {} }).then(show);
"""


class SmallSite(ThreadingHTTPServer):
    """An app with a page for tokens, and a proxy that answers in its own words."""

    def __init__(self, answers: Mapping[str, tuple[int, str]]) -> None:
        super().__init__(("127.0.0.1", 0), SmallSiteAnswer)
        self.answers = answers
        self.url = f"http://127.0.0.1:{self.server_port}"


class SmallSiteAnswer(BaseHTTPRequestHandler):
    """The answer that is prepared for a path."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        assert isinstance(self.server, SmallSite)
        status, text = self.server.answers.get(self.path, (200, "{}"))
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", APP)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def small_site(answers: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    with SmallSite(answers) as site:
        thread = Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site.url
        site.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def submit(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """Submits the form of a page of that origin, and says what it shows."""
    if shutil.which("node") is None:
        pytest.skip("no node")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "form.js").write_text(FormPage(FORM).script)
    (folder / "browser.js").write_text(BROWSER)

    def submit(media: str, token: str, origin: str = APP) -> dict[str, Any]:
        words = ["node", "browser.js", "form.js", media, token, str(PICTURE), origin]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown

    return submit


@pytest.fixture(scope="module")
def app(face: FaceProcess, key: str) -> Iterator[str]:
    """An app's page that answers with a token."""
    headers = {"Authorization": f"Bearer {key}"}
    wanted = {"max_bytes": 5_000_000}
    made = httpx.post(f"{face.url}/v1/tokens", headers=headers, json=wanted, trust_env=False).json()
    with small_site({"/media-token": (200, made["token"])}) as url:
        yield f"{url}/media-token"


def test_the_script_of_the_form_uploads_by_a_token_and_shows_the_variants(
    face: FaceProcess, app: str, submit: Callable[..., dict[str, Any]]
) -> None:
    shown = submit(face.url, app)

    assert (shown["text"], shown["bar"]) == ("The picture is ready.", 0.5)
    assert len(shown["images"]) == 3
    assert all(image.startswith(f"{face.url}/files/variants/") for image in shown["images"])
    preflight = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ", ".join(shown["headers"]),
    }
    with httpx.Client(base_url=face.url, trust_env=False) as browser:
        assert browser.options("/v1/uploads", headers=preflight).status_code == 204


def test_the_form_says_that_its_origin_may_be_missing(
    face: FaceProcess, app: str, submit: Callable[..., dict[str, Any]]
) -> None:
    shown = submit(face.url, app, "http://elsewhere.example.com")

    assert "http://elsewhere.example.com" in shown["text"]
    assert "MEDIA_HTTP_ORIGINS" in shown["text"]
    assert shown["tries"] == 5


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_the_form_tries_again_what_the_page_says_and_reads_no_html(
    app: str, submit: Callable[..., dict[str, Any]], status: int
) -> None:
    with small_site({"/v1/uploads": (status, "<html>Bad Gateway</html>")}) as media:
        shown = submit(media, app)

    assert shown["tries"] == 5
    assert shown["pauses"] == [2, 2, 2, 2]
    assert shown["text"] == f"The server does not take the picture ({status}). Try again later."


def test_the_form_tries_a_refused_picture_once_and_says_why(
    app: str, submit: Callable[..., dict[str, Any]]
) -> None:
    with small_site({"/v1/uploads": (413, '{"detail": "An upload has at most 5 bytes."}')}) as media:
        shown = submit(media, app)

    assert (shown["tries"], shown["text"]) == (1, "An upload has at most 5 bytes.")


def test_the_form_says_that_no_server_answers(app: str, submit: Callable[..., dict[str, Any]]) -> None:
    shown = submit(f"http://127.0.0.1:{free_port()}", app)

    assert (shown["tries"], shown["text"]) == (5, "The server does not answer. Try again later.")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((500, "<html>Oops</html>"), "This site does not let you upload now (500). Try again later."),
        ((200, "<html>Log in</html>"), "This site has answered with something else than a token."),
        (None, "This site does not answer. Try again later."),
    ],
)
def test_the_form_sends_nothing_without_a_token_and_says_why(
    submit: Callable[..., dict[str, Any]], answer: tuple[int, str] | None, text: str
) -> None:
    with small_site({"/media-token": answer} if answer else {}) as site:
        page = site if answer else f"http://127.0.0.1:{free_port()}"
        shown = submit(site, f"{page}/media-token")

    assert (shown["tries"], shown["text"]) == (0, text)


def test_the_form_says_that_a_picture_is_still_processed(
    app: str, submit: Callable[..., dict[str, Any]]
) -> None:
    with small_site({"/v1/uploads": (201, '{"state": "processing", "variants": []}')}) as media:
        shown = submit(media, app)

    assert shown["text"] == "The picture has arrived and is being processed."


def test_a_form_learns_by_its_own_origin_that_a_picture_is_too_large(
    place: Workplace, face: FaceProcess, key: str
) -> None:
    """A browser shows a page no answer that does not name its origin."""
    headers = {"Authorization": f"Bearer {key}", "Origin": APP, "Content-Type": "image/jpeg"}
    with httpx.Client(base_url=face.url, trust_env=False, headers=headers) as page:
        answer = page.post("/v1/uploads", content=bytes(11 << 20))

    assert (answer.status_code, answer.json()["code"]) == (413, "source_too_large")
    assert answer.headers["access-control-allow-origin"] == APP
    assert "Upload-Limit" in answer.headers["access-control-expose-headers"]
    assert answer.headers["upload-limit"] == "max-size=10485760"
