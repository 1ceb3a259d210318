"""Files that promise far more than they hold: a few bytes, thousands of megapixels or huge extras."""

import io
import struct
import zlib
from collections.abc import Callable, Mapping

import pillow_heif
from PIL import Image

_SIDE = 60_000


def _saved(name: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 199)).save(file, name, **options)
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes, rows: int = 0) -> bytes:
    """A PNG of that claim with `rows` rows of grey in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(bytes((width + 1) * rows), 9)
    body = _chunk(b"IHDR", header) + b"".join(extra) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def inflating(kind: bytes, size: int) -> bytes:
    """A PNG chunk that inflates to `size` bytes."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush()
    return _chunk(kind, b"bomb\0\0" + packed)


def jpeg(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims that size."""
    content = bytearray(_saved("JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def _icc_jpeg() -> bytes:
    """A JPEG of 3,600 megapixels behind nine megabytes of profile."""
    content = jpeg(_SIDE, _SIDE)
    parts = [b"ICC_PROFILE\0" + bytes([n + 1, 140]) + bytes(65_000) for n in range(140)]
    segments = b"".join(b"\xff\xe2" + struct.pack(">H", len(part) + 2) + part for part in parts)
    return content[:2] + segments + content[2:]


def gif(width: int, height: int) -> bytes:
    """A GIF whose canvas and frame have that size."""
    frame = struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + frame + b";"


def _webp(*extra: bytes) -> bytes:
    """A WebP in the extended form, of nearly the largest size there is."""
    canvas = struct.pack("<I", 0x20 | 0x08)[:4] + b"\xfe\x3f\x00" * 2
    key = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(40)
    chunks = [(b"VP8X", canvas), *((b"EXIF", part) for part in extra), (b"VP8 ", key)]
    body = b"".join(kind + struct.pack("<I", len(data)) + data for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def boxed(content: bytes, width: int = _SIDE, height: int = _SIDE) -> bytes:
    """An AVIF or HEIC whose size box claims that many pixels."""
    at = content.index(b"ispe") + 8
    return content[:at] + struct.pack(">II", width, height) + content[at + 8 :]


def avif() -> bytes:
    """A small AVIF."""
    return _saved("AVIF")


def heic() -> bytes:
    """A small HEIC."""
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64), (9, 99, 199))).save(file, quality=50)
    return file.getvalue()


def _tiff() -> bytes:
    content = bytearray(_saved("TIFF"))
    at = struct.unpack("<I", content[4:8])[0] + 2
    for entry in range(at, at + 24, 12):  # width and height are the first two tags
        content[entry + 2 : entry + 12] = struct.pack("<HII", 4, 1, _SIDE)
    return bytes(content)


def _bmp(width: int, height: int) -> bytes:
    content = bytearray(_saved("BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def _icon(inside: bytes) -> bytes:
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inside), 22)
    return b"\0\0\1\0\1\0" + entry + inside


def tags(directories: int, each: int, kind: int = 4, count: int = 1, length: int = 0) -> bytes:
    """A TIFF of 16 by 16 grey pixels with so many unknown tags in each of its directories."""
    usual = [(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    usual += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 16), (279, 4, 1, 256)]
    entries = b"".join(
        struct.pack("<HHII", *entry) for entry in (*usual, *((1000 + n, kind, count, 8) for n in range(each)))
    )
    made = bytearray(b"II*\0" + struct.pack("<I", 8))
    for left in reversed(range(directories)):
        made += struct.pack("<H", len(usual) + each) + entries
        made += struct.pack("<I", len(made) + 4 if left else 0)
    return bytes(made.ljust(max(length, len(made) + 256), b"\0"))


BOMBS: Mapping[str, Callable[[], bytes]] = {
    "png of 400 MP in 48 KiB": lambda: png(20_000, 20_000, rows=2400),
    "png of 3,600 MP": lambda: png(_SIDE, _SIDE),
    "png of 2^31 rows": lambda: png(2**31 - 1, 2**31 - 1),
    "png with a profile of 128 MB": lambda: png(_SIDE, _SIDE, inflating(b"iCCP", 128 << 20)),
    "png with a text of 128 MB": lambda: png(_SIDE, _SIDE, inflating(b"zTXt", 128 << 20)),
    "png with nine megabytes of EXIF": lambda: png(
        _SIDE, _SIDE, _chunk(b"eXIf", b"II*\0" + bytes(9_000_000))
    ),
    "jpeg of 3,600 MP": lambda: jpeg(_SIDE, _SIDE),
    "jpeg with a profile of 9 MB": _icc_jpeg,
    "gif of 4,295 MP": lambda: gif(65_535, 65_535),
    "webp of 268 MP": _webp,
    "webp with nine megabytes of EXIF": lambda: _webp(bytes(9_000_000)),
    "avif of 3,600 MP": lambda: boxed(avif()),
    "heic of 3,600 MP": lambda: boxed(heic()),
    "tiff of 3,600 MP": _tiff,
    "bmp of 3,600 MP": lambda: _bmp(_SIDE, _SIDE),
    "bmp of 2^31 rows": lambda: _bmp(64, -(2**31)),
    "ico with a png of 3,600 MP": lambda: _icon(png(_SIDE, _SIDE)),
}
