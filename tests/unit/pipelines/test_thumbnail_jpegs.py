"""JPEG variants of few pixels are encoded by Pillow, to the very bytes that libvips makes."""

import io
from typing import Any

import pytest
import pyvips
from PIL import Image

from pipelines.decoder import thumbnail_jpeg
from pipelines.decoder.jpeg_options import jpeg_options
from tests.support.decoder_child import spec


def picture(width: int, height: int, *, bands: int = 3) -> Any:
    noise = Image.effect_noise((width, height), 60)
    parts = [noise, noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT), noise][:bands]
    pixels = Image.merge("RGB", parts).tobytes() if bands == 3 else noise.tobytes()
    image = pyvips.Image.new_from_memory(pixels, width, height, bands, "uchar")
    return image.copy(interpretation="srgb" if bands == 3 else "b-w")


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("quality", [1, 30, 69, 70, 80, 95, 100])
def test_the_bytes_are_those_of_libvips(quality: int, subsampling: str) -> None:
    options = jpeg_options(spec(150, quality=quality, subsampling=subsampling))
    for size in ((150, 113), (200, 200), (800, 600), (33, 17), (1, 1)):
        image = picture(*size)

        assert thumbnail_jpeg.suits(image, options)
        assert thumbnail_jpeg.encode(image, options) == image.jpegsave_buffer(keep="none", **options), size


def test_a_part_of_a_picture_that_is_not_yet_computed_is_encoded_as_well() -> None:
    options = jpeg_options(spec(150))
    part = picture(300, 200).crop(50, 40, 120, 90)

    assert thumbnail_jpeg.encode(part, options) == part.jpegsave_buffer(keep="none", **options)


@pytest.mark.parametrize(
    ("image", "changes"),
    [
        (picture(900, 600), {}),
        (picture(100, 80, bands=1), {}),
        (picture(100, 80).cast("ushort"), {}),
        (picture(100, 80), {"progressive": True}),
        (picture(100, 80), {"effort": "small"}),
    ],
    ids=["large", "grey", "16 bits", "progressive", "of effort"],
)
def test_all_others_are_left_to_libvips(image: Any, changes: dict[str, Any]) -> None:
    assert not thumbnail_jpeg.suits(image, jpeg_options(spec(150, **changes)))


def test_a_small_variant_holds_nothing_but_what_a_picture_needs() -> None:
    content = thumbnail_jpeg.encode(picture(64, 48), jpeg_options(spec(150)))

    with Image.open(io.BytesIO(content)) as opened:
        assert (opened.size, opened.info.keys() - {"dpi"}) == ((64, 48), set())
        assert dict(opened.getexif()) == {}
