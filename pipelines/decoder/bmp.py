"""BMP where Pillow is slow or wrong: run lengths, opacity that is 0 everywhere, and the bitmaps of icons."""

import io
import re
import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple

import pyvips
from PIL import BmpImagePlugin
from PIL import Image as PillowImage

from pipelines.decoder.picture import Image, Picture
from pipelines.decoder.refusal import corrupt, unknown_kind
from pipelines.formats import Format, Shape

# [MS-WMF] 3.1.6: two bytes are a run, how many pixels and which. 0 and 0 end a line, 0 and 1 the picture; 0
# and 2 begin a jump (right, up), 0 and a larger number so many pixels as they are, filled up to two bytes.
_RUNS_AND_LINES = re.compile(rb"(?:[^\x00].|\x00\x00)*+", re.DOTALL)
_END, _JUMP = 1, 2
_AT_ONCE = 1 << 15  # runs, of at most 255 pixels each
_FEW = 8  # runs that are quicker added one by one

_FILE_HEADER, _CORE_HEADER = 14, 12
_RLE8, _RLE4, _BITFIELDS, _ALPHABITFIELDS = 1, 2, 3, 6
_USUAL = {
    (0xFF0000, 0xFF00, 0xFF, 0),
    (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
}
_USUAL_16 = {(0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)}
TINY = struct.pack(
    "<2sIHHIIiiHHIIiiII8s4s",
    *(b"BM", 66, 0, 0, 62),
    *(40, 2, 1, 1, 8, _RLE8, 4, 2835, 2835, 2, 0),
    *(bytes(8), b"\x02\x01\x00\x01"),
)
"""A BMP of two pixels with run lengths."""
_NIBBLES = bytes.maketrans(b"0123456789abcdef", bytes(range(16)))


class Bitmap(BmpImagePlugin.BmpImageFile):
    """A BMP that is opaque where its header speaks of opacity and all of it is 0."""

    def load_end(self) -> None:
        super().load_end()
        if self.mode == "RGBA" and self.im.getband(3).getextrema() == (0, 0):
            self.im.fillband(3, 255)

    @property
    def has_runs(self) -> bool:
        return bool(self.tile) and self.tile[0].codec_name == "bmp_rle"


def probe_runs(format: Format, data: bytes, opened: Bitmap, damaged: str) -> Picture:
    """Return a BMP with run lengths, which are unpacked here: Pillow does it pixel by pixel in Python."""
    header = int.from_bytes(data[14:18], "little")
    bits, colours = (int.from_bytes(data[at : at + width], "little") for at, width in ((28, 2), (46, 4)))
    compression = opened.info["compression"]
    if (compression, bits) not in ((_RLE8, 8), (_RLE4, 4)):
        raise corrupt(format.title, f"run lengths of {bits}-bit pixels")
    start = _FILE_HEADER + header
    table = _palette(data[start : start + 4 * min(colours or 256, 256)])
    (width, height), start_of_runs, top_down = opened.size, opened.tile[0].offset, data[25] == 0xFF

    def load(_: float) -> Image:
        rows = RunLengths(width, height, nibbles=compression == _RLE4)
        if not rows.unpack(data[start_of_runs:]) and damaged == "reject":
            raise corrupt(format.title, "its run lengths end before the picture")
        image = pyvips.Image.new_from_memory(rows.pixels, width, height, 1, "uchar")
        image = image if top_down else image.flipver()
        return image.maplut(table).copy(interpretation="srgb")

    return Picture(format, Shape(width, height, bands=1, whole=True), 1, None, load)


class Masks(NamedTuple):
    """The bits of each pixel that are red, green, blue and opacity, where a header says so."""

    bits: int
    compression: int
    masks: tuple[int, ...]

    @property
    def are_usual(self) -> bool:
        """Whether Pillow knows them, and all that they say."""
        known = _USUAL if self.bits == 32 else _USUAL_16
        return self.compression == _BITFIELDS and self.masks in known


def read_masks(data: bytes) -> Masks | None:
    """Return the masks of a BMP, None where it has none."""
    size, _, _, _, bits, compression = struct.unpack_from("<IiiHHI", data, _FILE_HEADER)
    if size < 40 or bits not in (16, 32) or compression not in (_BITFIELDS, _ALPHABITFIELDS):
        return None
    # They are the last fields of larger headers, and follow the smallest: both is the same place.
    count = 4 if size >= 56 or compression == _ALPHABITFIELDS else 3
    masks = struct.unpack_from(f"<{count}I", data, 54)
    return Masks(bits, compression, (*masks, 0)[:4]) if any(masks) else None


def probe_masked(format: Format, data: bytes, masks: Masks, damaged: str) -> Picture:
    """Return a BMP whose masks are none of the few that Pillow knows."""
    start, width, height = struct.unpack_from("<I4xii", data, 10)
    number = masks.bits // 8
    line = (width * number + 3) // 4 * 4
    shape = Shape(width, abs(height), bands=4)

    def load(_: float) -> Image:
        size = line * abs(height)
        pixels = data[start : start + size]
        if len(pixels) < size and damaged == "reject":
            raise OSError("image file is truncated")
        stored = pyvips.Image.new_from_memory(
            pixels.ljust(size, b"\0"), line // number, abs(height), 1, {2: "ushort", 4: "uint"}[number]
        )
        stored = stored.crop(0, 0, width, abs(height))
        bands = [_band(stored, mask) for mask in masks.masks]
        opacity = bands[3:] if masks.masks[3] and bands[3].max() > 0 else []
        image = bands[0].bandjoin([*bands[1:3], *opacity]).copy(interpretation="srgb")
        return image.flipver() if height > 0 else image

    return Picture(format, shape, 1, None, load)


def _band(pixels: Image, mask: int) -> Image:
    """The bits of a mask as eight-bit levels."""
    shift = max((mask & -mask).bit_length() - 1, mask.bit_length() - 16, 0)
    most = mask >> shift
    return ((pixels >> shift & most) * (255 / most if most else 0)).rint().cast("uchar")


def _palette(entries: bytes) -> Image:
    """The colours of all indexes; those beyond the table are black."""
    table = bytearray(256 * 3)
    for band in range(3):
        levels = entries[2 - band :: 4]
        table[band : 3 * len(levels) : 3] = levels
    return pyvips.Image.new_from_memory(bytes(table), 256, 1, 3, "uchar").copy(interpretation="srgb")


class RunLengths:
    """The indexes of all pixels, in the order of the rows in the file; 0 where none arrive."""

    def __init__(self, width: int, height: int, *, nibbles: bool) -> None:
        self.pixels = bytearray(width * height)
        self._width, self._height = width, height
        self._nibbles = nibbles
        self._runs = _Runs(nibbles)
        self._x = self._y = 0

    def unpack(self, data: bytes) -> bool:
        """Fill in what the run lengths say, up to their end; say whether they reach it."""
        end = len(data) & ~1
        words = memoryview(data)[:end].cast("H")
        at = 0
        while at < end and self._y < self._height:
            number = data[at + 1]
            if data[at] or number == 0:
                at = self._add(data, words, at, end)
            elif number == _END:
                return True
            elif number == _JUMP:
                right, up = data[at + 2 : at + 4] if at + 4 <= end else (0, 0)
                self._x, self._y, at = min(self._width, self._x + right), self._y + up, at + 4
            else:
                size = (number + 1) // 2 if self._nibbles else number
                pixels = data[at + 2 : at + 2 + size]
                self._put((pixels.hex().encode().translate(_NIBBLES) if self._nibbles else pixels)[:number])
                at += 2 + size + size % 2
        return self._y >= self._height or (self._y == self._height - 1 and self._x >= self._width)

    def _add(self, data: bytes, words: memoryview, at: int, end: int) -> int:
        """Add all runs and ends of lines that begin there, and return where they end."""
        found = _RUNS_AND_LINES.match(data, at, end)
        there = found.end() if found else end
        if there - at <= 2 * _FEW:
            for word in words[at // 2 : there // 2]:
                if word:
                    self._put(self._runs[word])
                else:
                    self._x, self._y = 0, self._y + 1
                    if self._y >= self._height:
                        break
            return there
        for start in range(at, there, 2 * _AT_ONCE):
            stop = min(there, start + 2 * _AT_ONCE)
            self._add_lines(data[start:stop:2], words[start // 2 : stop // 2])
        return there

    def _add_lines(self, counts: bytes, words: Sequence[int]) -> None:
        *lines, rest = counts.split(b"\0")
        if lines and self._x:
            words = self._add_line(lines.pop(0), words)
        if set(map(sum, lines)) == {self._width} and len(lines) <= self._height - self._y:
            # As everybody writes it: each line is full. Its end is no pixels, so all are written at once.
            count = len(words) - len(rest)
            self._write(b"".join(map(self._runs.__getitem__, words[:count])))
            self._y += len(lines)
            lines, words = [], words[count:]
        for line in lines:
            words = self._add_line(line, words)
        if rest and self._y < self._height and self._x < self._width:
            self._put(b"".join(map(self._runs.__getitem__, words)))

    def _add_line(self, counts: bytes, words: Sequence[int]) -> Sequence[int]:
        """Add one line with its end, and return what follows it."""
        if counts and self._y < self._height and self._x < self._width:
            self._put(b"".join(map(self._runs.__getitem__, words[: len(counts)])))
        self._x, self._y = 0, self._y + 1
        return words[len(counts) + 1 :]

    def _put(self, pixels: bytes) -> None:
        """Write these pixels of the present line; what goes beyond its end is left out."""
        pixels = pixels[: self._width - self._x]
        self._write(pixels)
        self._x += len(pixels)

    def _write(self, pixels: bytes) -> None:
        place = self._y * self._width + self._x
        self.pixels[place : place + len(pixels)] = pixels


class _Runs(dict[int, bytes]):
    """The pixels of a run by its two bytes."""

    def __init__(self, nibbles: bool) -> None:
        self._nibbles = nibbles

    def __missing__(self, word: int) -> bytes:
        count, value = word.to_bytes(2, sys.byteorder)
        pair = bytes((value >> 4, value & 15) if self._nibbles else (value, value))
        pixels = self[word] = (pair * 128)[:count]
        return pixels


def open_icon(data: bytes) -> BmpImagePlugin.DibImageFile:
    """Open the bitmap of an icon, whose height in the header counts the mask below it as well."""
    place, number = (6, "<H") if data[:1] == bytes([_CORE_HEADER]) else (8, "<i")
    changed = bytearray(data)
    struct.pack_into(number, changed, place, struct.unpack_from(number, data, place)[0] // 2)
    opened = BmpImagePlugin.DibImageFile(io.BytesIO(changed))
    if opened.tile[0].codec_name != "raw":
        raise unknown_kind("ICO", "run lengths in an icon")
    return opened


def decode_icon(
    opened: BmpImagePlugin.DibImageFile, data: bytes, size: int, damaged: str
) -> PillowImage.Image:
    """Return an icon's bitmap as Windows shows it: by its mask, unless the pixels have opacity themselves."""
    width, height = opened.size
    bits = int.from_bytes(data[10:12] if data[:1] == bytes([_CORE_HEADER]) else data[14:16], "little")
    start = opened.tile[0].offset
    end = start + (width * bits + 31) // 32 * 4 * height
    opacity = opened.getchannel("A") if opened.mode == "RGBA" else None
    shown = opened.convert("RGBA")
    if bits == 32 and opacity is None:
        opacity = _plane("L", opened.size, data[start:end][3::4], width)
    if opacity is None or opacity.getextrema() == (0, 0):
        line = (width + 31) // 32 * 4
        # Pillow and others look for the mask at the end, but where there may be none it is behind the pixels.
        place = end if opacity is not None else max(end, size - line * height)
        mask = data[place : place + line * height]
        if opacity is not None or damaged == "accept":
            mask = mask.ljust(line * height, b"\0")
        opacity = _plane("1", opened.size, mask, line)
    shown.putalpha(opacity)
    return shown


def _plane(mode: str, size: tuple[int, int], data: bytes, line: int) -> PillowImage.Image:
    """One band that is stored from the bottom up; a mask is set where nothing is to be seen."""
    raw = {"L": "L", "1": "1;I"}[mode]
    return PillowImage.frombytes(mode, size, data, "raw", raw, line, -1)
