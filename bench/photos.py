"""The pictures that everybody gets: photos of a folder, or small ones and avatars made of them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

_HERE = Path(__file__).parent.parent
_CORPUS = _HERE.parent / "shared" / "corpus" / "photos"
_BUNDLED = _HERE / "scripts" / "pictures"
_KINDS = {".jpg", ".jpeg"}
AVATAR = 200


def find(folder: Path | None) -> Sequence[Path]:
    """The JPEGs of `folder`; by default of the corpus beside the repository, or the bundled ones."""
    folder = folder or (_CORPUS if _CORPUS.is_dir() else _BUNDLED)
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in _KINDS)
    if not found:
        raise SystemExit(f"There are no JPEGs in {folder}.")
    return found


def copied(photos: Sequence[Path], into: Path) -> Sequence[Path]:
    """The photos again in `into`, so that each round can have links of them."""
    into.mkdir(parents=True)
    copies = [into / f"{number:03}.jpg" for number in range(len(photos))]
    for photo, copy in zip(photos, copies, strict=True):
        copy.write_bytes(photo.read_bytes())
    return copies


def small(photos: Sequence[Path], count: int, into: Path) -> Sequence[Path]:
    """`count` pictures of under 100 KB, no two alike: parts of the photos, 640 px and a little more wide."""
    into.mkdir(parents=True)
    made = []
    for number, (picture, left, top) in enumerate(_parts(photos, 1000, count)):
        part = picture.crop((left, top, left + 640 + number % 7, top + 480))
        path = into / f"{number:05}.jpg"
        part.save(path, "JPEG", quality=80)
        made.append(path)
    return made


def avatars(photos: Sequence[Path], count: int, into: Path) -> Sequence[Path]:
    """`count` pictures of 200 x 200, no two alike; every fourth is a PNG, every eighth one with an alpha."""
    into.mkdir(parents=True)
    disc = Image.new("L", (AVATAR, AVATAR))
    ImageDraw.Draw(disc).ellipse((0, 0, AVATAR - 1, AVATAR - 1), fill=255)
    made = []
    for number, (picture, left, top) in enumerate(_parts(photos, 600, count)):
        part = picture.crop((left, top, left + AVATAR, top + AVATAR))
        if number % 8 == 7:
            part.putalpha(disc)
        path = into / f"{number:05}{'.png' if number % 4 == 3 else '.jpg'}"
        part.save(path, quality=85)
        made.append(path)
    return made


def _parts(photos: Sequence[Path], side: int, count: int) -> Iterator[tuple[Image.Image, int, int]]:
    """Eight of the photos in turn, no larger than that, and where a part of each begins."""
    scaled = [ImageOps.exif_transpose(Image.open(photo)).convert("RGB") for photo in photos[:8]]
    for picture in scaled:
        picture.thumbnail((side, side))
    for number in range(count):
        yield scaled[number % len(scaled)], number % 97, number // 97 % 97


def linked(photos: Sequence[Path], passes: int, into: Path) -> Sequence[Path]:
    """`passes` times the photos below `into`, each under a name of its own."""
    links = []
    for turn in range(passes):
        folder = into / f"{turn:04}"
        folder.mkdir(parents=True)
        for photo in photos:
            os.link(photo, folder / photo.name)
            links.append(folder / photo.name)
    return links
