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
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from PIL import Image

from scripts.demo import BUNDLED
from scripts.redis_server import temporary_redis
from storage.catalog.opening import open_catalog
from tests.support import bombs
from tests.support.browser import ViewportSize, opened_browser
from tests.support.face import start_face
from tests.support.served import installed
from tests.support.workplace import Workplace
from worker.events import default_id

PICTURES = 360
SHOWN = "uploads/egret/0012.jpg"
PAGES = {"overview": "", "failures": "/failures", "upload": f"/uploads/{default_id(SHOWN)}"}
_VIEW = ViewportSize(width=1280, height=860)
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
        part.thumbnail((1200, 1200) if f"uploads/{name}/{number:04}.jpg" == SHOWN else (480, 480))
        yield f"uploads/{name}/{number:04}.jpg", _jpeg(part)


def _broken() -> Iterator[tuple[str, bytes]]:
    for number, (_, whole) in zip(range(9), _pictures(), strict=False):
        yield f"uploads/phone/IMG_{2041 + 7 * number}.jpg", whole[: len(whole) // 2]
    for name in ("invoice", "list of prices"):
        yield f"uploads/scans/{name}.pdf.jpg", b"%PDF-1.7\n" + name.encode()
    yield "uploads/scans/plan of the house.png", bombs.png(60_000, 60_000)


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
        page = await browser.new_page(viewport=_VIEW, color_scheme="light", reduced_motion="reduce")
        for name, path in PAGES.items():
            await page.goto(f"{url}/console{path}")
            await page.wait_for_load_state("load")
            picture = Image.open(io.BytesIO(await page.screenshot())).convert("RGB")
            file = into / f"console-{name}.png"
            picture.quantize(255, dither=Image.Dither.FLOYDSTEINBERG).save(file, optimize=True)
            print(f"{file}: {file.stat().st_size / 1000:.0f} kB")  # noqa: T201


if __name__ == "__main__":
    main()
