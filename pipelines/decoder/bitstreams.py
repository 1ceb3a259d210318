"""The numbers of colour inside coded pictures: HEVC's parameter sets and AV1's sequence header."""

from collections.abc import Iterator
from typing import NamedTuple

_LONGEST = 4096  # bytes of a header that are read; real ones have some fifty
_SEQUENCE_SET = 33  # ITU-T H.265, table 7-1
_SEQUENCE_HEADER = 1  # AV1, 6.2.2
_ALL_BANDS = 3  # chroma_format_idc of 4:4:4
_SRGB = (1, 13, 0)  # AV1, 5.5.2: such levels are full without a word

_UNSPECIFIED = 2


class Numbers(NamedTuple):
    """What a picture says of its colours (ITU-T H.273)."""

    primaries: int
    transfer: int
    matrix: int = _UNSPECIFIED
    full: bool = True


class _Ended(Exception):
    """The header is shorter than it says, or has parts that a still picture does not have."""


class _Bits:
    """Bits of a header, from the first to the last."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """The number in the next bits."""
        self._left -= count
        if self._left < 0:
            raise _Ended
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        return self.take(1) == 1

    def exponential(self) -> int:
        """The next number in Exp-Golomb code (ITU-T H.265, 9.2; AV1, 4.10.3)."""
        zeros = 0
        while not self.flag():
            zeros += 1
            if zeros > 32:
                raise _Ended
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_exponentials(self, count: int) -> None:
        for _ in range(count):
            self.exponential()


def of_hevc(configuration: bytes) -> Numbers | None:
    """Return what the sequence parameter set of an `hvcC` box says (ISO/IEC 14496-15, 8.3.3), if anything."""
    try:
        return next((_of_sequence_set(unit) for unit in _units(configuration[:_LONGEST])), None)
    except _Ended:
        return None


def _units(configuration: bytes) -> Iterator[bytes]:
    """Walk the sequence parameter sets, without the bytes that keep start codes out of them."""
    at = 23
    for _ in range(configuration[22] if len(configuration) > 22 else 0):
        kind, count = configuration[at : at + 1], int.from_bytes(configuration[at + 1 : at + 3])
        at += 3
        for _ in range(min(count, _LONGEST)):
            size = int.from_bytes(configuration[at : at + 2])
            if kind and kind[0] & 63 == _SEQUENCE_SET:
                yield configuration[at + 4 : at + 2 + size].replace(b"\0\0\3", b"\0\0")
            at += 2 + size


def _of_sequence_set(unit: bytes) -> Numbers | None:
    """Read ITU-T H.265, 7.3.2.2 up to the colour description of E.2.1."""
    bits = _Bits(unit)
    bits.take(4)
    layers = bits.take(3)
    bits.take(1)
    _skip_levels(bits, layers)
    bits.exponential()
    if bits.exponential() == _ALL_BANDS:
        bits.take(1)
    bits.skip_exponentials(2)  # width and height
    if bits.flag():
        bits.skip_exponentials(4)  # the window
    bits.skip_exponentials(3)  # depths, order
    bits.skip_exponentials(3 * (layers + 1 if bits.flag() else 1))
    bits.skip_exponentials(6)  # sizes and depths of blocks
    if bits.flag() and bits.flag():
        raise _Ended  # scaling lists of its own
    bits.take(2)
    if bits.flag():  # PCM
        bits.take(8)
        bits.skip_exponentials(2)
        bits.take(1)
    _skip_references(bits)
    bits.take(2)
    return _of_usability(bits) if bits.flag() else None


def _skip_levels(bits: _Bits, layers: int) -> None:
    bits.take(96)
    has = [(bits.flag(), bits.flag()) for _ in range(layers)]
    bits.take(2 * (8 - layers) if layers else 0)
    for profile, level in has:
        bits.take(88 * profile + 8 * level)


def _skip_references(bits: _Bits) -> None:
    for number in range(min(bits.exponential(), 65)):
        if number and bits.flag():
            raise _Ended  # predicted from another: no still picture needs it
        for _ in range(min(bits.exponential() + bits.exponential(), 32)):
            bits.exponential()
            bits.take(1)
    if bits.flag():
        raise _Ended  # long-term references


def _of_usability(bits: _Bits) -> Numbers | None:
    if bits.flag() and bits.take(8) == 255:
        bits.take(32)  # proportions of a pixel
    if bits.flag():
        bits.take(1)  # overscan
    if not bits.flag():
        return None
    bits.take(4)  # video format and range
    return Numbers(bits.take(8), bits.take(8)) if bits.flag() else None


def of_av1(units: bytes) -> Numbers | None:
    """Return what the sequence header among these units says (AV1, 5.5), if anything."""
    try:
        return next((_of_sequence_header(body) for body in _headers(units[:_LONGEST])), None)
    except _Ended:
        return None


def _headers(units: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(units):
        kind, extended, sized = units[at] >> 3 & 15, units[at] >> 2 & 1, units[at] >> 1 & 1
        at += 1 + extended
        size, at = _length(units, at) if sized else (len(units) - at, at)
        if kind == _SEQUENCE_HEADER:
            yield units[at : at + size]
        at += size


def _length(units: bytes, at: int) -> tuple[int, int]:
    """The number of AV1, 4.10.5 that begins there, and where it ends."""
    number = 0
    for place in range(8):
        byte = int.from_bytes(units[at : at + 1])
        number |= (byte & 127) << 7 * place
        at += 1
        if byte < 128:
            break
    return number, at


def _of_sequence_header(body: bytes) -> Numbers | None:
    bits = _Bits(body)
    profile = bits.take(3)
    bits.take(1)
    reduced = bits.flag()
    if reduced:
        bits.take(5)
    else:
        _skip_operating_points(bits)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    bits.take(across + down)
    if not reduced and bits.flag():
        bits.take(7)
    bits.take(3)
    if not reduced:
        _skip_tools(bits)
    bits.take(3)
    if bits.flag() and profile == 2:
        bits.take(1)  # twelve bits
    grey = profile != 1 and bits.flag()
    named = (_UNSPECIFIED,) * 3
    if bits.flag():
        named = bits.take(8), bits.take(8), bits.take(8)
    is_srgb = not grey and named == _SRGB
    return Numbers(*named, full=is_srgb or bits.flag())


def _skip_operating_points(bits: _Bits) -> None:
    delay = 0
    if bits.flag():  # timing
        bits.take(64)
        if bits.flag():
            bits.exponential()
        if bits.flag():
            delay = bits.take(5) + 1
            bits.take(42)
    displayed = bits.flag()
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if delay and bits.flag():
            bits.take(2 * delay + 1)
        if displayed and bits.flag():
            bits.take(4)


def _skip_tools(bits: _Bits) -> None:
    bits.take(4)
    ordered = bits.flag()
    bits.take(2 if ordered else 0)
    screen = 1 if bits.flag() else bits.take(1)
    if screen and not bits.flag():
        bits.take(1)
    bits.take(3 if ordered else 0)
