"""Celery and Pillow: a task as their manuals show it."""

import os
import sys
from pathlib import Path
from typing import Any

from celery import Celery  # type: ignore[import-not-found,unused-ignore]
from PIL import Image, ImageOps

BOXES = {"large": 1920, "medium": 800, "thumb": 150}
OUT = os.environ["BENCH_OUT"]

app: Any = Celery("media", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_RESULTS"])
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True


@app.task(name="make")  # type: ignore[untyped-decorator]
def make(path: str, number: str) -> None:
    """Decode once, each variant from the one before."""
    with Image.open(path) as picture:
        picture.draft("RGB", (2 * 1920, 2 * 1920))
        image = ImageOps.exif_transpose(picture).convert("RGB")
    for name, box in BOXES.items():
        image.thumbnail((box, box))
        image.save(f"{OUT}/{number}-{name}.jpg", quality=80, subsampling=2)


if __name__ == "__main__":
    count = 0
    for line in sys.stdin:
        for file in Path(line.strip()).read_text().splitlines():
            make.apply_async((file, str(count)))
            count += 1
        sys.stdout.write("put\n")
        sys.stdout.flush()
