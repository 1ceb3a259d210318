"""libvips as a decoder: exactly the loaders of the formats that are on, one thread, no cache, no path."""

import re
import struct
from collections.abc import Iterable
from functools import partial
from typing import Any

import pyvips

from pipelines.decoder import cicp, colour, headers, jpeg, plain_jpeg, png, shortage, transforms, webp
from pipelines.decoder.cicp import Code
from pipelines.decoder.picture import Image, Picture
from pipelines.decoder.refusal import Declined, corrupt, starved, too_much_memory, unknown_kind
from pipelines.decoder.transforms import Transforms
from pipelines.formats import Format, Shape, loaders

LARGEST_PROFILE = 4 * 1024 * 1024  # the largest press profiles have 3 MB; beyond that it is a bomb

_MOST_WARNINGS, _LONGEST_WARNING = 50, 1000
# Pixels: of a side that loaders would make shorter they leave out rows that one would see. libwebp besides
# scales the colours of an odd number of columns as if there were one more.
_SHORTEST, _SHORTEST_WEBP = 16, 256
_COARSE = 4 / 3, 2  # times the largest variant: less shows two pixels of one colour, more takes no less time
_SHORT = ("out of memory", "insufficient memory", "memory allocation", "allocate", "allocating")
_SHRUNK = 4  # times, from which on libvips shrinks what it streams before it is scaled
# libjpeg repairs these and goes on; its other warnings are about bytes between the segments. Before a restart
# marker (0xd0 to 0xd7) they are pixels of an interval that another marker should have ended. The last is
# libtiff's, of PackBits with a run that goes on behind its strip.
_DAMAGE = re.compile(
    "premature end of data segment|bad Huffman code|instead of RST|bad arithmetic code"
    "|extraneous bytes before marker 0xd[0-7]|to avoid buffer overrun"
)

# Python's words for a header that ends too soon or says what cannot be are about code, not about the picture.
_STUMBLES = (
    struct.error,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    UnicodeError,
)

_SAMPLE = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "uint": 4, "int": 4, "float": 4, "double": 8}
_SAVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("jpegsave_buffer", {}),
    "png": ("pngsave_buffer", {}),
    "webp": ("webpsave_buffer", {}),
    # To choose 256 colours with care would take longer than all other samples.
    "gif": ("gifsave_buffer", {"effort": 1, "bitdepth": 4}),
    "tiff": ("tiffsave_buffer", {}),
    "avif": ("heifsave_buffer", {"compression": "av1", "effort": 0}),
}


def version() -> str:
    libvips = "libvips " + ".".join(str(pyvips.version(part)) for part in range(3))
    return ", ".join(filter(None, (libvips, plain_jpeg.version())))


warnings: list[str] = []
"""What libvips said of the picture in hand without refusing it: the first lines, and the first of damage."""


def set_up(names: Iterable[str]) -> None:
    """Allow the loaders of the named formats and forbid every other; one thread, no cache."""
    _listen()
    pyvips.error._to_string = _text
    pyvips.voperation.concurrency_set(1)
    pyvips.cache_set_max(0)
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in loaders(names):
        if pyvips.type_from_name(name) == 0:  # an unknown name would be accepted silently
            raise LookupError(f"libvips has no loader {name}")
        pyvips.operation_block_set(name, False)


def _listen() -> None:
    """Hear what libvips warns of, and none of its steps: Python would be called for each."""
    pyvips.ffi.def_extern(name="_log_handler_callback")(hear)
    level = pyvips.GLogLevelFlags
    heard = level.LEVEL_MESSAGE | level.LEVEL_WARNING | level.LEVEL_CRITICAL | level.LEVEL_ERROR
    pyvips._remove_log_handler()
    pyvips._log_handler_id = pyvips.glib_lib.g_log_set_handler(
        b"VIPS", heard | level.FLAG_FATAL | level.FLAG_RECURSION, pyvips._log_handler_cb, pyvips.ffi.NULL
    )


def hear(_domain: object, _level: int, message: object, _data: object) -> None:
    """Keep a warning of libvips, if it is among the first or of damage."""
    # A small file can make millions of warnings, so that each must cost next to nothing.
    said = pyvips.ffi.string(message, _LONGEST_WARNING).decode("utf-8", "replace")
    if len(warnings) < _MOST_WARNINGS:
        warnings.extend(said.splitlines())
    elif len(warnings) < 2 * _MOST_WARNINGS and _DAMAGE.search(said):
        warnings.append(said)


def _text(pointer: object) -> str:
    """Return what libvips says; pyvips fails, again and again, where it quotes bytes that are no text."""
    return "" if pointer == pyvips.ffi.NULL else str(pyvips.ffi.string(pointer), "utf-8", "replace")


def samples(name: str) -> list[bytes]:
    """Return tiny pictures of that format, with any opacity that it knows: each codec is to be tried once."""
    tiny = (pyvips.Image.xyz(64, 64) * 4).bandjoin([128, 200]).cast("uchar").copy(interpretation="srgb")
    save, options = _SAVERS[name]
    return [bytes(getattr(tiny, save)(**options))]


def probe(format: Format, data: bytearray, damaged: str) -> Picture:
    """Read the header, or raise `Declined`."""
    if format.name == "jpeg" and (header := plain_jpeg.read(data)):
        return _Plain(format, data, damaged, header).picture()
    return _probe(format, data, damaged)


class _Plain:
    """A JPEG that libjpeg-turbo decodes alone; where that complains, it is as if there were no such way."""

    def __init__(self, format: Format, data: bytearray, damaged: str, header: plain_jpeg.Header) -> None:
        self._file = format, data, damaged
        self._header = header
        self._otherwise: Picture | None = None

    def picture(self) -> Picture:
        warnings.clear()
        header = self._header
        return Picture(
            format=self._file[0],
            shape=headers.jpeg_shape(self._file[1], header.width, header.height) or Shape(0, 0),
            orientation=header.orientation,
            profile=_usable(header.profile),
            load=self._load,
            load_halved=partial(self._load, halved=True),
            damage=self._damage,
            held=self._held,
            streamed=partial(_probe, *self._file),
            streams_alike=self._streams_alike,
            at_hand=lambda: self._otherwise is None,
        )

    def _load(self, shrink: float, *, halved: bool = False) -> Image:
        eighths, coarse = self._eighths(shrink), halved and self._is_coarse(shrink)
        if (image := plain_jpeg.decode(self._file[1], self._header, eighths, coarse=coarse)) is not None:
            return image
        self._otherwise = _probe(*self._file)
        if self._otherwise.excess:
            raise unknown_kind(self._file[0].title, self._otherwise.excess)
        return self._otherwise.load(shrink)

    def _eighths(self, shrink: float) -> int:
        by = _shrinking("jpeg", shrink, min(self._header.width, self._header.height))["shrink"]
        return plain_jpeg.eighths(self._header, shrink, int(by))

    def _is_coarse(self, shrink: float) -> bool:
        least, most = _COARSE
        return self._header.components > 1 and least <= shrink < most

    def _streams_alike(self, shrink: float, halved: bool) -> bool:
        eighths, is_coarse = self._eighths(shrink), halved and self._is_coarse(shrink)
        return not is_coarse and eighths != plain_jpeg.FIVE and shrink * eighths / plain_jpeg.WHOLE < _SHRUNK

    def _damage(self) -> str:
        return "" if self._otherwise is None else self._otherwise.damage()

    def _held(self, shrink: float) -> int:
        size = self._header.pixels(self._eighths(shrink))
        return size if size <= plain_jpeg.MOST_PIXELS else 0


def _probe(format: Format, data: bytearray, damaged: str) -> Picture:
    warnings.clear()
    pyvips.vips_lib.vips_error_clear()  # a warning has all of that, also what was said of the picture before
    ended = format.name == "jpeg" and damaged == "reject" and jpeg.add_end(data)
    boxes = cicp.of_boxes(data) if format.name == "avif" else cicp.Boxes()
    laid = Transforms()
    if boxes.opacity_lies_otherwise:
        data, laid = transforms.taken_out(data)
    if format.name == "webp":
        data = webp.first_frames(data)
    source = pyvips.Source.new_from_memory(png.strip_chunks(data, LARGEST_PROFILE))
    operation = pyvips.base.nickname_find(pyvips.type_from_name(format.loaders[0]))
    options = {"access": "sequential", "fail_on": "error" if damaged == "reject" else "none"}

    def load(shrink: float = 1, side: int = 1) -> Image:
        shrinking = _shrinking(format.name, shrink, side)
        image = pyvips.Operation.call(operation, source, **options, **shrinking)
        image = laid.cropped(colour.in_full_range(image, boxes.levels))
        return image.unpremultiply().cast(image.format) if boxes.premultiplied and image.hasalpha() else image

    try:
        image = load()
        width, height = image.width, image.height
        profile, numbered = _colour(format, data, image, boxes.code)
        return Picture(
            format=format,
            shape=headers.jpeg_shape(data, width, height) or _shape(format, data, image, boxes.density),
            orientation=laid.orientation if boxes.opacity_lies_otherwise else _orientation(image),
            profile=profile,
            load=partial(load, side=min(width, height)),
            damage=_lost if ended else damage if damaged == "reject" else str,
            numbered=numbered,
            stored=boxes.size,
            excess=jpeg.excess(data, width * height) if format.name == "jpeg" else "",
        )
    except pyvips.Error as error:
        raise refusal(format, error) from None


def damage() -> str:
    """Return the warning, if any, about missing or false pixels in the picture just decoded."""
    return next(filter(_DAMAGE.search, warnings), "")


def _lost() -> str:
    """Return a warning, if any, about a picture that was given its end marker and may lack pixels as well."""
    return "" if all(map(jpeg.is_harmless, warnings)) else "premature end of JPEG image"


def refusal(format: Format, error: Exception) -> Declined:
    """Say what an error of the library means for the picture."""
    said = str(getattr(error, "detail", "") or error)
    if shortage.is_meant_by(said):
        return starved(_last_word(said))
    detail = "" if isinstance(error, _STUMBLES) else _last_word(said)
    limited = "security limit" in detail.lower()  # libheif's: of parts, mostly
    short = any(words in detail.lower() for words in _SHORT) and not limited
    if isinstance(error, MemoryError) or short:
        return too_much_memory(format.title)
    if detail.startswith("Unsupported") or (limited and "image size" not in detail.lower()):
        return unknown_kind(format.title, detail)
    return corrupt(format.title, detail)


def _last_word(detail: str) -> str:
    lines = [line for line in detail.splitlines() if line.strip() and "bad seek" not in line]
    return lines[-1] if lines else ""


def shrunk_by(name: str, shrink: float, side: int) -> float:
    """Return by how much that format's loader scales down itself; `side` is the shorter one."""
    options = _shrinking(name, shrink, side)
    return options.get("shrink", 1 / options.get("scale", 1))


def _shrinking(name: str, shrink: float, side: int) -> dict[str, float]:
    """The options by which that format's loader scales down, by at most `shrink`; `side` is the shorter."""
    match name:
        case "jpeg":  # halving is as good as the resampler's and a third quicker; by 4 and 8 it is coarser
            most = side / _SHORTEST
            factors = (by for by, least in ((8, 12), (4, 6), (2, 2)) if shrink >= least and by <= most)
            return {"shrink": next(factors, 1)}
        case "webp":
            most = side / _SHORTEST_WEBP
            return {"scale": 1 / max(1.0, shrink if shrink <= most else most if most >= 2 else 1.0)}
        case _:
            return {}


def _shape(format: Format, data: bytearray, image: Image, density: float) -> Shape:
    lossless = format.name == "webp" and headers.is_lossless_webp(data)
    deep = _number(image, "bits-per-sample", 8) > 8
    return Shape(
        width=image.width,
        height=image.height,
        bands=image.bands,
        sample=max(_SAMPLE.get(image.format, 8), 2 if deep else 1),
        whole=lossless or bool(_number(image, "interlaced", 0)),
        density=density,
    )


def _orientation(image: Image) -> int:
    value = _number(image, "orientation", 1)
    return value if 1 <= value <= 8 else 1


def _profile(image: Image) -> bytes | None:
    if image.get_typeof("icc-profile-data") == 0:
        return None
    return _usable(bytes(image.get("icc-profile-data")))


def _usable(profile: bytes | None) -> bytes | None:
    return None if profile is None or len(profile) > LARGEST_PROFILE else profile


def _colour(
    format: Format, data: bytearray, image: Image, boxed: Code | None
) -> tuple[bytes | None, Code | None]:
    """Return the profile or the numbers by which the colours are to be understood, if any."""
    if format.name in ("png", "ico") and (code := cicp.of_png(data)):
        return None, None if code.is_srgb else code
    profile = _profile(image)
    return profile, colour.numbers_beside(profile, boxed)


def _number(image: Image, field: str, otherwise: int) -> int:
    return int(image.get(field)) if image.get_typeof(field) != 0 else otherwise
