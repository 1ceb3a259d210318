"""The pictures that are measured are what their class says, and the same in each run."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin

from bench import phones, photos
from bench.phones import PHONES, Phone

PHOTO = Path(__file__).parents[3] / "scripts/pictures/egret.jpg"
SMALL_PHONE = Phone(640, 480, 92, 4.0, thumbnail=160)


def taken(phone: Phone, into: Path) -> Image.Image:
    phones.take(phone, PHOTO, 7, into / "taken.jpg")
    return opened(into / "taken.jpg")


def opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def around_the_middle(have: tuple[int, int], want: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top = ((whole - part) // 2 for whole, part in zip(have, want, strict=True))
    return left, top, left + want[0], top + want[1]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_phone_picture_is_upright_by_its_orientation(tmp_path: Path, orientation: int) -> None:
    picture = taken(replace(SMALL_PHONE, orientation=orientation), tmp_path)
    upright = ImageOps.exif_transpose(picture)
    with Image.open(PHOTO) as photo:
        middle = photo.crop(around_the_middle(photo.size, upright.size)).resize((8, 8)).convert("L")

    assert picture.size == (640, 480)
    assert picture.getexif()[0x0112] == orientation
    seen = upright.resize((8, 8)).convert("L").tobytes()
    differences = [abs(a - b) for a, b in zip(seen, middle.tobytes(), strict=True)]
    assert max(differences) < 40


def test_a_phone_picture_has_what_phones_write_beside_the_pixels(tmp_path: Path) -> None:
    picture = taken(replace(SMALL_PHONE, is_p3=True), tmp_path)
    content = (tmp_path / "taken.jpg").read_bytes()

    assert b"\xff\xd8\xff" in content[20:], "a thumbnail in its EXIF"
    profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
    assert "P3" in ImageCms.getProfileDescription(profile)
    assert JpegImagePlugin.get_sampling(picture) == 2, "4:2:0"
    assert "progressive" not in picture.info


def test_a_phone_picture_is_progressive_where_an_app_has_saved_it(tmp_path: Path) -> None:
    assert taken(replace(SMALL_PHONE, is_progressive=True), tmp_path).info["progressive"]


def test_phone_pictures_are_the_same_in_each_run(tmp_path: Path) -> None:
    for name in ("one", "two"):
        phones.take(SMALL_PHONE, PHOTO, 7, tmp_path / name)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_phones_are_of_12_to_48_megapixels() -> None:
    assert all(12e6 <= phone.width * phone.height < 49e6 for phone in PHONES)
    assert {phone.orientation for phone in PHONES} == {1, 3, 6, 8}


def test_avatars_are_small_squares_and_no_two_are_alike(tmp_path: Path) -> None:
    made = photos.avatars([PHOTO], 16, tmp_path / "made")
    pictures = [opened(path) for path in made]

    assert {picture.size for picture in pictures} == {(200, 200)}
    assert [picture.format for picture in pictures[:4]] == ["JPEG", "JPEG", "JPEG", "PNG"]
    assert [picture.mode for picture in pictures if picture.format == "PNG"] == ["RGB", "RGBA"] * 2
    assert len({path.read_bytes() for path in made}) == 16


def test_small_pictures_have_less_than_100_kb(tmp_path: Path) -> None:
    made = photos.small([PHOTO], 9, tmp_path / "made")

    assert all(path.stat().st_size < 100_000 for path in made)
    assert len({path.read_bytes() for path in made}) == 9
