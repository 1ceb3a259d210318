"""Pillow and pillow-heif as decoders: what libvips lacks, handed over to libvips as plain pixels."""

import base64
import io
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pillow_heif
import pyvips
from PIL import AvifImagePlugin, IcoImagePlugin, ImageFile
from PIL import Image as PillowImage
from PIL import __version__ as pillow_version

from pipelines.decoder import bmp, box_counts, cicp, colour, tiff, transforms, vips
from pipelines.decoder.picture import Image, Picture
from pipelines.decoder.refusal import Declined, unknown_kind
from pipelines.decoder.transforms import Transforms
from pipelines.formats import Format, Shape

_Probe = Callable[[Format, bytes, str], Picture]

_ROWS = 256
# Pixels: to reduce ten bits to eight, libheif takes more memory than sixteen do.
_LARGEST_REDUCED = 24_000_000
_TINY_HEIC = (
    "c-muNV30{GsVvAy%}izhg51nBLl8SRGck>UfiWyMwIq=N0u(b+a*CjAhJwuG5(YG&l$nzcHpIn&fe{FSfUycf1A!zED`"
    "#frrGa@MQBfc#l?lqrC`&d3G5HEIOLE~#u4NV!6#(h&nFY!DK)M2`%$boHBs2l6NbUo}pT9qTFfi~lCjfOwI56@s{{Ih"
    "BzzkBs3_^0dm>d#;lG;v;jA$|o6dGBlz4Fvtm&YW<!vPXH0U|gYl7Q;jT^J7*ZBTLmS|gmCpHq~VoKpc5=4D`O01Am@7"
    "8j&K{pJA00tJ~BnIHjX4i2Dc4C0vuxv<~^h6qa|6Eh1aBy&>|L7^wA!MI+s;d@Q1`TySZe<@Y}tywF!6aWA%&`MG"
)
_MODES = {"1": "L", "P": "RGB"}
_UNSIGNED = {1: "uchar", 2: "ushort"}
_INTERPRETATION = {
    ("L", 1): "b-w",
    ("LA", 1): "b-w",
    ("RGB", 1): "srgb",
    ("RGBA", 1): "srgb",
    ("L", 2): "grey16",
    ("LA", 2): "grey16",
    ("RGB", 2): "rgb16",
    ("RGBA", 2): "rgb16",
}


def version() -> str:
    return f"{vips.version()}, pillow {pillow_version}, libheif {pillow_heif.libheif_version()}"


def set_up(max_pixels: int) -> None:
    """One thread, and no picture over the limit, whichever way it comes in."""
    PillowImage.preinit()  # imports that Pillow would otherwise do at the first picture
    pillow_heif.options.DECODE_THREADS = 1
    pillow_heif.options.THUMBNAILS = False
    pillow_heif.options.DEPTH_IMAGES = False
    pillow_heif.options.AUX_IMAGES = False
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    PillowImage.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("ignore")


def samples(name: str) -> list[bytes]:
    """Return tiny pictures of that format, so that each codec can be tried once."""
    if name == "tiff":
        return [*vips.samples(name), _saved("TIFF", compression="zstd")]
    if name not in _PROBES or name == "avif":
        return vips.samples(name)
    if name == "heic":  # encoding one would load the whole encoder
        return [zlib.decompress(base64.b85decode(_TINY_HEIC))]
    return [_saved(name), bmp.TINY] if name == "bmp" else [_saved(name)]


def _saved(name: str, **options: object) -> bytes:
    file = io.BytesIO()
    PillowImage.new("RGBA", (16, 16), (200, 100, 50, 128)).save(file, name, **options)
    return file.getvalue()


def probe(format: Format, data: bytearray, damaged: str) -> Picture:
    """Read the header with libvips where it can, else with Pillow, or raise `Declined`."""
    if format.name == "tiff":
        return tiff.probe(format, data, damaged)
    if format.name in ("heic", "avif") and (parts := box_counts.excess(data)):
        raise unknown_kind(format.title, parts)
    if format.name in _PROBES and format.name != "avif":
        return _probe(format, data, damaged)
    try:
        return vips.probe(format, data, damaged)
    except Declined as refused:
        try:
            return _probe(format, data, damaged)
        except Declined:
            raise refused from None


def _probe(format: Format, data: bytearray, damaged: str) -> Picture:
    ImageFile.LOAD_TRUNCATED_IMAGES = damaged == "accept"
    try:
        picture = _PROBES[format.name](format, bytes(data), damaged)
    except Declined:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a malformed header makes them stumble over
        raise vips.refusal(format, error) from None
    return replace(picture, load=partial(_load, format, picture.load))


def _load(format: Format, load: Callable[[float], Image], shrink: float) -> Image:
    try:
        return load(shrink)
    except Declined:
        raise
    except Exception as error:
        raise vips.refusal(format, error) from None


def _probe_heic(format: Format, data: bytes, _: str) -> Picture:
    boxes, laid = cicp.of_boxes(data), Transforms()
    if boxes.opacity_lies_otherwise:
        without, laid = transforms.taken_out(data)
        data = bytes(without)
    code = boxes.code
    heif = _primary(data, reduced=code is None or not code.needs_depth)
    if heif.size[0] * heif.size[1] > _LARGEST_REDUCED:
        heif = _primary(data, reduced=False)
    profile: Any = heif.info.get("icc_profile")
    depth: Any = heif.info["bit_depth"]
    name, _, deep = heif.mode.replace("a", "A").replace("I", "L").partition(";")
    bands, sample = len(name), 2 if deep else 1

    def load(_: float) -> Image:
        width, height = heif.size
        image = pyvips.Image.new_from_memory(heif.data, heif.stride // sample, height, 1, _UNSIGNED[sample])
        image = image.crop(0, 0, width * bands, height).bandfold(factor=bands)
        image = laid.cropped(image.copy(interpretation=_INTERPRETATION[name, sample]))
        return image.unpremultiply().cast(image.format) if heif.premultiplied_alpha else image

    shape = Shape(*laid.size(*heif.size), bands, sample, reduced=sample == 1 and depth > 8)
    numbered = colour.numbers_beside(profile, code)
    return Picture(format, shape, laid.orientation, profile, load, numbered=numbered, stored=boxes.size)


def _probe_bmp(format: Format, data: bytes, damaged: str) -> Picture:
    masks = bmp.read_masks(data)
    if masks is not None and not masks.are_usual:
        return bmp.probe_masked(format, data, masks, damaged)
    opened = bmp.Bitmap(io.BytesIO(data))
    if opened.has_runs:
        return bmp.probe_runs(format, data, opened, damaged)
    return _picture(format, opened)


def _primary(data: bytes, *, reduced: bool) -> pillow_heif.HeifImage:
    """Open the primary image, which is reduced to eight bits if it has more."""
    try:
        file = pillow_heif.open_heif(data, convert_hdr_to_8bit=reduced)
    except ValueError:
        mended = cicp.without_reserved(data)
        if mended == data:
            raise
        file = pillow_heif.open_heif(mended, convert_hdr_to_8bit=reduced)
    return file[file.primary_index]


def _probe_ico(format: Format, data: bytes, damaged: str) -> Picture:
    icons = IcoImagePlugin.IcoFile(io.BytesIO(data))
    largest = icons.entry[0]
    inside = data[largest.offset :]  # the size that the directory tells is often too small
    if inside.startswith(b"\x89PNG"):  # may be of any size, whatever the directory says
        return vips.probe(format, bytearray(inside), damaged)
    bitmap = bmp.open_icon(inside)

    def load(_: float) -> Image:
        return _pixels(bmp.decode_icon(bitmap, inside, largest.size, damaged))

    return Picture(format, Shape(*bitmap.size, bands=4, whole=True), 1, None, load)


def _probe_avif(format: Format, data: bytes, _: str) -> Picture:
    without, laid = transforms.taken_out(data)  # for Pillow does not crop
    picture = _picture(format, AvifImagePlugin.AvifImageFile(io.BytesIO(without)))
    width, height = laid.size(picture.shape.width, picture.shape.height)
    boxes = cicp.of_boxes(data)
    return replace(
        picture,
        stored=boxes.size,
        shape=replace(picture.shape, width=width, height=height),
        orientation=laid.orientation,
        load=lambda shrink: laid.cropped(picture.load(shrink)),
        numbered=colour.numbers_beside(picture.profile, boxes.code),
    )


def _picture(format: Format, opened: PillowImage.Image) -> Picture:
    return Picture(
        format=format,
        shape=Shape(*opened.size, bands={"1": 1, "L": 1, "P": 3}.get(opened.mode, 4)),
        orientation=1,
        profile=opened.info.get("icc_profile"),
        load=lambda _: _pixels(opened),
    )


def _pixels(opened: PillowImage.Image) -> Image:
    """Decode and hand over as libvips pixels, some rows at a time so that there is only one copy more."""
    opened.load()
    mode = _mode(opened)
    width, height = opened.size
    bands = len(mode)
    pixels = bytearray(width * height * bands)
    for top in range(0, height, _ROWS):
        rows = opened.crop((0, top, width, min(top + _ROWS, height)))
        part = (rows if rows.mode == mode else rows.convert(mode)).tobytes()
        pixels[top * width * bands : top * width * bands + len(part)] = part
    image = pyvips.Image.new_from_memory(pixels, width, height, bands, "uchar")
    return image.copy(interpretation=_INTERPRETATION[mode, 1])


def _mode(opened: PillowImage.Image) -> str:
    if opened.mode in ("P", "L", "RGB") and "transparency" in opened.info:
        return "RGBA"
    return _MODES.get(opened.mode, opened.mode)


_PROBES: dict[str, _Probe] = {
    "heic": _probe_heic,
    "bmp": _probe_bmp,
    "ico": _probe_ico,
    "avif": _probe_avif,
}
