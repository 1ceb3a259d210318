"""What is accepted, by which decoder, up to which size: the one table of input formats."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Engine = Literal["vips", "pillow"]

MIB = 1024 * 1024
HEAD = 4096
"""As many bytes of a file as `sniff` and `describe` look at."""

_FLOOR = 24 * MIB  # a small picture's resizing, encoding and the allocator's slack


@dataclass(frozen=True)
class Shape:
    """What a header says about the work ahead: size and samples as stored, whether all is needed at once."""

    width: int
    height: int
    bands: int = 3
    sample: int = 1  # bytes
    whole: bool = False  # progressive, interlaced or in one strip
    density: float = 3.0  # of a JPEG: samples stored for each pixel

    @property
    def pixels(self) -> int:
        return self.width * self.height


@dataclass(frozen=True)
class Format:
    """One input format: how it is recognised, which child decodes it, and what that costs."""

    name: str
    title: str
    engine: Engine
    loaders: tuple[str, ...]
    extensions: tuple[str, ...]
    media_types: tuple[str, ...]
    matches: Callable[[bytes], bool]
    memory: Callable[[Shape], int]
    typical: Shape
    note: str

    def estimate(self, shape: Shape, source_bytes: int = 0) -> int:
        """Return the bytes by which a child grows at most when it decodes this picture, source included."""
        return _FLOOR + source_bytes + self.memory(shape)

    def largest(self, budget: int) -> int:
        """Return how many pixels of the usual kind of this format fit `budget` bytes of a child's growth."""
        per_pixel = self.memory(self.typical) / self.typical.pixels
        return max(0, int((budget - _FLOOR) / per_pixel))


def _rows(shape: Shape, rows: int) -> int:
    return shape.width * rows * shape.bands * shape.sample


def _jpeg_memory(shape: Shape) -> int:
    if not shape.whole:
        return _rows(shape, 1024)
    return int(shape.pixels * 2 * shape.density) + _rows(shape, 1024)


def _png_memory(shape: Shape) -> int:
    return _rows(shape, shape.height if shape.whole else 1024)


def _webp_memory(shape: Shape) -> int:
    return shape.pixels * 6


def _gif_memory(shape: Shape) -> int:
    return shape.pixels * 9


def _tiff_memory(shape: Shape) -> int:
    return _rows(shape, shape.height if shape.whole else 1024) * 2


def _heif_memory(shape: Shape) -> int:
    return shape.pixels * 15


def _pillow_memory(shape: Shape) -> int:
    return shape.pixels * 8


def _brands(head: bytes) -> set[bytes]:
    """The major and compatible brands of an ISO media file, empty for anything else."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12]} | {head[at : at + 4] for at in range(16, end - 3, 4)}


_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


def _is_avif(head: bytes) -> bool:
    return bool(_brands(head) & _AVIF_BRANDS)


def _is_heic(head: bytes) -> bool:
    brands = _brands(head)
    return not brands & _AVIF_BRANDS and bool(brands & (_HEIC_BRANDS | {b"mif1", b"msf1"}))


def _is_bmp(head: bytes) -> bool:
    return head[:2] == b"BM" and head[15:18] == b"\0\0\0" and 12 <= head[14] <= 124


def _is_ico(head: bytes) -> bool:
    return head[:4] == b"\0\0\1\0" and head[4:6] != b"\0\0" and len(head) > 22


_PHOTO = Shape(4000, 3000)

FORMATS: tuple[Format, ...] = (
    Format(
        name="jpeg",
        title="JPEG",
        engine="vips",
        loaders=("VipsForeignLoadJpegSource",),
        extensions=(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        media_types=("image/jpeg",),
        matches=lambda head: head.startswith(b"\xff\xd8\xff"),
        memory=_jpeg_memory,
        typical=Shape(4000, 3000, whole=True, density=1.5),
        note="baseline and progressive, grey, CMYK and YCCK; MPO and Ultra HDR: the first image",
    ),
    Format(
        name="png",
        title="PNG",
        engine="vips",
        loaders=("VipsForeignLoadPngSource",),
        extensions=(".png", ".apng"),
        media_types=("image/png", "image/apng"),
        matches=lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
        memory=_png_memory,
        typical=Shape(4000, 3000, bands=4, whole=True),
        note="all depths, palette, transparency, interlaced; APNG: the first frame",
    ),
    Format(
        name="webp",
        title="WebP",
        engine="vips",
        loaders=("VipsForeignLoadWebpSource",),
        extensions=(".webp",),
        media_types=("image/webp",),
        matches=lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        memory=_webp_memory,
        typical=_PHOTO,
        note="lossy, lossless, transparency; animated: the first frame",
    ),
    Format(
        name="gif",
        title="GIF",
        engine="vips",
        loaders=("VipsForeignLoadNsgifSource",),
        extensions=(".gif",),
        media_types=("image/gif",),
        matches=lambda head: head.startswith((b"GIF87a", b"GIF89a")),
        memory=_gif_memory,
        typical=_PHOTO,
        note="the first frame, with its transparency",
    ),
    Format(
        name="tiff",
        title="TIFF",
        engine="pillow",
        loaders=("VipsForeignLoadTiffSource",),
        extensions=(".tif", ".tiff"),
        media_types=("image/tiff",),
        matches=lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        memory=_tiff_memory,
        typical=Shape(4000, 3000, whole=True),
        note="the first page; strips, tiles, CMYK, Lab, 16 bit, float",
    ),
    Format(
        name="avif",
        title="AVIF",
        engine="pillow",
        loaders=("VipsForeignLoadHeifSource",),
        extensions=(".avif", ".avifs"),
        media_types=("image/avif",),
        matches=_is_avif,
        memory=_heif_memory,
        typical=_PHOTO,
        note="8 to 12 bit, transparency; sequences: the first frame",
    ),
    Format(
        name="heic",
        title="HEIC",
        engine="pillow",
        loaders=(),
        extensions=(".heic", ".heif", ".hif"),
        media_types=("image/heic", "image/heif"),
        matches=_is_heic,
        memory=_heif_memory,
        typical=_PHOTO,
        note="8 to 12 bit, transparency, through pillow-heif",
    ),
    Format(
        name="bmp",
        title="BMP",
        engine="pillow",
        loaders=(),
        extensions=(".bmp", ".dib"),
        media_types=("image/bmp", "image/x-ms-bmp"),
        matches=_is_bmp,
        memory=_pillow_memory,
        typical=_PHOTO,
        note="1 to 32 bit, RLE; through Pillow",
    ),
    Format(
        name="ico",
        title="ICO",
        engine="pillow",
        loaders=(),
        extensions=(".ico",),
        media_types=("image/vnd.microsoft.icon", "image/x-icon"),
        matches=_is_ico,
        memory=_pillow_memory,
        typical=_PHOTO,
        note="the largest icon, through Pillow",
    ),
)

BY_NAME: dict[str, Format] = {format.name: format for format in FORMATS}


def sniff(head: bytes) -> Format | None:
    """Return the format whose signature `head` (the first bytes of a file) carries, whatever its name is."""
    return next((format for format in FORMATS if format.matches(head)), None)


def describe(head: bytes) -> str:
    """Return what a file that is none of the formats seems to be, in words for a person."""
    for signature, words in _OTHERS:
        if head.startswith(signature):
            return words
    brands = _brands(head)
    if brands:
        return "a video" if brands & _VIDEO_BRANDS else "a media file of another kind"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:512].lower()
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in head[:HEAD].lower():
        return "an SVG drawing"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if _is_text(head[:512]):
        return "a text file"
    return "a file of an unknown kind"


def _is_text(start: bytes) -> bool:
    try:
        words = start.decode()
    except UnicodeDecodeError as error:  # a character cut in two at the end is still text
        words = start[: error.start].decode() if len(start) - error.start < 4 else ""
    return bool(words) and all(letter.isprintable() or letter.isspace() for letter in words)


def loaders(names: Iterable[str]) -> tuple[str, ...]:
    """Return the libvips loader classes that the named formats need, and no other."""
    return tuple(loader for name in names for loader in BY_NAME[name].loaders)


_VIDEO_BRANDS = {b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ", b"3gp4", b"3gp5", b"avc1"}
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"qoif", "a QOI picture"),
    (b"P1\n", "a PNM picture"),
    (b"P2\n", "a PNM picture"),
    (b"P3\n", "a PNM picture"),
    (b"P4\n", "a PNM picture"),
    (b"P5\n", "a PNM picture"),
    (b"P6\n", "a PNM picture"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"\x08\xf2\xa6\xb6", "a picture in libvips' own format"),
    (b"\xb6\xa6\xf2\x08", "a picture in libvips' own format"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a script"),
    (b"OggS", "an audio or video file"),
    (b"ID3", "an audio file"),
    (b"\x1aE\xdf\xa3", "a video"),
)
