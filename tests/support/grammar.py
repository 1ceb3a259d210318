"""Pictures that are wrong in the grammar of their format: one element is odd, and all around it is right.

A byte that is flipped rarely gets past a checksum, a length or an offset. These do.
"""

import random
import struct
import zlib
from collections.abc import Callable, Iterator

Change = Callable[[random.Random, bytes], bytes]

_EDGES = (0, 1, 2, 3, 7, 8, 9, 15, 16, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_MOST_ELEMENTS = 500

Entry = tuple[int, int, int, bytes]
"""An entry of a TIFF's directory: tag, type, count, and the field with its value or where that is."""

# Tags, and values that mean something to somebody.
_TAGS: dict[int, tuple[int, ...]] = {
    254: (0, 1, 2, 3, 4, 5),  # NewSubfileType
    255: (1, 2, 3),
    256: (),
    257: (),
    258: (1, 2, 4, 8, 12, 16, 24, 32, 64),
    259: (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946, 34712, 34713, 34887, 34925, 50000, 50001),
    262: (0, 1, 2, 3, 4, 5, 6, 8, 9, 32803, 34892),
    266: (1, 2),
    274: (1, 3, 6, 8, 9),
    277: (1, 2, 3, 4, 5, 6),
    278: (),
    284: (1, 2),
    317: (1, 2, 3, 34892),
    320: (),
    322: (16, 64),
    323: (16, 64),
    324: (),
    325: (),
    330: (),  # SubIFDs
    338: (0, 1, 2, 999),  # ExtraSamples
    339: (1, 2, 3, 4, 5, 6),
    347: (),
    512: (1, 14),
    513: (),
    514: (),
    530: (1, 2, 4),
    532: (),
    34665: (),
    34675: (),
    42113: (),  # GDAL_NODATA
    50706: (1,),  # DNGVersion
}

_PNG_EXTRA: tuple[tuple[bytes, int], ...] = (
    (b"cICP", 4),
    (b"cLLI", 8),
    (b"mDCV", 24),
    (b"gAMA", 4),
    (b"sRGB", 1),
    (b"cHRM", 32),
    (b"tRNS", 6),
    (b"sBIT", 3),
    (b"acTL", 8),
    (b"fcTL", 26),
    (b"eXIf", 26),
    (b"CgBI", 4),
    (b"PLTE", 768),
    (b"iCCP", 40),
)
_NUMBERS = (0, 1, 2, 5, 6, 8, 9, 11, 12, 13, 14, 16, 18, 22, 255)  # of H.273
_ISO_FIELDS: tuple[bytes, ...] = tuple(
    b"colr ispe pixi irot imir ipma iref iloc auxC clli mdcv hvcC av1C pitm iinf infe clap pasp".split()
)
_BMP_FIELDS = (2, 10, 14, 18, 22, 26, 28, 30, 34, 46, 50, 54, 58, 62, 66)
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC7, 0xC9, 0xCA, 0xCB, 0xF7)


def malformed(dice: random.Random, content: bytes, _: bytes) -> bytes:
    """Change one element of the picture's format; bytes of no known grammar stay as they are."""
    change = next((change for begins, change in _GRAMMARS if begins(content)), None)
    try:
        return change(dice, content) if change is not None else content
    except (
        struct.error,
        IndexError,
        ValueError,
        OverflowError,
    ):  # earlier mutations have left no such element
        return content


def _edge(dice: random.Random, width: int) -> int:
    return dice.choice((*_EDGES, dice.getrandbits(32))) % (1 << 8 * width)


def _with(content: bytes, at: int, piece: bytes) -> bytes:
    return content[:at] + piece + content[at + len(piece) :]


# ---- TIFF: a changed copy of the first directory is put behind everything else


class _Tiff:
    """How the numbers of that TIFF are packed: TIFF 6.0, section 2, and BigTIFF."""

    def __init__(self, content: bytes) -> None:
        self.order = "<" if content[:2] == b"II" else ">"
        self.big = content[2:4] in (b"+\0", b"\0+")
        self.number, self.count, self.entry = ("Q", "Q", "HHQ8s") if self.big else ("I", "H", "HHI4s")
        self.first = 8 if self.big else 4

    def pack(self, kinds: str, *values: object) -> bytes:
        return struct.pack(self.order + kinds, *values)

    def field(self, value: int, kind: int) -> bytes:
        """A value that stands in the entry itself."""
        letter = {3: "H", 4: "I", 16: "Q"}.get(kind, "B")
        packed = self.pack(letter, value % (1 << 8 * struct.calcsize(self.order + letter)))
        return packed[: 8 if self.big else 4].ljust(8 if self.big else 4, b"\0")

    def directory(self, content: bytes) -> tuple[int, list[Entry]]:
        """Where the first directory is, and what stands in it."""
        (start,) = struct.unpack_from(self.order + self.number, content, self.first)
        (count,) = struct.unpack_from(self.order + self.count, content, start)
        begin = start + struct.calcsize(self.order + self.count)
        size = struct.calcsize(self.order + self.entry)
        body = content[begin : begin + min(count, _MOST_ELEMENTS) * size]
        return start, list(struct.iter_unpack(self.order + self.entry, body[: len(body) // size * size]))

    def written(self, entries: list[Entry], following: int) -> bytes:
        """A directory, and the link to the one that follows."""
        body = b"".join(self.pack(self.entry, *entry) for entry in entries)
        return self.pack(self.count, len(entries)) + body + self.pack(self.number, following)


def _tiff(dice: random.Random, content: bytes) -> bytes:
    tiff = _Tiff(content)
    before, entries = tiff.directory(content)
    content += bytes(len(content) % 2)
    here = len(content)
    for _ in range(dice.choice((1, 1, 2, 3))):
        entries = _changed_entries(dice, tiff, entries, here)
    if dice.random() < 0.9:  # writers sort them; readers must not rely on it
        entries.sort(key=lambda entry: entry[0])
    following = dice.choice((0, 0, 0, here, before, 1, here - 1, here + 7, 0x7FFFFFF0, 0xFFFFFFFF))
    directory = tiff.written(entries, following)
    first = here
    if dice.random() < 0.2:  # the page behind a reduced one
        reduced = [(254, 4, 1, tiff.field(1, 4)), *(entry for entry in entries if entry[0] != 254)]
        first = here + len(directory)
        directory += tiff.written(reduced, here)
    return _with(content, tiff.first, tiff.pack(tiff.number, first)) + directory


def _changed_entries(dice: random.Random, tiff: _Tiff, entries: list[Entry], here: int) -> list[Entry]:
    match dice.randrange(6):
        case 0 | 1 | 2:
            tag = dice.choice(tuple(_TAGS))
            value = dice.choice((*_TAGS[tag] * 4, _edge(dice, 4), here))
            kind = dice.choice((3, 3, 4, 4, 1, 2, 7, 13, 16))
            count = dice.choice((1, 1, 1, 1, 2, 3, 4, 256, _edge(dice, 4)))
            changed = (tag, kind, count, tiff.field(value, kind))
            return [*(entry for entry in entries if entry[0] != tag), changed]
        case 3:
            number = dice.randrange(len(entries))
            return entries[:number] + entries[number + 1 :]
        case 4:
            return [*entries, dice.choice(entries)]
        case _:
            number = dice.randrange(len(entries))
            tag, kind, count, field = entries[number]
            kind, count = dice.choice(
                ((_edge(dice, 2), count), (kind, _edge(dice, 4)), (dice.randrange(20), count))
            )
            return [*entries[:number], (tag, kind, count, field), *entries[number + 1 :]]


# ---- PNG: whatever changes, the checksums are right


def _png(dice: random.Random, content: bytes) -> bytes:
    chunks = list(png_chunks(content))
    number = dice.randrange(len(chunks))
    kind, body = chunks[number]
    match dice.randrange(8):
        case 0 | 1 | 2 | 3:
            kind, size = dice.choice(_PNG_EXTRA)
            size = dice.choice((size, size, size, 0, size - 1, size + 1))
            chunks.insert(dice.choice((1, 1, 1, number)), (kind, _filling(dice, kind, size)))
        case 4:
            header = bytearray(chunks[0][1])
            at = dice.choice((3, 7, 8, 8, 9, 9, 10, 11, 12))
            header[at] = dice.choice((0, 1, 2, 3, 4, 6, 8, 16, dice.randrange(256)))
            chunks[0] = (b"IHDR", bytes(header))
        case 5:
            chunks[number] = (kind, body[: dice.randrange(len(body) + 1)])
        case 6:
            chunks.insert(dice.randrange(len(chunks)), (kind, body))
        case _:
            del chunks[number]
    return content[:8] + b"".join(png_chunk(kind, body) for kind, body in chunks)


def _filling(dice: random.Random, kind: bytes, size: int) -> bytes:
    if kind == b"iCCP":
        return b"p\0\0" + zlib.compress(dice.randbytes(size))
    if kind == b"cICP" and dice.random() < 0.9:
        return bytes(dice.choice(_NUMBERS) for _ in range(max(0, size - 1))) + bytes(
            [dice.choice((0, 1, 1, 2))]
        )
    return bytes(size) if dice.random() < 0.2 else dice.randbytes(size)


def png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk that is there as a whole."""
    at = 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4])
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG, with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# ---- HEIC and AVIF: boxes change in place, or are added where everything behind them moves along


def _iso(dice: random.Random, content: bytes) -> bytes:
    if dice.random() < 0.35:
        return _with_box(dice, content)
    found = [at for name in _ISO_FIELDS if (at := content.find(name, 0, 8192)) >= 4]
    at = dice.choice(found)
    name, length = content[at : at + 4], max(9, int.from_bytes(content[at - 4 : at]) % 4096)
    match dice.randrange(6):
        case 0:
            return _with(content, at - 4, struct.pack(">I", _edge(dice, 4)))
        case 1:
            return _with(
                content, at, dice.choice((b"free", b"colr", b"clli", b"prem", b"irot", b"imir", b"ispe"))
            )
        case 2 | 3 if name == b"colr":
            numbers = struct.pack(
                ">HHHB", *(dice.choice(_NUMBERS) for _ in range(3)), dice.choice((0, 0x80, 0xFF))
            )
            return _with(content, at + 4, dice.choice((b"nclx", b"nclx", b"prof", b"rICC")) + numbers)
        case 2 | 3 if name == b"iref":
            return _with(content, at + 12, dice.choice((b"prem", b"auxl", b"dimg", b"thmb")))
        case _:
            place = at + 4 + dice.randrange(length - 8)
            width = dice.choice((1, 2, 4))
            return _with(content, place, _edge(dice, width).to_bytes(width))


def _with_box(dice: random.Random, content: bytes) -> bytes:
    """One property more in `ipco`, or a reference more in `iref`."""
    target = dice.choice((b"ipco", b"iref"))
    at = content.index(target) - 4
    end = at + int.from_bytes(content[at : at + 4])
    if target == b"iref":
        name, body = (
            dice.choice((b"prem", b"auxl", b"thmb")),
            struct.pack(">HHH", _edge(dice, 1), 1, _edge(dice, 1)),
        )
    else:
        numbers = struct.pack(">HHHB", *(dice.choice(_NUMBERS) for _ in range(3)), 0x80)
        name, body = dice.choice(
            (
                (b"colr", b"nclx" + numbers),
                (b"clli", dice.randbytes(4)),
                (b"mdcv", dice.randbytes(24)),
                (b"irot", b"\1"),
            )
        )
    extra = struct.pack(">I", 8 + len(body)) + name + body
    changed = bytearray(content)
    for parent in (b"meta", *((b"iprp", b"ipco") if target == b"ipco" else (b"iref",))):
        place = content.index(parent) - 4
        changed[place : place + 4] = struct.pack(
            ">I", int.from_bytes(content[place : place + 4]) + len(extra)
        )
    _move_extents(changed, len(extra))
    return bytes(changed[:end]) + extra + bytes(changed[end:])


def _move_extents(content: bytearray, by: int) -> None:
    """Add to each offset in `iloc` (ISO/IEC 14496-12, 8.11.3) that counts from the file's beginning."""
    at = content.index(b"iloc") + 4
    version, sizes = content[at], int.from_bytes(content[at + 4 : at + 6])
    offsets, lengths, bases, indexes = (
        sizes >> 12,
        sizes >> 8 & 15,
        sizes >> 4 & 15,
        sizes & 15 if version else 0,
    )
    width = 2 if version < 2 else 4
    at += 6
    count = int.from_bytes(content[at : at + width])
    at += width
    for _ in range(min(count, _MOST_ELEMENTS)):
        method = content[at + width + 1] & 15 if version else 0
        at += width + (2 if version else 0) + 2 + bases
        extents = int.from_bytes(content[at : at + 2])
        at += 2
        for _ in range(min(extents, _MOST_ELEMENTS)):
            place = slice(at + indexes, at + indexes + offsets)
            if method == 0 and offsets:
                content[place] = ((int.from_bytes(content[place]) + by) % (1 << 8 * offsets)).to_bytes(
                    offsets
                )
            at += indexes + offsets + lengths


# ---- BMP: fields of its header, and what run lengths can say


def _bmp(dice: random.Random, content: bytes) -> bytes:
    start = int.from_bytes(content[10:14], "little")
    match dice.randrange(4):
        case 0:
            at = dice.choice(_BMP_FIELDS)
            width = 2 if at in (26, 28) else 4
            return _with(content, at, _edge(dice, width).to_bytes(width, "little"))
        case 1:
            sizes = struct.pack("<I", dice.choice((12, 16, 40, 52, 56, 64, 108, 124)))
            kind = struct.pack(
                "<HI", dice.choice((0, 1, 2, 4, 8, 16, 24, 32)), dice.choice((0, 1, 2, 3, 4, 5, 6, 11))
            )
            return _with(_with(content, 14, sizes) if dice.random() < 0.5 else content, 28, kind)
        case 2:
            masks = [
                dice.choice((0, 0xFF, 0xFF00, 0xFF0000, 0xFF000000, 0x7C00, 0x3E0, 0x1F, 0x8000))
                for _ in range(4)
            ]
            return _with(content, 54, struct.pack("<4I", *masks))
        case _:
            runs = b"".join(_run(dice) for _ in range(dice.choice((1, 3, 50, 2000))))
            at = start + dice.randrange(max(1, len(content) - start)) // 2 * 2
            return content[:at] + runs + content[at:]


def _run(dice: random.Random) -> bytes:
    """An instruction of RLE4 or RLE8: a run, an end, a jump, or pixels as they are."""
    count = dice.choice((1, 3, 4, 255))
    return dice.choice(
        (
            bytes([count, dice.randrange(256)]),
            b"\0\0",
            b"\0\1",
            b"\0\2" + bytes([dice.choice((0, 1, 255)), dice.choice((0, 1, 255))]),
            b"\0" + bytes([count]) + dice.randbytes(count + count % 2),
        )
    )


# ---- JPEG: its segments


def _jpeg(dice: random.Random, content: bytes) -> bytes:
    scan = content.index(b"\xff\xda")
    frame = min(at for kind in (0xC0, 0xC1, 0xC2) if (at := content.find(bytes([0xFF, kind]), 0, scan)) > 0)
    match dice.randrange(8):
        case 0:
            return content[: content.rindex(b"\xff\xd9")]
        case 1:
            return content[: dice.randrange(scan, len(content))] + dice.choice((b"", b"\xff", b"\xff\xd9"))
        case 2:
            return _with(content, frame + 1, bytes([dice.choice(_JPEG_FRAMES)]))
        case 3:
            at = frame + dice.choice((4, 5, 6, 7, 8, 9, 10, 11, 12, 13))
            return _with(content, at, bytes([dice.choice((0, 1, 3, 8, 12, 16, 0x11, 0x22, 0x41, 0xFF))]))
        case 4:
            return content[:scan] + b"\xff\xdd\0\4" + _edge(dice, 2).to_bytes(2) + content[scan:]
        case 5:
            at = dice.randrange(scan + 12, len(content))
            return content[:at] + bytes([0xFF, dice.randrange(0xD0, 0xDA)]) + content[at:]
        case 6:
            adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([dice.choice((0, 1, 2, 255))])
            return content[:2] + adobe + content[2:]
        case _:
            return _with(content, scan + 2, dice.choice((b"\0\x0c\3", b"\0\x08\1", b"\0\0", b"\0\x0c\0")))


_GRAMMARS: tuple[tuple[Callable[[bytes], bool], Change], ...] = (
    (lambda content: content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _tiff),
    (lambda content: content.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    (lambda content: content[4:8] == b"ftyp", _iso),
    (lambda content: content.startswith(b"BM"), _bmp),
    (lambda content: content.startswith(b"\xff\xd8"), _jpeg),
)
