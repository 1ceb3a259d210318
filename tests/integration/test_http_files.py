"""Files over HTTP: variants that everybody may keep, and originals to be saved, of a folder and a bucket."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from scripts.redis_server import RedisServer
from scripts.s3_server import S3Server
from storage.catalog.records import Failed
from storage.keys import variant_key
from tests.support.blobs import chunks
from tests.support.catalogs import CAT, claim, commit, delete_event, ready, take, upload_event, work
from tests.support.face import OpenFace, install, opened_face, settings_in
from tests.support.pictures import small
from tests.support.s3 import new_place
from worker.http.sending import OF_AN_OBJECT
from worker.queue import Queue
from worker.settings import Settings

KEY = variant_key(UUID("abcd5678-1234-5678-9234-567812345678"), "jpeg")
URL = f"/files/{KEY}"
TAG = '"abcd5678-1234-5678-9234-567812345678"'
CONTENT = bytes(range(256)) * 40
LARGE = bytes(range(256)) * 5000  # more than is read at once
FOR_EVER = "public, max-age=31536000, immutable"
ORIGINAL = f"/v1/uploads/{CAT}/original"


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, queue: Queue, server: RedisServer, migrated: Path, tmp_path: Path
) -> Settings:
    """An installation that nobody has used: in a folder, unless the test's class says otherwise."""
    shutil.copy(migrated, tmp_path / "catalog.db")
    return settings_in(tmp_path, server.url)


@pytest.fixture
async def opened(settings: Settings) -> AsyncIterator[OpenFace]:
    await install(settings)
    async with opened_face(settings) as opened:
        yield opened


async def put(opened: OpenFace, content: bytes = CONTENT, key: str = KEY) -> None:
    await opened.face.stores.blobs.put(key, chunks(content))


async def get(opened: OpenFace, url: str = URL, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await opened.client.get(url, headers=named)


RANGES = (
    ("bytes=0-0", 0, 1),
    ("bytes=5-9", 5, 10),
    ("bytes=10200-", 10200, 10240),
    ("bytes=-3", 10237, 10240),
    ("bytes=-99999", 0, 10240),
    ("bytes=10239-99999", 10239, 10240),
    ("BYTES=1-2", 1, 3),
)
NO_RANGES = ("bytes=0-1,4-5", "bytes=9-5", "bytes=-", "bytes=a-b", "pages=1-2", "bytes 0-1", "bytes=1")
NO_VARIANTS = (
    "uploads/secret.jpg",
    "variants/ab/cd/../../../uploads/secret.jpg",
    "variants/ab/cd/%2e%2e%2f%2e%2e%2f%2e%2e%2fuploads%2fsecret.jpg",
    "variants/ab/ce/abcd5678-1234-5678-9234-567812345678.jpg",
    "variants/ab/cd/abcd5678-1234-5678-9234-567812345678.png",
    "variants/ab/cd/ABCD5678-1234-5678-9234-567812345678.jpg",
    "variants/ab/cd/abcd5678-1234-5678-9234-567812345678.jpg%00",
    "variants/ab/cd/abcd5678-1234-5678-9234-567812345678.jpg%0a",
    "variants//ab/cd/abcd5678-1234-5678-9234-567812345678.jpg",
    ".media-root.json",
    "",
)


class HttpFilesContract:
    """Run on every storage; a subclass may have a fixture `settings`."""

    async def test_a_variant_is_served_with_what_caches_and_browsers_need(self, opened: OpenFace) -> None:
        await put(opened)
        answer = await get(opened)

        assert (answer.status_code, answer.content) == (200, CONTENT)
        expected = {
            "content-type": "image/jpeg",
            "content-length": str(len(CONTENT)),
            "etag": TAG,
            "accept-ranges": "bytes",
            "cache-control": FOR_EVER,
            "x-content-type-options": "nosniff",
            "content-security-policy": "default-src 'none'; sandbox",
            "cross-origin-resource-policy": "cross-origin",
        }
        assert expected.items() <= dict(answer.headers).items()

    @pytest.mark.parametrize(("ending", "kind"), [("webp", "image/webp"), ("avif", "image/avif")])
    async def test_the_type_is_that_of_the_ending(self, opened: OpenFace, ending: str, kind: str) -> None:
        key = variant_key(UUID(int=7), ending)
        await put(opened, b"bytes", key)

        assert (await get(opened, f"/files/{key}")).headers["content-type"] == kind

    async def test_head_says_the_same_without_the_bytes(self, opened: OpenFace) -> None:
        await put(opened)
        whole = await get(opened)
        head = await opened.client.head(URL, headers={"Range": "bytes=0-1"})

        assert (head.status_code, head.content) == (200, b"")
        assert head.headers == whole.headers

    @pytest.mark.parametrize("known", [TAG, f'"other", W/{TAG}', f'W/"a,b",{TAG}', "*"])
    async def test_what_a_client_has_is_not_sent_again(self, opened: OpenFace, known: str) -> None:
        await put(opened)
        answer = await get(opened, If_None_Match=known, Range="bytes=0-1")

        assert (answer.status_code, answer.content) == (304, b"")
        assert (answer.headers["etag"], answer.headers["cache-control"]) == (TAG, FOR_EVER)
        assert "content-type" not in answer.headers

    async def test_what_a_client_has_otherwise_is_sent(self, opened: OpenFace) -> None:
        await put(opened)

        for known in ('"other"', TAG.strip('"'), 'W/"other", "more"', ""):
            assert (await get(opened, If_None_Match=known)).status_code == 200

    async def test_a_range_is_sent_alone(self, opened: OpenFace) -> None:
        await put(opened)
        for wanted, start, end in RANGES:
            answer = await get(opened, Range=wanted)

            assert (wanted, answer.status_code, answer.content) == (wanted, 206, CONTENT[start:end])
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/10240"
            assert answer.headers["content-length"] == str(end - start)
            assert (answer.headers["etag"], answer.headers["cache-control"]) == (TAG, FOR_EVER)

    async def test_several_ranges_and_what_is_none_get_the_whole(self, opened: OpenFace) -> None:
        await put(opened)

        for wanted in NO_RANGES:
            answer = await get(opened, Range=wanted)
            assert (wanted, answer.status_code, answer.content) == (wanted, 200, CONTENT)

    @pytest.mark.parametrize("wanted", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
    async def test_a_range_behind_the_end_is_refused_with_the_size(
        self, opened: OpenFace, wanted: str
    ) -> None:
        await put(opened)
        answer = await get(opened, Range=wanted)

        assert (answer.status_code, answer.json()["code"]) == (416, "bad_request")
        assert answer.headers["content-range"] == "bytes */10240"
        assert answer.headers["cache-control"] == "no-store"

    async def test_a_range_counts_only_of_the_content_that_the_client_began_with(
        self, opened: OpenFace
    ) -> None:
        await put(opened)
        known = {TAG: 206, f"W/{TAG}": 200, '"other"': 200, "Wed, 21 Oct 2026 07:28:00 GMT": 200}

        found = {tag: (await get(opened, Range="bytes=1-2", If_Range=tag)).status_code for tag in known}
        assert found == known

    async def test_a_large_file_is_sent_whole_and_from_any_byte(self, opened: OpenFace) -> None:
        await put(opened, LARGE)
        assert len(LARGE) > OF_AN_OBJECT
        whole, rest = await get(opened), await get(opened, Range="bytes=77-")
        middle = await get(opened, Range="bytes=1000-1200000")

        assert whole.content == LARGE
        assert (rest.content, rest.headers["content-length"]) == (LARGE[77:], str(len(LARGE) - 77))
        assert middle.content == LARGE[1000:1200001]

    async def test_what_is_not_there_is_not_found_and_kept_by_no_cache(self, opened: OpenFace) -> None:
        for answer in (
            await get(opened),
            await get(opened, If_None_Match="*"),
            await opened.client.head(URL),
        ):
            assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")

    async def test_a_deleted_file_is_not_found(self, opened: OpenFace) -> None:
        await put(opened)
        await opened.face.stores.blobs.delete(KEY)

        assert (await get(opened, If_None_Match=TAG)).status_code == 404

    async def test_only_variants_are_ever_opened(self, opened: OpenFace) -> None:
        await put(opened)
        await put(opened, key="uploads/secret.jpg")

        for path in NO_VARIANTS:
            assert (path, (await get(opened, f"/files/{path}")).status_code) in ((path, 400), (path, 404))

    async def test_an_unknown_parameter_is_refused(self, opened: OpenFace) -> None:
        await put(opened)

        assert (await get(opened, f"{URL}?v=1")).status_code == 400

    async def test_a_file_is_never_compressed(self, opened: OpenFace) -> None:
        await put(opened, b"a" * 10_000)
        answer = await get(opened, Accept_Encoding="gzip")

        assert "content-encoding" not in answer.headers

    # -- originals

    async def test_an_original_is_a_file_to_save_of_its_own_type(self, opened: OpenFace) -> None:
        source, content = "uploads/shop/a cat ä.html", small()
        await put(opened, content, source)
        await take(opened.face.stores.catalog, upload_event(1, source=source))
        answer = await opened.client.get(ORIGINAL, headers=await opened.key("op", "originals"))

        assert (answer.status_code, answer.content) == (200, content)
        assert answer.headers["content-type"] == "image/jpeg"
        name = "filename=\"a cat _.jpg\"; filename*=UTF-8''a%20cat%20%C3%A4.jpg"
        assert answer.headers["content-disposition"] == f"attachment; {name}"
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"
        assert answer.headers["x-content-type-options"] == "nosniff"

    async def test_a_part_of_an_original_is_sent_as_long_as_it_is_the_same(self, opened: OpenFace) -> None:
        await put(opened, b"0123456789", "uploads/cat")
        await take(opened.face.stores.catalog, upload_event(1, source="uploads/cat"))
        key = await opened.key("op", "originals")
        tag = (await opened.client.get(ORIGINAL, headers=key)).headers["etag"]
        part = {**key, "Range": "bytes=4-5", "If-Range": tag}

        assert (await opened.client.get(ORIGINAL, headers=part)).content == b"45"
        await put(opened, b"another one", "uploads/cat")
        assert (await opened.client.get(ORIGINAL, headers=part)).content == b"another one"

    async def test_what_is_no_picture_has_no_type(self, opened: OpenFace) -> None:
        await put(opened, b"<script>alert(1)</script>", "uploads/cat.svg")
        await take(opened.face.stores.catalog, upload_event(1, source="uploads/cat.svg"))
        answer = await opened.client.get(ORIGINAL, headers=await opened.key("op", "originals"))

        assert answer.headers["content-type"] == "application/octet-stream"
        assert 'filename="cat.bin"' in answer.headers["content-disposition"]

    @pytest.mark.parametrize("code", ["decoder_crashed", "decode_timeout", "too_much_memory"])
    async def test_what_harmed_a_decoder_is_sent_as_no_picture(self, opened: OpenFace, code: str) -> None:
        catalog = opened.face.stores.catalog
        await put(opened, small(), "uploads/cat.jpg")
        await take(catalog, upload_event(1, source="uploads/cat.jpg"))
        await commit(catalog, Failed(await claim(catalog), code, "It did."))
        answer = await opened.client.get(ORIGINAL, headers=await opened.key("op", "originals"))

        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
        assert 'filename="cat.bin"' in answer.headers["content-disposition"]

    async def test_an_original_takes_its_scope(self, opened: OpenFace) -> None:
        await take(opened.face.stores.catalog, upload_event(1))
        key = await opened.key("op", "upload,read,operate")
        token = opened.face.access.sign(4_000_000_000, {})

        for header in (key, {"Authorization": f"Bearer {token}"}):
            assert (await opened.client.get(ORIGINAL, headers=header)).status_code == 403
        assert (await opened.client.get(ORIGINAL)).status_code == 401

    async def test_an_original_of_somebody_else_is_not_there(self, opened: OpenFace) -> None:
        await put(opened, b"theirs", "uploads/shop/a.jpg")
        await take(opened.face.stores.catalog, upload_event(1, source="uploads/shop/a.jpg"))
        theirs = [("a", "shop", None), ("b", None, "uploads/shop/"), ("c", None, "uploads/")]
        others = [("d", "sho", None), ("e", None, "uploads/sho/"), ("f", None, "uploads/shop/a/")]

        async def asked(name: str, owner: str | None, prefix: str | None) -> int:
            key = await opened.key(name, "originals", owner, prefix)
            return (await opened.client.get(ORIGINAL, headers=key)).status_code

        assert [await asked(*each) for each in theirs] == [200] * 3
        assert [await asked(*each) for each in others] == [404] * 3

    async def test_an_original_that_is_gone_or_deleted_is_not_found(self, opened: OpenFace) -> None:
        catalog, key = opened.face.stores.catalog, await opened.key("op", "originals")
        await take(catalog, upload_event(1, source="uploads/cat.jpg"))
        gone = await opened.client.get(ORIGINAL, headers=key)
        await put(opened, b"kept", "uploads/cat.jpg")
        await take(catalog, delete_event(2))
        deleted = await opened.client.get(ORIGINAL, headers=key)

        assert (gone.status_code, gone.json()["code"]) == (404, "source_missing")
        assert (deleted.status_code, deleted.json()["code"]) == (404, "not_found")
        assert (await opened.client.get("/v1/uploads/x/original", headers=key)).status_code == 400


class TestFilesOfAFolder(HttpFilesContract):
    async def test_a_link_in_place_of_a_file_is_not_found(self, opened: OpenFace, tmp_path: Path) -> None:
        secret = tmp_path / "secret.jpg"
        secret.write_bytes(b"secret")
        place = tmp_path / "media" / KEY
        place.parent.mkdir(parents=True)
        place.symlink_to(secret)

        assert (await get(opened)).status_code == 404
        assert (await opened.client.head(URL)).status_code == 404

    async def test_superseded_variants_are_served_until_they_are_removed(self, opened: OpenFace) -> None:
        catalog = opened.face.stores.catalog
        await take(catalog, upload_event(1))
        await work(catalog)
        await put(opened)
        await take(catalog, upload_event(2))
        await commit(catalog, ready(await claim(catalog), "b" * 64))

        assert (await get(opened)).status_code == 200

    async def test_a_storage_that_is_away_is_said(self, opened: OpenFace, tmp_path: Path) -> None:
        await put(opened)
        (tmp_path / "media").rename(tmp_path / "elsewhere")
        answer = await get(opened)

        assert answer.status_code == 503
        assert str(tmp_path) not in answer.text


class TestFilesOfABucket(HttpFilesContract):
    """With a catalog on Postgres."""

    @pytest.fixture
    def settings(
        self,
        queue: Queue,
        server: RedisServer,
        tmp_path: Path,
        seaweedfs: S3Server,
        postgres_catalog_url: str,
    ) -> Settings:
        place = new_place(seaweedfs).url
        return settings_in(tmp_path, server.url, storage_url=place, catalog_url=postgres_catalog_url)
