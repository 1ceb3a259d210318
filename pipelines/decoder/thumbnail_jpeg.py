"""JPEGs of few pixels, encoded by Pillow to the bytes that libvips makes, whose threads take longer."""

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyvips
from PIL import Image as PillowImage
from PIL.JpegImagePlugin import JpegImageFile

from pipelines.decoder.picture import Image, samples

_MOST_PIXELS = 500_000  # of more, Pillow takes as long for a copy in its own form as libvips for its threads
_HEAD, _JFIF = 2, 18  # bytes: the start of the image, and what Pillow writes behind it and libvips does not
_SUBSAMPLING = {"on": "4:2:0", "off": "4:4:4"}

Options = Mapping[str, Any]
"""What libvips' encoder is told."""


def set_up() -> None:
    """Import what Pillow would otherwise import at the first picture."""
    PillowImage.preinit()


def suits(image: Image, options: Options) -> bool:
    """Whether it is small, of colours, and to be encoded in one go."""
    if options["interlace"] or options.get("optimize_coding", True):
        return False
    is_colour = (image.interpretation, image.format, image.bands) == ("srgb", "uchar", 3)
    return is_colour and image.width * image.height <= _MOST_PIXELS


def encode(image: Image, options: Options) -> bytes:
    """Return the file that libvips would make with these options."""
    size, file = (image.width, image.height), io.BytesIO()
    pixels = PillowImage.frombuffer("RGB", size, samples(image), "raw", "RGB", 0, 1)
    subsampling = _SUBSAMPLING[options["subsample_mode"]]
    pixels.save(file, "JPEG", qtables=_tables(**options), subsampling=subsampling)
    content = file.getvalue()
    return content[:_HEAD] + content[_HEAD + _JFIF :]


@lru_cache(64)
def _tables(**options: object) -> list[list[int]]:
    """The tables by which libvips quantises then."""
    tiny = pyvips.Image.black(8, 8, bands=3).copy(interpretation="srgb")
    with JpegImageFile(io.BytesIO(tiny.jpegsave_buffer(keep="none", **options))) as made:
        return [list(table) for _, table in sorted(made.quantization.items())]
