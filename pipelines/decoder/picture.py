"""A picture whose header was read: what is known of it, and how to get at its pixels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pyvips

from pipelines.decoder.cicp import Code
from pipelines.formats import Format, Shape

_ROWS = 32  # so that what is in work is small enough for the C library to have it at hand

Image = Any
"""A pyvips image: the library has no types."""

Samples = Any
"""The bytes of pixels: `bytes`, a view of other memory, or libvips' own."""


class ImageInMemory(pyvips.Image):  # type: ignore[misc]
    """An image of pixels that stay as they are; neither for them nor for what they mean libvips is asked.

    pyvips would ask it for a width or a format some fifty times a picture.
    """

    def __init__(
        self,
        pixels: Samples,
        width: int,
        height: int,
        bands: int,
        format: str,
        interpretation: str,
    ) -> None:
        image = pyvips.Image.new_from_memory(pixels, width, height, bands, format)
        # Nothing has been made of it yet: it need not be copied for that.
        pyvips.VipsObject.set(image, "interpretation", interpretation)
        pyvips.gobject_lib.g_object_ref(image.pointer)  # it is given back once for each of the two
        super().__init__(image.pointer)
        self._references.append(pixels)  # so do images that are made of this one
        self.pixels = pixels
        self.width, self.height, self.bands = width, height, bands
        self.format, self.interpretation = format, interpretation


def samples(image: Image) -> Samples:
    """Return the pixels of a small picture, without the threads that `write_to_memory` starts."""
    if isinstance(image, ImageInMemory):
        return image.pixels
    region, width, height = pyvips.Region.new(image), image.width, image.height
    strips = (region.fetch(0, top, width, min(_ROWS, height - top)) for top in range(0, height, _ROWS))
    return b"".join(map(bytes, strips))


@dataclass(frozen=True)
class Picture:
    """One opened picture; nothing of it is decoded before `load` is called."""

    format: Format
    shape: Shape  # as stored, before it is turned upright
    orientation: int  # 1 to 8, as in EXIF; 1 where the decoder turns it upright itself
    profile: bytes | None
    load: Callable[[float], Image]
    """Start decoding; a loader that can shrink meanwhile may do so by at most the given factor."""
    load_halved: Callable[[float], Image] | None = None
    """`load` in less time, with colours as coarse as they are stored: for variants that keep half of them."""
    damage: Callable[[], str] = str
    """After decoding: what the decoder repaired, in its words; empty if nothing."""
    excess: str = ""
    """What it has too much of to be worth its time, in words; empty if nothing."""
    numbered: Code | None = None
    """What its colours are by number, where that is not sRGB and goes before the profile."""

    held: Callable[[float], int] = lambda shrink: 0
    """Bytes of pixels that `load` with that factor has in memory at once, of a picture that others stream."""

    streamed: Callable[[], "Picture"] | None = None
    """The same picture by a decoder that holds less of it; None where there is no such."""

    streams_alike: Callable[[float, bool], bool] = lambda shrink, halved: True
    """Whether `streamed` has the same pixels with that factor, if colours are `halved` or not."""

    at_hand: Callable[[], bool] = bool
    """After `load`: whether all pixels are in memory, so that they can be read in any order."""

    stored: tuple[int, int] = (0, 0)
    """Width and height of what is decoded, where only a part of that is the picture."""

    @property
    def decoded(self) -> Shape:
        """What is to be decoded: all that is stored, also what is cropped away."""
        width, height = self.stored
        is_more = width * height > self.shape.pixels
        return replace(self.shape, width=width, height=height) if is_more else self.shape

    @property
    def turned(self) -> bool:
        return self.orientation >= 5

    @property
    def width(self) -> int:
        return self.shape.height if self.turned else self.shape.width

    @property
    def height(self) -> int:
        return self.shape.width if self.turned else self.shape.height
