"""How long a variant takes to encode at the slowest: noise of the highest quality. It needs no library."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.recipe import Variant

# Samples of brightness and colour up to which a JPEG of effort "small" has a trellis, and its scans are
# searched: so each such variant ends within some 7 s of CPU, whatever is in it.
MOST_WITH_TRELLIS, MOST_WITH_SCANS = 12_000_000, 60_000_000
_WITH_TRELLIS, _WITH_SCANS = 0.6, 0.12  # seconds for a million samples
_FOR_A_MEGAPIXEL = {"jpeg": 0.1, "webp": 0.225, "avif": 1.125}  # seconds, without subsampling


def samples(pixels: int, *, subsampled: bool) -> float:
    """How many samples so many pixels have."""
    return pixels * (1.5 if subsampled else 3)


def slowest_s(variant: "Variant", pixels: int) -> float:
    """Return the CPU seconds that a variant of so many pixels takes."""
    count = samples(pixels, subsampled=variant.subsampling == "4:2:0")
    if variant.effort == "small" and count <= MOST_WITH_SCANS:
        return count / 1e6 * (_WITH_TRELLIS if count <= MOST_WITH_TRELLIS else _WITH_SCANS)
    return pixels / 1e6 * _FOR_A_MEGAPIXEL[variant.format]
