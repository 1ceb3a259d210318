"""The console's page System: workers, what the doctor finds, settings without secrets, versions, queue."""

import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest

from storage.catalog.opening import Catalog
from storage.catalog.webhooks import Attempted, EndpointState
from tests.support.catalogs import CAT, SOURCE, claim, take, upload_event, work
from tests.support.console_page import Element, read_page
from tests.support.face import OpenFace, Opening
from tests.support.fake_redis import saying
from worker.http.console.wording import words_of
from worker.queue import Queue
from worker.queue.heartbeats import WorkerInfo

pytestmark = pytest.mark.rotating(10, of="module")

PAGE = "/console/system"
INFO = WorkerInfo(
    state="ok",
    state_s=7200,
    host="pictures-1",
    pid=12,
    consumer="pictures-1:12:ab",
    version="1.0.0",
    decoders_version="pyvips-binary 8.18.7",
    up_s=90_000,
    decoders=2,
    busy=1,
    memory=100_000_000,
    budget=400_000_000,
)
LOADS = {"hx-trigger": "load"}


async def page_of(client: httpx.AsyncClient, query: str = "", **headers: str) -> Element:
    answer = await client.get(PAGE + query, headers=headers)
    assert answer.status_code == 200, answer.text
    return read_page(answer.text)


async def beat(queue: Queue, *degraded: str, detail: str = "", **info: Any) -> None:
    """The heartbeat of a worker that is called `pictures-1`, healthy unless it tells another state."""
    told = INFO.model_copy(update=info)
    healthy = told.state in ("ok", "degraded")
    await queue.heartbeats.beat("one", detail, healthy=healthy, expiry_s=60, degraded=degraded, info=told)


async def test_a_worker_is_shown_with_its_state_its_load_and_the_uploads_that_it_works_on(
    client: httpx.AsyncClient, queue: Queue, catalog: Catalog
) -> None:
    await beat(queue)
    await take(catalog, upload_event(1))
    await claim(catalog, holder="pictures-1:12:ab")

    page = await page_of(client)
    assert "10485760 (10 MiB)" in page.one("details", id="settings-defaults").text
    worker = page.one("li", class_="worker")

    assert worker.one("h3").text == "pictures-1, PID 12"
    assert worker.one("span", class_="worker-healthy").text == "healthy"
    for words in ("healthy for 2 h", "started 1 day ago", "1 of 2 at work", "95 MiB of 381 MiB"):
        assert words in worker.text
    assert worker.one("rect", class_="worker-meter-part").attributes["width"] == "25.0"
    [link] = worker.all("a")
    assert (link.attributes["href"], link.text) == (f"/console/uploads/{CAT}", SOURCE)


async def test_what_fails_and_what_degrades_is_said_in_the_workers_own_words(
    client: httpx.AsyncClient, queue: Queue
) -> None:
    failing = ("storage: the disk is full",)
    await beat(queue, "space: 90% are taken", state="unhealthy", failing=failing, memory=390_000_000)

    worker = (await page_of(client)).one("li", class_="worker")

    assert worker.one("span", class_="worker-unhealthy").text == "unhealthy"
    assert [one.text for one in worker.all("li")] == ["storage: the disk is full", "space: 90% are taken"]
    assert worker.all("svg", class_="worker-meter-much") != []


@pytest.mark.parametrize(
    ("healthy", "degraded", "state"),
    [(True, (), "healthy"), (True, ("space: full",), "degraded"), (False, (), "unhealthy")],
)
async def test_a_worker_of_an_older_version_is_shown_by_its_heartbeat_alone(
    client: httpx.AsyncClient, queue: Queue, healthy: bool, degraded: tuple[str, ...], state: str
) -> None:
    await queue.heartbeats.beat("boot:7:cd", "why", healthy=healthy, expiry_s=60, degraded=degraded)

    worker = (await page_of(client)).one("li", class_="worker")

    assert (worker.one("h3").text, worker.one("span", class_="state").text) == ("boot:7:cd", state)
    assert ("why" in worker.text) is not healthy


async def test_an_upload_that_no_known_worker_has_is_listed_apart(
    client: httpx.AsyncClient, queue: Queue, catalog: Catalog
) -> None:
    await beat(queue)
    await take(catalog, upload_event(1))
    await claim(catalog, holder="gone:1:ef")

    page = await page_of(client)

    assert page.one("li", class_="worker").all("a") == []
    assert [one.text for one in page.one("ul", class_="at-work").all("a")] == [SOURCE]


async def test_decoders_that_the_heartbeat_still_calls_idle_are_at_work_where_uploads_are(
    client: httpx.AsyncClient, queue: Queue, catalog: Catalog
) -> None:
    await beat(queue, busy=0)
    before = (await page_of(client)).one("li", class_="worker").text
    await take(catalog, upload_event(1))
    await claim(catalog, holder="pictures-1:12:ab")

    assert "0 of 2 at work" in before
    assert "1 of 2 at work" in (await page_of(client)).one("li", class_="worker").text


async def test_without_a_worker_the_page_says_how_to_start_one(client: httpx.AsyncClient) -> None:
    assert "media worker" in (await page_of(client)).one("p", class_="nothing").text


async def test_what_the_doctor_finds_comes_after_the_page_or_by_a_link_without_script(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIA_BATCH_SIE", "3")
    first = (await page_of(client)).one("section", id="doctor")
    link, loader = first.one("a"), first.one("span", **LOADS)
    found = (await page_of(client, "?checks=1")).one("section", id="doctor")

    assert (first.all("li"), first.all("details")) == ([], [])
    assert (link.attributes["href"], link.text) == (f"{PAGE}?checks=again#doctor", "Check now")
    assert loader.attributes["hx-get"] == f"{PAGE}?checks=1"
    assert "Did you mean MEDIA_BATCH_SIZE?" in found.one("ul", class_="findings").text
    assert "Catalog" in [one.text for one in found.one("details").all("dt")]
    assert (found.one("a").text, found.all("span", **LOADS)) == ("Check again", [])


async def test_a_page_that_refreshes_itself_keeps_the_findings_and_has_nothing_checked(
    client: httpx.AsyncClient,
) -> None:
    before = (await page_of(client, **{"HX-Request": "true"})).one("section", id="doctor")
    await page_of(client, "?checks=1")
    after = (await page_of(client, **{"HX-Request": "true"})).one("section", id="doctor")

    assert ("Not checked yet" in before.text, before.all("span", **LOADS)) == (True, [])
    assert len(after.all("details")) == 1


async def test_a_refresh_has_all_checked_again_once_redis_or_the_catalog_has_turned(
    opened: OpenFace,
) -> None:
    client, refresh = opened.client, {"HX-Request": "true"}
    await page_of(client, "?checks=1")
    opened.face.tail.turned_at = time.monotonic()
    turned = (await page_of(client, **refresh)).one("section", id="doctor")
    await page_of(client, "?checks=1", **refresh)
    after = (await page_of(client, **refresh)).one("section", id="doctor")

    assert len(turned.all("span", **LOADS)) == 1
    assert (after.all("span", **LOADS), "Checked just now" in after.text) == ([], True)


@pytest.mark.rotating(1)
async def test_settings_are_shown_without_secrets_and_apart_from_defaults(opening: Opening) -> None:
    secret = "a-secret-that-signs-tokens-and-links"
    async with opening(http_secret=secret, catalog_pool=7, environment="staging") as opened:
        html = (await opened.client.get(PAGE)).text
    given, defaults = read_page(html).all("table", class_="settings")
    rows = {one.one("th").text: one.all("td")[0].text for one in given.one("tbody").all("tr")}

    assert secret not in html
    assert (rows["MEDIA_HTTP_SECRET"], rows["MEDIA_CATALOG_POOL"]) == ("set", "7")
    assert rows["MEDIA_REDIS_URL"].startswith("redis://default@127.0.0.1:")
    assert "MEDIA_BATCH_SIZE" in [one.text for one in defaults.all("th")]
    assert "](" not in html  # a link in Markdown


async def test_versions_and_the_queue_are_told(client: httpx.AsyncClient, queue: Queue) -> None:
    await beat(queue)
    await queue.stream.add({"source": "uploads/a.jpg"})
    page = await page_of(client, "?checks=1")
    pairs = [one for one in page.all("div") if len(one.all("dt")) == 1]
    facts = {one.one("dt").text: one.one("dd").text for one in pairs}

    assert facts["media-worker of other workers"] == "1.0.0"
    assert facts["Database"].startswith("SQLite 3.")
    assert facts["Decoders"] == "pyvips-binary 8.18.7"
    assert facts["Redis"].partition(".")[0].isdecimal()
    assert facts["Events that wait"].startswith("1, the oldest for")
    assert (facts["Stream of events"], facts["Consumer group"]) == ("media:uploads", "workers")


async def test_a_demo_shows_neither_hosts_nor_paths_nor_settings(
    opening: Opening, queue: Queue, installation: Path
) -> None:
    full = f"{installation} is full"
    await beat(queue, f"space: {full}", detail=full, state="unhealthy", failing=(f"storage: {full}",))
    async with opening(console="demo") as opened:
        html = (await opened.client.get(f"{PAGE}?checks=again")).text
    page = read_page(html)

    assert page.one("li", class_="worker").one("h3").text == "worker 1"
    assert [one.text for one in page.one("li", class_="worker").all("li")] == ["storage", "space"]
    assert "Catalog" in page.one("section", id="doctor").text
    assert page.all("table") == []
    for hidden in (str(installation), "pictures-1", "127.0.0.1", "MEDIA_", "media:uploads"):
        assert hidden not in html


@pytest.mark.rotating(1)
async def test_who_is_bound_to_some_uploads_sees_no_system(opened: OpenFace) -> None:
    key = await opened.key(scopes="operate", owner="42")
    password = key["Authorization"].removeprefix("Bearer ")
    basic = "Basic " + b64encode(f"me:{password}".encode()).decode()

    answer = await opened.client.get(PAGE, headers={"Authorization": basic})

    assert answer.status_code == 403
    assert "Workers" not in answer.text


async def test_what_others_wrote_is_text_and_nothing_of_it_is_hidden(
    client: httpx.AsyncClient, queue: Queue
) -> None:
    hostile = "<img src=x onerror=alert(1)>\u202e"
    await beat(queue, hostile, host=hostile, state="unhealthy", failing=(hostile,))

    html = (await client.get(PAGE)).text

    assert "<img" not in html
    assert "\u202e" not in html
    assert read_page(html).one("li", class_="worker").text.count(r"alert(1)>\u202e") == 3


async def test_the_page_says_that_redis_is_away_and_shows_the_rest(opening: Opening) -> None:
    async with opening("redis://worker:hidden-word@127.0.0.1:1/0") as opened:
        html = (await opened.client.get(f"{PAGE}?checks=1")).text
    page = read_page(html)

    assert "Redis does not say" in page.one("p", class_="nothing").text
    assert "Redis" in page.one("section", id="doctor").one("li", class_="finding-error").text
    assert "SQLite" in page.text
    assert "hidden-word" not in html
    assert "redis://worker@127.0.0.1:1/0" in html


async def test_a_redis_that_hangs_holds_up_nobody(opening: Opening) -> None:
    async with saying(None) as fake, opening(fake.url) as opened:
        page = await page_of(opened.client)

    assert "Redis does not say" in page.one("p", class_="nothing").text
    assert "Redis does not answer" in page.text


@pytest.mark.parametrize("query", ["?checks=2", "?more=1"])
async def test_a_query_that_the_page_does_not_know_is_refused(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(PAGE + query)).status_code == 400


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("one `two` three", [("one ", False), ("two", True), (" three", False)]),
        ("see [Recipes](#recipes)", [("see ", False), ("Recipes", False)]),
        (
            "`s3://BUCKET[/PREFIX]` (`x`)",
            [("s3://BUCKET[/PREFIX]", True), (" (", False), ("x", True), (")", False)],
        ),
    ],
)
def test_words_in_markdown_are_parted_into_text_and_code(text: str, parts: list[tuple[str, bool]]) -> None:
    assert words_of(text) == parts


async def test_the_endpoint_of_webhooks_is_shown_with_what_waits_and_why(
    client: httpx.AsyncClient, catalog: Catalog
) -> None:
    before = await page_of(client)
    await catalog.webhooks.begin()
    await take(catalog, upload_event(1))
    await work(catalog)
    await catalog.webhooks.take(10)
    [one] = await catalog.webhooks.waiting(10)
    await catalog.webhooks.record([Attempted(one, "it answered 500: <b>boom</b>", one.next_ms)])
    await catalog.webhooks.note_state(EndpointState("down", one.made_ms, "it answered 500: <b>boom</b>"))

    after = await page_of(client)

    assert before.all("h2", id="webhooks") == []
    section = next(part for part in after.all("section") if part.all("h2", id="webhooks"))
    for words in ("takes no messages at the moment", "it answered 500: <b>boom</b>", "Messages that wait 1"):
        assert words in " ".join(section.text.split())
    assert [link.text for link in section.all("a")] == [str(CAT)[:8]]
