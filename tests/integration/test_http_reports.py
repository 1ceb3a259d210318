"""Reports over HTTP: the storage, the plans of sweeps, and what an upload may be."""

import httpx
import jsonschema
import pytest

from pipelines.recipe import DEFAULT
from pipelines.stats.report import json_schema
from pipelines.sweep.findings import Discrepancy, Kind, StepResult
from pipelines.sweep.plan import Draft, Plan, finish, write_down
from storage.blobs import Put
from storage.catalog.opening import Catalog
from storage.totals import Count
from tests.support.catalogs import ON_BOTH, take, upload_event, work
from tests.support.face import OpenFace

pytestmark = [ON_BOTH, pytest.mark.rotating(6, of="module")]

MIDNIGHT = 1_800_000_000.0  # s since 1970


async def plan(blobs: Put, orphans: int, at: float = MIDNIGHT, parts: int = 1) -> Plan:
    """A plan with so many orphans in each of its parts."""
    draft = Draft.new(at)
    for part in range(parts):
        found = [Discrepancy(Kind.ORPHAN, f"variants/{part}/{n}.jpg", 10) for n in range(orphans)]
        seen = {"variants": Count(500, 5000), "rows": Count(490, 4900)}
        draft = await write_down(draft, StepResult(found, None, seen), blobs)
    return await finish(draft, at, blobs)


async def test_the_report_is_the_document_of_media_stats(catalog: Catalog, client: httpx.AsyncClient) -> None:
    await take(catalog, upload_event(1))
    await work(catalog)

    short, long = [(await client.get(f"/v1/stats{query}")).json() for query in ("", "?history=1")]

    jsonschema.validate(short, json_schema())
    jsonschema.validate(long, json_schema())
    assert (short["uploads"]["ready"], short["queue"]["depth"], short["history"]) == (1, 0, None)
    assert long["history"] == []


@pytest.mark.parametrize("key", [{"owner": "mine"}, {"prefix": "uploads/mine/"}], ids=str)
@pytest.mark.parametrize("path", ["/v1/stats", "/v1/sweeps", "/v1/sweeps/sweep-20270115T080000-00000000"])
@pytest.mark.rotating(1)
async def test_what_is_about_all_uploads_is_not_for_who_is_bound_to_some(
    client: httpx.AsyncClient, opened: OpenFace, path: str, key: dict[str, str]
) -> None:
    answer = await client.get(path, headers=await opened.key("tenant", "read", **key))

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


@pytest.mark.sqlite
@pytest.mark.parametrize("path", ["/v1/stats", "/v1/sweeps", "/v1/sweeps/sweep-20270115T080000-00000000"])
@pytest.mark.rotating(1)
async def test_reports_take_the_scope_read(client: httpx.AsyncClient, opened: OpenFace, path: str) -> None:
    headers = await opened.key("operator", "operate,upload,originals")

    assert [(await client.get(path, headers=each)).status_code for each in (headers, {})] == [403, 401]


async def test_plans_are_listed_the_newest_first_page_by_page(
    client: httpx.AsyncClient, opened: OpenFace
) -> None:
    made = [await plan(opened.face.stores.blobs, 2, MIDNIGHT + day * 86_400) for day in range(3)]

    first = (await client.get("/v1/sweeps?limit=2")).json()
    last = (await client.get(f"/v1/sweeps?limit=2&cursor={first['next']}")).json()

    assert [one["plan"] for one in (*first["items"], *last["items"])] == [one.id for one in reversed(made)]
    assert first["items"][0]["findings"]["orphan"] == {"count": 2, "bytes": 20}
    assert (first["items"][0]["applied"], last["next"]) == (None, None)


async def test_a_plan_is_shown_with_every_key_that_it_names(
    client: httpx.AsyncClient, opened: OpenFace
) -> None:
    made = await plan(opened.face.stores.blobs, 3, parts=2)

    pages = [(await client.get(f"/v1/sweeps/{made.id}?limit=2")).json()]
    while cursor := pages[-1]["next"]:
        pages.append((await client.get(f"/v1/sweeps/{made.id}?limit=2&cursor={cursor}")).json())

    keys = [item["key"] for page in pages for item in page["items"]]
    assert keys == [f"variants/{part}/{n}.jpg" for part in range(2) for n in range(3)]
    assert (pages[0]["plan"], pages[0]["items"][0]["kind"]) == (made.id, "orphan")


@pytest.mark.parametrize("name", ["sweep-20270115T080000-00000000", "..%2f..%2fetc", "draft"])
async def test_a_plan_that_is_not_there_is_not_found(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/v1/sweeps/{name}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_cursor_of_one_plan_is_none_of_another(client: httpx.AsyncClient, opened: OpenFace) -> None:
    one, other = [await plan(opened.face.stores.blobs, 3, at) for at in (MIDNIGHT, MIDNIGHT + 1)]
    cursor = (await client.get(f"/v1/sweeps/{one.id}?limit=1")).json()["next"]

    answer = await client.get(f"/v1/sweeps/{other.id}?limit=1&cursor={cursor}")

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.sqlite
async def test_anybody_may_ask_what_an_upload_may_be(client: httpx.AsyncClient, opened: OpenFace) -> None:
    await opened.key()  # from now on nothing else is for nobody

    answer = await client.get("/v1/limits")

    limits = answer.json()
    assert (answer.status_code, limits["max_bytes"]) == (200, 10_485_760)
    assert "jpeg" in limits["formats"]
    [recipe] = limits["recipes"]
    assert [one["box"] for one in recipe["variants"]] == [one.box for one in DEFAULT.variants]
    assert "Idempotency-Key" in limits["headers"]
