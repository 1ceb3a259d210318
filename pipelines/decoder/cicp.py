"""Colour that a file gives by number: coding-independent code points (ITU-T H.273) of PNG, HEIC and AVIF."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipelines.decoder import png

REFERENCE_WHITE = 203.0  # cd/m2: ITU-R BT.2408, 2.2
_USUAL_PEAK = 1000.0  # cd/m2: that of the displays on which HDR pictures are graded
_HIGHEST = 10_000.0  # cd/m2: SMPTE ST 2084
_PER_CANDELA = 10_000  # units of 0.0001 cd/m2
_MOST = 4096  # boxes, chunks or references: a file made of tiny ones must not cost seconds
_MOST_ITEMS = 65_536

# H.273, tables 2 and 3. What says BT.601 or BT.709 is shown as sRGB: phones and encoders mean no other.
PQ, HLG, LINEAR = 16, 18, 8
_BT709, _UNSPECIFIED, _BT2020 = 1, 2, 9
_PRIMARIES = {1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 22}
_LIKE_BT709 = {1, 5, 6, 7, 22}
_TRANSFERS = {1, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18}
_BT709_CURVE = 1
_LIKE_BT709_CURVE = {1, 6, 7, 11, 12, 14, 15}
_SRGB = 13

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


@dataclass(frozen=True)
class Boxes:
    """What the boxes of a HEIC or AVIF say of the primary image's colour."""

    code: Code | None = None
    premultiplied: bool = False


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
    peak = _peak(_number(content[0:4]) / _PER_CANDELA, _number(mastering[16:20]) / _PER_CANDELA)
    return replace(code, full=numbers[3] != _NARROW, peak=peak)


def _before_pixels(data: bytearray) -> Iterator[tuple[bytes, bytes]]:
    for _, (start, end, kind) in zip(range(_MOST), png.chunks(data), strict=False):
        if kind == b"IDAT":
            return
        if kind in (b"cICP", b"cLLI", b"mDCV") and end - start < 64:
            chunk = bytes(data[start + 4 : end])
            if zlib.crc32(chunk[:-4]) == _number(chunk[-4:]):
                yield kind, chunk[4:-4]


def _peak(content: float, mastering: float) -> float:
    """Return the first that can be true: HDR is brighter than white, and no display than 10,000 cd/m2."""
    said = (light for light in (content, mastering) if REFERENCE_WHITE <= light <= _HIGHEST)
    return next(said, _USUAL_PEAK)


def of_boxes(data: bytes | bytearray) -> Boxes:
    """Return what boxes say of the primary image (ISO/IEC 23008-12, 6 and 9); malformed ones say nothing."""
    meta = _first(memoryview(data), b"meta")[4:]
    primary = _primary(meta)
    references = dict(_references(_first(meta, b"iref")))
    properties = _properties(meta)
    described = _described(meta, properties, primary)
    if not any(kind == b"colr" for kind, _ in described):
        # The tiles of a grid may say it instead.
        described += _described(meta, properties, references.get((b"dimg", primary), 0))
    return Boxes(_code(described), premultiplied=(b"prem", primary) in references)


def _code(described: list[tuple[bytes, memoryview]]) -> Code | None:
    numbers = next(
        (body[4:] for kind, body in described if kind == b"colr" and bytes(body[:4]) == b"nclx"), None
    )
    if numbers is None or len(numbers) < 6:
        return None
    code = named(_number(numbers[0:2]), _number(numbers[2:4]))
    if code is None or code.is_srgb:
        return None
    content = next((_number(body[0:2]) for kind, body in described if kind == b"clli"), 0)
    mastering = next((_number(body[16:20]) for kind, body in described if kind == b"mdcv"), 0)
    return replace(code, peak=_peak(content, mastering / _PER_CANDELA))


def _number(field: bytes | memoryview) -> int:
    return int.from_bytes(field)


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Walk the boxes of one level: size, kind, content (ISO/IEC 14496-12, 4.2)."""
    at = 0
    for _ in range(_MOST):
        size, head = _number(data[at : at + 4]), 8
        if size == 1:
            size, head = _number(data[at + 8 : at + 16]), 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + head > len(data):
            return
        yield bytes(data[at + 4 : at + 8]), data[at + head : at + size]
        at += size


def _first(data: memoryview, wanted: bytes) -> memoryview:
    return next((body for kind, body in _boxes(data) if kind == wanted), data[:0])


def _primary(meta: memoryview) -> int:
    body = _first(meta, b"pitm")
    return _number(body[4:6]) if _number(body[:1]) == 0 else _number(body[4:8])


def _references(iref: memoryview) -> Iterator[tuple[tuple[bytes, int], int]]:
    """Walk the references between items: their kind and from which, and the first to which they lead."""
    width = 2 if _number(iref[:1]) == 0 else 4
    for kind, body in _boxes(iref[4:]):
        yield (kind, _number(body[:width])), _number(body[width + 2 : 2 * width + 2])


def _properties(meta: memoryview) -> list[tuple[bytes, memoryview]]:
    return list(_boxes(_first(_first(meta, b"iprp"), b"ipco")))


def _described(
    meta: memoryview, properties: list[tuple[bytes, memoryview]], item: int
) -> list[tuple[bytes, memoryview]]:
    """Return the properties of one item, in the order in which they are associated with it."""
    found = []
    for kind, body in _boxes(_first(meta, b"iprp")):
        if kind == b"ipma":
            found += [properties[n - 1] for n in _associated(body, item) if 0 < n <= len(properties)]
    return found


def _associated(ipma: memoryview, wanted: int) -> list[int]:
    """Return the numbers of an item's properties, from 1 on (ISO/IEC 23008-12, 9.3)."""
    id_width = 2 if _number(ipma[:1]) == 0 else 4
    width = 2 if _number(ipma[3:4]) & 1 else 1
    at = 8
    for _ in range(min(_number(ipma[4:8]), _MOST_ITEMS)):
        item, count = _number(ipma[at : at + id_width]), _number(ipma[at + id_width : at + id_width + 1])
        at += id_width + 1
        if at > len(ipma):
            break
        if item == wanted:
            numbers = ipma[at : at + width * count]
            essential = 1 << 8 * width - 1
            return [_number(numbers[n : n + width]) & ~essential for n in range(0, len(numbers), width)]
        at += width * count
    return []
