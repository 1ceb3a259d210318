"""libvips as a decoder: exactly the loaders of the formats that are on, one thread, no cache, no path."""

from collections.abc import Callable, Iterable
from typing import Any

import pyvips

from pipelines.decoder.picture import Image, Picture
from pipelines.decoder.refusal import Refused, corrupt, too_much_memory
from pipelines.formats import Format, Shape, loaders

LARGEST_PROFILE = 4 * 1024 * 1024  # the largest press profiles have 3 MB; beyond that it is a bomb

Source = Any

_SAMPLE = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "uint": 4, "int": 4, "float": 4, "double": 8}
OPERATIONS = {
    "jpeg": "jpegload_source",
    "png": "pngload_source",
    "webp": "webpload_source",
    "gif": "gifload_source",
    "tiff": "tiffload_source",
    "avif": "heifload_source",
}


_SAVERS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("jpegsave_buffer", {}),
    "png": ("pngsave_buffer", {}),
    "webp": ("webpsave_buffer", {}),
    "gif": ("gifsave_buffer", {}),
    "tiff": ("tiffsave_buffer", {}),
    "avif": ("heifsave_buffer", {"compression": "av1", "effort": 0}),
}


def version() -> str:
    """Return the library's name and version."""
    return "libvips " + ".".join(str(pyvips.version(part)) for part in range(3))


def set_up(names: Iterable[str]) -> None:
    """Allow the loaders of the named formats and forbid every other; one thread, no cache."""
    pyvips.voperation.concurrency_set(1)
    pyvips.cache_set_max(0)
    pyvips.block_untrusted_set(True)
    pyvips.operation_block_set("VipsForeignLoad", True)
    for name in loaders(names):
        if pyvips.type_from_name(name) == 0:  # an unknown name would be accepted silently
            raise LookupError(f"libvips has no loader {name}")
        pyvips.operation_block_set(name, False)


def samples(name: str) -> list[bytes]:
    """Return tiny pictures of that format, without and with opacity."""
    tiny = (pyvips.Image.xyz(64, 64) * 4).bandjoin(128).cast("uchar").copy(interpretation="srgb")
    save, options = _SAVERS[name]
    return [bytes(getattr(image, save)(**options)) for image in (tiny, tiny.bandjoin(200))]


def probe(format: Format, data: bytearray, damaged: str, strip_rows: int | None = None) -> Picture:
    """Read the header, or raise `Refused`."""
    source = pyvips.Source.new_from_memory(data)
    fail_on = "error" if damaged == "reject" else "none"

    def load(shrink: float) -> Image:
        return _load(
            format, source, access="sequential", fail_on=fail_on, **_SHRINK.get(format.name, _whole)(shrink)
        )

    try:
        image = load(1)
        return Picture(
            format=format,
            shape=_shape(image, strip_rows),
            orientation=_orientation(image),
            frames=_number(image, "n-pages", 1),
            profile=_profile(image),
            load=load,
        )
    except pyvips.Error as error:
        raise refusal(format, error) from None


def refusal(format: Format, error: Exception) -> Refused:
    """Say what an error of the library means for the picture."""
    detail = _last_word(str(getattr(error, "detail", "") or error))
    if isinstance(error, MemoryError) or "out of memory" in detail.lower() or "allocate" in detail:
        return too_much_memory(format.title)
    return corrupt(format.title, detail)


def _last_word(detail: str) -> str:
    lines = [line for line in detail.splitlines() if line.strip() and "bad seek" not in line]
    return lines[-1] if lines else ""


def _load(format: Format, source: Source, **options: object) -> Image:
    return pyvips.Operation.call(OPERATIONS[format.name], source, **options)


def _whole(shrink: float) -> dict[str, Any]:
    return {}


def _jpeg_shrink(shrink: float) -> dict[str, Any]:
    # Leave a factor of two to the resampler: libjpeg's own shrinking is coarse.
    return {"shrink": next(factor for factor in (8, 4, 2, 1) if factor == 1 or shrink >= 2 * factor)}


def _webp_shrink(shrink: float) -> dict[str, Any]:
    return {"scale": 1 / max(1.0, shrink)}


_SHRINK: dict[str, Callable[[float], dict[str, Any]]] = {"jpeg": _jpeg_shrink, "webp": _webp_shrink}


def _shape(image: Image, strip_rows: int | None) -> Shape:
    in_one = strip_rows is not None and strip_rows > 1024
    return Shape(
        width=image.width,
        height=image.height,
        bands=image.bands,
        sample=_SAMPLE.get(image.format, 8),
        whole=in_one or bool(_number(image, "interlaced", 0)),
        subsampled=_text(image, "jpeg-chroma-subsample") == "4:2:0",
    )


def _orientation(image: Image) -> int:
    value = _number(image, "orientation", 1)
    return value if 1 <= value <= 8 else 1


def _profile(image: Image) -> bytes | None:
    if image.get_typeof("icc-profile-data") == 0:
        return None
    profile = bytes(image.get("icc-profile-data"))
    return profile if len(profile) <= LARGEST_PROFILE else None


def _number(image: Image, field: str, otherwise: int) -> int:
    return int(image.get(field)) if image.get_typeof(field) != 0 else otherwise


def _text(image: Image, field: str) -> str:
    return str(image.get(field)) if image.get_typeof(field) != 0 else ""
