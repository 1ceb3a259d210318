"""Pictures built at random from the structure of their format: headers, tags, boxes, chunks, blocks.

They reach what a mutant of a good picture does not: each length and checksum around an odd value is right.
The same seed makes the same bytes.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache

import pillow_heif
from PIL import Image

from tests.support.iso_boxes import box

_EDGES: tuple[int, ...] = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    16,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
)
_EDGES += (0xFFFFFFFF, 0x1_0000_0000, 2**63 - 1, 2**63, 2**64 - 1)

Dice = random.Random


def structured(seed: int, number: int) -> bytes:
    """The file of that number; formats take turns."""
    names = sorted(_MAKERS)
    return _MAKERS[names[number % len(names)]](Dice(f"{seed}/{number}"))


def _number(dice: Dice, width: int, usual: int | None = None) -> int:
    """Mostly the usual value, where there is one; else a small one, an edge or anything."""
    if usual is not None and dice.random() < 0.97:
        return usual % (1 << 8 * width)
    some = (dice.randrange(40), dice.choice(_EDGES), dice.getrandbits(8 * width))
    return dice.choice(some) % (1 << 8 * width)


def _bytes(dice: Dice, most: int = 64) -> bytes:
    return dice.randbytes(dice.randrange(most))


# ---- TIFF, and what speaks its language: EXIF

_LETTERS = {1: "B", 2: "c", 3: "H", 4: "I", 5: "Q", 6: "b", 7: "c", 8: "h", 9: "i", 10: "q", 11: "f", 12: "d"}
_LETTERS |= {13: "I", 16: "Q", 17: "q", 18: "Q"}
_TAGS: tuple[int, ...] = (
    254,
    255,
    256,
    257,
    258,
    259,
    262,
    266,
    273,
    274,
    277,
    278,
    279,
    282,
    284,
    292,
    301,
    317,
    318,
    320,
    322,
)
_TAGS += (
    323,
    324,
    325,
    330,
    332,
    333,
    338,
    339,
    340,
    347,
    512,
    513,
    514,
    519,
    529,
    530,
    531,
    532,
    700,
    34665,
)
_TAGS += (34675, 34853, 37724, 42113, 33432, 50706)
_COMPRESSIONS: tuple[int, ...] = (
    *(1,) * 10,
    *(8,) * 6,
    2,
    3,
    4,
    5,
    6,
    7,
    32773,
    32946,
    34925,
    50000,
    50001,
    34712,
)
_LARGEST_CHUNK = 16 * 16 * 5 * 8


def _tiff(dice: Dice) -> bytes:
    return _directories(dice, big=dice.random() < 0.4)


def _directories(dice: Dice, *, big: bool = False) -> bytes:
    order = dice.choice("<>")
    link, count, wide = ("Q", "Q", 8) if big else ("I", "H", 4)
    made = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42))
    made += struct.pack(order + "HH", 8, 0) if big else b""
    place = len(made)
    made += bytes(wide).ljust(24 - place, b"\0")
    packed = zlib.compress(bytes(_LARGEST_CHUNK))
    made += dice.choice((bytes(_LARGEST_CHUNK), bytes(_LARGEST_CHUNK), packed, dice.randbytes(400)))
    for _ in range(dice.choice((1, 1, 2, 3))):
        entries = b""
        tags = _page(dice)
        for tag in sorted(tags) if dice.random() < 0.95 else tags:
            entries += _entry(dice, made, order, wide, tag, tags[tag])
        made += bytes(len(made) % 2)
        struct.pack_into(order + link, made, place, _number(dice, wide, len(made)))
        told = _number(dice, struct.calcsize(count), len(tags)) if dice.random() < 0.03 else len(tags)
        made += struct.pack(order + count, told) + entries
        place = len(made)
        made += struct.pack(order + link, 0 if dice.random() < 0.9 else _number(dice, wide))
    return bytes(made)


def _page(dice: Dice) -> dict[int, list[int]]:
    """Tags of a page that may be decoded, and some that have anything."""
    width, height, samples = dice.choice((1, 8, 16)), dice.choice((1, 8, 16)), dice.choice((1, 1, 3, 4, 5))
    kind, bits = dice.choice(
        ((1, 1), (1, 8), (1, 8), (1, 8), (1, 12), (1, 16), (2, 16), (3, 32), (3, 64), (1, 4))
    )
    tags = {256: [width], 257: [height], 258: [bits] * samples, 259: [dice.choice(_COMPRESSIONS)]}
    tags |= {
        262: [dice.choice((0, 1, dice.choice((3, 5, 6, 8, 9))) if samples < 3 else (2, 2, 5, 6, 8))],
        277: [samples],
    }
    tags |= {284: [dice.choice((1, 1, 2))], 339: [kind] * samples}
    if samples > 3:
        tags[338] = [dice.choice((0, 1, 2))] * (samples - 3)
    chunks = samples if tags[284] == [2] else 1
    if dice.random() < 0.5:
        tags |= {322: [16], 323: [16], 324: [24] * chunks, 325: [_LARGEST_CHUNK] * chunks}
    else:
        tags |= {273: [24] * chunks, 278: [height], 279: [_LARGEST_CHUNK] * chunks}
    for _ in range(dice.choice((0, 0, 1, 2))):
        tags[dice.choice(_TAGS)] = [_number(dice, 8) for _ in range(dice.choice((1, 1, 2, 3, 300)))]
    if dice.random() < 0.1:
        tags.pop(dice.choice(sorted(tags)))
    return tags


def _entry(dice: Dice, made: bytearray, order: str, wide: int, tag: int, values: list[int]) -> bytes:
    kind = (
        (3 if max(values) < 65536 else 4)
        if dice.random() < 0.97
        else dice.choice((*_LETTERS, 0, 14, 15, 19, 65535))
    )
    if wide == 8 and dice.random() < 0.1:
        kind = 16
    letter = _LETTERS.get(kind, "B")
    content = b"".join(_packed(order, letter, value) for value in values)
    told = len(values) if dice.random() < 0.98 else _number(dice, wide)
    if len(content) > wide:
        place = len(made) if dice.random() < 0.97 else _number(dice, wide)
        made += content
        content = struct.pack(order + ("Q" if wide == 8 else "I"), place)
    entry = struct.pack(order + "HH" + ("Q" if wide == 8 else "I"), tag, kind, told)
    return entry + content.ljust(wide, b"\0")


def _packed(order: str, letter: str, value: int) -> bytes:
    size = struct.calcsize(order + letter)
    return (value % (1 << 8 * size)).to_bytes(size, "little" if order == "<" else "big")


# ---- profiles


def _icc(dice: Dice) -> bytes:
    """A profile whose header and table of tags are well-formed, mostly."""
    kinds = (b"XYZ ", b"curv", b"para", b"mft1", b"mft2", b"mAB ", b"desc", b"mluc", b"cicp")
    tags, body = [], b""
    for name in dice.sample(
        (b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"rTRC", b"gTRC", b"A2B0", b"cprt", b"cicp"), 5
    ):
        content = dice.choice(kinds) + bytes(4) + struct.pack(">I", _number(dice, 4, 1)) + _bytes(dice)
        tags.append(
            struct.pack(">4sII", name, _number(dice, 4, 192 + len(body)), _number(dice, 4, len(content)))
        )
        body += content
    space = dice.choice((b"RGB ", b"GRAY", b"CMYK", b"Lab ", b"XYZ "))
    head = struct.pack(">4sI4s4s4s", b"lcms", 0x04300000, b"mntr", space, dice.choice((b"XYZ ", b"Lab ")))
    head = (head + bytes(12) + b"acsp").ljust(124, b"\0") + struct.pack(">I", _number(dice, 4, len(tags)))
    body = head + b"".join(tags) + body
    return struct.pack(">I", _number(dice, 4, len(body) + 4)) + body


# ---- PNG


def _png(dice: Dice) -> bytes:
    width, height, depth, colour = (
        *(dice.choice((1, 3, 16, 40)), dice.choice((1, 3, 16, 40))),
        *dice.choice(((8, 0), (8, 2), (8, 3), (8, 4), (8, 6), (16, 0), (16, 6), (1, 0), (4, 3), (2, 6))),
    )
    header = struct.pack(">II", _number(dice, 4, width), _number(dice, 4, height))
    header += bytes([depth, colour, _number(dice, 1, 0), _number(dice, 1, 0), dice.random() < 0.1])
    line = -(-width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] // 8)
    lines = b"".join(bytes([dice.choice((0, 1, 2, 3, 4))]) + dice.randbytes(line) for _ in range(height))
    chunks = [(b"IHDR", header)]
    if colour == 3 or dice.random() < 0.1:
        chunks.append((b"PLTE", dice.randbytes(dice.choice((3, 48, 768, 5)))))
    extras: Mapping[bytes, Callable[[], bytes]] = {
        b"iCCP": lambda: b"name\0" + bytes([_number(dice, 1, 0)]) + zlib.compress(_icc(dice)),
        b"eXIf": lambda: _directories(dice),
        b"cICP": lambda: bytes(
            [dice.choice((1, 9, 12, 2)), dice.choice((1, 13, 16, 18)), 0, _number(dice, 1, 1)]
        ),
        b"acTL": lambda: struct.pack(">II", _number(dice, 4, 2), 0),
        **dict.fromkeys(
            (b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"hIST"), lambda: _bytes(dice, 40)
        ),
        **dict.fromkeys(
            (b"pHYs", b"mDCV", b"cLLI", b"fcTL", b"sPLT", b"zTXt", b"iTXt"), lambda: _bytes(dice, 40)
        ),
        **dict.fromkeys((b"noNe", b"IDAT", b"PLTE", b"CgBI", b"IHDR"), lambda: _bytes(dice, 20)),
    }
    for kind in dice.choices(sorted(extras), k=dice.randrange(5)):
        chunks.append((kind, extras[kind]()))
    packed = zlib.compress(lines)
    cut = dice.randrange(len(packed))
    chunks += [(b"IDAT", packed[:cut]), (b"IDAT", packed[cut:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + zlib.crc32(kind + body).to_bytes(4)
        for kind, body in chunks
    )


# ---- JPEG


def _jpeg(dice: Dice) -> bytes:
    """The segments of a real one between others of all kinds, since no random codes are a picture."""
    parts = [b"\xff\xd8"]
    for _ in range(dice.randrange(5)):
        body = dice.choice(
            (
                b"Exif\0\0" + _directories(dice),
                b"ICC_PROFILE\0" + bytes([_number(dice, 1, 1), _number(dice, 1, 1)]) + _icc(dice),
                b"MPF\0" + _directories(dice),
                b"Adobe\0" + _bytes(dice, 12),
                b"JFIF\0" + _bytes(dice, 12),
            )
        )
        marker = dice.choice(
            (0xE0, 0xE1, 0xE1, 0xE2, 0xE2, 0xEE, 0xFE, dice.choice((0xDD, 0xC4, 0xDB, 0xCC)))
        )
        parts.append(bytes([0xFF, marker]) + struct.pack(">H", _number(dice, 2, len(body) + 2)) + body)
    content = bytearray(_saved("JPEG", progressive=dice.random() < 0.5))
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    if dice.random() < 0.3:
        at = frame + dice.randrange(1, 19)
        content[at] = _number(dice, 1)
    if dice.random() < 0.1:
        content[frame + 1] = dice.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xF7))
    return b"".join(parts) + bytes(content[2:])


@cache
def _saved(name: str, **options: object) -> bytes:
    file = io.BytesIO()
    scene = Image.radial_gradient("L").resize((40, 24)).convert("RGB")
    if name == "HEIC":
        pillow_heif.from_pillow(scene).save(file, quality=50)
    else:
        scene.save(file, name, **options)
    return file.getvalue()


# ---- GIF, WebP


def _gif(dice: Dice) -> bytes:
    made = b"GIF89a" + struct.pack(
        "<HHBBB", _number(dice, 2, 8), _number(dice, 2, 8), _number(dice, 1, 0x91), 0, 0
    )
    made += dice.randbytes(12)
    for _ in range(dice.randrange(1, 6)):
        blocks = b"".join(bytes([len(part)]) + part for part in (dice.randbytes(dice.randrange(1, 20)),) * 2)
        label = dice.choice((0xF9, 0xFE, 0xFF, 0x01, dice.randrange(256)))
        timing = bytes([4]) + dice.randbytes(4) if label == 0xF9 else blocks
        made += b"!" + bytes([label]) + timing + dice.choice((b"\0", b"\0", b""))
        where = (_number(dice, 2, 0), _number(dice, 2, 0), _number(dice, 2, 8), _number(dice, 2, 8))
        made += (
            b","
            + struct.pack("<HHHHB", *where, _number(dice, 1, 0))
            + bytes([_number(dice, 1, 2)])
            + blocks
            + b"\0"
        )
    return made + dice.choice((b";", b""))


def _webp(dice: Dice) -> bytes:
    lossless = dice.random() < 0.5
    still = _saved("WEBP", lossless=lossless)[12:]
    flags, size = _number(dice, 1, dice.choice((0, 0, 2))), struct.pack("<I", _number(dice, 3, 39))[:3]
    chunks = [(b"VP8X", bytes([flags, 0, 0, 0]) + size + struct.pack("<I", _number(dice, 3, 23))[:3])]
    for _ in range(dice.randrange(5)):
        kind = dice.choice((b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ", b"ALPH", b"none"))
        if kind == b"ANMF":
            where = b"".join(struct.pack("<I", _number(dice, 3, at))[:3] for at in (0, 0, 39, 23, 10))
            body = where + bytes([dice.randrange(4)]) + still
        else:
            body = {b"ICCP": _icc, b"EXIF": _directories}.get(kind, _bytes)(dice)
        chunks.append((kind, body))
    chunks.append((still[:4], still[8:]))
    if dice.random() < 0.3:
        dice.shuffle(chunks)
    body = b"WEBP" + b"".join(
        kind + struct.pack("<I", len(part)) + part + bytes(len(part) % 2) for kind, part in chunks
    )
    return b"RIFF" + struct.pack("<I", _number(dice, 4, len(body))) + body


# ---- HEIC and AVIF


def _heif(dice: Dice) -> bytes:
    """Boxes of every kind around one real image, which is item 1."""
    name, kind, config = dice.choice((("HEIC", b"hvc1", b"hvcC"), ("AVIF", b"av01", b"av1C")))
    whole = _saved(name)
    at = whole.index(config)
    told = whole[at + 4 : at - 4 + int.from_bytes(whole[at - 4 : at])]
    wide, high = struct.unpack_from(">II", whole, whole.index(b"ispe") + 8)
    coded = whole[whole.index(b"mdat") + 4 :]
    properties = [
        (config, told),
        (b"ispe", bytes(4) + struct.pack(">II", _number(dice, 4, wide), _number(dice, 4, high))),
    ]
    some: Mapping[bytes, Callable[[], bytes]] = {
        b"colr": lambda: dice.choice(
            (
                b"prof" + _icc(dice),
                b"nclx"
                + struct.pack(">HHHB", _number(dice, 2, 9), _number(dice, 2, 16), _number(dice, 2, 6), 128),
            )
        ),
        b"irot": lambda: bytes([_number(dice, 1, 1)]),
        b"imir": lambda: bytes([_number(dice, 1, 1)]),
        b"clap": lambda: struct.pack(">8I", *(_number(dice, 4, n) for n in (20, 1, 12, 1, 0, 1, 0, 1))),
        b"auxC": lambda: bytes(4) + b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0",
        **dict.fromkeys(
            (b"pixi", b"clli", b"mdcv", b"pasp", b"ispe", b"none", config), lambda: _bytes(dice, 30)
        ),
    }
    properties += [(one, some[one]()) for one in dice.choices(sorted(some), k=dice.randrange(5))]
    items = range(1, dice.choice((2, 2, 3, 5)))
    kinds = [
        kind,
        *(dice.choice((kind, b"grid", b"iovl", b"Exif", b"mime", b"iden", b"tmap")) for _ in items[1:]),
    ]
    infe = [
        box(b"infe", b"\2\0\0\0" + struct.pack(">HH", n, 0) + each + b"\0")
        for n, each in zip(items, kinds, strict=True)
    ]
    references = b"".join(
        box(
            dice.choice((b"dimg", b"auxl", b"thmb", b"cdsc", b"prem")),
            struct.pack(">HH", dice.choice(items), len(to)) + b"".join(struct.pack(">H", n) for n in to),
        )
        for to in (
            [_number(dice, 2, dice.choice(items)) for _ in range(dice.randrange(1, 5))]
            for _ in range(dice.choice((0, 0, 1, 3)))
        )
    )
    ipma = bytes(4) + struct.pack(">I", _number(dice, 4, len(items)))
    for n in items:
        named = [1, 2, *(dice.randrange(1, len(properties) + 1) for _ in range(dice.randrange(3)))]
        ipma += struct.pack(">HB", n, _number(dice, 1, len(named))) + bytes(named)
    grid = struct.pack(">BBBBHH", 0, 0, _number(dice, 1, 0), _number(dice, 1, 1), _number(dice, 2, 80), 24)
    lengths = [len(coded), *(len(grid) for _ in items[1:])]

    def described(start: int) -> bytes:
        iloc, begin = b"\0\0\0\0\x44\0" + struct.pack(">H", _number(dice, 2, len(items))), start
        for n, length in zip(items, lengths, strict=True):
            iloc += struct.pack(">HHHII", n, 0, 1, _number(dice, 4, begin), _number(dice, 4, length))
            begin += length
        parts = [
            (b"hdlr", bytes(8) + b"pict" + bytes(13)),
            (
                b"pitm",
                bytes(4) + struct.pack(">H", _number(dice, 2, dice.choice((1, 1, dice.choice(items))))),
            ),
        ]
        parts += [(b"iloc", iloc), (b"iinf", bytes(4) + struct.pack(">H", len(infe)) + b"".join(infe))]
        parts += [(b"iref", bytes(4) + references)] if references else []
        parts += [(b"iprp", box(b"ipco", b"".join(box(*each) for each in properties)) + box(b"ipma", ipma))]
        if dice.random() < 0.2:
            dice.shuffle(parts)
        brand = b"heic\0\0\0\0heicmif1" if name == "HEIC" else b"avif\0\0\0\0avifmif1miaf"
        return box(b"ftyp", brand) + box(b"meta", bytes(4) + b"".join(box(*part) for part in parts))

    state = dice.getstate()
    size = len(described(0))
    dice.setstate(state)
    return described(size + 8) + box(b"mdat", coded + grid * (len(items) - 1))


# ---- BMP and ICO


def _bmp(dice: Dice) -> bytes:
    body = _dib(dice)
    return (
        b"BM"
        + struct.pack("<IHHI", 14 + len(body), 0, 0, _number(dice, 4, 14 + 40 + dice.choice((0, 12, 1024))))
        + body
    )


def _dib(dice: Dice, *, doubled: bool = False) -> bytes:
    """A bitmap's header, masks or palette, and pixels."""
    size, bits = (
        dice.choice((12, 40, 40, 52, 56, 64, 108, 124)),
        dice.choice((1, 4, 8, 16, 24, 32, _number(dice, 2, 8))),
    )
    width, height = _number(dice, 4, 16), _number(dice, 4, 32 if doubled else 16)
    if size == 12:
        head = struct.pack("<IHHHH", 12, width & 0xFFFF, height & 0xFFFF, 1, bits)
    else:
        way = dice.choice((0, 0, 0, 1, 2, 3, 6, _number(dice, 4)))
        head = struct.pack(
            "<IIIHHIIIIII",
            size,
            width,
            height,
            1,
            bits,
            way,
            _number(dice, 4, 0),
            0,
            0,
            _number(dice, 4, 0),
            0,
        )
        head += b"".join(struct.pack("<I", _number(dice, 4, 0xFF << 8 * n)) for n in range(4))
    return head.ljust(size, b"\0") + dice.randbytes(dice.choice((0, 12, 1024))) + dice.randbytes(1600)


def _ico(dice: Dice) -> bytes:
    inside = [
        dice.choice((_png, lambda dice: _dib(dice, doubled=True)))(dice) for _ in range(dice.randrange(1, 4))
    ]
    made, at = struct.pack("<HHH", 0, 1, _number(dice, 2, len(inside))), 6 + 16 * len(inside)
    for each in inside:
        told = bytes([_number(dice, 1, 16), _number(dice, 1, 16), 0, 0]) + struct.pack("<HH", 1, 32)
        made += told + struct.pack("<II", _number(dice, 4, len(each)), _number(dice, 4, at))
        at += len(each)
    return made + b"".join(inside)


_MAKERS: Mapping[str, Callable[[Dice], bytes]] = {
    "bmp": _bmp,
    "gif": _gif,
    "heif": _heif,
    "ico": _ico,
    "jpeg": _jpeg,
    "png": _png,
    "tiff": _tiff,
    "tiff again": _tiff,  # which has most to go wrong
    "webp": _webp,
}
