"""How far a page's strips or tiles reach: what lies behind the end of the file is missing."""

from collections.abc import Iterator
from itertools import chain, islice, repeat
from operator import add

from pipelines.decoder import tiff_header
from pipelines.decoder.tiff_header import Directory
from pipelines.decoder.tiff_page import JPEG, OLD_JPEG, UNCOMPRESSED, TiffPage

_END_OF_JPEG = b"\xff\xd9"


def missing(page: TiffPage, directory: Directory) -> int:
    """Return how many bytes of the wanted strips or tiles lie behind the end, at most those of all pixels.

    Nothing is kept of them: there may be millions.
    """
    begin_tag, size_tag = page.places
    count = page.across * -(-page.height // page.chunk[1])
    begins = directory.each(begin_tag)
    # Of what is not compressed all pixels are read, and nothing else, whatever its size is said to be.
    sizes = _needed(page, count) if page.compression == UNCOMPRESSED else directory.each(size_tag)
    planes = range(page.samples if page.separate else 1)
    ends = [max(map(add, islice(begins, count), islice(sizes, count)), default=0) for _ in planes]
    wanted = [ends[plane] for plane in (page.wanted if page.separate else planes)]
    if page.compression == OLD_JPEG:
        begin, size = (directory.number(tag, 0) for tag in tiff_header.OLD_JPEG_PLACE)
        wanted.append(begin + size)
    return min(max(0, max(wanted) - len(directory.data)), page.plane_bytes * len(wanted))


def has_end(page: TiffPage, directory: Directory) -> bool:
    """Whether it is an old JPEG with its end marker: it is whole, though its size is often wrong."""
    begin = directory.number(tiff_header.OLD_JPEG_PLACE[0], directory.number(page.places[0], 0))
    return page.compression == OLD_JPEG and directory.data.find(_END_OF_JPEG, begin) >= 0


def lacks_end(page: TiffPage, directory: Directory) -> bool:
    """Whether a tile of JPEG ends before its marker does: libvips says nothing of what such a tile lacks."""
    if not page.tiled or page.compression != JPEG:
        return False
    places = zip(*map(directory.each, page.places), strict=False)
    return any(directory.data.rfind(_END_OF_JPEG, begin, begin + size) < 0 for begin, size in places)


def _needed(page: TiffPage, count: int) -> Iterator[int]:
    """Yield the bytes that all pixels of each strip or tile take, plane after plane."""
    full = page.stored_bytes(page.chunk[1])
    last = full if page.tiled else page.stored_bytes((page.height - 1) % page.chunk[1] + 1)
    return chain.from_iterable(chain(repeat(full, count - 1), (last,)) for _ in repeat(None))
