"""deploy/nginx: variants are cached for ever, originals come where the app says so, and nothing else."""

import gzip
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import yaml

from scripts.processes import free_port
from storage.keys import variant_key
from tests.support.clients import ROOT
from tests.support.console_page import read_page
from tests.support.deployed_nginx import CONF, WebServer, deployed_nginx
from tests.support.deployment import SNIPPETS
from tests.support.spare_host import SpareHost
from worker.settings import Settings

ID = UUID("4a2ca705-03aa-52b8-a8b8-e2aa1374070e")
VARIANT = "/" + variant_key(ID, "jpeg")
ABSENT = VARIANT.replace("070e.", "070f.")
FOR_EVER = "public, max-age=31536000, immutable"
BYTES = b"\xff\xd8 a picture"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with deployed_nginx(tmp_path_factory.mktemp("nginx")) as web:
        for path in (VARIANT, VARIANT.replace(".jpg", ".avif"), "/.media-root.json", "/uploads/ä b%.svg"):
            file = web.root / path[1:]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(BYTES)
        yield web


def test_a_variant_is_a_picture_that_may_be_cached_for_ever(web: WebServer) -> None:
    status, headers, body = web.ask(VARIANT)

    assert (status, body) == (200, BYTES)
    assert headers["content-type"] == "image/jpeg"
    assert headers["cache-control"] == FOR_EVER
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert web.ask(VARIANT.replace(".jpg", ".avif"))[1]["content-type"] == "image/avif"


def test_a_link_of_the_api_to_a_variant_is_answered_from_the_disk(web: WebServer) -> None:
    asked = len(web.app.asked)

    status, headers, body = web.ask("/files" + VARIANT)

    assert (status, headers["cache-control"], body) == (200, FOR_EVER, BYTES)
    assert web.ask("/files" + ABSENT)[0] == 404
    assert len(web.app.asked) == asked


def test_a_variant_that_is_not_there_yet_may_be_there_later(web: WebServer) -> None:
    status, headers, _ = web.ask(ABSENT)

    assert status == 404
    assert "cache-control" not in headers
    assert headers["x-content-type-options"] == "nosniff"


def test_who_has_a_variant_already_is_sent_none_and_who_asks_for_a_part_a_part(web: WebServer) -> None:
    tag = web.ask(VARIANT)[1]["etag"]

    again, part = web.ask(VARIANT, If_None_Match=tag), web.ask(VARIANT, Range="bytes=0-1")

    assert (again[0], again[1]["cache-control"], again[2]) == (304, FOR_EVER, b"")
    assert (part[0], part[2]) == (206, BYTES[:2])
    assert web.ask(VARIANT, "HEAD")[::2] == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_variant_can_only_be_read(web: WebServer, method: str) -> None:
    assert web.ask(VARIANT, method)[0] == 405
    assert (web.root / VARIANT[1:]).read_bytes() == BYTES


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/variants/",
        "/.media-root.json",
        "/variants/4a/2c/../../../.media-root.json",
        "/variants/4a/2c/..%2f..%2f..%2f.media-root.json",
        VARIANT.replace("/4a/2c/", "/4a/2d/"),
        VARIANT + "x",
        "/uploads/%C3%A4%20b%25.svg",
        "/originals/uploads/%C3%A4%20b%25.svg",
    ],
)
def test_nothing_else_of_the_storage_root_can_be_had(web: WebServer, path: str) -> None:
    status, _, body = web.ask(path)

    assert status == 404
    assert BYTES not in body


def test_a_link_among_the_variants_leads_nowhere(web: WebServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"a secret")
    link = web.root / ABSENT[1:].replace("070f", "0710")
    link.symlink_to(secret)

    assert web.ask("/" + str(link.relative_to(web.root)))[0] == 403


def test_an_original_is_sent_where_the_app_says_so_and_saved_instead_of_shown(web: WebServer) -> None:
    where = {"X-Accel-Redirect": "/originals/uploads/%C3%A4%20b%25.svg"}
    web.app.answers["/download/1"] = ({**where, "Content-Type": "text/html"}, b"")
    web.app.answers["/download/2"] = ({**where, "Content-Disposition": 'attachment; filename="b.svg"'}, b"")

    status, headers, body = web.ask("/download/1")

    assert (status, body) == (200, BYTES)
    assert headers["cache-control"] == "private, no-store"
    assert headers["content-disposition"] == "attachment"
    assert headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in headers["content-security-policy"]
    named = web.ask("/download/2")
    assert named[1]["content-disposition"] == 'attachment; filename="b.svg"'
    assert named[1]["content-type"] == "application/octet-stream"


def test_an_app_that_points_outside_of_the_originals_gets_nothing_sent(web: WebServer) -> None:
    for number, where in enumerate(["/originals/uploads/../.media-root.json", "/originals/.media-root.json"]):
        web.app.answers[f"/out/{number}"] = ({"X-Accel-Redirect": where}, b"")

        assert BYTES not in web.ask(f"/out/{number}")[2]


def test_everything_else_is_the_apps_which_sees_who_asks_for_what(web: WebServer) -> None:
    web.app.answers["/app/stats?history=1"] = ({"Content-Type": "application/json"}, b'{"a": 1}' * 100)

    _, headers, body = web.ask("/app/stats?history=1", Accept_Encoding="gzip", Host="media.example.com")

    assert headers["content-encoding"] == "gzip"
    assert headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(body) == b'{"a": 1}' * 100
    asked = web.app.asked[-1][2]
    assert (asked["Host"], asked["X-Forwarded-For"], asked["X-Forwarded-Proto"]) == (
        "media.example.com",
        "127.0.0.1",
        "http",
    )


def test_an_upload_of_the_largest_size_that_a_worker_takes_reaches_the_app(web: WebServer) -> None:
    largest = Settings.model_fields["max_source_bytes"].default
    web.app.answers["/app/uploads"] = ({}, b"{}")

    assert web.ask("/app/uploads", "POST", bytes(largest + 4096))[0] == 200
    assert web.app.asked[-1][3] == largest + 4096
    assert web.ask("/app/uploads", "POST", bytes(12 << 20))[0] == 413


@pytest.mark.parametrize(("file", "from_disk"), [("compose.yaml", True), ("compose.many-hosts.yaml", False)])
def test_what_compose_makes_of_the_file_serves_the_api_and_variants_where_they_are_on_the_disk(
    tmp_path: Path, file: str, from_disk: bool
) -> None:
    nginx = yaml.safe_load((ROOT / file).read_text())["services"]["nginx"]
    [command] = nginx["command"]
    edit = command.partition(" /media.conf >")[0]

    def edited(text: str) -> str:
        done = subprocess.run(["sh", "-euc", edit], input=text, text=True, capture_output=True, check=True)
        # Back to what a test changes; each is there once.
        for ours, theirs in (("listen 8080;", "listen 80;"), ("serve:8080", "127.0.0.1:8080")):
            assert done.stdout.count(ours) == 1
            done.stdout = done.stdout.replace(ours, theirs)
        assert ("/data/media" in done.stdout) is from_disk
        return done.stdout.replace("/data/media", "/srv/media")

    with deployed_nginx(tmp_path, edited=edited) as web:
        variant = web.root / VARIANT[1:]
        variant.parent.mkdir(parents=True)
        variant.write_bytes(BYTES)
        web.app.answers["/files" + VARIANT] = ({}, b"of the server")
        web.app.answers["/v1/stats"] = ({}, b"{}")

        assert web.ask("/files" + VARIANT)[2] == (BYTES if from_disk else b"of the server")
        assert web.ask("/v1/stats")[::2] == (200, b"{}")
        assert web.ask("/")[0] == 404


def test_while_the_server_is_away_an_app_gets_a_problem_in_json(web: WebServer, tmp_path: Path) -> None:
    with deployed_nginx(tmp_path, serve=f"127.0.0.1:{free_port()}") as alone:
        status, headers, body = alone.ask("/v1/uploads", "POST", b"abc")

    assert (status, headers["content-type"]) == (503, "application/problem+json")
    assert (headers["retry-after"], json.loads(body)["code"]) == ("2", "busy")


@pytest.mark.parametrize(("method", "refresh"), [("GET", "3"), ("POST", None)])
def test_while_the_server_is_away_the_console_is_a_page_that_says_so_and_loads_itself_again(
    web: WebServer, tmp_path: Path, method: str, refresh: str | None
) -> None:
    with deployed_nginx(tmp_path, serve=f"127.0.0.1:{free_port()}") as alone:
        status, headers, body = alone.ask("/console/failures", method, Accept="text/html,*/*;q=0.8")
        of_script = alone.ask("/console", method, Accept="text/html, application/json")[2]
        elsewhere = alone.ask("/v1/uploads", Accept="text/html")[2]

    assert (status, headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert (headers.get("refresh"), headers["cache-control"]) == (refresh, "no-store")
    assert read_page(body.decode()).one("h1").text == "The console is away"
    assert json.loads(of_script)["code"] == json.loads(elsewhere)["code"] == "busy"


def test_the_configuration_of_debian_takes_the_file_as_it_is(tmp_path: Path) -> None:
    if not Path("/etc/nginx/nginx.conf").exists():
        pytest.skip("no nginx of the system")
    host = SpareHost(tmp_path)

    done = host.run(SNIPPETS["nginx"])

    assert done.returncode == 0, done.stderr
    assert "successful" in done.stderr
    assert host.changed("/etc/nginx/conf.d/media.conf").read_text() == CONF.read_text()
