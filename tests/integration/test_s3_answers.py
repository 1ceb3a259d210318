"""What an S3 answers when something is wrong, and what becomes of it: nothing is missing on a guess."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import boto3
import obstore
import pytest

from pipelines.stats.drift import scan
from pipelines.sweep.findings import Ages
from pipelines.sweep.plan import Plan, save
from pipelines.sweep.planning import make_plan
from pipelines.sweep.trash import known_plans
from scripts.s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from storage.blobs import BlobInfo, Existence, Storage
from storage.blobs.copying import BlobCopy
from storage.blobs.memory import MemoryBlobs
from storage.blobs.opening import open_blobs, read_owner
from storage.blobs.s3_place import S3Place
from storage.catalog.opening import Catalog
from storage.errors import (
    BlobChanged,
    BlobForbidden,
    BlobNotFound,
    BlobPinned,
    BlobsUnavailable,
    RootMismatch,
    TargetUnavailable,
)
from tests.support.blobs import chunks, info_of, is_there, listed, stat_of
from tests.support.objects import ObjectsInBucket
from tests.support.s3 import new_place
from tests.support.s3_console import put_raw
from tests.support.s3_proxy import Fault, S3Proxy, s3_proxy
from tests.support.sweeps import new_key, put, recorded, sweeper_on

KEYS = [f"variants/ab/cd/{number}.jpg" for number in range(5)]
PASSING: tuple[Fault, ...] = ("SlowDown", "InternalError", "cut", "lost reply")
LASTING: tuple[Fault, ...] = ("SlowDown", "AccessDenied", "cut", "html", "error in 200")
LIES: tuple[Fault, ...] = ("html", "error in 200", "short list")
LISTINGS = "GET .*list-type"


@pytest.fixture
def proxy(seaweedfs: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture(params=["seaweedfs", "ministack"])
def server(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def place(seaweedfs: S3Server, proxy: S3Proxy) -> S3Place:
    return replace(new_place(seaweedfs), endpoint=proxy.endpoint)


@pytest.fixture
async def blobs(place: S3Place) -> AsyncIterator[Storage]:
    """A bucket behind the proxy, bound to a catalog, with some files."""
    async with open_blobs(place.url, create=True) as blobs:
        await blobs.bind("ours", catalog_is_new=True)
        await blobs.store([(key, key.encode()) for key in KEYS])
        yield blobs


@pytest.mark.fault(36)
@pytest.mark.parametrize("fault", PASSING)
async def test_a_fault_that_passes_is_not_noticed(blobs: Storage, proxy: S3Proxy, fault: Fault) -> None:
    for work in ("PUT", "GET", "HEAD", "DELETE"):
        proxy.strike(fault, 1, f"^{work} ")
        await blobs.store([("variants/new", b"new")])
        assert await blobs.get("variants/new") == b"new"
        assert isinstance(await stat_of(blobs, "variants/new"), BlobInfo)
        await blobs.delete("variants/new")


async def test_a_body_that_is_cut_in_half_is_read_to_its_end(blobs: Storage, proxy: S3Proxy) -> None:
    content = bytes(range(256)) * 1000
    await blobs.put("uploads/a", chunks(content))
    proxy.strike("half a body", 1, "GET .*uploads/a")

    assert await blobs.get("uploads/a") == content


@pytest.mark.fault(35, 36)
@pytest.mark.parametrize("fault", LASTING)
async def test_while_a_fault_lasts_nothing_is_missing_or_forbidden(
    blobs: Storage, proxy: S3Proxy, fault: Fault
) -> None:
    proxy.strike(fault)

    for asked in (KEYS[0], "variants/none"):
        assert await stat_of(blobs, asked) is Existence.UNKNOWN
        with pytest.raises(BlobsUnavailable) as refused:
            await blobs.get(asked)
        assert not isinstance(refused.value, BlobForbidden)
    with pytest.raises(BlobsUnavailable):
        await listed(blobs, "variants")
    with pytest.raises(BlobsUnavailable):
        await blobs.probe()


@pytest.mark.fault(47)
@pytest.mark.parametrize("fault", LIES)
async def test_a_listing_that_lies_once_is_whole_all_the_same(
    blobs: Storage, proxy: S3Proxy, fault: Fault
) -> None:
    proxy.strike(fault, 1, LISTINGS)

    assert await listed(blobs, "variants") == KEYS


@pytest.mark.parametrize("fault", ["html", "error in 200"])
async def test_a_listing_that_shows_nothing_is_not_an_empty_storage(
    blobs: Storage, proxy: S3Proxy, fault: Fault
) -> None:
    proxy.strike(fault, of=LISTINGS)

    with pytest.raises(BlobsUnavailable, match=r"does not show \.media-root\.json"):
        await listed(blobs, "variants")


async def test_the_proof_of_a_listing_takes_one_request_however_much_others_keep_there(
    server: S3Server,
) -> None:
    with s3_proxy(server.endpoint) as proxy:
        place = replace(new_place(server), endpoint=proxy.endpoint)
        async with open_blobs(place.url, create=True) as blobs:
            await blobs.bind("ours", catalog_is_new=True)
            for stranger in (".a", ".media-root", "other", "variants.zip"):
                await blobs.put(stranger, chunks(b"x"))
            await blobs.store([(key, b"x") for key in KEYS])
            proxy.requests.clear()
            assert await listed(blobs, "variants") == KEYS

    lists = [path for _, path in proxy.requests if "list-type" in path]
    assert ["variants" in path for path in lists] == [True, True, False]
    assert "start-after" in lists[2]  # so that what is sought comes first
    assert "delimiter" not in lists[2]  # which would have all others looked at


async def test_one_object_that_is_refused_says_nothing_of_the_others(blobs: Storage, proxy: S3Proxy) -> None:
    proxy.strike("AccessDenied", of=f"(GET|HEAD) .*{KEYS[0]}")

    with pytest.raises(BlobForbidden, match="403"):
        await blobs.get(KEYS[0])
    assert await stat_of(blobs, KEYS[0]) is Existence.UNKNOWN
    assert await blobs.get(KEYS[1]) == KEYS[1].encode()


@pytest.mark.fault(35)
async def test_in_a_bucket_that_is_gone_nothing_is_missing(blobs: Storage, place: S3Place) -> None:
    async with open_blobs(replace(place, bucket="no-such-bucket").url, create=False) as elsewhere:
        assert await stat_of(elsewhere, KEYS[0]) is Existence.UNKNOWN
        for asked in (elsewhere.get(KEYS[0]), listed(elsewhere, "variants"), elsewhere.probe()):
            with pytest.raises(RootMismatch, match="There is no bucket no-such-bucket at http://127"):
                await asked


async def test_where_the_marker_is_anothers_or_gone_nothing_is_missing(
    blobs: Storage, place: S3Place
) -> None:
    async with open_blobs(place.url, create=False) as other:
        await other.rebind("theirs")

        assert await stat_of(blobs, "variants/none") is Existence.UNKNOWN
        with pytest.raises(RootMismatch, match="belongs to the catalog theirs"):
            await blobs.get("variants/none")
        await other.delete(".media-root.json")
        with pytest.raises(RootMismatch, match=r"has no \.media-root\.json"):
            await blobs.check_identity()


async def test_a_refusal_names_the_right_that_it_takes(blobs: Storage, proxy: S3Proxy) -> None:
    await blobs.put("uploads/a", chunks(b"it"))
    proxy.strike("AccessDenied", of="/(uploads|variants|trash)")
    refusals: dict[str, Awaitable[object]] = {
        "s3:GetObject": blobs.get(KEYS[0]),
        "s3:PutObject": blobs.store([("variants/new", b"new")]),
        "s3:DeleteObject": blobs.delete(KEYS[0]),
    }
    for right, asked in refusals.items():
        with pytest.raises(BlobsUnavailable, match=f"403 AccessDenied: Access Denied. It takes .*{right}$"):
            await asked
    proxy.strike("AccessDenied", of=LISTINGS)
    with pytest.raises(BlobsUnavailable, match=r"s3:ListBucket$"):
        await listed(blobs, "variants")
    proxy.strike("AccessDenied", of="PUT .*trash/plan")
    with pytest.raises(BlobsUnavailable, match=r"s3:PutObject, and s3:GetObject of uploads/a$"):
        await blobs.move("uploads/a", "trash/plan/a")


async def test_an_answer_that_somebody_must_act_on_is_told(blobs: Storage, proxy: S3Proxy) -> None:
    proxy.strike("ExpiredToken")
    with pytest.raises(BlobsUnavailable, match=r"400 ExpiredToken: The provided token has expired\.$"):
        await blobs.get(KEYS[0])
    proxy.strike("AuthorizationHeaderMalformed")
    with pytest.raises(BlobsUnavailable, match=r"expecting 'eu-3' \(AWS_REGION must be"):
        await blobs.get(KEYS[0])


@pytest.mark.parametrize(
    "refused",
    [
        r"HEAD .*variants/\.media",  # as AWS answers for what is not there
        "GET .*list-type.*uploads",  # as other servers do
        "GET .*list-type.*variants",
    ],
)
async def test_without_the_right_to_list_it_cannot_be_used(
    blobs: Storage, proxy: S3Proxy, refused: str
) -> None:
    proxy.strike("AccessDenied", of=refused)

    with pytest.raises(BlobsUnavailable, match="s3:ListBucket"):
        await blobs.find_lacks()


async def test_a_lost_answer_to_the_trial_of_a_condition_is_no_error(
    blobs: Storage, proxy: S3Proxy, place: S3Place
) -> None:
    for request in ("PUT .*probe", "PUT .*conditions", "DELETE .*conditions"):
        proxy.strike("lost reply", 1, request)
        assert await blobs.find_lacks() == []


async def test_workers_that_start_at_once_do_not_take_their_trials_for_a_lack(
    blobs: Storage, place: S3Place
) -> None:
    async with AsyncExitStack() as stack:
        all_ = [await stack.enter_async_context(open_blobs(place.url, create=False)) for _ in range(8)]
        found = await asyncio.gather(*(one.find_lacks() for one in all_))

    assert found == [[]] * 8


async def test_trials_that_are_refused_leave_no_more_objects_each_time(
    blobs: Storage, proxy: S3Proxy, place: S3Place, seaweedfs: S3Server
) -> None:
    everything = ObjectsInBucket(seaweedfs, place)
    await blobs.find_lacks()
    before = len(everything.keys(""))
    proxy.strike("AccessDenied", of="DELETE ")
    for _ in range(3):
        with pytest.raises(BlobsUnavailable, match="refused"):
            await blobs.find_lacks()

    assert len(everything.keys("")) <= before + 1


async def test_conditions_that_a_server_ignores_are_named(ministack: S3Server) -> None:
    with s3_proxy(ministack.endpoint) as proxy:
        place = replace(new_place(ministack), endpoint=proxy.endpoint)
        async with open_blobs(place.url, create=True) as blobs:
            assert await blobs.find_lacks() == []
            proxy.strike("no conditions")
            lacks = await blobs.find_lacks()
            assert await listed(blobs, "variants") == []

    assert ["If-None-Match" in lacks[0], "If-Match of DELETE" in lacks[1]] == [True, True]


@pytest.mark.fault(36)
async def test_a_wrong_secret_is_an_outage_and_is_not_shown(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mistyped")
    async with open_blobs(new_place(seaweedfs).url, create=False) as blobs:
        with pytest.raises(BlobsUnavailable, match="SignatureDoesNotMatch") as refused:
            await blobs.get(KEYS[0])
        assert await stat_of(blobs, KEYS[0]) is Existence.UNKNOWN

    assert not isinstance(refused.value, BlobForbidden)
    assert "mistyped" not in str(refused.value)
    assert SECRET_KEY not in str(refused.value)


async def test_who_owns_a_bucket_can_be_asked_without_opening_it(
    blobs: Storage, proxy: S3Proxy, place: S3Place
) -> None:
    assert read_owner(place.url) == "ours"
    for fault in PASSING:
        proxy.strike(fault)
        assert read_owner(place.url) is None


async def test_the_variables_of_aws_change_no_place_that_has_an_endpoint(
    blobs: Storage, place: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # where nobody listens

    async with open_blobs(place.url, create=False) as again:
        assert await again.catalog_id() == "ours"


async def test_a_lost_answer_to_a_variant_is_no_second_one(blobs: Storage, proxy: S3Proxy) -> None:
    proxy.requests.clear()
    proxy.strike("lost reply", 1, "^PUT ")
    await blobs.store([("variants/new", b"new")])

    assert await blobs.get("variants/new") == b"new"
    assert [method for method, _ in proxy.requests if method == "PUT"] == ["PUT", "PUT"]


async def test_a_variant_whose_bytes_are_wrong_is_replaced(blobs: Storage) -> None:
    await blobs.put(KEYS[0], chunks(b"damaged"))
    await blobs.store([(KEYS[0], b"whole")])

    assert await blobs.get(KEYS[0]) == b"whole"


async def test_a_file_is_the_same_file_under_the_key_that_it_is_moved_to(blobs: Storage) -> None:
    before = (await blobs.stat([KEYS[0]]))[KEYS[0]]
    moved = await blobs.move(KEYS[0], "trash/plan/a")
    back = await blobs.move("trash/plan/a", KEYS[0], replace=False)

    assert isinstance(before, BlobInfo)
    assert moved is not None
    assert back is not None
    assert moved.is_same_file(before)
    assert back.is_same_file(before)


async def test_another_content_under_a_key_is_another_file(blobs: Storage) -> None:
    before = (await blobs.stat([KEYS[0]]))[KEYS[0]]
    await blobs.put(KEYS[0], chunks(b"x" * len(KEYS[0])))  # of the same size, within the same second
    after = (await blobs.stat([KEYS[0]]))[KEYS[0]]

    assert isinstance(before, BlobInfo)
    assert isinstance(after, BlobInfo)
    assert not before.is_same_file(after)


async def test_bytes_are_fetched_when_they_are_asked_for(blobs: Storage, proxy: S3Proxy) -> None:
    proxy.requests.clear()
    async with blobs.open(KEYS[0], fetched=False) as source:
        assert source.bytes == len(KEYS[0])
        assert [method for method, _ in proxy.requests] == ["HEAD"]
        await source.fetch()
        await source.fetch()
        assert [method for method, _ in proxy.requests] == ["HEAD", "GET"]


async def test_what_was_replaced_since_it_was_opened_is_not_fetched(blobs: Storage) -> None:
    async with blobs.open(KEYS[0], fetched=False) as source:
        await blobs.put(KEYS[0], chunks(b"another"))
        with pytest.raises(BlobChanged):
            await source.fetch()
        await blobs.delete(KEYS[0])
        with pytest.raises(BlobNotFound):
            await source.fetch()


@pytest.mark.parametrize("request_", ["PUT .*/trash/", "HEAD .*/trash/", "DELETE .*/uploads/"])
async def test_an_original_that_is_replaced_while_it_is_moved_is_not_lost(
    blobs: Storage, proxy: S3Proxy, place: S3Place, seaweedfs: S3Server, request_: str
) -> None:
    await blobs.put("uploads/a", chunks(b"the old one"))
    app = ObjectsInBucket(seaweedfs, place)
    proxy.before(request_, lambda: app.put("uploads/a", b"the new one"))

    assert await blobs.move("uploads/a", "trash/a") is not None

    assert b"the new one" in [
        await blobs.get(key) for key in ("uploads/a", "trash/a") if await is_there(blobs, key)
    ]


class Role(BaseHTTPRequestHandler):
    """The metadata service of a host, which gives it a role; notes what it is asked for."""

    asked: ClassVar[list[str]] = []

    def do_PUT(self) -> None:
        self._answer("token")

    def do_GET(self) -> None:
        self.asked.append(self.path)
        name = "/latest/meta-data/iam/security-credentials/"
        key = {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": ""}
        self._answer(
            "role" if self.path == name else json.dumps({**key, "Expiration": "2099-01-01T00:00:00Z"})
        )

    def _answer(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


async def test_originals_that_are_moved_by_a_role_take_one_token_for_all(
    ministack: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Role) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{service.server_port}")
        async with open_blobs(new_place(ministack).url, create=True) as blobs:
            await blobs.bind("ours", catalog_is_new=True)
            for number in range(3):
                await blobs.put(f"uploads/{number} ü%&.jpg", chunks(b"original"))
                assert await blobs.move(f"uploads/{number} ü%&.jpg", f"trash/{number}") is not None
            assert await listed(blobs, "uploads") == []
        service.shutdown()

    assert len(Role.asked) == 2  # its name, and its key


UNNAMEABLE = ["", "./", "../", "a/../", "a\x01/", "zz//"]


async def test_objects_that_no_key_can_name_are_passed_over_and_told(ministack: S3Server) -> None:
    place = new_place(ministack)
    strange = [f"uploads/{folder}/b.jpg" for folder in UNNAMEABLE]
    usual = [f"uploads/{name}" for name in ("!.jpg", "0", "a/b.jpg", "a/c ü%&.jpg", "z.jpg")]
    client = boto3.client("s3", endpoint_url=ministack.endpoint)
    for key in [*strange, *usual]:
        client.put_object(Bucket=place.bucket, Key=f"{place.prefix}/{key}", Body=key.encode())
    for name in ("a/", "/x"):  # a folder of a console's, and what lies in a folder without a name
        client.put_object(Bucket=place.bucket, Key=f"{place.prefix}/{name}", Body=b"")
    client.close()
    told: list[str] = []
    async with open_blobs(place.url, create=True) as blobs:
        await blobs.bind("ours", catalog_is_new=True)
        infos = [one async for one in blobs.list_infos("uploads", on_misnamed=told.append)]
        rests = [await listed(blobs, "uploads", after=key) for key in usual]

        assert [info.key for info in infos] == usual
        assert infos[0] == replace(await info_of(blobs, usual[0]), identity=infos[0].identity)
    assert rests == [usual[at + 1 :] for at in range(len(usual))]
    assert set(told) == set(strange)


async def test_an_object_whose_key_ends_in_a_slash_is_never_taken_for_the_one_without(
    ministack: S3Server, catalog: Catalog
) -> None:
    place, copy = new_place(ministack), MemoryBlobs()
    both, lost, strange = new_key(), new_key(), new_key()
    async with open_blobs(place.url, create=True) as blobs:
        await blobs.bind("ours", catalog_is_new=True)
        await recorded(catalog, [await put(blobs, both), lost])
        for key in (both, lost, strange):
            put_raw(place, f"{key}/", b"another's")
        plan = await make_plan(sweeper_on(catalog, blobs, grace_s=-60))
        drift = await scan(catalog, blobs, Ages(time.time() + 60, 0))
        steps = [step async for step in BlobCopy(blobs, copy).copy()]

    assert not any(plan.counts.values())
    assert {name: one.count for name, one in drift.findings.items() if one.count} == {"missing": 1, "lost": 1}
    assert await listed(copy, "variants") == [both]
    assert sum(step.copied for step in steps) == 1


@pytest.mark.parametrize("key", ["uploads/a", KEYS[0]])
async def test_what_is_removed_while_it_is_moved_was_moved(
    blobs: Storage, proxy: S3Proxy, place: S3Place, seaweedfs: S3Server, key: str
) -> None:
    await blobs.put(key, chunks(b"it"))
    before = await info_of(blobs, key)
    others = ObjectsInBucket(seaweedfs, place)
    proxy.after("PUT .*/trash/", lambda: obstore.delete(others.store, key))

    moved = await blobs.move(key, "trash/a")

    assert moved is not None  # so that nobody takes it for a copy that is to be brought back
    assert moved.is_same_file(before)
    assert await blobs.get("trash/a") == b"it"
    assert not await is_there(blobs, key)


async def test_a_copy_that_is_refused_says_which_of_the_two_places_it_was(
    blobs: Storage, proxy: S3Proxy
) -> None:
    await blobs.put("uploads/a", chunks(b"it"))
    proxy.strike("AccessDenied", of="PUT .*/trash/plan")  # as where an object or its tags may not be read
    with pytest.raises(BlobPinned, match=r"uploads/a cannot be copied from where it lies: .* 403"):
        await blobs.move("uploads/a", "trash/plan/a")
    proxy.strike("AccessDenied", of="PUT .*/trash/")
    with pytest.raises(TargetUnavailable, match=r"nothing can be written under trash/plan/a: .* 403"):
        await blobs.move("uploads/a", "trash/plan/a")

    assert await blobs.get("uploads/a") == b"it"


async def test_a_scan_asks_one_by_one_only_for_what_the_listing_leaves_in_doubt(
    blobs: Storage, proxy: S3Proxy, catalog: Catalog
) -> None:
    whole = [await put(blobs) for _ in range(9)]
    different = await put(blobs, content=b"of another size")
    await recorded(catalog, [*whole, different, gone := new_key()])
    orphan = await put(blobs)
    proxy.requests.clear()

    drift = await scan(catalog, blobs, Ages(time.time() + 60, 0))

    assert {name for name, found in drift.findings.items() if found.count} >= {
        "orphan", "missing", "size_mismatch"
    }  # fmt: skip
    asked = {path.partition("?")[0] for method, path in proxy.requests if method == "HEAD"}
    assert {path[path.index("variants/") :] for path in asked if "variants/" in path} == {
        different, gone, orphan, *KEYS
    }  # fmt: skip


@pytest.mark.fault(46)
async def test_an_object_that_comes_with_an_old_date_is_as_young_as_its_arrival(
    blobs: Storage, place: S3Place, seaweedfs: S3Server
) -> None:
    app = ObjectsInBucket(seaweedfs, place)
    dated = {"mtime": "1577836800", "Content-Type": "image/jpeg"}  # as tools keep the date of a file
    obstore.put(app.store, "uploads/old.jpg", b"copied here with its date", attributes=dated)

    [in_list] = [info async for info in blobs.list_infos("uploads")]
    for info in (in_list, await info_of(blobs, "uploads/old.jpg")):
        assert info.changed_at == pytest.approx(time.time(), abs=60)


async def test_plans_are_found_without_a_look_at_each_deleted_original(
    blobs: Storage, proxy: S3Proxy
) -> None:
    names = ["sweep-20261129T120000-00000001", "sweep-20261129T120000-00000002"]
    plan = Plan("", "2026-11-29T12:00:00Z", {}, {}, 0, 0, 0)
    for name in names:
        await save(replace(plan, id=name), blobs)
    for number in range(20):
        await blobs.put(f"trash/delete-{number}/uploads/a.jpg", chunks(b"x"))
    await blobs.put("trash/tidied-away/a.jpg", chunks(b"x"))
    proxy.requests.clear()

    assert [plan.id for plan in await known_plans(blobs)] == names
    lists = [path for _, path in proxy.requests if "list-type" in path]
    assert ["sweep-" in path for path in lists] == [
        True,
        True,
        False,
    ]  # and the proof that lists are answered


@pytest.mark.parametrize("fault", ["SlowDown", "cut", "html", "error in 200"])
async def test_folders_are_all_told_after_a_fault_that_passes_and_none_while_it_lasts(
    blobs: Storage, proxy: S3Proxy, fault: Fault
) -> None:
    proxy.strike(fault, 1, LISTINGS)
    assert await blobs.folders("variants") == ["ab"]

    proxy.strike(fault, of=LISTINGS)
    for proved in (True, False):
        with pytest.raises(BlobsUnavailable):
            await blobs.folders("variants", proved=proved)


async def test_who_only_shows_folders_asks_once_for_them(blobs: Storage, proxy: S3Proxy) -> None:
    proxy.requests.clear()

    assert await blobs.folders("variants", proved=False) == ["ab"]
    assert len(proxy.requests) == 1


async def test_of_more_folders_than_one_answer_has_room_for_all_are_told(server: S3Server) -> None:
    async with open_blobs(new_place(server).url, create=True) as blobs:
        await blobs.bind("ours", catalog_is_new=True)
        names = [f"sweep-{number:04}" for number in range(1005)]
        await blobs.store([(f"trash/{name}/a", b"") for name in names])

        assert await blobs.folders("trash", "sweep-") == names
