"""TIFF's directories: one bounded walk to the first full page, and directories of our own in their place.

TIFF 6.0, section 2; BigTIFF has the same with eight bytes where TIFF has two or four.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise
from typing import Literal, NamedTuple

from pipelines.decoder.refusal import corrupt, raw_photo

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANES = 273, 274, 277, 278, 279, 284
PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 317, 320, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, SUBSAMPLING, WHITE, PROFILE, NO_DATA = 338, 339, 530, 318, 34675, 42113
INK_SET, INK_NAMES = 332, 333
SHORT, LONG, LONG8, IFD8 = 3, 4, 16, 18

# Where strips and tiles are, and how large.
PLACES = (STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES)
CHUNKS = (*PLACES, ROWS_PER_STRIP, TILE_WIDTH, TILE_HEIGHT)
# What libtiff decodes a page with; by number: tags of fax, JPEG in both ways, and YCbCr.
DECODED_WITH = frozenset((WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, *CHUNKS))
DECODED_WITH |= {PREDICTOR, SAMPLE_FORMAT, SUBSAMPLING, 292, 293, 347, *range(512, 522), 529, 531, 532}

OLD_JPEG_PLACE = 513, 514  # where it begins, and how large it is
_NEW_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _DIRECTORIES_INSIDE = 254, 255, 330
_WANTED = DECODED_WITH | {ORIENTATION, PLANES, COLOUR_MAP, EXTRA_SAMPLES, INK_SET, INK_NAMES}
_WANTED |= {WHITE, PROFILE, NO_DATA}
_INHERITED = (ORIENTATION, PROFILE)  # by pages inside: TIFF/EP has them with the thumbnail
_WANTED |= {_NEW_SUBFILE_TYPE, _OLD_SUBFILE_TYPE, _DIRECTORIES_INSIDE}

# DNG 1.7 (its version, CFA, LinearRaw), TIFF/EP (CFARepeatPatternDim, CFAPattern), Leaf's own tag; and how
# Kodak, Sony, Epson, Samsung, Panasonic, Nikon and Pentax compress what their sensors see.
_RAW_TAGS = frozenset((50706, 33421, 33422, 34310))
_RAW_PHOTOMETRICS = {32803, 34892}
_RAW_COMPRESSIONS = {262, 32767, 32769, 32770, 32867, 34316, 34713, 34826, 34828, 34830, 65000, 65535}
_RAW_HEADS = (b"CR\x02", b"IIIITwaR", b"MMMMRawT")  # behind the header: Canon, Phase One

_MOST_DIRECTORIES = 64
_MOST_TAGS = 100_000
_MOST_NUMBERS = 3 * 65536
_MAX_EXTRA_TAG_BYTES = 16 * 1024 * 1024
# Bytes of a value by its type: TIFF 6.0, section 2, and from 16 on BigTIFF.
_TAG_BYTES = dict(enumerate((0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)))
# A value's letter for `struct` by its type; from 13 on: IFD, and those of BigTIFF.
_LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I"}
_LETTERS |= {16: "Q", 17: "q", 18: "Q"}


@dataclass(frozen=True, slots=True)
class Entry:
    """A tag's values: of what type, how many, where in the file."""

    kind: int
    count: int
    start: int
    end: int


class NewEntry(NamedTuple):
    """Values that stand in no file yet."""

    kind: int
    content: bytes


Tags = dict[int, Entry | NewEntry]


@dataclass(frozen=True)
class Layout:
    """The fields of a directory, in the file's byte order."""

    order: str
    count: struct.Struct
    entry: struct.Struct
    link: struct.Struct
    endian: Literal["little", "big"]
    first: int  # where the header has the place of the first directory


@dataclass(frozen=True)
class Directory:
    """One page: its tags that matter here."""

    data: bytearray
    layout: Layout
    entries: Mapping[int, Entry]
    next: int
    has_raw_tags: bool

    def content(self, tag: int) -> bytes:
        """Return the bytes of a tag's values, none where the tag or they are missing."""
        entry = self.entries.get(tag)
        return bytes(self.data[entry.start : entry.end]) if entry and entry.end <= len(self.data) else b""

    def numbers(self, tag: int, most: int = _MOST_NUMBERS) -> tuple[int, ...]:
        """Return a tag's values, none where it has others than whole numbers."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _LETTERS or entry.end > len(self.data):
            return ()
        form = f"{self.layout.order}{min(entry.count, most)}{_LETTERS[entry.kind]}"
        return struct.unpack_from(form, self.data, entry.start)

    def number(self, tag: int, otherwise: int) -> int:
        """Return a tag's first value."""
        return next(iter(self.numbers(tag, 1)), otherwise)

    def each(self, tag: int) -> Iterator[int]:
        """Return all of a tag's values one by one, none where it has others than whole numbers."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _LETTERS or entry.end > len(self.data):
            return iter(())
        form = f"{self.layout.order}{_LETTERS[entry.kind]}"
        return chain.from_iterable(struct.iter_unpack(form, self.data[entry.start : entry.end]))

    def values(self, entry: Entry | NewEntry) -> tuple[int, ...]:
        """Return the whole numbers of an entry whose type is of such."""
        content = entry.content if isinstance(entry, NewEntry) else self.data[entry.start : entry.end]
        letter = _LETTERS[entry.kind]
        return struct.unpack(f"{self.layout.order}{len(content) // _TAG_BYTES[entry.kind]}{letter}", content)

    def pack(self, kind: int, *values: int) -> NewEntry:
        """Return such values in the file's byte order."""
        return NewEntry(kind, struct.pack(f"{self.layout.order}{len(values)}{_LETTERS[kind]}", *values))

    @property
    def is_reduced(self) -> bool:
        """Whether it is a smaller version of another page, or a mask."""
        kind = self.number(_NEW_SUBFILE_TYPE, 0)
        return bool(kind & 5) or self.number(_OLD_SUBFILE_TYPE, 1) == 2

    @property
    def is_raw(self) -> bool:
        """Whether it is what a sensor saw, or says so of the file."""
        return (
            self.has_raw_tags
            or self.number(PHOTOMETRIC, 0) in _RAW_PHOTOMETRICS
            or self.number(COMPRESSION, 1) in _RAW_COMPRESSIONS
        )

    @property
    def has_pixels(self) -> bool:
        return {WIDTH, HEIGHT} <= self.entries.keys() and bool(
            {STRIP_OFFSETS, TILE_OFFSETS, OLD_JPEG_PLACE[0]} & self.entries.keys()
        )


def first_full_page(data: bytearray) -> Directory:
    """Return the first page that is no thumbnail, or raise `Declined`: also where it is a raw photo."""
    if data.startswith(_RAW_HEADS, 8):
        raise raw_photo()
    found = list(islice(_walk(data), _MOST_DIRECTORIES))
    if any(directory.is_raw for directory in found):
        raise raw_photo()
    full = (each for each in found if each.has_pixels and not each.is_reduced)
    chosen = next(full, found[0])
    # No two tags' values need to be the same bytes, so more than the file is nonsense.
    stored = sum(entry.end - entry.start for entry in chosen.entries.values())
    if stored > 2 * len(data) + _MAX_EXTRA_TAG_BYTES:
        raise corrupt("TIFF", "its directories hold too much")
    return chosen


def _walk(data: bytearray) -> Iterator[Directory]:
    """Yield each directory, then those inside it, then the next; a nonsense link ends nothing but itself."""
    layout, left, seen = _layout(data), _MOST_TAGS, set[int]()
    head = data[layout.first : layout.first + layout.link.size]
    waiting: list[tuple[int, Directory | None]] = [(int.from_bytes(head, layout.endian), None)]
    while waiting:
        place, outer = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        found = _directory(data, layout, place, left)
        if found is None:
            if len(seen) == 1:
                raise corrupt("TIFF", "its first directory lies beyond the end or holds too much")
            continue
        directory, tags = found
        left -= len(tags)
        # Tags are in ascending order; pixels that a link leads to are not.
        if len(seen) > 1 and not all(one < other for one, other in pairwise(tags)):
            continue
        if outer is not None:
            inherited = {tag: outer.entries[tag] for tag in _INHERITED if tag in outer.entries}
            directory = replace(directory, entries={**inherited, **directory.entries})
        yield directory
        inside = directory.numbers(_DIRECTORIES_INSIDE, _MOST_DIRECTORIES)
        waiting += [(directory.next, None), *((link, directory) for link in reversed(inside))]


def _layout(data: bytearray) -> Layout:
    order = "<" if data[:2] == b"II" else ">"
    big = bytes(data[2:4]) in (b"+\0", b"\0+")
    forms = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    count, entry, link = (struct.Struct(order + form) for form in forms)
    return Layout(order, count, entry, link, "little" if order == "<" else "big", 8 if big else 4)


def as_classic(data: bytearray, layout: Layout) -> Layout:
    """Let the header be that of a TIFF that is no BigTIFF; directories are to follow."""
    data[:4] = b"II*\0" if layout.order == "<" else b"MM\0*"
    return _layout(data)


def _directory(data: bytearray, layout: Layout, place: int, most: int) -> tuple[Directory, list[int]] | None:
    """Return the directory there and all of its tags, None where there can be none or more than so many."""
    if not 0 < place <= len(data) - layout.count.size:
        return None
    (count,) = layout.count.unpack_from(data, place)
    begin = place + layout.count.size
    end = begin + count * layout.entry.size
    if count > most or end > len(data):
        return None
    tags, entries = [], dict[int, Entry]()
    at = begin + layout.entry.size - layout.link.size  # of the value, or of its place
    for tag, kind, number, value in layout.entry.iter_unpack(memoryview(data)[begin:end]):
        tags.append(tag)
        if tag in _WANTED and tag not in entries and (size := number * _TAG_BYTES.get(kind, 0)):
            start = at if size <= len(value) else layout.link.unpack(value)[0]
            entries[tag] = Entry(kind, number, start, start + size)
        at += layout.entry.size
    follows = layout.link.unpack_from(data, end)[0] if end + layout.link.size <= len(data) else 0
    raw = not _RAW_TAGS.isdisjoint(tags)
    return Directory(data, layout, entries, follows, raw), tags


def put(data: bytearray, pages: Sequence[Tags], layout: Layout) -> None:
    """Append these directories and let the header begin with them: for a library there are no others."""
    header = layout.first
    for page in pages:
        fields = b"".join(_field(data, layout, tag, page[tag]) for tag in sorted(page))
        data += bytes(len(data) % 2)
        layout.link.pack_into(data, header, len(data))
        data += layout.count.pack(len(page)) + fields
        header = len(data)
        data += layout.link.pack(0)


def _field(data: bytearray, layout: Layout, tag: int, value: Entry | NewEntry) -> bytes:
    """Return the entry of a directory for such values, which are appended if they do not fit in."""
    if isinstance(value, Entry):
        kind, count, room = value.kind, value.count, value.end - value.start
        content = bytes(data[value.start : value.end]) if room <= layout.link.size else b""
        place = value.start
    else:
        kind, content = value
        count, room = len(content) // _TAG_BYTES[kind], len(content)
        place = len(data) + len(data) % 2
        if room > layout.link.size:
            data += bytes(len(data) % 2) + content
    where = content.ljust(layout.link.size, b"\0") if room <= layout.link.size else layout.link.pack(place)
    return layout.entry.pack(tag, kind, count, where)
