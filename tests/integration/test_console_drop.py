"""Pictures that are dropped on the console: what is said before, how they are taken, what becomes of them."""

import re
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from storage.catalog.opening import Catalog
from storage.catalog.records import Failed
from tests.support.catalogs import claim, commit, take, upload_event, work
from tests.support.console_page import Element, read_page
from tests.support.face import OpenFace, Opening
from tests.support.pictures import small
from tests.support.uploading import announced, stored
from worker.upload_ids import default_id

OURS = {"Sec-Fetch-Site": "same-origin"}
BY_SCRIPT = {**OURS, "Accept": "application/json"}
RECIPES = "[avatar.small]\nbox = 64\n\n[banner.wide]\nbox = 900\n"


def basic(header: dict[str, str]) -> dict[str, str]:
    """The key of an API's header as a browser sends it."""
    secret = header["Authorization"].removeprefix("Bearer ")
    return {"Authorization": "Basic " + b64encode(f"me:{secret}".encode()).decode()}


async def drop(
    client: httpx.AsyncClient, headers: Mapping[str, str], content: bytes = b"", recipe: str = ""
) -> httpx.Response:
    """The answer to a picture that the form of the page sends."""
    file = ("cat.jpg", content or small(), "image/jpeg")
    fields = {"recipe": recipe} if recipe else {}
    return await client.post("/console/uploads", files={"file": file}, data=fields, headers=headers)


async def dropped(client: httpx.AsyncClient, headers: Mapping[str, str] = BY_SCRIPT) -> str:
    """The id of a picture that a script has dropped."""
    answer = await drop(client, {**BY_SCRIPT, **headers})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def outcome(client: httpx.AsyncClient, upload_id: str) -> Element:
    """The part of a page that says what became of it."""
    answer = await client.get(f"/console/drop/{upload_id}")
    assert answer.status_code == 200, answer.text
    return read_page(answer.text).one("div")


async def taken(opened: OpenFace, catalog: Catalog) -> None:
    """Have the catalog know the one upload that was announced."""
    [event] = await announced(opened)
    await take(catalog, upload_event(1, default_id(event["source"]), event["source"]))


async def test_limit_and_formats_are_said_before_anything_is_sent(opening: Opening) -> None:
    async with opening(max_source_bytes=500 * 1024, formats="jpeg,heic") as opened:
        page = read_page((await opened.client.get("/console/drop")).text)

    limits = page.one("p", id="drop-limits").text
    assert limits.startswith("An upload has at most 500 KiB. Formats: JPEG, HEIC.")
    assert "uploads/http/" in limits
    picker = page.one("input", type="file")
    assert picker.attributes["aria-describedby"] == "drop-limits"
    assert picker.attributes["accept"] == "image/jpeg,.jpg,image/heic,.heic"
    assert page.one("form").attributes["data-most-bytes"] == str(500 * 1024)
    assert page.all("select") == []


async def test_a_recipe_is_chosen_where_there_are_several(opening: Opening, tmp_path: Path) -> None:
    (tmp_path / "recipes.toml").write_text(RECIPES)
    async with opening(recipes=tmp_path / "recipes.toml") as opened:
        page = read_page((await opened.client.get("/console/drop")).text)
        answer = await drop(opened.client, OURS, recipe="banner")
        [event] = await announced(opened)

    assert answer.status_code == 303
    assert [one.text for one in page.one("select").all("option")] == ["default", "avatar", "banner"]
    assert event["recipe"] == "banner"


async def test_without_script_the_page_of_the_upload_follows(opened: OpenFace) -> None:
    answer = await drop(opened.client, OURS)
    [event] = await announced(opened)

    assert answer.status_code == 303
    assert answer.headers["location"] == f"/console/uploads/{default_id(event['source'])}"
    assert await stored(opened) == {event["source"]: small()}


async def test_a_script_follows_a_picture_until_it_is_ready(opened: OpenFace, catalog: Catalog) -> None:
    upload_id = await dropped(opened.client)
    assert (await outcome(opened.client, upload_id)).attributes["data-state"] == "queued"
    await taken(opened, catalog)
    await work(catalog, UUID(upload_id))
    shown = await outcome(opened.client, upload_id)

    assert shown.attributes["data-state"] == "ready"
    assert "2 variants: 64 × 48, 128 × 96." in shown.text  # noqa: RUF001 (times)
    assert shown.one("img").attributes["src"].startswith("/console/variants/")
    assert shown.one("a").attributes["href"] == f"/console/uploads/{upload_id}"


async def test_the_reason_of_a_failure_is_text_whatever_it_says(opened: OpenFace, catalog: Catalog) -> None:
    upload_id = await dropped(opened.client)
    await taken(opened, catalog)
    why = "<img src=x onerror=alert(1)>\u202e"
    await commit(catalog, Failed(await claim(catalog, UUID(upload_id)), "corrupt_image", why))
    shown = await outcome(opened.client, upload_id)

    assert shown.attributes["data-state"] == "failed"
    assert "corrupt_image <img src=x onerror=alert(1)>\\u202e" in shown.text
    assert shown.all("img") == []


async def test_a_bug_of_ours_is_named_without_its_traceback(opened: OpenFace, catalog: Catalog) -> None:
    upload_id = await dropped(opened.client)
    await taken(opened, catalog)
    await commit(catalog, Failed(await claim(catalog, UUID(upload_id)), "internal_error", "Traceback …"))

    assert "Traceback" not in (await outcome(opened.client, upload_id)).text


async def test_another_try_of_a_script_makes_no_second_upload(opened: OpenFace) -> None:
    first, second = [await dropped(opened.client, {"Idempotency-Key": "one"}) for _ in range(2)]

    assert first == second
    assert len({event["source"] for event in await announced(opened)}) == 1


@pytest.mark.parametrize("by_script", [True, False])
async def test_a_picture_that_is_too_large_is_refused_with_the_limit(
    client: httpx.AsyncClient, by_script: bool
) -> None:
    answer = await drop(client, BY_SCRIPT if by_script else OURS, bytes(11 << 20))

    assert answer.status_code == 413
    assert "connection" not in answer.headers  # or a browser that still sends would not read the answer
    if by_script:
        assert answer.json()["detail"] == "An upload has at most 10 MiB."
    else:
        assert "An upload has at most 10 MiB." in read_page(answer.text).one("main").text


async def test_what_is_no_picture_is_refused_with_the_reason(client: httpx.AsyncClient) -> None:
    answer = await drop(client, BY_SCRIPT, b"%PDF-1.7 " + bytes(100))

    assert answer.status_code == 415
    assert "PDF" in answer.json()["detail"]


async def test_a_page_of_another_site_uploads_nothing(opened: OpenFace) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}, {}):
        answer = await drop(opened.client, headers)
        assert answer.status_code == 403
    assert await announced(opened) == []


async def test_a_key_that_only_reads_has_no_place_to_drop(opened: OpenFace) -> None:
    key = basic(await opened.key(scopes="read"))
    assert (await opened.client.get("/console/drop", headers=key)).status_code == 403
    page = await opened.client.get("/console/none", headers=key)
    answer = await drop(opened.client, {**key, **OURS})

    assert answer.status_code == 403
    assert "drop" not in page.text
    assert await announced(opened) == []


async def test_nobody_drops_anything_on_a_demo(opening: Opening) -> None:
    async with opening(console="demo") as opened:
        assert (await opened.client.get("/console/drop")).status_code == 403
        answer = await drop(opened.client, OURS)
        assert answer.status_code == 403
        assert await announced(opened) == []


async def test_a_key_that_is_bound_drops_into_its_own_folder_and_sees_its_own_alone(opened: OpenFace) -> None:
    theirs = basic(await opened.key("ada", "read,upload", owner="ada"))
    other = basic(await opened.key("bob", "read,upload", owner="bob"))
    page = read_page((await opened.client.get("/console/drop", headers=theirs)).text)
    upload_id = await dropped(opened.client, theirs)
    [event] = await announced(opened)

    assert event["source"].startswith("uploads/ada/http/")
    assert "uploads/ada/http/" in page.one("p", id="drop-limits").text
    assert (await opened.client.get(f"/console/drop/{upload_id}", headers=theirs)).status_code == 200
    assert (await opened.client.get(f"/console/drop/{upload_id}", headers=other)).status_code == 404


async def test_every_upload_by_the_console_is_a_line_of_the_log(
    opened: OpenFace, capfd: pytest.CaptureFixture[str]
) -> None:
    key = basic(await opened.key("ada", "operate"))
    upload_id = await dropped(opened.client, key)

    assert re.search(f"console_action +action=upload by=ada upload={upload_id}", capfd.readouterr().out)
