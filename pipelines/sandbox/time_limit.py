"""How many CPU seconds a picture may take, once its header has told how much work it is."""

from collections.abc import Sequence
from math import ceil

from pipelines.encoding_time import slowest_s
from pipelines.recipe import Variant
from pipelines.sandbox.answers import Probed

# Four times what the slowest honest pictures were measured to take: noise as AVIF of the highest quality, for
# what is decoded.
_SECONDS = 2.0
_FOR_A_MEGAPIXEL = 0.8
_FOR_A_MEGABYTE = 0.5
_TIMES = 4


def cpu_limit(most: float, picture: Probed, size: int, variants: Sequence[Variant]) -> float:
    """Return the seconds for a file of `size` bytes and these variants of it, at most `most`."""
    decoded = _FOR_A_MEGAPIXEL * picture.width * picture.height + _FOR_A_MEGABYTE * size
    made = 0.0
    for variant in variants:
        width, height = variant.size_of(picture.width, picture.height)
        made += _TIMES * slowest_s(variant, width * height)
    return min(most, ceil(10 * (_SECONDS + decoded / 1e6 + made)) / 10)
