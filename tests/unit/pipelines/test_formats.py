"""The table of input formats: recognized by content, estimated from the header."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines import formats
from pipelines.formats import BY_NAME, FORMATS, MIB, Shape

PHOTO = Shape(4000, 3000)


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif", "tiff", "avif", "bmp", "ico"])
def test_a_picture_is_known_by_its_first_bytes_and_not_by_its_name(name: str) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, name)

    found = formats.sniff(file.getvalue()[: formats.HEAD])

    assert found is BY_NAME[name]


@pytest.mark.parametrize(
    ("brands", "name"),
    [
        (b"heic\0\0\0\0mif1heic", "heic"),
        (b"mif1\0\0\0\0mif1heic", "heic"),
        (b"mif1\0\0\0\0mif1avif", "avif"),
        (b"avis\0\0\0\0avifavismsf1", "avif"),
        (b"isom\0\0\0\0isomavc1", None),
    ],
)
def test_avif_heic_and_video_differ_by_the_brands_in_their_first_box(brands: bytes, name: str | None) -> None:
    head = (8 + len(brands)).to_bytes(4) + b"ftyp" + brands + b"\0\0\0\x20avif"

    found = formats.sniff(head)

    assert (found.name if found else None) == name


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04", "a ZIP archive or an office document"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video"),
        ("Grüße, 1, 2, 3".encode(), "a text file"),
        (b"\0\0\0\x18ftypvvic\0\0\0\0miafvvic", "a HEIF picture coded as VVC (H.266)"),
        (b"\0\0\0\x18ftypj2ki\0\0\0\0miafj2ki", "a HEIF picture coded as JPEG 2000"),
        (b"\0\0\0\x14ftypmiaf\0\0\0\0mif2", "a HEIF picture of another kind"),
        (b"II\xbc\x01\x08\0\0\0", "a JPEG XR picture"),
        (b"\xff\x10\xff\x50", "a JPEG XS picture"),
        (b"BA\x28\0\0\0\0\0\0\0\0\0\0\0BM", "an array of bitmaps by IBM"),
        (b"\0\0\2\0\1\0\x20\x20", "a mouse pointer or a TGA picture"),
        (b"\xff\xd8", "a file of an unknown kind"),
        (b"BM bosses", "a text file"),
    ],
)
def test_what_is_no_picture_is_named_in_words_for_a_person(head: bytes, words: str) -> None:
    assert formats.sniff(head) is None
    assert formats.describe(head) == words


@given(st.binary(max_size=200))
def test_no_bytes_confuse_the_sniffing(head: bytes) -> None:
    for start in (b"", b"\0\0\0\x40ftyp", b"BM", b"RIFF\0\0\0\0", b"\0\0\1\0"):
        formats.sniff(start + head)
        assert formats.describe(start + head)


def test_only_the_loaders_of_the_named_formats_are_asked_for() -> None:
    assert formats.loaders(["jpeg", "bmp"]) == ("VipsForeignLoadJpegSource",)
    assert formats.loaders([]) == ()


@pytest.mark.parametrize("known", FORMATS, ids=lambda known: str(known.name))
def test_a_picture_of_the_largest_size_in_the_table_fits_the_budget(known: formats.Format) -> None:
    kind = known.costliest
    side = int((known.largest(400 * MIB)) ** 0.5)

    needed = known.estimate(Shape(side, side, kind.bands, kind.sample, kind.whole, kind.density))

    assert 0.9 * 400 * MIB < needed <= 400 * MIB


def test_what_must_be_held_whole_is_estimated_higher() -> None:
    for name in ("jpeg", "png", "webp", "tiff"):
        streamed, whole = Shape(10_000, 9_000), Shape(10_000, 9_000, whole=True)

        assert BY_NAME[name].estimate(whole) > 2 * BY_NAME[name].estimate(streamed)


def test_a_costlier_encoder_and_a_larger_source_count_as_well() -> None:
    jpeg = BY_NAME["jpeg"]

    assert jpeg.estimate(PHOTO, encoder="avif") > jpeg.estimate(PHOTO, encoder="jpeg")
    for usual in ("jpeg", "avif"):
        full = f"{'progressive ' if usual == 'jpeg' else ''}{usual} 4:4:4"
        assert jpeg.estimate(PHOTO, encoder=full) > jpeg.estimate(PHOTO, encoder=usual)
    for small in ("small jpeg", "small jpeg 4:4:4"):
        usual = small.removeprefix("small ").replace("jpeg 4", "progressive jpeg 4")
        assert jpeg.estimate(PHOTO, encoder=small) > jpeg.estimate(PHOTO, encoder=usual)
    assert jpeg.estimate(PHOTO, 10 * MIB) >= jpeg.estimate(PHOTO) + 10 * MIB


def test_every_format_says_what_people_need_to_know() -> None:
    assert len(BY_NAME) == len(FORMATS)
    for known in FORMATS:
        assert known.note
        assert known.title
