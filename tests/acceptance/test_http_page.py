"""The examples of docs/http.md, as a reader runs them."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storage.catalog.records import Message
from tests.support.clients import WITH_SERVICES
from tests.support.face import SECRET, FaceProcess, new_secret, start_face
from tests.support.outcomes import outcomes_at
from tests.support.served import catalog_url, keys_at
from tests.support.workplace import Workplace
from worker.documents import payload
from worker.http.app import description
from worker.http.problems import STATUS, Problem
from worker.http.token_routes import LONGEST_S, TokenRequest
from worker.http.tokens import Tokens

PAGE = Path(__file__).parents[2] / "docs" / "http.md"


def example(language: str, word: str) -> str:
    """The first block in that language with that word."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return next(block for block in blocks if word in block)


@pytest.mark.parametrize(
    ("language", "command", "word"),
    [("python", [sys.executable, "-c"], "import jwt"), ("bash", ["bash", "-euc"], "openssl dgst")],
)
def test_an_app_signs_a_token_as_the_page_says(language: str, command: list[str], word: str) -> None:
    env = {"PATH": os.environ["PATH"], "MEDIA_HTTP_SECRET": SECRET}
    run = [*command, example(language, word)]
    made = subprocess.run(run, env=env, capture_output=True, text=True, check=True, timeout=30)

    assert made.stderr == ""
    assert Tokens(SECRET).read(made.stdout.strip()).max_bytes == 5_000_000


@pytest.fixture(scope="module")
def key(place: Workplace) -> str:
    """The secret of a key that reads."""
    return keys_at(place, {"app": (None, None)})["app"]


@pytest.fixture(scope="module")
def operator(place: Workplace) -> str:
    """The secret of a key that also mends."""
    return asyncio.run(new_secret(catalog_url(place), "operator", "read,operate,upload"))


@pytest.fixture(scope="module")
def face(place: Workplace, key: str, operator: str) -> FaceProcess:
    """One server for the module's tests."""
    return start_face(place)


def ready_at(place: Workplace, source: str) -> Message:
    """The message that an upload is ready, once it is sent."""

    async def make() -> Message:
        async with outcomes_at(catalog_url(place), place.redis_url) as outcomes:
            return await outcomes.ready(source)

    return asyncio.run(make())


@contextmanager
def running(*command: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """An app, until it has said enough."""
    env["PATH"] = os.environ["PATH"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@WITH_SERVICES
def test_an_app_follows_the_messages_as_the_page_says(place: Workplace, face: FaceProcess, key: str) -> None:
    before = ready_at(place, "uploads/before.jpg")
    env = {"URL": face.url, "KEY": key, "LAST_ID": str(before.seq - 1)}
    with running(sys.executable, "-c", example("python", "Last-Event-ID"), **env) as app:
        assert app.stdout is not None
        lines = [app.stdout.readline()]
        after = ready_at(place, "uploads/after.jpg")
        lines.append(app.stdout.readline())

    assert lines == [f"upload.ready {payload(message)}\n" for message in (before, after)]


def test_a_page_follows_its_upload_as_the_page_says(place: Workplace, face: FaceProcess) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    token = Tokens(SECRET).sign(int(time.time()) + 60, {})
    message = ready_at(place, "uploads/http/cat.jpg")
    call = f"follow('{face.url}', '{message.id}', '{token}', (one) => console.log(JSON.stringify(one)));"
    with running(node, "--experimental-websocket", "-e", example("js", "WebSocket") + call) as page:
        assert page.stdout is not None
        line = page.stdout.readline()

    assert json.loads(line) == payload(message)


def test_a_page_tells_the_person_when_there_is_no_news_of_its_upload() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    soon = "const later = setTimeout; globalThis.setTimeout = (then) => later(then, 0);"
    call = "follow('http://127.0.0.1:1', 'id', 'token', null, (why) => console.log(why));"
    # Sockets that fail at once, as those of a server that is away.
    sockets = (
        "globalThis.WebSocket = class { constructor() { later(() => this.onclose({ code: 1006 }), 0); } };"
    )
    with running(node, "-e", soon + sockets + example("js", "WebSocket") + call) as page:
        assert page.stdout is not None
        said = page.stdout.read()

    assert said == "There is no news of the picture. Load the page again later.\n"


def test_curl_uploads_a_picture_without_saying_what_it_is(
    face: FaceProcess, operator: str, tmp_path: Path
) -> None:
    shutil.copy(PAGE.parents[1] / "scripts/pictures/cairn.jpg", tmp_path / "cat.jpg")
    env = {"PATH": os.environ["PATH"], "URL": face.url, "KEY": operator}
    run = ["bash", "-euc", example("bash", "-T cat.jpg").replace("curl ", "curl --silent --fail-with-body ")]
    done = subprocess.run(run, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)

    assert done.returncode == 0, done.stdout
    assert done.stdout.count('"state":"queued"') == 2
    assert '"source":"uploads/shop/cat.jpg"' in done.stdout


def test_the_page_names_every_field_of_a_request_for_a_token() -> None:
    [table] = re.findall(r"\| field \| default \| means \|\n(.*?)\n\n", PAGE.read_text(), re.DOTALL)

    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == TokenRequest.model_fields.keys()
    assert f"at most {LONGEST_S} |" in table
    assert f"| `expires_in` | {TokenRequest().expires_in} |" in table


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("fields=", {"items", "next"}),
        ("failures/retry", {"queued", "kept", "not_failed", "more"}),
        ('"ids"', {"queued", "kept", "not_failed", "more"}),
        ("/v1/tokens", {"token", "expires", "url"}),
    ],
)
def test_uploads_are_listed_and_failures_retried_as_the_page_says(
    face: FaceProcess, operator: str, word: str, answer: set[str]
) -> None:
    env = {"PATH": os.environ["PATH"], "URL": face.url, "KEY": operator}
    run = ["bash", "-euc", example("bash", word).replace("curl ", "curl --silent --fail-with-body ")]
    done = subprocess.run(run, env=env, capture_output=True, text=True, check=False, timeout=30)

    assert json.loads(done.stdout).keys() == answer, done.stdout


@pytest.mark.parametrize("code", STATUS)
def test_a_problem_leads_to_the_line_about_its_code(code: str) -> None:
    line = next(line for line in PAGE.read_text().splitlines() if f'<a id="{code}"></a>`{code}`' in line)

    assert str(STATUS[code].value) in line
    assert Problem(code, "why").response().body
    assert f"docs/http.md#{code}" in bytes(Problem(code, "why").response().body).decode()


def test_the_page_names_every_route_and_no_other() -> None:
    [table] = re.findall(r"## Routes\n(.*?)\n## ", PAGE.read_text(), re.DOTALL)
    named = set(re.findall(r"(/[\w./{}-]+)", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    paths = {path for path in description()["paths"] if not path.startswith("/files/")}

    assert {re.sub(r"\{\w+\}", "{}", path) for path in paths} <= {
        re.sub(r"\{\w+\}", "{}", path) for path in named
    }
