"""Variants from one decode: the largest from the picture, each smaller one from the one before it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pipelines.decoder import colour, pixel_memory, thumbnail_jpeg, vips
from pipelines.decoder.jpeg_options import jpeg_options
from pipelines.decoder.picture import Image, ImageInMemory, Picture, Samples, samples
from pipelines.decoder.refusal import corrupt
from pipelines.formats import memory
from pipelines.scaling import scaled

_TURNS = {
    2: lambda image: image.fliphor(),
    3: lambda image: image.rot180(),
    4: lambda image: image.flipver(),
    5: lambda image: image.rot90().fliphor(),
    6: lambda image: image.rot90(),
    7: lambda image: image.rot270().fliphor(),
    8: lambda image: image.rot270(),
}

# Two lobes instead of three save a twentieth of a photo's time; what changes is far below what JPEG changes.
_FROM_WHOLE = "lanczos2"
_HIGH_WEBP_QUALITY = 85  # above which noise takes far more memory to be encoded
_FEW_PIXELS = 400_000  # threads take longer than they do
_FEW, _ENOUGH = 16, 16  # rows or columns that are left, and how many of the picture's for each of them


Store = Callable[[Image], Samples]
"""Computes the pixels of an image; says where."""


@dataclass(frozen=True)
class Target:
    """One variant to make: the size to scale the whole picture to, and the size to crop that to."""

    index: int
    spec: dict[str, Any]
    width: int
    height: int
    crop_width: int
    crop_height: int

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def encoding_key(self) -> tuple[Any, ...]:
        """The fields that decide the variant's bytes: targets with the same one are one file."""
        spec = {name: value for name, value in self.spec.items() if name not in ("name", "box")}
        return (self.width, self.height, self.crop_width, self.crop_height, repr(sorted(spec.items())))

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def background(self) -> tuple[int, ...]:
        return tuple(self.spec["background"])


def targets(width: int, height: int, specs: Sequence[dict[str, Any]]) -> list[Target]:
    """Return what to make of a picture of that size, the largest first."""
    found = [_target(index, spec, width, height) for index, spec in enumerate(specs)]
    return sorted(found, key=lambda target: target.width * target.height, reverse=True)


def smallest_whole(order: Sequence[Target]) -> Target:
    """The last that has the proportions of the picture; of those that are all cut, the last."""
    return next((target for target in reversed(order) if target.spec["fit"] == "inside"), order[-1])


def _target(index: int, spec: dict[str, Any], width: int, height: int) -> Target:
    box = int(spec["box"])
    side = min(width, height) if spec["fit"] == "cover" else max(width, height)
    size = (width, height) if side <= box else (scaled(width, side, box), scaled(height, side, box))
    cropped = size if spec["fit"] != "cover" else (min(size[0], box), min(size[1], box))
    return Target(index, spec, *size, *cropped)


def rows_at_hand(picture: Picture, target: Target) -> float:
    """Say how many rows of a picture, as they are stored, are at hand at once while it is scaled down."""
    _, height, shrink = _as_stored(picture, target)
    side = min(picture.shape.width, picture.shape.height)
    shrunk = vips.shrunk_by(picture.format.name, shrink, side)
    return memory.rows_at_hand(picture.shape.height / shrunk, height) / shrunk


def held(picture: Picture, target: Target) -> int:
    """Say how many bytes of its pixels are in memory before it is scaled down, where it does not stream."""
    return picture.held(_as_stored(picture, target)[2])


def streams_alike(picture: Picture, target: Target, *, halved: bool) -> bool:
    """Say whether a picture that is streamed has the pixels of one that is not."""
    return picture.streams_alike(_as_stored(picture, target)[2], halved)


def _as_stored(picture: Picture, target: Target) -> tuple[int, int, float]:
    """Width and height of a variant before it is turned upright, and how much smaller that is."""
    width, height = (target.height, target.width) if picture.turned else (target.width, target.height)
    return width, height, min(picture.shape.width / width, picture.shape.height / height)


def first(
    picture: Picture, target: Target, backgrounds: set[tuple[int, ...]], *, halved: bool = False
) -> Image:
    """Decode the picture to its largest variant's size: upright, eight-bit sRGB, in memory.

    If colours are `halved`, all variants keep them at half the size.
    """
    width, height, shrink = _as_stored(picture, target)
    load = picture.load_halved if halved and picture.load_halved else picture.load
    image = loaded = colour.understood(load(shrink))
    numbered = picture.numbered or colour.numbers_in(image, picture.profile)
    profile = None if numbered else colour.needed_profile(image, picture.profile)
    if profile is None and numbered is None:
        image = colour.to_eight_bits(image)
        if len(backgrounds) == 1:
            image = flatten(image, next(iter(backgrounds)))
    turn = _TURNS.get(picture.orientation)
    # Pixels that are yet to be turned are dropped then: those that are kept would stay beside their copy.
    store: Store = pixel_memory.elsewhere if turn else pixel_memory.alone
    if turn and picture.at_hand():
        image, store = _upright(image, width, height, turn, sideways=picture.turned), pixel_memory.behind
        turn = None
    else:
        if picture.at_hand():
            store = partial(
                pixel_memory.over_itself, width=image.width, height=image.height, bands=image.bands
            )
        image = resize(image, width, height, _FROM_WHOLE, streams=not picture.at_hand())
    described = profile is not None or numbered is not None
    if described or image.format != "uchar" or image.interpretation not in ("srgb", "b-w"):
        # A picture that streams can be read only once.
        again = image.hasalpha() or numbered is not None
        image = colour.to_srgb(image.copy_memory() if again else image, profile, numbered)
    if len(backgrounds) == 1:
        image = flatten(image, next(iter(backgrounds)))
    is_there = image is loaded and picture.at_hand()
    del loaded
    if not is_there:
        # The pixels without metadata: each step would copy that, and a camera's takes longer than most steps.
        form = image.width, image.height, image.bands, image.format, image.interpretation
        few = picture.at_hand() and picture.shape.pixels <= _FEW_PIXELS
        pixels = samples(image) if few or isinstance(image, ImageInMemory) else store(image)
        del image  # with it the loader ends, and warns; libvips forgets those words where it is asked before
        if words := picture.damage():
            raise corrupt(picture.format.title, words)
        image = ImageInMemory(pixels, *form)
    return turn(image).copy_memory() if turn else image


def _upright(
    image: Image, width: int, height: int, turn: Callable[[Image], Image], *, sideways: bool
) -> Image:
    """Scale pixels in memory and turn them; lying ones between rows and columns.

    Rows are made fewer in a third of the time that columns take, and columns become rows.
    """
    if not sideways:
        return turn(resize(image, width, height, _FROM_WHOLE))
    upright = turn(resize(image, image.width, height, _FROM_WHOLE))
    return resize(upright, height, width, _FROM_WHOLE)


def resize(
    image: Image, width: int, height: int, kernel: str = "lanczos3", *, streams: bool = False
) -> Image:
    """Scale down to exactly that size; colour under transparent pixels does not bleed.

    A picture that `streams` is first shrunk to twice the size, so that few of its rows are kept.
    """
    size = image.width, image.height
    if size == (width, height):
        return image
    scale = partial(_scale, size=size, width=width, height=height, kernel=kernel, streams=streams)
    if not image.hasalpha():
        return scale(image)
    return scale(image.premultiply().cast(image.format)).unpremultiply().cast(image.format)


def _scale(
    image: Image, size: tuple[int, int], width: int, height: int, kernel: str, *, streams: bool
) -> Image:
    """Scale pixels; where only few rows or columns are left, each is the mean of its share of the picture.

    Of so few most of a kernel lies outside, and what it makes of the edges there changes the colours.
    """
    across, down = size
    if height < _FEW and height < down:
        wide = image if width == across else _scale(image, size, width, down, kernel, streams=streams)
        fewer = down // (_ENOUGH * height)
        wide = wide.shrinkv(fewer, ceil=True) if fewer > 1 else wide
        return wide.zoom(1, height).shrinkv(wide.height)
    if width < _FEW and width < across:
        high = image if height == down else _scale(image, size, across, height, kernel, streams=streams)
        fewer = across // (_ENOUGH * width)
        high = high.shrinkh(fewer, ceil=True) if fewer > 1 else high
        return high.zoom(width, 1).shrinkh(high.width)
    if streams:
        return image.resize(width / across, vscale=height / down, kernel=kernel)
    return image.reduce(across / width, down / height, kernel=kernel)


def smaller(image: Image, width: int, height: int) -> Image:
    """Return a picture in memory scaled down to that other size, in memory again."""
    resized = resize(image, width, height)
    few = image.width * image.height <= _FEW_PIXELS
    pixels = samples(resized) if few else resized.write_to_memory()
    return ImageInMemory(pixels, width, height, image.bands, image.format, image.interpretation)


def flatten(image: Image, background: tuple[int, ...]) -> Image:
    """Put eight-bit pixels with opacity on a background; leave others as they are."""
    if image.format != "uchar" or image.interpretation not in ("srgb", "b-w") or not image.hasalpha():
        return image
    if image.bands < 3 and len(set(background)) == 1:
        return image.flatten(background=[background[0]])
    if image.bands < 3:
        image = image.colourspace("srgb")
    return image.flatten(background=list(background))


def crop(image: Image, target: Target) -> Image:
    """Cut a scaled picture in memory to its variant: the middle, or what libvips finds worth seeing."""
    width, height = target.crop_width, target.crop_height
    if (width, height) == target.size:
        return image
    if (interesting := target.spec.get("crop", "centre")) != "centre":
        return image.smartcrop(width, height, interesting=interesting)
    return image.crop((target.width - width) // 2, (target.height - height) // 2, width, height)


def halves_colours(spec: dict[str, Any]) -> bool:
    """Whether a variant keeps its colours at half the size, as all do that are not asked for more."""
    return spec.get("subsampling") != "4:4:4"


def encoder(spec: dict[str, Any]) -> str:
    """What a variant's encoder is called in the table of their memory."""
    name = str(spec["format"])
    if spec.get("effort") == "small":
        name = f"small {name}"
    if name == "webp" and spec["quality"] > _HIGH_WEBP_QUALITY:
        return "webp of high quality"
    if spec.get("subsampling") != "4:4:4":
        return name
    if name == "jpeg":
        return "progressive jpeg 4:4:4" if spec.get("progressive") else name
    return f"{name} 4:4:4"


def encode(image: Image, target: Target) -> bytes:
    """Return the variant's file, with no metadata of any kind."""
    quality = int(target.spec["quality"])
    match target.spec["format"]:
        case "jpeg":
            options = jpeg_options(target.spec, image.width * image.height)
            if thumbnail_jpeg.suits(image, options):
                return thumbnail_jpeg.encode(image, options)
            return bytes(image.jpegsave_buffer(keep="none", **options))
        case "webp":
            return bytes(image.webpsave_buffer(Q=quality, keep="none"))
        case "avif":
            subsample = "off" if target.spec.get("subsampling") == "4:4:4" else "on"
            return bytes(
                image.heifsave_buffer(
                    Q=quality, compression="av1", effort=2, keep="none", subsample_mode=subsample
                )
            )
        case other:
            raise ValueError(f"no encoder for {other}")
