"""Pictures on the console's pages: variants however apps get theirs, and originals that harm no browser."""

from base64 import b64encode
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from scripts.redis_server import RedisServer
from storage.catalog.records import Failed, Ready, StoredVariant
from storage.keys import variant_key
from tests.support.blobs import chunks
from tests.support.catalogs import CAT, SHA, claim, commit, delete_event, ready, take, upload_event
from tests.support.face import OpenFace, opened_face, settings_in
from tests.support.pictures import small
from worker.http.originals import HARMED

NAME = UUID("abcd5678-1234-5678-9234-567812345678")
KEY = variant_key(NAME, "jpeg")
PICTURE = f"/console/{KEY}"
ORIGINAL = f"/console/originals/{CAT}"
TO_SAVE = f"/console/uploads/{CAT}/original"
SOURCE = "uploads/shop/cat.jpg"
CONTENT = b"the bytes of a variant"


async def basic(opened: OpenFace, **key: str) -> dict[str, str]:
    """A new key as a browser sends it."""
    secret = (await opened.key(**key))["Authorization"].removeprefix("Bearer ")
    return {"Authorization": "Basic " + b64encode(f"me:{secret}".encode()).decode()}


async def put(opened: OpenFace, content: bytes = CONTENT, key: str = KEY) -> None:
    await opened.face.stores.blobs.put(key, chunks(content))


async def make_variant(opened: OpenFace) -> None:
    """The upload CAT of the folder `shop` is ready, with one variant under KEY."""
    catalog = opened.face.stores.catalog
    await put(opened)
    await take(catalog, upload_event(1, source=SOURCE))
    done = ready(await claim(catalog))
    made = [StoredVariant("thumb", KEY, 60, 40, len(CONTENT), SHA)]
    await commit(catalog, Ready(done.claim, done.original, made))


async def fail(
    opened: OpenFace, code: str, content: bytes | None = None, source: str = SOURCE, at: int = 1
) -> None:
    """The upload CAT has failed for that reason."""
    catalog = opened.face.stores.catalog
    await put(opened, small() if content is None else content, source)
    await take(catalog, upload_event(at, source=source))
    await commit(catalog, Failed(await claim(catalog), code, "It did."))


async def test_a_variant_is_kept_by_the_visitors_browser_alone_and_harms_no_page(opened: OpenFace) -> None:
    await put(opened)
    answer = await opened.client.get(PICTURE)

    assert (answer.status_code, answer.content) == (200, CONTENT)
    expected = {
        "content-type": "image/jpeg",
        "etag": f'"{NAME}"',
        "cache-control": "private, max-age=86400, immutable",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cross-origin-resource-policy": "same-origin",
    }
    assert expected.items() <= dict(answer.headers).items()


async def test_a_variant_that_the_browser_has_is_not_sent_again(
    client: httpx.AsyncClient, opened: OpenFace
) -> None:
    await put(opened)
    known = await client.get(PICTURE, headers={"If-None-Match": f'"{NAME}"'})
    head = await client.head(PICTURE)

    assert (known.status_code, known.content) == (304, b"")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))


@pytest.mark.parametrize(
    "given",
    [
        {"http_files": "signed"},
        {"http_send": "accel:/_media/"},
        {"http_url": "https://media.example"},
    ],
    ids=["signed", "accel", "elsewhere"],
)
async def test_the_console_sends_variants_by_itself_however_apps_get_theirs(
    installation: Path, server: RedisServer, catalog_url: str, given: dict[str, str]
) -> None:
    settings = settings_in(installation, server.url, catalog_url=catalog_url, **given)
    async with opened_face(settings) as opened:
        await put(opened)
        assert (await opened.client.get(PICTURE)).content == CONTENT


async def test_nothing_but_variants_that_are_there_is_sent_and_no_cache_keeps_that(
    client: httpx.AsyncClient,
) -> None:
    wrong = ("variants/ab/cd/no.jpg", f"variants/ab/ce/{KEY[15:]}", "variants/ab/cd/..%2f..%2fx.jpg", KEY)
    for path in wrong:
        answer = await client.get(f"/console/{path}")
        assert (answer.status_code, answer.headers["cache-control"]) == (404, "private, no-store")


async def test_who_has_no_key_gets_no_picture(opened: OpenFace) -> None:
    await make_variant(opened)
    await opened.key()

    for path in (PICTURE, ORIGINAL, TO_SAVE):
        assert (await opened.client.get(path)).status_code == 401


async def test_a_bound_key_gets_variants_of_its_own_uploads_alone_superseded_ones_too(
    opened: OpenFace,
) -> None:
    catalog = opened.face.stores.catalog
    await make_variant(opened)
    await take(catalog, upload_event(2, source=SOURCE))
    await commit(catalog, ready(await claim(catalog), sha256="b" * 64))  # the variant is superseded
    theirs = await basic(opened, name="theirs", scopes="read", owner="shop")
    others = await basic(opened, name="others", scopes="read", owner="other")

    assert (await opened.client.get(PICTURE, headers=theirs)).content == CONTENT
    assert (await opened.client.get(PICTURE, headers=others)).status_code == 404


# -- originals


async def test_a_damaged_original_is_shown_as_what_its_first_bytes_say(opened: OpenFace) -> None:
    await fail(opened, "corrupt_image", source="uploads/cat.html")
    answer = await opened.client.get(ORIGINAL)

    assert (answer.status_code, answer.content) == (200, small())
    expected = {
        "content-type": "image/jpeg",
        "cache-control": "private, no-store",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cross-origin-resource-policy": "same-origin",
    }
    assert expected.items() <= dict(answer.headers).items()


async def test_an_original_that_may_harm_a_browser_is_not_shown(opened: OpenFace) -> None:
    for number, code in enumerate([*sorted(HARMED), "internal_error", "unknown_recipe", "storage_full"], 1):
        await fail(opened, code, at=number)
        assert (await opened.client.get(ORIGINAL)).status_code == 404


async def test_an_original_of_a_format_that_browsers_do_not_share_is_not_shown(opened: OpenFace) -> None:
    contents = (b"<svg/>", b"<script>alert(1)</script>", b"%PDF-1.7", b"BM" + bytes(60), b"")
    for number, content in enumerate(contents, 1):
        await fail(opened, "corrupt_image", content, at=number)
        assert (await opened.client.get(ORIGINAL)).status_code == 404


async def test_an_original_over_the_limit_of_uploads_is_not_shown(opened: OpenFace) -> None:
    await fail(opened, "corrupt_image", small() + bytes(opened.face.settings.max_source_bytes))

    assert (await opened.client.get(ORIGINAL)).status_code == 404


async def test_an_upload_that_is_ready_queued_or_deleted_shows_its_variants_alone(opened: OpenFace) -> None:
    await make_variant(opened)
    await put(opened, small(), SOURCE)
    assert (await opened.client.get(ORIGINAL)).status_code == 404
    await take(opened.face.stores.catalog, delete_event(2))
    assert (await opened.client.get(ORIGINAL)).status_code == 404
    assert (await opened.client.get("/console/originals/no-id")).status_code == 400


async def test_originals_take_a_key_that_may_operate_or_have_them(opened: OpenFace) -> None:
    await fail(opened, "corrupt_image")
    found = {}
    for scopes in ("read", "operate", "read,originals", "operate,originals"):
        key = await basic(opened, name=scopes.replace(",", "-"), scopes=scopes)
        asked = [await opened.client.get(path, headers=key) for path in (ORIGINAL, TO_SAVE)]
        found[scopes] = [answer.status_code for answer in asked]

    both = [200, 200]
    assert found == {
        "read": [404, 403],
        "operate": [200, 403],
        "read,originals": both,
        "operate,originals": both,
    }


async def test_an_original_is_saved_as_the_api_sends_it(opened: OpenFace) -> None:
    await fail(opened, "decoder_crashed")
    answer = await opened.client.get(TO_SAVE)

    assert (answer.status_code, answer.content) == (200, small())
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith('attachment; filename="cat.bin"')


async def test_originals_of_others_are_not_there(opened: OpenFace) -> None:
    await fail(opened, "corrupt_image")
    key = await basic(opened, scopes="operate,originals", owner="other")

    for path in (ORIGINAL, TO_SAVE):
        assert (await opened.client.get(path, headers=key)).status_code == 404


async def test_a_demo_shows_variants_and_no_originals(
    installation: Path, server: RedisServer, catalog_url: str
) -> None:
    settings = settings_in(installation, server.url, catalog_url=catalog_url, console="demo")
    async with opened_face(settings) as opened:
        await fail(opened, "corrupt_image")
        await put(opened)
        asked = [(await opened.client.get(path)).status_code for path in (PICTURE, ORIGINAL, TO_SAVE)]

    assert asked == [200, 404, 403]
