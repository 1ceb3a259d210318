"""The page of a sweep's plan: what would go, by class and with pictures, and the command that does it."""

from pathlib import Path

import httpx
import pytest

from pipelines.sweep.applying import apply_plan
from pipelines.sweep.findings import Kind
from pipelines.sweep.plan import APPLY, Plan
from pipelines.sweep.planning import make_plan
from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog
from storage.keys import plan_key
from tests.support.catalogs import ON_BOTH
from tests.support.console_page import Element, read_page
from tests.support.face import OpenFace, opened_face, settings_in
from tests.support.plans import MIDNIGHT, commands_on, found, written_plan
from tests.support.sweeps import Clock, new_key, put, recorded, sweeper_on

pytestmark = [ON_BOTH, pytest.mark.rotating(9, of="module")]


async def seen(client: httpx.AsyncClient, plan: Plan, query: str = "") -> Element:
    """The page of that plan."""
    answer = await client.get(f"/console/sweeps/{plan.id}{query}")
    assert answer.status_code == 200, answer.text[:500]
    return read_page(answer.text)


async def test_a_plan_shows_what_would_go_by_class_and_the_command_that_applies_it(
    client: httpx.AsyncClient, opened: OpenFace
) -> None:
    parts = found(Kind.ORPHAN, "variants/a", "variants/b"), found(Kind.LEFTOVER, "staging/x", size=5)
    plan = await written_plan(opened.face.stores.blobs, *parts)
    page = await seen(client, plan)

    rows = [
        [one.text for one in row.children if isinstance(one, Element)] for row in page.one("table").all("tr")
    ]
    assert [row[:3] for row in rows[1:]] == [["orphan", "2", "20 B"], ["leftover", "1", "5 B"]]
    assert "None: missing (records whose file is gone), outdated (" in page.one("main").text
    assert page.one("h2", id="findings").text == "Orphan: files that no record has 2"
    assert commands_on(page) == [f"media sweep apply {plan.id}"]
    assert page.one("a", **{"aria-current": "page"}).text == "Storage"


async def test_what_would_go_is_shown_with_its_picture_while_the_file_is_there(
    client: httpx.AsyncClient, opened: OpenFace
) -> None:
    blobs = opened.face.stores.blobs
    there, gone = await put(blobs), new_key()
    plan = await written_plan(blobs, found(Kind.ORPHAN, there, gone))
    page = await seen(client, plan)

    [picture] = page.all("img")
    assert picture.attributes["src"] == f"/console/{there}"
    assert [one.text for one in page.all("span", class_="tile")] == ["gone"]
    assert (await client.get(f"/console/{there}")).status_code == 200


@pytest.mark.sqlite
async def test_findings_are_paged_by_class(client: httpx.AsyncClient, opened: OpenFace) -> None:
    keys = [f"staging/{number}" for number in range(50)]
    parts = found(Kind.ORPHAN, *(f"variants/{number}" for number in range(50))), found(Kind.LEFTOVER, *keys)
    plan = await written_plan(opened.face.stores.blobs, *parts)

    first = await seen(client, plan, "?kind=leftover")
    following = first.one("a", rel="next").attributes["href"].partition("#")[0]
    last = read_page((await client.get(following)).text)
    tables = [page.one("table", class_="sweep-findings") for page in (first, last)]
    shown = [one.text for table in tables for one in table.all("bdi")]
    assert shown == keys
    assert last.all("a", rel="next") == []


async def test_a_missing_variant_leads_to_its_upload_and_says_what_becomes_of_it(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    key = new_key()
    upload_id = await recorded(catalog, [key])
    plan = await written_plan(opened.face.stores.blobs, found(Kind.MISSING, key))
    page = await seen(client, plan)

    assert page.one("a", href=f"/console/uploads/{upload_id}").text == str(upload_id)[:8]
    assert "has their uploads make them again" in page.one("main").text


@pytest.mark.sqlite
async def test_what_the_worker_does_not_know_is_named_as_text_and_left_alone(
    client: httpx.AsyncClient, opened: OpenFace
) -> None:
    name = "variants/<img src=x onerror=alert(1)>\u202egpj.exe"
    plan = await written_plan(opened.face.stores.blobs, found(Kind.UNKNOWN, name, "../../etc/passwd"))
    page = await seen(client, plan)

    texts = [one.text for one in page.one("table", class_="sweep-findings").all("bdi")]
    assert texts == ["variants/<img src=x onerror=alert(1)>\\u202egpj.exe", "../../etc/passwd"]
    assert page.all("img") == []
    assert commands_on(page) == []
    assert "leaves them alone" in page.one("main").text


@pytest.mark.sqlite
async def test_a_stopped_plan_says_why_and_what_to_do(client: httpx.AsyncClient, opened: OpenFace) -> None:
    plan = await written_plan(opened.face.stores.blobs, found(Kind.ORPHAN, *map(str, range(150))))
    notice = (await seen(client, plan)).one("div", class_="stopped")

    assert "150 of 500 files (30%) would be taken away" in notice.text
    assert "MEDIA_CATALOG_URL" in notice.text
    assert commands_on(notice) == [f"media sweep apply {plan.id} --force"]


async def test_an_applied_plan_says_until_when_and_how_it_is_undone(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    blobs, clock = opened.face.stores.blobs, Clock()
    sweeper = sweeper_on(catalog, blobs, now=clock)
    await recorded(catalog, [await put(blobs)])
    await put(blobs)
    clock.hours_go_by()
    plan = await make_plan(sweeper)
    clock.stop_at(MIDNIGHT)
    await apply_plan(plan.id, sweeper)
    page = await seen(client, plan)

    assert page.one("h1").one("span", class_="state").text == "applied"
    assert "Dealt with: 1 of 1 orphan (files that no record has). What it moved" in page.one("main").text
    assert [one.text for one in page.all("span", class_="tile")] == ["in the trash"]
    assert commands_on(page) == [f"media sweep restore {plan.id}", "media sweep purge"]
    assert [one.text for one in page.all("time")][-1] == "2027-01-22T08:00:00Z"  # a week later


@pytest.mark.sqlite
async def test_an_applied_plan_that_left_all_alone_has_nothing_to_restore(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    blobs, clock = opened.face.stores.blobs, Clock()
    sweeper = sweeper_on(catalog, blobs, now=clock)
    await recorded(catalog, [await put(blobs)])
    orphan = await put(blobs)
    clock.hours_go_by()
    plan = await make_plan(sweeper)
    await blobs.delete(orphan)
    await apply_plan(plan.id, sweeper)
    page = await seen(client, plan)

    assert (
        "Dealt with: 0 of 1 orphan (files that no record has). What was left was too new"
        in page.one("main").text
    )
    assert "nothing to restore" in page.one("main").text


@pytest.mark.sqlite
async def test_a_plan_whose_application_was_interrupted_says_that_it_goes_on(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    plan = await written_plan(opened.face.stores.blobs, found(Kind.ORPHAN, "variants/a"))
    await catalog.sweeps.checkpoint(APPLY).save({"plan": plan.id, "applied": None})
    page = await seen(client, plan)

    assert page.one("h1").one("span", class_="state").text == "begun"
    assert commands_on(page) == [f"media sweep apply {plan.id}"]


@pytest.mark.sqlite
@pytest.mark.parametrize("name", ["sweep-20270115T080000-00000000", "..%2f..%2fetc", "draft", "<script>"])
async def test_a_plan_that_is_not_there_is_a_page_that_says_so(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/console/sweeps/{name}")

    assert answer.status_code == 404
    assert read_page(answer.text).one("h1").text == "Not Found"


@pytest.mark.sqlite
@pytest.mark.parametrize("head", [None, b"", b'{"of": "a later version"}'])
async def test_a_plan_that_is_incomplete_or_not_to_be_read_is_not_found_and_not_listed(
    client: httpx.AsyncClient, opened: OpenFace, head: bytes | None
) -> None:
    blobs = opened.face.stores.blobs
    plan = await written_plan(blobs, found(Kind.ORPHAN, "variants/a"))
    await blobs.delete(plan_key(plan.id))
    if head is not None:
        await blobs.store([(plan_key(plan.id), head)])

    assert (await client.get(f"/console/sweeps/{plan.id}")).status_code == 404
    assert plan.id not in (await client.get("/console/storage")).text


@pytest.mark.sqlite
async def test_while_the_storage_is_away_a_plan_is_not_known(
    client: httpx.AsyncClient, opened: OpenFace, installation: Path
) -> None:
    plan = await written_plan(opened.face.stores.blobs, found(Kind.ORPHAN, "variants/a"))
    trash = installation / "media" / "trash"
    trash.rename(installation / "trash")
    trash.symlink_to("a-disk-that-is-not-mounted")
    answer = await client.get(f"/console/sweeps/{plan.id}")

    assert answer.status_code == 503
    assert "The storage does not answer" in read_page(answer.text).one("main").text


@pytest.mark.sqlite
async def test_a_demo_shows_no_name_that_is_not_the_workers(
    installation: Path, server: RedisServer, catalog_url: str
) -> None:
    settings = settings_in(installation, server.url, catalog_url=catalog_url, console="demo")
    async with opened_face(settings) as opened:
        plan = await written_plan(opened.face.stores.blobs, found(Kind.UNKNOWN, "variants/my-secret.jpg"))
        answer = await opened.client.get(f"/console/sweeps/{plan.id}")

    assert answer.status_code == 200
    assert "secret" not in answer.text


@pytest.mark.sqlite
@pytest.mark.rotating(1)
async def test_a_plan_is_not_for_who_is_bound_to_some_uploads(opened: OpenFace) -> None:
    plan = await written_plan(opened.face.stores.blobs, found(Kind.ORPHAN, "variants/a"))
    key = await opened.key("tenant", "read", prefix="uploads/mine/")

    assert (await opened.client.get(f"/console/sweeps/{plan.id}", headers=key)).status_code == 403
