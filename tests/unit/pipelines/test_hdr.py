"""Colour by number: HDR becomes standard range, wide gamuts are converted, and sRGB stays as it is."""

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest
import pyvips
from PIL import Image, ImageChops, ImageOps

from tests.support import light
from tests.support.bombs import boxed
from tests.support.decoder_child import DecoderProcess, spec
from tests.support.iso_boxes import numbered, with_property, with_reference
from tests.support.light import Colour

PQ, HLG, SRGB = 16, 18, 13
BT709, BT2020, DCI_P3, P3 = 1, 9, 11, 12
COLOURS: list[Colour] = [
    (200, 40, 40), (40, 160, 60), (40, 70, 190), (225, 225, 225), (128, 128, 128), (24, 24, 24)
]  # fmt: skip
GREYS: list[Colour] = [(225,), (128,), (24,)]
SIGNALS = {PQ: light.in_pq, HLG: light.in_hlg}
LIKE_IT_IS = (spec(1000, quality=100),)

Encode = Callable[[Sequence[Colour], int, int, int], bytes]


def png(signals: Sequence[Colour], depth: int, primaries: int, transfer: int) -> bytes:
    return light.png(signals, depth, light.cicp(primaries, transfer))


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


def shown(child: DecoderProcess, source: bytes) -> list[Colour]:
    """The colours in the middle of the patches."""
    outcome = child.run(source, LIKE_IT_IS)
    assert outcome.status == "done", outcome.answer
    return _patches(Image.open(io.BytesIO(outcome.variants[0])))


def _patches(picture: Image.Image) -> list[Colour]:
    picture, middle = picture.convert("RGB"), light.SIDE // 2
    found = [picture.getpixel((x, middle)) for x in range(middle, picture.width, light.SIDE)]
    return [colour for colour in found if isinstance(colour, tuple)]


def furthest(actual: Sequence[Colour], expected: Sequence[Colour]) -> float:
    """The largest difference of any level."""
    expected = [colour * 3 if len(colour) == 1 else colour for colour in expected]
    return max(
        abs(a - b)
        for one, other in zip(actual, expected, strict=True)
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.rotating(4)
@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize(
    ("encode", "depth"),
    [(light.heic, 10), (light.heic, 12), (light.avif, 10), (light.avif, 12), (png, 16)],
)
def test_hdr_up_to_white_has_the_colours_that_it_was_made_from(
    child: DecoderProcess, encode: Encode, depth: int, transfer: int
) -> None:
    signals = [SIGNALS[transfer](colour) for colour in COLOURS]

    colours = shown(child, encode(signals, depth, BT2020, transfer))

    assert furthest(colours, COLOURS) <= 4


@pytest.mark.parametrize("encode", [light.heic, light.avif, png])
def test_hdr_in_eight_bits_has_the_colours_that_these_can_hold(child: DecoderProcess, encode: Encode) -> None:
    signals = [light.in_pq(colour) for colour in COLOURS]

    assert furthest(shown(child, encode(signals, 8, BT2020, PQ)), COLOURS) <= 20


@pytest.mark.rotating(3)
@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize(("encode", "depth"), [(light.heic, 10), (light.avif, 10), (png, 16), (png, 8)])
def test_grey_hdr_is_as_bright_as_coloured_hdr(
    child: DecoderProcess, encode: Encode, depth: int, transfer: int
) -> None:
    signals = [SIGNALS[transfer](grey) for grey in GREYS]

    assert furthest(shown(child, encode(signals, depth, BT2020, transfer)), GREYS) <= 5


@pytest.mark.rotating(2)
@pytest.mark.parametrize(("encode", "depth"), [(light.heic, 10), (light.avif, 10), (png, 16)])
def test_half_transparent_hdr_is_converted_before_it_is_put_on_white(
    child: DecoderProcess, encode: Encode, depth: int
) -> None:
    signals = [(*light.in_pq(colour), 0.5) for colour in COLOURS]

    colours = shown(child, encode(signals, depth, BT2020, PQ))

    assert furthest(colours, [tuple((level + 255) / 2 for level in colour) for colour in COLOURS]) <= 4


@pytest.mark.rotating(2)
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("tile_size", [0, 64])
def test_hdr_in_tiles_and_in_either_range_has_its_colours(
    child: DecoderProcess, tile_size: int, full: bool
) -> None:
    signals = [light.in_pq(colour) for colour in COLOURS]

    source = light.heic(signals, 10, BT2020, PQ, full=full, tile_size=tile_size)

    assert furthest(shown(child, source), COLOURS) <= 4


def test_turned_hdr_is_upright(child: DecoderProcess) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    signals = [light.in_pq(colour) for colour in COLOURS]

    source = light.heic(signals, 10, BT2020, PQ, exif=exif.tobytes())
    outcome = child.run(source, LIKE_IT_IS)

    upright = Image.open(io.BytesIO(outcome.variants[0]))
    assert upright.size == (light.SIDE, light.SIDE * len(COLOURS))
    assert furthest(_patches(upright.transpose(Image.Transpose.TRANSPOSE)), COLOURS) <= 4


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_highlights_grow_up_to_white_and_never_become_flat(child: DecoderProcess, transfer: int) -> None:
    brighter = [0.6, 0.8, 1, 1.5, 2, 3, 4.9]
    signals = [SIGNALS[transfer]((255, 255, 255), factor) for factor in brighter]

    levels = [red for red, _, _ in shown(child, png(signals, 16, BT2020, transfer))]

    assert all(darker < lighter for darker, lighter in pairwise(levels))
    assert levels[2] >= 235
    assert levels[-1] >= 254


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_highlights_keep_their_hue(child: DecoderProcess, transfer: int) -> None:
    signals = [SIGNALS[transfer]((250, 120, 40), factor) for factor in (1, 2, 4)]

    for red, green, blue in shown(child, png(signals, 16, BT2020, transfer)):
        assert light.linear(green) / light.linear(red) == pytest.approx(
            light.linear(120) / light.linear(250), rel=0.05
        )
        assert red > green > blue


def _content_light(most: int) -> bytes:
    return light.chunk(b"cLLI", struct.pack(">II", most * 10_000, 0))


def _mastering(most: int) -> bytes:
    return light.chunk(b"mDCV", bytes(16) + struct.pack(">II", most * 10_000, 1))


@pytest.mark.parametrize(
    ("said", "peak"),
    [
        ([_content_light(203)], 203),
        ([_content_light(600)], 600),
        ([_content_light(4000)], 4000),
        ([_mastering(4000)], 4000),
        ([_mastering(4000), _content_light(600)], 600),
        ([], 1000),
        ([_content_light(0), _mastering(0)], 1000),
        ([_content_light(1), _mastering(100)], 1000),
        ([_content_light(400_000), _mastering(10_001)], 1000),
        ([light.chunk(b"cLLI", b"\xff")], 1000),
    ],
)
def test_the_brightest_light_that_a_picture_names_becomes_white(
    child: DecoderProcess, said: list[bytes], peak: int
) -> None:
    signals = [(light.pq(peak * factor),) * 3 for factor in (0.5, 1, 2)]

    source = light.png(signals, 16, light.cicp(BT2020, PQ), *said)
    (below, *_), (at, *_), (above, *_) = shown(child, source)

    assert below < 255
    assert (at, above) == (255, 255)


@pytest.mark.parametrize("kind", [b"clli", b"mdcv"])
def test_boxes_of_a_heic_name_the_brightest_light_too(child: DecoderProcess, kind: bytes) -> None:
    bodies = {b"clli": struct.pack(">HH", 203, 100), b"mdcv": bytes(16) + struct.pack(">II", 2_030_000, 1)}
    plain = light.heic([light.in_pq((255, 255, 255))] * 2, 10, BT2020, PQ)

    [usual, _], [named, _] = shown(child, plain), shown(child, with_property(plain, kind, bodies[kind]))

    assert usual[0] < 245
    assert named[0] >= 254


ODD: list[Colour] = [
    (0.8, 0.2, 0.2), (0.1, 0.7, 0.2), (0.2, 0.3, 0.9), (0.9, 0.9, 0.9), (0.5, 0.4, 0.3), (0, 0, 0), (1, 1, 1)
]  # fmt: skip


@pytest.mark.parametrize("depth", [8, 16])
def test_p3_by_number_is_converted_like_p3_by_profile(child: DecoderProcess, depth: int) -> None:
    by_profile = light.png(ODD, 8, profile="p3")

    assert furthest(shown(child, png(ODD, depth, P3, SRGB)), shown(child, by_profile)) <= 2


@pytest.mark.rotating(2)
@pytest.mark.parametrize("encode", [light.heic, light.avif])
@pytest.mark.parametrize("depth", [8, 10])
def test_p3_by_number_is_the_same_in_every_format(child: DecoderProcess, encode: Encode, depth: int) -> None:
    inside = [(0.75, 0.35, 0.3), (0.35, 0.65, 0.35), (0.3, 0.35, 0.7), (0.9, 0.9, 0.9)]
    expected = shown(child, light.png(inside, 16, profile="p3"))

    assert furthest(shown(child, encode(inside, depth, P3, SRGB)), expected) <= 4


@pytest.mark.rotating(4)
@pytest.mark.parametrize("transfer", [1, 2, 6, 13, 14, 15])
@pytest.mark.parametrize("encode", [light.heic, light.avif, png])
def test_bt2020_of_standard_range_has_the_colours_that_it_was_made_from(
    child: DecoderProcess, encode: Encode, transfer: int
) -> None:
    curve = _srgb if transfer in (2, SRGB) else _camera
    encoded = [tuple(curve(part) for part in light.bt2020(colour)) for colour in COLOURS]

    assert furthest(shown(child, encode(encoded, 8, BT2020, transfer)), COLOURS) <= 8


@pytest.mark.rotating(2)
@pytest.mark.parametrize(("transfer", "power"), [(4, 2.2), (5, 2.8), (8, 1)])
def test_gammas_and_linear_light_become_srgb(child: DecoderProcess, transfer: int, power: float) -> None:
    signals = [tuple(light.linear(level) ** (1 / power) for level in colour) for colour in COLOURS]

    assert furthest(shown(child, png(signals, 16, BT709, transfer)), COLOURS) <= 2
    assert furthest(shown(child, light.heic(signals, 12, BT709, transfer)), COLOURS) <= 4


def test_white_of_a_cinema_s_primaries_is_white(child: DecoderProcess) -> None:
    assert furthest(shown(child, png([(1, 1, 1), (0.5, 0.5, 0.5)], 8, DCI_P3, SRGB)), [(255,), (128,)]) <= 1


def _camera(part: float) -> float:
    """BT.709's curve."""
    return 4.5 * part if part < 0.018 else 1.099 * part**0.45 - 0.099


def _srgb(part: float) -> float:
    return 12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055


@pytest.mark.rotating(4)
@pytest.mark.parametrize(
    "numbers", [(1, 1), (1, 13), (1, 14), (5, 6), (6, 6), (6, 13), (2, 2), (7, 7), (22, 6)]
)
@pytest.mark.parametrize("encode", [light.heic, light.avif])
def test_numbers_that_say_srgb_or_nothing_change_no_byte(
    child: DecoderProcess, encode: Encode, numbers: tuple[int, int]
) -> None:
    plain = encode(ODD, 8, BT709, SRGB)

    assert child.run(numbered(plain, *numbers)).variants == child.run(plain).variants


@pytest.mark.parametrize("numbers", [(0, 0), (3, 13), (1, 200), (65535, 65535)])
@pytest.mark.parametrize("encode", [light.heic, light.avif])
def test_numbers_that_are_reserved_change_no_byte(
    child: DecoderProcess, encode: Encode, numbers: tuple[int, int]
) -> None:
    plain = encode(ODD, 8, BT709, SRGB)

    assert child.run(numbered(plain, *numbers)).variants == child.run(plain).variants


@pytest.mark.parametrize("numbers", [(1, 13), (1, 1), (6, 6), (2, 2), (0, 0), (3, 200)])
def test_a_png_whose_numbers_say_srgb_or_nothing_is_left_as_it_is(
    child: DecoderProcess, numbers: tuple[int, int]
) -> None:
    plain = light.png(ODD, 8)

    assert child.run(png(ODD, 8, *numbers)).variants == child.run(plain).variants


@pytest.mark.rotating(2)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("transfer", [SRGB, PQ])
def test_narrow_levels_of_a_png_reach_from_black_to_white(
    child: DecoderProcess, depth: int, transfer: int
) -> None:
    signals = [light.in_pq(colour) for colour in COLOURS] if transfer == PQ else [
        tuple(level / 255 for level in colour) for colour in COLOURS
    ]  # fmt: skip
    most, step = (255, 1) if depth == 8 else (65535, 256)
    narrow = [tuple((16 + 219 * part) * step / most for part in signal) for signal in signals]
    primaries = BT2020 if transfer == PQ else BT709

    source = light.png(narrow, depth, light.cicp(primaries, transfer, full=0))

    assert furthest(shown(child, source), COLOURS) <= (12 if depth == 8 else 2)


def _p3() -> bytes:
    return bytes(pyvips.Image.profile_load("p3"))


def test_numbers_of_a_png_go_before_its_profile(child: DecoderProcess) -> None:
    plain, profile = light.png(ODD, 8), {"profile": "p3"}

    as_srgb = light.png(ODD, 8, light.cicp(BT709, SRGB), **profile)
    as_nothing = light.png(ODD, 8, light.cicp(2, 2), **profile)

    assert furthest(shown(child, as_srgb), shown(child, plain)) == 0
    assert shown(child, as_nothing) == shown(child, light.png(ODD, 8, **profile))


@pytest.mark.parametrize(
    "body", [b"", b"\x0c", b"\x0c\x0d\x00", b"\x0c\x0d\x00\x01\x00", b"\x0c\x0d\x05\x01"]
)
def test_a_chunk_of_numbers_that_is_none_is_ignored(child: DecoderProcess, body: bytes) -> None:
    plain = light.png(ODD, 8)

    source = light.png(ODD, 8, light.chunk(b"cICP", body))
    outcome = child.run(source, LIKE_IT_IS)

    assert outcome.code == "corrupt_image" or shown(child, source) == shown(child, plain)


@pytest.mark.parametrize("encode", [light.heic, light.avif])
def test_a_profile_goes_before_the_numbers_of_a_heic_or_avif(child: DecoderProcess, encode: Encode) -> None:
    inside = [(0.75, 0.35, 0.3), (0.35, 0.65, 0.35), (0.3, 0.35, 0.7), (0.9, 0.9, 0.9)]
    expected = shown(child, light.png(inside, 16, profile="p3"))

    both = with_property(encode(inside, 8, BT709, SRGB), b"colr", b"prof" + _p3())
    other = with_property(encode(inside, 8, BT2020, SRGB), b"colr", b"prof" + _p3())

    assert furthest(shown(child, both), expected) <= 4
    assert furthest(shown(child, other), expected) <= 4


@pytest.mark.rotating(2)
@pytest.mark.parametrize("encode", [light.heic, light.avif])
@pytest.mark.parametrize(("profile", "transfer"), [(b"broken", SRGB), (_p3(), PQ)])
def test_numbers_go_before_a_profile_that_is_broken_or_knows_no_hdr(
    child: DecoderProcess, encode: Encode, profile: bytes, transfer: int
) -> None:
    primaries, signals = (P3, ODD) if transfer == SRGB else (BT2020, [light.in_pq(c) for c in COLOURS])
    plain = encode(signals, 10, primaries, transfer)

    both = with_property(plain, b"colr", b"prof" + profile)

    assert furthest(shown(child, both), shown(child, plain)) <= 1


HALF = [(200, 40, 40, 128), (40, 160, 60, 128), (225, 225, 225, 128)]
ON_WHITE = [(227, 147, 147), (147, 207, 157), (240, 240, 240)]
# A colour box that libheif refuses and libavif passes over: the file goes Pillow's way.
UNKNOWN_COLOUR = (b"colr", b"none")


def half_transparent(*, premultiplied: bool) -> bytes:
    picture, file = Image.new("RGBA", (light.SIDE * len(HALF), light.SIDE)), io.BytesIO()
    for place, colour in enumerate(HALF):
        picture.paste(colour, (place * light.SIDE, 0, (place + 1) * light.SIDE, light.SIDE))
    picture.save(file, "AVIF", quality=98, subsampling="4:4:4", alpha_premultiplied=premultiplied)
    return file.getvalue()


@pytest.mark.parametrize("properties", [[], [UNKNOWN_COLOUR]], ids=["libheif", "libavif"])
@pytest.mark.parametrize("premultiplied", [False, True])
def test_a_premultiplied_avif_is_as_bright_as_it_is(
    child: DecoderProcess, premultiplied: bool, properties: list[tuple[bytes, bytes]]
) -> None:
    source = half_transparent(premultiplied=premultiplied)
    for kind, body in properties:
        source = with_property(source, kind, body)

    assert furthest(shown(child, source), ON_WHITE) <= 4


@pytest.mark.rotating(1)
@pytest.mark.parametrize("depth", [8, 10])
def test_a_premultiplied_heic_is_as_bright_as_it_is(child: DecoderProcess, depth: int) -> None:
    signals = [
        (*(level * opacity / 255 / 255 for level in colour), opacity / 255) for *colour, opacity in HALF
    ]

    source = with_reference(light.heic(signals, depth, BT709, SRGB), b"prem", 1, 2)

    assert furthest(shown(child, source), ON_WHITE) <= 4


@pytest.mark.rotating(1)
@pytest.mark.parametrize(("encode", "depth"), [(light.heic, 10), (light.avif, 12)])
def test_premultiplied_hdr_is_as_bright_as_it_is(child: DecoderProcess, encode: Encode, depth: int) -> None:
    signals = [(*(part / 2 for part in light.in_pq(colour)), 0.5) for colour in COLOURS]

    source = with_reference(encode(signals, depth, BT2020, PQ), b"prem", 1, 2)

    assert (
        furthest(shown(child, source), [tuple((level + 255) / 2 for level in colour) for colour in COLOURS])
        <= 5
    )


@pytest.mark.parametrize(("primaries", "transfer"), [(BT2020, PQ), (P3, SRGB)])
def test_numbers_count_as_well_where_pillow_reads_the_avif(
    child: DecoderProcess, primaries: int, transfer: int
) -> None:
    signals = [light.in_pq(c) for c in COLOURS] if transfer == PQ else ODD[:1] + ODD[3:5]
    plain = light.avif(signals, 8, primaries, transfer)

    assert furthest(shown(child, with_property(plain, *UNKNOWN_COLOUR)), shown(child, plain)) <= 8


@pytest.mark.parametrize("premultiplied", [False, True])
@pytest.mark.parametrize(
    ("kind", "body", "orientation"), [(b"irot", b"\3", 6), (b"irot", b"\2", 3), (b"imir", b"\1", 2)]
)
def test_opacity_of_an_avif_is_turned_with_its_colour_where_that_alone_says_how(
    child: DecoderProcess, kind: bytes, body: bytes, orientation: int, premultiplied: bool
) -> None:
    picture, file = Image.new("RGBA", (96, 64), (200, 40, 40, 255)), io.BytesIO()
    picture.paste((200, 40, 40, 0), (0, 0, 48, 32))
    picture.save(file, "AVIF", quality=95, alpha_premultiplied=premultiplied)

    outcome = child.run(with_property(file.getvalue(), kind, body), LIKE_IT_IS)

    upright = Image.alpha_composite(Image.new("RGBA", (96, 64), "white"), picture)
    upright.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(upright).convert("RGB")
    found = Image.open(io.BytesIO(outcome.variants[0])).convert("RGB")
    assert found.size == expected.size
    quarters = found.resize((2, 2), Image.Resampling.BOX), expected.resize((2, 2), Image.Resampling.BOX)
    assert max(ImageChops.difference(*quarters).tobytes()) <= 8


def _with_numbers(profile: bytes, primaries: int, transfer: int) -> bytes:
    """A profile with one more tag, of type `cicp`, behind all others."""
    count = int.from_bytes(profile[128:132])
    table, rest = profile[132 : 132 + 12 * count], profile[132 + 12 * count :]
    moved = b"".join(
        table[n : n + 4]
        + struct.pack(">I", int.from_bytes(table[n + 4 : n + 8]) + 12)
        + table[n + 8 : n + 12]
        for n in range(0, len(table), 12)
    )
    tag = struct.pack(">4s4xBBBB", b"cicp", primaries, transfer, 0, 1)
    moved += struct.pack(">4sII", b"cicp", 144 + 12 * count + len(rest), len(tag))
    size = struct.pack(">I", len(profile) + 12 + len(tag))
    return size + profile[4:128] + struct.pack(">I", count + 1) + moved + rest + tag


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_hdr_that_a_profile_names_by_number_becomes_standard_range(
    child: DecoderProcess, format: str
) -> None:
    pixels, file = light.patches([light.in_pq(colour) for colour in COLOURS], 8), io.BytesIO()
    picture = Image.frombytes("RGB", (pixels.width, pixels.height), pixels.write_to_memory())
    options = {"quality": 98, "subsampling": 0} if format == "JPEG" else {"lossless": True}

    picture.save(file, format, icc_profile=_with_numbers(_p3(), BT2020, PQ), **options)

    assert furthest(shown(child, file.getvalue()), COLOURS) <= 20


def test_a_profile_that_names_its_colours_by_number_besides_is_converted_as_it_is(
    child: DecoderProcess,
) -> None:
    files = {name: io.BytesIO() for name in ("plain", "numbered")}
    picture = Image.new("RGB", (light.SIDE, light.SIDE), (200, 80, 40))
    for name, profile in (("plain", _p3()), ("numbered", _with_numbers(_p3(), P3, SRGB))):
        picture.save(files[name], "PNG", icc_profile=profile)

    assert shown(child, files["numbered"].getvalue()) == shown(child, files["plain"].getvalue())


def test_a_heic_of_more_than_eight_bits_counts_with_the_memory_of_its_way(child: DecoderProcess) -> None:
    ten, eight = light.heic(ODD, 10, BT709, SRGB), light.heic(ODD, 8, BT709, SRGB)
    hdr = numbered(ten, BT2020, PQ)

    def estimate(content: bytes, height: int) -> int:
        probe = child.run(boxed(content, 6000, height), proceed=False).probe
        assert probe is not None
        return int(probe["estimate"])

    assert estimate(eight, 4000) < estimate(hdr, 4000) < estimate(ten, 4000)
    assert estimate(eight, 4001) < estimate(hdr, 4001) == estimate(ten, 4001)


def test_a_deep_avif_of_subsampled_colours_counts_with_less_memory(child: DecoderProcess) -> None:
    scene = light.patches(ODD, 16)

    def estimate(subsampling: str, depth: int) -> int:
        options = {"subsample_mode": subsampling, "bitdepth": depth, "compression": "av1", "effort": 0}
        content = boxed(bytes(scene.heifsave_buffer(**options)), 4000, 3000)
        probe = child.run(content, proceed=False).probe
        assert probe is not None
        return int(probe["estimate"])

    assert estimate("on", 8) < estimate("on", 10) == pytest.approx(estimate("on", 12), rel=0.01)
    assert estimate("on", 10) * 1.2 < estimate("off", 10)


def test_white_of_the_cinema_lies_below_the_largest_sample(child: DecoderProcess) -> None:
    greys: list[Colour] = [(225,), (128,), (60,)]
    signals = [((48 / 52.37 * light.linear(level)) ** (1 / 2.6),) * 3 for (level,) in greys]

    assert furthest(shown(child, png(signals, 16, BT709, 17)), greys) <= 1
