"""Pictures as phones take them: 12 to 48 megapixels, made of photos of a camera, the same in each run.

What decides what they cost is as phones have it: size, bytes, subsampling, orientation, the EXIF with its
thumbnail, the colour space. A tenth is progressive: phones write no such files, apps that edit pictures do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyvips

_THUMBNAIL = 512  # the widest side of what is embedded: 160 on iPhones, 512 with most others
_STORED = {1: "d0", 3: "d180", 6: "d270", 8: "d90"}
"""How an upright picture is turned before it is stored under each orientation."""
_DETAIL = 0.7
_BLUR = 1.5
_GRAIN = 1024  # pixels, then it is repeated


@dataclass(frozen=True)
class Phone:
    """What one phone writes: its sensor lies on the side, so a portrait has the orientation 6 or 8."""

    width: int
    height: int
    quality: int
    noise: float
    orientation: int = 1
    thumbnail: int = _THUMBNAIL
    is_p3: bool = False
    is_progressive: bool = False


PHONES: Sequence[Phone] = (
    Phone(4032, 3024, 92, 4.0, orientation=6, thumbnail=160, is_p3=True),  # iPhones
    Phone(4000, 3000, 94, 3.5, orientation=6),
    Phone(4080, 3072, 93, 4.0),
    Phone(8000, 6000, 91, 3.0),  # all of a sensor whose pixels are mostly used in fours
    Phone(4032, 3024, 93, 4.0, thumbnail=160, is_p3=True),
    Phone(4000, 3000, 94, 3.5, orientation=8),
    Phone(4032, 3024, 93, 4.0, is_progressive=True),  # saved by an app
    Phone(5712, 4284, 90, 3.5, orientation=6, thumbnail=160, is_p3=True),
    Phone(4608, 3456, 92, 3.5, orientation=3),
    Phone(8064, 6048, 89, 3.5, orientation=6),
)


def phone_pictures(photos: Sequence[Path], count: int, into: Path) -> Sequence[Path]:
    """`count` pictures of these phones in turn, each of another part of the photos."""
    into.mkdir(parents=True)
    made = []
    for number in range(count):
        path = into / f"{number:03}.jpg"
        take(PHONES[number % len(PHONES)], photos[number % len(photos)], number, path)
        made.append(path)
    return made


def take(phone: Phone, photo: Path, seed: int, into: Path) -> None:
    """Write what the phone would have made of the scene on the photo."""
    scene = pyvips.Image.new_from_file(str(photo)).autorot()
    if scene.interpretation != "srgb" or scene.bands != 3:
        scene = scene.colourspace("srgb")[:3]
    upright = (phone.height, phone.width) if phone.orientation in (6, 8) else (phone.width, phone.height)
    taken = _enlarged(scene.copy_memory(), upright, phone.noise, seed)
    stored = taken if phone.orientation == 1 else taken.copy_memory().rot(_STORED[phone.orientation])
    stored = stored.icc_transform("p3", input_profile="srgb") if phone.is_p3 else stored
    _write(stored.copy_memory(), phone, into)


def _enlarged(scene: pyvips.Image, size: tuple[int, int], noise: float, seed: int) -> pyvips.Image:
    """The scene in that size, with detail and noise of the size of a pixel as a sensor would have them."""
    width, height = size
    scale = max(width / scene.width, height / scene.height)
    larger = scene.resize(scale, kernel="cubic") if scale > 1 else scene
    left, top = ((have - want) // 2 for have, want in ((larger.width, width), (larger.height, height)))
    frame = larger.crop(left, top, width, height)
    detail = (scene.cast("float") - scene.gaussblur(_BLUR)).copy_memory()
    across, down = -(-width // scene.width), -(-height // scene.height)
    detail = detail.replicate(across, down).crop(0, 0, width, height)
    grain = pyvips.Image.gaussnoise(_GRAIN, _GRAIN, mean=0, sigma=noise, seed=seed).copy_memory()
    grain = grain.replicate(-(-width // _GRAIN), -(-height // _GRAIN)).crop(0, 0, width, height)
    return (frame + detail * _DETAIL + grain).rint().cast("uchar").copy(interpretation="srgb")


def _write(stored: pyvips.Image, phone: Phone, into: Path) -> None:
    small = stored.thumbnail_image(phone.thumbnail).jpegsave_buffer(Q=75, keep="none")
    marked = stored.copy()
    marked.set_type(pyvips.GValue.blob_type, "jpeg-thumbnail-data", small)
    marked.set_type(pyvips.GValue.gint_type, "orientation", phone.orientation)
    marked.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Make", "Phone (Phone, ASCII, 6 components, 6 bytes)")
    marked.jpegsave(
        str(into), Q=phone.quality, subsample_mode="on", optimize_coding=False, interlace=phone.is_progressive
    )
