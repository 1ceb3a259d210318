"""Placeholders: the bytes of the reference implementations, and what a browser is given of them.

The hashes were made by the packages thumbhash 0.1.1 of npm (github.com/evanw/thumbhash), and blurhash-python
1.2.2 of PyPI, which wraps the C of github.com/woltapp/blurhash: the one in TypeScript looks for what varies
most among positive numbers alone.
"""

import io
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence

import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipelines import placeholders
from pipelines.decoder import placeholder as encoder
from pipelines.placeholders import Placeholder, blurhash, parse, picture_of, thumbhash

Colour = tuple[int, int, int]


def ramp(x: int, y: int, width: int, height: int) -> Colour:
    return 255 * x // width, 255 * y // height, 255 * (x + y) // (width + height)


def tiles(x: int, y: int, width: int, height: int) -> Colour:
    return (x * 7 + y * 3) % 256, (x * x + 5 * y) % 256, (x * y + 40) % 256


def disc(x: int, y: int, width: int, height: int) -> Colour:
    is_inside = (
        2 * (((2 * x - width) * height) ** 2 + ((2 * y - height) * width) ** 2) < (width * height) ** 2
    )
    return (230, 40, 90) if is_inside else (20, 60, 30 + 200 * y // height)


def flat(x: int, y: int, width: int, height: int) -> Colour:
    return 90, 140, 200


Pattern = Callable[[int, int, int, int], Colour]

VECTORS: Sequence[tuple[Pattern, int, int, str, str]] = [
    (tiles, 64, 40, "XwgGDISEIGhTNHp1lnb3Vxl/aQ==", "LWHo8xJPrq1[NGVtI:M}R$slR+$h"),
    (ramp, 64, 40, "3wcODJqAh4dxd4d4eIePgAf4iA==", "LzHB}92Q$8Sdl@a%jtf8gKfkfQfj"),
    (ramp, 31, 17, "3gcOFJqAh4dxeId3d4ePgAj4iA==", "LwG[.s2jw#X5qKWFjuaggIfkfQfj"),
    (ramp, 3, 100, "XKcRMRqEgHeIh4d3cH8I93c=", "T#D1mBLKFHhfe9a}ghg3fQi_e.a|"),
    (tiles, 100, 75, "HwgGBYJ2d1dnWAhlZVRnh+1ftLxA", "L5HenEv|vyrroF6vO81a56mn58mn"),
    (tiles, 75, 100, "H/gBBQJlRYWWYHRQZGV2d/77PqZv", "T8HV9tTBW*iwrXRQWR1[ScvPMfq{"),
    (tiles, 100, 100, "H/gBBwJVVYBHSRpEJRMlRVaEx/24ZY8E", "L4HLo7o?JyXf:+IU+cD+5~B56L2T"),
    (tiles, 100, 3, "2ggGOYJAM5Ghh3eHW0+HoJg=", "LTGbkcM[ESMh~cV}NHV_aYa,axj]"),
    (tiles, 31, 17, "XSgOJI5QdYh0iHiGeIaQigx7eQ==", "LpG[f,0|vhVtR}jFjKbdWRjdbKj:"),
    (tiles, 1, 1, "wwYKVwAI9wiIh4hwj3CI+AiIcH/4AAAA", "L6000efZfZfZfZfZfZfZfZfZfZfZ"),
    (disc, 100, 75, "1mYGRZYXaIhwh4iBilmIhhePcnAI", "LoHa}$fR2ufRfbfPfNfP2vfQ#,fQ"),
    (disc, 75, 100, "1mYGRRYXaHCHGKhYiIZ5iBePcnAI", "ToHa}%fk2ufIfPfN2vfQ#,fLfQfT"),
    (disc, 3, 100, "FmcGQRZBcBeahJWHQo8Bcwg=", "TsI1jxka2ufIfLfN2vfS,DfLfOfT"),
]
ALL_KINDS: Sequence[Pattern] = (ramp, tiles, disc, flat)


def painted(pattern: Pattern, width: int, height: int) -> pyvips.Image:
    pixels = bytes(
        level for y in range(height) for x in range(width) for level in pattern(x, y, width, height)
    )
    image = pyvips.Image.new_from_memory(pixels, width, height, 3, "uchar")
    return image.copy(interpretation="srgb")


def shown(placeholder: Placeholder) -> Image.Image:
    """What a browser shows of it."""
    url = picture_of(placeholder)
    assert url is not None
    kind, _, content = url.partition(",")
    assert kind == "data:image/png;base64"
    picture = Image.open(io.BytesIO(b64decode(content)))
    picture.load()
    return picture


def colours(picture: Image.Image) -> Sequence[Sequence[int]]:
    """The colours of its pixels, row by row."""
    rgb = picture.tobytes()
    return [rgb[at : at + 3] for at in range(0, len(rgb), 3)]


def near(one: Sequence[int], other: Sequence[int], within: int) -> bool:
    return all(abs(a - b) <= within for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("pattern", "width", "height", "expected", "_"), VECTORS)
def test_a_thumbhash_is_that_of_the_reference_implementation(
    pattern: Pattern, width: int, height: int, expected: str, _: str
) -> None:
    assert encoder.make(painted(pattern, width, height), "thumbhash") == expected


@pytest.mark.parametrize(("pattern", "width", "height", "_", "expected"), VECTORS)
def test_a_blurhash_is_that_of_the_reference_implementation(
    pattern: Pattern, width: int, height: int, _: str, expected: str
) -> None:
    assert encoder.make(painted(pattern, width, height), "blurhash") == expected


@pytest.mark.parametrize("kind", ["thumbhash", "blurhash"])
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 1), (1, 100), (100, 1), (99, 100), (100, 99), (150, 40), (7, 150)]
)
def test_the_placeholder_of_a_picture_of_any_size_is_whole(
    kind: placeholders.Kind, size: tuple[int, int]
) -> None:
    for pattern in ALL_KINDS:
        made = parse(kind, encoder.make(painted(pattern, *size), kind))

        assert len(made.thumbhash or b"") <= 25
        assert len(made.blurhash or "") <= 28
        assert (made.kind, shown(made).mode) == (kind, "RGB")


@pytest.mark.parametrize("kind", ["thumbhash", "blurhash"])
def test_a_picture_of_one_colour_has_a_placeholder_of_that_colour(kind: placeholders.Kind) -> None:
    picture = shown(parse(kind, encoder.make(painted(flat, 90, 60), kind)))

    assert picture.size == (12, 9)
    most = 6 if kind == "thumbhash" else 20  # its waves are not quite at right angles to each other
    assert all(near(colour, flat(0, 0, 1, 1), most) for colour in colours(picture))


@pytest.mark.parametrize("kind", ["thumbhash", "blurhash"])
def test_a_placeholder_shows_where_its_picture_is_bright_and_of_which_colour(kind: placeholders.Kind) -> None:
    picture = shown(parse(kind, encoder.make(painted(disc, 90, 60), kind)))
    corner, middle = colours(picture)[0], colours(picture)[picture.height // 2 * picture.width + 6]

    assert near(middle, (230, 40, 90), 70)
    assert near(corner, (20, 60, 40), 70)


@pytest.mark.parametrize("kind", ["thumbhash", "blurhash"])
def test_a_grey_picture_has_a_grey_placeholder(kind: placeholders.Kind) -> None:
    grey = painted(ramp, 80, 60).colourspace("b-w")

    for colour in colours(shown(parse(kind, encoder.make(grey, kind)))):
        assert max(colour) - min(colour) <= 8


def test_a_larger_picture_has_nearly_the_placeholder_of_the_same_picture_made_small() -> None:
    small, large = (
        shown(parse("thumbhash", encoder.make(painted(disc, *size), "thumbhash"))).tobytes()
        for size in ((90, 60), (300, 200))
    )

    assert near(small, large, 12)


@given(st.binary(max_size=40))
def test_whatever_bytes_are_taken_for_a_thumbhash_can_be_shown(content: bytes) -> None:
    if thumbhash.is_whole(content):
        assert parse("thumbhash", b64encode(content).decode()).thumbhash == content
        assert max(shown(Placeholder(thumbhash=content)).size) == 12
    else:
        with pytest.raises(ValueError, match="ThumbHash"):
            parse("thumbhash", b64encode(content).decode())
        assert picture_of(Placeholder(thumbhash=content)) is None


@given(st.text(alphabet=blurhash.DIGITS, min_size=26, max_size=26), st.sampled_from("LT"))
def test_whatever_text_is_taken_for_a_blurhash_can_be_shown(rest: str, sides: str) -> None:
    made = parse("blurhash", f"{sides}0{rest}")

    assert sorted(shown(made).size) == [9, 12]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("thumbhash", None),
        ("thumbhash", ""),
        ("thumbhash", "no base64"),
        ("thumbhash", "3wcODJqAh4dxd4d4eIePgAf4iA"),  # its padding is lacking
        ("thumbhash", "3wcODJqAh4dxd4d4eIePgAf4"),  # a byte is lacking
        ("thumbhash", "X5qGDISEIGhTNHp1lnb3Vxl/aQ=="),  # of a picture with opacity
        ("blurhash", None),
        ("blurhash", "LzHB}92Q$8Sdl@a%jtf8gKfkfQf"),
        ("blurhash", "LzHB}92Q$8Sdl@a%jtf8gKfkfQf "),
        ("blurhash", "UzHB}92Q$8Sdl@a%jtf8gKfkfQfj"),  # of other components
        ("none", ""),
    ],
)
def test_a_text_that_is_no_placeholder_of_its_kind_is_refused(
    kind: placeholders.Kind, text: str | None
) -> None:
    with pytest.raises(ValueError, match="no "):
        parse(kind, text)


def test_no_placeholder_shows_nothing() -> None:
    assert picture_of(parse("none", encoder.make(painted(flat, 4, 4), "none"))) is None
