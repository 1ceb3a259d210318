"""The one table of input formats: which are accepted, by which decoder, up to which size."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from pipelines.formats import memory
from pipelines.formats.memory import Shape

Engine = Literal["vips", "pillow"]

VARIANT_PIXELS = 1920 * 1440
"""The largest variant of the default recipe, of a picture of the usual proportions."""
HEAD = 4096
"""The bytes from a file's beginning that `sniff` and `describe` read."""


@dataclass(frozen=True)
class Format:
    """One input format: how it is recognised, which child decodes it, and what that costs."""

    name: str
    title: str
    engine: Engine
    loaders: tuple[str, ...]
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
        made = int(variant_pixels * (3 * memory.ENCODER[encoder] + self.shrunk))
        made += memory.of_noise(encoder, variant_pixels)
        beside = memory.beside_held(variant_pixels) if self.name == "jpeg" and shape.held else 0
        return memory.FLOOR + source + self.memory(shape) + made + beside

    def largest(self, budget: int) -> int:
        """Return how many pixels of this format's costliest common kind fit a growth of `budget` bytes."""
        per_pixel = self.memory(self.costliest) / self.costliest.pixels
        return max(0, int((budget - self.estimate(Shape(0, 0))) / per_pixel))

    def reach(self, budget: int, max_pixels: int) -> str:
        """Return that for people, in whole megapixels: `78 MP`."""
        return f"{min(self.largest(budget), max_pixels) // 1_000_000} MP"


def brands(head: bytes) -> set[bytes]:
    """The major and compatible brands of an ISO media file (ISO/IEC 14496-12, 4.3), else nothing."""
    if head[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return {head[8:12]} | {head[at : at + 4] for at in range(16, end - 3, 4)}


_AVIF_BRANDS = {b"avif", b"avis"}  # AV1 Image File Format, 6
# ISO/IEC 23008-12, B.4; `mif1` and `msf1` of its clause 10 name no codec.
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}


def _is_avif(head: bytes) -> bool:
    return bool(brands(head) & _AVIF_BRANDS)


def _is_heic(head: bytes) -> bool:
    found = brands(head)
    return not found & _AVIF_BRANDS and bool(found & (_HEIC_BRANDS | {b"mif1", b"msf1"}))


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
        matches=lambda head: head.startswith(b"\xff\xd8\xff"),
        memory=memory.jpeg,
        costliest=Shape(4000, 3000, whole=True, density=1.5),
        note="baseline and progressive, grey, CMYK and YCCK; MPO and Ultra HDR: the first image",
    ),
    Format(
        name="png",
        title="PNG",
        engine="vips",
        loaders=("VipsForeignLoadPngSource",),
        matches=lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
        memory=memory.png,
        costliest=Shape(4000, 3000, bands=4, whole=True),
        note="all depths, palette, transparency, interlaced; APNG: the first frame",
    ),
    Format(
        name="webp",
        title="WebP",
        engine="vips",
        loaders=("VipsForeignLoadWebpSource",),
        matches=lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
        memory=memory.webp,
        costliest=Shape(4000, 3000, bands=4, whole=True),
        note="lossy, lossless, transparency; animated: the first frame",
        shrunk=12,
    ),
    Format(
        name="gif",
        title="GIF",
        engine="vips",
        loaders=("VipsForeignLoadNsgifSource",),
        matches=lambda head: head.startswith((b"GIF87a", b"GIF89a")),
        memory=memory.gif,
        costliest=_PHOTO,
        note="the first frame, with its transparency",
    ),
    Format(
        name="tiff",
        title="TIFF",
        engine="pillow",
        loaders=("VipsForeignLoadTiffSource",),
        matches=lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        memory=memory.tiff,
        costliest=Shape(4000, 3000, whole=True),
        note="the first full page; strips, tiles, planes, CMYK, Lab, 1 to 16 bit, float; no raw photos",
    ),
    Format(
        name="avif",
        title="AVIF",
        engine="pillow",
        loaders=("VipsForeignLoadHeifSource",),
        matches=_is_avif,
        memory=memory.avif,
        costliest=_PHOTO,
        note="8 to 12 bit, transparency; sequences: the first frame",
    ),
    Format(
        name="heic",
        title="HEIC",
        engine="pillow",
        loaders=(),
        matches=_is_heic,
        memory=memory.heic,
        costliest=_PHOTO,
        note="8 to 12 bit, transparency, through pillow-heif",
    ),
    Format(
        name="bmp",
        title="BMP",
        engine="pillow",
        loaders=(),
        matches=_is_bmp,
        memory=memory.bmp,
        costliest=Shape(4000, 3000, bands=4),
        note="1 to 32 bit, RLE, all masks; opaque if no pixel has opacity",
    ),
    Format(
        name="ico",
        title="ICO",
        engine="pillow",
        loaders=("VipsForeignLoadPngSource",),
        matches=_is_ico,
        memory=memory.ico,
        costliest=Shape(256, 256, bands=4, whole=True),
        note="the largest icon; a PNG inside through libvips, others through Pillow",
    ),
)

BY_NAME: dict[str, Format] = {format.name: format for format in FORMATS}


def sniff(head: bytes) -> Format | None:
    """Return the format whose signature `head` (the first bytes of a file) carries, whatever its name is."""
    return next((format for format in FORMATS if format.matches(head)), None)


def loaders(names: Iterable[str]) -> tuple[str, ...]:
    """Return the libvips loader classes that the named formats need, and no other."""
    return tuple(loader for name in names for loader in BY_NAME[name].loaders)
