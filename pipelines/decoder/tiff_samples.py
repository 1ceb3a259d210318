"""TIFF's samples as the colours that they mean: shades, numbers, Lab, palettes, and opacity behind them."""

import struct
import sys
from collections.abc import Callable
from functools import cache, reduce
from math import gcd
from operator import and_, or_

import pyvips

from pipelines.decoder import tiff_header
from pipelines.decoder.picture import Image
from pipelines.decoder.refusal import corrupt
from pipelines.decoder.tiff_header import Directory
from pipelines.decoder.tiff_page import (
    BYTES_APART,
    FLOAT,
    ICC_LAB,
    INKS,
    LAB,
    PALETTE,
    SIGNED,
    WHITE_IS_ZERO,
    TiffPage,
)

# What surveys write where they have no value, if GDAL's tag names none; and what is beyond all measure.
_USUAL_NO_DATA = (-9999.0, -99999.0, -32767.0, -32768.0, -2147483648.0)
_BEYOND = 1e30
_TOPS = {FLOAT: (1, 255, 65535)}
_INTEGER_TOPS = (255, 65535, 4294967295)
_BRIGHTEST_LIGHT = 16  # of linear light, where 1 is white: scRGB ends at 7.5


def as_colours(page: TiffPage, directory: Directory, read: Callable[[], Image]) -> Image:
    """Return colours with a plain meaning, and opacity behind them if the page has any.

    `read` starts to decode the wanted samples; numbers are decoded again, for first comes their range.
    """
    if page.is_half and not page.needs_bytes:
        read = _as_floats(read)
    if page.is_numbers:
        return _from_numbers(page, read)
    image = read()
    colours, opacity = _parted(page, image)
    if page.photometric == PALETTE:
        colours = colours.maplut(_palette(page, directory)).copy(interpretation="srgb")
    elif page.photometric in (LAB, ICC_LAB):
        colours = _lab(page, colours)
        if _has_daylight_white(directory):
            colours = colours.colourspace("srgb")
    elif page.photometric == INKS:
        colours = _eight_bits(colours).copy(interpretation="cmyk")
    else:
        colours = colours.invert() if page.photometric == WHITE_IS_ZERO else colours
        names = ("grey16", "rgb16") if colours.format == "ushort" else ("b-w", "srgb")
        colours = colours.copy(interpretation=names[page.colours == 3])
    if opacity is None:
        return colours
    deep = colours.format == "ushort"
    joined = colours.bandjoin(opacity if deep else _eight_bits(opacity))
    if not page.associated or colours.format == "float":
        return joined
    return joined.unpremultiply(max_alpha=65535 if deep else 255).cast(colours.format)


def _parted(page: TiffPage, image: Image) -> tuple[Image, Image | None]:
    colours = image.extract_band(0, n=page.colours) if image.bands > page.colours else image
    return colours, None if page.opacity is None else image.extract_band(page.colours)


def _eight_bits(image: Image) -> Image:
    return image.cast("uchar", shift=True) if image.format == "ushort" else image


def _palette(page: TiffPage, directory: Directory) -> Image:
    """Return the colour table as an image, by the indices as libvips reads them."""
    size = 1 << page.bits
    levels = directory.numbers(tiff_header.COLOUR_MAP)
    if len(levels) < 3 * size:
        raise corrupt("TIFF", "its colour table is too short")
    shift = 8 if max(levels) > 255 else 0  # some programs write eight bits where sixteen are due
    table = bytes(int(levels[band * size + index]) >> shift for index in range(size) for band in range(3))
    image = pyvips.Image.new_from_memory(table, size, 1, 3, "uchar")
    # Fewer bits than eight are spread over 0 to 255.
    return image.resize(256 // size, kernel="nearest", vscale=1) if page.bits < 8 else image


def _lab(page: TiffPage, stored: Image) -> Image:
    """TIFF 6.0, section 23, and Adobe's notes on ICCLab, whose tints are not signed but begin at -128."""
    if page.kind == FLOAT:
        return stored.copy(interpretation="lab")
    deep = page.bits == 16
    signed = page.photometric == LAB
    white = (65535 if signed else 65280) if deep else 255
    lightness = stored.extract_band(0) * (100 / white)
    tints = stored.extract_band(1, n=2)
    if signed:
        tints = tints.copy(format="short" if deep else "char")
    tints = tints.linear(1 / 256 if deep else 1, 0 if signed else -128)
    return lightness.bandjoin(tints).cast("float").copy(interpretation="lab")


def _has_daylight_white(directory: Directory) -> bool:
    """Whether Lab's white is D65: Adobe's note says that it is D50, where the tag says nothing else."""
    white = directory.content(tiff_header.WHITE)
    if len(white) != 16:
        return False
    x, over, *_ = struct.unpack(f"{directory.layout.order}4I", white)
    return bool(over) and abs(float(x) / over - 0.3127) < 0.005


def _from_numbers(page: TiffPage, read: Callable[[], Image]) -> Image:
    """Return light as it is, and of other numbers shades: from the smallest to the largest, or as agreed."""
    lowest, highest, absent = _extremes(page, read)
    colours, opacity = _parted(page, read())
    if page.is_light and lowest >= -_BRIGHTEST_LIGHT and highest <= _BRIGHTEST_LIGHT:
        light = colours.cast("float").copy(interpretation="scrgb")
        if opacity is None:
            return light
        light = light.bandjoin(opacity.cast("float"))
        return light.unpremultiply(max_alpha=1) if page.associated else light
    black, white = _range(page, lowest, highest)
    if page.photometric == WHITE_IS_ZERO:
        black, white = white, black
    scale = 255 / (white - black)
    numbers = _precise(page, colours)
    shades = numbers.linear(scale, 0.5 - black * scale)
    shades = _valid(numbers, absent).ifthenelse(shades, 0).cast("uchar")
    shades = shades.copy(interpretation="b-w" if page.colours == 1 else "srgb")
    return shades if opacity is None else shades.bandjoin(_share(page, opacity))


def _precise(page: TiffPage, image: Image) -> Image:
    return image.cast("float" if page.bits < 32 or (page.kind == FLOAT and page.bits == 32) else "double")


def _absent(page: TiffPage, numbers: Image) -> set[float]:
    """Return what stands for no value, as the numbers would hold it."""
    absent = {each for each in (*_USUAL_NO_DATA, *page.no_data) if abs(each) <= _BEYOND}
    if numbers.format == "float":
        absent = {struct.unpack("f", struct.pack("f", each))[0] for each in absent}
    return absent


def _valid(numbers: Image, absent: set[float]) -> Image:
    """Return where there are numbers: neither NaN nor infinite nor what stands for no value."""
    return reduce(and_, (numbers != each for each in absent), numbers.abs() <= _BEYOND)


def _extremes(page: TiffPage, read: Callable[[], Image]) -> tuple[float, float, set[float]]:
    """Return the smallest and the largest of the numbers, and what stands for no value among them."""
    numbers = _precise(page, _parted(page, read())[0])
    lowest, highest = _ends(numbers, set())
    absent = {each for each in _absent(page, numbers) if lowest <= each <= highest}
    if absent:
        lowest, highest = _ends(_precise(page, _parted(page, read())[0]), absent)
    return lowest, highest, absent


def _ends(numbers: Image, absent: set[float]) -> tuple[float, float]:
    """Return the ends of all colours together."""
    valid = _valid(numbers, absent)
    both = valid.ifthenelse(numbers, 2 * _BEYOND).bandjoin(valid.ifthenelse(numbers, -2 * _BEYOND))
    found, count = both.stats(), numbers.bands
    lowest = min(found(0, 1 + band)[0] for band in range(count))
    return lowest, max(found(1, 1 + count + band)[0] for band in range(count))


def _range(page: TiffPage, lowest: float, highest: float) -> tuple[float, float]:
    """Return which numbers become black and white: an agreed range, if they fill half of it, or their own."""
    tops = _TOPS.get(page.kind, _INTEGER_TOPS)
    held = [top for top in tops if lowest >= 0 and highest <= top]
    if held and highest - lowest > 0.49 * held[0]:
        return 0, held[0]
    if lowest < highest:
        return lowest, highest
    # One number everywhere, or none.
    return (0, held[0]) if held and held[0] <= 255 else (lowest - 1, lowest + 1)


def _share(page: TiffPage, opacity: Image) -> Image:
    top = 1 if page.kind == FLOAT else 2 ** (page.bits - (page.kind == SIGNED)) - 1
    return opacity.linear(255 / top, 0.5).cast("uchar")


def _as_floats(read: Callable[[], Image]) -> Callable[[], Image]:
    return lambda: read().maplut(_halves())


def from_bytes(page: TiffPage, stored: Image, *, little: bool) -> Image:
    """Return the numbers that the bytes of a plane's rows are, in the order of the file."""
    if page.is_packed:
        return _unpacked(page, stored)
    size = page.bits // 8
    if page.predictor == BYTES_APART:
        stored, little = _together(page, stored, size), False
    else:
        stored = stored.bandfold(factor=size * (1 if page.separate else page.samples))
    kind = "ushort" if page.is_half else "double"
    numbers = stored.copy(format=kind, bands=stored.bands // size)
    numbers = numbers if little == (sys.byteorder == "little") else numbers.byteswap()
    numbers = numbers.crop(0, 0, page.width, page.height)
    return numbers.maplut(_halves()) if page.is_half else numbers


def _together(page: TiffPage, stored: Image, size: int) -> Image:
    """Return the bytes of each number as bands: they are stored apart, within each tile."""
    width = page.chunk[0]
    planes = [
        [stored.crop((tile * size + byte) * width, 0, width, stored.height) for tile in range(page.across)]
        for byte in range(size)
    ]
    joined = [pyvips.Image.arrayjoin(tiles, across=page.across) for tiles in planes]
    return joined[0].bandjoin(joined[1:])


@cache
def _halves() -> Image:
    """Return the numbers that each 16 bits are as a float of half precision."""
    halves = struct.unpack("65536e", struct.pack("65536H", *range(65536)))
    return pyvips.Image.new_from_memory(struct.pack("65536f", *halves), 65536, 1, 1, "float")


def _unpacked(page: TiffPage, stored: Image) -> Image:
    """Return samples that begin within bytes, the first bit the highest, as 16-bit ones."""
    together = page.bits // gcd(page.bits, 8)  # bytes after which a sample begins with a byte again
    groups = -(-stored.width // together)
    parts = stored.embed(0, 0, groups * together, stored.height).bandfold(factor=together).cast("uint")
    samples = [_sample(parts, page.bits, begin) for begin in range(0, together * 8, page.bits)]
    joined = samples[0].bandjoin(samples[1:]).linear(65535 / (2**page.bits - 1), 0.5).cast("ushort")
    return joined.bandunfold(factor=len(samples)).crop(0, 0, page.width, page.height)


def _sample(parts: Image, bits: int, begin: int) -> Image:
    first, last = begin // 8, (begin + bits - 1) // 8
    whole = reduce(or_, (parts[byte] << 8 * (last - byte) for byte in range(first, last + 1)))
    return whole >> (8 * (last + 1) - begin - bits) & (2**bits - 1)
