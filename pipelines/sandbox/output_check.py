"""The check of a decoder's output: each variant is the picture it was said to be, from start to end.

The decoder may be hostile. Every check looks at a bounded number of segments and runs in linear time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Self

from pipelines.errors import DecoderCrashed
from pipelines.placeholders import NO_PLACEHOLDER, Kind, Placeholder, parse
from pipelines.recipe import Variant
from pipelines.sandbox.answers import Done, Probed, Written

# Bytes of a variant: at most, in any case, and for each pixel; none comes near what they allow.
_MOST, _LEAST, _A_PIXEL = 64 * 1024 * 1024, 64 * 1024, 4
# JPEG markers: ITU T.81, table B.1. In a scan 0xFF00 is a byte 0xFF, and RST0 to RST7 belong to it.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2})
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# Tables, restart interval, JFIF and Adobe say how to read it. What says who made it, or comes after
# the end, is none of a variant's.
_EXPECTED = frozenset({0xC4, 0xDB, 0xDD, 0xE0, 0xEE, _SOS}) | _START_OF_FRAME
_MOST_PARTS = 256  # segments or boxes; a progressive JPEG of many scans has some fifty
# RFC 9649, 2.5 to 2.7: lossy, lossless, or extended by VP8X and, for opacity, ALPH.
_WEBP_CHUNKS = {(b"VP8 ",), (b"VP8L",), (b"VP8X", b"VP8 "), (b"VP8X", b"ALPH", b"VP8 "), (b"VP8X", b"VP8L")}
_MOST_CHUNKS = 3


@dataclass(frozen=True)
class RenderedVariant:
    """A checked picture: its size in pixels, its file, and the SHA-256 of that."""

    name: str
    width: int
    height: int
    content: bytes
    sha256: str


@dataclass(frozen=True)
class Rendered:
    """A picture's variants, as they were checked."""

    sha256: str
    format: str
    width: int
    height: int
    color: str | None
    variants: Sequence[RenderedVariant]
    ms: Mapping[str, float]
    placeholder: Placeholder = NO_PLACEHOLDER


ReadOutput = Callable[[Sequence[tuple[int, int]]], Sequence[bytes]]
"""Returns a copy of what lies at each of these places (start, length) of a decoder's output."""


def check_output(
    probed: Probed, done: Done, variants: Sequence[Variant], kind: Kind, read: ReadOutput, most: int
) -> Rendered:
    """The variants, if they are what was asked for, in `most` bytes. Raises: DecoderCrashed."""
    if [written.name for written in done.variants] != [variant.name for variant in variants]:
        raise DecoderCrashed("the decoder made other variants than it was asked for")
    for written, variant in zip(done.variants, variants, strict=True):
        _check_claim(written, variant.size_of(probed.width, probed.height))
    _check_places(done.variants, most)
    contents = read([(written.start, written.bytes) for written in done.variants])
    looked_at: dict[tuple[int, str], _Look] = {}  # variants of a small picture are often the same bytes
    checked = []
    for variant, written, content in zip(variants, done.variants, contents, strict=True):
        place = written.start, variant.format
        look = looked_at[place] = looked_at.get(place) or _Look.at(content, variant.format)
        checked.append(_check_content(look, variant, written))
    of_picture = probed.sha256, probed.format, probed.width, probed.height
    return Rendered(*of_picture, done.color, checked, done.ms, _check_placeholder(done, kind))


def _check_placeholder(done: Done, kind: Kind) -> Placeholder:
    try:
        return parse(kind, done.placeholder)
    except ValueError as error:
        raise DecoderCrashed("the decoder made another placeholder than it was asked for") from error


def _check_claim(written: Written, size: tuple[int, int]) -> None:
    """Whether that can be a variant of `size`, before any of it is read. Raises: DecoderCrashed."""
    if (written.width, written.height) != size:
        raise DecoderCrashed("the decoder made a variant of another size than it should have")
    if written.bytes > min(_MOST, _LEAST + _A_PIXEL * size[0] * size[1]):
        raise DecoderCrashed("the decoder made a variant of more bytes than a picture of its size takes")


def _check_places(variants: Sequence[Written], most: int) -> None:
    """Whether all of them are `most` bytes, each beside the others or the same. Raises: DecoderCrashed."""
    places = sorted({(one.start, one.bytes) for one in variants})
    if sum(count for _, count in places) > most:
        raise DecoderCrashed("the decoder made variants of more bytes than its picture may take")
    if any(start + count > following for (start, count), (following, _) in pairwise(places)):
        raise DecoderCrashed("the decoder made variants that overlap")


@dataclass(frozen=True)
class _Look:
    """What there is at one place of an output, whatever a variant is to be."""

    content: bytes
    size: tuple[int, int] | None
    sha256: str

    @classmethod
    def at(cls, content: bytes, output_format: str) -> Self:
        return cls(content, _size_of(content, output_format), sha256(content).hexdigest())


def _check_content(look: _Look, variant: Variant, written: Written) -> RenderedVariant:
    if len(look.content) != written.bytes:
        raise DecoderCrashed("the decoder wrote fewer bytes than it said")
    if look.size != (written.width, written.height):
        raise DecoderCrashed(f"the decoder did not write a {variant.format} of the size it said")
    return RenderedVariant(variant.name, written.width, written.height, look.content, look.sha256)


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
    for _ in range(_MOST_PARTS):
        if at + 4 > len(content) or content[at] != 0xFF:
            return None
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4])
        if marker not in _EXPECTED or length < 2 or (marker in _START_OF_FRAME and size is not None):
            return None
        if marker in _START_OF_FRAME:
            size = int.from_bytes(content[at + 7 : at + 9]), int.from_bytes(content[at + 5 : at + 7])
        at += 2 + length
        if marker == _SOS:
            found = _MARKER.search(content, at)
            at = found.start() if found else len(content)
        if content[at : at + 3] == bytes((0xFF, _EOI)):  # and nothing behind it
            return size
    return None


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP of one picture, its opacity at most, and nothing else to its end."""
    complete = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    if not complete or int.from_bytes(content[4:8], "little") + 8 != len(content):
        return None
    kinds: list[bytes] = []
    sizes: set[tuple[int, int]] = set()
    at = 12
    while at < len(content) and len(kinds) < _MOST_CHUNKS:
        kind, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        body = content[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
        if kind != b"ALPH":
            sizes.add(_webp_chunk_size(kind, body))
        kinds.append(kind)
    # A WebP of several chunks says its size twice.
    if at != len(content) or tuple(kinds) not in _WEBP_CHUNKS or len(sizes) != 1:
        return None
    return sizes.pop()


def _webp_chunk_size(kind: bytes, body: bytes) -> tuple[int, int]:
    match kind:
        case b"VP8 ":
            width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        case b"VP8L":
            bits = int.from_bytes(body[1:5], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case _:
            width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
    return width, height


def _avif_size(content: bytes) -> tuple[int, int] | None:
    """Width and height of an AVIF of one size, without metadata, that ends with its last box.

    Boxes are those of ISO/IEC 14496-12 and 23008-12: the size (`ispe`) is a property of the picture.
    """
    boxes = _boxes(content, 0)
    if boxes is None or content[8:12] != b"avif":
        return None
    kinds = [kind for kind, _ in boxes]
    if kinds[:2] != [b"ftyp", b"meta"] or not set(kinds[2:]) <= {b"mdat", b"free"} or b"mdat" not in kinds:
        return None
    meta = boxes[1][1]
    if any(word in meta for word in (b"Exif", b"mime", b"xml ", b"uri ", b"uuid")):
        return None
    properties = dict(_boxes(dict(_boxes(meta, 4) or ()).get(b"iprp", b""), 0) or ()).get(b"ipco", b"")
    extents = [body for kind, body in _boxes(properties, 0) or () if kind == b"ispe"]
    if len({*extents}) != 1 or len(extents[0]) != 12:
        return None
    return int.from_bytes(extents[0][4:8]), int.from_bytes(extents[0][8:12])


def _boxes(content: bytes, at: int) -> list[tuple[bytes, bytes]] | None:
    """The kinds and bodies of the boxes that fill `content` from `at` to its end, None if they do not."""
    found: list[tuple[bytes, bytes]] = []
    while at < len(content):
        length = int.from_bytes(content[at : at + 4])
        if length < 8 or at + length > len(content) or len(found) == _MOST_PARTS:
            return None
        found.append((content[at + 4 : at + 8], content[at + 8 : at + length]))
        at += length
    return found
