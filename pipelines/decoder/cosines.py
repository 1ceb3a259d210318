"""The cosine transform of a small picture, which placeholders are made of."""

from array import array
from collections.abc import Iterable, Mapping
from functools import lru_cache
from operator import mul
from typing import NamedTuple

import pyvips

from pipelines.decoder.picture import Image
from pipelines.placeholders.cosines import Wave, cosines

LARGEST = 100  # px: the reference implementations of placeholders take, or advise, no larger pictures
_BANDS = 3


class Planes(NamedTuple):
    """The pixels of a picture; in each row come first all red ones, then all green, then all blue ones."""

    width: int
    height: int
    image: Image  # of one band, and three times as wide


def planes(image: Image) -> Planes:
    """Take a small eight-bit picture apart; above `LARGEST` px every second row and column is enough."""
    width, height = image.width, image.height
    pixels, row = bytes(image.write_to_memory()), _BANDS * width
    step = 1 if max(width, height) <= LARGEST else 2
    lines = (pixels[at : at + row] for at in range(0, len(pixels), row * step))
    samples = b"".join(line[band :: _BANDS * step] for line in lines for band in range(_BANDS))
    width, height = -(-width // step), -(-height // step)
    return Planes(
        width, height, pyvips.Image.new_from_memory(samples, _BANDS * width, height, 1, image.format)
    )


def transform(planes: Planes, waves: Iterable[Wave], *, centred: bool) -> Mapping[Wave, list[float]]:
    """The means of red, green, and blue times the cosines of so many half waves across and down."""
    wanted = list(waves)
    across, down = (max(wave[side] for wave in wanted) + 1 for side in (0, 1))
    lines = _lines(planes.height, down, centred).matrixmultiply(planes.image)
    found = memoryview(lines.write_to_memory()).cast("d").tolist()
    width = planes.width
    bands = [found[at : at + width] for at in range(0, len(found), width)]
    columns = _columns(width, across, centred)
    return {
        (cx, cy): [sum(map(mul, band, columns[cx])) for band in bands[_BANDS * cy : _BANDS * cy + _BANDS]]
        for cx, cy in wanted
    }


@lru_cache(64)
def _columns(width: int, waves: int, centred: bool) -> list[list[float]]:
    return [[value / width for value in column] for column in cosines(width, waves, centred=centred)]


@lru_cache(64)
def _lines(height: int, waves: int, centred: bool) -> Image:
    rows = cosines(height, waves, centred=centred)
    numbers = array("d", (value / height for row in rows for value in row))
    return pyvips.Image.new_from_memory(numbers.tobytes(), height, waves, 1, "double")
