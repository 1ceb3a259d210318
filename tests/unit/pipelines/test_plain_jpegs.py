"""Plain JPEGs are decoded without libvips, to the same pixels; at any doubt libvips does the whole.

Where five eighths are wanted, which libvips does not know, variants are nearly as good.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest
import pyvips
import simplejpeg
from PIL import Image

from bench.quality import ssim
from pipelines.decoder import colour, pixel_memory, plain_jpeg, render
from pipelines.decoder.arrays import numpy
from pipelines.decoder.jpeg_options import jpeg_options
from pipelines.decoder.plain_jpeg import WHOLE, Header
from pipelines.scaling import scaled
from tests.support.decoder_child import DecoderProcess, spec
from tests.support.picture_folders import corpus_folder
from tests.support.profiles import grey_profile

pytestmark = pytest.mark.rotating(50, of="module")

ROOT = Path(__file__).parents[3]
KINDS: dict[str, dict[str, Any]] = {
    "4:2:0": {},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "4:4:0": {"unusual": "440"},
    "4:1:1": {"unusual": "411"},
    "optimized": {"optimize": True},
    "restart markers": {"restart_marker_blocks": 3},
    "progressive": {"progressive": True},
    "grey": {"mode": "L"},
}
_CORPUS = corpus_folder()
PHOTOS = sorted((_CORPUS / "photos").glob("*.jpg")) if _CORPUS is not None else []


def photo(width: int = 203, height: int = 155, *, mode: str = "RGB", **options: object) -> bytes:
    """A JPEG with enough in it that each pixel matters, the same each time: some damage cannot be seen."""
    levels = numpy.random.default_rng(1).normal(128, 60, (height, width))
    noise = Image.fromarray(levels.clip(0, 255).astype(numpy.uint8))
    turned = [
        noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        noise.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    ]
    picture, file = Image.merge("RGB", (noise, *turned)), io.BytesIO()
    if "unusual" in options:  # a subsampling that Pillow cannot write
        return bytes(simplejpeg.encode_jpeg(numpy.array(picture), colorsubsampling=options["unusual"]))
    picture.convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def header(content: bytes) -> Header:
    found = plain_jpeg.read(bytearray(content))
    assert found is not None
    return found


def is_plain(content: bytes) -> bool:
    return plain_jpeg.read(bytearray(content)) is not None


def pixels(content: bytes, shrink: int) -> tuple[int, int, int, bytes]:
    image = plain_jpeg.decode(bytearray(content), header(content), 8 // shrink)
    assert image is not None
    return image.width, image.height, image.bands, bytes(image.write_to_memory())


def of_libvips(content: bytes, shrink: int) -> tuple[int, int, int, bytes]:
    image = pyvips.Image.jpegload_buffer(content, shrink=shrink)
    return image.width, image.height, image.bands, bytes(image.write_to_memory())


@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_jpegs_pixels_are_those_of_libvips_at_every_scale(kind: str, shrink: int) -> None:
    for size in ((203, 155), (64, 200), (17, 16)):
        content = photo(*size, **KINDS[kind])
        assert pixels(content, shrink) == of_libvips(content, shrink), size


@pytest.mark.parametrize(
    "picture",
    [
        *(
            pytest.param(path, id=path.stem)
            for path in sorted((ROOT / "scripts" / "pictures").glob("*.jpg"))[:1]
        ),
        *(pytest.param(path, id=path.stem, marks=pytest.mark.campaign) for path in PHOTOS),
    ],
)
def test_a_cameras_photo_has_the_pixels_of_libvips_too(picture: Path) -> None:
    content = picture.read_bytes()

    for shrink in (2, 4):
        assert pixels(content, shrink) == of_libvips(content, shrink)


def with_exif(content: bytes, exif: bytes) -> bytes:
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]


def exif(order: str, *fields: tuple[int, int, int, int], at: int = 8) -> bytes:
    """EXIF of fields (tag, type, count, value), the first directory `at` its beginning."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(struct.pack(f"{order}HHIHH", *field, 0) for field in fields)
    directory = struct.pack(f"{order}H", len(fields)) + body + bytes(4)
    return b"Exif\0\0" + head + struct.pack(f"{order}I", at) + bytes(at - 8) + directory


def orientation_of_libvips(content: bytes) -> int:
    image = pyvips.Image.jpegload_buffer(content)
    value = image.get("orientation") if image.get_typeof("orientation") else 1
    return value if 1 <= value <= 8 else 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_orientation_is_read_as_libvips_reads_it(order: str) -> None:
    for value in range(12):
        content = with_exif(
            photo(), exif(order, (0x010F, 2, 2, 65), (0x0112, 3, 1, value), at=8 + value % 3 * 2)
        )
        assert header(content).orientation == orientation_of_libvips(content), value


ODD = {
    "two orientations": exif("<", (0x0112, 3, 1, 6), (0x0112, 3, 1, 3)),
    "an orientation of another type": exif("<", (0x0112, 4, 1, 6)),
    "many orientations": exif("<", (0x0112, 3, 2, 6)),
    "no TIFF": b"Exif\0\0hello world",
    "cut": exif("<", (0x0112, 3, 1, 6))[:-12],
    "no fields": exif("<"),
    "a directory before it begins": exif("<", (0x0112, 3, 1, 6)).replace(b"\x08\0\0\0", b"\x04\0\0\0", 1),
    "no end of its name": b"Exif" + exif("<", (0x0112, 3, 1, 6))[6:],
}


@pytest.mark.parametrize("kind", ODD)
def test_with_odd_exif_a_jpeg_is_left_to_libvips(kind: str) -> None:
    assert not is_plain(with_exif(photo(), ODD[kind]))


def test_where_exif_is_plain_its_orientation_is_that_of_libvips_whatever_its_bytes_are() -> None:
    chance, plain = Random(7), 0
    for _ in range(300):
        said = bytearray(exif(chance.choice("<>"), (0x010F, 2, 2, 65), (0x0112, 3, 1, chance.randint(0, 9))))
        for _ in range(chance.randint(0, 2)):
            said[chance.randrange(6, len(said))] = chance.choice((0, 1, 2, 3, 6, 8, 0x12, 255))
        content = with_exif(SMALL, bytes(said))
        if found := plain_jpeg.read(bytearray(content)):
            plain += 1
            assert found.orientation == orientation_of_libvips(content), said
    assert plain > 50


SMALL = photo(32, 24)


def test_a_profile_in_parts_is_put_together_as_by_libvips() -> None:
    profile = bytes(range(256)) * 600
    content = photo(icc_profile=profile)

    assert content.count(b"ICC_PROFILE\0") == 3
    assert header(content).profile == profile == pyvips.Image.jpegload_buffer(content).get("icc-profile-data")
    assert not is_plain(content.replace(b"ICC_PROFILE\0\2", b"ICC_PROFILE\0\3"))


PROFILE = bytes(range(200))


def in_parts(*parts: bytes) -> bytes:
    """A JPEG with a profile in these parts."""
    content = photo()
    for number, part in reversed([*enumerate(parts, 1)]):
        segment = b"ICC_PROFILE\0" + bytes((number, len(parts))) + part
        content = content[:2] + b"\xff\xe2" + struct.pack(">H", len(segment) + 2) + segment + content[2:]
    return content


UNUSUAL = {
    "not a JPEG": b"\x89PNG" + photo()[4:],
    "empty": b"",
    "cut in its header": photo()[:300],
    "cut": photo()[:-500],
    "without its end": photo()[:-2],
    "progressive, with something behind it": photo(progressive=True) + b"hello",
    "a byte between segments": photo()[:2] + b"\0" + photo()[2:],
    "fill bytes": photo()[:2] + b"\xff" + photo()[2:],
    "two exif": with_exif(with_exif(photo(), exif("<", (0x0112, 3, 1, 6))), exif("<", (0x0112, 3, 1, 3))),
    "CMYK": photo(mode="CMYK"),
    "tiny": photo(15, 200),
    "RGB by its letters": photo(subsampling=0, keep_rgb=True),
    "a profile that begins with nothing": in_parts(b"", PROFILE),
    "a profile without the end of its name": photo(icc_profile=PROFILE).replace(
        b"ICC_PROFILE\0", b"ICC_PROFILE "
    ),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_is_unusual_is_left_to_libvips(kind: str) -> None:
    assert not is_plain(UNUSUAL[kind])


def sampled(y: int, cb: int = 0x11, cr: int = 0x11) -> bytes:
    """A JPEG that says so of its components: it is true where they make as many blocks as 4:2:0."""
    content = bytearray(photo(64, 64))
    frame = content.index(b"\xff\xc0")
    content[frame + 11], content[frame + 14], content[frame + 17] = y, cb, cr
    return bytes(content)


def test_of_any_sampling_a_jpeg_has_the_pixels_of_libvips_or_is_left_to_it() -> None:
    assert not is_plain(sampled(0x14))  # 4:1:1 that was turned
    assert not is_plain(sampled(0x22, 0x12, 0x11))
    for y in (across << 4 | down for across in range(6) for down in range(6)):
        for cb, cr in ((0x11, 0x11), (0x22, 0x22), (0x21, 0x11)):
            content = sampled(y, cb, cr)
            found = plain_jpeg.read(bytearray(content))
            if found and (image := plain_jpeg.decode(bytearray(content), found, WHOLE)):
                assert bytes(image.write_to_memory()) == of_libvips(content, 1)[3], (hex(y), hex(cb), hex(cr))


@pytest.mark.parametrize("eighths", [5, WHOLE])
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_that_are_damaged_are_left_to_libvips(kind: str, eighths: int) -> None:
    content = bytearray(photo(**KINDS[kind]))
    found, scan = header(bytes(content)), content.index(b"\xff\xda") + 20

    del content[scan + 900 : scan + 1500]

    assert plain_jpeg.decode(content, found, eighths) is None


def test_a_picture_of_more_memory_than_that_is_streamed_by_libvips() -> None:
    file = io.BytesIO()
    Image.new("RGB", (3600, 3600)).save(file, "JPEG")
    content = file.getvalue()

    assert plain_jpeg.decode(bytearray(content), header(content), WHOLE) is None
    assert plain_jpeg.decode(bytearray(content), header(content), 5) is not None


@pytest.mark.parametrize(
    ("size", "box", "eighths"),
    [
        ((3072, 2304), 1920, 5),  # just these are wanted
        ((2304, 3071), 1920, WHOLE),
        ((2560, 1920), 1920, WHOLE),
        ((3648, 2736), 1920, 5),  # all would be 28 MiB
        ((3000, 2250), 1920, WHOLE),  # less than 1.6 times as large
        ((2816, 2112), 1920, WHOLE),
        ((8000, 6000), 1920, 4),
        ((20_000, 1000), 19_000, WHOLE),
        ((384, 24), 240, WHOLE),  # 15 rows: each would be seen
    ],
)
def test_five_eighths_are_decoded_where_they_are_wanted_or_all_would_take_much_memory(
    size: tuple[int, int], box: int, eighths: int
) -> None:
    shrink = min(side / scaled(side, max(size), box) for side in size)
    by = 2 if shrink >= 2 else 1

    assert plain_jpeg.eighths(Header(*size, 3, 1, None), shrink, by) == eighths


def test_a_photo_that_is_decoded_to_five_eighths_is_nearly_as_good_in_as_many_bytes() -> None:
    assert lost(ROOT / "scripts" / "pictures" / "egret.jpg", 1600, (480, 400)) < 0.001


@pytest.mark.campaign
def test_photos_that_are_decoded_to_five_eighths_are_nearly_as_good_in_as_many_bytes() -> None:
    sizes = {photo: header(photo.read_bytes()) for photo in PHOTOS}
    large = [photo for photo, size in sizes.items() if 1.6 <= max(size.width, size.height) / 1920 < 2]

    assert len(large) > 5
    assert fmean(lost(photo, 1920, (1900, 1200)) for photo in large) < 0.001


def test_a_photo_whose_colours_are_decoded_coarsely_is_as_good_in_as_many_bytes() -> None:
    assert lost(ROOT / "scripts" / "pictures" / "egret.jpg", 1700, (480, 400), WHOLE, coarse=True) < 0.0003


def test_colours_are_decoded_coarsely_where_all_variants_halve_them_and_are_smaller(
    children: tuple[DecoderProcess, DecoderProcess],
) -> None:
    content = photo(900, 700, quality=90)

    def is_as_by_libvips(*recipe: dict[str, Any]) -> bool:
        one, other = (child.run(content, recipe).variants for child in children)
        return one == other

    assert is_as_by_libvips(spec(700))
    assert not is_as_by_libvips(spec(600))
    assert is_as_by_libvips(spec(600), spec(300, subsampling="4:4:4"))


def lost(photo: Path, box: int, of: tuple[int, int], eighths: int = 5, *, coarse: bool = False) -> float:
    """How much less SSIM a part of a photo has if decoded in that way than else, in as many bytes."""
    content = photo.read_bytes()
    whole = pyvips.Image.jpegload_buffer(content).copy_memory()
    fewer = plain_jpeg.decode(bytearray(content), header(content), eighths, coarse=coarse)
    assert fewer is not None
    side = max(whole.width, whole.height)
    width, height = scaled(whole.width, side, box), scaled(whole.height, side, box)
    truth = part(render.resize(whole, width, height, "lanczos3"), of)
    usual = part(render.resize(whole, width, height, "lanczos2"), of)
    made = encoded(part(render.resize(fewer, width, height, "lanczos2"), of), 80)
    others = [encoded(usual, quality) for quality in (74, 80, 86)]
    as_good = numpy.interp(len(made), [*map(len, others)], [likeness(truth, other) for other in others])
    return float(as_good) - likeness(truth, made)


def part(image: pyvips.Image, of: tuple[int, int]) -> pyvips.Image:
    width, height = of if image.width > image.height else of[::-1]
    return image.crop((image.width - width) // 2, (image.height - height) // 2, width, height).copy_memory()


def encoded(image: pyvips.Image, quality: int) -> bytes:
    return bytes(image.jpegsave_buffer(keep="none", **jpeg_options({"quality": quality})))


def likeness(truth: pyvips.Image, content: bytes) -> float:
    return ssim(truth, pyvips.Image.jpegload_buffer(content).copy_memory())


@pytest.fixture(scope="module")
def children() -> Iterator[tuple[DecoderProcess, DecoderProcess]]:
    with (
        DecoderProcess(names=["jpeg"]) as one,
        DecoderProcess(names=["jpeg"], without=["simplejpeg"]) as other,
    ):
        yield one, other


HARDLY_SMALLER = spec(1000), spec(640), spec(150)
COLOURS: dict[str, dict[str, Any]] = {
    "of a camera": {},
    "of a profile": {"icc_profile": bytes(pyvips.Image.profile_load("p3"))},
    "grey": {"mode": "L"},
    "grey, of a grey profile": {"mode": "L", "icc_profile": grey_profile(1.8)},
    "grey, of a profile for colours": {"mode": "L", "icc_profile": bytes(pyvips.Image.profile_load("p3"))},
}


@pytest.mark.parametrize("kind", COLOURS)
def test_variants_are_the_same_bytes_where_the_library_is_not_installed(
    kind: str, children: tuple[DecoderProcess, DecoderProcess]
) -> None:
    one, other = children
    one.run(photo(1400, 1100))  # a larger one, whose memory is kept
    for turn in range(1, 9) if kind == "of a camera" else (1, 3, 6):
        content = photo(1100 + turn, 900, quality=90, **COLOURS[kind])
        content = with_exif(content, exif("<", (0x0112, 3, 1, turn)))
        expected = [*map(hash, other.run(content, HARDLY_SMALLER).variants)]
        assert [*map(hash, one.run(content, HARDLY_SMALLER).variants)] == expected, turn


def test_what_a_decoder_answers_to_damage_is_the_same_too(
    children: tuple[DecoderProcess, DecoderProcess],
) -> None:
    chance = Random(3)
    for kind in KINDS.values():
        content = bytearray(photo(**kind))
        for _ in range(6):
            content[chance.randrange(len(content))] = chance.randrange(256)
            first, second = (child.run(bytes(content), (spec(100),)) for child in children)
            assert (first.answer.get("code"), first.variants) == (second.answer.get("code"), second.variants)


def test_what_a_decoder_answers_to_damage_is_the_same_where_five_eighths_are_decoded(
    children: tuple[DecoderProcess, DecoderProcess],
) -> None:
    chance, codes = Random(4), set()
    for kind in ("4:2:0", "restart markers", "progressive"):
        content = bytearray(photo(320, 240, **KINDS[kind]))
        for _ in range(5):
            content[chance.randrange(len(content))] = chance.randrange(256)
            first, second = (child.run(bytes(content), (spec(200),)).answer for child in children)
            assert first.get("code") == second.get("code")
            codes.add(first.get("code"))
    assert {None, "corrupt_image"} <= codes


def test_the_memory_of_pixels_is_kept_until_it_is_given_back_or_a_picture_is_damaged() -> None:
    content = bytearray(photo(1200, 900))
    found = header(bytes(content))
    pixel_memory.give_back()
    least = pixel_memory.kept()

    assert plain_jpeg.decode(content, found, WHOLE) is not None
    assert pixel_memory.kept() > 1200 * 900 * 3
    pixel_memory.give_back()
    assert pixel_memory.kept() == least
    assert plain_jpeg.decode(content[:-5000], found, WHOLE) is None
    assert pixel_memory.kept() == least


def test_of_two_colours_that_are_equally_common_the_first_is_the_pictures() -> None:
    halves = bytes((200, 10, 20)) * 50 + bytes((10, 20, 250)) * 50
    picture = pyvips.Image.new_from_memory(halves, 10, 10, 3, "uchar")
    grey = pyvips.Image.new_from_memory(bytes((200, 7)) * 50, 10, 10, 1, "uchar")

    assert [colour.dominant(image) for image in (picture, picture.flipver(), grey)] == [
        "#c80a14",
        "#0a14fa",
        "#c8c8c8",
    ]
