"""JPEG as far as its markers tell: whether a file lacks nothing but its end marker."""

import re

from pipelines.decoder.arrays import numpy
from pipelines.decoder.refusal import corrupt

_END = b"\xff\xd9"
# ITU T.81, table B.1. FF 00 is data, RSTn stand between data; fill bytes (FF) may stand before each marker.
_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
_SEQUENTIAL, _PROGRESSIVE, _ARITHMETIC = (0xC0, 0xC1), (0xC2,), (0xC9, 0xCA)
_START_OF_IMAGE, _END_OF_IMAGE, _SCAN = 0xD8, 0xD9, 0xDA
_OTHERS = {0xC4, *range(0xDB, 0xDE), *range(0xE0, 0xF0), 0xFE}  # tables, intervals, APPn, comments
SCAN_MARKER = b"\xff\xda"
_AT_ONCE = 256 * 1024  # bytes
_MOST = 4096  # segments that are read
# Pixels, times the scans that walk them: a second's work. Encoders make some ten scans.
MOST_WALKED = 6_000_000_000
_MOST_SCANS = 5000
_AFTER_THE_SCANS = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9$")


def add_end(data: bytearray) -> bool:
    """Give a file that has all its scans the end marker that it lacks; say whether it was given one.

    Whether the last of the scans has all its data, its decoder finds out: see `is_harmless`. Of arithmetic
    codes it cannot, so a file of such without the marker is refused (`Declined`).
    """
    if data.endswith(_END):
        return False
    end = _end_of_scans(data)
    if end is None:
        return False
    del data[end:]
    if data.endswith(bytes(2)):
        # Of a file whose end never arrived. A decoder would take them for pixels; the first may be an FF's.
        filled = data.rstrip(b"\0")
        del data[len(filled) + filled.endswith(b"\xff") :]
    data += _END
    return True


def excess(data: bytearray, pixels: int) -> str:
    """Say how many scans a file has, if more than a picture of so many pixels is given; empty if not."""
    most = min(_MOST_SCANS, max(1, MOST_WALKED // max(1, pixels)))
    if count_scans(data) <= most:  # those of thumbnails and of other pictures behind it, too
        return ""
    scans, at = 0, 2
    while (found := _MARKER.search(data, at)) and found[1][0] != _END_OF_IMAGE and scans <= most:
        scans += found[1][0] == _SCAN
        at = found.end() + (
            0 if found[1][0] == _START_OF_IMAGE else int.from_bytes(data[found.end() : found.end() + 2])
        )
    return f"more than {most} scans of {pixels / 1e6:.1f} megapixels" if scans > most else ""


def count_scans(data: bytearray) -> int:
    """How often the marker of a scan is in the data, ten times as fast as `count` counts."""
    count, view = 0, numpy.frombuffer(data, numpy.uint8)
    for at in range(0, len(data), _AT_ONCE):
        part = view[at : at + _AT_ONCE + 1]
        count += int(numpy.count_nonzero((part[:-1] == SCAN_MARKER[0]) & (part[1:] == SCAN_MARKER[1])))
    return count


def is_harmless(warning: str) -> bool:
    """Say whether a warning is of a file with all its pixels, beside which only the end marker was missing.

    libjpeg names only the first of its warnings, so all but this one may be followed by one about pixels.
    """
    if "read gave" in warning:
        return warning.endswith("read gave 1 warnings")
    return "VipsJpeg" not in warning or _AFTER_THE_SCANS.search(warning) is not None


def _end_of_scans(data: bytearray) -> int | None:
    """Return where the data of the last scan ends; None where a scan or nothing is missing."""
    lacking: dict[int, set[int]] = {}  # of each component the coefficients of which bits are to come
    progressive, at, end = False, 2, None
    for _ in range(_MOST):
        found = _MARKER.search(data, at)
        if lacking and end is None and not any(lacking.values()):
            end = found.start() if found else len(data)
        if found is None or found[1][0] == _END_OF_IMAGE:
            return None if found else end
        marker, at = found[1][0], found.end()
        length = int.from_bytes(data[at : at + 2])
        segment = data[at + 2 : at + length]
        if marker in _SEQUENTIAL + _PROGRESSIVE and not lacking:
            if segment[1:3] == bytes(2):
                return None  # its height follows in DNL: that is a kind of its own, which must stay as it is
            progressive = marker in _PROGRESSIVE
            lacking = {number: set(range(64)) for number in segment[6::3]}
        elif marker == _SCAN and _is_scan(segment, lacking):
            _take(segment, lacking, progressive)
            if not progressive and segment[0] == len(lacking) and data.find(_END, at) >= 0:
                return None  # as of most photos with something behind them: their decoder does not look there
        elif marker in _ARITHMETIC and not lacking:
            if not _is_ended(data, at + length):
                raise corrupt("JPEG", "its end marker is missing")
            return None
        elif marker not in _OTHERS or len(segment) != length - 2:
            return end
        at += length
    return None


def _is_ended(data: bytearray, at: int) -> bool:
    """Say whether the end marker comes before anything that belongs to no scan."""
    for _ in range(_MOST):
        found = _MARKER.search(data, at)
        if found is None or found[1][0] == _START_OF_IMAGE:
            return False
        if found[1][0] == _END_OF_IMAGE:
            return True
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return False


def _is_scan(segment: bytearray, lacking: dict[int, set[int]]) -> bool:
    return (
        bool(segment)
        and len(segment) == 4 + 2 * segment[0]
        and all(number in lacking for number in segment[1:-3:2])
    )


def _take(segment: bytearray, lacking: dict[int, set[int]], progressive: bool) -> None:
    first, last, precision = segment[-3:]
    for number in segment[1:-3:2]:
        if not progressive:
            lacking[number].clear()
        elif precision & 15 == 0:
            lacking[number] -= set(range(first, last + 1))
