"""ThumbHash to data URI: a PNG of a few hundred bytes, which a browser enlarges to a blurred picture.

The format is described by its reference implementation, https://github.com/evanw/thumbhash.
"""

import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from math import cos, pi

LONGEST = 40  # characters in base64, and some to spare: 5 bytes, and half a one for each of at most 37 waves
_SIDE = 12  # px of the longer side, as of the worker's own console: no wave of a ThumbHash is shorter
_SATURATION = 1.25  # by which the reference makes up for what rounding takes
_Wave = tuple[int, int]


def data_uri(thumbhash: str) -> str:
    """The picture of a ThumbHash in base64, as a data URI. Raises: ValueError where the text is none."""
    if len(thumbhash) > LONGEST:
        raise ValueError("no ThumbHash: too long")
    width, height, rgb = _pixels(b64decode(thumbhash, validate=True))
    return f"data:image/png;base64,{b64encode(_png(width, height, rgb)).decode()}"


def _pixels(content: bytes) -> tuple[int, int, bytes]:
    if len(content) < 5:
        raise ValueError("no ThumbHash: too short")
    first, second = int.from_bytes(content[:3], "little"), int.from_bytes(content[3:5], "little")
    if first >> 23:
        raise ValueError("a ThumbHash with opacity, of which media-worker makes none")
    across, down = (7, second & 7) if second >> 15 else (second & 7, 7)
    if not across or not down:
        raise ValueError("no ThumbHash: no sides")
    width, height = (max(1, round(_SIDE * side / max(across, down))) for side in (across, down))
    halves = (half for byte in content[5:] for half in (byte & 15, byte >> 4))
    light = _plane(
        _waves(max(3, across), max(3, down)),
        (first & 63) / 63,
        (first >> 18 & 31) / 31,
        halves,
        width,
        height,
    )
    yellow, red = (
        _plane(_waves(3, 3), mean, scale / 63 * _SATURATION, halves, width, height)
        for mean, scale in (
            ((first >> 6 & 63) / 31.5 - 1, second >> 3 & 63),
            ((first >> 12 & 63) / 31.5 - 1, second >> 9 & 63),
        )
    )
    return width, height, b"".join(map(_rgb, light, yellow, red))


def _waves(across: int, down: int) -> Sequence[_Wave]:
    """How many half waves go across and down, in the order of their numbers; the mean comes first."""
    return [(x, y) for y in range(down) for x in range(across) if x * down < across * (down - y)]


def _plane(
    waves: Sequence[_Wave], mean: float, scale: float, halves: Iterator[int], width: int, height: int
) -> Sequence[float]:
    """The level of each pixel, row by row; takes a number of `halves` for each wave but the mean."""
    try:
        heights = [mean, *(2 * scale * (next(halves) / 7.5 - 1) for _ in waves[1:])]
    except RuntimeError as error:  # what a generator makes of StopIteration
        raise ValueError("no ThumbHash: cut off") from error
    columns = [[cos(pi * wave * (x + 0.5) / width) for x in range(width)] for wave in range(8)]
    rows = [[cos(pi * wave * (y + 0.5) / height) for y in range(height)] for wave in range(8)]
    return [
        sum(
            level * columns[across][x] * rows[down][y]
            for level, (across, down) in zip(heights, waves, strict=True)
        )
        for y in range(height)
        for x in range(width)
    ]


def _rgb(light: float, yellow: float, red: float) -> bytes:
    blue = light - 2 / 3 * yellow
    first = (3 * light - blue + red) / 2
    return bytes(int(255 * min(1.0, max(0.0, value))) for value in (first, first - red, blue))


def _png(width: int, height: int, rgb: bytes) -> bytes:
    rows = (b"\0" + rgb[3 * width * y : 3 * width * (y + 1)] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 9)), (b"IEND", b""))
    )
