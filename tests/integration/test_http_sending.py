"""Who sends files, and to whom: signed links, a web server in front, or the bucket itself."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from scripts.redis_server import RedisServer
from scripts.s3_server import S3Server
from storage.keys import variant_key
from tests.support.blobs import chunks
from tests.support.face import OpenFace, install, opened_face, settings_in
from tests.support.s3 import new_place
from worker.settings import Settings

KEY = variant_key(UUID("abcd5678-1234-5678-9234-567812345678"), "jpeg")
URL = f"/files/{KEY}"
SAFE = ("x-content-type-options", "content-security-policy")


@pytest.fixture
async def signed(installation: Path, server: RedisServer) -> AsyncIterator[OpenFace]:
    """A face whose files are served under signed links alone; there is one."""
    async with opened_face(settings_in(installation, server.url, http_files="signed")) as opened:
        await opened.face.stores.blobs.put(KEY, chunks(b"bytes"))
        yield opened


@pytest.fixture
async def bucket(server: RedisServer, tmp_path: Path, seaweedfs: S3Server) -> Settings:
    """An installation on a bucket, which sends the files itself."""
    place = new_place(seaweedfs).url
    settings = settings_in(tmp_path, server.url, storage_url=place, http_send="redirect")
    await install(settings)
    return settings


def age_of(answer: httpx.Response) -> int:
    kind, _, age = answer.headers["cache-control"].partition(", max-age=")
    assert kind == "private"
    return int(age)


async def test_a_signed_link_opens_a_file_for_its_reader_alone(signed: OpenFace) -> None:
    answer = await signed.client.get(signed.face.links.of(KEY))

    assert (answer.status_code, answer.content) == (200, b"bytes")
    assert 3600 <= age_of(answer) <= 7200
    assert "cross-origin-resource-policy" not in answer.headers


async def test_without_a_link_or_with_a_wrong_one_nobody_gets_a_file(signed: OpenFace) -> None:
    link = signed.face.links.of(KEY)
    key = await signed.key("all", "upload,read,operate,originals")
    wrong = [
        URL,
        f"{URL}?expires=1&signature=x",
        link[:-1],
        link.replace("expires=", "expires=9"),
        f"{link}x",
    ]
    answers = [await signed.client.get(each, headers=key) for each in wrong]

    assert [answer.status_code for answer in answers] == [403] * 5
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
    assert (await signed.client.get(link.replace("abcd5678-", "abcd5679-"))).status_code == 403


async def test_a_wrong_link_tells_nobody_whether_there_is_a_file(signed: OpenFace) -> None:
    other = f"/files/{variant_key(UUID(int=1), 'jpeg')}"

    assert (await signed.client.get(other)).json() == (await signed.client.get(URL)).json()


async def test_a_link_of_before_opens_a_file_that_is_public_now(opened: OpenFace, signed: OpenFace) -> None:
    answer = await opened.client.get(signed.face.links.of(KEY))

    assert answer.status_code == 200


async def test_the_web_server_in_front_is_told_which_file_it_sends(
    installation: Path, server: RedisServer
) -> None:
    async with opened_face(settings_in(installation, server.url, http_send="accel:/media/")) as opened:
        missing = await opened.client.get(URL)
        await opened.face.stores.blobs.put(KEY, chunks(b"bytes"))
        answer = await opened.client.get(URL)
        outside = await opened.client.get("/files/uploads/a.jpg")

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["x-accel-redirect"] == f"/media/{KEY}"
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"].endswith("immutable")
    assert all(name in answer.headers for name in SAFE)
    for none in (missing, outside):
        assert (none.status_code, "x-accel-redirect" in none.headers) == (404, False)


async def test_the_web_server_in_front_sends_no_file_without_a_signed_link(
    installation: Path, server: RedisServer
) -> None:
    settings = settings_in(installation, server.url, http_send="accel:/media/", http_files="signed")
    async with opened_face(settings) as opened:
        await opened.face.stores.blobs.put(KEY, chunks(b"bytes"))
        refused, link = await opened.client.get(URL), opened.face.links.of(KEY)
        sent = await opened.client.get(link)

    assert (refused.status_code, "x-accel-redirect" in refused.headers) == (403, False)
    assert (sent.status_code, sent.headers["x-accel-redirect"]) == (200, f"/media/{KEY}")


async def test_a_bucket_sends_its_files_itself_for_as_long_as_caches_keep_the_way(bucket: Settings) -> None:
    async with opened_face(bucket) as opened, httpx.AsyncClient() as anybody:
        await opened.face.stores.blobs.put(KEY, chunks(b"bytes"))
        answer = await opened.client.get(URL)
        sent = await anybody.get(answer.headers["location"])

    assert (answer.status_code, answer.content) == (302, b"")
    assert (sent.status_code, sent.content, sent.headers["content-type"]) == (200, b"bytes", "image/jpeg")
    assert "X-Amz-Expires=3600" in answer.headers["location"]
    assert age_of(answer) < 3600


async def test_a_redirect_lasts_no_longer_than_the_link_that_led_to_it(bucket: Settings) -> None:
    settings = bucket.model_copy(update={"http_files": "signed"})
    async with opened_face(settings) as opened:
        links = opened.face.links
        assert (await opened.client.get(URL)).status_code == 403
        expires = int(links.clock()) + 100
        link = f"{URL}?expires={expires}&signature={links._signature(KEY, expires)}"
        answer = await opened.client.get(link)

    lasting = urlsplit(answer.headers["location"]).query.partition("X-Amz-Expires=")[2].partition("&")[0]
    assert int(lasting) <= 100
    assert age_of(answer) == 0


async def test_a_redirect_leads_to_no_other_key_and_head_is_answered_here(bucket: Settings) -> None:
    async with opened_face(bucket) as opened:
        await opened.face.stores.blobs.put(KEY, chunks(b"bytes"))
        head = await opened.client.head(URL)
        others = [
            await opened.client.get(f"/files/{key}") for key in ("uploads/a.jpg", "x", "variants/a/b/c")
        ]

    assert (head.status_code, head.headers["content-length"]) == (200, "5")
    assert {answer.status_code for answer in others} == {404}


def test_files_of_a_folder_cannot_be_sent_by_a_bucket(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="redirect leads to a bucket"):
        settings_in(tmp_path, "redis://127.0.0.1/0", http_send="redirect")
