"""Kinds of pictures that are valid and that no library here reads, in words for who uploaded one."""

import re
import struct
from collections.abc import Callable

from pipelines.decoder import boxes

_MOST = 4096  # segments that are read

# ITU T.81, table B.1: frames by their marker; JPEG-LS is ITU T.87.
_JPEG_FRAMES = {
    **dict.fromkeys((0xC3, 0xCB), "lossless JPEG"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE), "hierarchical JPEG"),
    0xF7: "JPEG-LS, which is lossless",
}
_JPEG_BASE = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}
_MARKER = re.compile(rb"\xff([^\x00\xff])")
_HEIGHT_BEHIND = b"\xff\xdc\x00\x04"  # the segment DNL

# ISO/IEC 23008-12 and 23001-17: the type of an item says how it is coded; those of the first set are read.
_READ = {b"hvc1", b"av01"}
_CODECS = {
    b"vvc1": "VVC (H.266)",
    b"j2k1": "JPEG 2000",
    b"unci": "pixels that are not compressed",
    b"jpeg": "JPEG",
    b"avc1": "AVC (H.264)",
    b"evc1": "EVC",
    b"lhv1": "HEVC in layers",
}

# [MS-WMF] 2.1.1.7, and the ways of OS/2 2.x, which use the same numbers.
_BMP_COMPRESSIONS = {
    4: "a JPEG inside",
    5: "a PNG inside",
    11: "CMYK",
    12: "CMYK with run lengths",
    13: "CMYK with run lengths",
}
_OS2_HEADERS = range(16, 65)


def unsupported(format: str, data: bytes | bytearray) -> str:
    """Say which kind of the format a file is that was not decoded; empty if none of these: it is damaged."""
    try:
        return _KINDS[format](data) if format in _KINDS else ""
    except (struct.error, IndexError):
        return ""


def _jpeg(data: bytes | bytearray) -> str:
    at = 2
    for _ in range(_MOST):
        found = _MARKER.search(data, at)
        if found is None:
            return ""
        marker, at = found[1][0], found.end()
        length = int.from_bytes(data[at : at + 2])
        segment = data[at + 2 : at + length]
        if marker in _JPEG_BASE or marker in _JPEG_FRAMES:
            whole = len(segment) >= 6 and len(segment) == length - 2 == 6 + 3 * segment[5]
            return _frame(marker, segment, data) if whole else ""
        at += length
    return ""


def _frame(marker: int, segment: bytes | bytearray, data: bytes | bytearray) -> str:
    precision, height, width = struct.unpack_from(">BHH", segment)
    if marker in _JPEG_FRAMES:
        return _JPEG_FRAMES[marker]
    if precision == 12:
        return "12 bits a sample"
    if height == 0 and width > 0 and _HEIGHT_BEHIND in data:
        return "its height is told only behind the picture"
    return ""


def _png(data: bytes | bytearray) -> str:
    return "Apple's own form for its devices, CgBI" if data[12:16] == b"CgBI" else ""


def _bmp(data: bytes | bytearray) -> str:
    size, _, _, _, bits, compression = struct.unpack_from("<IiiHHI", data, 14)
    if size < 40:
        return ""
    if compression == 3 and bits == 1:
        return "the Huffman code of IBM"
    if compression == 4 and bits == 24 and size in _OS2_HEADERS and size != 40:
        return "run lengths of 24-bit pixels, by IBM"
    if compression in _BMP_COMPRESSIONS:
        return _BMP_COMPRESSIONS[compression]
    return f"{bits} bits a pixel" if bits in (2, 64) else ""


def _webp(data: bytes | bytearray) -> str:
    kind, start = data[12:16], data[20:25]
    if kind == b"VP8L" and start[:1] == b"\x2f" and start[4] >> 5:
        return "a later version of lossless WebP"
    return "a later version of WebP" if kind == b"VP8 " and start[0] >> 1 & 7 > 3 else ""


def _heif(data: bytes | bytearray) -> str:
    kinds = boxes.Images(data).kinds()
    if kinds & _READ:
        return ""
    return next((f"coded as {words}" for kind, words in _CODECS.items() if kind in kinds), "")


_KINDS: dict[str, Callable[[bytes | bytearray], str]] = {
    "jpeg": _jpeg,
    "png": _png,
    "bmp": _bmp,
    "webp": _webp,
    "heic": _heif,
    "avif": _heif,
}
