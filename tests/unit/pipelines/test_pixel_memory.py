"""A picture that is scaled down is written over itself, and has the pixels that it would have elsewhere."""

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from pipelines.decoder import pixel_memory, plain_jpeg, render, vips
from pipelines.decoder.picture import ImageInMemory
from pipelines.decoder.render import resize
from pipelines.formats import BY_NAME, MIB
from tests.support.decoder_child import DEFAULT, DecoderProcess, spec

_CHANCE = np.random.default_rng(7)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Libvips works with one thread, as in a decoder, and no memory is kept before and after."""
    pixel_memory.give_back()
    threads = pyvips.voperation.concurrency_get()
    pyvips.voperation.concurrency_set(1)
    yield
    pyvips.voperation.concurrency_set(threads)
    pixel_memory.give_back()


def picture(width: int, height: int, bands: int = 3, *, turned: bool = False) -> Any:
    """An image of noise in the memory for pixels: each of its rows is unlike all others."""
    size = width * height * bands
    taken = pixel_memory.take(size, turned=turned)
    assert taken is not None
    taken[:] = _CHANCE.bytes(size)
    return ImageInMemory(taken, width, height, bands, "uchar", "srgb" if bands == 3 else "b-w")


@pytest.mark.parametrize("kernel", ["lanczos2", "lanczos3"])
@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((1500, 1000), (1499, 999)),
        ((1500, 1000), (1400, 933)),
        ((1500, 1000), (880, 587)),
        ((1500, 1000), (500, 334)),
        ((900, 2000), (900, 1100)),
        ((3800, 90), (3000, 71)),
    ],
)
def test_a_picture_that_is_scaled_down_over_itself_has_the_same_pixels(
    size: tuple[int, int], scaled: tuple[int, int], kernel: str
) -> None:
    for bands in (1, 3):
        image = picture(*size, bands)
        elsewhere = bytes(resize(image, *scaled, kernel).write_to_memory())

        pixels = pixel_memory.over_itself(resize(image, *scaled, kernel), *size, bands)

        assert isinstance(pixels, memoryview)
        assert hash(bytes(pixels)) == hash(elsewhere)  # to tell the difference would take minutes


def test_several_threads_write_elsewhere() -> None:
    image = picture(1500, 1000)
    pyvips.voperation.concurrency_set(2)

    pixels = pixel_memory.over_itself(resize(image, 1400, 933), 1500, 1000, 3)

    assert not isinstance(pixels, memoryview)


def test_rows_that_are_too_long_for_that_are_written_elsewhere() -> None:
    image = picture(5000, 400)

    pixels = pixel_memory.over_itself(resize(image, 4500, 360), 5000, 400, 3)

    assert not isinstance(pixels, memoryview)


def test_grey_that_becomes_colour_is_written_elsewhere_where_its_rows_become_longer() -> None:
    picture(1200, 1000)  # whose memory is kept
    grey = picture(1100, 900, 1)

    for width, height, is_elsewhere in ((1000, 818, True), (360, 294, False)):
        colour = resize(grey, width, height).bandjoin([128, 200])
        expected = hash(bytes(colour.write_to_memory()))
        pixels = pixel_memory.over_itself(colour, 1100, 900, 1)

        assert hash(bytes(pixels)) == expected
        assert is_elsewhere is not isinstance(pixels, memoryview)


def test_what_is_made_of_pixels_in_another_order_lies_behind_them() -> None:
    turned = picture(600, 400, turned=True).rot90()
    elsewhere = bytes(turned.write_to_memory())

    pixels = pixel_memory.behind(turned)

    assert isinstance(pixels, memoryview)
    assert hash(bytes(pixels)) == hash(elsewhere)


def test_pixels_of_another_kind_than_bytes_are_written_elsewhere() -> None:
    deep = picture(200, 100).cast("ushort")
    assert len(pixel_memory.over_itself(deep, 200, 100, 3)) == 200 * 100 * 3 * 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may reset the peak of another process's memory")
@pytest.mark.skipif(not plain_jpeg.version(), reason="without simplejpeg no photo is held whole")
def test_an_upright_photo_takes_little_more_memory_than_its_pixels() -> None:
    file = io.BytesIO()
    Image.new("RGB", (2800, 2100), "teal").save(file, "JPEG")
    with DecoderProcess(names=["jpeg"]) as child:
        child.run(file.getvalue(), (spec(100),))
        child.peak()
        before = child.resident()
        child.run(file.getvalue(), DEFAULT)
        growth = child.peak() - before

    assert growth < 2800 * 2100 * 3 + 9 * MIB


@pytest.mark.parametrize("orientation", [1, 6])
def test_of_a_streamed_picture_that_is_turned_no_copy_is_kept(orientation: int) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = orientation
    Image.new("RGB", (900, 600), "teal").save(file, "PNG", exif=exif)
    picture = vips.probe(BY_NAME["png"], bytearray(file.getvalue()), "reject")
    [target] = render.targets(picture.width, picture.height, [spec(800)])

    image = render.first(picture, target, {(255, 255, 255)})

    assert (image.width, image.height) == target.size
    assert (pixel_memory.kept() > 800 * 533 * 3) is (orientation == 1)
