"""A TIFF page: what its tags say of its samples, and which kinds of pages no library here reads."""

from dataclasses import dataclass

from pipelines.decoder import tiff_header
from pipelines.decoder.refusal import corrupt
from pipelines.decoder.tiff_header import Directory

# Photometric interpretation and sample format: TIFF 6.0, sections 8, 16 to 23, and Adobe's technical notes.
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, MASK, INKS, YCBCR, LAB, ICC_LAB = 0, 1, 2, 3, 4, 5, 6, 8, 9
UNSIGNED, SIGNED, FLOAT, UNDEFINED = 1, 2, 3, 4
UNCOMPRESSED, OLD_JPEG, JPEG, WEBP = 1, 6, 7, 50001
DIFFERENCES = 2  # the predictor of TIFF 6.0, section 14
BYTES_APART = 3  # the predictor of floats: their first bytes, then their second ones: Adobe's third note
ONLY_PILLOW = frozenset((34925, 50000))  # LZMA and Zstandard, of which libvips' libtiff knows nothing
_FOR_VIPS = {1, 2, 3, 4, 5, JPEG, 8, 32771, 32773, 32946, WEBP}  # the codecs that every build of it has
_PREDICTED = {5, 8, 32946, *ONLY_PILLOW}  # for other codecs the predictor says nothing

_ASSOCIATED = 1  # opacity by which the colours are multiplied
_UNASSOCIATED = {2, 999}  # the latter by Corel
_OTHER_INKS = 2
_CYAN_TO_BLACK = (b"cmyk", b"cmyb")  # the first letters of their names
_GREY = {WHITE_IS_ZERO, BLACK_IS_ZERO, MASK}
_COLOURS = {**dict.fromkeys(_GREY, 1), RGB: 3, PALETTE: 1, INKS: 4, YCBCR: 3, LAB: 3, ICC_LAB: 3}
_NAMES = {**dict.fromkeys(_GREY, "grey"), RGB: "RGB", PALETTE: "palette", INKS: "CMYK", YCBCR: "YCbCr"}
_NAMES |= {LAB: "CIELab", ICC_LAB: "ICCLab"}
_COMPRESSIONS = {
    32766: "NeXT",
    32809: "ThunderScan",
    **dict.fromkeys((32908, 32909), "Pixar's method"),
    **dict.fromkeys((33003, 33004, 33005, 34712), "JPEG 2000"),
    34661: "JBIG",
    **dict.fromkeys((34676, 34677), "LogLuv"),
    34887: "LERC",
    34933: "PNG",
    **dict.fromkeys((22610, 34934), "JPEG XR"),
    **dict.fromkeys((50002, 52546), "JPEG XL"),
}
_NUMBERS = {UNSIGNED: "unsigned integers", SIGNED: "signed integers", FLOAT: "floats"}
_NUMBERS |= {5: "complex integers", 6: "complex numbers"}
_DEPTHS = {UNSIGNED: {1, 2, 4, 8, 10, 12, 14, 16, 32}, SIGNED: {8, 16, 32}, FLOAT: {16, 32, 64}}
_LABS = {(UNSIGNED, 8), (SIGNED, 8), (UNSIGNED, 16), (SIGNED, 16), (FLOAT, 32)}
_MOST_SAMPLES = 1024
_MOST_TILES = 100_000  # each takes libvips some 20 microseconds, whatever its size
_MOST_SMALL_TILES, _SMALL_TILE = 25_000, 64 * 64  # so that they may make a hundred megapixels
_LARGEST_TILE = 1 << 20
_GROUP = 4  # packed samples, at most, until one begins with a byte again
_LONGEST_NUMBER = _LONGEST_NAMES = 400  # characters


@dataclass(frozen=True)
class TiffPage:
    """One page's samples: how many, of which kind, how stored, what they mean."""

    width: int
    height: int
    photometric: int
    compression: int
    predictor: int
    bits: int
    kind: int  # of numbers
    samples: int
    colours: int
    opacity: int | None  # the place of that sample
    associated: bool  # whether colours are stored multiplied by it
    separate: bool  # plane by plane
    tiled: bool
    places: tuple[int, int]  # the tags that say where the strips or tiles are, and how large
    chunk: tuple[int, int]  # the size of a tile or a strip
    orientation: int
    no_data: tuple[float, ...]
    subsampling: tuple[int, int]  # how many pixels have their colour in common: across, down
    cmyk: bool  # whether four inks are those
    even: bool  # whether all samples are alike

    @property
    def is_grey(self) -> bool:
        return self.photometric in _GREY

    @property
    def is_lab(self) -> bool:
        return self.photometric in (LAB, ICC_LAB)

    @property
    def is_numbers(self) -> bool:
        """Whether the samples are measurements rather than shades or colours of a fixed range."""
        return not self.is_lab and (self.kind != UNSIGNED or self.bits > 16)

    @property
    def is_packed(self) -> bool:
        """Whether samples begin within a byte, in a way that libvips does not know."""
        return self.bits in (10, 12, 14)

    @property
    def needs_bytes(self) -> bool:
        """Whether libvips does not know how such numbers are stored, and they are made of bytes here."""
        return self.is_packed or self.bits == 64 or (self.is_half and self.predictor == BYTES_APART)

    @property
    def is_half(self) -> bool:
        """Whether the samples are floats of half precision."""
        return (self.kind, self.bits) == (FLOAT, 16)

    @property
    def read_as(self) -> int:
        """The kind of numbers as which libvips is to read the samples: what they mean is ours to know."""
        return UNSIGNED if self.is_half or (self.is_lab and self.bits <= 16) else self.kind

    @property
    def is_light(self) -> bool:
        """Whether the samples are floats that may be linear light, where 1 is white."""
        return self.kind == FLOAT and self.photometric == RGB

    @property
    def sample(self) -> int:
        """Bytes of a sample in memory."""
        return 4 if self.is_half or self.is_lab else -(-self.bits // 8)

    @property
    def across(self) -> int:
        """How many tiles or strips lie side by side."""
        return -(-self.width // self.chunk[0])

    @property
    def _count(self) -> int:
        """How many strips or tiles are to be read."""
        return self.across * -(-self.height // self.chunk[1]) * (len(self.wanted) if self.separate else 1)

    @property
    def row_bytes(self) -> int:
        """The bytes of a row within a tile or a strip."""
        return -(-self.chunk[0] * self.bits * (1 if self.separate else self.samples) // 8)

    @property
    def is_one_compressed_strip(self) -> bool:
        several = self.tiled or self.separate or self.chunk[1] < self.height
        return not several and self.compression not in (UNCOMPRESSED, OLD_JPEG)

    def stored_bytes(self, rows: int) -> int:
        """The bytes of so many rows of a strip or tile, where nothing compresses them."""
        across, down = self.subsampling
        if (across, down) == (1, 1):
            return self.row_bytes * rows
        return -(-self.chunk[0] // across) * -(-rows // down) * (across * down + 2)

    @property
    def plane_bytes(self) -> int:
        """The bytes of a plane, or of all samples where there are no planes, with whole tiles."""
        height = -(-self.height // self.chunk[1]) * self.chunk[1] if self.tiled else self.height
        return self.row_bytes * self.across * height

    @property
    def wanted(self) -> list[int]:
        """The places of those samples that become colour and opacity."""
        return [*range(self.colours), *([] if self.opacity is None else [self.opacity])]

    @property
    def needs_pillow(self) -> bool:
        """Whether its colours are such as only Pillow's libtiff makes RGB of."""
        return self.compression == OLD_JPEG or (self.photometric == YCBCR and self.compression != JPEG)

    @property
    def _predictors(self) -> set[int]:
        if self.kind == FLOAT:
            return {1, BYTES_APART} if self.bits == 64 else {1, DIFFERENCES, BYTES_APART}
        return {1, DIFFERENCES} if self.bits in (8, 16, 32) else {1}

    @property
    def lacks(self) -> str:
        """What of it no library here reads, in words; "" if nothing."""
        name, one = _NAMES.get(self.photometric), self.separate or self.samples == 1
        if self.compression not in _FOR_VIPS | ONLY_PILLOW | {OLD_JPEG}:
            return f"compressed by {_COMPRESSIONS.get(self.compression, f'method {self.compression}')}"
        if name is None:
            return f"colours of kind {self.photometric}"
        if self.samples > _MOST_SAMPLES:
            return f"{self.samples} samples a pixel"
        if self.tiled and self._count > _MOST_TILES:
            return f"{self._count} tiles"
        if self.tiled and self.chunk[0] * self.chunk[1] < _SMALL_TILE and self._count > _MOST_SMALL_TILES:
            return f"{self._count} tiles of {self.chunk[0]} x {self.chunk[1]} pixels"
        if self.photometric == INKS and (self.samples < self.colours or not self.cmyk):
            return "inks other than CMYK"
        if self.samples < self.colours:
            return f"{name} of {self.samples} samples"
        if not self.even:
            return f"{name} with samples that differ in depth or kind"
        if self.compression == JPEG and self.bits != 8:
            return f"{self.bits}-bit JPEG"
        if self.bits not in _DEPTHS.get(self.kind, ()):
            return f"{self.bits}-bit {_NUMBERS.get(self.kind, f'numbers of kind {self.kind}')}"
        if self.is_lab and (self.kind, self.bits) not in _LABS:
            return f"{name} as {self.bits}-bit {_NUMBERS[self.kind]}"
        if self.is_numbers and not (self.is_grey or self.photometric == RGB):
            return f"{name} as {self.bits}-bit {_NUMBERS[self.kind]}"
        if self.predictor not in self._predictors:
            return f"{self.bits}-bit {name} with predictor {self.predictor}"
        if self.is_packed and not (self.is_grey and one):
            return f"{self.bits}-bit {name}"
        if self.is_packed and self.tiled and self.chunk[0] % _GROUP:
            return f"{self.bits}-bit {name} in tiles of {self.chunk[0]} pixels"
        if self.needs_bytes and self.predictor == BYTES_APART and not one:
            return f"{self.bits}-bit {name} of {self.samples} samples with predictor {self.predictor}"
        if self.bits < 8 and not (one and self.colours == 1):
            return f"{self.bits}-bit {name} of {self.samples} samples"
        if self.photometric == YCBCR and (self.bits, self.samples, self.separate) != (8, 3, False):
            return f"{self.bits}-bit YCbCr of {self.samples} samples, plane by plane or with others"
        return ""


def read(directory: Directory) -> TiffPage:
    """Return what the tags say, with what TIFF 6.0 and other readers assume where they say nothing."""
    number, numbers = directory.number, directory.numbers
    compression = number(tiff_header.COMPRESSION, 1)
    depths = numbers(tiff_header.BITS, _MOST_SAMPLES) or ((8,) if compression == OLD_JPEG else (1,))
    samples = number(tiff_header.SAMPLES, 3 if compression == OLD_JPEG else len(depths))
    photometric = number(tiff_header.PHOTOMETRIC, RGB if samples >= 3 else BLACK_IS_ZERO)
    if samples >= 3 and photometric in _GREY and tiff_header.EXTRA_SAMPLES not in directory.entries:
        photometric = RGB  # nothing says what those beside grey are, and every reader takes them for colours
    if samples == 1 and photometric in (RGB, YCBCR):
        photometric = BLACK_IS_ZERO
    kinds = [
        UNSIGNED if kind in (0, UNDEFINED) else kind
        for kind in numbers(tiff_header.SAMPLE_FORMAT, _MOST_SAMPLES)
    ]
    width, height = number(tiff_header.WIDTH, 0), number(tiff_header.HEIGHT, 0)
    if min(width, height, samples) < 1:
        raise corrupt("TIFF", "it has no pixels")
    colours = _COLOURS.get(photometric, 1)
    opacity, associated = _opacity(directory, photometric, samples, colours)
    tiled = not {tiff_header.TILE_WIDTH, tiff_header.TILE_HEIGHT}.isdisjoint(directory.entries)
    of_strips, of_tiles = tiff_header.PLACES[:2], tiff_header.PLACES[2:]  # libtiff takes either for both
    places, others = (of_tiles, of_strips) if tiled else (of_strips, of_tiles)
    tile = number(tiff_header.TILE_WIDTH, 0), number(tiff_header.TILE_HEIGHT, 0)
    strip = width, min(number(tiff_header.ROWS_PER_STRIP, height), height)
    if tiled and not (min(tile) > 0 and max(tile) <= _LARGEST_TILE):
        raise corrupt("TIFF", "its tiles have no size or one beyond all measure")
    if min(strip) < 1:
        raise corrupt("TIFF", "its strips have no rows")
    orientation = number(tiff_header.ORIENTATION, 1)
    return TiffPage(
        width=width,
        height=height,
        photometric=photometric,
        compression=compression,
        predictor=number(tiff_header.PREDICTOR, 1) if compression in _PREDICTED else 1,
        bits=depths[0],
        kind=kinds[0] if kinds else UNSIGNED,
        samples=samples,
        colours=colours,
        opacity=opacity,
        associated=associated,
        separate=samples > 1 and number(tiff_header.PLANES, 1) == 2,
        tiled=tiled,
        places=places if places[0] in directory.entries else others,
        chunk=tile if tiled else strip,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        no_data=_no_data(directory.content(tiff_header.NO_DATA)),
        subsampling=_subsampling(directory) if photometric == YCBCR else (1, 1),
        cmyk=directory.number(tiff_header.INK_SET, 1) != _OTHER_INKS or _are_cmyk(directory),
        even=len(set(depths[:samples])) == 1 and len(set(kinds[:samples])) <= 1,
    )


def _opacity(directory: Directory, photometric: int, samples: int, colours: int) -> tuple[int | None, bool]:
    """Return which sample is opacity, and whether colours are multiplied by it."""
    kinds = directory.numbers(tiff_header.EXTRA_SAMPLES, _MOST_SAMPLES)
    if not kinds and samples == colours + 1 and photometric in (RGB, WHITE_IS_ZERO, BLACK_IS_ZERO):
        return colours, False  # the tag is missing, and every reader takes it for opacity
    for place, kind in enumerate(kinds, colours):
        if kind in {_ASSOCIATED, *_UNASSOCIATED} and place < samples:
            return place, kind == _ASSOCIATED
    return None, False


def _are_cmyk(directory: Directory) -> bool:
    """Whether the first inks have such names, whatever else there is beside them."""
    names = directory.content(tiff_header.INK_NAMES)[:_LONGEST_NAMES].lower().split(b"\0")
    return b"".join(name[:1] for name in names[:4]) in _CYAN_TO_BLACK


def _subsampling(directory: Directory) -> tuple[int, int]:
    across, down, *_ = (*directory.numbers(tiff_header.SUBSAMPLING, 2), 2, 2)
    return max(1, across), max(1, down)


def _no_data(words: bytes) -> tuple[float, ...]:
    try:
        return (float(words[:_LONGEST_NUMBER].split(b"\0")[0]),)
    except ValueError:
        return ()
