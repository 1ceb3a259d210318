"""Colour: whatever the pixels mean, eight-bit sRGB comes out."""

import hashlib
from collections import OrderedDict
from typing import Literal

import pyvips

from pipelines.decoder import cicp, hdr, kept_transforms
from pipelines.decoder.arrays import numpy
from pipelines.decoder.cicp import Code
from pipelines.decoder.picture import Image, samples

ProfileKind = Literal["srgb", "usable", "broken"]

_TRANSFORM = {"intent": "relative", "black_point_compensation": True, "depth": 8}
_SPACES = {b"RGB ": 3, b"GRAY": 1, b"CMYK": 4}
_LEVELS = (0, 64, 128, 200, 255)
_SAME = 2  # eight-bit steps: sRGB profiles of different makers differ that much
_MEANINGS = {"srgb", "b-w", "rgb16", "grey16", "cmyk", "lab", "labs", "scrgb", "xyz"}
_TAGS_END = 132 + 12 * 100  # ICC.1, 7.3: the table of tags lies behind the header
_classified: OrderedDict[bytes, ProfileKind] = OrderedDict()


def classify(profile: bytes) -> ProfileKind:
    """Say whether a profile is sRGB under whatever name, another usable one, or none; once for each."""
    key = hashlib.sha256(profile).digest()
    kind = _classified.get(key)
    if kind is None:
        kind = _classified[key] = _try_out(profile)
        if len(_classified) > 256:
            _classified.popitem(last=False)
    return kind


def space(profile: bytes) -> int:
    """Return how many bands the profile's colours have, 0 for a space that no picture format uses."""
    # ICC.1, 7.2: the colour space at 16, the signature of every profile at 36.
    return _SPACES.get(profile[16:20], 0) if profile[36:40] == b"acsp" else 0


def _try_out(profile: bytes) -> ProfileKind:
    bands = space(profile)
    if bands == 0:
        return "broken"
    pixels = _samples(bands)
    count = len(pixels) // bands
    before = pyvips.Image.new_from_memory(pixels, count, 1, bands, "uchar")
    before = before.copy(interpretation={1: "b-w", 3: "srgb", 4: "cmyk"}[bands])
    try:
        after = bytes(_transform(before, profile).write_to_memory())
    except pyvips.Error:
        return "broken"
    if bands == 4:
        return "usable"
    expected = pixels if bands == 3 else bytes(level for level in pixels for _ in range(3))
    return "srgb" if max(abs(a - b) for a, b in zip(after, expected, strict=True)) <= _SAME else "usable"


def _samples(bands: int) -> bytes:
    if bands == 3:
        return bytes(level for r in _LEVELS for g in _LEVELS for b in _LEVELS for level in (r, g, b))
    return bytes(level for level in _LEVELS for _ in range(bands))


def _transform(image: Image, profile: bytes) -> Image:
    image = image.copy()
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image.icc_transform("srgb", embedded=True, **_TRANSFORM)


def needed_profile(image: Image, profile: bytes | None) -> bytes | None:
    """Return the profile if it fits the pixels and says something else than sRGB."""
    if profile is None or classify(profile) != "usable":
        return None
    bands = space(profile)
    colours = colour_bands(image)
    return profile if colours == bands or (colours, bands) == (1, 3) else None


def numbers_beside(profile: bytes | None, numbers: Code | None) -> Code | None:
    """Return the numbers of a HEIC or AVIF where they go before its profile, which says nothing of HDR."""
    if numbers is None or profile is None or numbers.is_hdr or classify(profile) == "broken":
        return numbers
    return None


def numbers_in(image: Image, profile: bytes | None) -> Code | None:
    """Return what a profile says by number of HDR, where the pixels can be meant."""
    if profile is None or b"cicp" not in profile[:_TAGS_END] or image.format not in ("uchar", "ushort"):
        return None
    fits = image.interpretation != "cmyk" and space(profile) in (1, 3)
    return cicp.of_profile(profile) if fits else None


def colour_bands(image: Image) -> int:
    """Return how many bands are colour; the next one, if any, is opacity."""
    if image.interpretation == "cmyk":
        return min(4, int(image.bands))
    return 1 if image.bands < 3 else 3


def understood(image: Image) -> Image:
    """Give a plain meaning to pixels that a file leaves open; drop what is neither colour nor opacity."""
    if image.interpretation not in _MEANINGS:
        grey = image.bands < 3
        image = image.copy(
            interpretation=("grey16" if grey else "rgb16") if image.format == "ushort" else "b-w"
        )
        image = image if grey or image.format == "ushort" else image.copy(interpretation="srgb")
    most = colour_bands(image) + 1
    return image.extract_band(0, n=most) if image.bands > most else image


def in_full_range(image: Image, levels: cicp.Levels) -> Image:
    """Stretch what libheif leaves in narrow range: levels of grey, and of RGB a part of the way."""
    if levels == "full":
        return image
    count, top = min(3, image.bands), 65_535 if image.format == "ushort" else 255
    black, white = 16 * (top + 1) / 256, 235 * (top + 1) / 256
    colours = image.extract_band(0, n=count)
    if levels == "narrow grey":
        by = top / (white - black)
        stretched = colours.linear([by] * count, [0.5 - black * by] * count)
    else:  # libheif takes red and blue for differences of colour, whose range is 224 instead of 219
        stretched = colours.linear([224 / 219, 1, 224 / 219], [0.5, 0.5, 0.5])
    stretched = stretched.cast(image.format).copy(interpretation=image.interpretation)
    return stretched.bandjoin(image.extract_band(count)) if image.bands > count else stretched


def to_eight_bits(image: Image) -> Image:
    """Make 16-bit sRGB and grey eight-bit; leave all else as it is."""
    if image.format == "ushort" and image.interpretation in ("rgb16", "grey16"):
        grey = colour_bands(image) == 1
        return image.cast("uchar", shift=True).copy(interpretation="b-w" if grey else "srgb")
    return image


def to_srgb(image: Image, profile: bytes | None, numbered: Code | None = None) -> Image:
    """Convert small pixels to eight-bit sRGB or grey, opacity kept as an eight-bit last band."""
    count = colour_bands(image)
    colours = image.extract_band(0, n=count) if image.bands > count else image
    if numbered is not None:
        converted = hdr.to_srgb(colours, numbered)
    elif profile is not None:
        if count == 1 and space(profile) == 3:
            colours = colours.bandjoin([colours, colours]).copy(
                interpretation="srgb" if image.format == "uchar" else "rgb16"
            )
        small = kept_transforms.converted(colours, profile) if space(profile) == 3 else None
        converted = _transform(colours, profile) if small is None else small
    elif image.interpretation == "cmyk":
        converted = colours.icc_transform("srgb", input_profile="cmyk", embedded=False, **_TRANSFORM)
    elif image.interpretation == "lab":  # of D50: libvips itself takes Lab for that of D65
        converted = colours.icc_export(output_profile="srgb", intent="relative", depth=8)
    else:
        converted = to_eight_bits(colours).colourspace("b-w" if count == 1 else "srgb")
    if image.bands > count:
        converted = converted.bandjoin(_opacity(image, count))
    return converted.cast("uchar") if converted.format != "uchar" else converted


def _opacity(image: Image, band: int) -> Image:
    opacity = image.extract_band(band)
    if opacity.format in ("ushort", "uint"):
        return opacity.cast("uchar", shift=True)
    if image.interpretation == "scrgb":
        return (opacity * 255).cast("uchar")
    return opacity.cast("uchar")


def dominant(image: Image) -> str:
    """Return the commonest colour of a small eight-bit picture as #rrggbb."""
    bands = image.bands
    pixels = numpy.frombuffer(samples(image), numpy.uint8).reshape(-1, bands)
    some = pixels[:: max(1, len(pixels) // 1024), : 3 if bands >= 3 else 1]
    groups = (some >> 5).astype(numpy.intp) @ _COARSE[: some.shape[1]]
    sizes = numpy.bincount(groups)[groups]
    members = some[groups == groups[sizes.argmax()]]  # of the largest groups the one that comes first
    means = [round(total / len(members)) for total in members.sum(0, dtype=int).tolist()]
    return "#" + "".join(f"{level:02x}" for level in (means if len(means) == 3 else means * 3))


_COARSE = numpy.array([64, 8, 1])
