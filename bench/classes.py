"""The classes of pictures that are measured: what each is made of, and how long a round of it takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import photos
from bench.phones import phone_pictures

PHOTOS, PHONES, SMALL, AVATARS = "photos", "phones", "small", "avatars"


@dataclass(frozen=True)
class PictureClass:
    """Pictures that cost alike.

    `make` makes `count` of the photos, or takes all of these. `seconds` is about how long a round takes;
    all pictures are processed at least once.
    """

    name: str
    title: str
    make: Callable[[Sequence[Path], int, Path], Sequence[Path]]
    count: int
    seconds: float
    warm_up: int
    singles: int = 0
    """How many single uploads are timed while the contender is idle, in each round on one core."""
    idle_s: float = 0.0
    """How long this worker's CPU is watched while it is idle, in the first of these rounds."""


def _all(found: Sequence[Path], _count: int, into: Path) -> Sequence[Path]:
    return photos.copied(found, into)


CLASSES: Mapping[str, PictureClass] = {
    one.name: one
    for one in (
        PictureClass(PHOTOS, "Camera photos", _all, 0, 4, warm_up=13, singles=10, idle_s=10),
        PictureClass(
            PHONES, "Phone pictures (12 to 48 megapixels, 3 to 10 MB)", phone_pictures, 10, 3, warm_up=4
        ),
        PictureClass(
            SMALL, "Small uploads (640 x 480, under 100 KB)", photos.small, 300, 3, warm_up=60, singles=6
        ),
        PictureClass(AVATARS, "Avatars (200 x 200, a quarter PNG)", photos.avatars, 400, 2.5, warm_up=100),
    )
}
