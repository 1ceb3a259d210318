"""TIFFs made byte by byte, so that every kind can be tried: depths, orders, planes, tiles, pages, codecs."""

import io
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate

from PIL import Image

Pixel = tuple[float, ...]
Rows = Sequence[Sequence[Pixel]]

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, LAB, ICC_LAB, CFA = 0, 1, 2, 3, 5, 6, 8, 9, 32803
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
_LETTERS = {UNSIGNED: "BH?I???Q", SIGNED: "bh?i", FLOAT: "?e?f???d"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 12: 8, 16: 8}


def quarters(colours: Sequence[Pixel], width: int = 48, height: int = 32) -> list[list[Pixel]]:
    """Four colours: at the top left, the top right, the bottom left, the bottom right."""
    half = width // 2
    top, bottom = ([one] * half + [other] * (width - half) for one, other in (colours[:2], colours[2:]))
    return [top] * (height // 2) + [bottom] * (height - height // 2)


@dataclass
class MadePage:
    """One directory and what it describes."""

    rows: Rows
    photometric: int = RGB
    bits: int = 8
    kind: int = UNSIGNED
    extra: Sequence[int] | None = None
    codec: str = "none"
    planar: bool = False
    tile: tuple[int, int] | None = None
    strip: int = 12
    predictor: int = 1
    tags: Mapping[int, tuple[int, bytes | Sequence[int]]] = field(default_factory=dict)
    inside: Sequence["MadePage"] = ()
    order: str = "<"
    stored: bytes = b""  # instead of the rows

    @property
    def width(self) -> int:
        return len(self.rows[0])

    @cached_property
    def samples(self) -> int:
        return len(self.rows[0][0])

    def chunks(self) -> list[bytes]:
        """The strips or tiles, compressed."""
        if self.stored:
            return [self.stored]
        places = [[n] for n in range(self.samples)] if self.planar else [list(range(self.samples))]
        across, down = self.tile or (self.width, self.strip)
        return [
            CODECS[self.codec][1](self._bytes(left, top, across, down, wanted), self, across, len(wanted))
            for wanted in places
            for top in range(0, len(self.rows), down)
            for left in range(0, self.width, across)
        ]

    def _bytes(self, left: int, top: int, across: int, down: int, wanted: list[int]) -> bytes:
        rows = [list(row[left : left + across]) for row in self.rows[top : top + down]]
        if self.tile:
            blank = (0,) * self.samples
            rows = [row + [blank] * (across - len(row)) for row in rows]
            rows += [[blank] * across] * (down - len(rows))
        return b"".join(self._row([pixel[n] for pixel in row for n in wanted], len(wanted)) for row in rows)

    def _row(self, values: list[float], step: int) -> bytes:
        if self.bits % 8:
            text = "".join(f"{int(value):0{self.bits}b}" for value in values)
            return int(text.ljust(-len(text) // 8 * -8, "0"), 2).to_bytes(-(-len(text) // 8))
        if self.predictor == 2:
            top = 1 << self.bits
            values = [
                int(value - (values[at - step] if at >= step else 0)) % top for at, value in enumerate(values)
            ]
            return struct.pack(f"{self.order}{len(values)}{_LETTERS[UNSIGNED][self.bits // 8 - 1]}", *values)
        letter = _LETTERS[self.kind][self.bits // 8 - 1]
        order = ">" if self.predictor == 3 else self.order
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if self.predictor == 3:
            size = self.bits // 8
            apart = b"".join(packed[plane::size] for plane in range(size))
            packed = bytes(
                (byte - (apart[at - step] if at >= step else 0)) % 256 for at, byte in enumerate(apart)
            )
        return packed


def tiff(*pages: MadePage, big: bool = False, link: int | None = None) -> bytes:
    """A file of these pages; the last one's link to the next may be nonsense."""
    order = pages[0].order
    offset, count = ("Q", "Q") if big else ("I", "H")
    made = bytearray(b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    made += struct.pack(order + "HHQ", 8, 0, 0) if big else bytes(4)
    width = struct.calcsize(offset)
    header = len(made) - width
    for number, page in enumerate(pages):
        place, following = _append(made, page, order, offset, count)
        struct.pack_into(order + offset, made, header, place)
        header = following
        if number == len(pages) - 1 and link is not None:
            struct.pack_into(order + offset, made, header, place if link < 0 else link)
    return bytes(made)


def pixels_last(page: MadePage, *, big: bool = False) -> bytes:
    """A file that ends with its strips or tiles; others like them stand where they usually do."""
    chunks, place = page.chunks(), 324 if page.tile else 273
    begins = list(accumulate(map(len, chunks[:-1]), initial=len(tiff(page, big=big))))
    tags = {place: (16 if big else 4, begins), **page.tags}
    return tiff(replace(page, tags=tags), big=big) + b"".join(chunks)


def _append(made: bytearray, page: MadePage, order: str, offset: str, count: str) -> tuple[int, int]:
    """Append a page; returns where its directory is, and where its link to the next one."""
    inside = [_append(made, each, order, offset, count)[0] for each in page.inside]
    chunks, begins = page.chunks(), list[int]()
    for chunk in chunks:
        begins.append(len(made))
        made += chunk
    tags: dict[int, tuple[int, bytes | Sequence[int]]] = {
        256: (4, [page.width]),
        257: (4, [len(page.rows)]),
        258: (3, [page.bits] * page.samples),
        259: (3, [CODECS[page.codec][0]]),
        262: (3, [page.photometric]),
        277: (3, [page.samples]),
        284: (3, [2 if page.planar else 1]),
        317: (3, [page.predictor]),
        339: (3, [page.kind] * page.samples),
    }
    sizes = [len(chunk) for chunk in chunks]
    wide = 16 if offset == "Q" else 4
    if page.tile:
        tags |= {322: (4, page.tile[:1]), 323: (4, page.tile[1:]), 324: (wide, begins), 325: (wide, sizes)}
    else:
        tags |= {273: (wide, begins), 278: (4, [page.strip]), 279: (wide, sizes)}
    if page.extra is not None:
        tags[338] = (3, page.extra)
    if inside:
        tags[330] = (wide, inside)
    tags |= page.tags
    letters = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 12: "d", 16: "Q"}
    room, fields = struct.calcsize(offset), b""
    for tag, (kind, values) in sorted(tags.items()):
        if not isinstance(values, bytes):
            values = struct.pack(f"{order}{len(values)}{letters[kind]}", *values)
        where = values.ljust(room, b"\0")
        if len(values) > room:
            made += bytes(len(made) % 2)
            where = struct.pack(order + offset, len(made))
            made += values
        fields += struct.pack(f"{order}HH{offset}", tag, kind, len(values) // _SIZES[kind]) + where
    made += bytes(len(made) % 2)
    place = len(made)
    made += struct.pack(order + count, len(tags)) + fields
    made += struct.pack(order + offset, 0)
    return place, len(made) - room


def _pack_bits(content: bytes) -> bytes:
    """Without runs: each 128 bytes behind how many they are."""
    parts = [content[at : at + 128] for at in range(0, len(content), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def _lzw(content: bytes) -> bytes:
    """Without any repeats: the table is cleared before its codes grow beyond nine bits."""
    codes = [256]
    for at, byte in enumerate(content):
        codes += [byte] if at % 200 or not at else [256, byte]
    text = "".join(f"{code:09b}" for code in (*codes, 257))
    return int(text.ljust(-len(text) // 8 * -8, "0"), 2).to_bytes(-(-len(text) // 8))


def _zstd(content: bytes) -> bytes:
    """One frame of stored blocks: RFC 8878, 3.1.1."""
    parts = [content[at : at + 60_000] for at in range(0, len(content), 60_000)]
    last = len(parts) - 1
    blocks = (struct.pack("<I", len(part) << 3 | (n == last))[:3] + part for n, part in enumerate(parts))
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(content)) + b"".join(blocks)


def _through_pillow(format: str, **options: object) -> "Codec":
    def compress(content: bytes, page: MadePage, across: int, samples: int) -> bytes:
        mode = {1: "L", 3: "RGB", 4: "RGBA" if format == "WEBP" else "CMYK"}[samples]
        picture, file = (
            Image.frombytes(mode, (across, len(content) // across // samples), content),
            io.BytesIO(),
        )
        picture.save(file, format, **options)
        return file.getvalue()

    return compress


Codec = Callable[[bytes, MadePage, int, int], bytes]
CODECS: Mapping[str, tuple[int, Codec]] = {
    "none": (1, lambda content, *_: content),
    "lzw": (5, lambda content, *_: _lzw(content)),
    "jpeg": (7, _through_pillow("JPEG", quality=95, keep_rgb=True)),
    "deflate": (8, lambda content, *_: zlib.compress(content)),
    "packbits": (32773, lambda content, *_: _pack_bits(content)),
    "lzma": (34925, lambda content, *_: lzma.compress(content)),
    "zstd": (50000, lambda content, *_: _zstd(content)),
    "webp": (50001, _through_pillow("WEBP", lossless=True)),
    "lerc": (34887, lambda content, *_: content),
}
