"""Where a variant is cut, and how much of its colour is kept."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, JpegImagePlugin

from tests.support.decoder_child import DecoderProcess, spec

GREY, GRASS, RED = (128, 128, 128), (60, 120, 60), (230, 20, 20)


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess(names=["jpeg", "png"]) as running:
        yield running


def saved(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "png", **options)
    return file.getvalue()


def made(child: DecoderProcess, content: bytes, *specs: dict[str, Any]) -> Sequence[Image.Image]:
    outcome = child.run(content, specs)
    return [Image.open(io.BytesIO(variant)) for variant in outcome.variants]


# -- the crop


def meadow(size: tuple[int, int], place: tuple[int, int], mode: str = "RGB") -> bytes:
    """A plain picture with something red and finely drawn at one place."""
    picture = Image.new("RGB", size, GRASS)
    draw = ImageDraw.Draw(picture)
    left, top = place
    for at in range(0, 90, 10):
        draw.rectangle((left + at, top, left + at + 5, top + 90), RED)
    return saved(picture.convert(mode))


def redness(picture: Image.Image) -> float:
    """The share of pixels that are red."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    return float(np.mean(pixels[..., 0] - pixels[..., 1] > 100))


@pytest.mark.parametrize("crop", ["attention", "entropy"])
@pytest.mark.parametrize(
    ("size", "place"),
    [((800, 200), (20, 50)), ((800, 200), (690, 50)), ((200, 800), (50, 690))],
    ids=["left", "right", "below"],
)
@pytest.mark.rotating(3)
def test_a_crop_by_what_is_worth_seeing_has_it_where_the_middle_has_not(
    child: DecoderProcess, crop: str, size: tuple[int, int], place: tuple[int, int]
) -> None:
    wanted = [spec(100, fit="cover", crop=kind) for kind in ("centre", crop)]
    middle, smart = made(child, meadow(size, place), *wanted)

    assert redness(middle) == 0
    assert redness(smart) > 0.08


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
@pytest.mark.rotating(2)
def test_a_cropped_variant_has_exactly_its_size_whatever_its_picture_is(
    child: DecoderProcess, mode: str
) -> None:
    for size in ((640, 100), (101, 333), (150, 149), (99, 700), (90, 90)):
        content = meadow(size, (0, 0), mode)
        kinds = ("centre", "attention", "entropy")
        variants = made(child, content, *(spec(100, fit="cover", crop=kind) for kind in kinds))

        assert {one.size for one in variants} == {(min(size[0], 100), min(size[1], 100))}


def test_a_picture_on_its_side_is_turned_before_it_is_cropped(child: DecoderProcess) -> None:
    upright = Image.open(io.BytesIO(meadow((800, 200), (690, 50))))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(stored, "jpeg", exif=exif, quality=95)

    [smart] = made(child, stored.getvalue(), spec(100, fit="cover", crop="attention"))

    assert smart.size == (100, 100)
    assert redness(smart) > 0.08


# -- the colour


def lettered(text: str, ground: str) -> Image.Image:
    """A page of coloured text."""
    page = Image.new("RGB", (1000, 600), ground)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(22)
    for row in range(24):
        draw.text((10, 24 * row), "Sphinx of black quartz, judge my vow 0123456789 " * 3, text, font)
    return page


def error(reference: Image.Image, picture: Image.Image) -> float:
    """Root mean square, in eight-bit steps."""
    pair = [np.asarray(one.convert("RGB")).astype(float) for one in (reference, picture)]
    return float(np.sqrt(np.mean((pair[0] - pair[1]) ** 2)))


@pytest.mark.parametrize(("text", "ground"), [("red", "navy"), ("blue", "black"), ("red", "white")])
@pytest.mark.parametrize("output", ["jpeg", "avif"])
@pytest.mark.rotating(2)
def test_full_colour_halves_the_error_of_coloured_text(
    child: DecoderProcess, output: str, text: str, ground: str
) -> None:
    page = lettered(text, ground)
    reference = page.resize((800, 480), Image.Resampling.LANCZOS)
    wanted = [spec(800, format=output, subsampling=kind) for kind in ("4:2:0", "4:4:4")]
    half, full = (error(reference, variant) for variant in made(child, saved(page), *wanted))

    assert full < 0.55 * half


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_has_the_subsampling_that_its_recipe_says_at_every_quality(
    child: DecoderProcess, *, progressive: bool
) -> None:
    pairs = [(kind, quality) for kind in ("4:2:0", "4:4:4") for quality in (30, 80, 100)]
    wanted = [
        spec(100, subsampling=kind, quality=quality, progressive=progressive) for kind, quality in pairs
    ]
    variants = made(child, meadow((200, 200), (0, 0)), *wanted)

    found = [JpegImagePlugin.get_sampling(one) for one in variants]
    assert found == [{"4:4:4": 0, "4:2:0": 2}[kind] for kind, _ in pairs]


def test_an_avif_has_the_subsampling_that_its_recipe_says_at_every_quality(child: DecoderProcess) -> None:
    pairs = [(kind, quality) for kind in ("4:2:0", "4:4:4") for quality in (50, 95)]
    wanted = [spec(64, format="avif", subsampling=kind, quality=quality) for kind, quality in pairs]
    variants = child.run(meadow((200, 200), (0, 0)), wanted).variants

    assert [subsampling_of(content) for content in variants] == [kind for kind, _ in pairs]


def subsampling_of(avif: bytes) -> str:
    # AV1 in ISOBMFF, 2.3.3: the third byte of av1C has chroma_subsampling_x and _y.
    third = avif[avif.index(b"av1C") + 4 + 2]
    return {0b00: "4:4:4", 0b11: "4:2:0"}[third >> 2 & 0b11]
