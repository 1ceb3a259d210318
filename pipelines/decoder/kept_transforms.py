"""Colours of small pictures by transforms that are kept: to make one takes as long as 250,000 pixels.

libvips makes one for each picture. Pillow makes it by the same library (lcms), once for each profile.
"""

import io
from functools import lru_cache
from typing import Any

import pyvips
from PIL import Image as PillowImage
from PIL import ImageCms

from pipelines.decoder.picture import Image, ImageInMemory, samples

_MOST_PIXELS = 400_000  # of more, Pillow takes as long for its own form as libvips for the transform
_LONGEST = 64 * 1024  # bytes of a profile: those of cameras and screens have a few thousand
_KEPT = 4

Transform = Any


def converted(image: Image, profile: bytes) -> Image | None:
    """The eight-bit sRGB of a small picture of three bands, in memory; None where libvips is to make it."""
    width, height = image.width, image.height
    is_plain = (image.format, image.interpretation, image.bands) == ("uchar", "srgb", 3)
    if width * height > _MOST_PIXELS or len(profile) > _LONGEST or not is_plain:
        return None
    if (transform := _transform(profile)) is None:
        return None
    pixels = PillowImage.frombuffer("RGB", (width, height), samples(image), "raw", "RGB", 0, 1)
    shown = transform.apply(pixels)
    return ImageInMemory(shown.tobytes(), width, height, 3, "uchar", "srgb")


@lru_cache(_KEPT)
def _transform(profile: bytes) -> Transform | None:
    srgb = bytes(pyvips.Operation.call("profile_load", "srgb"))
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.ImageCmsProfile(io.BytesIO(srgb)),
            "RGB",
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ImportError):  # the last where Pillow was built without lcms
        return None
