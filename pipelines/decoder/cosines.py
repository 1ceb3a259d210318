"""The cosine transform of a small picture, which placeholders are made of."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pipelines.decoder.arrays import numpy
from pipelines.decoder.picture import Image, samples
from pipelines.placeholders.cosines import Wave, cosines

LARGEST = 100  # px: the reference implementations of placeholders take, or advise, no larger pictures
_BANDS = 3

Pixels = Any
"""Rows of pixels of three numbers, an array of NumPy."""


def pixels(image: Image) -> Pixels:
    """Take a small eight-bit picture; above `LARGEST` px every second row and column is enough."""
    width, height = image.width, image.height
    step = 1 if max(width, height) <= LARGEST else 2
    found = numpy.frombuffer(samples(image), numpy.uint8)
    return found.reshape(height, width, _BANDS)[::step, ::step]


def transform(pixels: Pixels, waves: Iterable[Wave], *, centred: bool) -> Mapping[Wave, list[float]]:
    """The means of red, green, and blue times the cosines of so many half waves across and down."""
    wanted = list(waves)
    across, down = (max(wave[side] for wave in wanted) + 1 for side in (0, 1))
    height, width, _ = pixels.shape
    rows = pixels.reshape(height, width * _BANDS).astype(numpy.float64)
    # Sums in the order of the pixels, the same ones on each machine; a product of matrices has others, and of
    # a picture with symmetries some lie on the edge of a step.
    lines = numpy.einsum("wy,yx->wx", _means(height, down, centred), rows)
    columns = lines.reshape(down, width, _BANDS).transpose(1, 0, 2).reshape(width, down * _BANDS)
    found = numpy.einsum("wx,xy->wy", _means(width, across, centred), columns)
    values = found.reshape(across, down, _BANDS).tolist()
    return {(cx, cy): values[cx][cy] for cx, cy in wanted}


@lru_cache(64)
def _means(length: int, waves: int, centred: bool) -> Pixels:
    """Of each wave the cosines that pixels are multiplied by, whose sum is the mean then."""
    return numpy.array(cosines(length, waves, centred=centred)) / length
