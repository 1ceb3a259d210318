"""Takes the pictures of the console that README shows, of an installation with bits of the bundled pictures.

python -m tests.screenshots [--into FOLDER]
"""

import argparse
import asyncio
import io
import math
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scripts.demo import BUNDLED
from scripts.redis_server import temporary_redis
from storage.catalog.opening import open_catalog
from tests.support import bombs
from tests.support.browser import Page, ViewportSize, opened_browser
from tests.support.face import start_face
from tests.support.served import installed
from tests.support.workplace import Workplace
from worker.upload_ids import default_id

PICTURES = 360
SHOWN = "uploads/egret/egret-0010.jpg"
PAGES = {
    "overview": ("", 1120),
    "failures": ("/failures", 880),
    "upload": (f"/uploads/{default_id(SHOWN)}", 880),
}
"""The path of each page, and how much of it is shown."""
_WIDTH = 1280
_OF_PAGE = 96
_HIDE = "(images) => images.forEach((image) => { image.style.visibility = 'hidden'; })"
_WITHIN_MS = 55 * 60_000
_WORK_S = 120.0


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__)
    parser.add_argument("--into", type=Path, default=Path("docs"))
    into: Path = parser.parse_args().into
    with tempfile.TemporaryDirectory() as folder, temporary_redis() as redis:
        home = Path(folder)
        asyncio.run(_migrate(home / "migrated.db"))
        place = installed(home, redis.url, home / "migrated.db", MEDIA_ENVIRONMENT="demo")
        try:
            _work(place)
            _spread(place.catalog)
            asyncio.run(_take(start_face(place).url, into))
        finally:
            place.close()


async def _migrate(path: Path) -> None:
    async with open_catalog(f"sqlite+aiosqlite:///{path}"):
        pass


def _work(place: Workplace) -> None:
    """Have pictures become variants, and others fail in between."""
    broken = dict(_broken())
    every = PICTURES // len(broken)
    uploads: dict[str, bytes] = {}
    for number, (source, content) in enumerate(_pictures()):
        uploads[source] = content
        if number % every == every // 2 and broken:
            failing = next(iter(broken))
            uploads[failing] = broken.pop(failing)
    place.start()
    for source, content in uploads.items():
        place.put(source, content)
        place.send({"source": source, "metadata": {"album": source.split("/")[1]}})
    place.await_end_of(*uploads, within=_WORK_S)


def _pictures() -> Iterator[tuple[str, bytes]]:
    """Parts of the bundled pictures, each another one."""
    whole = {path.stem: Image.open(path).convert("RGB") for path in sorted(BUNDLED.glob("*.jpg"))}
    names = sorted(whole)
    for number in range(PICTURES):
        name = names[number % len(names)]
        picture = whole[name]
        share = 0.45 + 0.5 * _scattered(number, 1)
        width, height = (int(side * share) for side in picture.size)
        left = int((picture.width - width) * _scattered(number, 2))
        top = int((picture.height - height) * _scattered(number, 3))
        part = picture.crop((left, top, left + width, top + height))
        source = f"uploads/{name}/{name}-{number:04}.jpg"
        part.thumbnail((576, 576) if source == SHOWN else (480, 480))
        yield source, _jpeg(part)


def _broken() -> Iterator[tuple[str, bytes]]:
    for name in ("invoice", "list of prices"):
        yield f"uploads/scans/{name}.pdf.jpg", b"%PDF-1.7\n" + name.encode()
    yield "uploads/scans/plan of the house.png", bombs.png(60_000, 60_000)
    for number, (_, whole) in zip(range(9), _pictures(), strict=False):
        yield f"uploads/phone/IMG_{2041 + 7 * number}.jpg", whole[: len(whole) // 2]


def _jpeg(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=88)
    return content.getvalue()


def _scattered(number: int, kind: int) -> float:
    """A number from 0 to 1 that looks random, and is the same each time."""
    return math.modf(abs(math.sin(number * 12.9898 + kind * 78.233)) * 43758.5453)[0]


def _spread(catalog: Path) -> None:
    """Have what has happened in these seconds have happened in the last hour, in the same order."""
    now = time.time_ns() // 1_000_000
    with closing(sqlite3.connect(catalog)) as connection, connection:
        rows = connection.execute("SELECT seq, body ->> '$.id' FROM outbox ORDER BY seq").fetchall()
        for place, (seq, upload_id) in enumerate(rows):
            share = (place + _scattered(place, 4)) / len(rows)
            at = now - int(_WITHIN_MS * (1 - share - 0.06 * math.sin(4 * math.pi * share)))
            took = 180 + int(500 * _scattered(place, 5) ** 3)
            connection.execute(
                "UPDATE uploads SET changed_ms = ?, queued_ms = ? WHERE id = ?", (at, at - took, upload_id)
            )
            connection.execute("UPDATE variants SET made_ms = ? WHERE upload_id = ?", (at, upload_id))
            connection.execute(
                "UPDATE outbox SET made_ms = ?1, sent_ms = ?1, body = json_set(body, '$.time_ms', ?1)"
                " WHERE seq = ?2",
                (at, seq),
            )


async def _take(url: str, into: Path) -> None:
    async with opened_browser() as browser:
        page = await browser.new_page(color_scheme="light", reduced_motion="reduce")
        for name, (path, height) in PAGES.items():
            await page.set_viewport_size(ViewportSize(width=_WIDTH, height=height))
            answer = await page.goto(f"{url}/console{path}")
            assert answer is not None
            assert answer.ok, answer.status_text
            picture = await _shot(page)
            await page.locator("img").evaluate_all(_HIDE)
            file = into / f"console-{name}.png"
            _with_few_colours(picture, await _shot(page)).save(file, optimize=True)
            print(f"{file}: {file.stat().st_size / 1000:.0f} kB")  # noqa: T201


async def _shot(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(await page.screenshot())).convert("RGB")


def _with_few_colours(picture: Image.Image, without_photographs: Image.Image) -> Image.Image:
    """The picture with 256 colours: the page keeps its own, and photographs share the others."""
    ours, theirs = (np.asarray(one).reshape(-1, 3) for one in (without_photographs, picture))
    colours, counts = np.unique(ours, axis=0, return_counts=True)
    kept = colours[np.argsort(counts)[-_OF_PAGE:]]
    photographs = theirs[np.any(ours != theirs, axis=1)]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*kept.ravel().tolist(), *_palette(photographs, 256 - len(kept))])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def _palette(pixels: NDArray[np.uint8], count: int) -> Sequence[int]:
    if not len(pixels):
        return ()
    return Image.fromarray(pixels[np.newaxis]).quantize(count, dither=Image.Dither.NONE).getpalette() or ()


if __name__ == "__main__":
    main()
