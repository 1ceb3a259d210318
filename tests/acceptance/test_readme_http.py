"""The README's uploads over HTTP, and the form for browsers, against a real server and a real worker."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts import readme
from scripts.redis_server import RedisServer
from tests.support.commands import document, media
from tests.support.face import FaceProcess, start_face
from tests.support.workplace import Workplace, database_on

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
    [line] = re.findall(r"^media (keys new .*?) +#", readme.README.read_text("utf-8"), re.MULTILINE)
    secret: str = document(media(place.env(), *line.split(), "--json"))["secret"]
    return secret


def run(command: list[str], place: Workplace, face: FaceProcess, key: str) -> str:
    env = {"PATH": os.environ["PATH"], "MEDIA_URL": face.url, "MEDIA_KEY": key}
    done = subprocess.run(command, env=env, cwd=place.home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_curl_uploads_a_picture_and_gets_its_variants(place: Workplace, face: FaceProcess, key: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")

    upload = httpx.Response(200, text=run(["sh", "-euc", SNIPPETS["curl"]], place, face, key)).json()

    assert upload["state"] == "ready"
    assert [variant["name"] for variant in upload["variants"]] == ["thumb", "medium", "large"]
    picture = httpx.get(face.url + upload["variants"][0]["url"], trust_env=False)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")


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
const [script, media, token, picture] = process.argv.slice(2);
const log = { headers: {}, images: [] };
const [bar, output] = [{}, { set textContent(text) { log.text = text; } }];
const file = Object.assign(new Blob([fs.readFileSync(picture)]), { type_: "image/jpeg" });
Object.defineProperty(file, "type", { value: "image/jpeg" });
const form = {
  dataset: { media, token: "/media-token" },
  elements: { file: { files: [file] } },
  querySelector: (name) => (name === "progress" ? bar : output),
  addEventListener: (_, listener) => (form.submit = listener),
  append: (image) => log.images.push(String(image.src)),
};
const real = fetch;
globalThis.document = { querySelector: () => form };
globalThis.fetch = async () => ({ text: async () => token });
globalThis.Image = class {};
globalThis.XMLHttpRequest = class {
  upload = {};
  headers = {};
  open(method, url) { this.method = method; this.url = url; }
  setRequestHeader(name, value) { this.headers[name] = value; }
  getResponseHeader(name) { return this.answer.headers.get(name); }
  async send(body) {
    log.headers = this.headers;
    log.request = [this.method, this.url];
    this.answer = await real(this.url, { method: this.method, headers: this.headers, body });
    this.status = this.answer.status;
    this.responseText = await this.answer.text();
    this.upload.onprogress({ loaded: 1, total: 2 });
    this.onloadend();
  }
};
new Function(fs.readFileSync(script, "utf8"))();
form.submit({ preventDefault() {} }).then(() => console.log(JSON.stringify({ ...log, bar: bar.value })));
"""


def test_the_script_of_the_form_uploads_by_a_token_and_shows_the_variants(
    place: Workplace, face: FaceProcess, key: str, tmp_path: Path
) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node")
    (tmp_path / "form.js").write_text(FormPage(FORM).script)
    (tmp_path / "browser.js").write_text(BROWSER)
    with httpx.Client(base_url=face.url, trust_env=False) as app:
        made = app.post(
            "/v1/tokens", headers={"Authorization": f"Bearer {key}"}, json={"max_bytes": 5_000_000}
        )
    token = made.json()["token"]

    words = ["node", "browser.js", "form.js", face.url, token, str(PICTURE)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = httpx.Response(200, text=done.stdout).json()
    assert (shown["text"], shown["bar"]) == ("ready", 0.5)
    assert len(shown["images"]) == 3
    assert all(image.startswith(f"{face.url}/files/variants/") for image in shown["images"])
    asked = ", ".join(shown["headers"])
    preflight = {
        "Origin": APP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
    }
    with httpx.Client(base_url=face.url, trust_env=False) as browser:
        assert browser.options("/v1/uploads", headers=preflight).status_code == 204


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
