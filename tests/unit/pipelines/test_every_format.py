"""What docs/formats.md says of each format in all that formats differ in, and tests that prove it."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pillow_heif
import pytest
import pyvips
from PIL import Image

from pipelines.formats import FORMATS
from tests.support.decoder_child import DecoderProcess, spec

TESTS = Path(__file__).parents[2]
PAGE = (TESTS.parent / "docs" / "formats.md").read_text("utf-8")
ROWS = re.findall(r"^\| ([\w, ]+) \| (\w+) \| .* \| ((?:`test_\w+`(?:, )?)+) \|$", PAGE, re.MULTILINE)
ASPECTS = ("kinds", "colour", "orientation", "opacity", "depth", "HDR", "pages", "damage")
RED, WHITE = (200, 40, 40), (255, 255, 255)


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


def shown(child: DecoderProcess, source: bytes) -> Image.Image:
    """The one variant, decoded again."""
    outcome = child.run(source, [spec(1000)])
    assert outcome.status == "done", outcome.answer
    return Image.open(io.BytesIO(outcome.variants[0])).convert("RGB")


def is_like(picture: Image.Image, x: int, y: int, colour: tuple[int, ...], by: int = 12) -> bool:
    found = picture.getpixel((x, y))
    return isinstance(found, tuple) and max(abs(a - b) for a, b in zip(found, colour, strict=True)) <= by


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    if format == "HEIC":
        pillow_heif.from_pillow(picture).save(file, quality=95)
    else:
        picture.save(file, format, **options)
    return file.getvalue()


def test_the_page_of_formats_says_what_becomes_of_each_in_every_aspect() -> None:
    told = {(known, aspect) for formats, aspect, _ in ROWS for known in formats.split(", ")}

    assert {(known.title, aspect) for known in FORMATS for aspect in ASPECTS} - told == set()


def test_every_test_that_the_page_of_formats_names_exists() -> None:
    named = {name for *_, tests in ROWS for name in re.findall(r"`(test_\w+)`", tests)}
    modules = (path.read_text("utf-8") for path in TESTS.rglob("test_*.py"))
    there = {
        name for module in modules for name in re.findall(r"^ *(?:async )?def (test_\w+)\(", module, re.M)
    }

    assert len(named) > 40
    assert named - there == set()


def test_every_line_of_the_table_has_its_tests() -> None:
    table = PAGE.partition("\n\n## ")[0]

    assert len(ROWS) == table.count("\n| ") - 1  # without that of the headings
    assert {name for formats, *_ in ROWS for name in formats.split(", ")} == {
        known.title for known in FORMATS
    }


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 95}),
        ("GIF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "zstd"}),
        ("AVIF", {"quality": 95}),
        ("HEIC", {}),
        ("ICO", {"sizes": [(64, 64)]}),
        ("ICO", {"sizes": [(64, 64)], "bitmap_format": "bmp"}),
    ],
)
def test_opacity_is_laid_on_white_in_every_format_that_knows_it(
    child: DecoderProcess, format: str, options: dict[str, object]
) -> None:
    half = Image.new("RGBA", (64, 64), (*RED, 255))
    half.paste((*RED, 0), (0, 0, 32, 64))

    picture = shown(child, saved(half, format, **options))

    assert is_like(picture, 8, 32, WHITE)
    assert is_like(picture, 56, 32, RED)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_png_of_any_depth_is_as_light_as_it_is(child: DecoderProcess, bits: int) -> None:
    top = (1 << bits) - 1
    levels = [0, top // 3, top]
    stripes = [pyvips.Image.black(32, 32) + level * (255 // top if bits < 8 else 1) for level in levels]
    picture = stripes[0].join(stripes[1], "horizontal").join(stripes[2], "horizontal")
    deep = picture.cast("ushort" if bits == 16 else "uchar")
    source = bytes(deep.copy(interpretation="grey16" if bits == 16 else "b-w").pngsave_buffer(bitdepth=bits))

    result = shown(child, source)

    assert source[24] == bits
    assert all(
        is_like(result, 16 + 32 * n, 16, (level * 255 // top,) * 3, by=6) for n, level in enumerate(levels)
    )


def test_of_a_heic_with_several_images_the_primary_one_is_shown(child: DecoderProcess) -> None:
    file = io.BytesIO()
    heif = pillow_heif.from_pillow(Image.new("RGB", (64, 64), WHITE))
    heif.add_from_pillow(Image.new("RGB", (96, 64), RED))
    heif.save(file, quality=95, primary_index=1)

    picture = shown(child, file.getvalue())

    assert picture.size == (96, 64)
    assert is_like(picture, 48, 32, RED)


_ADOBE = b"http://ns.adobe.com/"
GAIN_MAP = _ADOBE + b"xap/1.0/\0<x xmlns:hdrgm='" + _ADOBE + b"hdr-gain-map/1.0/' hdrgm:Version='1.0'/>"
STANDARD = b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"


@pytest.mark.parametrize("told", [(0xE1, GAIN_MAP), (0xE2, STANDARD)], ids=["Adobe", "ISO"])
@pytest.mark.parametrize("behind", [lambda map: map, lambda map: map[:-40]], ids=["whole", "cut"])
def test_the_base_image_of_a_picture_with_a_gain_map_stays_as_it_is(
    child: DecoderProcess, told: tuple[int, bytes], behind: Callable[[bytes], bytes]
) -> None:
    base = saved(Image.new("RGB", (64, 64), RED), "JPEG", quality=95)
    gains = saved(Image.new("L", (16, 16), 255), "JPEG")
    marker, text = told
    segment = bytes([0xFF, marker]) + (len(text) + 2).to_bytes(2) + text

    with_map = child.run(base[:2] + segment + base[2:] + behind(gains), [spec(1000)])

    assert with_map.variants == child.run(base, [spec(1000)]).variants != []
