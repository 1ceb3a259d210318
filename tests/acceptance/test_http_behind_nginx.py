"""The HTTP server behind the nginx of deploy/nginx, which sends the files that it allows."""

import asyncio
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployed_nginx import WebServer, deployed_nginx
from tests.support.deployment import SNIPPETS
from tests.support.face import SECRET, FaceProcess, install, settings_in, start_face
from tests.support.workplace import Workplace
from worker.http.links import Links

KEY = "variants/ab/cd/abcd5678-1234-5678-9234-567812345678.jpg"
CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def face(workplace: Workplace, tmp_path: Path) -> FaceProcess:
    """A server that has nginx send files under signed links."""
    asyncio.run(install(settings_in(tmp_path, workplace.redis_url)))
    file = workplace.root / KEY
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    return start_face(workplace, MEDIA_HTTP_FILES="signed", MEDIA_HTTP_SEND="accel:/originals/")


@pytest.fixture
def web(face: FaceProcess, tmp_path: Path) -> Iterator[WebServer]:
    """The nginx, without what sends files under links that are not signed, as its README has it deleted."""
    expression = shlex.split(SNIPPETS["nginx-signed"].splitlines()[0])[2]

    def signed(text: str) -> str:
        return subprocess.run(
            ["sed", expression], input=text, text=True, capture_output=True, check=True
        ).stdout

    with deployed_nginx(tmp_path, serve=face.url.removeprefix("http://"), edited=signed) as server:
        yield server


def test_nginx_sends_a_file_under_a_signed_link_with_what_the_server_says_of_it(web: WebServer) -> None:
    status, headers, content = web.ask(Links("", SECRET).of(KEY))

    assert (status, content, headers["content-type"]) == (200, CONTENT, "image/jpeg")
    assert re.fullmatch(r"private, max-age=\d+", headers["cache-control"])
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert "x-accel-redirect" not in headers


def test_nginx_answers_who_has_the_file_or_wants_a_part_of_it(web: WebServer) -> None:
    link = Links("", SECRET).of(KEY)
    tag = web.ask(link)[1]["etag"]
    part = web.ask(link, Range="bytes=10-19", If_Range=tag)
    head = web.ask(link, "HEAD")

    assert web.ask(link, If_None_Match=tag)[0] == 304
    assert (part[0], part[2]) == (206, CONTENT[10:20])
    assert (head[0], head[1]["content-length"], head[2]) == (200, str(len(CONTENT)), b"")


def test_without_a_link_that_counts_nginx_sends_nothing(web: WebServer) -> None:
    link = Links("", SECRET).of(KEY)
    old = Links("", SECRET, lambda: 1_000_000.0).of(KEY)
    refused = [f"/files/{KEY}", old, link[:-1], link.replace("abcd5678-", "abcd5679-")]

    assert [web.ask(path)[0] for path in refused] == [403] * 4
    assert web.ask(f"/{KEY}")[0] == 404
    assert web.ask(f"/originals/{KEY}")[0] == 404
    assert web.ask(f"/originals/{KEY}", X_Accel_Redirect="x")[0] == 404


def test_a_file_that_is_deleted_is_not_found_and_kept_by_no_cache(
    web: WebServer, workplace: Workplace
) -> None:
    (workplace.root / KEY).unlink()
    status, headers, _ = web.ask(Links("", SECRET).of(KEY))

    assert (status, headers["cache-control"]) == (404, "no-store")
