"""The console's page of one upload: its picture, what is known of it, what became of it, what can be done."""

import asyncio
import shlex
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import httpx
import orjson
import pytest

from pipelines.decoder.refusal import corrupt
from pipelines.placeholders import Placeholder, picture_of
from scripts.redis_server import RedisServer
from storage.catalog.records import About, Failed, Original, Ready, StoredVariant, StreamId, UploadRequested
from storage.keys import variant_key
from tests.support.catalogs import (
    CAT,
    SHA,
    SOURCE,
    THUMBHASH,
    claim,
    commit,
    delete_event,
    failed,
    letter,
    postponed,
    ready,
    take,
    upload_event,
    work,
)
from tests.support.console_page import Element, read_page
from tests.support.face import OpenFace, opened_face, settings_in
from worker.documents import OUR_FAULT
from worker.http.console import stored_files

pytestmark = pytest.mark.rotating(10, of="module")

PAGE = f"/console/uploads/{CAT}"
KEYS = [variant_key(UUID(int=number), "jpeg") for number in (1, 2)]
FORM = "application/x-www-form-urlencoded"
HOSTILE = "uploads/<img src=x onerror=alert(1)>\u202egpj.jpg"
TRACEBACK = "Traceback (most recent call last):\n  File decode.py\nValueError: no"


async def look(opened: OpenFace, key: dict[str, str] | None = None, status: int = 200) -> Element:
    """The page's content."""
    answer = await opened.client.get(PAGE, headers=key)
    assert answer.status_code == status, answer.text
    return read_page(answer.text).one("main")


async def basic(opened: OpenFace, **key: str) -> dict[str, str]:
    """A new key as a browser sends it."""
    secret = (await opened.key(**key))["Authorization"].removeprefix("Bearer ")
    return {"Authorization": "Basic " + b64encode(f"me:{secret}".encode()).decode()}


def known(page: Element) -> dict[str, str]:
    """What is said of the upload, by its name."""
    return {one.one("dt").text: one.one("dd").text for one in page.one("dl").all("div")}


def buttons(page: Element) -> dict[str, str]:
    """The buttons of forms, by the path that they post to."""
    return {one.attributes["action"]: one.one("button").text for one in page.all("form", method="post")}


async def put(opened: OpenFace, *keys: str) -> None:
    """There are files under these keys."""
    await opened.face.stores.blobs.store([(key, b"bytes") for key in keys])


async def make_ready(opened: OpenFace, there: Sequence[str] = (SOURCE, *KEYS), /, **metadata: object) -> None:
    """CAT is ready, with a small and a large variant; `there` are the files that are not gone."""
    catalog = opened.face.stores.catalog
    await put(opened, *there)
    await take(catalog, upload_event(1, CAT, SOURCE, **metadata))
    original = Original("stamp", SHA, 400_000, "jpeg", 4000, 3000, "#a0b1c2")
    made = [
        StoredVariant("thumb", KEYS[0], 150, 113, 5_000, SHA),
        StoredVariant("large", KEYS[1], 1920, 1440, 195_000, SHA),
    ]
    await commit(catalog, Ready(await claim(catalog), original, made))


async def test_the_large_variant_is_shown_on_its_colour_within_a_screen(opened: OpenFace) -> None:
    await make_ready(opened)
    stage = (await look(opened)).one("div", class_="large")

    picture = stage.one("img")
    assert picture.attributes["src"] == stage.one("a").attributes["href"] == f"/console/{KEYS[1]}"
    assert (picture.attributes["width"], picture.attributes["height"]) == ("1013", "760")
    assert (picture.attributes["alt"], stage.one("rect").attributes["fill"]) == ("cat.jpg", "#a0b1c2")


async def test_a_picture_is_shown_on_its_placeholder_which_is_part_of_the_page(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(1))
    outcome = ready(await claim(catalog))
    await put(opened, SOURCE, *(one.key for one in outcome.variants))
    await commit(catalog, outcome)

    ground = (await look(opened)).one("svg", class_="ground")
    assert ground.one("image").attributes["href"] == picture_of(Placeholder(thumbhash=THUMBHASH))
    assert ground.all("rect") == []


async def test_the_page_says_what_is_known_of_the_original_and_whose_it_is(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    event = UploadRequested(StreamId(1), CAT, SOURCE, "square", owner="ada", traceparent=trace)
    await put(opened, SOURCE)
    await take(catalog, event)
    await commit(catalog, ready(await claim(catalog)))
    page = await look(opened)
    said = known(page)

    assert said["Source"].startswith(SOURCE)
    assert said["Id"].startswith(str(CAT))
    assert said["Original"] == "640 \N{MULTIPLICATION SIGN} 480 jpeg, 1.0 kB (1,000 bytes)"
    assert said["SHA-256"].startswith("a" * 64)
    assert (said["Colour"], said["Recipe"], said["Owner"]) == ("#102030", "square", "ada")
    assert said["Trace"].startswith("a" * 32)
    copied = [one.attributes["data-copy"] for one in page.one("dl").all("button")]
    assert copied == [SOURCE, str(CAT), "a" * 64, "a" * 32]
    links = {one.text: one.attributes["href"] for one in page.one("dl").all("a")}
    assert links["square"] == "/console/uploads?recipe=square"
    assert links["ada"] == "/console/uploads?owner=ada"
    assert links["Save the original"] == f"{PAGE}/original"


async def test_variants_have_their_sizes_their_bytes_and_the_links_of_apps(opened: OpenFace) -> None:
    await make_ready(opened)
    page = await look(opened)
    table = page.one("table")

    assert table.one("caption").text == "2 of the recipe default , 200.0 kB together, 50% of the original"
    rows = [
        [one.text for one in row.children if isinstance(one, Element)] for row in table.one("tbody").all("tr")
    ]
    assert [row[:3] for row in rows] == [
        ["thumb", "150 \N{MULTIPLICATION SIGN} 113", "5.0 kB"],
        ["large", "1,920 \N{MULTIPLICATION SIGN} 1,440", "195.0 kB"],
    ]
    assert [one.attributes["data-copy"] for one in table.all("button")] == [f"/files/{key}" for key in KEYS]
    srcset = f"/files/{KEYS[0]} 150w, /files/{KEYS[1]} 1920w"
    assert page.one("details", id="srcset").one("button").attributes["data-copy"] == srcset


async def test_links_are_signed_where_apps_need_signed_ones(
    installation: Path, server: RedisServer, catalog_url: str
) -> None:
    settings = settings_in(installation, server.url, catalog_url=catalog_url, http_files="signed")
    async with opened_face(settings) as opened:
        await make_ready(opened)
        page = await look(opened)
        assert "signature=" in page.one("table").all("button")[0].attributes["data-copy"]
        assert "expire" in page.one("details", id="srcset").text
        assert page.one("div", class_="large").one("img").attributes["src"] == f"/console/{KEYS[1]}"


async def test_metadata_is_shown_as_the_json_that_it_is(opened: OpenFace) -> None:
    await make_ready(opened, title="<b>\u202e", tags=["a", "b"])
    answer = await opened.client.get(PAGE)
    text = next(one for one in read_page(answer.text).all("pre") if "title" in one.text).children[0]

    assert isinstance(text, str)
    assert orjson.loads(text.replace("\\u202e", "!")) == {"title": "<b>!", "tags": ["a", "b"]}
    assert "\u202e" not in answer.text


# -- what became of it


async def test_messages_come_newest_first_by_their_number_with_their_bodies(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await make_ready(opened, order=17)
    await take(catalog, upload_event(2, order=18))
    await commit(catalog, failed(await claim(catalog)))
    first, second = (await look(opened)).one("ol", class_="messages").all("li")

    assert first.text.startswith("2 upload.failed corrupt_image after 1 try")
    assert second.text.startswith("1 upload.ready 2 variants")
    assert first.one("time").attributes["datetime"].endswith("Z")
    body = second.one("details").one("pre").children[0]
    assert isinstance(body, str)
    assert orjson.loads(body)["metadata"] == {"order": 17}


async def test_of_many_messages_the_newest_are_shown(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    for number in range(1, 23):
        await take(catalog, upload_event(number))
        await commit(catalog, failed(await claim(catalog)))
    page = await look(opened)

    assert len(page.one("ol", class_="messages").all("li")) == 20
    assert "These are the newest 20." in page.text


async def test_an_event_about_it_that_was_refused_leads_to_the_dead_letters(opened: OpenFace) -> None:
    await make_ready(opened)
    refused = replace(letter("9-0"), about=About(CAT, SOURCE))
    await opened.face.stores.catalog.intake.take([], [refused])
    message = (await look(opened)).one("li", id="message-2")

    assert message.text.startswith("2 upload.failed invalid_event of an event that was refused")
    assert message.one("a").attributes["href"] == "/console/dead-letters"


async def test_a_failure_says_its_code_its_reason_and_its_tries(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(1))
    await commit(catalog, Failed(await claim(catalog), "corrupt_image", corrupt("PNG", "bad <b>").message))
    page = await look(opened)

    assert page.one("div", id="why").text.startswith("corrupt_image The PNG picture is damaged")
    assert page.one("p", id="standing").text == "failed now , after 1 try"  # none of 8 is to come
    assert page.one("div", class_="large").one("img").attributes["src"] == f"/console/originals/{CAT}"


async def test_an_upload_that_waits_for_another_try_says_when(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(1))
    await commit(catalog, postponed(await claim(catalog), 3_600_000))
    page = await look(opened)

    assert page.one("p", id="standing").text == "queued now , try 2 of 8 in 59 min"
    assert buttons(page)[f"{PAGE}/retry"] == "Retry now"


@pytest.mark.rotating(1)
async def test_a_traceback_is_for_operators_of_all_alone(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(1))
    await commit(catalog, Failed(await claim(catalog), "internal_error", TRACEBACK))
    operator = await basic(opened, name="a", scopes="operate")
    reader = await basic(opened, name="b", scopes="read")
    bound = await basic(opened, name="c", scopes="operate", owner="2026")

    for key, told in ((operator, [TRACEBACK]), (reader, []), (bound, [])):
        why = (await look(opened, key)).one("div", id="why")
        assert OUR_FAULT in why.text
        assert [one.children[0] for one in why.all("pre")] == told
        assert ("decode.py" in why.text) == bool(told)


async def test_an_upload_that_no_worker_has_taken_yet_is_queued(opened: OpenFace) -> None:
    await opened.face.queue.announced.add(CAT, {"source": SOURCE, "metadata": {"order": 17}})
    page = await look(opened)

    assert page.one("span", class_="state").text == "queued"
    assert "no worker has taken it yet" in page.one("p", class_="notice").text


async def test_a_deleted_upload_says_so_and_what_became_of_it(opened: OpenFace) -> None:
    await make_ready(opened, order=17)
    await take(opened.face.stores.catalog, delete_event(2))
    await work(opened.face.stores.catalog)
    page = await look(opened, status=404)

    assert page.one("div", class_="notice").text.startswith("This upload was deleted.")
    assert page.one("li", id="message-2").text.startswith("2 upload.deleted")
    assert (page.all("img"), buttons(page)) == ([], {})
    refreshed = await opened.client.get(PAGE, headers={"HX-Request": "true"})
    assert refreshed.status_code == 200  # htmx would leave the page as it is


async def test_what_is_no_upload_has_no_page(client: httpx.AsyncClient) -> None:
    asked = {PAGE: 404, "/console/uploads/no-id": 400, f"{PAGE}?x=1": 400}

    assert {path: (await client.get(path)).status_code for path in asked} == asked


# -- files that are gone


async def test_variants_whose_files_are_gone_are_named_with_the_command_that_makes_them(
    opened: OpenFace,
) -> None:
    await make_ready(opened, [SOURCE, KEYS[0]])
    page = await look(opened)
    notice = page.one("div", id="gone")

    assert notice.text.startswith("1 variant file is gone from the storage")
    assert notice.one("button").attributes["data-copy"] == "media reprocess --missing"
    assert page.one("div", class_="large").one("img").attributes["src"] == f"/console/{KEYS[0]}"
    assert [row.text.endswith("gone") for row in page.one("table").all("td", class_="number")][1::2] == [
        False,
        True,
    ]


async def test_an_original_that_is_gone_is_to_be_brought_back(opened: OpenFace) -> None:
    await make_ready(opened, KEYS)
    page = await look(opened)
    assert page.one("div", id="gone").text.startswith("Its original is gone from the storage.")
    assert page.all("a", href=f"{PAGE}/original") == []
    for key in KEYS:
        await opened.face.stores.blobs.delete(key)
    page = await look(opened)

    assert "Its original is gone, too" in page.one("div", id="gone").text
    assert page.one("p", class_="tile").text == "The files of its pictures are gone."


async def test_an_upload_whose_files_are_there_has_no_notice(opened: OpenFace) -> None:
    await make_ready(opened)

    assert (await look(opened)).all("div", class_="notice") == []


async def test_a_storage_that_hangs_holds_up_no_page_and_is_asked_by_few(
    opened: OpenFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_ready(opened, [])
    asked = []

    async def hang(keys: Sequence[str]) -> None:
        asked.append(keys)
        await asyncio.Event().wait()

    monkeypatch.setattr(stored_files, "WITHIN_S", 0.01)
    monkeypatch.setattr(opened.face.stores.blobs, "stat", hang)
    pages = await asyncio.gather(*(look(opened) for _ in range(8)))

    assert [page.all("div", class_="notice") for page in pages] == [[]] * 8
    assert len(asked) == stored_files.MOST_LOOKS


async def test_a_deleted_upload_says_what_brings_it_back(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await put(opened, SOURCE)
    await take(catalog, UploadRequested(StreamId(1), CAT, SOURCE, "square", owner="ada"))
    await take(catalog, delete_event(2))
    await work(catalog)
    notice = (await look(opened, status=404)).one("div", class_="notice")

    assert "send its event again" in notice.text
    *sending, event = shlex.split(notice.one("button").attributes["data-copy"])
    assert sending == ["redis-cli", "XADD", "media:uploads", "*", "event"]
    assert orjson.loads(event) == {"source": SOURCE, "recipe": "square", "owner": "ada"}
    await opened.face.stores.blobs.delete(SOURCE)
    assert "put the original there again" in (await look(opened, status=404)).text


# -- who sees and does what


async def test_a_retry_that_cannot_help_by_itself_is_said_to_be_so(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    said = {}
    for number, code in enumerate(("source_missing", "source_too_large", "storage_full"), 1):
        await take(catalog, upload_event(number))
        await commit(catalog, Failed(await claim(catalog), code, "It did."))
        page = await look(opened)
        said[code] = [one.text for one in page.all("p", id="retry-hint")]

    assert said == {
        "source_missing": ["A retry helps only once the original is there."],
        "source_too_large": ["A retry helps only once the original was replaced, or the settings accept it."],
        "storage_full": [],
    }


async def test_the_name_that_an_app_gives_a_file_stands_below_its_own(opened: OpenFace) -> None:
    given: list[tuple[dict[str, object], list[str]]] = [
        ({"filename": "Beach\u202e.jpg", "name": "x"}, ["Beach\\u202e.jpg"]),
        ({"name": 7}, []),
    ]
    for number, (metadata, name) in enumerate(given, 1):
        await take(opened.face.stores.catalog, replace(upload_event(number), metadata=metadata))
        page = await look(opened)
        listed = read_page((await opened.client.get("/console/uploads")).text)
        assert [one.text for one in page.all("p", class_="own-name")] == name
        assert [one.text for one in listed.all("p", class_="own-name")] == name


async def test_operators_may_delete_and_retry_what_failed(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await make_ready(opened)
    operator = await basic(opened, scopes="operate")
    assert buttons(await look(opened, operator)) == {f"{PAGE}/delete": "Delete…"}
    await take(catalog, upload_event(2))
    await commit(catalog, failed(await claim(catalog)))

    assert buttons(await look(opened, operator)) == {f"{PAGE}/retry": "Retry", f"{PAGE}/delete": "Delete…"}
    reader = await look(opened, await basic(opened, name="reader", scopes="read"))
    assert (buttons(reader), reader.all("a", href=f"{PAGE}/original")) == ({}, [])


async def test_a_retry_leads_back_to_the_page_which_says_what_became_of_it(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(1))
    await commit(catalog, failed(await claim(catalog)))
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": FORM}
    answer = await opened.client.post(f"{PAGE}/retry", headers=headers)
    page = read_page((await opened.client.get(answer.headers["location"])).text)

    assert "1 is being tried again" in page.one("div", class_="notice").text
    assert "next try" not in page.one("p", id="standing").text
    assert page.one("span", class_="state").text == "queued"
    assert (await opened.client.get(f"{PAGE}?done=x")).status_code == 400


@pytest.mark.rotating(1)
async def test_an_upload_of_others_is_not_there(opened: OpenFace) -> None:
    await make_ready(opened)

    for number, bound in enumerate(({"owner": "other"}, {"prefix": "uploads/other/"})):
        page = await look(opened, await basic(opened, name=f"k{number}", scopes="read", **bound), 404)
        assert "There is no such upload." in page.text
    await look(opened, await basic(opened, name="theirs", scopes="read", owner="2026"))


@pytest.mark.rotating(1)
async def test_a_demo_shows_neither_source_nor_owner_nor_metadata_nor_messages(
    installation: Path, server: RedisServer, catalog_url: str
) -> None:
    async with opened_face(
        settings_in(installation, server.url, catalog_url=catalog_url, console="demo")
    ) as opened:
        catalog = opened.face.stores.catalog
        event = replace(upload_event(1, source="uploads/secret/name.jpg", token="a-token"), owner="ada")
        await take(catalog, event)
        await commit(
            catalog, Failed(await claim(catalog), "source_missing", "uploads/secret/name.jpg is gone")
        )
        answer = await opened.client.get(PAGE)

    page = read_page(answer.text).one("main")
    assert [word for word in ("secret", "name.jpg", "a-token", "ada") if word in answer.text] == []
    assert page.one("h1").text == "upload 4a2ca705"
    assert page.one("li", id="message-1").all("details") == []


async def test_a_hostile_name_is_text_on_the_page_of_its_upload(opened: OpenFace) -> None:
    await take(opened.face.stores.catalog, upload_event(1, source=HOSTILE))
    page = await look(opened)

    assert page.all("img") == []
    assert page.one("h1").text == HOSTILE.removeprefix("uploads/").replace("\u202e", "\\u202e")
    assert known(page)["Source"].startswith("uploads/<img src=x onerror=alert(1)>\\u202egpj.jpg")
