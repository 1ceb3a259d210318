"""The memory that decoding takes by a picture's headers, where libvips does not say it."""

import re
from collections.abc import Iterator

from pipelines.formats import Shape

_MOST = 4096  # segments that are read: a file made of tiny ones must not cost seconds

# JPEG markers: ITU T.81, table B.1. Fill bytes (0xFF) may stand before each.
_MARKER = re.compile(rb"\xff([^\x00\xff])")
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
