"""How JPEG variants are encoded: with tables of mozjpeg, by the quality that users know from libjpeg.

Beside the standard's table (ITU T.81, annex K), which has colour too coarse for its brightness, these make a
picture of as much PSNR and SSIM in fewer bytes: `python -m bench quality` compares them.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pyvips

from pipelines.encoding_time import MOST_WITH_SCANS, MOST_WITH_TRELLIS, samples

# By mozjpeg's numbers: tuned for MS-SSIM; Ahumada, Watson, Peterson (1992); Peterson, Ahumada, Watson (1993).
_FOR_FEW, _FOR_TRELLIS, _USUAL = 2, 7, 8
_FEW = 70  # of this quality and above the usual table is better than the one for few bytes
# A quality of libjpeg, and the encoder's that has as much SSIM with that table; between them, straight lines.
_WITH_FEW = ((1, 1), (30, 32), (50, 51), (70, 70))
_WITH_USUAL = ((70, 51), (80, 64), (88, 77), (95, 90), (100, 100))
_WITH_TRELLIS = ((1, 1), (30, 23), (50, 35), (70, 51), (80, 64), (88, 76), (95, 88), (100, 100))

_AT_50 = bytes((16, 11, 12, 14, 12, 10, 16, 14))  # how the standard's table begins in a file of quality 50


def jpeg_options(spec: Mapping[str, Any], pixels: int = 0, *, mozjpeg: bool | None = None) -> dict[str, Any]:
    """Return what libvips' encoder is told for that variant, of so many pixels.

    `mozjpeg`: whether it has that; None: as libvips here does.
    """
    quality = int(spec["quality"])
    subsampling = "off" if spec.get("subsampling") == "4:4:4" else "on"
    small = spec.get("effort") == "small"
    if not (has_tables() if mozjpeg is None else mozjpeg):
        return {
            "Q": quality,
            "subsample_mode": subsampling,
            "optimize_coding": small,
            "interlace": small or bool(spec.get("progressive")),
        }
    if small:
        count = samples(pixels, subsampled=subsampling == "on")
        return {
            "Q": _encoders(quality, _WITH_TRELLIS),
            "quant_table": _FOR_TRELLIS,
            "subsample_mode": subsampling,
            "trellis_quant": count <= MOST_WITH_TRELLIS,
            "interlace": True,
            "optimize_scans": count <= MOST_WITH_SCANS,
        }
    few = quality < _FEW
    return {
        "Q": _encoders(quality, _WITH_FEW if few else _WITH_USUAL),
        "quant_table": _FOR_FEW if few else _USUAL,
        "subsample_mode": subsampling,
        "optimize_coding": False,
        "interlace": bool(spec.get("progressive")),
    }


def _encoders(quality: int, known: Sequence[tuple[int, int]]) -> int:
    for (low, first), (high, last) in pairwise(known):
        if low <= quality <= high:
            return round(first + (quality - low) * (last - first) / (high - low))
    raise ValueError(f"no encoder's quality for {quality}")


@cache
def has_tables() -> bool:
    """Return whether this libvips has mozjpeg: another takes the standard's table instead, and no trellis."""
    content = bytes(pyvips.Image.black(8, 8).jpegsave_buffer(Q=50, quant_table=_USUAL))
    return _AT_50 not in content
