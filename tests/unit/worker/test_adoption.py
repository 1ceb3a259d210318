"""Adoption: which originals nobody knows, and which names nobody can announce."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from scripts.s3_server import S3Server
from storage.blobs import Storage
from storage.blobs.local import LocalBlobs
from storage.blobs.opening import open_blobs
from storage.catalog.opening import Catalog
from storage.keys import spellings
from tests.support.catalogs import take, upload_event
from tests.support.s3 import new_place
from tests.support.s3_console import put_raw
from worker import adoption
from worker.adoption import ADOPTION, Adoption, listing_of

COMPOSED = "uploads/B\u00e4r/\u00e4.jpg"
[DECOMPOSED] = spellings(COMPOSED)


@pytest.fixture
async def adopting(catalog: Catalog, local_blobs: LocalBlobs, root: Path) -> AsyncIterator[Adoption]:
    (root / "uploads").mkdir()
    async with adoption_from(local_blobs, catalog) as adopting:
        yield adopting


@asynccontextmanager
async def adoption_from(blobs: Storage, catalog: Catalog) -> AsyncIterator[Adoption]:
    yield Adoption(blobs, catalog, grace_s=-60)


def put(root: Path, *names: bytes) -> None:
    for name in names:
        path = Path(os.fsdecode(bytes(root) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@pytest.mark.parametrize("page", [1, 2, 3, 100])
async def test_names_that_cannot_be_announced_are_logged_with_their_number_and_the_first(
    adopting: Adoption, catalog: Catalog, root: Path, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "PAGE", page)
    put(root, b"uploads/a.jpg", b"uploads/b\xe9.jpg", b"uploads/c.jpg", b"uploads/d/e\nf", b"uploads/g.jpg")
    put(root, b"uploads/" + b"/".join([b"h" * 200] * 6), b"uploads/z\x7f")
    for _ in range(2):
        with capture_logs() as logged:
            ticks = 0
            while not (answer := [one for one in logged if one["event"] == "names_passed_over"]):
                await adopting.tick("report", pause_s=0)
                assert (ticks := ticks + 1) < 20

        assert [(one["count"], one["first"]) for one in answer] == [(4, "uploads/b\\xe9.jpg")]
    listing = await listing_of(catalog, ADOPTION)
    assert (listing.after, listing.misnamed, listing.first_misnamed) == ("", 4, "uploads/b\\xe9.jpg")


async def test_a_listing_of_good_names_only_logs_nothing_about_names(
    adopting: Adoption, catalog: Catalog, root: Path
) -> None:
    put(root, b"uploads/a.jpg")
    with capture_logs() as logged:
        await adopting.tick("report", pause_s=0)

    assert [one["event"] for one in logged] == ["originals_without_record"]
    assert (await listing_of(catalog, ADOPTION)).misnamed == 0


@pytest.mark.parametrize(("announced", "on_disk"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
async def test_an_original_that_was_announced_in_another_spelling_is_known(
    adopting: Adoption, catalog: Catalog, root: Path, announced: str, on_disk: str
) -> None:
    put(root, on_disk.encode(), b"uploads/other.jpg")
    await take(catalog, upload_event(1, source=announced))

    assert (await adopting.page("")).unknown == ["uploads/other.jpg"]


async def test_an_original_beside_an_announced_one_that_differs_only_in_spelling_is_its_own(
    adopting: Adoption, catalog: Catalog, root: Path
) -> None:
    put(root, COMPOSED.encode(), DECOMPOSED.encode())
    await take(catalog, upload_event(1, source=COMPOSED))

    assert (await adopting.page("")).unknown == [DECOMPOSED]


async def test_an_object_whose_key_ends_in_a_slash_is_no_original(
    catalog: Catalog, ministack: S3Server
) -> None:
    place = new_place(ministack)
    for key in ("uploads/a.jpg/", "uploads/b.jpg"):
        put_raw(place, key, b"x")

    async with open_blobs(place.url, create=True) as blobs, adoption_from(blobs, catalog) as adopting:
        assert (await adopting.page("")).unknown == ["uploads/b.jpg"]
