"""Keys of running servers: made, revoked and forgotten by nobody, and told to nobody."""

import asyncio
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.catalogs import ON_BOTH
from tests.support.commands import media
from tests.support.face import SECRET, FaceProcess, caller_of, install, settings_in, start_face
from tests.support.ports import free_port
from tests.support.tcp_proxy import TcpProxy
from tests.support.workplace import Workplace, eventually
from worker.http.access import FRESH_S

pytestmark = pytest.mark.rotating(5, of="module")


@pytest.fixture
def place(workplace: Workplace, tmp_path: Path, catalog_url: str) -> Workplace:
    """An installation where nobody works."""
    workplace.settings["MEDIA_CATALOG_URL"] = catalog_url
    asyncio.run(install(settings_in(tmp_path, workplace.redis_url, catalog_url=catalog_url)))
    return workplace


def new_key(place: Workplace, name: str, scope: str = "upload") -> str:
    ended = media(place.env(), "keys", "new", name, "--scope", scope)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def token(face: FaceProcess, secret: str = "") -> int:
    """The status of what takes the scope upload."""
    with caller_of(face, secret) as client:
        return client.post("/v1/tokens", json={}).status_code


@pytest.fixture
def two(place: Workplace) -> list[FaceProcess]:
    """Two servers of one installation."""
    faces = [start_face(place, ready=False) for _ in range(2)]
    for face in faces:
        face.await_log("http_ready")
    return faces


@ON_BOTH
@pytest.mark.rotating(1)
def test_a_key_counts_on_every_server_at_once_and_stops_within_seconds(
    place: Workplace, two: list[FaceProcess]
) -> None:
    assert [token(face) for face in two] == [201, 201]  # on a machine of one's own
    first, second = new_key(place, "first"), new_key(place, "second")

    assert [token(face) for face in two] == [401, 401]
    assert [token(face, secret) for face in two for secret in (first, second)] == [201] * 4
    media(place.env(), "keys", "revoke", "first")
    began = time.monotonic()
    eventually(lambda: [token(face, first) for face in two] == [401, 401])

    assert time.monotonic() - began < 5
    assert [token(face, second) for face in two] == [201, 201]
    media(place.env(), "keys", "revoke", "second")
    eventually(lambda: token(two[0], second) == 401)
    assert token(two[0]) == 401  # whose keys are all revoked is not open


class HeldProxy(TcpProxy):
    """One that may stand still."""

    def __init__(self, port: int) -> None:
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        super().__init__(port)

    async def hold(self) -> None:
        await self.goes_on.wait()


@pytest.mark.parametrize("database_kind", ["postgres"])
@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
def test_known_keys_and_tokens_count_on_while_the_catalog_is_away(
    place: Workplace, catalog_url: str, hangs: bool
) -> None:
    port = urlsplit(catalog_url).port or 0
    with closing(HeldProxy(port)) as proxy:
        face = start_face(place, MEDIA_CATALOG_URL=catalog_url.replace(f":{port}/", f":{proxy.port}/"))
        key = new_key(place, "app")
        made = [token(face, key), token(face, key)]
        if hangs:
            proxy.goes_on.clear()
        else:
            proxy.refuse()
        slowest, until = 0.0, time.monotonic() + 2 * FRESH_S
        while time.monotonic() < until:
            began = time.monotonic()
            made.append(token(face, key))
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.1)

        assert set(made) == {201}
        assert slowest < 3
        assert token(face, "mw_other") == 401


def test_a_token_ends_with_the_key_that_made_it(place: Workplace, two: list[FaceProcess]) -> None:
    key, other = new_key(place, "app"), new_key(place, "other")
    with caller_of(two[0], key) as client:
        made = client.post("/v1/tokens", json={}).json()["token"]

    assert token(two[1], made) == 403  # known, and not enough for this
    media(place.env(), "keys", "revoke", "app")
    eventually(lambda: token(two[1], made) == 401)
    assert token(two[1], other) == 201


@pytest.mark.rotating(1)
def test_no_secret_is_in_a_log_line_or_in_the_list_of_processes(
    place: Workplace, two: list[FaceProcess]
) -> None:
    face = two[0]
    right, wrong = new_key(place, "app", "upload,originals"), "mw_wrong-wrong-wrong"
    with caller_of(face, right) as client:
        made = client.post("/v1/tokens", json={}).json()["token"]
        link = "/files/variants/ab/cd/abcd5678-1234-5678-9234-567812345678.jpg?expires=1&signature=sign-sign"
        client.get(link)
        client.get("/v1/uploads/4a2ca705-03aa-52b8-a8b8-e2aa1374070e/original")
    for secret in (wrong, made, made[:-3] + "xxx", "junk-junk-junk"):
        token(face, secret)
    shown = Path(f"/proc/{face.pid}/cmdline").read_bytes().decode()
    face.stop()

    for secret in (right, wrong, made, made[-12:], "junk-junk-junk", "sign-sign", SECRET):
        assert secret not in face.text
        assert secret not in shown


def test_a_proxy_in_front_makes_nobody_a_program_of_this_machine(place: Workplace) -> None:
    face = start_face(place)
    with httpx.Client(base_url=face.url) as client:
        said = client.post("/v1/tokens", json={}, headers={"X-Forwarded-For": "127.0.0.1"})
        plain = client.post("/v1/tokens", json={}, headers={"X-Forwarded-Proto": "https"})

    assert (said.status_code, plain.status_code) == (403, 201)


def test_a_large_file_comes_whole_and_one_that_is_replaced_meanwhile_is_cut(
    place: Workplace, tmp_path: Path
) -> None:
    face = start_face(place)
    file = tmp_path / "media/variants/ab/cd/abcd5678-1234-5678-9234-567812345678.jpg"
    file.parent.mkdir(parents=True)
    content = bytes(range(256)) * 80_000  # more than sockets hold
    file.write_bytes(content)
    url = f"/files/{file.relative_to(tmp_path / 'media')}"
    with caller_of(face) as client:
        assert client.get(url).content == content
        with client.stream("GET", url) as answer:
            file.write_bytes(b"another")
            with pytest.raises(httpx.RemoteProtocolError):
                answer.read()

    face.await_log("file_cut")


@pytest.mark.parametrize("bind", ["0.0.0.0:{port}", "unix:{home}/media.sock"], ids=["port", "socket"])
@pytest.mark.rotating(1)
def test_a_server_that_others_reach_serves_nothing_without_a_key(place: Workplace, bind: str) -> None:
    at = bind.format(port=free_port(), home=place.home)
    face = start_face(place, ready=False, MEDIA_HTTP_BIND=at)

    assert face.wait() == 2
    assert "there is no key yet: make one (media keys new NAME)" in face.text
    assert ("by other machines" in face.text) is at.startswith("0.0.0.0")
    assert (face.logged("http_served"), face.logged("http_ready")) == ([], [])


def test_a_server_that_others_reach_serves_once_there_is_a_key(place: Workplace) -> None:
    new_key(place, "app")
    face = start_face(place, MEDIA_HTTP_BIND=f"0.0.0.0:{free_port()}")

    face.await_log("http_served")
    assert face.stop() == 0


def test_two_servers_at_one_port_are_told_so_in_words_of_servers(place: Workplace) -> None:
    port = free_port()
    first = start_face(place, MEDIA_HTTP_BIND=f"127.0.0.1:{port}")
    second = start_face(place, ready=False, MEDIA_HTTP_BIND=f"127.0.0.1:{port}")

    assert second.wait() == 2
    assert f"127.0.0.1:{port} is in use, perhaps by another worker or server" in second.text
    assert first.stop() == 0
