"""The page of the storage: what is stored and how it grows, drift, room, and the plans of sweeps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import insert

from pipelines.stats.growth import DAY_MS
from pipelines.sweep.findings import Kind
from pipelines.sweep.plan import save
from storage.catalog.opening import Catalog
from storage.catalog.tables import snapshots
from storage.totals import Count, Swept
from tests.support.catalogs import ON_BOTH, claim, commit, failed, take, upload_event, work
from tests.support.console_page import Element, read_page
from tests.support.face import OpenFace, Opening
from tests.support.plans import MIDNIGHT, commands_on, found, written_plan

pytestmark = [ON_BOTH, pytest.mark.rotating(7, of="module")]

PAGE = "/console/storage"


async def seen(client: httpx.AsyncClient, path: str = PAGE) -> Element:
    """That page."""
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text[:500]
    return read_page(answer.text)


async def snapshot(catalog: Catalog, days_ago: int, size: int) -> str:
    """Totals of the past; returns their day."""
    now_ms = catalog.database.now_ms()
    amounts = {"uploads": 9, "ready": 9, "failed": 0, "originals": 9, "original_bytes": size}
    made = {"variants": 27, "variant_bytes": size // 10, "superseded": 0, "superseded_bytes": 0}
    time_ms = now_ms - days_ago * DAY_MS
    row = {"day": time_ms // DAY_MS, "time_ms": time_ms, "free_bytes": None, **amounts, **made}
    async with catalog.database.writing() as connection:
        await connection.execute(insert(snapshots).values(**row))
    return str(row["day"])


def swept(plan: str, now_ms: int, **values: object) -> Swept:
    """What a sweep has found: an orphan."""
    nothing = Count()
    one = Swept(plan, now_ms, Count(3, 30), Count(2, 20), {"orphan": Count(1, 10)}, nothing)
    return replace(one, **values)  # type: ignore[arg-type]


def rows_of(page: Element, heading: str) -> Sequence[str]:
    """What the rows of the table below a heading say."""
    section = next(one for one in page.all("section") if one.attributes["aria-labelledby"] == heading)
    return [row.text for body in section.all("tbody") for row in body.all("tr")]


async def test_what_is_stored_is_said_by_kind_format_and_name(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    page = await seen(client)

    figures = page.one("dl", class_="figures").text
    assert "1 original of ready uploads" in figures
    assert "media stats --scan" in page.one("p", id="counted").text
    assert "never been ready" not in page.one("p", id="counted").text
    assert "2 files of variants" in figures
    assert [row.split()[0] for row in rows_of(page, "formats")] == ["jpeg"]
    assert [row.split()[0] for row in rows_of(page, "variants")] == ["thumb", "large"]
    assert page.one("a", **{"aria-current": "page"}).text == "Storage"


@pytest.mark.sqlite
async def test_the_largest_originals_lead_to_their_uploads(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    upload_id = uuid4()
    await take(catalog, upload_event(1, upload_id, "uploads/<b>cat</b>.jpg", filename="<i>C\u202eat"))
    await work(catalog, upload_id)

    page = await seen(client)
    assert page.one("a", href=f"/console/uploads/{upload_id}").text == "uploads/<b>cat</b>.jpg"
    assert page.one("span", class_="own-name").text == "<i>C\\u202eat"


async def test_growth_is_drawn_and_told_day_by_day_until_now(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    for days_ago, size in ((100, 1000), (20, 2000), (10, 4000)):
        await snapshot(catalog, days_ago, size)

    page = await seen(client)
    assert page.one("svg", role="img").one("title", id="growth-chart-title").text == "Stored bytes by day"
    assert [row.split()[1:3] for row in rows_of(page, "growth")] == [["0", "B"], ["4.0", "kB"], ["2.0", "kB"]]
    assert len(rows_of(await seen(client, f"{PAGE}?days=all"), "growth")) == 4


@pytest.mark.sqlite
async def test_before_the_first_snapshot_nothing_is_drawn(client: httpx.AsyncClient) -> None:
    page = await seen(client)

    assert page.all("svg", role="img") == []
    assert "no snapshot" in page.one("main").text


@pytest.mark.sqlite
async def test_of_a_single_snapshot_no_ramp_is_drawn(catalog: Catalog, client: httpx.AsyncClient) -> None:
    await snapshot(catalog, 0, 1000)
    page = await seen(client)

    assert page.all("svg", role="img") == []
    assert "There is one snapshot" in page.one("main").text
    assert len(rows_of(page, "growth")) == 2


@pytest.mark.sqlite
async def test_drift_is_told_by_class_with_when_it_was_seen_and_how_to_look_again(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await catalog.sweeps.remember(
        swept("sweep-20270115T080000-00000000", catalog.database.now_ms() - 7200_000)
    )
    page = await seen(client)

    [drift] = rows_of(page, "drift")
    assert drift == "orphan 1 10 B files that no record has"
    assert "2 h ago" in page.one("main").text
    assert {"media stats --scan", "media sweep purge"} <= set(commands_on(page))


@pytest.mark.sqlite
async def test_plans_are_listed_the_newest_first_with_what_became_of_them(
    client: httpx.AsyncClient, opened: OpenFace
) -> None:
    blobs = opened.face.stores.blobs
    pending = await written_plan(blobs, found(Kind.ORPHAN, "a", "b"))
    many = found(Kind.ORPHAN, *(f"{number}" for number in range(150)))
    stopped = await written_plan(blobs, many, at=MIDNIGHT + 1)
    applied = await written_plan(blobs, found(Kind.RETIRED, "a"), at=MIDNIGHT + 2)
    await save(replace(applied, applied="2027-01-16T08:00:00+00:00"), blobs)
    reported = await written_plan(blobs, found(Kind.UNKNOWN, "a"), at=MIDNIGHT + 3)

    listed = (await seen(client)).one("ol", class_="plans").all("li", class_="card")
    states = [(one.one("h3").one("a").text, one.one("span", class_="state").text) for one in listed]
    assert states == [
        (reported.id, "nothing to do"),
        (applied.id, "applied"),
        (stopped.id, "stopped"),
        (pending.id, "pending"),
    ]
    assert "more than 100" in listed[2].text
    assert listed[3].one("ul").text == "2 orphan 20 B: files that no record has"


@pytest.mark.sqlite
async def test_the_uploads_whose_originals_are_in_no_total_are_told(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    ids = [UUID(int=number) for number in range(3)]
    await take(catalog, *(upload_event(1, each, f"uploads/{each}") for each in ids))
    await commit(catalog, failed(await claim(catalog, ids[0])))
    await work(catalog, ids[1])
    page = await seen(client)

    assert "2 that have never been ready" in page.one("p", id="counted").text


async def test_thousands_of_plans_are_listed_page_by_page_and_few_are_read(
    client: httpx.AsyncClient, opened: OpenFace
) -> None:
    blobs = opened.face.stores.blobs
    plan = await written_plan(blobs, found(Kind.ORPHAN, "a"))
    for number in range(25):
        await save(replace(plan, id=f"sweep-20270101T{number:06}-00000000"), blobs)

    first = await seen(client)
    older = first.one("a", rel="next").attributes["href"]
    last = await seen(client, older.partition("#")[0])
    names = [one.one("h3").one("a").text for page in (first, last) for one in page.all("li", class_="card")]
    assert names[:2] == [plan.id, "sweep-20270101T000024-00000000"]
    assert len(names) == len(set(names)) == 20


@pytest.mark.sqlite
async def test_a_sweep_that_was_stopped_is_told_first_with_why(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    name = "sweep-20270115T080000-00000000"
    await catalog.sweeps.remember(swept(name, catalog.database.now_ms(), stopped="a listing failed"))
    notice = (await seen(client)).one("div", class_="stopped")

    assert "A listing failed." in notice.text
    assert notice.one("a").attributes["href"] == f"/console/sweeps/{name}"


@pytest.mark.sqlite
async def test_a_sweep_that_ended_without_a_plan_says_so_instead_of_when_one_had_one(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    long_ago = catalog.database.now_ms() - 9 * DAY_MS
    await catalog.sweeps.remember(swept("sweep-20270115T080000-00000000", long_ago))
    await catalog.sweeps.note_stop("the storage failed at a listing")
    page = await seen(client)

    assert "stopped before it had made a plan" in page.one("div", class_="stopped").text
    assert "9 days ago" not in page.one("main").text


@pytest.mark.sqlite
async def test_while_the_storage_is_away_the_page_says_so_and_shows_the_rest(
    catalog: Catalog, client: httpx.AsyncClient, installation: Path
) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)
    (installation / "media" / "trash").symlink_to("a-disk-that-is-not-mounted")
    page = await seen(client)

    assert "The storage does not answer" in page.one("p", class_="notice").text
    assert "1 original of ready uploads" in page.one("dl", class_="figures").text
    assert "free of" not in page.text


@pytest.mark.sqlite
async def test_a_demo_names_no_source_and_no_path(catalog: Catalog, opening: Opening) -> None:
    await take(catalog, upload_event(1, source="uploads/secret.jpg", filename="secret.jpg"))
    await work(catalog)
    stopped = "The storage root /srv/media has no marker"
    await catalog.sweeps.remember(swept("", catalog.database.now_ms(), stopped=stopped))
    async with opening(console="demo") as opened:
        answer = await opened.client.get(PAGE)

    assert answer.status_code == 200
    assert "secret" not in answer.text
    assert "/srv/media" not in answer.text


@pytest.mark.sqlite
@pytest.mark.parametrize("query", ["days=31", "cursor=x", "page=2"])
async def test_a_query_that_the_page_does_not_know_is_refused(client: httpx.AsyncClient, query: str) -> None:
    answer = await client.get(f"{PAGE}?{query}")

    assert answer.status_code == 400
    assert read_page(answer.text).one("h1").text == "Bad Request"


@pytest.mark.sqlite
@pytest.mark.rotating(1)
async def test_the_storage_is_not_for_who_is_bound_to_some_uploads(opened: OpenFace) -> None:
    key = await opened.key("tenant", "read", owner="mine")

    assert (await opened.client.get(PAGE, headers=key)).status_code == 403
