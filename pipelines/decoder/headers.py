"""The memory that decoding takes by a picture's headers, where libvips does not say it."""

import re
import struct
from collections.abc import Iterator

from pipelines.formats import Shape

_MOST = 4096  # segments that are read: a file made of tiny ones must not cost seconds
_MOST_TAG_WORK = 4_000_000  # libtiff's time grows with the square of a directory's tags: some 0.2 s
_MAX_EXTRA_TAG_BYTES = 16 * 1024 * 1024
# Bytes of a value by its type: TIFF 6.0, section 2, and from 16 on BigTIFF.
_TAG_BYTES = dict(enumerate((0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)))

# JPEG markers: ITU T.81, table B.1. Fill bytes (0xFF) may stand before each.
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_SCAN = 0xDA
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_ALONE = {0x01, *range(0xD0, 0xD9)}  # without a length: TEM, RST, SOI


def jpeg_shape(data: bytearray, width: int, height: int) -> Shape | None:
    """Return the shape of a JPEG of that size, None for anything else."""
    if not data.startswith(b"\xff\xd8"):
        return None
    kind, components, density = 0, 0, 0.0
    for marker, segment in _jpeg_segments(data):
        if marker in _FRAMES and len(segment) >= 9:
            kind, components, density = marker, segment[5], _density(segment)
        elif marker == _SCAN and components and segment:
            # One scan for each component is as bad as progressive: all coefficients are kept.
            whole = kind in _PROGRESSIVE or segment[0] < components
            return Shape(width, height, components, whole=whole, density=density)
    return Shape(width, height, 4, whole=True, density=4)


def _jpeg_segments(data: bytearray) -> Iterator[tuple[int, bytearray]]:
    at = 2
    for _ in range(_MOST):
        found = _MARKER.search(data, at)
        if found is None:
            return
        at = found.end()
        marker = data[at - 1]
        if marker not in _ALONE:
            length = max(2, int.from_bytes(data[at : at + 2]))
            yield marker, data[at + 2 : at + length]
            at += length


def _density(frame: bytearray) -> float:
    factors = [(byte >> 4 or 1, byte & 15 or 1) for byte in frame[7::3]]
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    return sum(h * v for h, v in factors) / (across * down)


def is_lossless_webp(data: bytearray) -> bool:
    """Say whether a WebP's first picture is stored lossless (RFC 9649, 2.6), which is decoded whole."""
    at = 12
    for _ in range(_MOST):
        kind, length = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8L"
        at += 8 + (16 if kind == b"ANMF" else length + length % 2)  # a frame's chunks lie behind 16 bytes
    return True


def has_cheap_tags(data: bytearray) -> bool:
    """Say whether a TIFF's directories are few and small enough that reading them costs next to nothing.

    TIFF 6.0, section 2: a directory is a count, entries (tag, type, count, offset) and a link to the next.
    """
    order = "<" if data[:2] == b"II" else ">"
    if bytes(data[2:4]) in (b"+\0", b"\0+"):
        count, entry, link, at = (struct.Struct(order + each) for each in ("Q", "HHQQ", "Q", "8xQ"))
    else:
        count, entry, link, at = (struct.Struct(order + each) for each in ("H", "HHII", "I", "4xI"))
    work, stored, seen = 0, 0, set[int]()
    try:
        place = at.unpack_from(data)[0]
        while place and place not in seen:
            seen.add(place)
            tags = count.unpack_from(data, place)[0]
            work += tags * tags
            if work > _MOST_TAG_WORK:
                return False
            first = place + count.size
            end = first + tags * entry.size
            for _, kind, length, where in entry.iter_unpack(memoryview(data)[first:end]):
                size = length * _TAG_BYTES.get(kind, 0)
                # Beyond the end there is nothing to read; within, no two tags' data are the same bytes.
                stored += size if where + size <= len(data) else 0
            if stored > 2 * len(data) + _MAX_EXTRA_TAG_BYTES:
                return False
            place = link.unpack_from(data, end)[0]
    except struct.error:
        return True  # libtiff says what it thinks of it
    return True
