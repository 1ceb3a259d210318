"""The placeholder in a decoder's answer: of which variant it is, and how opacity is dealt with."""

import io
from collections.abc import Iterator, Sequence

import pytest
from PIL import Image

from pipelines.placeholders import Kind, Placeholder, parse, thumbhash
from tests.support.decoder_child import DEFAULT, DecoderProcess, spec

RED, BLUE = (160, 70, 70), (70, 80, 160)


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess(names=["jpeg", "png"]) as running:
        yield running


def halves(size: tuple[int, int], mode: str = "RGB", right: tuple[int, ...] = BLUE) -> bytes:
    """Red on the left, something else on the right."""
    picture = Image.new(mode, size, RED)
    picture.paste(right, (size[0] // 2, 0, *size))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def placeholder(
    child: DecoderProcess, source: bytes, specs: Sequence[dict[str, object]] = DEFAULT
) -> Placeholder:
    outcome = child.run(source, specs)
    assert outcome.status == "done", outcome.answer
    return parse("thumbhash", outcome.answer["placeholder"])


def colours(made: Placeholder) -> tuple[bytes, bytes]:
    """Those at the left end and at the right end of its middle row."""
    assert made.thumbhash is not None
    pixels = thumbhash.pixels(made.thumbhash)
    middle = pixels.rgb[3 * pixels.width * (pixels.height // 2) :][: 3 * pixels.width]
    return middle[:3], middle[-3:]


def sides(made: Placeholder) -> tuple[int, int]:
    assert made.thumbhash is not None
    pixels = thumbhash.pixels(made.thumbhash)
    return pixels.width, pixels.height


def near(one: Sequence[int], other: Sequence[int]) -> bool:
    return all(abs(a - b) <= 45 for a, b in zip(one, other, strict=True))


def test_the_placeholder_shows_the_picture(child: DecoderProcess) -> None:
    left, right = colours(placeholder(child, halves((1200, 800))))

    assert near(left, RED)
    assert near(right, BLUE)


def test_what_is_transparent_is_the_background_in_the_placeholder_too(child: DecoderProcess) -> None:
    source = halves((600, 400), "RGBA", (0, 0, 0, 0))

    for kind in ("jpeg", "webp"):
        made = placeholder(child, source, [spec(150, background=[70, 80, 160], format=kind)])
        assert near(colours(made)[1], BLUE)


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (DEFAULT, (12, 5)),
        ([spec(64, fit="cover"), spec(800)], (12, 5)),  # a cut square is not what the others show
        ([spec(800), spec(64, fit="cover"), spec(150)], (12, 5)),
        ([spec(64, fit="cover"), spec(200, fit="cover")], (12, 12)),
    ],
)
def test_a_placeholder_has_the_proportions_of_the_picture_where_any_variant_has_them(
    child: DecoderProcess, specs: Sequence[dict[str, object]], expected: tuple[int, int]
) -> None:
    assert sides(placeholder(child, halves((1200, 500)), specs)) == expected


@pytest.mark.parametrize("kind", ["thumbhash", "blurhash", "none"])
@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (40, 30)])
def test_the_kind_that_is_asked_for_is_made_of_any_picture(
    child: DecoderProcess, kind: Kind, size: tuple[int, int]
) -> None:
    outcome = child.run(halves(size), placeholder=kind)

    assert parse(kind, outcome.answer["placeholder"]).kind == kind
