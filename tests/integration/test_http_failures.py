"""Failures over HTTP: failed uploads and dead letters are listed, retried and discarded."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx
import pytest

from storage.catalog.opening import Catalog
from storage.catalog.records import State
from tests.support.catalogs import (
    ON_BOTH,
    claim,
    commit,
    failed,
    ready,
    take,
    upload,
    upload_event,
)
from tests.support.face import OpenFace
from tests.support.failures import FIELDLESS, break_one, entries, put_off, refuse
from worker.http import failures

pytestmark = [ON_BOTH, pytest.mark.rotating(8, of="module")]

BOUND = [{"owner": "mine"}, {"prefix": "uploads/mine/"}]


async def test_failed_uploads_are_listed_with_their_reason(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    broken = await break_one(catalog)
    await take(catalog, upload_event(9))

    page = (await client.get("/v1/failures", params={"fields": "id,error"})).json()

    error = {"code": "corrupt_image", "message": "The picture is damaged."}
    assert page == {"items": [{"id": str(broken), "error": error}], "next": None}
    assert (await client.get("/v1/failures?code=storage_full")).json()["items"] == []


async def test_dead_letters_are_listed_page_by_page_with_their_bytes_escaped(
    catalog: Catalog, client: httpx.AsyncClient
) -> None:
    numbers = await refuse(catalog, b"\xff<b>", b"2", b"3")

    first = (await client.get("/v1/dead-letters?limit=2")).json()
    last = (await client.get(f"/v1/dead-letters?limit=2&cursor={first['next']}")).json()

    assert [one["id"] for one in (*first["items"], *last["items"])] == numbers
    assert (last["items"][0]["body"], last["items"][0]["bytes"], last["next"]) == ("\\xff<b>", 4, None)


@pytest.mark.parametrize("key", BOUND, ids=str)
@pytest.mark.rotating(1)
async def test_who_is_bound_sees_letters_about_their_own_alone(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace, key: dict[str, str]
) -> None:
    numbers = await refuse(
        catalog,
        b'{"source": "uploads/mine/a.jpg", "x": 1}',
        b'{"source": "uploads/other/a.jpg"}',
        b'{"source": "uploads/mine/b.jpg", "owner": "mine", "x": 1}',
        b"nonsense",
        b'{"delete": "4a2ca705-03aa-52b8-a8b8-e2aa1374070e", "x": 1}',
    )
    headers = await opened.key("tenant", "read", **key)

    page = (await client.get("/v1/dead-letters", headers=headers)).json()

    assert [one["id"] for one in page["items"]] == [numbers[2], numbers[4]]


async def test_the_owner_that_a_refused_event_names_counts_more_than_its_folder(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    body = b'{"source": "uploads/mine/a.jpg", "owner": %s, "x": 1}'
    numbers = await refuse(catalog, body % b'"other"', body % b"7", body % b"null")
    headers = await opened.key("tenant", "read", owner="mine")

    page = (await client.get("/v1/dead-letters", headers=headers)).json()

    assert [one["id"] for one in page["items"]] == numbers[:1]


async def test_a_tenant_pages_through_many_letters_of_others_in_bounded_steps(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_LOOKED_AT", 3)
    await refuse(catalog, b'{"source": "uploads/mine/a.jpg", "x": 1}', *[b"other"] * 7)
    headers = await opened.key("tenant", "read", owner="mine")
    pages = [(await client.get("/v1/dead-letters", headers=headers)).json()]
    while cursor := pages[-1]["next"]:
        pages.append((await client.get(f"/v1/dead-letters?cursor={cursor}", headers=headers)).json())

    assert [len(page["items"]) for page in pages] == [0, 0, 1]


async def test_failures_are_queued_again_by_their_ids(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace
) -> None:
    broken, other, unknown = await break_one(catalog), await break_one(catalog, at=2), uuid4()
    numbers = await refuse(catalog, b"first", b"second")

    ids = [str(broken), numbers[0], str(unknown), 999]
    answer = await client.post("/v1/failures/retry", json={"ids": ids})

    assert (answer.status_code, answer.json()) == (
        202,
        {"queued": 2, "kept": 0, "not_failed": [str(unknown), "999"], "more": False},
    )
    assert [(await upload(catalog, each)).state for each in (broken, other)] == [State.QUEUED, State.FAILED]
    assert await entries(opened) == [b"second"]
    assert [letter.body for letter in await catalog.dead_letters.newest(9)] == [b"first"]


async def test_failures_of_one_code_are_queued_again(catalog: Catalog, client: httpx.AsyncClient) -> None:
    broken = [await break_one(catalog, at=at) for at in (1, 2)]
    await refuse(catalog, b"letter")

    wrong = await client.post("/v1/failures/retry", json={"code": "storage_full"})
    right = await client.post("/v1/failures/retry", json={"code": "corrupt_image"})

    assert (wrong.json()["queued"], right.json()["queued"]) == (0, 2)
    assert {(await upload(catalog, each)).state for each in broken} == {State.QUEUED}
    assert await catalog.dead_letters.count() == 1


@pytest.mark.parametrize("by", ["all", "code", "ids"])
async def test_letters_of_entries_without_a_field_event_are_kept_and_counted(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace, by: str
) -> None:
    [number] = await refuse(catalog, b"foo=bar", reason=FIELDLESS)
    which: dict[str, Any] = {"all": True, "code": "invalid_event", "ids": [number]}

    answer = await client.post("/v1/failures/retry", json={by: which[by]})

    assert answer.json() == {"queued": 0, "kept": 1, "not_failed": [], "more": False}
    assert await entries(opened) == []
    assert await catalog.dead_letters.count() == 1
    discarded = await client.post("/v1/failures/discard", json={by: which[by]})
    assert (discarded.json()["discarded"], await catalog.dead_letters.count()) == (1, 0)


@pytest.mark.parametrize("by", ["all", "code", "ids"])
async def test_what_waits_for_another_try_is_tried_now_where_the_key_may_see_it(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    monkeypatch.setattr(failures, "_PAGE", 1)
    mine = [await put_off(catalog, "mine", at) for at in (1, 3)]
    other = await put_off(catalog, "other", 2)
    headers = await opened.key("tenant", "operate", prefix="uploads/mine/")
    ids = [str(each) for each in (*mine, other)]
    which: dict[str, Any] = {"all": True, "code": "storage_full", "ids": ids}

    body = {by: which[by]}
    answer = await client.post("/v1/failures/retry", json=body, headers=headers)
    discarded = await client.post("/v1/failures/discard", json=body, headers=headers)

    now = catalog.database.now_ms()
    due = [each for each in (*mine, other) if (await upload(catalog, each)).not_before_ms <= now]
    not_failed = [str(other)] if by == "ids" else []
    assert (answer.json(), due) == ({"queued": 2, "kept": 0, "not_failed": not_failed, "more": False}, mine)
    assert discarded.json()["discarded"] == 0


@pytest.mark.parametrize("verb", ["retry", "discard"])
async def test_all_failures_are_dealt_with_in_pages(
    catalog: Catalog, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    monkeypatch.setattr(failures, "_PAGE", 2)
    monkeypatch.setattr(failures, "_LETTERS", 2)
    for at in range(1, 6):
        await break_one(catalog, at=at)
    await refuse(catalog, b"1", b"2", b"3")

    answer = (await client.post(f"/v1/failures/{verb}", json={"all": True})).json()

    assert {"retry": answer.get("queued"), "discard": answer.get("discarded")}[verb] == 8
    assert ((await catalog.reports.states())[State.FAILED], await catalog.dead_letters.count()) == (0, 0)


async def test_one_request_does_so_many_at_most_and_says_that_there_are_more(
    catalog: Catalog, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_PAGE", 1)
    monkeypatch.setattr(failures, "MOST", 2)
    for at in range(1, 4):
        await break_one(catalog, at=at)

    answers = [(await client.post("/v1/failures/retry", json={"all": True})).json() for _ in range(2)]

    assert [(answer["queued"], answer["more"]) for answer in answers] == [(2, True), (1, False)]


@pytest.mark.rotating(1)
async def test_a_failure_that_still_has_variants_is_kept(catalog: Catalog, client: httpx.AsyncClient) -> None:
    await take(catalog, upload_event(1))
    await commit(catalog, ready(await claim(catalog)))
    await take(catalog, upload_event(2))
    await commit(catalog, failed(await claim(catalog)))

    answer = await client.post("/v1/failures/discard", json={"all": True})

    assert answer.json() == {"discarded": 0, "kept": 1, "not_failed": [], "more": False}
    assert (await upload(catalog)).state is State.FAILED


@pytest.mark.parametrize("verb", ["retry", "discard"])
@pytest.mark.parametrize("key", BOUND, ids=str)
@pytest.mark.rotating(1)
async def test_who_is_bound_touches_only_their_own_failures(
    catalog: Catalog, client: httpx.AsyncClient, opened: OpenFace, verb: str, key: dict[str, str]
) -> None:
    mine, other = await break_one(catalog, "mine"), await break_one(catalog, "other", at=2)
    [number] = await refuse(catalog, b'{"source": "uploads/other/a.jpg", "x": 1}')
    headers = await opened.key("tenant", "operate", **key)

    named = {"ids": [str(other), number]}
    refused = (await client.post(f"/v1/failures/{verb}", json=named, headers=headers)).json()
    answers: list[Any] = [
        (await client.post(f"/v1/failures/{verb}", json=body, headers=headers)).json()
        for body in ({"code": "corrupt_image"}, {"all": True}, {"code": "invalid_event"})
    ]

    assert refused["not_failed"] == [str(other), str(number)]
    assert [answer.get("queued", answer.get("discarded")) for answer in answers] == [1, 0, 0]
    assert (await upload(catalog, mine)).state is not State.FAILED
    assert (await upload(catalog, other)).state is State.FAILED
    assert await catalog.dead_letters.count() == 1


MISTAKEN: Sequence[Any] = (
    {},
    {"all": False},
    {"all": True, "code": "corrupt_image"},
    {"ids": []},
    {"ids": ["cat"]},
    {"ids": [0]},
    {"ids": [True]},
    {"ids": [1.5]},
    {"ids": [2**63]},
    {"ids": list(range(1, 1002))},
    {"code": "no_such_code"},
    {"colour": "red"},
    [],
    "all",
)


@pytest.mark.sqlite
async def test_what_is_to_be_done_is_said_in_exactly_one_way(client: httpx.AsyncClient) -> None:
    for body in MISTAKEN:
        answers = [await client.post(f"/v1/failures/{verb}", json=body) for verb in ("retry", "discard")]

        told = [(one.status_code, one.json()["code"]) for one in answers]
        assert (body, told) == (body, [(400, "bad_request")] * 2)


@pytest.mark.sqlite
@pytest.mark.rotating(1)
async def test_doing_takes_the_scope_operate(client: httpx.AsyncClient, opened: OpenFace) -> None:
    reader, operator = await opened.key("reader", "read"), await opened.key("operator", "operate")

    for path in ("/v1/failures", "/v1/dead-letters"):
        assert (await client.get(path, headers=operator)).status_code == 403
        assert (await client.get(path, headers=reader)).status_code == 200
    for verb in ("retry", "discard"):
        # Before the body is read.
        answer = await client.post(f"/v1/failures/{verb}", content=b"nonsense", headers=reader)
        assert answer.status_code == 403
