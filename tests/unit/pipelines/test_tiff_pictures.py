"""TIFF of every kind: its first full page in its own colours, or refused with the true reason."""

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from PIL import Image, ImageCms, ImageOps

from pipelines.decoder import tiff_header
from tests.support import bombs
from tests.support.decoder_child import DecoderProcess, spec
from tests.support.tiffs import (
    BLACK_IS_ZERO,
    CFA,
    CMYK,
    CODECS,
    FLOAT,
    ICC_LAB,
    LAB,
    PALETTE,
    RGB,
    SIGNED,
    UNSIGNED,
    WHITE_IS_ZERO,
    YCBCR,
    MadePage,
    Pixel,
    pixels_last,
    quarters,
    tiff,
)

FOUR: list[Pixel] = [(200, 40, 40), (40, 160, 60), (40, 70, 190), (225, 225, 225)]
GREYS: list[Pixel] = [(0,), (64,), (128,), (255,)]
PLAIN = [name for name in CODECS if name not in ("jpeg", "webp", "lerc")]
LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {},
    "tiles": {"tile": (16, 16)},
    "planes": {"planar": True},
    "tiled planes": {"planar": True, "tile": (32, 16)},
}
REDUCED = {254: (4, [1])}


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


def shown(child: DecoderProcess, source: bytes, size: tuple[int, int] = (48, 32)) -> list[tuple[int, ...]]:
    """The colours of the four quarters, row by row, of a picture of that size."""
    outcome = child.run(source, [spec(1000, quality=95)])
    assert outcome.status == "done", outcome.answer
    picture = Image.open(io.BytesIO(outcome.variants[0])).convert("RGB")
    assert outcome.probe
    assert picture.size == (outcome.probe["width"], outcome.probe["height"]) == size
    across, down = picture.width // 4, picture.height // 4
    found = [picture.getpixel((x, y)) for y in (down, 3 * down) for x in (across, 3 * across)]
    return [colour for colour in found if isinstance(colour, tuple)]


def assert_close(actual: Sequence[Pixel], expected: Sequence[Pixel], by: float = 8) -> None:
    for one, other in zip(actual, expected, strict=True):
        other = other * 3 if len(other) == 1 else other
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= by, (actual, expected)


def grey(levels: Sequence[Pixel], **options: Any) -> bytes:
    return tiff(MadePage(quarters(levels), **{"photometric": BLACK_IS_ZERO, **options}))


def raw(photometric: int = CFA, **options: Any) -> MadePage:
    return MadePage(quarters(GREYS), photometric=photometric, **options)


RAW_PHOTOS = {
    "DNG": tiff(MadePage(quarters(FOUR), tags={**REDUCED, 50706: (1, [1, 4, 0, 0])}, inside=[raw()])),
    "DNG with one page": tiff(MadePage(quarters(FOUR), tags={50706: (1, [1, 4, 0, 0])})),
    "linear DNG": tiff(MadePage(quarters(FOUR), photometric=34892, bits=16, order=">")),
    "NEF": tiff(MadePage(quarters(FOUR), tags=REDUCED, inside=[raw(tags={259: (3, [34713])})], order=">")),
    "ARW": tiff(MadePage(quarters(FOUR), tags=REDUCED, inside=[raw(1, tags={259: (3, [32767])})])),
    "PEF": tiff(raw(tags={259: (3, [65535])}, order=">")),
    "TIFF/EP": tiff(MadePage(quarters(FOUR)), raw(1, tags={33421: (3, [2, 2]), 33422: (1, [0, 1, 1, 2])})),
    "BigTIFF": tiff(MadePage(quarters(FOUR), tags=REDUCED), raw(), big=True),
    "CR2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(100),
    "IIQ": b"II*\0\x10\0\0\0IIIITwaR" + bytes(100),
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100),
    "CRW": b"II\x1a\0\0\0HEAPCCDR" + bytes(100),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(100),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(100),
    "ORF": b"IIRO\x08\0\0\0" + bytes(100),
    "X3F": b"FOVb\0\0\2\0" + bytes(100),
    "MRW": b"\0MRM" + bytes(100),
}


@pytest.mark.parametrize("kind", RAW_PHOTOS)
def test_a_raw_photo_is_refused_as_one_and_not_shown_as_its_thumbnail(
    child: DecoderProcess, kind: str
) -> None:
    outcome = child.run(RAW_PHOTOS[kind])

    assert outcome.code == "unsupported_format"
    assert "a raw photo" in outcome.answer["message"]


def test_a_tiff_of_a_cameras_maker_is_no_raw_photo(child: DecoderProcess) -> None:
    maker = {271: (2, b"NIKON CORPORATION\0"), 272: (2, b"NIKON D850\0"), 305: (2, b"NX Studio\0")}

    assert_close(shown(child, tiff(MadePage(quarters(FOUR), tags=maker))), FOUR)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("place", ["next page", "inside", "old tag", "after a mask"])
def test_of_a_tiff_that_begins_with_a_thumbnail_the_first_full_page_is_shown(
    child: DecoderProcess, place: str, big: bool, order: str
) -> None:
    full = MadePage(quarters(FOUR), order=order)
    kind = {"old tag": {255: (3, [2])}, "after a mask": {254: (4, [4])}}.get(place, REDUCED)
    small = MadePage(
        quarters([(9, 9, 9)] * 4, 12, 8), order=order, tags=kind, inside=[full] if place == "inside" else []
    )

    source = tiff(small, big=big) if place == "inside" else tiff(small, small, full, big=big)

    assert_close(shown(child, source), FOUR)


def test_a_full_page_inside_a_thumbnail_is_turned_as_that_says(child: DecoderProcess) -> None:
    inside = MadePage(quarters(FOUR))
    small = MadePage(quarters(FOUR, 12, 8), tags={**REDUCED, 274: (3, [3])}, inside=[inside])

    assert_close(shown(child, tiff(small)), FOUR[::-1])


def test_of_a_pyramid_the_full_page_is_shown(child: DecoderProcess) -> None:
    halves = MadePage(quarters(GREYS, 24, 16), photometric=BLACK_IS_ZERO, tags=REDUCED)

    assert_close(shown(child, tiff(MadePage(quarters(FOUR), inside=[halves]), halves)), FOUR)


def test_of_a_tiff_with_nothing_but_a_reduced_page_that_is_shown(child: DecoderProcess) -> None:
    assert_close(shown(child, tiff(MadePage(quarters(FOUR), tags=REDUCED))), FOUR)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("link", [-1, 8, 20, 333, 2**31 - 9, 2**32 - 1])
def test_a_nonsense_link_to_a_next_page_does_not_refuse_a_good_first_one(
    child: DecoderProcess, link: int, big: bool, order: str
) -> None:
    source = tiff(MadePage(quarters(FOUR), order=order), big=big, link=link)

    assert_close(shown(child, source), FOUR)


@pytest.mark.rotating(4)
@pytest.mark.parametrize("codec", PLAIN)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_colours_are_right_in_every_codec_and_layout(child: DecoderProcess, codec: str, layout: str) -> None:
    for order, big, bits in product("<>", (False, True), (8, 16)):
        levels = [tuple(level * 257 if bits == 16 else level for level in colour) for colour in FOUR]
        page = MadePage(quarters(levels), codec=codec, bits=bits, order=order, **LAYOUTS[layout])

        assert_close(shown(child, tiff(page, big=big)), FOUR)


@pytest.mark.rotating(6)
@pytest.mark.parametrize("codec", ["lzw", "deflate", "lzma", "zstd"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("predictor", "kind", "bits"), [(2, UNSIGNED, 8), (2, UNSIGNED, 16), (3, FLOAT, 32)])
def test_predictors_are_undone_in_every_codec_and_layout(
    child: DecoderProcess, codec: str, layout: str, predictor: int, kind: int, bits: int
) -> None:
    top = {8: 255, 16: 65535, 32: 255}[bits]
    levels = [(level / 255 * top,) if kind == FLOAT else (level * top // 255,) for (level,) in GREYS]

    source = grey(levels, codec=codec, predictor=predictor, kind=kind, bits=bits, **LAYOUTS[layout])

    assert_close(shown(child, source), GREYS)


@pytest.mark.parametrize("layout", ["strips", "tiles"])
@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_jpeg_and_webp_inside_tiff_are_decoded(child: DecoderProcess, codec: str, layout: str) -> None:
    layouts: dict[str, dict[str, Any]] = {"strips": {"strip": 16}, "tiles": {"tile": (16, 16)}}

    assert_close(shown(child, tiff(MadePage(quarters(FOUR), codec=codec, **layouts[layout]))), FOUR)


@pytest.mark.rotating(14)
@pytest.mark.parametrize("extra", [[0], [1], [2], [999], [0, 2], [0, 1], [2, 0], [0, 0]], ids=str)
@pytest.mark.parametrize("codec", PLAIN)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_what_extra_samples_call_opacity_is_opacity(
    child: DecoderProcess, codec: str, layout: str, extra: list[int]
) -> None:
    place = next((place for place, kind in enumerate(extra) if kind), None)
    stored = [0.5 if place is not None and extra[place] == 1 else 1] * 3
    beside = [128 if kind else 7 for kind in extra]
    pixels = [
        (*(int(level * share) for level, share in zip(colour, stored, strict=True)), *beside)
        for colour in FOUR
    ]
    expected = [tuple(level / 2 + 127 for level in colour) for colour in FOUR] if place is not None else FOUR

    source = tiff(MadePage(quarters(pixels), extra=extra, codec=codec, **LAYOUTS[layout]))

    assert_close(shown(child, source), expected)


@pytest.mark.rotating(6)
@pytest.mark.parametrize("codec", PLAIN)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_opacity_of_grey_and_of_cmyk_is_that_of_extra_samples_too(
    child: DecoderProcess, kind: int, bits: int, codec: str
) -> None:
    top = 2**bits - 1
    clear, ink = top // 2 if kind else 0, top // 2 if kind == 1 else top
    black, inks = [(0, clear)] * 4, [(0, 0, 0, ink, clear)] * 4

    of_grey = shown(child, grey(black, extra=[kind], bits=bits, codec=codec))
    of_cmyk = shown(child, tiff(MadePage(quarters(inks), CMYK, extra=[kind], bits=bits, codec=codec)))

    assert_close(of_grey, [(127 if kind else 0,)] * 4)
    assert_close(of_cmyk, of_grey, by=45)  # black ink is not quite black


@pytest.mark.rotating(8)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("way", ["zstd", "lzma", "deflate", "tiled planes", "ycbcr"])
def test_a_tiff_is_turned_upright_once_by_whatever_it_is_decoded(
    child: DecoderProcess, way: str, orientation: int
) -> None:
    levels = bytes(int(level) for row in quarters(FOUR) for pixel in row for level in pixel)
    picture = Image.frombytes("RGB", (48, 32), levels)
    picture.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(picture)
    if way == "ycbcr":
        file = io.BytesIO()
        picture.convert("YCbCr").save(file, "TIFF", compression="tiff_lzw", exif=picture.getexif())
        source = file.getvalue()
    else:
        options: dict[str, Any] = LAYOUTS.get(way, {"codec": way})
        source = tiff(MadePage(quarters(FOUR), tags={274: (3, [orientation])}, **options))

    expected = [
        upright.getpixel((x * upright.width // 4, y * upright.height // 4)) for y in (1, 3) for x in (1, 3)
    ]
    assert_close(shown(child, source, upright.size), expected)  # type: ignore[arg-type]


@pytest.mark.rotating(8)
@pytest.mark.parametrize("codec", PLAIN)
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
def test_grey_of_every_depth_is_as_light_as_it_is(
    child: DecoderProcess, photometric: int, bits: int, codec: str
) -> None:
    top = 2**bits - 1
    levels = [(round(level * top / 255),) for (level,) in GREYS]
    stored = [(top - level,) for (level,) in levels] if photometric == WHITE_IS_ZERO else levels

    for layout in LAYOUTS.values():
        source = grey(stored, photometric=photometric, bits=bits, codec=codec, **layout)

        assert_close(shown(child, source), [(level * 255 / top,) for (level,) in levels], by=3)


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_palette_of_any_depth_gives_its_colours(child: DecoderProcess, bits: int, codec: str) -> None:
    size = 1 << bits
    places = [0, 1, size - 2, size - 1] if bits > 1 else [0, 1, 0, 1]
    table = [0] * (3 * size)
    for place, colour in zip(places, FOUR, strict=True):
        for band, level in enumerate(colour):
            table[band * size + place] = int(level) * 257

    source = grey(
        [(place,) for place in places], photometric=PALETTE, bits=bits, codec=codec, tags={320: (3, table)}
    )

    assert_close(shown(child, source), FOUR if bits > 1 else FOUR[2:] * 2)


@pytest.mark.parametrize("codec", ["none", "deflate", "zstd"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [LAB, ICC_LAB])
def test_lab_with_and_without_signs_has_its_colours(
    child: DecoderProcess, photometric: int, bits: int, codec: str
) -> None:
    picture = Image.new("RGB", (4, 1))
    picture.putdata([(int(r), int(g), int(b)) for r, g, b in FOUR])
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(picture, *profiles, outputMode="LAB")
    assert lab
    data, flip = lab.tobytes(), 128 if photometric == ICC_LAB else 0
    white = {8: 1, 16: 256 if flip else 257}[bits]
    pixels = [
        (data[at] * white, *((tint ^ flip) << bits - 8 for tint in data[at + 1 : at + 3]))
        for at in range(0, 12, 3)
    ]

    assert_close(shown(child, tiff(MadePage(quarters(pixels), photometric, bits=bits, codec=codec))), FOUR)


HEIGHTS: list[Pixel] = [(200,), (2400,), (1300,), (2400,)]
SEEN = [(0,), (255,), (128,), (255,)]


@pytest.mark.rotating(10)
@pytest.mark.parametrize("codec", PLAIN)
@pytest.mark.parametrize(
    ("kind", "bits"), [(FLOAT, 16), (FLOAT, 32), (FLOAT, 64), (SIGNED, 16), (SIGNED, 32), (UNSIGNED, 32)]
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_are_shown_from_the_smallest_to_the_largest(
    child: DecoderProcess, layout: str, kind: int, bits: int, codec: str
) -> None:
    for order in "<>":
        source = grey(HEIGHTS, kind=kind, bits=bits, codec=codec, order=order, **LAYOUTS[layout])

        assert_close(shown(child, source), SEEN)


def test_small_signed_numbers_are_shown_from_the_smallest_to_the_largest(child: DecoderProcess) -> None:
    levels: list[Pixel] = [(-100,), (100,), (0,), (100,)]

    assert_close(shown(child, grey(levels, kind=SIGNED, bits=8)), SEEN)


def test_of_numbers_whose_zero_is_white_the_smallest_is_white(child: DecoderProcess) -> None:
    source = grey(HEIGHTS, photometric=WHITE_IS_ZERO, kind=FLOAT, bits=32)

    assert_close(shown(child, source), [(255 - level,) for (level,) in SEEN])


@pytest.mark.parametrize(
    ("absent", "named", "bits"),
    [
        (-9999, b"", 32),
        (-99999, b"", 32),
        (-32767, b"", 32),
        (-2147483648, b"", 32),
        (-32768, b"", 16),
        (-3.4028234663852886e38, b"", 32),
        (float("nan"), b"", 32),
        (float("inf"), b"", 16),
        (-1.7976931348623157e308, b"-1.79769313486232e+308 \0", 64),
        (-9999, b"nan\0", 32),
        (9999, b"9999\0", 32),
        (0.1, b"0.1\0", 32),
        (-9999, b"9" * 5000 + b"\0", 32),
        (-9999, b"no number\0", 32),
    ],
)
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_what_stands_for_no_number_is_black_and_does_not_count(
    child: DecoderProcess, codec: str, absent: float, named: bytes, bits: int
) -> None:
    levels = [(absent,), *HEIGHTS[1:3], HEIGHTS[0]]
    tags = {42113: (2, named)} if named else {}

    source = grey(levels, kind=FLOAT, bits=bits, codec=codec, tags=tags)

    assert_close(shown(child, source), [(0,), (255,), (128,), (0,)])


@pytest.mark.parametrize("level", [float("nan"), float("-inf"), -9999, 0, 0.5, 300, -300])
def test_the_same_number_everywhere_is_a_plain_picture(child: DecoderProcess, level: float) -> None:
    [*colours] = shown(child, grey([(level,)] * 4, kind=FLOAT, bits=32))

    assert colours == [colours[0]] * 4


@pytest.mark.parametrize(
    ("kind", "bits", "levels", "shades"),
    [
        (FLOAT, 32, (0, 0.2, 0.4, 0.6), (0, 51, 102, 153)),
        (FLOAT, 32, (0, 0.1, 0.2, 0.4), (0, 64, 128, 255)),
        (FLOAT, 32, (0, 0.5, 0.9984, 1), (0, 128, 255, 255)),
        (FLOAT, 64, (5, 50, 100, 200), (5, 50, 100, 200)),
        (FLOAT, 32, (0, 10000, 20000, 40000), (0, 39, 78, 156)),
        (SIGNED, 32, (0, 1000, 30000, 60000), (0, 4, 117, 233)),
        (UNSIGNED, 32, (0, 10**9, 2 * 10**9, 4 * 10**9), (0, 59, 119, 237)),
        (SIGNED, 32, (2 * 10**9, 2 * 10**9 + 10, 2 * 10**9 + 5, 2 * 10**9), (0, 255, 128, 0)),
    ],
)
def test_numbers_that_fill_half_of_an_agreed_range_are_its_shades_and_others_all_shades(
    child: DecoderProcess, kind: int, bits: int, levels: tuple[float, ...], shades: tuple[int, ...]
) -> None:
    source = grey([(level,) for level in levels], kind=kind, bits=bits)

    assert_close(shown(child, source), [(shade,) for shade in shades], by=0)


def test_of_several_numbers_a_pixel_the_smallest_and_the_largest_of_all_count(child: DecoderProcess) -> None:
    source = tiff(MadePage(quarters([(-100, 0, 100)] * 4), kind=SIGNED, bits=16))

    assert_close(shown(child, source), [(0, 128, 255)] * 4)


def test_light_above_white_is_white_and_dims_nothing_else(child: DecoderProcess) -> None:
    levels: list[Pixel] = [(0.5,) * 3, (4,) * 3, (0.5,) * 3, (1,) * 3]

    assert_close(shown(child, tiff(MadePage(quarters(levels), kind=FLOAT, bits=32))), [(188,), (255,)] * 2)


@pytest.mark.parametrize(
    ("kind", "bits", "half"), [(FLOAT, 32, 0.5), (SIGNED, 16, 2**14), (UNSIGNED, 32, 2**31)]
)
def test_opacity_beside_numbers_is_a_share_of_their_range(
    child: DecoderProcess, kind: int, bits: int, half: float
) -> None:
    source = grey([(0, half)] * 4, kind=kind, bits=bits, extra=[2])

    assert_close(shown(child, source), [(127,)] * 4)


@pytest.mark.parametrize(("extra", "stored"), [(1, 0.25), (2, 0.5)])
def test_light_is_divided_by_opacity_only_where_it_was_multiplied(
    child: DecoderProcess, extra: int, stored: float
) -> None:
    pixels: list[Pixel] = [(stored, stored, stored, 0.5)] * 4

    source = tiff(MadePage(quarters(pixels), kind=FLOAT, bits=32, extra=[extra]))

    assert_close(shown(child, source), [(188 / 2 + 127,)] * 4)


@pytest.mark.parametrize("top", [255, 4000])
def test_colours_as_numbers_beyond_light_are_shown_all_by_one_range(child: DecoderProcess, top: int) -> None:
    levels = [
        tuple(level * top / 255 for level in colour) for colour in [(0, 0, 0), *FOUR[1:3], (255, 255, 255)]
    ]

    source = tiff(MadePage(quarters(levels), kind=FLOAT, bits=32))

    assert_close(shown(child, source), [(0, 0, 0), *FOUR[1:3], (255, 255, 255)])


def test_unsigned_16_bit_numbers_are_shades_as_the_standard_says(child: DecoderProcess) -> None:
    assert_close(shown(child, grey(HEIGHTS, bits=16)), [(level / 257,) for (level,) in HEIGHTS])


@pytest.mark.parametrize("samples", [3, 4, 5])
def test_several_samples_of_which_nothing_is_said_are_colours(child: DecoderProcess, samples: int) -> None:
    pixels = [(*colour, 255, 7)[:samples] for colour in FOUR]

    assert_close(shown(child, grey(pixels)), FOUR)


def test_of_a_damaged_tiff_what_decodes_is_shown_where_that_is_asked_for() -> None:
    page = MadePage(quarters(FOUR), codec="deflate", strip=16)
    last = page.chunks()[-1]

    with DecoderProcess("pillow", ["tiff"], damaged="accept") as child:
        assert_close(shown(child, tiff(page).replace(last, bytes(len(last))))[:2], FOUR[:2])


UNSUPPORTED = {
    "12-bit RGB": MadePage(quarters(FOUR), bits=12),
    "4-bit RGB": MadePage(quarters([(3, 9, 15)] * 4), bits=4),
    "12-bit JPEG": MadePage(quarters(GREYS), photometric=BLACK_IS_ZERO, bits=12, tags={259: (3, [7])}),
    "compressed by LERC": MadePage(quarters(FOUR), codec="lerc"),
    "compressed by JPEG 2000": MadePage(quarters(FOUR), tags={259: (3, [34712])}),
    "compressed by method 12345": MadePage(quarters(FOUR), tags={259: (3, [12345])}),
    "24-bit unsigned integers": MadePage(quarters(GREYS), photometric=1, bits=8, tags={258: (3, [24])}),
    "32-bit complex integers": MadePage(quarters(GREYS), photometric=1, bits=32, tags={339: (3, [5])}),
    "8-bit numbers of kind 9": MadePage(quarters(GREYS), photometric=1, tags={339: (3, [9])}),
    "32-bit complex numbers": MadePage(quarters(GREYS), photometric=1, bits=32, tags={339: (3, [6])}),
    "8-bit grey with predictor 4": MadePage(quarters(GREYS), 1, codec="zstd", tags={317: (3, [4])}),
    "4-bit grey with predictor 2": MadePage(quarters([(1,)] * 4), 1, 4, codec="lzw", tags={317: (3, [2])}),
    "12-bit grey with predictor 2": MadePage(quarters([(1,)] * 4), 1, 12, codec="lzw", tags={317: (3, [2])}),
    "10-bit grey in tiles of 18 pixels": MadePage(quarters([(9,)] * 4), 1, 10, tile=(18, 16)),
    "RGB with samples that differ in depth or kind": MadePage(quarters(FOUR), tags={339: (3, [1, 1, 2])}),
    "16-bit grey with predictor 3": MadePage(quarters(GREYS), 1, 16, codec="zstd", tags={317: (3, [3])}),
    "64-bit grey with predictor 2": MadePage(
        quarters(GREYS), 1, 64, FLOAT, codec="lzw", tags={317: (3, [2])}
    ),
    "64-bit RGB of 3 samples with predictor 3": MadePage(
        quarters(FOUR), RGB, 64, FLOAT, codec="lzw", predictor=3
    ),
    "388125 tiles": MadePage(quarters(FOUR), RGB, tile=(16, 16), tags={256: (4, [90_000]), 257: (4, [1104])}),
    "120000 tiles": MadePage(
        quarters(FOUR), RGB, tile=(16, 16), planar=True, tags={256: (4, [16_000]), 257: (4, [640])}
    ),
    "inks other than CMYK": MadePage(quarters([(1, 2)] * 4), photometric=CMYK),
    "colours of kind 10": MadePage(quarters(FOUR), photometric=10),
    "samples that differ": MadePage(quarters(FOUR), tags={258: (3, [8, 8, 16])}),
    "palette as 32-bit": MadePage(quarters(GREYS), photometric=PALETTE, bits=32),
}


@pytest.mark.parametrize("words", UNSUPPORTED)
def test_a_kind_of_tiff_that_is_not_supported_is_called_so_and_not_damaged(
    child: DecoderProcess, words: str
) -> None:
    outcome = child.run(tiff(UNSUPPORTED[words]))

    assert outcome.code == "unsupported_format"
    assert words in outcome.answer["message"]
    assert "damaged" not in outcome.answer["message"]


OTHER_INKS: dict[int, Any] = {332: (3, [2]), 333: (2, b"Orange\0Violet\0Green\0Black\0")}
BY_NAME: dict[int, Any] = {332: (3, [2]), 333: (2, b"Cyan\0Magenta\0Yellow\0Black\0Gold\0")}


def test_four_inks_are_cmyk_unless_the_file_says_that_they_are_others(child: DecoderProcess) -> None:
    inks: list[Pixel] = [(0, 0, 0, 0)] * 4

    others = child.run(tiff(MadePage(quarters(inks), CMYK, tags=OTHER_INKS)))

    assert others.code == "unsupported_format"
    assert "inks other than CMYK" in others.answer["message"]
    assert_close(shown(child, tiff(MadePage(quarters(inks), CMYK, tags=BY_NAME))), [(255,)] * 4)
    assert_close(shown(child, tiff(MadePage(quarters(inks), CMYK, tags={332: (3, [1])}))), [(255,)] * 4)


@pytest.mark.parametrize(("codec", "unit"), [(2, 8), (32771, 16)])
def test_lines_of_a_fax_begin_with_a_byte_or_a_word(child: DecoderProcess, codec: int, unit: int) -> None:
    white, black, none = "0101000", "00000010111", "00110101"  # runs of 24, and of 0 white ones
    lines = [white + black] * 16 + [none + black + white] * 16
    bits = "".join(line.ljust(-len(line) // unit * -unit, "0") for line in lines)
    stored = int(bits, 2).to_bytes(len(bits) // 8)
    options: dict[str, Any] = {"bits": 1, "strip": 32, "stored": stored, "tags": {259: (3, [codec])}}

    source = tiff(MadePage(quarters(GREYS), WHITE_IS_ZERO, **options))

    assert_close(shown(child, source), [(255,), (0,), (0,), (255,)])


@pytest.mark.parametrize("codec", ["none", "lzw", "zstd"])
@pytest.mark.parametrize(
    ("layout", "tags"),
    [("strips", {273: 324, 279: 325}), ("planes", {273: 324, 279: 325}), ("tiles", {324: 273, 325: 279})],
)
def test_places_of_strips_may_be_called_those_of_tiles_and_the_other_way_round(
    child: DecoderProcess, layout: str, tags: dict[int, int], codec: str
) -> None:
    source = pixels_last(MadePage(quarters(FOUR), codec=codec, **LAYOUTS[layout]))
    for tag, other in tags.items():
        source = source.replace(struct.pack("<HH", tag, 4), struct.pack("<HH", other, 4))

    assert_close(shown(child, source), FOUR)
    assert child.run(source[:-1]).code == "corrupt_image"


@pytest.mark.parametrize("predictor", [0, 2, 3, 4])
@pytest.mark.parametrize("codec", ["none", "packbits"])
def test_a_predictor_says_nothing_where_the_codec_knows_none(
    child: DecoderProcess, codec: str, predictor: int
) -> None:
    tags: dict[int, Any] = {317: (3, [predictor])}

    assert_close(shown(child, grey(GREYS, codec=codec, tags=tags)), GREYS)
    assert_close(shown(child, grey([(0,), (4095,)] * 2, bits=12, codec=codec, tags=tags)), [(0,), (255,)] * 2)


def test_samples_of_kind_0_are_plain_shades(child: DecoderProcess) -> None:
    assert_close(shown(child, grey(GREYS, tags={339: (3, [0])})), GREYS)


@pytest.mark.parametrize("codec", PLAIN)
def test_a_tiff_that_was_cut_short_is_refused_as_damaged(child: DecoderProcess, codec: str) -> None:
    whole = bytearray(tiff(MadePage(quarters(FOUR), codec=codec)))
    begin = whole.index(MadePage(quarters(FOUR), codec=codec).chunks()[0])

    outcome = child.run(bytes(whole[:begin]) + bytes(len(whole) - begin))

    assert outcome.code == "corrupt_image"


AT_THE_END: dict[str, dict[str, Any]] = {
    **LAYOUTS,
    "one strip": {"strip": 32},
    "tiles beyond the edge": {"tile": (32, 48)},
    "BigTIFF": {},
    "Motorola": {"order": ">"},
}


@pytest.mark.rotating(14)
@pytest.mark.parametrize("codec", PLAIN)
@pytest.mark.parametrize("layout", AT_THE_END)
@pytest.mark.parametrize("missing", [1, 4, 20])
def test_a_tiff_whose_last_bytes_are_missing_is_refused_as_damaged(
    child: DecoderProcess, missing: int, layout: str, codec: str
) -> None:
    page = MadePage(quarters(FOUR), codec=codec, **AT_THE_END[layout])
    whole = pixels_last(page, big=layout == "BigTIFF")

    assert_close(shown(child, whole), FOUR)
    assert child.run(whole[:-missing]).code == "corrupt_image"


@pytest.mark.parametrize("layout", [{"strip": 16}, {"tile": (16, 16)}], ids=str)
@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_a_tiff_whose_last_jpeg_or_webp_is_cut_is_refused_as_damaged(
    child: DecoderProcess, codec: str, layout: dict[str, Any]
) -> None:
    whole = pixels_last(MadePage(quarters(FOUR), codec=codec, **layout))

    assert_close(shown(child, whole), FOUR)
    assert child.run(whole[:-1]).code == "corrupt_image"


def with_garbage(page: MadePage, chunk: int) -> bytes:
    """A file one of whose strips or tiles has the first half of its size in bytes that are of no codec."""
    content, chunks = pixels_last(page), page.chunks()
    place = len(content) - len(b"".join(chunks[chunk:]))
    half = max(4, len(chunks[chunk]) // 2)
    return content[:place] + (b"\x80\xa7\x13" * half)[:half] + content[place + half :]


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("layout", [{"strip": 16}, {"tile": (16, 16)}], ids=str)
@pytest.mark.parametrize("codec", ["deflate", "lzw", "packbits", "zstd"])
def test_a_tiff_with_a_strip_or_tile_that_does_not_decode_is_refused_as_damaged(
    child: DecoderProcess, codec: str, layout: dict[str, Any], planar: bool
) -> None:
    page = MadePage(quarters(FOUR), codec=codec, planar=planar, **layout)

    assert_close(shown(child, pixels_last(page)), FOUR)
    assert child.run(with_garbage(page, 1)).code == "corrupt_image"


def test_a_tile_of_jpeg_without_its_end_is_damaged_and_shown_where_that_is_asked_for(
    child: DecoderProcess,
) -> None:
    content = pixels_last(MadePage(quarters(FOUR), codec="jpeg", tile=(16, 16)))
    marker = content.rindex(b"\xff\xd9")

    cut = content[:marker] + b"\0\0" + content[marker + 2 :]

    assert child.run(cut).code == "corrupt_image"
    with DecoderProcess("pillow", damaged="accept") as lenient:
        assert_close(shown(lenient, cut), FOUR)


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize(
    "layout", [{"strip": 16}, {"strip": 32}, {"tile": (16, 16)}, {"order": ">"}], ids=str
)
def test_missing_bytes_of_a_damaged_tiff_are_shown_as_zeros(layout: dict[str, Any], codec: str) -> None:
    page = MadePage(quarters([(255,)] * 4), BLACK_IS_ZERO, codec=codec, **{"strip": 16, **layout})
    rows = 8 * (page.tile[0] if page.tile else page.width)

    with DecoderProcess("pillow", ["tiff"], damaged="accept") as child:
        outcome = child.run(pixels_last(page)[:-rows], [spec(1000, quality=95)])

    levels = Image.open(io.BytesIO(outcome.variants[0])).convert("L").tobytes()
    assert sum(level < 8 for level in levels) == rows
    assert sum(level > 247 for level in levels) == len(levels) - rows


@pytest.mark.parametrize("layout", [{"strip": 32}, {"strip": 12}, {"tile": (16, 16)}], ids=str)
def test_what_is_not_compressed_may_be_said_to_be_larger_than_it_is(
    child: DecoderProcess, layout: dict[str, Any]
) -> None:
    page = MadePage(quarters(FOUR), **layout)
    tag, sizes = 325 if page.tile else 279, [len(chunk) + 30 for chunk in page.chunks()]

    said = replace(page, tags={tag: (4, sizes)})

    assert_close(shown(child, pixels_last(said)), FOUR)
    assert child.run(pixels_last(said)[:-1]).code == "corrupt_image"


@pytest.mark.parametrize("codec", ["none", "lzw", "packbits", "zstd"])
def test_one_strip_may_have_no_size_and_ends_with_the_file(child: DecoderProcess, codec: str) -> None:
    whole = pixels_last(MadePage(quarters(FOUR), codec=codec, strip=32))
    unsaid = whole.replace(struct.pack("<HH", 279, 4), struct.pack("<HH", 65000, 4))

    assert_close(shown(child, unsaid), FOUR)
    assert child.run(unsaid[:-20]).code == "corrupt_image"


@pytest.mark.parametrize("shared", [(1, 1), (2, 1), (2, 2), (4, 2)])
def test_colours_that_pixels_have_in_common_are_not_missing(
    child: DecoderProcess, shared: tuple[int, int]
) -> None:
    units = 48 * 32 // (shared[0] * shared[1])
    stored = (bytes([99] * (shared[0] * shared[1])) + b"\x80\x80") * units
    tags: dict[int, Any] = {530: (3, shared)}

    whole = pixels_last(MadePage(quarters(FOUR), YCBCR, strip=32, stored=stored, tags=tags))

    assert_close(shown(child, whole), [(99,)] * 4)
    assert child.run(whole[:-1]).code == "corrupt_image"


def test_a_plane_that_is_neither_colour_nor_opacity_may_be_missing(child: DecoderProcess) -> None:
    page = MadePage(quarters([(*colour, 7) for colour in FOUR]), extra=[0], strip=32, planar=True)

    assert_close(shown(child, pixels_last(page)[:-20]), FOUR)


def test_what_is_missing_of_a_damaged_tiff_is_estimated_but_at_most_all_pixels() -> None:
    size: dict[int, Any] = {256: (4, [1000]), 257: (4, [1000]), 278: (4, [1000])}
    cut, astray = (
        tiff(MadePage(quarters(FOUR), strip=32, tags=size | more)) for more in ({}, {273: (4, [2**32 - 1])})
    )
    estimates = []
    for damaged in ("reject", "accept"):
        with DecoderProcess("pillow", ["tiff"], damaged=damaged) as child:
            estimates += [child.run(each, proceed=False).answer["estimate"] for each in (cut, astray)]

    assert estimates[0] == estimates[1]
    assert 2_900_000 < estimates[2] - estimates[0] < 3_000_000
    assert estimates[3] - estimates[1] == 3_000_000


@pytest.mark.parametrize("way", ["strip", "interchange"])
def test_an_old_jpeg_is_whole_with_its_end_marker_whatever_its_size_is_said_to_be(
    child: DecoderProcess, way: str
) -> None:
    file = io.BytesIO()
    Image.new("RGB", (48, 32), (200, 40, 40)).save(file, "JPEG")
    stored, compression = file.getvalue(), (3, [6])
    page = MadePage(quarters(FOUR), YCBCR, strip=32, stored=stored, tags={259: compression})
    begin, size = len(pixels_last(page)) - len(stored), len(stored) + 1000
    said = {279: (4, [size])} if way == "strip" else {513: (4, [begin + 24]), 514: (4, [size])}

    whole = pixels_last(replace(page, tags={259: compression, **said}))
    if way == "interchange":
        whole = whole.replace(struct.pack("<HH", 273, 4), struct.pack("<HH", 65000, 4))

    assert_close(shown(child, whole), FOUR[:1] * 4)
    assert child.run(whole[:-1]).code == "corrupt_image"


ENDLESS = {
    "180 directories of 4,000 tags": lambda: bombs.tags(180, 4000),
    "400 tags over the same 8 MB": lambda: bombs.tags(1, 400, kind=3, count=4_000_000, length=9_000_000),
    "thumbnails that hold 5,000 others each": lambda: tiff(
        *[MadePage(quarters(GREYS, 2, 2), 1, tags={**REDUCED, 330: (4, [8] * 5000)}) for _ in range(300)],
        link=-1,
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_directories_and_tags_without_end_cost_nothing(child: DecoderProcess, name: str) -> None:
    content = ENDLESS[name]()
    costs: list[float] = []
    while not costs or (min(costs) >= 100 and len(costs) < 5):  # another program may slow a core down
        began = child.cpu_ms()
        outcome = child.run(content)
        costs.append(child.cpu_ms() - began)

    assert outcome.status == "done", outcome.answer
    assert min(costs) < 100


@pytest.mark.parametrize("side", [322, 323])
@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_tile_of_a_billion_pixels_costs_no_memory(child: DecoderProcess, codec: str, side: int) -> None:
    large, absurd = (
        tiff(MadePage(quarters(FOUR), codec=codec, tile=(16, 16), tags={side: (4, [1 << power])}))
        for power in (20, 31)
    )

    assert child.run(large, proceed=False).answer["estimate"] > 1 << 25
    assert child.run(absurd, proceed=False).code == "corrupt_image"


def test_a_jpeg_in_one_strip_is_estimated_with_all_its_pixels(child: DecoderProcess) -> None:
    picture, estimates = Image.new("RGB", (2000, 2000)), list[int]()
    for strip_size in (65536, 2**31 - 1):
        file = io.BytesIO()
        picture.save(file, "TIFF", compression="jpeg", strip_size=strip_size)
        estimates.append(child.run(file.getvalue(), proceed=False).answer["estimate"])

    assert estimates[1] - estimates[0] > 2000 * 2000 * 3


def test_a_large_webp_in_one_strip_is_decoded(child: DecoderProcess) -> None:
    picture, file = Image.new("RGB", (6000, 3000), (200, 40, 40)), io.BytesIO()
    picture.save(file, "WEBP", quality=50, method=0)
    size = {256: (4, [6000]), 257: (4, [3000]), 278: (4, [3000])}

    source = tiff(MadePage(quarters(FOUR), codec="webp", stored=file.getvalue(), tags=size))

    assert child.run(source, [spec(1000)]).status == "done"


@pytest.mark.parametrize("extra", [[1], [0, 1], [0, 0, 2]], ids=str)
def test_extra_samples_that_are_not_there_are_no_opacity(child: DecoderProcess, extra: list[int]) -> None:
    pixels = [(*colour, *[7] * (len(extra) - 1)) for colour in FOUR]

    assert_close(shown(child, tiff(MadePage(quarters(pixels), extra=extra))), FOUR)


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_colours_of_16_bits_are_divided_by_the_opacity_that_they_were_multiplied_with(
    child: DecoderProcess, codec: str
) -> None:
    pixels = [(*(int(level * 257 / 2) for level in colour), 32768) for colour in FOUR]

    source = tiff(MadePage(quarters(pixels), bits=16, extra=[1], codec=codec))

    assert_close(shown(child, source), [tuple(level / 2 + 127 for level in colour) for colour in FOUR])


@pytest.mark.parametrize("codec", ["lzw", "zstd"])
@pytest.mark.parametrize("bits", [16, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_bytes_of_floats_that_lie_apart_are_put_together_in_either_order(
    child: DecoderProcess, order: str, bits: int, codec: str
) -> None:
    for layout in LAYOUTS.values():
        source = grey(HEIGHTS, kind=FLOAT, bits=bits, predictor=3, codec=codec, order=order, **layout)

        assert_close(shown(child, source), SEEN)


def test_of_lab_only_a_white_that_is_of_daylight_is_another_one(child: DecoderProcess) -> None:
    pixels: list[Pixel] = [(150, 60, 40), (150, 196, 40), (150, 40, 196), (150, 216, 216)]
    usual, of_print, of_daylight = (
        shown(child, tiff(MadePage(quarters(pixels), LAB, tags=tags)))
        for tags in ({}, {318: (5, white(0.3457, 0.3585))}, {318: (5, white(0.3127, 0.329))})
    )

    assert of_print == usual
    assert of_daylight != usual


def white(x: float, y: float) -> bytes:
    """The tag of the white point."""
    return struct.pack("<4I", int(x * 10_000), 10_000, int(y * 10_000), 10_000)


@pytest.mark.parametrize(("thumbnails", "width"), [(2, 48), (3, 2)])
def test_a_full_page_is_looked_for_within_a_hundred_thousand_tags(thumbnails: int, width: int) -> None:
    content = bytearray(tiff(MadePage(quarters(FOUR))))
    known = [(254, 1), (256, 2), (257, 2), (273, 8)]
    fields = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in known]
    fields += [struct.pack("<HHII", tag, 4, 1, 0) for tag in range(1000, 42_000) if not 33_000 < tag < 34_500]
    for _ in range(thumbnails):
        full, content[4:8] = content[4:8], struct.pack("<I", len(content))
        content += struct.pack("<H", len(fields)) + b"".join(fields) + full

    found = tiff_header.first_full_page(content)

    assert found.number(tiff_header.WIDTH, 0) == width


@pytest.mark.parametrize(("size", "code"), [(16_000_000, None), (17_000_000, "corrupt_image")])
def test_tags_that_hold_more_than_a_file_can_are_refused(
    child: DecoderProcess, size: int, code: str | None
) -> None:
    source = tiff(MadePage(quarters(FOUR), tags={34675: (1, bytes(100))}))
    told = struct.pack("<HHI", 34675, 1, 100)
    assert told in source

    assert child.run(source.replace(told, struct.pack("<HHI", 34675, 1, size))).code == code


def test_a_progressive_jpeg_inside_is_estimated_with_its_coefficients(child: DecoderProcess) -> None:
    estimates = []
    for progressive in (False, True):
        file, picture = io.BytesIO(), Image.new("RGB", (1000, 1000))
        picture.save(file, "JPEG", keep_rgb=True, progressive=progressive)
        size: dict[int, Any] = {256: (4, [1000]), 257: (4, [1000]), 278: (4, [1000])}
        source = tiff(MadePage(quarters(FOUR), codec="jpeg", stored=file.getvalue(), tags=size))
        estimates.append(child.run(source, proceed=False).answer["estimate"])

    assert estimates[1] - estimates[0] == pytest.approx(2 * 3 * 1_000_000, rel=0.2)


def test_a_plane_whose_place_is_not_told_is_missing(child: DecoderProcess) -> None:
    page = MadePage(quarters(FOUR), strip=32, planar=True)
    begin, size = 8, len(page.chunks()[0])

    outcome = child.run(tiff(replace(page, tags={273: (4, [begin] * 2), 279: (4, [size] * 2)})))

    assert outcome.code == "corrupt_image"
    assert "a plane is missing" in outcome.answer["message"]
