"""Overview: its numbers and where they lead, what needs attention, and that it shows what does not hang."""

import re
import time
from base64 import b64encode
from dataclasses import replace
from uuid import UUID

import httpx
import pytest
from sqlalchemy import update

from pipelines.sweep.findings import Discrepancy, Kind, StepResult
from pipelines.sweep.plan import Draft, finish, write_down
from storage.catalog import tables
from storage.catalog.opening import Catalog
from storage.catalog.records import About, State
from storage.catalog.sweep_records import SweepRecords
from storage.totals import Count, Swept
from tests.support import fake_redis
from tests.support.catalogs import ON_BOTH, claim, commit, failed, letter, postponed, take, upload_event, work
from tests.support.console_page import Element, read_page
from tests.support.face import OpenFace, Opening
from tests.support.polling import until
from tests.support.ports import free_port
from worker.http.console.bounded import WITHIN_S
from worker.queue import Queue
from worker.queue.heartbeats import WorkerInfo

pytestmark = pytest.mark.rotating(10, of="module")

LISTS = ("gallery", "failures", "workers", "sweep-grid")
DASH = "\N{EN DASH}"
PLAN = "sweep-20270115T080000-00000000"


async def overview(client: httpx.AsyncClient) -> Element:
    """What the page has."""
    answer = await client.get("/console")
    assert answer.status_code == 200, answer.text[-2000:]
    return read_page(answer.text).one("main")


def numbers(page: Element) -> dict[str, int]:
    """What the page counts, by where it leads."""
    links = [one for one in page.all("a") if "data-count" in one.attributes]
    return {one.attributes["href"]: int(one.attributes["data-count"]) for one in links}


def listed(page: Element) -> int:
    """How long the list of a page is."""
    lists = [one for name in LISTS for one in page.all(class_=name)]
    lists += [one.one("tbody") for one in page.all("table", class_="sweep-findings")]
    return sum(len([item for item in one.children if isinstance(item, Element)]) for one in lists)


async def uploads(catalog: Catalog, *states: State) -> None:
    """An upload in each of these states."""
    for number, state in enumerate(states, 1):
        one = UUID(int=number)
        await take(catalog, upload_event(number, one, f"uploads/{number}.jpg"))
        match state:
            case State.READY:
                await work(catalog, one)
            case State.FAILED:
                await commit(catalog, failed(await claim(catalog, one)))
            case State.PROCESSING:
                await claim(catalog, one)


async def beat(queue: Queue, name: str = "hare", **said: object) -> None:
    """A worker lives, and says that of itself."""
    told = {"healthy": True, "degraded": (), **said}
    info = WorkerInfo(state="ok" if told["healthy"] else "unhealthy", host=name, pid=7)
    await queue.heartbeats.beat(f"x:7:{name}", "it hangs", expiry_s=60, info=info, **told)  # type: ignore[arg-type]


async def until_counted(opened: OpenFace) -> None:
    """Wait until what happened before the server came is counted."""

    async def is_complete() -> bool:
        return opened.face.pulse.is_complete

    await until(is_complete)


@ON_BOTH
async def test_each_number_leads_to_the_list_of_what_it_counts(
    catalog: Catalog, queue: Queue, client: httpx.AsyncClient
) -> None:
    states = [State.READY] * 3 + [State.FAILED] * 2 + [State.PROCESSING, State.QUEUED, State.QUEUED]
    await uploads(catalog, *states)
    await catalog.intake.take([], [letter("90-0")])
    await beat(queue)

    found = numbers(await overview(client))

    assert found == {
        "/console/uploads?state=ready": 3,
        "/console/uploads?state=ready&since=1h": 3,
        "/console/failures": 2,
        "/console/failures?within=1h": 2,
        "/console/failures?code=corrupt_image": 2,
        "/console/uploads?state=processing": 1,
        "/console/uploads?state=queued": 2,
        "/console/dead-letters": 1,
        "/console/system": 1,
    }
    pages = {path: read_page((await client.get(path)).text).one("main") for path in found}
    assert {path: listed(page) for path, page in pages.items()} == found


@ON_BOTH
async def test_of_the_last_hour_those_are_counted_that_are_listed(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await uploads(catalog, State.READY, State.READY, State.FAILED, State.FAILED, State.FAILED)
    async with catalog.database.writing() as connection:
        old = tables.uploads.c.id.in_([str(UUID(int=number)) for number in (1, 3)])
        changed_ms = tables.uploads.c.changed_ms - 3_601_000
        await connection.execute(update(tables.uploads).where(old).values(changed_ms=changed_ms))

    found = {path: count for path, count in numbers(await overview(client)).items() if "1h" in path}

    assert found == {"/console/uploads?state=ready&since=1h": 1, "/console/failures?within=1h": 2}
    pages = {path: read_page((await client.get(path)).text).one("main") for path in found}
    assert {path: listed(page) for path, page in pages.items()} == found


async def test_events_that_no_worker_has_taken_are_told_apart_from_uploads_that_wait(
    catalog: Catalog, queue: Queue, client: httpx.AsyncClient
) -> None:
    await uploads(catalog, State.QUEUED)
    for _ in range(2):
        await queue.stream.add_raw(b"{}")

    page = await overview(client)

    assert numbers(page)["/console/uploads?state=queued"] == 1
    assert page.one("dd", id="figure-events").text == "and 2 events not taken yet"


async def test_uploads_that_wait_for_another_try_are_counted_by_what_stopped_the_last(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await uploads(catalog, State.QUEUED, State.QUEUED)
    await commit(catalog, postponed(await claim(catalog, UUID(int=1))))

    found = numbers(await overview(client))

    path = "/console/failures?waiting=1&code=storage_full"
    assert (found[path], listed(read_page((await client.get(path)).text))) == (1, 1)
    assert found["/console/uploads?state=queued"] == 2


async def test_where_nothing_is_wrong_one_line_says_so(
    catalog: Catalog, queue: Queue, client: httpx.AsyncClient
) -> None:
    await uploads(catalog, State.READY)
    await beat(queue)

    page = await overview(client)

    assert page.one("p", id="well").text == "Nothing needs attention. 1 worker is alive and healthy."
    assert page.all(id="attention") == []


async def test_a_newcomer_reads_what_to_do_first(queue: Queue, client: httpx.AsyncClient) -> None:
    steps = (await overview(client)).one("section", id="first-steps")

    assert steps.all("button")[0].attributes["data-copy"] == "media worker"
    assert "/console/drop" in [one.attributes["href"] for one in steps.all("a")]
    await beat(queue)
    assert "A worker is alive" in (await overview(client)).one("section", id="first-steps").text


async def test_it_is_alarming_that_no_worker_is_alive(catalog: Catalog, client: httpx.AsyncClient) -> None:
    await uploads(catalog, State.QUEUED)

    page = await overview(client)

    assert "No worker is alive" in page.one("li", id="concern-workers").text
    assert page.one("div", id="figure-workers").attributes["class"] == "bad"


async def test_what_workers_complain_of_is_shown_as_text(
    catalog: Catalog, queue: Queue, client: httpx.AsyncClient
) -> None:
    await uploads(catalog, State.READY)
    await beat(queue, "<b>a", healthy=False)
    await beat(queue, "b", degraded=["memory: <i>91%\N{RIGHT-TO-LEFT OVERRIDE}"])

    said = (await overview(client)).one("section", id="attention")

    assert "The worker <b>a:7 is unhealthy it hangs" in said.text
    assert r"Memory is almost used up <i>91%\u202e (b:7)" in said.text


async def test_a_sweep_that_was_stopped_leads_to_its_plan(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await uploads(catalog, State.READY)
    found = Swept(PLAN, 1, Count(9), Count(9), {"missing": Count(2), "orphan": Count(7)}, Count(), "too many")
    await SweepRecords(catalog.database).remember(found)

    said = (await overview(client)).one("section", id="attention")

    assert "too many" in said.one("li", id="concern-sweep").text
    assert said.one("li", id="concern-missing").one("a").text == "2 files of variants are missing"
    assert said.one("li", id="concern-sweep").one("a").attributes["href"] == f"/console/sweeps/{PLAN}"


async def test_what_a_sweep_found_leads_to_those_files(opened: OpenFace, catalog: Catalog) -> None:
    await uploads(catalog, State.READY)
    kinds = [Kind.ORPHAN] * 3 + [Kind.MISSING] * 2 + [Kind.RETIRED]
    found = [Discrepancy(kind, f"variants/ab/cd/{UUID(int=n)}.jpg", 9) for n, kind in enumerate(kinds)]
    blobs, now = opened.face.stores.blobs, time.time()
    draft = await write_down(Draft.new(now), StepResult(found, None), blobs)
    plan = await finish(draft, now, blobs)
    counts = {kind: Count(number) for kind, number in plan.counts.items()}
    swept = Swept(plan.id, 1, Count(9), Count(9), counts, Count())
    await SweepRecords(catalog.database).remember(swept)

    led = {path: number for path, number in numbers(await overview(opened.client)).items() if plan.id in path}
    pages = {path: read_page((await opened.client.get(path)).text) for path in led}

    assert led == {
        f"/console/sweeps/{plan.id}?kind=missing": 2,
        f"/console/sweeps/{plan.id}?kind=orphan": 3,
    }
    assert {path: listed(page) for path, page in pages.items()} == led


async def test_what_a_sweep_found_needs_nobody_once_it_was_dealt_with(
    catalog: Catalog, queue: Queue, client: httpx.AsyncClient
) -> None:
    await uploads(catalog, State.READY)
    await beat(queue)
    found = Swept(PLAN, 1, Count(9), Count(9), {"missing": Count(2), "orphan": Count(7)}, Count())
    done = replace(found, applied_ms=2, done={"missing": 2, "orphan": 7})
    await SweepRecords(catalog.database).remember(done)

    assert (await overview(client)).all(id="attention") == []


async def test_minutes_are_bars_and_rows_of_a_table(catalog: Catalog, opening: Opening) -> None:
    await uploads(catalog, State.READY, State.READY, State.FAILED)
    async with opening() as opened:
        await until_counted(opened)
        page = await overview(opened.client)

    [bars] = [column for column in page.all("g", class_="column") if column.all(class_="series-ready")]
    assert "UTC: 2 ready, 1 failed" in bars.one("title").text
    assert len(bars.all("rect", class_="series-failed")) == 1
    assert [one.text for one in page.one("tbody").all("td")] == ["2", "1", "0"]
    assert "2 times an upload became ready, 1 times one failed" in page.one("desc").text


async def test_every_dead_letter_of_the_hour_is_counted_in_its_minute(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    of_an_upload = replace(letter("2-0"), about=About(None, "uploads/1.jpg"))
    await catalog.intake.take([], [letter("1-0"), of_an_upload])
    page = await overview(client)

    assert numbers(page)["/console/dead-letters"] == 2
    assert sum(int(one.text) for one in page.one("tbody").all("td")) == 2
    assert "2 events were refused" in page.one("desc").text


async def test_the_rate_says_over_what_time_and_the_chart_that_it_counts_outcomes(
    catalog: Catalog, opening: Opening
) -> None:
    await uploads(catalog, State.READY)
    async with opening() as opened:
        await until_counted(opened)
        page = await overview(opened.client)

    note = page.one("div", id="figure-rate").one("dd", class_="note").text
    assert re.fullmatch(r"ready, last \d+ s", note)
    assert "Outcomes by minute" in page.one("p", id="outcomes").text


async def test_the_latest_pictures_lead_to_their_uploads(catalog: Catalog, client: httpx.AsyncClient) -> None:
    await uploads(catalog, State.READY, State.FAILED, State.READY)

    latest = (await overview(client)).one("section", id="latest")

    links = [one.attributes["href"] for one in latest.all("a")]
    assert links == [f"/console/uploads/{UUID(int=number)}" for number in (3, 1)]
    assert [one.attributes["alt"] for one in latest.all("img")] == ["3.jpg", "1.jpg"]


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "away"])
async def test_without_redis_the_rest_is_shown_at_once(
    catalog: Catalog, opening: Opening, *, hangs: bool
) -> None:
    await uploads(catalog, State.READY, State.PROCESSING)
    async with fake_redis.saying(None) as hanging:
        url = hanging.url if hangs else f"redis://127.0.0.1:{free_port()}"
        async with opening(redis_url=url) as opened:
            began = time.monotonic()
            page = await overview(opened.client)
            took = time.monotonic() - began

    assert took < WITHIN_S + 1
    assert "Redis cannot be asked" in page.one("li", id="concern-redis").text
    assert "Start Redis" in page.one("li", id="concern-redis").one("p", class_="advice").text
    assert numbers(page)["/console/uploads?state=ready"] == 1
    assert numbers(page)["/console/uploads?state=processing"] == 1
    assert page.one("div", id="figure-workers").text == f"Workers alive {DASH}"
    assert page.one("dd", id="figure-events").text == f"and {DASH} events not taken yet"


async def test_that_no_worker_has_told_of_itself_since_redis_is_back_is_no_alarm(
    opened: OpenFace, catalog: Catalog, queue: Queue
) -> None:
    await uploads(catalog, State.QUEUED)
    opened.face.tail.redis_back_at = time.monotonic()
    before = await overview(opened.client)
    system = read_page((await opened.client.get("/console/system")).text)
    await beat(queue)

    assert "Redis is back" in before.one("li", id="concern-workers").text
    assert before.one("div", id="figure-workers").text == f"Workers alive {DASH}"
    assert "Redis is back" in system.one("p", class_="nothing").text
    assert (await overview(opened.client)).one("p", id="well").text.endswith("1 worker is alive and healthy.")


async def test_a_demo_numbers_workers_and_says_that_one_is_ill_as_its_page_system_does(
    catalog: Catalog, queue: Queue, opening: Opening
) -> None:
    await uploads(catalog, State.READY, State.FAILED)
    await beat(queue, "a-host", degraded=["memory: 91% of secret"])
    await beat(queue, "secret-host", healthy=False)
    async with opening(console="demo") as opened:
        html, system = [(await opened.client.get(path)).text for path in ("/console", "/console/system")]
    page = read_page(html)
    said = page.one("section", id="attention").text

    assert "secret" not in html
    assert "The worker 2 is unhealthy" in said
    assert "Memory is almost used up" in said
    assert numbers(page)["/console/system"] == 2
    assert read_page(system).all("h3")[0].text == "worker 2"


@pytest.mark.parametrize("bound", [{"owner": "shop"}, {"prefix": "uploads/shop/"}], ids=str)
async def test_who_sees_some_uploads_alone_is_led_to_those(opened: OpenFace, bound: dict[str, str]) -> None:
    key = await opened.key("tenant", "read", **bound)
    secret = key["Authorization"].removeprefix("Bearer ")
    basic = {"Authorization": "Basic " + b64encode(f"me:{secret}".encode()).decode()}

    answer = await opened.client.get("/console", headers=basic)

    assert (answer.status_code, answer.headers["location"]) == (303, "/console/uploads")
