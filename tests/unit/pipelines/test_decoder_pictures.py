"""Every kind of picture comes out upright, in its colours, in eight-bit sRGB."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pillow_heif
import pytest
import pyvips
from PIL import Image, ImageCms, ImageOps

from tests.support.decoder_child import DecoderProcess, spec

RED, GREEN, BLUE, WHITE = (210, 40, 40), (40, 180, 60), (40, 60, 210), (255, 255, 255)
LIKE_IT_IS = (spec(1000),)


@pytest.fixture(scope="module")
def child() -> Iterator[DecoderProcess]:
    with DecoderProcess("pillow") as running:
        yield running


def corners(size: tuple[int, int] = (240, 160)) -> Image.Image:
    """Red at the top left, green at the top right, blue at the bottom left, white at the bottom right."""
    width, height = size[0] // 2, size[1] // 2
    picture = Image.new("RGB", size, WHITE)
    picture.paste(RED, (0, 0, width, height))
    picture.paste(GREEN, (width, 0, size[0], height))
    picture.paste(BLUE, (0, height, width, size[1]))
    return picture


def pixels() -> pyvips.Image:
    """The same as an image of libvips."""
    data = corners().tobytes()
    return pyvips.Image.new_from_memory(data, 240, 160, 3, "uchar").copy(interpretation="srgb")


def saved(picture: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def shown(child: DecoderProcess, source: bytes) -> Image.Image:
    """The one variant, decoded again."""
    outcome = child.run(source, LIKE_IT_IS)
    assert outcome.status == "done", outcome.answer
    return Image.open(io.BytesIO(outcome.variants[0])).convert("RGB")


def colours(picture: Image.Image) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters, row by row."""
    across, down = picture.width // 4, picture.height // 4
    found = [picture.getpixel((x, y)) for y in (down, 3 * down) for x in (across, 3 * across)]
    return [colour for colour in found if isinstance(colour, tuple)]


def assert_close(actual: list[tuple[int, ...]], expected: list[tuple[int, ...]], by: int = 8) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= by, (actual, expected)


@pytest.mark.fault(42)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_with_an_exif_orientation_is_upright(
    child: DecoderProcess, format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = corners()
    expected.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(expected)

    upright = shown(child, saved(corners(), format, exif=exif, **{} if format == "TIFF" else {"quality": 95}))

    assert upright.size == expected.size
    assert_close(colours(upright), colours(expected), by=12)


@pytest.mark.parametrize("orientation", [3, 6, 7, 8])
@pytest.mark.parametrize("format", ["AVIF", "HEIC"])
def test_rotation_boxes_and_exif_are_not_applied_twice(
    child: DecoderProcess, format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture, file = corners(), io.BytesIO()
    if format == "AVIF":
        picture.save(file, "AVIF", exif=exif, quality=95)
    else:
        stored = pillow_heif.from_pillow(picture)
        stored.info["exif"] = exif.tobytes()
        stored.save(file, quality=95)
    picture.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(picture)

    upright = shown(child, file.getvalue())

    assert upright.size == expected.size
    assert_close(colours(upright), colours(expected), by=16)


@pytest.mark.parametrize(
    ("format", "mode", "options"),
    [
        ("JPEG", "RGB", {"quality": 95}),
        ("JPEG", "RGB", {"quality": 95, "progressive": True}),
        ("JPEG", "RGB", {"quality": 95, "keep_rgb": True}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("GIF", "P", {}),
        ("GIF", "P", {"interlace": 1}),
        ("WEBP", "RGB", {"quality": 95}),
        ("WEBP", "RGB", {"lossless": True}),
        ("BMP", "RGB", {}),
        ("BMP", "P", {}),
        ("TIFF", "RGB", {}),
        ("TIFF", "P", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "zstd"}),
        ("TIFF", "RGB", {"compression": "lzma"}),
        ("TIFF", "RGB", {"compression": "jpeg", "quality": 95}),
        ("TIFF", "YCbCr", {"compression": "tiff_lzw"}),
        ("AVIF", "RGB", {"quality": 95}),
        ("AVIF", "RGB", {"quality": 95, "subsampling": "4:4:4"}),
        ("ICO", "RGB", {"sizes": [(128, 128)]}),
        ("ICO", "RGB", {"sizes": [(128, 128)], "bitmap_format": "bmp"}),
    ],
)
def test_the_colours_are_those_of_the_picture(
    child: DecoderProcess, format: str, mode: str, options: dict[str, object]
) -> None:
    picture = corners((256, 256))
    picture = picture.quantize(8) if mode == "P" else picture.convert(mode)

    source = saved(picture, format, **options)

    assert_close(colours(shown(child, source)), [RED, GREEN, BLUE, WHITE], by=10)


@pytest.mark.parametrize("tile_size", [0, 64])
def test_a_heic_in_one_piece_or_in_tiles_is_shown(child: DecoderProcess, tile_size: int) -> None:
    file = io.BytesIO()
    pillow_heif.from_pillow(corners((256, 256))).save(file, quality=95, tile_size=tile_size)

    assert_close(colours(shown(child, file.getvalue())), [RED, GREEN, BLUE, WHITE], by=12)


@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("kind", ["srgb", "rgb16", "b-w", "grey16"])
def test_transparency_is_put_on_white_at_every_depth(
    child: DecoderProcess, kind: str, interlace: bool
) -> None:
    grey = kind in ("b-w", "grey16")
    solid = pyvips.Image.black(64, 64) + ([100] if grey else [0, 200, 0])
    solid = solid.cast("uchar").copy(interpretation="b-w" if grey else "srgb").colourspace(kind)
    top = 65535 if kind.endswith("16") else 255
    opacity = pyvips.Image.black(32, 64).join(pyvips.Image.black(32, 64) + top, "horizontal")
    picture = solid.bandjoin(opacity.cast(solid.format))

    clear, opaque, *_ = colours(shown(child, picture.pngsave_buffer(interlace=interlace)))

    assert_close([clear, opaque], [WHITE, (100, 100, 100) if grey else (0, 200, 0)])


@pytest.mark.parametrize(
    ("mode", "key", "other"), [("L", 0, 200), ("1", 0, 1), ("RGB", (0, 0, 0), (0, 0, 200)), ("P", 0, 1)]
)
def test_the_colour_that_a_png_names_as_transparent_is_white(
    child: DecoderProcess, mode: str, key: Any, other: Any
) -> None:
    picture = Image.new(mode, (64, 64), key)
    if mode == "P":
        picture.putpalette([0, 0, 0, 0, 0, 200])
    picture.paste(other, (32, 0, 64, 64))

    clear, solid, *_ = colours(shown(child, saved(picture, "PNG", transparency=key)))

    assert_close([clear], [WHITE])
    assert solid != WHITE or mode == "1"


def test_half_transparent_pixels_are_mixed_with_the_background(child: DecoderProcess) -> None:
    source = saved(Image.new("RGBA", (64, 64), (0, 0, 0, 128)), "PNG")

    assert_close(colours(shown(child, source)), [(127, 127, 127)] * 4, by=3)


def test_colour_under_transparent_pixels_does_not_bleed_when_scaled(child: DecoderProcess) -> None:
    picture = Image.new("RGBA", (512, 512), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (256, 0, 512, 512))
    profile = swapped_profile()  # makes it take the way through premultiplied pixels

    outcome = child.run(saved(picture, "PNG", icc_profile=profile), [spec(100)])

    edge = Image.open(io.BytesIO(outcome.variants[0])).convert("RGB").crop((40, 0, 60, 100)).tobytes()
    assert all(abs(red - green) <= 12 for red, green in zip(edge[::3], edge[1::3], strict=True))


def swapped_profile() -> bytes:
    """sRGB with the places of red and green exchanged in its tag table."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for one, other in ((b"rXYZ", b"gXYZ"),):
        first, second = profile.index(one), profile.index(other)
        profile[first : first + 4], profile[second : second + 4] = other, one
    return bytes(profile)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_an_embedded_profile_is_converted_to_srgb(child: DecoderProcess, format: str) -> None:
    picture = Image.merge("RGB", [corners().getchannel(band) for band in ("G", "R", "B")])

    source = saved(
        picture, format, icc_profile=swapped_profile(), **{} if format == "TIFF" else {"quality": 95}
    )

    assert_close(colours(shown(child, source)), [RED, GREEN, BLUE, WHITE], by=16)


def test_a_heic_with_a_profile_is_converted_too(child: DecoderProcess) -> None:
    picture, file = Image.merge("RGB", [corners().getchannel(band) for band in ("G", "R", "B")]), io.BytesIO()
    picture.info["icc_profile"] = swapped_profile()
    pillow_heif.from_pillow(picture).save(file, quality=95)

    assert_close(colours(shown(child, file.getvalue())), [RED, GREEN, BLUE, WHITE], by=16)


@pytest.mark.fault(42)
@pytest.mark.parametrize("damage", ["junk", "cut", "grey"])
def test_a_profile_that_is_broken_or_of_another_colour_space_is_ignored(
    child: DecoderProcess, damage: str
) -> None:
    profile = bytearray(swapped_profile())
    if damage == "grey":
        profile[16:20] = b"GRAY"
    broken = {"junk": b"no profile at all", "cut": bytes(profile[:200]), "grey": bytes(profile)}[damage]

    source = saved(corners(), "JPEG", icc_profile=broken, quality=95)

    assert_close(colours(shown(child, source)), [RED, GREEN, BLUE, WHITE], by=10)


def test_a_grey_picture_with_a_colour_profile_stays_grey(child: DecoderProcess) -> None:
    source = saved(Image.new("L", (64, 64), 120), "PNG", icc_profile=swapped_profile())

    for red, green, blue in colours(shown(child, source)):
        assert max(red, green, blue) - min(red, green, blue) <= 3


@pytest.mark.fault(42)
@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_has_the_colours_that_print_would_have(
    child: DecoderProcess, format: str
) -> None:
    inks = [(0, 0, 0, 0), (0, 255, 255, 0), (0, 0, 0, 255), (255, 0, 0, 0)]
    picture = Image.new("CMYK", (200, 200))
    for place, ink in enumerate(inks):
        picture.paste(ink, (place % 2 * 100, place // 2 * 100, place % 2 * 100 + 100, place // 2 * 100 + 100))

    paper, red, black, cyan = colours(shown(child, saved(picture, format)))

    assert min(paper) > 240
    assert red[0] > red[1] + 100
    assert max(black) < 60
    assert cyan[2] > cyan[0] + 80


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("rgb16", {}),
        ("labs", {}),
        ("lab", {}),
        ("scrgb", {}),
        ("srgb", {"tile": True, "compression": "deflate"}),
    ],
)
def test_deep_float_and_lab_tiffs_have_their_colours(
    child: DecoderProcess, kind: str, options: dict[str, object]
) -> None:
    # TIFF's Lab has the white of print.
    picture = pixels().icc_import(input_profile="srgb") if kind.startswith("lab") else pixels()

    source = bytes(picture.colourspace(kind).tiffsave_buffer(**options))

    assert_close(colours(shown(child, source)), [RED, GREEN, BLUE, WHITE], by=10)


@pytest.mark.parametrize(
    ("format", "top"), [("float", 1), ("float", 255), ("int", 65535), ("uint", 4294967295)]
)
def test_grey_numbers_of_any_usual_range_are_neither_black_nor_white(
    child: DecoderProcess, format: str, top: int
) -> None:
    halves = pyvips.Image.black(32, 64).join(pyvips.Image.black(32, 64) + 1, "horizontal") * 0.5 + 0.5

    source = bytes((halves * top).cast(format).copy(interpretation="b-w").tiffsave_buffer())

    assert_close(colours(shown(child, source))[:2], [(127, 127, 127), WHITE])


def test_extra_samples_beside_colour_and_opacity_do_not_matter(child: DecoderProcess) -> None:
    pixels = pyvips.Image.new_from_memory(corners().tobytes(), 240, 160, 3, "uchar").copy(
        interpretation="srgb"
    )

    source = bytes(pixels.bandjoin([255, 17, 99]).tiffsave_buffer())

    assert_close(colours(shown(child, source)), [RED, GREEN, BLUE, WHITE], by=10)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_of_an_animation_the_first_frame_is_shown(child: DecoderProcess, format: str) -> None:
    others = [Image.new("RGB", (240, 160), colour) for colour in (BLUE, GREEN)]

    source = saved(corners(), format, save_all=True, append_images=others, duration=100)

    assert_close(colours(shown(child, source)), [RED, GREEN, BLUE, WHITE], by=16)


def test_of_a_tiff_with_many_pages_the_first_is_shown(child: DecoderProcess) -> None:
    pages = [Image.new("RGB", (20, 20), BLUE), Image.new("RGB", (50, 90), GREEN)]

    picture = shown(child, saved(corners(), "TIFF", save_all=True, append_images=pages))

    assert picture.size == (240, 160)
    assert_close(colours(picture), [RED, GREEN, BLUE, WHITE])


def test_of_two_jpegs_in_one_file_the_first_is_shown(child: DecoderProcess) -> None:
    source = saved(corners(), "MPO", save_all=True, append_images=[Image.new("RGB", (240, 160), BLUE)])

    assert_close(colours(shown(child, source)), [RED, GREEN, BLUE, WHITE], by=16)


def test_of_an_icon_the_largest_picture_is_shown(child: DecoderProcess) -> None:
    source = saved(corners((256, 256)), "ICO", sizes=[(16, 16), (64, 64), (256, 256)])

    assert shown(child, source).size == (256, 256)


def test_an_icon_that_holds_a_bomb_is_refused_from_its_header(child: DecoderProcess) -> None:
    bomb = saved(Image.new("1", (12_000, 12_000)), "PNG")
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(bomb), 22)

    assert child.run(b"\0\0\1\0\1\0" + entry + bomb).code == "too_many_pixels"


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_chunks_that_inflate_without_end_cost_nothing(child: DecoderProcess, kind: bytes) -> None:
    png = saved(corners(), "PNG")
    head = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"p\0\0"}[kind]
    body = kind + head + zlib.compress(bytes(30_000_000), 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    idle = child.resident()

    picture = shown(child, png[:33] + chunk * (1 if kind == b"iCCP" else 80) + png[33:])

    assert_close(colours(picture), [RED, GREEN, BLUE, WHITE], by=16)
    assert child.resident() - idle < 50 * 1024 * 1024
