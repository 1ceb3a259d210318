"""Apps on Node: examples/express in a browser, what the client's page shows, and the client by HTTP."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.redis_server import RedisServer
from tests.support import pictures
from tests.support.browser import Browser, BrowserUser, browser, expect, visitor
from tests.support.clients import ROOT, WITH_SERVICES, express, program
from tests.support.face import SECRET, FaceProcess, new_secret, start_face
from tests.support.node_app import CLIENT, NodeApp, install
from tests.support.ports import free_port
from tests.support.served import catalog_url, installed
from tests.support.workplace import Workplace

__all__ = ["Browser", "browser", "visitor"]

EXAMPLE = ROOT / "examples/express"
PICTURE = ROOT / "scripts/pictures/cairn.jpg"
SNIPPETS = re.findall(r"<!-- run -->\n```js\n(.*?)```", (CLIENT / "README.md").read_text("utf-8"), re.DOTALL)
APPS = "my äpps"  # as people name their folders
_TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def place(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    """A workplace with a worker, and a folder for apps."""
    place = installed(tmp_path_factory.mktemp("place"), redis_server.url, migrated)
    place.start()
    install(place.home / APPS, "6.0.0", express() / "express", express() / "multer")
    yield place
    place.close()


@pytest.fixture(scope="module")
def face(place: Workplace) -> FaceProcess:
    return start_face(place)


@pytest.fixture(scope="module")
def key(place: Workplace) -> str:
    return asyncio.run(new_secret(catalog_url(place), "app", "upload,read,operate"))


@pytest.fixture(scope="module")
def app(place: Workplace, face: FaceProcess, key: str) -> Iterator[NodeApp]:
    app = NodeApp(place.home / APPS)
    app.run("app.http = new app.HttpMediaClient(given.url, given.key);", url=face.url, key=key)
    yield app
    app.kill()


def base64(content: bytes) -> str:
    """The bytes as JSON can hold them."""
    return b64encode(content).decode()


def test_a_picture_is_uploaded_by_http_and_followed(app: NodeApp, place: Workplace, tmp_path: Path) -> None:
    file = tmp_path / "cat.jpg"
    file.write_bytes(pictures.medium(1))
    code = """
    const stop = new AbortController();
    const told = (async () => {
      for await (const message of app.http.events({ since: 0, signal: stop.signal })) {
        if (message.type === "upload.deleted") return message.id;
      }
    })();
    const metadata = { title: "Käse 🐈" };
    const upload = await app.http.upload(given.file, { metadata, filename: "cat.jpg", wait: 20 });
    const again = await app.http.status(upload.id, { wait: 20 });
    await app.http.delete(upload.id);
    const deleted = await told;
    stop.abort();
    return { upload, again, deleted, gone: await app.http.status(upload.id) };
    """

    told = app.run(code, file=str(file))

    upload = told["upload"]
    assert (upload["state"], upload["metadata"]) == ("ready", {"filename": "cat.jpg", "title": "Käse 🐈"})
    assert upload["variants"][0]["url"].startswith("/files/variants/")
    assert told["again"] == upload
    assert (told["deleted"], told["gone"]) == (upload["id"], None)


def test_what_the_server_refuses_is_an_error_with_its_code(app: NodeApp, face: FaceProcess) -> None:
    code = """
    const stranger = new app.HttpMediaClient(given.url, "mw_wrong");
    const picture = Buffer.from(given.picture, "base64");
    const tries = [
      () => app.http.upload(Buffer.from("no picture")),
      () => app.http.upload(picture, { recipe: "unknown" }),
      () => stranger.status(app.uploadId("uploads/x")),
      () => stranger.events({ since: 0 }).next(),
      () => new app.HttpMediaClient(given.nobody, null, { tries: 1 }).limits(),
    ];
    const refusal = ({ name, code, status }) => [name, code, status];
    return Promise.all(tries.map((one) => one().then(() => null, refusal)));
    """
    nobody = f"http://127.0.0.1:{free_port()}"

    told = app.run(code, url=face.url, nobody=nobody, picture=base64(pictures.small(4)))

    assert told == [
        ["MediaError", "unsupported_format", 415],
        ["MediaError", "unknown_recipe", 422],
        ["MediaError", "unauthorized", 401],
        ["MediaError", "unauthorized", 401],
        ["MediaError", "unreachable", None],
    ]


def test_another_try_of_an_upload_has_the_same_key(app: NodeApp) -> None:
    code = """
    const keys = [];
    const server = app.require("node:http").createServer((request, response) => {
      keys.push(request.headers["idempotency-key"]);
      request.resume().on("end", () => {
        response.statusCode = keys.length === 1 ? 503 : 201;
        response.end(keys.length === 1 ? "<html>" : '{"state": "queued"}');
      });
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const http = new app.HttpMediaClient(`http://127.0.0.1:${server.address().port}`);
    const { state } = await http.upload(Buffer.from("picture"));
    server.close();
    return [state, keys.length, new Set(keys).size];
    """

    assert app.run(code) == ["queued", 2, 1]


def test_a_server_that_asks_for_a_longer_pause_than_the_timeout_is_not_waited_for(app: NodeApp) -> None:
    code = """
    let count = 0;
    const server = app.require("node:http").createServer((request, response) => {
      count += 1;
      response.writeHead(429, { "Retry-After": "3600" });
      response.end('{"code": "too_many_requests", "detail": "Slowly."}');
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const http = new app.HttpMediaClient(`http://127.0.0.1:${server.address().port}`);
    const { code, status, message } = await http.limits().catch((error) => error);
    server.closeAllConnections();
    server.close();
    return [code, status, message, count];
    """

    assert app.run(code) == ["too_many_requests", 429, "Slowly.", 1]


def test_what_is_not_the_server_is_told_at_once_and_gets_no_upload_twice(app: NodeApp) -> None:
    code = """
    const asked = [];
    const answers = {
      "/moved": [301, "", { Location: "https://elsewhere.example/v1/uploads" }],
      "/kept": [308, "", { Location: "https://elsewhere.example/v1/uploads" }],
      "/site": [200, "<html>", {}],
      "/null": [200, "null", {}],
    };
    const server = app.require("node:http").createServer((request, response) => {
      asked.push(request.method);
      const [status, body, headers] = answers[request.url.slice(0, request.url.indexOf("/v1"))];
      response.writeHead(status, headers);
      request.resume().on("end", () => response.end(body));
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const told = [];
    for (const base of Object.keys(answers)) {
      const http = new app.HttpMediaClient(`http://127.0.0.1:${server.address().port}${base}`, "mw_key");
      const refusal = ({ code, status }) => told.push([code, status]);
      await http.upload(Buffer.from("picture")).catch(refusal);
    }
    server.close();
    return [told, asked];
    """

    told, asked = app.run(code)

    assert told == [["http_error", status] for status in (301, 308, 200, 200)]
    assert asked == ["POST"] * 4


def test_a_wait_that_is_too_long_is_the_longest_of_the_server(app: NodeApp) -> None:
    code = """
    const { state } = await app.http.upload(Buffer.from(given.picture, "base64"), { wait: 1e9 });
    return state;
    """

    assert app.run(code, picture=base64(pictures.small(7))) == "ready"


def test_a_token_and_the_limits_are_those_of_the_server(app: NodeApp, face: FaceProcess) -> None:
    code = """
    const { token } = await app.http.token({ maxBytes: 100_000, count: 1 });
    const browser = new app.HttpMediaClient(given.url, token);
    const upload = await browser.upload(Buffer.from(given.picture, "base64"));
    const second = await browser.upload(Buffer.from(given.picture, "base64")).catch(({ code }) => code);
    return [upload.state, second, await app.http.limits()];
    """

    state, second, limits = app.run(code, url=face.url, picture=base64(pictures.small(5)))

    assert (state, second) == ("queued", "forbidden")
    assert limits == httpx.get(f"{face.url}/v1/limits", trust_env=False).json()


def test_with_the_secret_of_the_server_an_upload_is_its_owners(app: NodeApp, face: FaceProcess) -> None:
    code = """
    const signing = new app.HttpMediaClient(given.url, null, { secret: given.secret });
    const picture = Buffer.from(given.picture, "base64");
    const { token } = await signing.token({ owner: "mia", maxBytes: 10 });
    const browser = new app.HttpMediaClient(given.url, token);
    const refused = await browser.upload(picture).catch(({ code }) => code);
    const { source } = await signing.upload(picture, { owner: "mia" });
    return [source, refused, await app.http.upload(picture, { owner: "mia" }).catch(({ name }) => name)];
    """

    source, refused, without = app.run(code, url=face.url, secret=SECRET, picture=base64(pictures.small(6)))

    assert (refused, without) == ("source_too_large", "TypeError")
    assert source.startswith("uploads/mia/")


def run_snippet(code: str, place: Workplace, **variables: str) -> subprocess.Popen[str]:
    """What the page shows, as a module beside the installed package."""
    script = place.home / APPS / "snippet.mjs"
    script.write_text(code)
    env = {"PATH": os.environ["PATH"], **variables}
    return subprocess.Popen(
        [program("node"), script], cwd=script.parent, env=env, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.rotating(1, of="module")
def test_what_the_page_of_the_client_shows_does_what_it_says(
    place: Workplace, face: FaceProcess, key: str
) -> None:
    by_redis, fake, by_http = SNIPPETS
    source = place.put("uploads/2026/11/cat.jpg", PICTURE.read_bytes())
    shutil.copy(PICTURE, place.home / APPS / "cat.jpg")

    with run_snippet(by_redis, place, REDIS_URL=place.redis_url) as listening:
        assert listening.stdout is not None
        line = next(line for line in listening.stdout if source in line)
        listening.kill()
    with run_snippet(fake, place) as ended:
        tested = ended.communicate(timeout=_TIMEOUT_S)[0]
    with run_snippet(by_http, place, URL=face.url, KEY=key) as ended:
        uploaded = ended.communicate(timeout=_TIMEOUT_S)[0]

    assert re.fullmatch(rf"{source} variants/\S+ 113w, .*\n", line)
    assert tested == "ready undefined 3\nfailed corrupt_image 0\n2\n"
    assert re.match(r"ready \[\s+'/files/variants/", uploaded)


@contextmanager
def running(place: Workplace, port: int) -> Iterator[str]:
    """The app of examples/express, until it is killed."""
    home = place.home / APPS
    shutil.copytree(EXAMPLE, home, dirs_exist_ok=True)
    variables = {"PORT": str(port), "REDIS_URL": place.redis_url, "STORAGE": str(place.root)}
    env = {"PATH": os.environ["PATH"], **variables}
    with subprocess.Popen(
        [program("node"), "app.mjs"], cwd=home, env=env, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"http://localhost:{port}\n"
        yield f"http://127.0.0.1:{port}"
        process.kill()


@pytest.fixture(scope="module")
def port(place: Workplace) -> Iterator[int]:
    """The port of the app, which runs, and was killed and started again before."""
    port = free_port()
    with running(place, port) as url:
        upload(url, "before.jpg", pictures.small(9))
    with running(place, port):
        yield port


def upload(url: str, name: str, content: bytes) -> dict[str, Any]:
    """What the app tells of a picture that was uploaded there, once it is ready or failed."""
    with httpx.Client(base_url=url, timeout=_TIMEOUT_S, trust_env=False) as app:
        upload_id = app.post("/photos", files={"photo": (name, content)}).json()["id"]
        return await_message(app, "id", upload_id)


def await_message(app: httpx.Client, field: str, value: object) -> dict[str, Any]:
    with app.stream("GET", "/progress") as answer:
        for line in answer.iter_lines():
            message: dict[str, Any] = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get(field) == value:
                return message
    raise AssertionError("the stream has ended")


def test_the_app_has_at_most_30_lines() -> None:
    assert len((EXAMPLE / "app.mjs").read_text("utf-8").splitlines()) <= 30


def test_the_app_tells_the_outcome_of_an_upload_and_serves_its_variants(port: int) -> None:
    url = f"http://127.0.0.1:{port}"

    ready = upload(url, "Käse 🐈.jpg", PICTURE.read_bytes())
    failed = upload(url, "note.pdf", b"%PDF-1.7")

    assert (ready["state"], ready["metadata"]) == ("ready", {"filename": "Käse 🐈.jpg"})
    picture = httpx.get(f"{url}/{ready['variants'][0]['key']}", trust_env=False)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
    assert "immutable" in picture.headers["cache-control"]
    assert (failed["state"], failed["error"]["code"]) == ("failed", "unsupported_format")


def test_the_app_shows_its_page_and_refuses_a_form_without_a_photo(port: int) -> None:
    page = httpx.get(f"http://127.0.0.1:{port}", trust_env=False)
    refused = httpx.post(f"http://127.0.0.1:{port}/photos", trust_env=False)

    assert "<title>Photos</title>" in page.text
    assert refused.status_code == 400


def test_the_app_knows_after_its_death_what_it_knew_before(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_TIMEOUT_S, trust_env=False) as app:
        message = await_message(app, "metadata", {"filename": "before.jpg"})

    assert message["state"] == "ready"


@WITH_SERVICES
@pytest.mark.rotating(1, of="module")
@pytest.mark.asyncio(loop_scope="module")
async def test_a_person_uploads_a_photo_and_sees_its_thumbnail(
    visitor: BrowserUser, port: int, tmp_path: Path
) -> None:
    page = await visitor.open(f"http://127.0.0.1:{port}")
    await page.locator("input").set_input_files(PICTURE)

    await page.get_by_role("button", name="Upload").click()

    image = page.get_by_alt_text("cairn.jpg")
    await expect(image).to_be_visible()
    assert await image.evaluate("(image) => image.decode().then(() => image.naturalWidth > 0)")
    visitor.expected = ["^answer: 500 ", "500"]
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(10_485_761))
    await page.locator("input").set_input_files(large)
    await page.get_by_role("button", name="Upload").click()
    await expect(page.locator("output")).to_have_text("The photo was not taken (500).")
