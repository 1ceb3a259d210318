"""Placeholders of a picture, made of pixels that are small, eight-bit, and without opacity."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from functools import cache
from math import copysign, floor, sqrt

from pipelines.decoder.arrays import numpy
from pipelines.decoder.cosines import Pixels, pixels, transform
from pipelines.decoder.picture import Image
from pipelines.decoder.render import resize
from pipelines.placeholders import Kind, blurhash, thumbhash
from pipelines.scaling import scaled

LONGEST_SIDE = 150  # px: to make a picture smaller than that takes longer than to add up all of it
_NOTHING = 1e-9  # of full brightness: what adding up leaves where nothing varies


def make(image: Image, kind: Kind) -> str | None:
    """The placeholder of that kind as text, a ThumbHash in base64; None where none is asked for."""
    match kind:
        case "thumbhash":
            return b64encode(encode_thumbhash(_small(image))).decode()
        case "blurhash":
            return encode_blurhash(_small(image))
        case _:
            return None


def _small(image: Image) -> Image:
    if image.bands < 3:
        image = image.colourspace("srgb")
    side = max(image.width, image.height)
    if side <= LONGEST_SIDE:
        return image
    width, height = (scaled(length, side, LONGEST_SIDE) for length in (image.width, image.height))
    return resize(image, width, height)


def encode_thumbhash(image: Image) -> bytes:
    """The ThumbHash of a picture, as its reference implementation makes it."""
    width, height = int(image.width), int(image.height)
    across, down = (
        max(1, floor(thumbhash.MOST_WAVES * side / max(width, height) + 0.5)) for side in (width, height)
    )
    sides, *of_colours = thumbhash.planes(across, down)
    means = transform(pixels(image), thumbhash.waves(*sides), centred=True)
    values = {wave: _differences(*mean) for wave, mean in means.items()}
    light = _Channel([brightness for brightness, _, _ in values.values()])
    yellow, red = (
        _Channel([values[wave][number] for wave in thumbhash.waves(*each)])
        for number, each in enumerate(of_colours, 1)
    )
    is_landscape = width > height
    first = _rounded(63 * light.mean) | _rounded(31.5 + 31.5 * yellow.mean) << 6
    first |= _rounded(31.5 + 31.5 * red.mean) << 12 | _rounded(31 * light.scale) << 18
    second = (down if is_landscape else across) | _rounded(63 * yellow.scale) << 3
    second |= _rounded(63 * red.scale) << 9 | is_landscape << 15
    halves = [*light.steps, *yellow.steps, *red.steps]
    halves += [0] * (len(halves) % 2)
    body = bytes(low | high << 4 for low, high in zip(halves[::2], halves[1::2], strict=True))
    return first.to_bytes(3, "little") + second.to_bytes(2, "little") + body


class _Channel:
    """What a plane of the picture is on the average, and in 16 steps how each wave of it varies."""

    def __init__(self, values: Sequence[float]) -> None:
        self.mean, *varying = values
        largest = max(map(abs, varying))
        self.scale = largest if largest > _NOTHING else 0.0
        self.steps = [_rounded(7.5 + 7.5 * value / largest) if self.scale else 0 for value in varying]


def _differences(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """Brightness, yellow against blue, and red against green, of levels of up to 255."""
    return (red + green + blue) / 765, (red + green - 2 * blue) / 510, (red - green) / 255


def _rounded(value: float) -> int:
    return floor(value + 0.5)


def encode_blurhash(image: Image) -> str:
    """The BlurHash of a picture: four components along its longer side, three along the other."""
    shorter, longer = blurhash.SIDES
    across, down = (longer, shorter) if image.width >= image.height else (shorter, longer)
    light = _light()[pixels(image)]
    mean, *others = transform(light, blurhash.waves(across, down), centred=False).values()
    waves = [2 * value for colour in others for value in colour]
    level = max(0, min(82, floor(max(map(abs, waves)) * blurhash.STEPS - 0.5)))
    scale = (level + 1) / blurhash.STEPS
    steps = [_step(value / scale) for value in waves]
    parts = [(across - 1 + (down - 1) * 9, 1), (level, 1)]
    parts.append((int.from_bytes(map(blurhash.from_linear, mean)), 4))
    parts += [(19 * (19 * red + green) + blue, 2) for red, green, blue in _threes(steps)]
    return "".join(map(_digits, *zip(*parts, strict=True)))


@cache
def _light() -> Pixels:
    return numpy.array([blurhash.to_linear(level) for level in range(256)])


def _step(share: float) -> int:
    root = copysign(sqrt(abs(share)), share)
    return max(0, min(2 * blurhash.LEVELS, floor(root * blurhash.LEVELS + blurhash.LEVELS + 0.5)))


def _threes(numbers: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    return zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)


def _digits(number: int, count: int) -> str:
    digits = ""
    for _ in range(count):
        number, rest = divmod(number, len(blurhash.DIGITS))
        digits = blurhash.DIGITS[rest] + digits
    return digits
