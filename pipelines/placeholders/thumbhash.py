"""ThumbHash: what its bytes mean. The reference implementation is https://github.com/evanw/thumbhash.

A hash of a picture with opacity has another form; no variant has any, so that form is refused here.
"""

import binascii
from base64 import b64decode
from collections.abc import Iterator, Sequence
from functools import cache

from pipelines.placeholders.cosines import Pixels, Wave, plane, size_of

MOST_BYTES = 25
MOST_WAVES = 7  # along the longer side, for brightness
COLOUR_WAVES = 3  # along either side, for each of the two differences of colours
_HEAD = 5  # bytes
_OPACITY = 1 << 23
_SATURATION = 1.25  # by which the reference makes up for what rounding takes


def waves(across: int, down: int) -> Iterator[Wave]:
    """The waves of a plane in the order of its numbers: those of the corner of long ones."""
    for cy in range(down):
        for cx in range(across):
            if cx * down < across * (down - cy):
                yield cx, cy


def is_whole(content: bytes) -> bool:
    """Whether these bytes are a ThumbHash from start to end, of a picture without opacity."""
    if not _HEAD <= len(content) <= MOST_BYTES or int.from_bytes(content[:3], "little") & _OPACITY:
        return False
    across, down = _sides(content)
    if min(across, down) < 1:
        return False
    return len(content) == _HEAD + (_numbers(across, down) + 1) // 2


@cache
def _numbers(across: int, down: int) -> int:
    """How many numbers of half a byte a ThumbHash of these proportions has."""
    return sum(len(list(waves(*sides))) - 1 for sides in planes(across, down))


def parse(text: str) -> bytes:
    """The bytes of a ThumbHash in base64. Raises: ValueError where the text is none."""
    try:
        content = b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("no base64") from error
    if not is_whole(content):
        raise ValueError("no ThumbHash")
    return content


def pixels(content: bytes) -> Pixels:
    """The picture of a whole ThumbHash, small enough to be enlarged."""
    first, second = int.from_bytes(content[:3], "little"), int.from_bytes(content[3:5], "little")
    means = (first & 63) / 63, (first >> 6 & 63) / 31.5 - 1, (first >> 12 & 63) / 31.5 - 1
    scales = (
        (first >> 18 & 31) / 31,
        (second >> 3 & 63) / 63 * _SATURATION,
        (second >> 9 & 63) / 63 * _SATURATION,
    )
    across, down = _sides(content)
    numbers = (half for byte in content[_HEAD:] for half in (byte & 15, byte >> 4))
    width, height = size_of(across, down)
    found = []
    for sides, mean, scale in zip(planes(across, down), means, scales, strict=True):
        heights = {
            wave: 2 * scale * (next(numbers) / 7.5 - 1) if wave != (0, 0) else mean for wave in waves(*sides)
        }
        found.append(plane(heights, width, height, centred=True))
    rows = zip(*found, strict=True)
    return Pixels(width, height, b"".join(_rgb(*at) for row in rows for at in zip(*row, strict=True)))


def _sides(content: bytes) -> tuple[int, int]:
    """The proportions: the longer side has as many waves as can be."""
    said = int.from_bytes(content[3:5], "little")
    return (MOST_WAVES, said & 7) if said >> 15 else (said & 7, MOST_WAVES)


def planes(across: int, down: int) -> Sequence[tuple[int, int]]:
    """How many waves go across and down: for brightness, yellow against blue, and red against green."""
    colour = COLOUR_WAVES, COLOUR_WAVES
    return (max(COLOUR_WAVES, across), max(COLOUR_WAVES, down)), colour, colour


def _rgb(light: float, yellow: float, red: float) -> bytes:
    b = light - 2 / 3 * yellow
    r = (3 * light - b + red) / 2
    return bytes(int(255 * min(1.0, max(0.0, value))) for value in (r, r - red, b))
