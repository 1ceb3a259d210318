"""Where a copy may go: what is one place by two names, and what lies inside another."""

from pathlib import Path

import pytest

from scripts.s3_server import S3Server
from storage.blobs.local import LocalBlobs, open_local
from storage.blobs.memory import MemoryBlobs
from storage.blobs.opening import open_blobs
from storage.blobs.places import holding_area, is_one_place
from tests.support.s3 import new_place


async def test_a_folder_is_one_place_by_whatever_name(local_blobs: LocalBlobs, root: Path) -> None:
    root.with_name("link").symlink_to(root)
    async with open_local(root.with_name("link"), create=False) as linked:
        assert await is_one_place(local_blobs, linked)
    assert [path for path in root.rglob("*") if path.is_file()] == []  # it leaves nothing


async def test_two_storages_are_two_places(local_blobs: LocalBlobs, tmp_path: Path) -> None:
    async with open_local(tmp_path / "other", create=True) as other:
        assert not await is_one_place(local_blobs, other)
        assert not await is_one_place(MemoryBlobs(), other)


async def test_a_prefix_of_a_bucket_is_one_place(ministack: S3Server) -> None:
    place = new_place(ministack)
    async with open_blobs(place.url, create=True) as one, open_blobs(place.url, create=True) as other:
        assert await is_one_place(one, other)
    async with (
        open_blobs(place.url, create=True) as one,
        open_blobs(new_place(ministack).url, create=True) as other,
    ):
        assert not await is_one_place(one, other)


@pytest.mark.parametrize(
    ("outer", "inner", "area"),
    [
        ("file:/srv/media", "file:/srv/media/uploads/new", "uploads"),
        ("file:/srv/media", "file:/srv/media/variants", "variants"),
        ("file:/srv/media", "file:/srv/media/new", None),
        ("file:/srv/media", "file:/srv/other/uploads", None),
        ("s3://media", "s3://media/trash/new", "trash"),
        ("s3://media/a", "s3://media/a/uploads", "uploads"),
        ("s3://media", "s3://media/new", None),
        ("s3://media/a", "s3://media/ab/uploads", None),
        ("s3://media", "s3://other/uploads", None),
        ("s3://media", "file:/srv/media/uploads", None),
    ],
)
def test_a_place_lies_in_the_area_that_would_list_it(outer: str, inner: str, area: str | None) -> None:
    assert holding_area(outer, inner) == area


def test_an_area_that_is_a_link_holds_what_lies_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "media").mkdir()
    (tmp_path / "media/uploads").symlink_to(tmp_path / "disk")

    assert holding_area(f"file:{tmp_path}/media", f"file:{tmp_path}/disk/new") == "uploads"
