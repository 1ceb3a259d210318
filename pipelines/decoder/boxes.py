"""The boxes of a HEIC or AVIF: its images, what they refer to, what is said of each; walked within bounds."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

Property = tuple[bytes, memoryview]
"""A kind of four letters, and the content."""

# A file made of tiny parts must not cost seconds. Cameras and grids have some hundred items at most.
_MOST_BOXES = 4096  # of one level
_MOST_ITEMS = 1000
_MOST_ASSOCIATIONS = 8192  # of items with their properties, altogether
_BEGINNING = 4096  # bytes of a coded image


@dataclass(frozen=True)
class Associated:
    """The numbers of an item's properties, from 1 on."""

    item: int
    fields: memoryview
    width: int
    again: bool
    """Whether the same box had others for it before, which count instead."""

    def __len__(self) -> int:
        return len(self.fields) // self.width

    def __iter__(self) -> Iterator[int]:
        essential = 1 << 8 * self.width - 1
        for at in range(0, len(self.fields), self.width):
            yield number(self.fields[at : at + self.width]) & ~essential

    def forget(self, unwanted: Collection[int]) -> None:
        """Put another number in the place of these: beside 0, which means none, libheif sees no other."""
        width, numbers = self.width, list(self)
        kept = next((n * width for n, one in enumerate(numbers) if one not in unwanted), None)
        other = bytes(width) if kept is None else bytes(self.fields[kept : kept + width])
        for n, one in enumerate(numbers):
            if one in unwanted:
                self.fields[n * width : (n + 1) * width] = other[: len(self.fields) - n * width]


@dataclass(frozen=True)
class FirstPart:
    """Where the first part of an item lies: within the box `idat` or anywhere in the file."""

    item: int
    within: bool
    start: int
    length: int
    parts: int
    """How many there are; where neither place nor length is told they take no bytes."""
    bytes: int
    """Those of all parts together; of parts whose length is not told, none."""


class Images:
    """The images in a file; where boxes are malformed, less is known of them."""

    def __init__(self, data: bytes | bytearray) -> None:
        self._data = memoryview(data)
        self._meta = _first(self._data, b"meta")[4:]
        body = _first(self._meta, b"pitm")
        self.primary = number(body[4:6] if _version(body) == 0 else body[4:8])
        self._references = list(_references(_first(self._meta, b"iref")))
        self._described = _first(self._meta, b"iprp")
        self._properties = list(walk(_first(self._described, b"ipco")))

    def kinds(self) -> set[bytes]:
        """Return how the images are coded, each by four letters, and what else the file has as an item."""
        entries = items(_first(self._meta, b"iinf"))
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
        """Return the images that refer so to one, first of all, each once."""
        found = (source for one, source, to in self._references if (one, to) == (kind, image))
        return list(dict.fromkeys(found))

    def properties(self, image: int) -> list[Property]:
        """Return what is said of an image, in the order in which it is to be applied."""
        numbers = self._associations.get(image, ())
        return [self._properties[n - 1] for n in numbers if 0 < n <= len(self._properties)]

    @cached_property
    def _associations(self) -> Mapping[int, Sequence[int]]:
        """For each image the numbers of its properties, read once: a file may ask for thousands of images."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        left = _MOST_ASSOCIATIONS
        for associated in islice(associations(self._described), _MOST_ITEMS):
            if not associated.again:
                found[associated.item] += islice(associated, left)
                left = max(0, left - len(associated))
        return found

    def forget(self, kinds: Collection[bytes], images: Collection[int]) -> None:
        """Let properties of these kinds be those of these images no more, in data that can be changed."""
        unwanted = {n for n, (kind, _) in enumerate(self._properties, 1) if kind in kinds}
        for associated in islice(associations(self._described), _MOST_ITEMS):
            if associated.item in images:
                associated.forget(unwanted)

    def beginning(self, image: int) -> bytes:
        """Return the first bytes of a coded image (ISO/IEC 14496-12, 8.11.3)."""
        named = islice(places(_first(self._meta, b"iloc")), _MOST_ITEMS)
        part = next((part for part in named if part.item == image), None)
        if part is None:
            return b""
        data = _first(self._meta, b"idat") if part.within else self._data
        return bytes(data[part.start : part.start + min(part.length or _BEGINNING, _BEGINNING)])


def number(field: bytes | bytearray | memoryview) -> int:
    """Return the number in a field, 0 if it lies behind the end."""
    return int.from_bytes(field)


def _version(body: memoryview) -> int:
    return number(body[:1])


def walk(data: memoryview) -> Iterator[Property]:
    """Walk the boxes of one level: size, kind, content (ISO/IEC 14496-12, 4.2)."""
    at = 0
    for _ in range(_MOST_BOXES):
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
    return next((body for kind, body in walk(data) if kind == wanted), data[:0])


def _references(iref: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Walk the references between images: their kind, from which, and the first to which they lead."""
    width = 2 if _version(iref) == 0 else 4
    for kind, body in walk(iref[4:]):
        yield kind, number(body[:width]), number(body[width + 2 : 2 * width + 2])


def references(iref: memoryview) -> Iterator[int]:
    """Walk the references between items: to how many each leads, at least to one."""
    width = 2 if _version(iref) == 0 else 4
    for _, body in walk(iref[4:]):
        yield max(1, min(number(body[width : width + 2]), len(body) // width))


def derived(iref: memoryview) -> Iterator[int]:
    """Walk the items of which others, such as grids, are made: each as often as it is named."""
    width = 2 if _version(iref) == 0 else 4
    for kind, body in walk(iref[4:]):
        if kind == b"dimg":
            named = body[width + 2 : width + 2 + width * number(body[width : width + 2])]
            yield from (number(named[at : at + width]) for at in range(0, len(named), width))


def items(iinf: memoryview) -> Iterator[Property]:
    """Walk the boxes that tell what the items are."""
    return walk(iinf[6 if _version(iinf) == 0 else 8 :])


def associations(iprp: memoryview) -> Iterator[Associated]:
    """Walk the items with properties (ISO/IEC 23008-12, 9.3)."""
    for kind, ipma in walk(iprp):
        seen: set[int] = set()
        id_width = 2 if _version(ipma) == 0 else 4
        width = 2 if number(ipma[3:4]) & 1 else 1
        at = 8
        for _ in range(number(ipma[4:8]) if kind == b"ipma" else 0):
            item, count = number(ipma[at : at + id_width]), number(ipma[at + id_width : at + id_width + 1])
            at += id_width + 1
            if at > len(ipma):
                break
            yield Associated(item, ipma[at : at + width * count], width, item in seen)
            seen.add(item)
            at += width * count


def places(iloc: memoryview) -> Iterator[FirstPart]:
    """Walk the items with the place of their first part (ISO/IEC 14496-12, 8.11.3)."""
    version, sizes = _version(iloc), number(iloc[4:6])
    to_start, to_length, to_base, to_index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    to_index = to_index if version in (1, 2) else 0
    id_width = 2 if version < 2 else 4
    at = 6 + id_width
    for _ in range(number(iloc[6:at])):
        item = number(iloc[at : at + id_width])
        at += id_width
        within = version > 0 and number(iloc[at : at + 2]) & 15 == 1
        at += 4 if version > 0 else 2
        base = number(iloc[at : at + to_base])
        at += to_base
        parts = number(iloc[at : at + 2])
        at += 2
        if at > len(iloc):
            break
        start = base + number(iloc[at + to_index : at + to_index + to_start])
        end = at + to_index + to_start
        step = to_index + to_start + to_length
        parts = min(parts, (len(iloc) - at) // step) if step else parts
        length = number(iloc[end : end + to_length])
        ends = range(end, end + parts * step, step) if step and to_length else ()
        yield FirstPart(
            item, within, start, length, parts, sum(number(iloc[n : n + to_length]) for n in ends)
        )
        at += parts * step
