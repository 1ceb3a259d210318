"""Plain JPEGs, decoded by libjpeg-turbo alone: the very pixels that libvips hands over, in less time.

It also scales down to five eighths, where libvips knows a half and the whole. libvips does all of it where a
file is unusual in any way, where libjpeg-turbo complains of anything, where the pixels would take much
memory, and where simplejpeg is not installed: it is an extra.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.decoder import jpeg, pixel_memory
from pipelines.decoder.picture import Image, ImageInMemory
from pipelines.formats import MIB

try:  # after NumPy, which it needs, was loaded with one thread
    import simplejpeg as _library
except ImportError:
    _library = None

MOST_PIXELS = 24 * MIB  # bytes of them: libvips needs a tenth of the memory, and a tenth more time
WHOLE = 8  # eighths
FIVE = 5  # eighths: to decode to so many takes a fifth longer than to all, what follows takes less
_MANY = 18 * MIB  # bytes of pixels, above which both together take no longer

# ITU T.81, table B.1.
_END, _SCAN = b"\xff\xd9", 0xDA
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1), 0xC2
_OTHERS = {0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE}  # tables, restart intervals, APPn, comments
_EXIF, _PROFILE = 0xE1, 0xE2
_MOST_SEGMENTS, _MOST_SCANS, _MOST_FIELDS, _MOST_PARTS = 200, 20, 200, 9
_ORIENTATION, _SHORT = 0x0112, 3  # TIFF 6.0: a tag, and a type of field
_LEAST_SIDE = 16  # pixels: of a smaller picture simplejpeg may take a scaled one for it
_COLOURS = {1: ("Gray", "GRAY", "b-w"), 3: ("YCbCr", "RGB", "srgb")}
# Of brightness, where both colours have 1x1: 4:4:4, 4:2:2, 4:4:0, 4:2:0, 4:1:1; simplejpeg names no others.
_SAMPLINGS = (0x11, 0x21, 0x12, 0x22, 0x41)
_SHORTEST_PROFILE = 15  # bytes of a segment: libvips passes over shorter ones


class _Unusual(Exception):
    """The file may be a good picture, but not one whose markers leave no doubt."""


@dataclass(frozen=True)
class Header:
    """What the markers before the first scan say."""

    width: int
    height: int
    components: int
    orientation: int
    profile: bytes | None

    def pixels(self, eighths: int) -> int:
        """Bytes of the pixels, scaled down to that."""
        width, height = self.scaled(eighths)
        return width * height * self.components

    def scaled(self, eighths: int) -> tuple[int, int]:
        """Width and height, scaled down to that; the last row and column may be half of one."""
        return -(-self.width * eighths // WHOLE), -(-self.height * eighths // WHOLE)


def version() -> str:
    """Its name and version, empty where it is not installed."""
    return f"simplejpeg {_library.__version__}" if _library else ""


def read(data: bytearray) -> Header | None:
    """Return the header of a plain JPEG, and None for any other file, also for one that is damaged."""
    if _library is None or data[:2] != b"\xff\xd8":
        return None
    try:
        header = _read(data)
        height, width, colours, _ = _library.decode_jpeg_header(data)
    except (_Unusual, LookupError, ValueError):
        return None
    is_same = (width, height, colours) == (header.width, header.height, _COLOURS[header.components][0])
    return header if is_same and min(width, height) >= _LEAST_SIDE else None


def eighths(header: Header, shrink: float, by: int) -> int:
    """How many are decoded of a picture that is to become smaller by `shrink`; libvips divides it `by` that.

    Five, which libvips does not know, where just these are wanted, or all pixels would take much memory.
    """
    usual, least = WHOLE // by, WHOLE / shrink
    narrow = min(header.width, header.height) * FIVE < _LEAST_SIDE * WHOLE
    if usual < WHOLE or least > FIVE or narrow:
        return usual
    return FIVE if least == FIVE or header.pixels(WHOLE) > _MANY else WHOLE


def decode(data: bytearray, header: Header, eighths: int, *, coarse: bool = False) -> Image | None:
    """Return the pixels, scaled down to that; None where libvips is to decode or refuse the picture.

    They are good until the next picture is decoded. Colours that are stored at half the size are repeated if
    `coarse`; to pass from each to the next takes longer.
    """
    width, height = header.scaled(eighths)
    size = header.pixels(eighths)
    if size > MOST_PIXELS:
        return None
    pixels = pixel_memory.take(size, turned=header.orientation > 1)
    if pixels is None:
        return None
    _, format, meaning = _COLOURS[header.components]
    try:
        found = _library.decode_jpeg(
            data, format, fastupsample=coarse, min_height=height, min_width=width, buffer=pixels
        )
    except ValueError:
        pixel_memory.give_back()  # before libvips takes memory of its own
        return None
    if found.shape != (height, width, header.components):
        return None
    image = ImageInMemory(pixels, width, height, header.components, "uchar", meaning)
    whole = header.width * eighths // WHOLE, header.height * eighths // WHOLE
    return image if whole == (width, height) else image.crop(0, 0, *whole)  # as libvips does


def _read(data: bytearray) -> Header:
    frame, kind = b"", 0
    orientations: list[int] = []
    profile: list[bytes] = []
    for marker, start, end in _segments(data):
        if marker in (*_SEQUENTIAL, _PROGRESSIVE):
            if frame:
                raise _Unusual
            frame, kind = bytes(data[start:end]), marker
        elif marker == _EXIF and data.startswith(b"Exif", start):
            orientations.append(_orientation(bytes(data[start:end])))
        elif marker == _PROFILE and data.startswith(b"ICC_PROFILE", start):
            if data[start + 11] != 0 or end - start < _SHORTEST_PROFILE:
                raise _Unusual
            profile.append(bytes(data[start + 12 : end]))
        elif marker == _SCAN:
            _check_scans(data, end, kind == _PROGRESSIVE, data[start] == len(frame[6::3]))
    if len(orientations) > 1 or len(frame) < 9 or frame[0] != 8 or frame[5] not in _COLOURS:
        raise _Unusual
    if len(frame) != 6 + 3 * frame[5]:
        raise _Unusual
    if frame[5] == 3 and (frame[7] not in _SAMPLINGS or frame[10] != 0x11 or frame[13] != 0x11):
        raise _Unusual
    return Header(
        width=int.from_bytes(frame[3:5]),
        height=int.from_bytes(frame[1:3]),
        components=frame[5],
        orientation=orientations[0] if orientations else 1,
        profile=_joined(profile),
    )


def _segments(data: bytearray) -> Iterator[tuple[int, int, int]]:
    """Markers up to the first scan's, with where their segments begin and end."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        end = at + 2 + length
        known = marker == _SCAN or marker in (*_SEQUENTIAL, _PROGRESSIVE) or marker in _OTHERS
        if data[at] != 0xFF or not known or length < 3 or end > len(data):
            raise _Unusual
        yield marker, at + 4, end
        if marker == _SCAN:
            return
        at = end
    raise _Unusual


def _check_scans(data: bytearray, at: int, progressive: bool, all_components: bool) -> None:
    """Behind the only scan comes an end marker; behind a progressive file's, which are few, nothing else."""
    if not data.endswith(_END) and (progressive or data.find(_END, at) < 0):
        raise _Unusual
    if not (progressive or all_components):
        raise _Unusual
    if progressive and jpeg.count_scans(data) > _MOST_SCANS:
        raise _Unusual


def _orientation(exif: bytes) -> int:
    """What EXIF says of it, 1 where it says nothing."""
    order = {b"Exif\0\0II*\0": "little", b"Exif\0\0MM\0*": "big"}.get(exif[:10])
    if order is None:
        raise _Unusual

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)  # type: ignore[arg-type]

    first = 6 + number(10, 4)
    count = number(first, 2)
    if first < 14 or not 0 < count <= _MOST_FIELDS or first + 2 + 12 * count > len(exif):
        raise _Unusual
    fields = [at for at in range(first + 2, first + 2 + 12 * count, 12) if number(at, 2) == _ORIENTATION]
    if not fields:
        return 1
    if len(fields) > 1 or number(fields[0] + 2, 2) != _SHORT or number(fields[0] + 4, 4) != 1:
        raise _Unusual
    value = number(fields[0] + 8, 2)
    return value if 1 <= value <= 8 else 1


def _joined(parts: list[bytes]) -> bytes | None:
    """A profile of its parts, each behind its number and how many there are (ICC.1, B.4)."""
    if len(parts) > _MOST_PARTS:
        raise _Unusual
    if any(part[:2] != bytes((number, len(parts))) for number, part in enumerate(parts, 1)):
        raise _Unusual
    return b"".join(part[2:] for part in parts) or None
