"""BlurHash: what its characters mean, as Algorithm.md of https://github.com/woltapp/blurhash says."""

from collections.abc import Iterator, Mapping
from math import copysign

from pipelines.placeholders.cosines import Pixels, Wave, plane, size_of

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
SIDES = (3, 4)  # components along the shorter side and along the longer one
LENGTH = 6 + 2 * (SIDES[0] * SIDES[1] - 1)  # characters
STEPS = 166  # of the scale of what varies
LEVELS = 9  # above and below the middle, of a colour that varies
_VALUES = {digit: value for value, digit in enumerate(DIGITS)}


def is_whole(text: str) -> bool:
    """Whether the text is a BlurHash as this worker makes them, from start to end."""
    if len(text) != LENGTH or not set(text) <= _VALUES.keys():
        return False
    return sorted(_sides(text)) == sorted(SIDES)


def pixels(text: str) -> Pixels:
    """The picture of a whole BlurHash, small enough to be enlarged."""
    across, down = _sides(text)
    width, height = size_of(across, down)
    most = (_number(text[1]) + 1) / STEPS
    mean = _number(text[2:6])
    parts = [tuple(to_linear(mean >> shift & 255) for shift in (16, 8, 0))]
    for at in range(6, LENGTH, 2):
        value = _number(text[at : at + 2])
        parts.append(tuple(_height(value // step % 19) * most for step in (361, 19, 1)))
    places = list(waves(across, down))
    bands: list[Mapping[Wave, float]] = [
        {place: part[band] for place, part in zip(places, parts, strict=True)} for band in range(3)
    ]
    rows = zip(*(plane(band, width, height, centred=True) for band in bands), strict=True)
    colours = (bytes(map(from_linear, at)) for row in rows for at in zip(*row, strict=True))
    return Pixels(width, height, b"".join(colours))


def waves(across: int, down: int) -> Iterator[Wave]:
    """The waves in the order of their characters: the mean first."""
    for cy in range(down):
        for cx in range(across):
            yield cx, cy


def to_linear(level: int) -> float:
    """The light of a level of sRGB, 0 to 255."""
    value = level / 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def from_linear(light: float) -> int:
    """The level of sRGB, 0 to 255, that is nearest to a light."""
    value = min(1.0, max(0.0, light))
    return int((value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055) * 255 + 0.5)


def _sides(text: str) -> tuple[int, int]:
    """How many components it has across and down."""
    said = _number(text[0])
    return said % 9 + 1, said // 9 + 1


def _number(digits: str) -> int:
    number = 0
    for digit in digits:
        number = number * len(DIGITS) + _VALUES[digit]
    return number


def _height(level: int) -> float:
    share = (level - LEVELS) / LEVELS
    return copysign(share * share, share)
