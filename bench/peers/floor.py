"""The floor: file to three JPEGs on disk with libvips, nothing else. One process for each core.

Reads the name of a file that lists pictures, again and again; prints a line for each picture.
"""

import multiprocessing
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ["VIPS_CONCURRENCY"] = "1"

import pyvips

BOXES = (("large", 1920), ("medium", 800), ("thumb", 150))


def make(job: tuple[str, str]) -> None:
    """Thumbnail the file to the largest size, and each smaller one from the one before."""
    source, out = job
    image: Any = None
    for name, box in BOXES:
        if image is None:
            image = pyvips.Image.thumbnail(source, box, height=box, size="down")
        else:
            image = image.thumbnail_image(box, height=box, size="down")
        image = image.copy_memory()
        image.jpegsave(
            f"{out}-{name}.jpg",
            Q=80,
            keep="none",
            subsample_mode="on",
            optimize_coding=False,
            interlace=False,
        )


def prepare() -> None:
    """One thread, no cache: what a careful loop does."""
    pyvips.cache_set_max(0)


def answer(done: Iterable[object]) -> None:
    """A line for each picture that is done."""
    for _ in done:
        sys.stdout.write("done\n")
        sys.stdout.flush()


def main(processes: int, out: Path) -> None:
    """Serve standard input until it ends."""
    prepare()
    count = 0
    pool = multiprocessing.get_context("spawn").Pool(processes, prepare) if processes > 1 else None
    for line in sys.stdin:
        files = Path(line.strip()).read_text().splitlines()
        jobs = [(file, f"{out}/{count + number}") for number, file in enumerate(files)]
        count += len(files)
        answer(pool.imap_unordered(make, jobs) if pool else map(make, jobs))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
