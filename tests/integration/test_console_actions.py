"""What operators do from pages: by forms of the console's own, confirmed, logged by name, safe in outages."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest
from sqlalchemy import event
from starlette.routing import Route
from structlog.testing import capture_logs

from scripts.redis_server import RedisServer, temporary_redis
from storage.catalog import reading
from storage.catalog.opening import Catalog
from storage.catalog.records import State
from tests.support.catalogs import claim, commit, failed, ready, take, upload, upload_event, work
from tests.support.console_page import Element, read_page
from tests.support.face import HERE, OpenFace, opened_face, settings_in
from tests.support.failures import break_one, entries, put_off, refuse
from worker.http import failures
from worker.http.console import actions, bounded

pytestmark = pytest.mark.rotating(11, of="module")

OURS = {"Sec-Fetch-Site": "same-origin", "Origin": HERE}
RETRY, DISCARD = "/console/failures/retry", "/console/failures/discard"
Fields = Mapping[str, str | Sequence[str]]


@pytest.fixture
def browser(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client that sends forms as a page of the console does."""
    client.headers.update(OURS)
    return client


async def send(client: httpx.AsyncClient, path: str, fields: Fields, **options: object) -> httpx.Response:
    """Send a form."""
    client.headers["Content-Type"] = "application/x-www-form-urlencoded"  # also where it has no field
    return await client.post(path, data=dict(fields), **options)  # type: ignore[arg-type]


async def confirm(client: httpx.AsyncClient, answer: httpx.Response) -> tuple[Element, httpx.Response]:
    """The confirmation, and the answer to it."""
    assert answer.status_code == 200, answer.text
    page = read_page(answer.text)
    form = page.one("form", class_="confirm")
    fields: dict[str, list[str]] = {}
    for field in form.all("input", type="hidden"):
        fields.setdefault(field.attributes["name"], []).append(field.attributes["value"])
    return page, await send(client, form.attributes["action"], fields)


async def states(catalog: Catalog, *ids: UUID) -> list[State]:
    return [(await upload(catalog, each)).state for each in ids]


async def notice_after(client: httpx.AsyncClient, answer: httpx.Response) -> str:
    """What the page says to which the answer leads."""
    assert answer.status_code == 303, answer.text
    page = read_page((await client.get(answer.headers["location"])).text)
    return page.one(class_="notice").text


# -- failures


async def test_ticked_failures_are_tried_again_once_that_is_confirmed(
    catalog: Catalog, browser: httpx.AsyncClient
) -> None:
    broken = [await break_one(catalog, at=at) for at in (1, 2, 3)]
    answer = await send(browser, RETRY, {"tick": [str(each) for each in broken[:2]]})
    assert await states(catalog, *broken) == [State.FAILED] * 3  # nothing yet

    page, done = await confirm(browser, answer)
    assert page.one("h1").text == "Retry 2 failed uploads?"
    assert page.one("table", class_="codes").all("tr")[1].text == "corrupt_image 2"
    assert await states(catalog, *broken) == [State.QUEUED, State.QUEUED, State.FAILED]
    said = "2 are being tried again: 0 ready , 0 failed again , 2 still waiting ."
    assert (await notice_after(browser, done)).startswith(said)


async def test_while_all_are_tried_again_the_list_says_so_and_the_outcome_leads_elsewhere(
    catalog: Catalog, browser: httpx.AsyncClient
) -> None:
    broken = [await break_one(catalog, at=at) for at in (1, 2)]
    _, done = await confirm(browser, await send(browser, RETRY, {"all": "1"}))
    there = done.headers["location"]
    page = read_page((await browser.get(there)).text)
    assert page.one("p", class_="nothing").text == "2 are being tried again; nothing else has failed."

    outcome = page.one("a", href=there.replace("failures?", "failures/outcome?")).attributes["href"]
    assert read_page((await browser.get(outcome)).text).one(class_="notice").all("a") == []
    await work(catalog, broken[0])
    narrowed = read_page((await browser.get(f"{there}&code=corrupt_image")).text)
    said = narrowed.one("p", class_="nothing").text
    assert said.startswith("1 is being tried again; nothing else has failed that matches.")


async def test_the_page_after_it_tells_what_has_become_of_them(
    catalog: Catalog, browser: httpx.AsyncClient
) -> None:
    broken = [await break_one(catalog, at=at) for at in (1, 2, 3)]
    _, done = await confirm(browser, await send(browser, RETRY, {"all": "1"}))
    await work(catalog, broken[0])
    await commit(catalog, failed(await claim(catalog, broken[1])))

    said = await notice_after(browser, done)
    assert said.startswith("3 are being tried again: 1 ready , 1 failed again , 1 still waiting .")
    token = done.headers["location"].rpartition("done=")[2]
    page = read_page((await browser.get(f"/console/failures/outcome?done={token}")).text)
    order = [one.attributes["id"].removeprefix("failure-") for one in page.all("li", class_="failure")]
    assert order == [str(broken[1]), str(broken[2]), str(broken[0])]
    assert [one.text for one in page.all("h2")] == ["Failed again", "Still waiting", "Ready"]


async def test_what_became_of_them_is_told_to_nobody_who_sees_others_uploads(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace
) -> None:
    await break_one(catalog)
    theirs = [await opened.key(name, "operate", prefix=f"uploads/{name}/") for name in ("ada", "bob")]
    browser.headers.update(await opened.key("all", "operate"))
    done = await send(browser, RETRY, {"all": "1", "confirmed": "1"})
    own = await send(browser, RETRY, {"all": "1", "confirmed": "1"}, headers=theirs[0])
    seen = [
        [bool(read_page(page.text).all(class_="notice")) for page in pages]
        for pages in [
            [await browser.get(one.headers["location"], headers=key) for one in (done, own)]
            for key in ({}, *theirs)
        ]
    ]
    assert seen == [[True, True], [False, True], [False, False]]


@pytest.mark.parametrize(
    "content", [b"\xff", b"[]", b"{}", b'{"action":"burn","things":"uploads","count":1,"uploads":"zz"}']
)
async def test_a_receipt_that_nobody_can_read_is_as_good_as_none(
    browser: httpx.AsyncClient, opened: OpenFace, content: bytes
) -> None:
    token = await opened.face.queue.receipts.keep(content)
    page = await browser.get(f"/console/failures/outcome?done={token}")
    assert (page.status_code, "is not known any more" in page.text) == (200, True)


async def test_a_retry_of_all_that_match_takes_those_alone_that_were_there_and_match(
    catalog: Catalog, browser: httpx.AsyncClient
) -> None:
    mine, other = await break_one(catalog, "mine"), await break_one(catalog, "other", at=2)
    fields = {"all": "1", "code": "corrupt_image", "within": "1h", "source": "uploads/mine/", "owner": ""}
    asked = await send(browser, RETRY, fields)
    later = uuid4()
    await take(catalog, upload_event(9, later, "uploads/mine/later.jpg"))
    await asked_later(catalog, mine, later)

    page, done = await confirm(browser, asked)
    assert page.one("h1").text == (
        "Retry 1 failed upload with corrupt_image below uploads/mine/ in the last hour?"
    )
    assert await states(catalog, mine, other, later) == [State.QUEUED, State.FAILED, State.FAILED]
    assert done.headers["location"].startswith(
        "/console/failures?code=corrupt_image&within=1h&source=uploads%2Fmine%2F&done="
    )


async def asked_later(catalog: Catalog, before: UUID, later: UUID) -> None:
    """Another fails, at a later moment than the one before."""
    moment = (await upload(catalog, before)).changed_ms
    while catalog.database.now_ms() <= moment + 1:
        pass
    await commit(catalog, failed(await claim(catalog, later)))


async def test_what_somebody_else_has_dealt_with_is_not_touched_and_told(
    catalog: Catalog, browser: httpx.AsyncClient
) -> None:
    broken = [await break_one(catalog, at=at) for at in (1, 2)]
    asked = await send(browser, RETRY, {"tick": [str(each) for each in broken]})
    await catalog.requeuer.requeue(broken[:1], State.FAILED)
    await work(catalog, broken[0])

    said = await notice_after(browser, (await confirm(browser, asked))[1])
    assert said.startswith("1 is being tried again:")
    assert "1 was not there any more, or dealt with before, and was left alone" in said
    assert await states(catalog, *broken) == [State.READY, State.QUEUED]


async def test_nothing_that_matches_any_more_leads_back_without_a_form(
    catalog: Catalog, browser: httpx.AsyncClient
) -> None:
    for fields in ({"all": "1"}, {"tick": str(uuid4())}):
        page = read_page((await send(browser, RETRY, fields)).text)
        assert page.one("h1").text == "Nothing to do"
        assert page.all("form") == []
    empty = await send(browser, RETRY, {"code": "corrupt_image"})
    assert (empty.status_code, "Nothing is ticked" in empty.text) == (400, True)


async def test_discarded_failures_are_forgotten_but_not_those_that_are_served(
    catalog: Catalog, browser: httpx.AsyncClient
) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog)))
    await take(catalog, upload_event(2))
    await commit(catalog, failed(await claim(catalog)))
    broken = await break_one(catalog, at=3)
    page, done = await confirm(browser, await send(browser, DISCARD, {"all": "1"}))

    assert "originals stay where they are" in page.text
    assert page.one("button").attributes["class"] == "danger"
    assert await states(catalog, broken) == [State.DELETED]
    said = await notice_after(browser, done)
    assert said.startswith("1 was discarded. 1 was kept: variants of theirs are served")


async def test_so_many_at_most_are_done_at_once_and_the_page_says_that_there_are_more(
    catalog: Catalog, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_PAGE", 1)
    monkeypatch.setattr(failures, "MOST", 2)
    for at in (1, 2, 3):
        await break_one(catalog, at=at)
    _, done = await confirm(browser, await send(browser, RETRY, {"all": "1"}))

    assert "There are more" in await notice_after(browser, done)
    assert (await catalog.reports.states())[State.FAILED] == 1


async def test_what_waits_for_another_try_is_tried_now(catalog: Catalog, browser: httpx.AsyncClient) -> None:
    waiting, broken = await put_off(catalog, "mine", 1), await break_one(catalog, at=2)
    page, done = await confirm(browser, await send(browser, RETRY, {"all": "1", "waiting": "1"}))

    assert page.one("h1").text == "Retry 1 upload waiting for another try?"
    assert (await upload(catalog, waiting)).not_before_ms <= catalog.database.now_ms()
    assert await states(catalog, broken) == [State.FAILED]
    assert done.headers["location"].startswith("/console/failures?waiting=1&done=")


@pytest.mark.parametrize("binding", [{"owner": "mine"}, {"prefix": "uploads/mine/"}], ids=str)
@pytest.mark.rotating(1)
async def test_who_is_bound_deals_with_their_own_alone(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace, binding: dict[str, str]
) -> None:
    mine, other = await break_one(catalog, "mine"), await break_one(catalog, "other", at=2)
    browser.headers.update(await opened.key("tenant", "operate", **binding))

    for fields in ({"tick": str(other)}, {"all": "1", "owner": "other"}, {"all": "1", "source": "uploads/o"}):
        assert read_page((await send(browser, RETRY, fields)).text).one("h1").text == "Nothing to do"
        await send(browser, RETRY, {**fields, "confirmed": "1"})
    page, _ = await confirm(browser, await send(browser, RETRY, {"all": "1"}))
    assert page.one("h1").text == "Retry 1 failed upload?"
    assert await states(catalog, mine, other) == [State.QUEUED, State.FAILED]
    assert (await send(browser, f"/console/uploads/{other}/retry", {})).status_code == 404


# -- one upload


async def test_one_upload_is_tried_again_from_its_page(catalog: Catalog, browser: httpx.AsyncClient) -> None:
    broken, waiting = await break_one(catalog), await put_off(catalog, "mine", 2)
    for each in (broken, waiting):
        answer = await send(browser, f"/console/uploads/{each}/retry", {})
        assert answer.status_code == 303
        assert answer.headers["location"].startswith(f"/console/uploads/{each}?done=")
        assert (await upload(catalog, each)).not_before_ms <= catalog.database.now_ms()


async def test_one_upload_is_deleted_once_that_is_confirmed(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace
) -> None:
    broken = await break_one(catalog)
    asked = await send(browser, f"/console/uploads/{broken}/delete", {})
    assert await entries(opened) == []

    page, done = await confirm(browser, asked)
    assert page.all("input", name="original") == []  # MEDIA_DELETE_ORIGINALS is off
    assert "It is deleted for good; the original stays where it is." in page.text
    assert [orjson.loads(each) for each in await entries(opened)] == [{"delete": str(broken)}]
    assert done.headers["location"].startswith(f"/console/uploads/{broken}?done=")
    refused = await send(browser, f"/console/uploads/{broken}/delete", {"confirmed": "1", "original": "1"})
    assert (refused.status_code, len(await entries(opened))) == (403, 1)


async def test_the_original_goes_too_where_that_is_allowed_and_ticked(
    catalog: Catalog, installation: Path, server: RedisServer, catalog_url: str
) -> None:
    settings = settings_in(installation, server.url, catalog_url=catalog_url, delete_originals=True)
    async with opened_face(settings) as opened:
        broken = await break_one(catalog)
        path = f"/console/uploads/{broken}/delete"
        page = read_page((await send(opened.client, path, {}, headers=OURS)).text)
        assert len(page.all("input", name="original")) == 1
        await send(opened.client, path, {"confirmed": "1", "original": "1"}, headers=OURS)
        assert [orjson.loads(each) for each in await entries(opened)] == [
            {"delete": str(broken), "original": True}
        ]


# -- who, and from where


@pytest.fixture
async def paths(catalog: Catalog, opened: OpenFace) -> list[str]:
    """Every path of the console that takes a form, with ids that are there."""
    broken = await break_one(catalog)
    routes = [route for route in opened.client._transport.app.routes if isinstance(route, Route)]  # type: ignore[attr-defined]
    posts = [one.path for one in routes if one.path.startswith("/console") and "POST" in (one.methods or ())]
    return [path.replace("{upload_id}", str(broken)) for path in posts]


FOREIGN: Sequence[Mapping[str, str]] = [
    {"Sec-Fetch-Site": "cross-site", "Origin": HERE},
    {"Sec-Fetch-Site": "same-site", "Origin": HERE},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://evil.test"},
    {"Origin": "http://127.0.0.1:8081"},
    {"Origin": "null"},
    {},
]


@pytest.mark.rotating(1)
async def test_no_form_of_another_site_does_anything(
    client: httpx.AsyncClient, opened: OpenFace, paths: list[str]
) -> None:
    key = await opened.key(scopes="operate,read")
    assert len(paths) >= 7
    for path, headers in product(paths, FOREIGN):
        answer = await send(client, path, {"all": "1", "confirmed": "1"}, headers={**key, **headers})
        assert (answer.status_code, "Only a page of the console" in answer.text) == (403, True), headers
    assert await entries(opened) == []


async def test_a_form_of_the_console_itself_is_taken_also_over_plain_http(
    client: httpx.AsyncClient, opened: OpenFace, paths: list[str]
) -> None:
    key = await opened.key(scopes="operate,read")
    for path, headers in product(paths, (OURS, {"Origin": HERE}, {"Origin": HERE.upper()})):
        answer = await send(client, path, {"nonsense": "1"}, headers={**key, **headers})
        assert answer.status_code in (400, 415), path


@pytest.mark.rotating(1)
async def test_who_may_only_read_does_nothing(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace, paths: list[str]
) -> None:
    browser.headers.update(await opened.key(scopes="read"))
    for path in paths:
        assert (await send(browser, path, {"all": "1", "confirmed": "1"})).status_code == 403
    assert (await catalog.reports.states())[State.FAILED] == 1


@pytest.mark.rotating(1)
async def test_looking_never_does_anything(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace, paths: list[str]
) -> None:
    for path in paths:
        answer = await browser.get(f"{path}?all=1&confirmed=1")
        assert answer.status_code in (200, 303, 400, 404, 405), path
    assert (await catalog.reports.states())[State.FAILED] == 1
    assert await entries(opened) == []


WRONG: Sequence[Fields] = [
    {"all": "1", "colour": "red"},
    {"tick": "cat"},
    {"all": "yes"},
    {"all": "1", "within": "2h"},
    {"all": "1", "until": "-1"},
    {"all": ["1", "1"]},
    {"tick": [str(UUID(int=n)) for n in range(1001)]},
]


async def test_a_form_that_nobody_understands_is_refused(
    catalog: Catalog, browser: httpx.AsyncClient
) -> None:
    broken = await break_one(catalog)
    for fields in WRONG:
        answer = await send(browser, RETRY, {**fields, "confirmed": "1"})
        assert (answer.status_code, read_page(answer.text).one("h1").text) == (400, "Bad Request"), fields
    assert await states(catalog, broken) == [State.FAILED]


async def test_a_form_of_very_many_fields_is_not_read(browser: httpx.AsyncClient) -> None:
    answer = await send(browser, RETRY, {"tick": [""] * 2001})
    assert (answer.status_code, "at most 2000 fields" in answer.text) == (400, True)


async def test_each_action_is_a_line_of_the_log_with_the_name_of_who_did_it(
    catalog: Catalog, browser: httpx.AsyncClient, opened: OpenFace
) -> None:
    broken = [await break_one(catalog, at=at) for at in (1, 2)]
    await refuse(catalog, b"secret")
    browser.headers.update(await opened.key("ada", "operate"))
    with capture_logs() as logs:
        await send(browser, RETRY, {"all": "1", "code": "corrupt_image"})  # asks
        await send(browser, RETRY, {"all": "1", "code": "corrupt_image", "confirmed": "1"})
        await send(browser, f"/console/uploads/{broken[0]}/delete", {"confirmed": "1"})
        await send(browser, "/console/dead-letters/discard", {"all": "1", "confirmed": "1"})
    said = [line for line in logs if line["event"] == "console_action"]
    assert [(one["action"], one["by"], one["count"]) for one in said] == [
        ("retry", "ada", 2),
        ("delete", "ada", 1),
        ("discard", "ada", 1),
    ]
    assert (said[0]["code"], said[0]["what"], said[1]["upload"]) == (
        "corrupt_image",
        "uploads",
        str(broken[0]),
    )
    assert (sorted(said[0]["ids"]), len(said[2]["ids"])) == (sorted(map(str, broken)), 1)
    assert "secret" not in str(said)


async def test_the_line_of_an_action_says_how_they_were_chosen_and_the_first_ids(
    catalog: Catalog, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "_MOST_NAMED", 2)
    broken = [str(await break_one(catalog, "ada", at=at)) for at in (1, 2, 3, 4)]
    chosen = {"code": "corrupt_image", "within": "1h", "owner": "ada", "source": "uploads/ada/"}
    with capture_logs() as logs:
        await send(browser, DISCARD, {"tick": broken[0], "code": "corrupt_image", "confirmed": "1"})
        await send(browser, DISCARD, {"all": "1", **chosen, "confirmed": "1"})
        await send(browser, DISCARD, {"all": "1", "confirmed": "1"})
    ticked, matching, none = [line for line in logs if line["event"] == "console_action"]

    assert (ticked["ids"], "code" in ticked) == ([broken[0]], False)
    assert (set(matching["ids"]) < set(broken[1:]), len(matching["ids"]), matching["more"]) == (True, 2, 1)
    assert {name: matching[name] for name in chosen} == chosen
    assert (none["count"], none["ids"], "more" in none) == (0, [], False)
    assert ".jpg" not in str([ticked, matching, none])


# -- outages


@pytest.fixture
def killed_at(catalog: Catalog) -> Callable[..., AbstractContextManager[None]]:
    """Has a Redis killed at that change of an upload that a face makes."""

    @contextmanager
    def killed(opened: OpenFace, redis: RedisServer, change: int) -> Iterator[None]:
        engine, left = opened.face.stores.catalog.database._engine.sync_engine, [change]

        def asked(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            if statement.startswith("UPDATE uploads"):
                left[0] -= 1
                if not left[0]:
                    os.kill(redis.pid, signal.SIGKILL)

        event.listen(engine, "before_cursor_execute", asked)
        yield
        event.remove(engine, "before_cursor_execute", asked)

    return killed


async def test_an_outage_of_redis_loses_nothing_and_the_page_says_what_was_done(
    catalog: Catalog,
    installation: Path,
    catalog_url: str,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: Callable[..., AbstractContextManager[None]],
) -> None:
    monkeypatch.setattr(failures, "_PAGE", 1)
    broken = [await break_one(catalog, at=at) for at in (1, 2, 3)]
    with temporary_redis() as redis, capture_logs() as logs:
        async with opened_face(settings_in(installation, redis.url, catalog_url=catalog_url)) as opened:
            with killed_at(opened, redis, change=2):
                answer = await send(opened.client, RETRY, {"all": "1", "confirmed": "1"}, headers=OURS)
            gone = await send(opened.client, RETRY, {"all": "1", "confirmed": "1"}, headers=OURS)
            page = await opened.client.get(f"/console/failures?done={'0' * 16}")
    text = read_page(answer.text).one("main").text
    assert (answer.status_code, gone.status_code, page.status_code) == (503, 503, 200)
    assert "Redis does not answer. Try again soon. 2 were queued again before that. Nothing is lost" in text
    assert sorted(await states(catalog, *broken)) == [State.FAILED, State.QUEUED, State.QUEUED]
    assert [line["count"] for line in logs if line["event"] == "console_action"] == [2, 0]


async def test_where_nobody_knows_how_many_match_no_number_is_told(
    catalog: Catalog, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK", 1)
    monkeypatch.setattr(reading, "FEW", 0)
    mine = [await break_one(catalog, folder, at=at) for at, folder in enumerate(("mine", "mine", "other"), 1)]
    fields = {"all": "1", "source": "uploads/mine/"}
    page, _ = await confirm(browser, await send(browser, RETRY, fields))

    assert page.one("h1").text == "Retry all failed uploads below uploads/mine/?"
    assert (page.all("table"), page.one("button").text) == ([], "Retry")
    assert await states(catalog, *mine) == [State.QUEUED, State.QUEUED, State.FAILED]


async def test_a_redis_that_hangs_holds_up_no_action_and_no_page_after_it(
    catalog: Catalog, installation: Path, catalog_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "QUEUE_S", 0.1)
    broken = [await break_one(catalog, at=at) for at in (1, 2)]
    with temporary_redis() as redis:
        async with opened_face(settings_in(installation, redis.url, catalog_url=catalog_url)) as opened:
            os.kill(redis.pid, signal.SIGSTOP)
            async with asyncio.timeout(3):
                retried = await send(opened.client, RETRY, {"all": "1", "confirmed": "1"}, headers=OURS)
                gone = {"tick": str(broken[0]), "confirmed": "1"}
                discarded = await send(opened.client, DISCARD, gone, headers=OURS)
                page = await opened.client.get(f"/console/failures?done={'0' * 16}")
                unknown = await opened.client.get(f"/console/uploads/{uuid4()}")
                path = f"/console/uploads/{broken[1]}/delete"
                kept = await send(opened.client, path, {"confirmed": "1"}, headers=OURS)
            os.kill(redis.pid, signal.SIGCONT)
    assert "Redis does not answer. Try again soon. Nothing is lost" in retried.text
    assert discarded.headers["location"] == "/console/failures"
    for answer in (unknown, kept):
        assert (answer.status_code, "Redis does not answer" in answer.text) == (503, True)
    assert [one.attributes["value"] for one in read_page(page.text).all("input", name="tick")] == [
        str(broken[1])
    ]
