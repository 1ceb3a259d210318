"""Boxes that turn, mirror and crop: opacity goes with its colours, whichever of both they belong to."""

import io
import struct
from collections.abc import Callable, Iterator
from itertools import product

import pillow_heif
import pytest
from PIL import Image, ImageChops

from pipelines.decoder.transforms import Transforms
from tests.support import light
from tests.support.decoder_child import DecoderProcess, spec
from tests.support.iso_boxes import with_property

LIKE_IT_IS = (spec(1000, quality=100, subsampling="4:4:4"),)
ALL = (0, 0, 96, 64)
APERTURE = struct.pack(">8i", 64, 1, 32, 1, 8, 1, -16, 2)  # from 24, 8 on
TURNS = [None, *((b"irot", bytes([turn])) for turn in (1, 2, 3))]
MIRRORS = [None, (b"imir", b"\0"), (b"imir", b"\1")]
CROPS = [None, (b"clap", APERTURE)]
WAYS = [[box for box in boxes if box] for boxes in product(MIRRORS, TURNS, CROPS)][1:]

Encode = Callable[[Image.Image], bytes]


def avif(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "AVIF", quality=95, subsampling="4:4:4")
    return file.getvalue()


def heic(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=95, chroma=444)
    return file.getvalue()


def picture() -> Image.Image:
    """Four quarters and a mark, one of them transparent."""
    picture = Image.new("RGBA", (96, 64), (200, 40, 40, 255))
    picture.paste((40, 160, 60, 255), (48, 0, 96, 32))
    picture.paste((40, 70, 190, 255), (0, 32, 48, 64))
    picture.paste((0, 0, 0, 0), (48, 32, 96, 64))
    picture.paste((255, 220, 0, 255), (24, 8, 40, 16))
    return picture


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


def shown(child: DecoderProcess, content: bytes, ways: list[tuple[bytes, bytes]]) -> Image.Image:
    for kind, body in ways:  # each becomes the first
        content = with_property(content, kind, body)
    outcome = child.run(content, LIKE_IT_IS)
    assert outcome.status == "done", outcome.answer
    return Image.open(io.BytesIO(outcome.variants[0])).convert("RGB")


@pytest.mark.parametrize("encode", [avif, heic])
def test_opacity_is_turned_mirrored_and_cropped_with_its_colours(
    child: DecoderProcess, encode: Encode
) -> None:
    opaque = Image.alpha_composite(Image.new("RGBA", (96, 64), "white"), picture()).convert("RGB")
    clear, whole = encode(picture()), encode(opaque)

    for ways in WAYS:
        found, expected = shown(child, clear, ways), shown(child, whole, ways)
        assert found.size == expected.size, ways
        small = [one.resize((12, 12), Image.Resampling.BOX) for one in (found, expected)]
        assert max(ImageChops.difference(*small).tobytes()) <= 24, ways


@pytest.mark.parametrize("unknown", [[], [(b"colr", b"none")]], ids=["libheif", "libavif"])
def test_what_is_cropped_away_is_not_shown_by_either_decoder(
    child: DecoderProcess, unknown: list[tuple[bytes, bytes]]
) -> None:
    found = shown(child, avif(picture()), [(b"irot", b"\1"), (b"clap", APERTURE), *unknown])

    assert found.size == (32, 64)
    corner = found.getpixel((4, 60))
    assert isinstance(corner, tuple)
    assert max(abs(a - b) for a, b in zip(corner, (255, 220, 0), strict=True)) <= 8


def test_turned_hdr_with_opacity_keeps_its_shadows(child: DecoderProcess) -> None:
    colours: list[light.Colour] = [(24, 24, 24), (30, 30, 30), (47, 24, 24)]
    content = light.avif([(*light.in_pq(colour), 1) for colour in colours], 10, 9, 16)

    upright, turned = shown(child, content, []), shown(child, content, [(b"irot", b"\2")])

    assert max(ImageChops.difference(upright, turned.rotate(180)).tobytes()) <= 1


@pytest.mark.parametrize(
    "numbers",
    [
        (64, 0, 32, 1, 0, 1, 0, 1),
        (200, 1, 32, 1, 0, 1, 0, 1),
        (0, 1, 0, 1, 0, 1, 0, 1),
        (64, 1, 32, 1, 99, 1, 0, 1),
    ],
    ids=["of nothing", "wider", "empty", "outside"],
)
def test_a_crop_that_cannot_be_leaves_the_picture_as_it_is(numbers: tuple[int, ...]) -> None:
    assert Transforms(aperture=struct.pack(">8i", *numbers)).size(96, 64) == (96, 64)
    assert Transforms(aperture=APERTURE[:31]).size(96, 64) == (96, 64)
    assert Transforms(aperture=APERTURE).size(96, 64) == (64, 32)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("encode", [avif, heic])
def test_what_is_cropped_away_counts_with_its_pixels_and_its_memory(encode: Encode, mode: str) -> None:
    content = encode(Image.new(mode, (640, 480), (9, 90, 200, 128)[: len(mode)]))
    cropped = with_property(content, b"clap", struct.pack(">8i", 8, 1, 8, 1, 0, 1, 0, 1))

    with DecoderProcess("pillow", max_pixels=100_000) as strict, DecoderProcess("pillow") as usual:
        refused = strict.run(cropped)
        whole, part = usual.run(content), usual.run(cropped)

    assert (refused.code, "640 x 480" in str(refused.answer["message"])) == ("too_many_pixels", True)
    assert part.answer["variants"][0]["width"] == 8
    assert part.probe is not None
    assert whole.probe is not None
    assert part.probe["estimate"] > whole.probe["estimate"] / 2
