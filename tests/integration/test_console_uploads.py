"""The console's page of uploads: what it shows, how it is filtered and searched, and who sees what."""

import shlex
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode
from uuid import UUID

import httpx
import orjson
import pytest
from sqlalchemy import text

from pipelines.decoder.refusal import corrupt, empty
from scripts.redis_server import RedisServer
from storage.catalog import reading
from storage.catalog.opening import Catalog
from storage.catalog.records import Failed, StreamId, UploadRequested
from tests.support.catalogs import (
    CAT,
    SOURCE,
    claim,
    commit,
    delete_event,
    failed,
    ready,
    take,
    upload_event,
    work,
)
from tests.support.console_page import Element, read_page
from tests.support.face import OpenFace, opened_face, settings_in
from worker.http.console import uploads

pytestmark = pytest.mark.rotating(9, of="module")

UPLOADS = "/console/uploads"
HOSTILE = "uploads/shop/<img src=x onerror=alert(1)>\u202egpj.jpg"


async def look(opened: OpenFace, key: dict[str, str] | None = None, /, **query: str) -> Element:
    """The page's content, with that query."""
    answer = await opened.client.get(f"{UPLOADS}?{urlencode(query)}", headers=key)
    assert answer.status_code == 200, answer.text
    return read_page(answer.text).one("main")


def names(page: Element) -> list[str]:
    """The names of the uploads that are shown."""
    return [one.one("h2").text for one in page.all("li", class_="picture")]


def counted(page: Element) -> str:
    return page.one("span", id="count").text


async def some(catalog: Catalog, count: int, folder: str = "shop") -> list[UUID]:
    """So many queued uploads below a folder."""
    ids = [UUID(int=number) for number in range(1, count + 1)]
    await take(catalog, *(upload_event(one.int, one, f"uploads/{folder}/{one.int:03}.jpg") for one in ids))
    return ids


async def basic(opened: OpenFace, **key: str) -> dict[str, str]:
    """A new key as a browser sends it."""
    secret = (await opened.key(**key))["Authorization"].removeprefix("Bearer ")
    return {"Authorization": "Basic " + b64encode(f"me:{secret}".encode()).decode()}


async def test_an_upload_is_shown_by_its_least_picture_on_its_placeholder(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(1))
    done = ready(await claim(catalog), names=("icon", "thumb", "large"))
    await commit(catalog, done)
    card = (await look(opened)).one("li", id=f"upload-{CAT}")

    picture = card.one("img")  # of 64, 128 and 192 px: what is smaller than 120 is an icon
    assert picture.attributes["src"] == f"/console/{done.variants[1].key}"
    assert (picture.attributes["width"], picture.attributes["height"]) == ("128", "96")
    assert (picture.attributes["loading"], picture.attributes["alt"]) == ("lazy", "cat.jpg")
    assert card.one("image").attributes["href"].startswith("data:image/png;base64,")
    assert card.one("a").attributes == {"class": "stage", "href": f"/console/uploads/{CAT}"}
    assert "640 \N{MULTIPLICATION SIGN} 480 · 1.0 kB" in card.text
    assert card.one("h2").attributes["title"] == SOURCE


async def test_one_record_that_is_wrong_keeps_nobody_from_seeing_the_others(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await some(catalog, 2)
    await work(catalog, UUID(int=1))
    async with catalog.database.writing() as connection:
        await connection.execute(text("UPDATE variants SET height = 0"))
        await connection.execute(text(f"UPDATE uploads SET changed_ms = {2**62} WHERE state = 'ready'"))

    assert names(await look(opened)) == ["001.jpg", "002.jpg"]


async def test_a_failed_upload_shows_its_original_where_a_decoder_has_found_one_for_browsers(
    opened: OpenFace,
) -> None:
    catalog = opened.face.stores.catalog
    reasons = [corrupt("JPEG"), corrupt("AVIF", "bad box"), corrupt("TIFF"), empty()]
    for number, refused in enumerate(reasons):
        await take(catalog, upload_event(1, UUID(int=number), f"uploads/{number}"))
        failure = Failed(await claim(catalog, UUID(int=number)), refused.code, refused.message)
        await commit(catalog, failure)
    page = await look(opened)

    shown = {one.attributes["src"] for one in page.all("img")}
    assert shown == {f"/console/originals/{UUID(int=number)}" for number in (0, 1)}
    assert [one.text for one in page.all("code")] == ["corrupt_image"] * 4


async def test_pages_lead_to_the_next_and_back_to_the_newest_and_keep_the_filters(
    opened: OpenFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PAGE", 2)
    await some(opened.face.stores.catalog, 5)
    path, seen = f"{UPLOADS}?state=queued", list[str]()
    for _ in range(3):
        page = read_page((await opened.client.get(path)).text).one("main")
        seen += names(page)
        assert counted(page) == "5 uploads"
        path = next((one.attributes["href"] for one in page.all("a", rel="next")), "")

    assert seen == [f"{number:03}.jpg" for number in (5, 4, 3, 2, 1)]
    assert path == ""
    assert page.one("nav", class_="pager").one("a").attributes["href"] == f"{UPLOADS}?state=queued"


async def test_filters_are_those_of_the_url_and_stand_in_the_form_again(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, UploadRequested(StreamId(1), UUID(int=1), "uploads/a/1.jpg", "default", owner="ada"))
    await take(catalog, UploadRequested(StreamId(2), UUID(int=2), "uploads/b/2.jpg", "square", owner="bob"))
    await take(catalog, upload_event(3, UUID(int=3), "uploads/c/3.jpg"))
    await commit(catalog, failed(await claim(catalog, UUID(int=3))))

    asked = {
        "owner": "ada",
        "recipe": "square",
        "code": "corrupt_image",
        "source": "uploads/c/",
        "state": "failed",
    }
    found = {name: names(await look(opened, **{name: value})) for name, value in asked.items()}
    assert found == {
        "owner": ["1.jpg"],
        "recipe": ["2.jpg"],
        **{name: ["3.jpg"] for name in ("code", "source", "state")},
    }
    form = (await look(opened, **asked)).one("form", role="search")
    filled = {one.attributes["name"]: one.attributes["value"] for one in form.all("input")}
    assert filled == {**{name: asked[name] for name in filled if name in asked}, "since": "", "until": ""}
    assert form.one("option", selected="").text == "corrupt_image"


async def test_a_time_is_a_span_before_now_or_a_moment(opened: OpenFace) -> None:
    await some(opened.face.stores.catalog, 1)
    asked = [{"since": "1h"}, {"since": "2026-11-21T10:00"}, {"since": "1700000000"}, {"until": "1h"}]
    asked += [{"until": "2020-01-01 10:00"}, {"since": "7d", "until": "1min"}]

    assert [len(names(await look(opened, **one))) for one in asked] == [1, 1, 1, 0, 0, 0]


async def test_a_wrong_query_is_explained_on_a_page(client: httpx.AsyncClient) -> None:
    for query, words in {
        "state=finished": "state: must be 'queued'",
        "code=broken": "there is no such code",
        "since=yesterday": "such as 1h, 24h or 7d",
        "until=99999999999999": "until: ",
        "page=2": "there is no parameter page",
        "cursor=abc": "ask for the first page",
        "source=a%00b": "control characters",
        "state=ready&state=failed": "more than once",
    }.items():
        answer = await client.get(f"{UPLOADS}?{query}")
        assert (query, answer.status_code) == (query, 400)
        assert words in read_page(answer.text).one("main").text


async def test_fields_of_the_form_that_nobody_has_filled_are_not_in_the_link_to_pass_on(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get(f"{UPLOADS}?source=uploads%2Fa&code=&recipe=&owner=&since=&until=&state=failed")

    assert answer.status_code == 303
    assert answer.headers["location"] == f"{UPLOADS}?state=failed&source=uploads%2Fa"


# -- searching


async def test_an_id_leads_to_its_upload_also_once_that_was_deleted(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(1))
    found = [await opened.client.get(f"{UPLOADS}?source={text}") for text in (CAT, str(CAT).upper(), CAT.hex)]
    await take(catalog, delete_event(2))
    await work(catalog)
    found.append(await opened.client.get(f"{UPLOADS}?source={CAT}"))

    told = [(answer.status_code, answer.headers["location"]) for answer in found]
    assert told == [(303, f"{UPLOADS}/{CAT}")] * 4


async def test_an_unknown_id_and_one_of_others_is_said_to_be_unknown(opened: OpenFace) -> None:
    await take(opened.face.stores.catalog, upload_event(1, source="uploads/shop/cat.jpg"))
    bound = await basic(opened, scopes="read", owner="other")

    for headers, wanted in ((bound, CAT), (bound, UUID(int=7))):
        page = await look(opened, headers, source=str(wanted))
        assert page.one("p", class_="notice").text == f"There is no upload with the id {wanted} ."


async def test_a_source_is_found_by_its_beginning_with_or_without_the_common_folder(
    opened: OpenFace,
) -> None:
    await some(opened.face.stores.catalog, 3)

    for searched in ("uploads/shop/002.jpg", "shop/002", "/shop/002.jpg", " uploads/shop/002"):
        assert names(await look(opened, source=searched)) == ["002.jpg"]


async def test_the_beginning_of_an_id_leads_to_its_upload_or_to_all_that_begin_so(
    opened: OpenFace,
) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(9), *(upload_event(n, UUID(int=n), f"uploads/{n}") for n in (1, 2)))
    answers = [
        await opened.client.get(f"{UPLOADS}?source={text}")
        for text in ("4a2ca705", "4A2CA705-03AA-52", CAT.hex[:31])
    ]
    assert [answer.headers["location"] for answer in answers] == [f"{UPLOADS}/{CAT}"] * 3

    page = await look(opened, source="00000000")
    assert (names(page), counted(page)) == (["1", "2"], "2 uploads")
    for searched in ("4a2ca70", "4a2ca706"):
        assert names(await look(opened, source=searched)) == []
    bound = await basic(opened, scopes="read", owner="other")
    assert names(await look(opened, bound, source="4a2ca705")) == []


async def test_a_search_for_what_was_deleted_says_so_and_leads_there(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await some(catalog, 3)
    for number in (1, 2):
        await take(catalog, delete_event(8 + number, UUID(int=number)))
        await work(catalog, UUID(int=number))
    found = {}
    for searched in ("shop/001.jpg", "shop/00", "shop/none"):
        nothing = (await look(opened, source=searched)).all("div", class_="nothing")
        found[searched] = [(one.text, one.attributes["href"]) for each in nothing for one in each.all("a")][
            :1
        ]

    assert found == {
        "shop/001.jpg": [("show it", f"{UPLOADS}/{UUID(int=1)}")],
        "shop/00": [],  # one is there
        "shop/none": [("Show all", UPLOADS)],
    }
    bound = await basic(opened, scopes="read", owner="other")
    assert (
        "deleted," not in (await look(opened, bound, source="shop/001.jpg")).one("div", class_="nothing").text
    )


async def test_a_file_that_nobody_has_announced_is_there_with_the_command_that_does(
    opened: OpenFace,
) -> None:
    await opened.face.stores.blobs.store([("uploads/shop/it's.jpg", b"x")])
    notice = (await look(opened, source="shop/it's.jpg")).one("div", id="unknown-file")

    assert notice.text.startswith("The file is there,")
    assert "0 events wait, and no worker is alive" in notice.text
    assert "1 day after it was written" in notice.text
    event = shlex.split(notice.one("button").attributes["data-copy"])[-1]
    assert orjson.loads(event) == {"source": "uploads/shop/it's.jpg"}
    others = await look(opened, await basic(opened, scopes="read", owner="other"), source="shop/it's.jpg")
    assert others.all("div", id="unknown-file") == []


async def test_an_upload_of_another_owner_in_ones_own_folder_is_no_unknown_file(opened: OpenFace) -> None:
    await opened.face.stores.blobs.store([("uploads/mine/a.jpg", b"x")])
    event = replace(upload_event(1, source="uploads/mine/a.jpg"), owner="theirs")
    await take(opened.face.stores.catalog, event)
    page = await look(opened, await basic(opened, scopes="read", owner="mine"), source="mine/a.jpg")

    assert (names(page), page.all("div", id="unknown-file")) == ([], [])


async def test_a_search_in_vain_says_what_is_searched(opened: OpenFace) -> None:
    page = await look(opened, source="cat.jpg")

    assert "Sources are found by how they begin" in page.one("p", id="how-to-search").text
    assert "Source begins with, or id" in page.one("form").text


# -- how many there are, and when there are none


async def test_totals_say_exactly_how_many_and_what_is_counted_says_at_least(
    opened: OpenFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST", 3)
    catalog = opened.face.stores.catalog
    await some(catalog, 5)
    await take(catalog, delete_event(9, UUID(int=5)))
    await work(catalog, UUID(int=5))

    assert [counted(await look(opened)), counted(await look(opened, state="queued"))] == ["4 uploads"] * 2
    assert counted(await look(opened, state="deleted")) == "1 upload"
    assert counted(await look(opened, since="1h")) == "3+ uploads"
    assert counted(await look(opened, source="shop/00")) == "3+ uploads"


async def test_what_few_uploads_are_is_followed_through_pages_that_may_be_empty(
    opened: OpenFace, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await some(catalog, 5)
    async with catalog.database.writing() as connection:
        await connection.execute(text("UPDATE uploads SET recipe = 'gone' WHERE id LIKE '%1'"))
    monkeypatch.setattr(reading, "LOOK", 2)
    path, pages = f"{UPLOADS}?state=queued&recipe=gone", []
    while path:
        page = read_page((await opened.client.get(path)).text).one("main")
        path = next((one.attributes["href"] for one in page.all("a", rel="next")), "")
        pages.append(names(page))

    assert pages == [[], [], ["001.jpg"]]
    assert counted(page) == "Too many to count at once"


async def test_a_page_without_uploads_says_what_to_do(opened: OpenFace) -> None:
    empty = await look(opened)
    assert empty.one("a", href="/console/drop").text == "Drop a picture"
    none = await look(opened, state="failed", since="1h")
    assert {one.text: one.attributes["href"] for one in none.one("div", class_="nothing").all("a")} == {
        "Show all": UPLOADS,
        "look at any time": f"{UPLOADS}?state=failed",
    }


# -- who sees what


@pytest.mark.rotating(1)
async def test_a_bound_key_sees_its_own_alone_whatever_it_asks(opened: OpenFace) -> None:
    catalog = opened.face.stores.catalog
    await take(catalog, upload_event(1, UUID(int=1), "uploads/mine/1.jpg"))
    await take(catalog, upload_event(2, UUID(int=2), "uploads/theirs/2.jpg"))
    by_owner = await basic(opened, name="a", scopes="read", owner="mine")
    by_folder = await basic(opened, name="b", scopes="read", prefix="uploads/mine/")

    for key in (by_owner, by_folder):
        for query in ({}, {"state": "queued"}, {"source": "uploads/"}, {"owner": "mine"}):
            page = await look(opened, key, **query)
            assert (names(page), counted(page)) == (["1.jpg"], "1 upload")
        for query in ({"owner": "theirs"}, {"source": "uploads/theirs/"}):
            page = await look(opened, key, **query)
            assert (names(page), counted(page)) == ([], "0 uploads")


@pytest.mark.rotating(1)
async def test_a_demo_names_no_source_and_no_owner(
    installation: Path, server: RedisServer, catalog_url: str
) -> None:
    async with opened_face(
        settings_in(installation, server.url, catalog_url=catalog_url, console="demo")
    ) as opened:
        await take(opened.face.stores.catalog, upload_event(1, source="uploads/ada/secret.jpg"))
        answer = await opened.client.get(UPLOADS)
        assert "secret" not in answer.text
        assert "ada" not in answer.text
        assert names(read_page(answer.text)) == ["upload 4a2ca705"]
        asked = [await opened.client.get(f"{UPLOADS}?{query}") for query in ("source=uploads/a", "owner=ada")]
        assert [one.status_code for one in asked] == [400, 400]
        assert (await opened.client.get(f"{UPLOADS}?source={CAT}")).status_code == 303
        assert (await opened.client.get(f"{UPLOADS}?source=4a2ca705")).status_code == 303
        assert names(await look(opened, source="4a2ca706")) == []


async def test_a_hostile_name_is_text_everywhere(opened: OpenFace) -> None:
    await take(opened.face.stores.catalog, upload_event(1, source=HOSTILE))
    answer = await opened.client.get(UPLOADS)
    page = read_page(answer.text)

    assert page.all("img") == []
    assert names(page) == ["<img src=x onerror=alert(1)>\\u202egpj.jpg"]
    assert "\u202e" not in answer.text
    searched = await look(opened, source=HOSTILE, recipe='"><script>alert(1)</script>')
    assert searched.all("script") == []
    assert searched.one("input", name="recipe").attributes["value"] == '"><script>alert(1)</script>'
