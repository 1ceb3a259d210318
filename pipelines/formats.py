"""What is accepted, by which decoder, up to which size: the one table of input formats."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Engine = Literal["vips", "pillow"]

MIB = 1024 * 1024
VARIANT_PIXELS = 1920 * 1440
"""The largest variant of the default recipe, of a picture of the usual proportions."""
HEAD = 4096
"""As many bytes of a file as `sniff` and `describe` look at."""

# Measured on libvips 8.18, libheif 1.23 and Pillow 13, each estimate 1 to 1.3 times the growth of a child's
# memory from 24 megapixels up; small pictures cost less than the floor.
_FLOOR = 12 * MIB
_ENCODER = {"jpeg": 2.4, "webp": 3.2, "avif": 9.0}  # times the variant's pixels in memory


@dataclass(frozen=True)
class Shape:
    """What a header says about the work ahead: size and samples as stored, whether all is needed at once."""

    width: int
    height: int
    bands: int = 3
    sample: int = 1  # bytes
    whole: bool = (
        False  # progressive, interlaced, lossless, plane by plane: whatever keeps the decoder from streaming
    )
    density: float = 3.0  # of a JPEG: samples stored for each pixel

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def bytes(self) -> int:
        return self.pixels * self.bands * self.sample


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
    costliest: Shape
    note: str
    shrunk: float = 0  # bytes a variant's pixel more, where the decoder itself scales down, into memory

    def estimate(
        self, shape: Shape, source_bytes: int = 0, variant_pixels: int = VARIANT_PIXELS, encoder: str = "jpeg"
    ) -> int:
        """Return the bytes by which a child grows at most when it makes variants of this picture."""
        source = 2 * source_bytes  # Pillow and pillow-heif keep a copy of their own
        made = int(variant_pixels * (3 * _ENCODER[encoder] + self.shrunk))
        return _FLOOR + source + self.memory(shape) + made

    def largest(self, budget: int) -> int:
        """Return how many pixels of this format's costliest common kind fit a growth of `budget` bytes."""
        per_pixel = self.memory(self.costliest) / self.costliest.pixels
        return max(0, int((budget - self.estimate(Shape(0, 0))) / per_pixel))

    def reach(self, budget: int, max_pixels: int) -> str:
        """Return what people are told of that, in whole megapixels: `78 MP`."""
        return f"{min(self.largest(budget), max_pixels) // 1_000_000} MP"


def _streamed(shape: Shape) -> float:
    # libvips keeps the source rows of some 250 rows of the variant: a share of the picture.
    return shape.pixels * shape.bands * {1: 0.2, 2: 0.26}.get(shape.sample, 0.22 * shape.sample)


def _jpeg_memory(shape: Shape) -> int:
    coefficients = shape.pixels * 2 * shape.density if shape.whole else 0.0
    return int(coefficients + shape.pixels * shape.bands * 0.1)


def _png_memory(shape: Shape) -> int:
    return int(shape.bytes + shape.pixels * shape.bands * 0.12 if shape.whole else _streamed(shape))


def _webp_memory(shape: Shape) -> int:
    return int(shape.pixels * (4.1 if shape.whole else 2.0 if shape.bands == 4 else 0.1))


def _gif_memory(shape: Shape) -> int:
    return int(shape.pixels * 4.8)


def _tiff_memory(shape: Shape) -> int:
    return int(shape.bytes if shape.whole else 0) + int(_streamed(shape))


def _avif_memory(shape: Shape) -> int:
    return int(shape.pixels * (15.5 + (shape.bands == 4) if shape.sample == 1 else 25))


def _heic_memory(shape: Shape) -> int:
    return int(shape.pixels * ((4.8 if shape.bands < 4 else 7) + (2.4 if shape.sample > 1 else 0)))


def _bmp_memory(shape: Shape) -> int:
    return int(shape.pixels * {1: 2.2, 3: 4.5}.get(shape.bands, 8.4))  # what Pillow keeps, and a copy


def _ico_memory(shape: Shape) -> int:
    return shape.pixels * 13 if shape.whole else int(_streamed(shape))


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
        costliest=Shape(4000, 3000, whole=True, density=1.5),
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
        costliest=Shape(4000, 3000, bands=4, whole=True),
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
        costliest=Shape(4000, 3000, bands=4, whole=True),
        note="lossy, lossless, transparency; animated: the first frame",
        shrunk=12,
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
        costliest=_PHOTO,
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
        costliest=Shape(4000, 3000, whole=True),
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
        memory=_avif_memory,
        costliest=_PHOTO,
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
        memory=_heic_memory,
        costliest=_PHOTO,
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
        memory=_bmp_memory,
        costliest=Shape(4000, 3000, bands=4),
        note="1 to 32 bit, RLE; through Pillow",
    ),
    Format(
        name="ico",
        title="ICO",
        engine="pillow",
        loaders=("VipsForeignLoadPngSource",),
        extensions=(".ico",),
        media_types=("image/vnd.microsoft.icon", "image/x-icon"),
        matches=_is_ico,
        memory=_ico_memory,
        costliest=Shape(256, 256, bands=4, whole=True),
        note="the largest icon; a PNG inside through libvips, others through Pillow",
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
    (b"\x08\xf2\xa6\xb6", "a VIPS working file"),
    (b"\xb6\xa6\xf2\x08", "a VIPS working file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a script"),
    (b"OggS", "an audio or video file"),
    (b"ID3", "an audio file"),
    (b"\x1aE\xdf\xa3", "a video"),
)
