"""HEAD, as proxies, checks of uptime and browsers send it: what GET answers, without its body."""

from collections.abc import Mapping, Sequence

import httpx
import pytest
from starlette.routing import Route
from structlog.testing import capture_logs

from pipelines.sweep.findings import Kind
from storage.catalog.records import Ready, StoredVariant
from storage.keys import variant_key
from tests.support.blobs import chunks
from tests.support.catalogs import CAT, SHA, claim, commit, ready, take, upload_event
from tests.support.face import OpenFace
from tests.support.pictures import small
from tests.support.plans import found, written_plan
from worker.http.app import build
from worker.http.heads import ENDLESS

KEY = variant_key(CAT, "jpeg")
SOURCE = "uploads/shop/cat.jpg"


def templates_of(opened: OpenFace) -> Sequence[str]:
    """The path of each route that answers GET."""
    routes = [route for route in build(opened.face).router.routes if isinstance(route, Route)]
    return sorted({route.path for route in routes if "GET" in (route.methods or ())})


async def make_things(opened: OpenFace) -> Mapping[str, str]:
    """A ready upload with a variant, and a plan: what the parameters of paths are then."""
    stores = opened.face.stores
    await stores.blobs.put(SOURCE, chunks(small()))
    await stores.blobs.put(KEY, chunks(b"a variant"))
    await take(stores.catalog, upload_event(1, source=SOURCE))
    done = ready(await claim(stores.catalog))
    await commit(
        stores.catalog, Ready(done.claim, done.original, [StoredVariant("thumb", KEY, 6, 4, 9, SHA)])
    )
    plan = await written_plan(stores.blobs, found(Kind.ORPHAN, "a"))
    _, first, second, file = KEY.split("/")
    return {
        **{"{upload_id}": str(CAT), "{plan}": plan.id, "{name}": "console.css", "{path:path}": "nowhere"},
        **{"{first}": first, "{second}": second, "{file}": file},
    }


def at(template: str, things: Mapping[str, str]) -> str:
    for name, value in things.items():
        template = template.replace(name, value)
    return template


def headers_of(answer: httpx.Response) -> set[tuple[str, str]]:
    return set(answer.headers.items())


@pytest.mark.sqlite
async def test_each_route_answers_head_as_get_without_the_body(opened: OpenFace) -> None:
    things = await make_things(opened)
    templates = [template for template in templates_of(opened) if template not in ENDLESS]
    done = 0
    for template in templates:
        path = at(template, things)
        before, head, after = [
            await opened.client.request(method, path, headers={"Accept-Encoding": "gzip"})
            for method in ("GET", "HEAD", "GET")
        ]  # a page tells the time, and may do so by a digit more
        assert (head.status_code, head.content) == (before.status_code, b""), template
        assert headers_of(head) <= headers_of(before) | headers_of(after), template
        assert head.headers.keys() == before.headers.keys(), template

        done += head.status_code == 200

    assert done > 25


@pytest.mark.sqlite
async def test_a_stream_that_never_ends_has_no_head(opened: OpenFace) -> None:
    answers = [await opened.client.head(path) for path in ENDLESS]

    assert [(answer.status_code, answer.headers["allow"]) for answer in answers] == [(405, "GET")] * 2
    assert set(ENDLESS) <= set(templates_of(opened))


@pytest.mark.sqlite
async def test_the_access_log_counts_no_bytes_that_were_not_sent(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        await client.head("/v1/limits")

    [line] = [line for line in logs if line["event"] == "http_request"]
    assert (line["method"], line["status"], line["bytes_out"]) == ("HEAD", 200, 0)
