"""Pictures broken in every usual way, byte by byte or in their grammar: the same seed, the same bytes."""

import io
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import pillow_heif
import pyvips
from PIL import Image

from tests.support.grammar import malformed, png_chunk
from tests.support.worst_cases import runs

LARGEST = 2 * 1024 * 1024  # bytes: larger originals take long and are no worse for it

Mutation = Callable[[random.Random, bytes, bytes], bytes]
"""A picture and another one to borrow from, and what becomes of the first."""

_SHARE_OF_GRAMMAR = 0.5
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_MARKS: tuple[bytes, ...] = (
    b"IHDR",
    b"IDAT",
    b"PLTE",
    b"tRNS",
    b"iCCP",
    b"ispe",
    b"iloc",
    b"ipma",
    b"hvcC",
    b"av1C",
    b"VP8 ",
)
_MARKS += (
    b"VP8X",
    b"VP8L",
    b"\xff\xc0",
    b"\xff\xc2",
    b"\xff\xc4",
    b"\xff\xda",
    b"\xff\xdb",
    b"Exif",
    b"irot",
)


@cache
def own_pictures() -> tuple[bytes, ...]:
    """Small pictures of every format and of every way in which they are decoded."""
    scene = Image.radial_gradient("L").resize((90, 60))
    colours = Image.merge("RGB", (scene, scene.rotate(180), scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    clear = colours.copy()
    clear.putalpha(scene)
    profile = Image.new("L", (1, 1)).tobytes() * 200
    specs: list[tuple[Image.Image, str, dict[str, object]]] = [
        (colours, "JPEG", {"icc_profile": profile}),
        (colours, "JPEG", {"progressive": True, "exif": _turned()}),
        (colours.convert("CMYK"), "JPEG", {}),
        (clear, "PNG", {}),
        (colours.convert("P"), "PNG", {"transparency": 3}),
        (scene.convert("I;16"), "PNG", {}),
        (clear, "WEBP", {}),
        (colours, "WEBP", {"lossless": True}),
        (colours.convert("P"), "GIF", {"save_all": True, "append_images": [scene.convert("P")] * 3}),
        (colours, "TIFF", {"compression": "tiff_lzw"}),
        (clear, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (colours.convert("1"), "TIFF", {"compression": "group4"}),
        (clear, "TIFF", {"compression": "zstd", "save_all": True, "append_images": [colours]}),
        (colours.convert("YCbCr"), "TIFF", {"compression": "tiff_lzw"}),
        (scene.convert("F"), "TIFF", {}),
        (clear, "AVIF", {}),
        (colours, "BMP", {}),
        (colours.convert("P"), "BMP", {}),
        (clear.resize((64, 64)), "ICO", {}),
    ]
    saved = (_saved(*spec) for spec in specs)
    return (*saved, _heic(colours), _heic(clear), _deep_heic(), _deep_png(), *_bands(colours), runs(900, 4))


def mutant(seed: int, number: int, originals: Sequence[bytes]) -> bytes:
    """The mutant of that number: one original, changed by one to three mutations."""
    dice = random.Random(f"{seed}/{number}")
    content = dice.choice(originals)
    for _ in range(dice.choice((1, 1, 2, 3))):
        content = _mutated(dice, content, dice.choice(originals)) or b"\0"
    return content[:LARGEST]


def _mutated(dice: random.Random, content: bytes, other: bytes) -> bytes:
    if dice.random() < _SHARE_OF_GRAMMAR and (changed := malformed(dice, content, other)) != content:
        return changed
    return dice.choice(_MUTATIONS)(dice, content, other)


def _saved(picture: Image.Image, name: str, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def _heic(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(picture).save(file, quality=50)
    return file.getvalue()


def _deep_heic() -> bytes:
    """Ten bits that say by number that they are BT.2020 and PQ (ITU-T H.273)."""
    numbers = {"color_primaries": 9, "transfer_characteristics": 16, "matrix_coefficients": 9}
    file = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (64, 48), bytes(range(256)) * 72).save(file, quality=50, **numbers)
    return file.getvalue()


def _deep_png() -> bytes:
    """The same in sixteen bits."""
    deep = pyvips.Image.new_from_memory(bytes(range(256)) * 72, 64, 48, 3, "ushort")
    png = bytes(deep.copy(interpretation="rgb16").pngsave_buffer())
    return png[:33] + png_chunk(b"cICP", bytes([9, 16, 0, 1])) + png[33:]


def _bands(colours: Image.Image) -> Iterator[bytes]:
    """TIFFs with bands beside the colours, and with numbers that have no agreed range."""
    pixels = pyvips.Image.new_from_memory(colours.tobytes(), *colours.size, 3, "uchar")
    inks = pixels.bandjoin([40, 0]).copy(interpretation="cmyk")
    yield bytes(inks.tiffsave_buffer(compression="deflate"))
    yield bytes(pixels.cast("short").tiffsave_buffer(tile=True, tile_width=32, tile_height=32))
    yield bytes(pixels[0].copy(interpretation="b-w").tiffsave_buffer(miniswhite=True, bigtiff=True))


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _flip_bits(dice: random.Random, content: bytes, _: bytes) -> bytes:
    changed = bytearray(content)
    for _number in range(dice.choice((1, 3, 10, 100))):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _flip_in_header(dice: random.Random, content: bytes, _: bytes) -> bytes:
    end = min(len(content), 512)
    return _flip_bits(dice, content[:end], b"") + content[end:]


def _truncate(dice: random.Random, content: bytes, _: bytes) -> bytes:
    return content[: dice.randrange(len(content))]


def _splice(dice: random.Random, content: bytes, other: bytes) -> bytes:
    return content[: dice.randrange(len(content))] + other[dice.randrange(len(other)) :]


def _borrow(dice: random.Random, content: bytes, other: bytes) -> bytes:
    """Bytes of another picture over, or between, those of this one."""
    start = dice.randrange(len(other))
    piece = other[start : start + dice.choice((4, 64, 4096))]
    at = dice.randrange(len(content))
    return content[:at] + piece + content[at + dice.choice((0, len(piece))) :]


def _edit_field(dice: random.Random, content: bytes, _: bytes) -> bytes:
    """An extreme number where a length, a count or a size may stand."""
    width = dice.choice((1, 2, 4, 4))
    number = dice.choice((*_EDGES, dice.getrandbits(32))) % (1 << 8 * width)
    at = dice.randrange(_field_area(dice, content))
    packed = number.to_bytes(width, dice.choice(("big", "little")))
    return content[:at] + packed + content[at + width :]


def _edit_behind_mark(dice: random.Random, content: bytes, _: bytes) -> bytes:
    """The same behind a word that begins something: dimensions, lengths, tables."""
    places = [at for mark in _MARKS if (at := content.find(mark)) >= 0]
    at = dice.choice(places or [0]) + dice.randrange(-4, 24)
    width = dice.choice((1, 2, 4))
    number = dice.choice((*_EDGES, 9999, 10000, 16384, dice.getrandbits(16))) % (1 << 8 * width)
    at = max(0, at)
    return content[:at] + number.to_bytes(width, "big") + content[at + width :]


def _duplicate(dice: random.Random, content: bytes, _: bytes) -> bytes:
    """A piece, often a whole chunk, again and again."""
    places = [at for mark in _MARKS if (at := content.find(mark)) >= 0]
    start = max(0, dice.choice([*places, dice.randrange(len(content))]) - dice.choice((0, 4)))
    piece = content[start : start + dice.choice((12, 100, 2000))]
    return content[:start] + piece * dice.choice((2, 2, 10, 300)) + content[start + len(piece) :]


def _drop(dice: random.Random, content: bytes, _: bytes) -> bytes:
    start = dice.randrange(len(content))
    return content[:start] + content[start + dice.choice((1, 4, 100, 5000)) :]


def _field_area(dice: random.Random, content: bytes) -> int:
    return max(1, min(len(content), dice.choice((64, 256, 2048, len(content)))))


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _flip_in_header,
    _truncate,
    _splice,
    _borrow,
    _edit_field,
    _edit_field,
    _edit_behind_mark,
    _edit_behind_mark,
    _duplicate,
    _drop,
)
