"""The pictures that everybody gets: photos of a folder, or small ones made of them."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

_HERE = Path(__file__).parent.parent
_CORPUS = _HERE.parent / "shared" / "corpus" / "photos"
_BUNDLED = _HERE / "scripts" / "pictures"
_KINDS = {".jpg", ".jpeg"}


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
    scaled = [ImageOps.exif_transpose(Image.open(photo)).convert("RGB") for photo in photos[:8]]
    for picture in scaled:
        picture.thumbnail((1000, 1000))
    for number in range(count):
        picture = scaled[number % len(scaled)]
        left, top = number % 97, number // 97 % 97
        part = picture.crop((left, top, left + 640 + number % 7, top + 480))
        content = io.BytesIO()
        part.save(content, "JPEG", quality=80)
        path = into / f"{number:05}.jpg"
        path.write_bytes(content.getvalue())
        made.append(path)
    return made


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
