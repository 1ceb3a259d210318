"""The page of failures: grouped by code and time, with what a person can do about them."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import update

from scripts.redis_server import RedisServer
from storage.catalog import reading
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from storage.catalog.tables import uploads
from tests.support.catalogs import claim, commit, failed, ready, take, upload, upload_event
from tests.support.console_page import Element, read_page
from tests.support.face import OpenFace, opened_face, settings_in
from tests.support.failures import break_one, put_off
from worker.http.console import failure_counts, failures
from worker.http.failures import MOST

pytestmark = pytest.mark.rotating(8, of="module")

PAGE = "/console/failures"
HOUR_MS = 3_600_000


async def look(client: httpx.AsyncClient, path: str = PAGE, **options: object) -> Element:
    """The page there."""
    answer = await client.get(path, **options)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return read_page(answer.text)


async def fail(catalog: Catalog, code: str, ago_ms: int = 0, source: str = "", message: str = "") -> UUID:
    """An upload that has failed with that code, so long ago."""
    upload_id = uuid4()
    await take(
        catalog, upload_event(1, upload_id, source or f"uploads/{upload_id}.jpg", filename="secret.jpg")
    )
    outcome = failed(await claim(catalog, upload_id))
    await commit(catalog, replace(outcome, code=code, message=message or outcome.message))
    changed = catalog.database.now_ms() - ago_ms
    async with catalog.database.writing() as connection:
        await connection.execute(
            update(uploads).where(uploads.c.id == str(upload_id)).values(changed_ms=changed)
        )
    return upload_id


def listed(page: Element) -> list[str]:
    """The ids of the rows."""
    return [one.attributes["id"].removeprefix("failure-") for one in page.all("li", class_="failure")]


async def test_failures_are_counted_by_code_and_time_and_each_number_leads_to_its_list(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    for code, ago_ms in [
        ("corrupt_image", 0),
        ("corrupt_image", 2 * HOUR_MS),
        ("storage_full", 48 * HOUR_MS),
    ]:
        await fail(catalog, code, ago_ms)
    page = await look(client)
    table = page.one("table", class_="codes")
    rows = [[cell.text for cell in row.all("td")] for row in table.all("tr")[1:]]
    assert rows == [["1", "2", "2", "2"], ["0", "0", "1", "1"], ["1", "2", "3", "3"]]

    for link in table.all("a"):
        assert len(listed(await look(client, link.attributes["href"]))) == int(link.text)


async def test_a_failure_is_shown_with_its_reason_its_tries_and_a_link(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    broken = await fail(catalog, "corrupt_image", source="uploads/a/<b>\u202ecat.jpg", message="<i>Torn.</i>")
    row = (await look(client)).one("li", class_="failure")

    assert row.one("a", class_="failure-name").attributes["href"] == f"/console/uploads/{broken}"
    assert row.one("a", class_="failure-name").text == r"uploads/a/<b>\u202ecat.jpg"
    assert "corrupt_image <i>Torn.</i>" in row.text
    assert "1 try failed" in row.text


async def test_where_none_of_the_latest_failures_matches_the_page_leads_to_older_ones(
    catalog: Catalog, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK", 1)
    monkeypatch.setattr(reading, "FEW", 0)
    wanted = await fail(catalog, "corrupt_image", HOUR_MS, source="uploads/a/cat.jpg")
    await fail(catalog, "corrupt_image", source="uploads/b/dog.jpg")

    page = (await look(client, f"{PAGE}?source=uploads/a/")).one("p", class_="nothing")
    assert listed(await look(client, page.one("a").attributes["href"])) == [str(wanted)]


async def test_what_was_ready_before_is_shown_with_the_variant_that_is_served(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog)))
    await take(catalog, upload_event(2))
    await commit(catalog, replace(failed(await claim(catalog)), code="decoder_crashed"))
    served = [f"/console/{variant.key}" for variant in (await upload(catalog)).variants]

    picture = (await look(client)).one("img")
    assert picture.attributes["src"] in served
    assert "uploads/2026/11/cat.jpg" in picture.attributes["alt"]


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("corrupt_image", True),
        ("decoder_crashed", False),
        ("decode_timeout", False),
        ("too_much_memory", False),
    ],
)
async def test_an_original_that_has_killed_a_decoder_is_not_shown(
    catalog: Catalog, client: httpx.AsyncClient, code: str, shown: bool
) -> None:
    broken = await fail(catalog, code, message="The JPEG picture is damaged or incomplete.")
    row = (await look(client)).one("li", class_="failure")

    originals = [f"/console/originals/{broken}"] if shown else []
    assert [image.attributes["src"] for image in row.all("img")] == originals
    assert [tile.text for tile in row.all(class_="tile")] == ([] if shown else ["jpg"])


async def test_pages_follow_each_other_without_a_gap(
    catalog: Catalog, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_PAGE", 2)
    broken = [str(await fail(catalog, "corrupt_image", ago_ms=1000 * n)) for n in range(5)]
    pages = [await look(client)]
    while older := pages[-1].all("a", rel="next"):
        pages.append(await look(client, older[0].attributes["href"]))

    assert [listed(page) for page in pages] == [broken[:2], broken[2:4], broken[4:]]
    wrong = await client.get(f"{PAGE}?code=corrupt_image&{older_of(pages[0])}")
    assert (wrong.status_code, "cursor" in wrong.text) == (400, True)


def older_of(page: Element) -> str:
    return page.one("a", rel="next").attributes["href"].partition("?")[2]


async def test_owner_and_source_narrow_the_list_and_the_numbers(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    mine = await break_one(catalog, "mine")
    await break_one(catalog, "other", at=2)
    for query in ("owner=mine", "source=uploads/mine/", "source=mine", "owner=mine&source=uploads/mi"):
        page = await look(client, f"{PAGE}?{query}&code=&within=")
        assert listed(page) == [str(mine)]
        assert page.one("tr", id="code-corrupt_image").all("td")[-1].text == "1"
        assert "Retry the 1 that matches" in page.text


async def test_what_waits_for_another_try_is_listed_apart_with_its_time(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await fail(catalog, "corrupt_image")
    waiting = await put_off(catalog, "mine", 5)
    page = await look(client)
    assert page.one("nav", class_="tabs").text == "Failed 1 Waiting for another try 1 Dead letters 0"
    letters = await look(client, "/console/dead-letters")
    assert letters.one("nav", class_="tabs").text == page.one("nav", class_="tabs").text
    assert str(waiting) not in listed(page)

    page = await look(client, f"{PAGE}?waiting=1")
    assert listed(page) == [str(waiting)]
    assert page.one("p", class_="waiting").text.startswith(
        "1 upload waits for another try, and is tried by itself in "
    )
    assert "next try in 59 s" in page.text or "next try in 1 min" in page.text
    assert "Discard" not in page.text


async def test_a_number_that_is_bounded_says_so(
    catalog: Catalog, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_counts, "MOST", 3)
    monkeypatch.setattr(failures, "COUNTED", 2)
    for _ in range(3):
        await fail(catalog, "corrupt_image")
    page = await look(client)
    assert page.one("tr", id="code-corrupt_image").all("td")[-1].text == "2+"
    assert page.one("nav", class_="tabs").one("a", href=PAGE).text.endswith("2+")
    assert "Retry the 3+ that match" in page.text
    assert MOST == 5000


async def test_where_nothing_has_failed_the_page_says_so(client: httpx.AsyncClient) -> None:
    page = await look(client)
    assert "Nothing has failed." in page.text
    assert page.all("form") == []


async def test_ticks_have_names_and_ids_that_stay(catalog: Catalog, client: httpx.AsyncClient) -> None:
    broken = await fail(catalog, "corrupt_image", source="uploads/cat.jpg")
    tick = (await look(client)).one("input", name="tick")
    assert (tick.attributes["id"], tick.attributes["value"]) == (f"tick-{broken}", str(broken))
    label = (await look(client)).one("label", **{"for": f"tick-{broken}"})
    assert label.text == "Tick uploads/cat.jpg"


async def test_who_may_only_read_sees_no_buttons_and_no_ticks(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    await fail(catalog, "corrupt_image")
    page = await look(client, headers=await opened.key(scopes="read"))
    assert len(listed(page)) == 1
    assert page.all("form", method="post") == page.all("input", type="checkbox") == []


@pytest.mark.rotating(1)
async def test_who_is_bound_sees_only_their_own_failures_and_numbers(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    mine = await break_one(catalog, "mine")
    await break_one(catalog, "other", at=2)
    await put_off(catalog, "other", 3)
    for binding in ({"owner": "mine"}, {"prefix": "uploads/mine/"}):
        key = await opened.key(f"of-{next(iter(binding))}", "read", **binding)
        page = await look(client, headers=key)
        assert listed(page) == [str(mine)]
        assert page.one("tr", id="code-corrupt_image").all("td")[-1].text == "1"
        assert page.one("nav", class_="tabs").text == "Failed 1 Waiting for another try 0 Dead letters"
        assert listed(await look(client, f"{PAGE}?owner=other", headers=key)) == []


@pytest.mark.rotating(1)
async def test_the_traceback_of_a_bug_is_for_operators_alone(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    await fail(catalog, "internal_error", message="Traceback\n  File x\nKeyError: 'secret'")
    for scopes, sees in (("operate", True), ("read", False)):
        page = await look(client, headers=await opened.key(scopes, scopes))
        assert ("KeyError" in page.text) is sees
        assert "An error of the worker itself" in page.text


async def test_a_query_that_nobody_understands_is_a_page_that_says_so(client: httpx.AsyncClient) -> None:
    for query in ("code=none", "within=2h", "colour=red", "source=%00", "waiting=2", "done=1"):
        answer = await client.get(f"{PAGE}?{query}")
        assert answer.status_code == 400, query
        assert read_page(answer.text).one("h1").text == "Bad Request"


async def test_failures_that_are_no_more_are_gone_from_the_page(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    broken = [await fail(catalog, "corrupt_image", ago_ms=1000 * n) for n in range(2)]
    await catalog.requeuer.requeue(broken[:1], State.FAILED)
    assert listed(await look(client)) == [str(broken[1])]


async def test_the_name_that_an_app_gives_a_file_stands_beside_its_source(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await fail(catalog, "corrupt_image")

    assert (await look(client)).one("span", class_="own-name").text == "secret.jpg"


async def test_a_demo_names_no_source_and_finds_none(
    catalog: Catalog, installation: Path, server: RedisServer, catalog_url: str
) -> None:
    await fail(
        catalog, "source_missing", source="uploads/secret/a.jpg", message="uploads/secret/a.jpg is gone"
    )
    await fail(catalog, "storage_unavailable", message="Name or service not known: secret.internal")
    await fail(catalog, "corrupt_image", message="The picture is damaged.")
    settings = settings_in(installation, server.url, catalog_url=catalog_url, console="demo")
    async with opened_face(settings) as opened:
        page = await look(opened.client)
        assert ("secret" in page.text, "The picture is damaged." in page.text) == (False, True)
        assert page.all("form") == page.all("img") == []
        assert (await opened.client.get(f"{PAGE}?source=uploads/secret/")).status_code == 403
