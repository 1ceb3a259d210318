"""BMP and icons made byte by byte: run lengths, masks, headers of every version."""

import struct
from collections.abc import Sequence

RLE8, RLE4, MASKS = 1, 2, 3
PALETTE = ((0, 0, 0), (210, 40, 40), (40, 180, 60), (40, 60, 210), (255, 255, 255))


def runs(data: bytes, width: int, height: int, *, bits: int = 8) -> bytes:
    """A BMP of these run lengths, over the colours of `PALETTE`; with a height below 0 from the top."""
    colours = b"".join(bytes((blue, green, red, 0)) for red, green, blue in PALETTE).ljust(4 * 2**bits, b"\0")
    compression = RLE8 if bits == 8 else RLE4
    return _file(40, width, height, bits, compression, colours, data)


def masked(
    pixels: bytes, width: int, height: int, masks: Sequence[int], *, header: int, bits: int = 32
) -> bytes:
    """A BMP with a mask for each of red, green, blue and, if the header knows it, opacity."""
    behind = struct.pack("<4I", *masks)
    if header == 40:
        return _file(header, width, height, bits, MASKS, behind[:12], pixels)
    more = behind.ljust(header - 40, b"\0")[: header - 40]
    return _file(header, width, height, bits, MASKS, b"", pixels, more)


def header_only(header: int, bits: int, compression: int) -> bytes:
    """A BMP of that kind with a few bytes behind its header."""
    return _file(header, 16, 16, bits, compression, b"", bytes(4096), bytes(header - 40))


def _file(
    header: int,
    width: int,
    height: int,
    bits: int,
    compression: int,
    between: bytes,
    pixels: bytes,
    more: bytes = b"",
) -> bytes:
    start = 14 + header + len(between)
    head = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    head += struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    return head + more + between + pixels


def icon(
    pixels: bytes, mask: bytes, side: int, bits: int, *, told: int | None = None, size: int | None = None
) -> bytes:
    """An icon of that side; its directory says `told` bits a pixel and `size` bytes in all."""
    bitmap = struct.pack("<IiiHHIIiiII", 40, side, 2 * side, 1, bits, 0, 0, 0, 0, 0, 0) + pixels + mask
    return icon_of(bitmap, side, bits if told is None else told, size)


def icon_of(content: bytes, side: int, bits: int = 32, size: int | None = None) -> bytes:
    """An icon that holds a bitmap or a PNG; its directory says `size` bytes."""
    length = len(content) if size is None else size
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", side, side, 0, 0, 1, bits, length, 22) + content
