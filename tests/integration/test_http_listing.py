"""Uploads over HTTP: listed page by page, looked up, awaited and deleted; on SQLite and on Postgres."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
import pytest

from scripts.redis_server import RedisServer
from storage.catalog.opening import Catalog
from storage.catalog.records import DeadLetter
from tests.support.catalogs import (
    CAT,
    ON_BOTH,
    SOURCE,
    claim,
    commit,
    delete_event,
    failed,
    take,
    upload_event,
    work,
)
from tests.support.face import OpenFace, opened_face, settings_in
from tests.support.pictures import small

pytestmark = [ON_BOTH, pytest.mark.rotating(12, of="module")]

UPLOADS = "/v1/uploads"


async def announce(catalog: Catalog, count: int, folder: str = "2026", at: int = 1) -> list[UUID]:
    """So many queued uploads below a folder, which all changed in the same moment."""
    ids = [uuid4() for _ in range(count)]
    await take(catalog, *(upload_event(at, each, f"uploads/{folder}/{each}.jpg") for each in ids))
    return ids


async def listed(client: httpx.AsyncClient, path: str, **options: Any) -> list[dict[str, Any]]:
    """All items of a list, page by page, as its links lead."""
    items: list[dict[str, Any]] = []
    answer = await client.get(path, **options)
    while True:
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        if (following := answer.links.get("next")) is None:
            assert answer.json()["next"] is None
            return items
        answer = await client.get(following["url"], headers=options.get("headers"))


def ids_of(items: Sequence[dict[str, Any]]) -> list[UUID]:
    return [UUID(item["id"]) for item in items]


async def test_a_list_shows_the_latest_change_first_and_links_page_to_page(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    early = await announce(catalog, 3)
    await asyncio.sleep(0.002)  # the clock's next millisecond
    late = await announce(catalog, 2, at=2)

    items = await listed(client, UPLOADS, params={"limit": 2})

    assert ids_of(items) == [*sorted(late, reverse=True), *sorted(early, reverse=True)]


async def test_a_page_says_what_comes_next_and_a_last_page_nothing(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await announce(catalog, 3)

    first = (await client.get(UPLOADS, params={"limit": 2})).json()
    last = (await client.get(UPLOADS, params={"limit": 2, "cursor": first["next"]})).json()

    assert (len(first["items"]), len(last["items"]), last["next"]) == (2, 1, None)


async def test_an_upload_that_arrives_between_two_pages_moves_nothing(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    ids = await announce(catalog, 4)
    first = (await client.get(UPLOADS, params={"limit": 2})).json()
    await asyncio.sleep(0.002)
    await announce(catalog, 3, at=2)

    second = (await client.get(UPLOADS, params={"limit": 2, "cursor": first["next"]})).json()

    assert ids_of([*first["items"], *second["items"]]) == sorted(ids, reverse=True)


async def test_lists_are_filtered_by_state_code_recipe_and_source(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    broken, other = await announce(catalog, 1, "a"), await announce(catalog, 1, "ab", at=2)
    await commit(catalog, failed(await claim(catalog, broken[0])))

    async def ids(**filters: str) -> list[UUID]:
        return ids_of(await listed(client, UPLOADS, params=filters))

    assert (
        await ids(state="failed")
        == await ids(code="corrupt_image")
        == await ids(source="uploads/a/")
        == broken
    )
    assert await ids(state="queued") == await ids(source="uploads/ab") == other
    assert await ids(code="storage_full") == await ids(recipe="portrait") == []
    assert sorted(await ids(recipe="default")) == sorted([*broken, *other])


async def test_since_takes_iso_8601_and_seconds(catalog: Catalog, client: httpx.AsyncClient) -> None:
    ids = await announce(catalog, 1)
    changed = (await client.get(f"{UPLOADS}/{ids[0]}")).json()["changed"]

    async def found(since: str) -> bool:
        return bool(await listed(client, UPLOADS, params={"since": since}))

    assert await found(changed)
    assert await found("2020-01-01")
    assert await found("1600000000.5")
    assert not await found("2100-01-01T00:00:00+02:00")
    assert not await found("4102444800")


async def test_the_deleted_are_listed_where_they_or_changes_are_asked_for(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    ids = await announce(catalog, 2)
    await take(catalog, delete_event(2, ids[0]))
    await work(catalog, ids[0])

    assert ids_of(await listed(client, UPLOADS)) == ids[1:]
    assert sorted(ids_of(await listed(client, UPLOADS, params={"since": "0"}))) == sorted(ids)
    assert ids_of(await listed(client, UPLOADS, params={"state": "deleted"})) == ids[:1]


async def test_fields_are_chosen_also_those_of_each_variant(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await take(catalog, upload_event(1, owner="42"))
    await work(catalog)

    [item] = await listed(client, UPLOADS, params={"fields": "id,variants.url,original.width,error.code"})

    assert item.keys() == {"id", "error", "original", "variants"}
    assert (item["error"], item["original"]) == (None, {"width": 640})
    assert [list(variant) for variant in item["variants"]] == [["url"], ["url"]]


MISTAKEN: Sequence[dict[str, Any]] = (
    {"fields": "id,password"},
    {"fields": "variants.password"},
    {"fields": "id.x"},
    {"fields": ""},
    {"limit": "0"},
    {"limit": "101"},
    {"limit": "ten"},
    {"state": "lost"},
    {"code": "no_such_code"},
    {"since": "yesterday"},
    {"since": "9" * 400},
    {"since": "0001-01-01T00:00:00+23:59"} | {"color": "red"},
    {"source": "uploads/\0"},
    {"recipe": "x" * 65},
    {"colour": "red"},
    {"limit": ["1", "2"]},
    {"cursor": "AAAA"},
    {"cursor": "!"},
    {"cursor": "é"},
)


@pytest.mark.sqlite
async def test_a_question_that_nobody_understands_is_a_bad_request(client: httpx.AsyncClient) -> None:
    for query in MISTAKEN:
        answer = await client.get(UPLOADS, params=query)

        assert (query, answer.status_code, answer.json()["code"]) == (query, 400, "bad_request")
        assert next(reversed(query)) in answer.json()["detail"]


async def test_a_cursor_counts_for_its_own_filters_alone(catalog: Catalog, client: httpx.AsyncClient) -> None:
    await announce(catalog, 3)
    cursor = (await client.get(UPLOADS, params={"limit": 1, "state": "queued"})).json()["next"]

    same = await client.get(UPLOADS, params={"limit": 2, "state": "queued", "cursor": cursor})
    other = await client.get(UPLOADS, params={"state": "failed", "cursor": cursor})
    broken = await client.get(UPLOADS, params={"state": "queued", "cursor": cursor[:-2]})

    assert [same.status_code, other.status_code, broken.status_code] == [200, 400, 400]


async def test_an_upload_is_shown_with_links_to_its_variants(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await take(catalog, upload_event(1, owner="42"))
    await work(catalog)

    shown = (await client.get(f"{UPLOADS}/{CAT}")).json()

    assert (shown["id"], shown["source"], shown["state"]) == (str(CAT), SOURCE, "ready")
    assert [variant["url"] for variant in shown["variants"]] == [
        f"/files/{variant['key']}" for variant in shown["variants"]
    ]
    assert shown["metadata"] == {"owner": "42"}


async def test_an_upload_that_the_client_has_as_it_is_is_not_sent_again(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await take(catalog, upload_event(1))
    tag = (await client.get(f"{UPLOADS}/{CAT}")).headers["etag"]

    async def status(known: str) -> int:
        return (await client.get(f"{UPLOADS}/{CAT}", headers={"If-None-Match": known})).status_code

    assert [await status(known) for known in (tag, f'"x", {tag}', "*", '"x"')] == [304, 304, 304, 200]
    await work(catalog)
    assert await status(tag) == 200


async def test_what_was_deleted_is_not_found_and_the_problem_says_why(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await take(catalog, upload_event(1))
    await take(catalog, delete_event(2))
    await work(catalog)

    gone, never = await client.get(f"{UPLOADS}/{CAT}"), await client.get(f"{UPLOADS}/{uuid4()}")

    assert (gone.status_code, gone.json()["state"]) == (404, "deleted")
    assert (never.status_code, "state" in never.json()) == (404, False)


async def test_a_look_that_waits_answers_as_soon_as_the_variants_are_there(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    await take(catalog, upload_event(1))

    async with asyncio.timeout(10):
        looking = asyncio.create_task(client.get(f"{UPLOADS}/{CAT}", params={"wait": 30}))
        await asyncio.sleep(0)
        await work(catalog)
        answer = await looking

    assert answer.json()["state"] == "ready"


async def test_what_an_upload_was_answered_is_shown_while_no_worker_has_taken_it(
    client: httpx.AsyncClient,
) -> None:
    headers = {"Content-Type": "image/jpeg", "Media-Metadata": '{"post": 42}'}
    answer = await client.post(UPLOADS, content=small(), headers=headers)

    shown = await client.get(answer.headers["location"])

    assert (answer.status_code, shown.status_code) == (201, 200)
    assert shown.json() == answer.json()


@pytest.fixture
async def announced(opened: OpenFace) -> dict[str, Any]:
    """The event of an upload over HTTP that no worker has taken yet."""
    event = {"source": SOURCE, "recipe": "default", "metadata": {"post": 42}, "owner": "mine"}
    await opened.face.queue.announced.add(CAT, event)
    return event


async def test_an_upload_is_queued_before_a_worker_has_taken_its_event(
    client: httpx.AsyncClient, announced: dict[str, Any]
) -> None:
    shown = (await client.get(f"{UPLOADS}/{CAT}")).json()
    waited = (await client.get(f"{UPLOADS}/{CAT}?wait=0.01")).json()

    assert (shown["state"], shown["source"], shown["metadata"]) == ("queued", SOURCE, {"post": 42})
    assert waited == shown


async def test_whose_event_was_taken_just_now_is_found_in_the_catalog(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace, announced: dict[str, Any]
) -> None:
    await opened.face.queue.redis.xtrim(opened.face.queue.stream.name, maxlen=0)
    assert (await client.get(f"{UPLOADS}/{CAT}")).status_code == 404

    await take(catalog, upload_event(1))
    assert (await client.get(f"{UPLOADS}/{CAT}")).status_code == 200


@pytest.mark.parametrize("wait", ["", "?wait=1"])
async def test_an_upload_whose_event_the_workers_refused_is_failed_and_says_why(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace, announced: dict[str, Any], wait: str
) -> None:
    [(place, fields)] = await opened.face.queue.redis.xrange(opened.face.settings.stream)
    refused = DeadLetter(place.decode(), "unknown_recipe", "There is no recipe.", fields[b"event"])
    await catalog.intake.take([], [refused])
    await opened.face.queue.redis.xdel(opened.face.settings.stream, place)

    upload = (await client.get(f"{UPLOADS}/{CAT}{wait}")).json()

    assert (upload["state"], upload["source"]) == ("failed", announced["source"])
    assert upload["error"] == {"code": "unknown_recipe", "message": "There is no recipe."}


@pytest.mark.parametrize(("owner", "status"), [("mine", 200), ("other", 404)])
async def test_an_event_that_waits_is_shown_to_its_owner_alone(
    client: httpx.AsyncClient, opened: OpenFace, announced: dict[str, Any], owner: str, status: int
) -> None:
    headers = await opened.key(scopes="read,operate", owner=owner)

    assert (await client.get(f"{UPLOADS}/{CAT}", headers=headers)).status_code == status
    deleted = await client.delete(f"{UPLOADS}/{CAT}", headers=headers)
    assert deleted.status_code == {200: 202, 404: 404}[status]
    assert len(await events(opened)) == {200: 2, 404: 1}[status]


@pytest.mark.sqlite
@pytest.mark.parametrize("wait", ["31", "-1", "nan", "soon"])
async def test_nobody_waits_longer_than_half_a_minute(client: httpx.AsyncClient, wait: str) -> None:
    answer = await client.get(f"{UPLOADS}/{CAT}", params={"wait": wait})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_an_upload_is_deleted_by_an_event_on_the_stream(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    await take(catalog, upload_event(1))

    answer = await client.delete(f"{UPLOADS}/{CAT}", params={"original": 1})

    assert (answer.status_code, answer.json()) == (202, {"id": str(CAT), "state": "deleting"})
    assert await events(opened) == [{"delete": str(CAT), "original": True}]


async def test_nothing_is_deleted_by_the_stream_of_another_installation(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    await take(catalog, upload_event(1))
    await opened.face.queue.ownership.bind(str(uuid4()))

    answer = await client.delete(f"{UPLOADS}/{CAT}")

    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert answer.json()["detail"] == "Redis answers, but refuses. The log of the server says why."
    assert await events(opened) == []


async def test_what_is_not_there_is_not_deleted(client: httpx.AsyncClient, opened: OpenFace) -> None:
    answer = await client.delete(f"{UPLOADS}/{CAT}")

    assert answer.status_code == 404
    assert await events(opened) == []


async def events(opened: OpenFace) -> list[dict[str, Any]]:
    """The events that wait on the stream."""
    queue = opened.face.queue
    found = await queue.redis.xrange(queue.stream.name)
    return [orjson.loads(fields[b"event"]) for _, fields in found]


async def test_how_far_a_replica_may_lag_behind_is_told(
    installation: Path, server: RedisServer, catalog_url: str, storage_url: str, database_kind: str
) -> None:
    replica = {"catalog_read_url": catalog_url} if database_kind == "postgres" else {}
    urls = {"catalog_url": catalog_url, "storage_url": storage_url, **replica}
    settings = settings_in(installation, server.url, **urls)
    async with opened_face(settings) as opened:
        paths = UPLOADS, "/v1/failures", "/v1/dead-letters"
        told = [(await opened.client.get(path)).headers.get("media-lag") for path in paths]

    assert told == ["0.000" if replica else None] * 3


BOUND = [{"owner": "mine"}, {"prefix": "uploads/mine/"}]


@pytest.mark.parametrize("key", BOUND, ids=str)
@pytest.mark.rotating(1)
async def test_who_is_bound_sees_and_lists_only_their_own(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace, key: dict[str, str]
) -> None:
    mine, other = await announce(catalog, 2, "mine"), await announce(catalog, 2, "other", at=2)
    headers = await opened.key(scopes="read,operate", **key)

    async def ids(**filters: str) -> list[UUID]:
        return sorted(ids_of(await listed(client, UPLOADS, params=filters, headers=headers)))

    assert await ids() == await ids(source="uploads/m") == await ids(limit="1") == sorted(mine)
    assert await ids(source="uploads/other/") == await ids(source="uploads/mine/../other") == []
    assert (await client.get(f"{UPLOADS}/{mine[0]}", headers=headers)).status_code == 200
    assert (await client.get(f"{UPLOADS}/{other[0]}?wait=30", headers=headers)).status_code == 404


@pytest.mark.parametrize("key", BOUND, ids=str)
@pytest.mark.rotating(1)
async def test_anothers_upload_is_as_unknown_as_none_and_nobody_else_deletes_it(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace, key: dict[str, str]
) -> None:
    [other] = await announce(catalog, 1, "other")
    headers = await opened.key(scopes="read,operate", **key)

    for method, query in (("GET", ""), ("GET", "?wait=30"), ("DELETE", "")):
        theirs = await client.request(method, f"{UPLOADS}/{other}{query}", headers=headers)
        none = await client.request(method, f"{UPLOADS}/{uuid4()}{query}", headers=headers)
        assert (theirs.status_code, theirs.json()) == (404, none.json())
    assert await events(opened) == []


@pytest.mark.sqlite
@pytest.mark.rotating(1)
async def test_reading_takes_the_scope_read_and_deleting_operate(
    client: httpx.AsyncClient, opened: OpenFace
) -> None:
    reader, operator = await opened.key("reader", "read"), await opened.key("operator", "operate")

    assert (await client.get(UPLOADS, headers=operator)).status_code == 403
    assert (await client.get(UPLOADS)).status_code == 401
    assert (await client.delete(f"{UPLOADS}/{CAT}", headers=reader)).status_code == 403
    assert (await client.delete(f"{UPLOADS}/{CAT}", headers=operator)).status_code == 404
