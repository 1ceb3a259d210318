"""The cosine transform of a small picture, which placeholders are made of: two products of matrices."""

from array import array
from collections.abc import Sequence
from functools import lru_cache

import pyvips

from pipelines.decoder.picture import Image
from pipelines.placeholders.cosines import cosines


def transform(image: Image, across: int, down: int, *, centred: bool) -> Sequence[Sequence[float]]:
    """The means of a picture times the cosines of fewer than `across` and `down` half waves.

    There is a row for each number of half waves down, and in it the bands of each number of them across.
    """
    bands = image.bands
    flat = pyvips.Image.new_from_memory(
        image.write_to_memory(), image.width * bands, image.height, 1, image.format
    )
    lines = _lines(image.height, down, centred)
    columns = _columns(image.width, across, bands, centred)
    found = memoryview(lines.matrixmultiply(flat).matrixmultiply(columns).write_to_memory()).cast("d")
    row = across * bands
    return [found[at : at + row].tolist() for at in range(0, row * down, row)]


def _matrix(numbers: "array[float]", width: int, height: int) -> Image:
    return pyvips.Image.new_from_memory(numbers.tobytes(), width, height, 1, "double")


@lru_cache(64)
def _lines(height: int, waves: int, centred: bool) -> Image:
    rows = cosines(height, waves, centred=centred)
    return _matrix(array("d", (value / height for row in rows for value in row)), height, waves)


@lru_cache(64)
def _columns(width: int, waves: int, bands: int, centred: bool) -> Image:
    """For the bands side by side: each has its own columns, and nothing in those of the others."""
    row = waves * bands
    matrix = array("d", bytes(8 * row * width * bands))
    for wave, values in enumerate(cosines(width, waves, centred=centred)):
        for x, value in enumerate(values):
            for band in range(bands):
                matrix[(x * bands + band) * row + wave * bands + band] = value / width
    return _matrix(matrix, row, width * bands)
