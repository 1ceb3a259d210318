"""examples/fastapi, as its page says: a browser, the app, `media serve`, a worker and Redis."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.redis_server import RedisServer
from tests.support.browser import Browser, BrowserUser, browser, expect, visitor
from tests.support.clients import WITH_SERVICES
from tests.support.face import FaceProcess, new_secret, start_face
from tests.support.ports import free_port
from tests.support.served import catalog_url, installed

__all__ = ["Browser", "browser", "visitor"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "fastapi"
PICTURE = Path(__file__).parents[2] / "scripts/pictures/cairn.jpg"
_TIMEOUT_S = 60.0


class Gallery:
    """The app, with the variables that its page names."""

    def __init__(self, face: FaceProcess, key: str, home: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.media = face.url
        self.key = key
        self.early = ""  # what was uploaded before the app ran
        self._command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
        variables = {"URL": face.url, "KEY": key, "DATABASE": str(home / "gallery.db")}
        self._env = {"PATH": os.environ["PATH"], **variables}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until it is stopped, as a deployment stops it."""
        process = subprocess.Popen(
            self._command, cwd=EXAMPLE, env=self._env, stderr=subprocess.PIPE, text=True
        )
        with process:
            assert process.stderr is not None
            said = ""
            for line in process.stderr:
                said += line
                if "Uvicorn running" in line:
                    break
            else:
                pytest.fail(said)
            yield
            process.terminate()
            said += process.communicate()[1]
        assert "Traceback" not in said


class Visit:
    """A browser without a window, which does what the script of the page does."""

    def __init__(self, gallery: Gallery) -> None:
        self.app = httpx.Client(base_url=gallery.url, timeout=_TIMEOUT_S, trust_env=False)
        self.media = httpx.Client(base_url=gallery.media, timeout=_TIMEOUT_S, trust_env=False)
        self.app.get("/limits")

    def close(self) -> None:
        self.app.close()
        self.media.close()

    def token(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.app.post('/token').json()['token']}"}

    def upload(self, content: bytes, wait: int = 0) -> str:
        headers = {**self.token(), "Content-Type": "image/jpeg", "Prefer": f"wait={wait}"}
        answer = self.media.post("/v1/uploads", content=content, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def outcome(self, id: str) -> dict[str, Any]:
        with self.app.stream("GET", f"/pictures/{id}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            [data] = [line for line in answer.iter_lines() if line.startswith("data: ")]
        message: dict[str, Any] = json.loads(data.removeprefix("data: "))
        return message


@pytest.fixture(scope="module")
def served(
    redis_server: RedisServer, migrated: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gallery]:
    ports = free_port(), free_port()
    origins = [f"http://127.0.0.1:{port}" for port in ports]
    home = tmp_path_factory.mktemp("gallery")
    settings = {"MEDIA_HTTP_URL": origins[0], "MEDIA_HTTP_ORIGINS": origins[1]}
    place = installed(home, redis_server.url, migrated, **settings)
    key = asyncio.run(new_secret(catalog_url(place), "gallery", "upload,read"))
    place.start()
    face = start_face(place, MEDIA_HTTP_BIND=f"127.0.0.1:{ports[0]}")
    yield Gallery(face, key, home, ports[1])
    place.close()


@pytest.fixture(scope="module")
def gallery(served: Gallery) -> Iterator[Gallery]:
    served.early = upload_for(served, "early")
    with served.running():
        yield served


def upload_for(gallery: Gallery, user: str) -> str:
    """What a browser of that user has uploaded, once it is ready."""
    about = {"Media-Metadata": json.dumps({"user": user}), "Content-Type": "image/jpeg", "Prefer": "wait=30"}
    headers = {"Authorization": f"Bearer {gallery.key}", **about}
    with httpx.Client(base_url=gallery.media, timeout=_TIMEOUT_S, trust_env=False) as media:
        upload = media.post("/v1/uploads", content=PICTURE.read_bytes(), headers=headers).json()
    assert upload["state"] == "ready"
    return str(upload["id"])


@pytest.fixture
def visit(gallery: Gallery) -> Iterator[Visit]:
    with closing(Visit(gallery)) as one:
        yield one


@pytest.fixture
def other(gallery: Gallery) -> Iterator[Visit]:
    with closing(Visit(gallery)) as one:
        yield one


def test_what_became_of_a_picture_while_the_app_was_down_is_known_afterwards(
    gallery: Gallery, visit: Visit
) -> None:
    visit.app.cookies.clear()
    visit.app.cookies.set("user", "early")

    assert visit.outcome(gallery.early)["type"] == "upload.ready"
    assert [picture["id"] for picture in visit.app.get("/pictures").json()] == [gallery.early]


def test_a_picture_is_in_its_users_gallery_and_in_no_other(
    gallery: Gallery, visit: Visit, other: Visit
) -> None:
    id = visit.upload(PICTURE.read_bytes())

    message = visit.outcome(id)
    assert message["type"] == "upload.ready"
    assert message["srcset"].startswith(f"{gallery.media}/files/variants/")
    assert [picture["id"] for picture in visit.app.get("/pictures").json()] == [id]
    assert other.app.get("/pictures").json() == []


def test_a_browser_that_asks_after_the_outcome_is_told_it_at_once(visit: Visit) -> None:
    id = visit.upload(PICTURE.read_bytes() + b"again", wait=20)
    first = visit.outcome(id)

    assert visit.outcome(id) == first


def test_a_damaged_picture_is_told_with_its_reason(visit: Visit) -> None:
    message = visit.outcome(visit.upload(PICTURE.read_bytes()[:20_000]))

    assert (message["type"], message["error"]["code"]) == ("upload.failed", "corrupt_image")


def test_a_token_is_for_one_picture(visit: Visit) -> None:
    headers = {**visit.token(), "Content-Type": "image/jpeg"}
    answers = [visit.media.post("/v1/uploads", content=PICTURE.read_bytes(), headers=headers) for _ in "12"]

    assert [answer.status_code for answer in answers] == [201, 403]


@WITH_SERVICES
@pytest.mark.asyncio(loop_scope="module")
async def test_a_person_chooses_a_picture_and_sees_it(visitor: BrowserUser, gallery: Gallery) -> None:
    visitor.expected = [f"^foreign request: {re.escape(gallery.media)}/"]
    page = await visitor.open(gallery.url)
    await expect(page.locator("small")).to_contain_text("At most 10.5 MB each: jpeg,")

    await page.locator("input").set_input_files(PICTURE)

    image = page.locator("li img")
    await expect(image).to_be_visible()
    assert await image.evaluate("(image) => image.decode().then(() => image.naturalWidth > 0)")
    await page.reload()
    await expect(page.locator("li img")).to_have_count(1)
