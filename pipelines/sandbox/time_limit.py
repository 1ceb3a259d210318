"""How many CPU seconds a picture may take, once its header has told how much work it is."""

from collections.abc import Sequence
from math import ceil

from pipelines.recipe import Variant
from pipelines.sandbox.answers import Probed

# Four times what the slowest honest pictures were measured to take: noise as AVIF of the highest quality, for
# what is decoded, and noise without subsampling for what is encoded.
_SECONDS = 2.0
_FOR_A_MEGAPIXEL = 0.8
_FOR_A_MEGABYTE = 0.5
_FOR_A_MEGAPIXEL_MADE = {"jpeg": 0.4, "webp": 0.9, "avif": 4.5}
_FOR_A_MEGAPIXEL_SMALL = 6.8  # a JPEG of effort "small"


def cpu_limit(most: float, picture: Probed, size: int, variants: Sequence[Variant]) -> float:
    """Return the seconds for a file of `size` bytes and these variants of it, at most `most`."""
    decoded = _FOR_A_MEGAPIXEL * picture.width * picture.height + _FOR_A_MEGABYTE * size
    made = 0.0
    for variant in variants:
        width, height = variant.size_of(picture.width, picture.height)
        small = variant.effort == "small"
        made += (_FOR_A_MEGAPIXEL_SMALL if small else _FOR_A_MEGAPIXEL_MADE[variant.format]) * width * height
    return min(most, ceil(10 * (_SECONDS + (decoded + made) / 1e6)) / 10)
