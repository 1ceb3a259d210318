"""The boxes of a HEIC or AVIF: its images, what they refer to, what is said of each; walked within bounds."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

Property = tuple[bytes, memoryview]
"""A kind of four letters, and the content."""
_Fields = tuple[memoryview, int]
"""Numbers of properties one behind the other, and how many bytes each has."""

_MOST = 4096  # boxes: a file made of tiny ones must not cost seconds
_MOST_ITEMS = 65_536
_BEGINNING = 4096  # bytes of a coded image


class Images:
    """The images in a file; where boxes are malformed, less is known of them."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)
        self._meta = _first(self._data, b"meta")[4:]
        body = _first(self._meta, b"pitm")
        self.primary = number(body[4:6] if _version(body) == 0 else body[4:8])
        self._references = list(_references(_first(self._meta, b"iref")))
        described = _first(self._meta, b"iprp")
        self._properties = list(_boxes(_first(described, b"ipco")))
        self._described = described

    def kinds(self) -> set[bytes]:
        """Return how the images are coded, each by four letters, and what else the file has as an item."""
        body = _first(self._meta, b"iinf")
        entries = _boxes(body[6 if _version(body) == 0 else 8 :])
        # ISO/IEC 14496-12, 8.11.6: before the kind are the number of the item and that of its protection.
        return {
            bytes(entry[8:12] if _version(entry) == 2 else entry[10:14])
            for kind, entry in entries
            if kind == b"infe"
        }

    def referred(self, kind: bytes, image: int) -> int | None:
        """Return the first image to which one refers so."""
        return next((to for one, source, to in self._references if (one, source) == (kind, image)), None)

    def referring(self, kind: bytes, image: int) -> list[int]:
        """Return the images that refer so to one, first of all."""
        return [source for one, source, to in self._references if (one, to) == (kind, image)]

    def properties(self, image: int) -> list[Property]:
        """Return what is said of an image, in the order in which it is to be applied."""
        numbers = (n for fields, width in self._associations.get(image, ()) for n in _numbers(fields, width))
        return [self._properties[n - 1] for n in numbers if 0 < n <= len(self._properties)]

    @cached_property
    def _associations(self) -> Mapping[int, Sequence[_Fields]]:
        """For each image the numbers of its properties, read once: a file may ask for thousands of images."""
        found: defaultdict[int, list[_Fields]] = defaultdict(list)
        for kind, body in _boxes(self._described):
            if kind == b"ipma":
                for image, fields in _associated(body).items():
                    found[image].append(fields)
        return found

    def beginning(self, image: int) -> bytes:
        """Return the first bytes of a coded image (ISO/IEC 14496-12, 8.11.3)."""
        inside, start, size = _place(_first(self._meta, b"iloc"), image)
        data = _first(self._meta, b"idat") if inside else self._data
        return bytes(data[start : start + min(size or _BEGINNING, _BEGINNING)])


def number(field: bytes | bytearray | memoryview) -> int:
    """Return the number in a field, 0 if it lies behind the end."""
    return int.from_bytes(field)


def _version(body: memoryview) -> int:
    return number(body[:1])


def _boxes(data: memoryview) -> Iterator[Property]:
    """Walk the boxes of one level: size, kind, content (ISO/IEC 14496-12, 4.2)."""
    at = 0
    for _ in range(_MOST):
        size, head = number(data[at : at + 4]), 8
        if size == 1:
            size, head = number(data[at + 8 : at + 16]), 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + head > len(data):
            return
        yield bytes(data[at + 4 : at + 8]), data[at + head : at + size]
        at += size


def _first(data: memoryview, wanted: bytes) -> memoryview:
    return next((body for kind, body in _boxes(data) if kind == wanted), data[:0])


def _references(iref: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Walk the references between images: their kind, from which, and the first to which they lead."""
    width = 2 if _version(iref) == 0 else 4
    for kind, body in _boxes(iref[4:]):
        yield kind, number(body[:width]), number(body[width + 2 : 2 * width + 2])


def _associated(ipma: memoryview) -> Mapping[int, _Fields]:
    """Return what a box associates with each image, where it names one for the first time."""
    id_width = 2 if _version(ipma) == 0 else 4
    width = 2 if number(ipma[3:4]) & 1 else 1
    found: dict[int, _Fields] = {}
    at = 8
    for _ in range(min(number(ipma[4:8]), _MOST_ITEMS)):
        image, count = number(ipma[at : at + id_width]), number(ipma[at + id_width : at + id_width + 1])
        at += id_width + 1
        if at > len(ipma):
            break
        found.setdefault(image, (ipma[at : at + width * count], width))
        at += width * count
    return found


def _numbers(fields: memoryview, width: int) -> Sequence[int]:
    """Return the numbers of properties in fields of that width, from 1 on (ISO/IEC 23008-12, 9.3)."""
    essential = 1 << 8 * width - 1
    return [number(fields[n : n + width]) & ~essential for n in range(0, len(fields), width)]


def _place(iloc: memoryview, wanted: int) -> tuple[bool, int, int]:
    """Return whether an image's first part lies within the boxes, where it begins, and its length or 0."""
    version, sizes = _version(iloc), number(iloc[4:6])
    to_start, to_length, to_base, to_index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    to_index = to_index if version in (1, 2) else 0
    id_width = 2 if version < 2 else 4
    at = 6 + id_width
    for _ in range(min(number(iloc[6:at]), _MOST_ITEMS)):
        image = number(iloc[at : at + id_width])
        at += id_width
        inside = version > 0 and number(iloc[at : at + 2]) & 15 == 1
        at += 4 if version > 0 else 2
        start = number(iloc[at : at + to_base])
        at += to_base
        parts = number(iloc[at : at + 2])
        at += 2
        if at > len(iloc):
            break
        if image == wanted:
            start += number(iloc[at + to_index : at + to_index + to_start])
            at += to_index + to_start
            return inside, start, number(iloc[at : at + to_length])
        at += parts * (to_index + to_start + to_length)
    return False, 0, 0
