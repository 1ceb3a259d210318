"""Colour that a file gives by number: coding-independent code points (ITU-T H.273) of PNG, HEIC and AVIF."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pipelines.decoder import bitstreams, png
from pipelines.decoder.boxes import Images, Property, number

REFERENCE_WHITE = 203.0  # cd/m2: ITU-R BT.2408, 2.2
_USUAL_PEAK = 1000.0  # cd/m2: that of the displays on which HDR pictures are graded
_HIGHEST = 10_000.0  # cd/m2: SMPTE ST 2084
_PER_CANDELA = 10_000  # units of 0.0001 cd/m2
_MOST_TAGS = 100  # of a profile, as in lcms
_MOST = 4096  # chunks: a file made of tiny ones must not cost seconds

# H.273, tables 2 and 3. What says BT.601 or BT.709 is shown as sRGB: phones and encoders mean no other.
PQ, HLG, LINEAR = 16, 18, 8
_BT709, _BT2020 = 1, 9
_PRIMARIES = {1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22}
_LIKE_BT709 = {1, 5, 6, 7, 22}
_TRANSFERS = {1, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18}
_BT709_CURVE = 1
_LIKE_BT709_CURVE = {1, 6, 7, 11, 12, 14, 15}
_SRGB = 13
_MATRICES = {*range(15)} - {3}
_UNSPECIFIED = b"\0\2"

TRANSFORMS = (b"irot", b"imir", b"clap")

_NARROW = 0  # the flag of PNG for levels that leave room below black and above white


@dataclass(frozen=True)
class Code:
    """Primaries and transfer of a picture by their numbers; whatever is shown like sRGB has its numbers."""

    primaries: int
    transfer: int
    full: bool = True
    """Whether black and white are the smallest and largest samples as they are handed over."""
    peak: float = _USUAL_PEAK
    """The brightest light in the picture, in cd/m2."""

    @property
    def is_hdr(self) -> bool:
        return self.transfer in (PQ, HLG)

    @property
    def is_srgb(self) -> bool:
        return self.full and self.primaries == _BT709 and self.transfer == _SRGB

    @property
    def needs_depth(self) -> bool:
        """Say whether eight bits are too few to keep shadows apart."""
        return self.is_hdr or self.transfer == LINEAR


Levels = Literal["full", "narrow grey", "narrow RGB"]


@dataclass(frozen=True)
class Boxes:
    """What the boxes of a HEIC or AVIF say of the primary image's colour."""

    code: Code | None = None
    premultiplied: bool = False
    opacity_lies_otherwise: bool = False
    """Whether only one of colour and opacity is to be turned, mirrored or cropped, as libavif writes them:
    libheif would do so."""
    density: float = 3.0
    """How many samples of colour an AVIF stores for each pixel."""
    levels: Levels = "full"
    """Which levels an AVIF's decoder hands over as they are stored."""
    size: tuple[int, int] = (0, 0)
    """Width and height before anything is cropped away or turned; 0 where no box says it."""


def named(primaries: int, transfer: int) -> Code | None:
    """Return what two numbers mean, None if neither of them says anything."""
    if primaries not in _PRIMARIES and transfer not in _TRANSFERS:
        return None
    if primaries not in _PRIMARIES:
        primaries = _BT2020 if transfer in (PQ, HLG) else _BT709
    primaries = _BT709 if primaries in _LIKE_BT709 else primaries
    if transfer in _LIKE_BT709_CURVE:
        transfer = _SRGB if primaries == _BT709 else _BT709_CURVE
    return Code(primaries, transfer if transfer in _TRANSFERS else _SRGB)


def of_png(data: bytearray) -> Code | None:
    """Return what a PNG's cICP chunk says (PNG, third edition, 11.3.2.6), None without a usable one."""
    chunks: dict[bytes, bytes] = {}
    for kind, body in _before_pixels(data):
        chunks.setdefault(kind, body)
    numbers = chunks.get(b"cICP", b"")
    if len(numbers) != 4 or numbers[2] != 0:  # RGB has no matrix
        return None
    code = named(numbers[0], numbers[1])
    if code is None:
        return None
    content, mastering = chunks.get(b"cLLI", b""), chunks.get(b"mDCV", b"")
    peak = _peak(number(content[0:4]) / _PER_CANDELA, number(mastering[16:20]) / _PER_CANDELA)
    return replace(code, full=numbers[3] != _NARROW, peak=peak)


def _before_pixels(data: bytearray) -> Iterator[tuple[bytes, bytes]]:
    for _, (start, end, kind) in zip(range(_MOST), png.chunks(data), strict=False):
        if kind == b"IDAT":
            return
        if kind in (b"cICP", b"cLLI", b"mDCV") and end - start < 64:
            chunk = bytes(data[start + 4 : end])
            if zlib.crc32(chunk[:-4]) == number(chunk[-4:]):
                yield kind, chunk[4:-4]


def of_profile(profile: bytes) -> Code | None:
    """Return numbers in an ICC profile (ICC.1:2022, 9.2.17) where they say PQ or HLG, which itself cannot."""
    entries = profile[132 : 132 + 12 * min(number(profile[128:132]), _MOST_TAGS)]
    at = next((n for n in range(0, len(entries), 12) if entries[n : n + 4] == b"cicp"), None)
    if at is None:
        return None
    place = number(entries[at + 4 : at + 8])
    tag = profile[place : place + 12]
    code = named(tag[8], tag[9]) if tag[:4] == b"cicp" and len(tag) == 12 else None
    return code if code is not None and code.is_hdr else None


def _peak(content: float, mastering: float) -> float:
    """Return the first that can be true: HDR is brighter than white, and no display than 10,000 cd/m2."""
    said = (light for light in (content, mastering) if REFERENCE_WHITE <= light <= _HIGHEST)
    return next(said, _USUAL_PEAK)


def of_boxes(data: bytes | bytearray) -> Boxes:
    """Return what boxes say of the primary image (ISO/IEC 23008-12, 6 and 9); malformed ones say nothing."""
    images = Images(data)
    described = images.properties(images.primary)
    turned = transforms(described)
    beside = [images.properties(one) for one in opacity(images)]
    tile = images.referred(b"dimg", images.primary)
    if tile is not None:  # what is not said of the whole grid
        described = described + images.properties(tile)
    kinds = dict(reversed(described))
    boxed = _numbers(described)
    coded = boxed or _coded(images, tile or images.primary, kinds)
    return Boxes(
        code=_meant(coded if boxed or b"colr" not in kinds else None, described),
        premultiplied=images.referred(b"prem", images.primary) is not None,
        opacity_lies_otherwise=any(transforms(one) != turned for one in beside),
        density=_density(kinds),
        levels=_levels(coded, kinds),
        size=_size(kinds),
    )


def _size(kinds: Mapping[bytes, memoryview]) -> tuple[int, int]:
    """Return what `ispe` says (ISO/IEC 23008-12, 6.5.3)."""
    extents = kinds.get(b"ispe", memoryview(b""))
    return number(extents[4:8]), number(extents[8:12])


def opacity(images: Images) -> list[int]:
    """Return the images that are the opacity of the primary one."""
    return [one for one in images.referring(b"auxl", images.primary) if _is_opacity(images.properties(one))]


def _levels(coded: bitstreams.Numbers | None, kinds: Mapping[bytes, memoryview]) -> Levels:
    if coded is None or coded.full or b"av1C" not in kinds:
        return "full"
    if number(kinds[b"av1C"][2:3]) >> 4 & 1:
        return "narrow grey"
    return "narrow RGB" if coded.matrix == 0 else "full"


def _density(kinds: Mapping[bytes, memoryview]) -> float:
    """Return what `av1C` says of subsampling (AV1 Codec ISO Media File Format Binding, 2.3.3)."""
    flags = number(kinds[b"av1C"][2:3]) if b"av1C" in kinds else 0
    return 1 + 2 / ((1 + (flags >> 3 & 1)) * (1 + (flags >> 2 & 1)))


def without_reserved(data: bytes) -> bytes:
    """Return a HEIC in which numbers that H.273 reserves are unspecified: libheif refuses them."""
    mended, at = bytearray(data), -1
    for _ in range(_MOST):
        at = mended.find(b"colrnclx", at + 1)
        if at < 0 or at + 14 > len(mended):
            break
        for place, known in ((at + 8, _PRIMARIES), (at + 10, _TRANSFERS | {9, 10}), (at + 12, _MATRICES)):
            if number(mended[place : place + 2]) not in known:
                mended[place : place + 2] = _UNSPECIFIED
    return bytes(mended)


def transforms(properties: list[Property]) -> list[Property]:
    """Return those properties that turn, mirror or crop."""
    return [(kind, body) for kind, body in properties if kind in TRANSFORMS]


def _is_opacity(properties: list[Property]) -> bool:
    # The first is that of every codec, the second HEVC's own: ISO/IEC 23008-12, 6.9 and B.2.
    names = (b":auxiliary:alpha", b":auxid:1\0")
    return any(name in bytes(body[:128]) for kind, body in properties if kind == b"auxC" for name in names)


def _numbers(described: list[Property]) -> bitstreams.Numbers | None:
    boxes = (body for kind, body in described if kind == b"colr" and bytes(body[:4]) == b"nclx")
    body = next(boxes, None)
    if body is None:
        return None
    full = bool(number(body[10:11]) >> 7)
    return bitstreams.Numbers(number(body[4:6]), number(body[6:8]), number(body[8:10]), full)


def _coded(images: Images, image: int, kinds: Mapping[bytes, memoryview]) -> bitstreams.Numbers | None:
    """Return the numbers inside the coded image, which count where no box has any."""
    if b"hvcC" in kinds:
        return bitstreams.of_hevc(bytes(kinds[b"hvcC"][:4096]))
    if b"av1C" in kinds:
        return bitstreams.of_av1(bytes(kinds[b"av1C"][4:4096]) + images.beginning(image))
    return None


def _meant(numbers: bitstreams.Numbers | None, described: list[Property]) -> Code | None:
    code = named(numbers.primaries, numbers.transfer) if numbers else None
    if code is None or code.is_srgb:
        return None
    content = next((number(body[0:2]) for kind, body in described if kind == b"clli"), 0)
    mastering = next((number(body[16:20]) for kind, body in described if kind == b"mdcv"), 0)
    return replace(code, peak=_peak(content, mastering / _PER_CANDELA))
