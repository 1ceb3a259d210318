"""TIFF: the first full page, decoded by libvips, or by Pillow where libvips lacks what it takes."""

from functools import partial
from typing import Any

import pyvips

from pipelines.decoder import (
    headers,
    tiff_codecs,
    tiff_cost,
    tiff_extent,
    tiff_header,
    tiff_page,
    tiff_samples,
    vips,
)
from pipelines.decoder.picture import Image, Picture
from pipelines.decoder.refusal import Declined, corrupt, unknown_kind
from pipelines.decoder.tiff_header import LONG, SHORT, Directory, Entry, Tags
from pipelines.decoder.tiff_page import BLACK_IS_ZERO, ICC_LAB, INKS, JPEG, LAB, RGB, WEBP, YCBCR, TiffPage
from pipelines.formats import Format, Shape

_PILLOWS_RGB = 7.2  # bytes a pixel: four in Pillow, three beside it
_NUMBERS, _LIGHT = 0.2, 1.0  # bytes a sample, while the range of numbers is looked for
_DEEP_INKS = 0.5  # bytes a pixel, while they become eight-bit
_JPEG_HEADER = 256 * 1024
# As what libvips is to read such colours, and how many samples of a pixel those are: the rest is ours.
_READ_AS = {RGB: (RGB, 3), LAB: (RGB, 3), ICC_LAB: (RGB, 3), INKS: (INKS, 4), YCBCR: (YCBCR, 3)}


def probe(format: Format, data: bytearray, damaged: str) -> Picture:
    """Read what the tags of the first full page say, or raise `Declined`."""
    vips.warnings.clear()
    directory = tiff_header.first_full_page(data)
    page = tiff_page.read(directory)
    if page.lacks:
        raise unknown_kind(format.title, page.lacks)
    return Picture(
        format=format,
        shape=_shape(page, directory, damaged),
        orientation=page.orientation,
        profile=None if page.is_light or page.is_lab else _profile(directory),
        load=partial(_load, format, page, directory, damaged, []),
        damage=vips.damage if damaged == "reject" else str,
        excess=tiff_cost.excess(page, directory),
    )


def _shape(page: TiffPage, directory: Directory, damaged: str) -> Shape:
    bands = len(page.wanted) if page.separate else page.samples
    held = _held(page, bands, directory)
    if damaged == "accept":
        held += tiff_extent.missing(page, directory)
    return Shape(page.width, page.height, bands, page.sample, held=int(held))


def _held(page: TiffPage, bands: int, directory: Directory) -> float:
    """Return the bytes that are in memory beside the rows in work."""
    pixels = page.width * page.height
    planes = bands if page.separate else 1
    if page.needs_pillow:
        return _PILLOWS_RGB * pixels
    if page.needs_bytes or page.compression in tiff_page.ONLY_PILLOW:
        return page.plane_bytes * (planes + 1)  # one in Pillow, all beside it
    height = page.chunk[1]
    held = 0.0
    if page.tiled or page.compression in (JPEG, WEBP):  # libvips keeps two rows of them, and libtiff one
        rows = min(2 * height, page.height) * page.across * page.row_bytes * planes
        held += rows + height * page.row_bytes
    if page.compression == JPEG:
        held += _coefficients(page, directory)
    if page.is_numbers:
        held += (_LIGHT if page.is_light else _NUMBERS) * pixels * bands
    return held + (_DEEP_INKS * pixels if page.photometric == INKS and page.bits == 16 else 0)


def _coefficients(page: TiffPage, directory: Directory) -> float:
    """Return the bytes of a strip's or tile's coefficients, where libjpeg keeps all of them."""
    begin = directory.number(page.places[0], 0)
    shape = headers.jpeg_shape(directory.data[begin : begin + _JPEG_HEADER], *page.chunk)
    return 2 * shape.density * shape.pixels if shape and shape.whole else 0


def _profile(directory: Directory) -> bytes | None:
    profile = directory.content(tiff_header.PROFILE)
    return profile if 0 < len(profile) <= vips.LARGEST_PROFILE else None


def _load(
    format: Format,
    page: TiffPage,
    directory: Directory,
    damaged: str,
    sources: list[pyvips.Source],
    _: float,
) -> Image:
    """Start to decode; `sources` outlives the image, which does not keep the bytes that it reads."""
    missing = tiff_extent.missing(page, directory)
    if missing and damaged == "reject" and not tiff_extent.has_end(page, directory):
        raise corrupt(format.title, "it ends before its pixels do")
    if damaged == "reject" and tiff_extent.lacks_end(page, directory):
        raise corrupt(format.title, "a tile ends before its pixels do")
    directory.data.extend(bytes(missing))  # our directories follow, and are not to be taken for pixels
    try:
        if page.needs_pillow:
            return tiff_codecs.colours(directory, _kept(page, directory), damaged)
        data, planes = directory.data, _planes(page, directory)
        if page.needs_bytes:
            stored = [tiff_codecs.as_bytes(page, directory, plane, damaged) for plane in planes]
            little = directory.layout.order == "<"
            images = [tiff_samples.from_bytes(page, image, little=little) for image in stored]
            return tiff_samples.as_colours(page, directory, lambda: _wanted(page, images))
        if page.compression in tiff_page.ONLY_PILLOW:
            data, planes = tiff_codecs.recompressed(page, directory, planes, damaged)
        tiff_header.put(data, planes, directory.layout)
        return tiff_samples.as_colours(
            page, directory, partial(_read, data, page, len(planes), damaged, sources)
        )
    except Declined:
        raise
    except Exception as error:  # Pillow raises whatever a malformed page makes it stumble over
        raise vips.refusal(format, error) from None


def _read(data: bytearray, page: TiffPage, planes: int, damaged: str, sources: list[pyvips.Source]) -> Image:
    """Start to decode the samples that are wanted."""
    sources += (pyvips.Source.new_from_memory(data) for _ in range(planes))
    # A tile that does not decode is for libvips a warning, and black; of strips it fails.
    strict = "warning" if page.tiled else "error"
    options: dict[str, Any] = {"access": "sequential", "fail_on": strict if damaged == "reject" else "none"}
    if page.compression == WEBP:  # which is decoded whole: its memory was asked for
        options["unlimited"] = True
    images = [
        pyvips.Operation.call("tiffload_source", source, page=number, **options)
        for number, source in enumerate(sources[-planes:])
    ]
    return _wanted(page, images)


def _wanted(page: TiffPage, planes: list[Image]) -> Image:
    """Return the samples that are wanted, in one image."""
    if page.separate:
        return planes[0].bandjoin(planes[1:])
    [image] = planes
    if page.wanted == list(range(image.bands)):
        return image
    colours = image.extract_band(0, n=page.colours)
    return colours if page.opacity is None else colours.bandjoin(image.extract_band(page.opacity))


def _kept(page: TiffPage, directory: Directory) -> Tags:
    """Return the tags that decoding takes, as far as their values are there."""
    kept: Tags = {
        tag: entry
        for tag, entry in directory.entries.items()
        if tag in tiff_header.DECODED_WITH and entry.end <= len(directory.data)
    }
    begins, sizes = page.places
    if page.is_one_compressed_strip and not directory.number(sizes, 0):
        # As of old, it goes up to the end: that of the file, before our directories follow.
        left = len(directory.data) - directory.number(begins, 0)
        kept[sizes] = directory.pack(LONG, max(0, left))
    return kept


def _planes(page: TiffPage, directory: Directory) -> list[Tags]:
    """Return the directory of the page, or one for each of its planes that is wanted, as libvips reads it."""
    if not page.separate:
        return [_kept(page, directory) | _meaning(page, directory, page.samples)]
    kept = _kept(page, directory)
    return [kept | _meaning(page, directory, 1) | _part(page, directory, n) for n in page.wanted]


def _meaning(page: TiffPage, directory: Directory, samples: int) -> Tags:
    """Return tags that let libvips hand over so many samples as they are stored: their meaning is ours."""
    photometric, colours = _READ_AS.get(page.photometric, (BLACK_IS_ZERO, 1))
    if samples == 1:
        photometric, colours = BLACK_IS_ZERO, 1
    pack = directory.pack
    tags: Tags = {
        tiff_header.WIDTH: pack(LONG, page.width),
        tiff_header.HEIGHT: pack(LONG, page.height),
        tiff_header.BITS: pack(SHORT, *[page.bits] * samples),
        tiff_header.PHOTOMETRIC: pack(SHORT, photometric),
        tiff_header.SAMPLES: pack(SHORT, samples),
        tiff_header.SAMPLE_FORMAT: pack(SHORT, *[page.read_as] * samples),
    }
    if samples > colours:
        tags[tiff_header.EXTRA_SAMPLES] = pack(SHORT, *[0] * (samples - colours))
    return tags


def _part(page: TiffPage, directory: Directory, number: int) -> Tags:
    """Return where the strips or tiles of that plane are."""
    count = page.across * -(-page.height // page.chunk[1])
    part: Tags = {}
    for tag in tiff_header.PLACES:
        if entry := directory.entries.get(tag):
            size = (entry.end - entry.start) // entry.count
            start = entry.start + number * count * size
            if start + count * size > entry.end:
                raise corrupt("TIFF", "a plane is missing")
            part[tag] = Entry(entry.kind, count, start, start + count * size)
    return part
