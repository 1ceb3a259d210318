"""Memory for the pixels of one picture, kept for the next one: to be given as much anew takes time.

A picture that is scaled down from its first row to its last is written over itself.
"""

import mmap
from contextlib import suppress

import pyvips

from pipelines.decoder.picture import Image, Samples
from pipelines.formats import MIB

_AHEAD = MIB  # bytes before a picture's pixels, which are written while the first of these are still read
_IN_HAND = 64  # rows that libvips may read late, beside those of a kernel: it works on 16 at a time
_LOBES = 2 * 3  # of the largest kernel, on both sides: so many times the scale are its rows
_HUGE = 2 * MIB  # a page that the system can give at once, instead of 512 of them
_MAPPED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

_kept = _NOTHING = mmap.mmap(-1, mmap.PAGESIZE, flags=_MAPPED)
_taken = 0  # bytes of it, to the end of the picture's pixels


def take(size: int, *, turned: bool = False) -> memoryview | None:
    """Memory for the pixels of a picture, good until the next one; None where there is none.

    Behind those of one that is `turned` as many fit again.
    """
    global _taken
    if not _has(_AHEAD + size * (2 if turned else 1)):
        return None
    _taken = _AHEAD + size
    return memoryview(_kept)[_AHEAD:_taken]


def over_itself(image: Image, width: int, height: int, bands: int) -> Samples:
    """The pixels of an image that is made, row by row, of the eight-bit picture in this memory.

    They lie where that did, or elsewhere if its rows are long, or become longer, or are not made one after
    the other.
    """
    rows = _IN_HAND + _LOBES * -(-height // image.height)
    # Grey becomes colour where a profile says so: what is written may take more bytes than what was read.
    is_smaller = image.width * image.bands <= width * bands and image.height <= height
    is_far_enough = rows * width * bands <= _AHEAD
    # With several threads one of them may read late what another has written over.
    in_order = pyvips.voperation.concurrency_get() == 1
    return _written(image, 0) if is_smaller and is_far_enough and in_order else elsewhere(image)


def behind(image: Image) -> Samples:
    """The pixels of an image that is made of those that were taken, in any order."""
    return _written(image, -(-_taken // mmap.PAGESIZE) * mmap.PAGESIZE)


def alone(image: Image) -> Samples:
    """The pixels of an image that is made of nothing in this memory."""
    _has(image.width * image.height * image.bands)
    return _written(image, 0)


def elsewhere(image: Image) -> Samples:
    """The pixels of an image in memory that is not kept."""
    return image.write_to_memory()


def kept() -> int:
    """Bytes of memory that are kept for the next picture."""
    return len(_kept)


def give_back() -> None:
    """Keep no memory for the next picture."""
    global _kept
    _kept = _NOTHING


def _written(image: Image, start: int) -> Samples:
    size = image.width * image.height * image.bands
    if image.format != "uchar" or start + size > len(_kept):
        return elsewhere(image)
    pixels = memoryview(_kept)[start : start + size]
    image.write(pyvips.Image.new_from_memory(pixels, image.width, image.height, image.bands, "uchar"))
    return pixels


def _has(size: int) -> bool:
    """Whether there is memory for so many bytes, in as few pages as can be."""
    global _kept
    if len(_kept) >= size:
        return True
    page = _HUGE if size >= _HUGE else mmap.PAGESIZE
    give_back()  # before more is taken
    try:
        _kept = mmap.mmap(-1, -(-size // page) * page, flags=_MAPPED)
    except OSError:
        return False
    with suppress(OSError):  # a system without pages of that size
        _kept.madvise(mmap.MADV_HUGEPAGE if page == _HUGE else mmap.MADV_NORMAL)
    return True
