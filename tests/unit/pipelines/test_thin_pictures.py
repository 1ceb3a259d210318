"""Pictures of a few rows or columns keep their colours and their proportions."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from tests.support.decoder_child import BOXES, DecoderProcess, spec

RED, BLUE = (210, 40, 40), (40, 60, 210)
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 95, "subsampling": "4:2:0"}),
    "webp": ("WEBP", {"quality": 95}),
    "lossless webp": ("WEBP", {"lossless": True}),
}


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess() as running:
        yield running


def two_colours(width: int, height: int, *, along: bool) -> Image.Image:
    """Red, and blue in the second half of the long side, or along it in the last third of the short one."""
    picture = Image.new("RGB", (width, height), RED)
    if along:
        left, top = (0, height * 2 // 3) if width > height else (width * 2 // 3, 0)
    else:
        left, top = (width // 2, 0) if width > height else (0, height // 2)
    picture.paste(BLUE, (left, top, width, height))
    return picture


def halves(picture: Image.Image) -> list[list[float]]:
    """The mean colours of the two halves along the long side."""
    width, height = picture.size
    middle = (width // 2, height) if width > height else (width, height // 2)
    first = picture.crop((0, 0, *middle))
    second = picture.crop((middle[0] % width, middle[1] % height, width, height))
    return [ImageStat.Stat(part).mean for part in (first, second)]


@pytest.mark.parametrize("along", [False, True])
@pytest.mark.parametrize("size", [(5000, 3), (3, 5000), (10_000, 1), (1, 10_000), (6000, 15), (15, 6000)])
@pytest.mark.parametrize("format", FORMATS)
def test_a_picture_of_a_few_rows_or_columns_keeps_its_colours(
    child: DecoderProcess, format: str, size: tuple[int, int], along: bool
) -> None:
    name, options = FORMATS[format]
    file = io.BytesIO()
    two_colours(*size, along=along).save(file, name, **options)
    expected = halves(Image.open(file).convert("RGB"))

    for box, variant in zip(BOXES, child.run(file.getvalue()).variants, strict=True):
        picture = Image.open(io.BytesIO(variant))
        assert max(picture.size) == box
        for found, wanted in zip(halves(picture), expected, strict=True):
            assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= 6, (box, found, wanted)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_picture_in_a_tiny_box_keeps_its_colours(child: DecoderProcess, mode: str) -> None:
    picture, file = two_colours(1600, 1200, along=False).convert(mode), io.BytesIO()
    if mode == "RGBA":
        picture.paste((0, 0, 0, 0), (0, 0, 1600, 600))
    picture.save(file, "PNG")
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture if mode == "RGBA" else None)

    [variant] = child.run(file.getvalue(), [spec(8, subsampling="4:4:4")]).variants

    found = halves(Image.open(io.BytesIO(variant)).convert("RGB"))
    for one, wanted in zip(found, halves(paper), strict=True):
        assert max(abs(a - b) for a, b in zip(one, wanted, strict=True)) <= 6, (found, wanted)


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("side", [33, 65, 129, 255])
def test_odd_columns_of_a_thin_webp_keep_their_colours(
    child: DecoderProcess, side: int, upright: bool
) -> None:
    picture, file = Image.new("RGB", (side, 3000), RED), io.BytesIO()
    for left in range(0, side, 16):
        picture.paste(BLUE, (left, 0, left + 8, 3000))
    picture = picture if upright else picture.transpose(Image.Transpose.TRANSPOSE)
    picture.save(file, "WEBP", quality=95)
    expected = Image.open(file).convert("RGB")

    [variant] = child.run(file.getvalue(), [spec(1920, quality=95, subsampling="4:4:4")]).variants

    found = Image.open(io.BytesIO(variant)).convert("RGB")
    difference = ImageChops.difference(found, expected.resize(found.size, Image.Resampling.LANCZOS))
    assert max(ImageStat.Stat(difference).mean) < 5
