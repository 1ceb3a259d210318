"""The check of what a child wrote: each staged file is the picture it was said to be, from start to end."""

import os
import re
import stat
from hashlib import sha256

from pipelines.errors import DecoderCrashed
from pipelines.recipe import Variant
from pipelines.sandbox.answers import Written

_MAX_BYTES = 64 * 1024 * 1024  # no variant comes near; a larger one is not read into memory
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2})
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# Tables, restart interval, JFIF and Adobe say how to read it. What says who made it, or comes after
# the end, is none of a variant's.
_EXPECTED = frozenset({0xC4, 0xDB, 0xDD, 0xE0, 0xEE, _SOS}) | _START_OF_FRAME


def check_staged(fd: int, variant: Variant, written: Written, size: tuple[int, int]) -> str:
    """The SHA-256 of the staged file, once it has proved to be what `written` says: a picture of `size`.

    Raises: DecoderCrashed.
    """
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode) or facts.st_size != written.bytes or facts.st_size > _MAX_BYTES:
        raise DecoderCrashed("the decoder wrote another number of bytes than it said")
    if (written.width, written.height) != size:
        raise DecoderCrashed("the decoder made a variant of another size than it should have")
    content = os.pread(fd, facts.st_size, 0)
    if _size_of(content, variant.format) != size:
        raise DecoderCrashed(f"the decoder did not write a {variant.format} of the size it said")
    return sha256(content).hexdigest()


def _size_of(content: bytes, output_format: str) -> tuple[int, int] | None:
    match output_format:
        case "jpeg":
            return _jpeg_size(content)
        case "webp":
            return _webp_size(content)
        case _:
            return _avif_size(content)


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG that is complete, carries no metadata, and ends where it should."""
    if content[:2] != bytes((0xFF, _SOI)):
        return None
    size, at = None, 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if marker not in _EXPECTED or (marker in _START_OF_FRAME and size is not None):
            return None
        if marker in _START_OF_FRAME:
            size = int.from_bytes(content[at + 7 : at + 9]), int.from_bytes(content[at + 5 : at + 7])
        at += 2 + length
        if marker == _SOS:
            found = _MARKER.search(content, at)
            at = found.start() if found else len(content)
        if content[at:] == bytes((0xFF, _EOI)):
            return size
    return None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    complete = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    if not complete or int.from_bytes(content[4:8], "little") + 8 != len(content):
        return None
    match content[12:16]:
        case b"VP8 ":
            width, height = (int.from_bytes(content[at : at + 2], "little") & 0x3FFF for at in (26, 28))
            return width, height
        case b"VP8L":
            bits = int.from_bytes(content[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X":
            width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
            return width, height
        case _:
            return None


def _avif_size(content: bytes) -> tuple[int, int] | None:
    extents = content.find(b"ispe")
    if content[4:8] != b"ftyp" or content[8:12] not in (b"avif", b"avis") or extents < 0:
        return None
    return (
        int.from_bytes(content[extents + 8 : extents + 12]),
        int.from_bytes(content[extents + 12 : extents + 16]),
    )
