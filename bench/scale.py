"""Whether an upload costs the same in a large catalog and behind a long queue."""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from bench import photos
from bench.compare import say
from bench.contenders import Configured, MediaWorker, Place
from bench.filling import fill_postgres, new_database
from bench.processes import Costs, pinned
from bench.rounds import place, started
from scripts.postgres_server import PostgresServer, temporary_postgres
from scripts.redis_server import RedisServer, temporary_redis

ROWS = (100, 10_000, 1_000_000)
DEPTHS = (10, 100_000)
UPLOADS = 300
FLAT = 1.2
SQLITE, POSTGRES = "sqlite", "postgres"
_TIMEOUT_S = 300
_BATCH = 10_000


@dataclass(frozen=True)
class Cost:
    """What an upload takes under one condition, in ms."""

    what: str
    size: int
    wall_ms: float
    cpu_ms: float


def run(
    cores: Sequence[int], rows: Sequence[int], depths: Sequence[int], uploads: int, catalog: str = SQLITE
) -> Sequence[Cost]:
    """Measure small uploads with so many rows in the catalog, and with so many events in the stream."""
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        work = Path(folder)
        pictures = photos.small(photos.find(None), uploads, work / "small")
        with ExitStack() as stack:
            with pinned(cores):
                server = stack.enter_context(temporary_redis())
                postgres = stack.enter_context(temporary_postgres()) if catalog == POSTGRES else None
            bench = _Bench(pictures, server, postgres, cores)
            for count in rows:
                with place(work, server, len(cores)) as where:
                    found.append(_said(bench.in_a_catalog_of(count, where)))
            for depth in depths:
                with place(work, server, len(cores)) as where:
                    found.append(_said(bench.behind(depth, where)))
    return found


@dataclass(frozen=True)
class _Bench:
    pictures: Sequence[Path]
    server: RedisServer
    postgres: PostgresServer | None
    cores: Sequence[int]

    def in_a_catalog_of(self, count: int, where: Place) -> Cost:
        start = self._start(where)
        with started(start, where, self.cores):
            pass  # makes the catalog
        if self.postgres:
            asyncio.run(fill_postgres(self.postgres.url(where.home.name), count))
        else:
            fill(where.home / "catalog.db", count)
        return _burst(f"{count} rows", count, 0, start, where, self)

    def behind(self, depth: int, where: Place) -> Cost:
        return _burst(f"{depth} events", depth, depth, self._start(where), where, self)

    def _start(self, where: Place) -> Callable[[Place], MediaWorker]:
        if self.postgres is None:
            return MediaWorker
        url = asyncio.run(new_database(self.postgres, where.home.name))
        return partial(Configured, settings={"MEDIA_CATALOG_URL": url})

    def servers(self) -> Mapping[str, int]:
        there = {"redis": self.server, "postgres": self.postgres}
        return {name: server.pid for name, server in there.items() if server}


def _burst(
    what: str, size: int, depth: int, start: Callable[[Place], MediaWorker], where: Place, bench: _Bench
) -> Cost:
    pictures = bench.pictures
    with started(start, where, bench.cores) as worker:
        warm = photos.linked(pictures[:20], 1, where.uploads / "warm")
        worker.put(warm)
        worker.await_done(len(warm), _TIMEOUT_S)
        files = photos.linked(pictures, 4 if depth > len(pictures) else 1, where.uploads / "round")
        worker.freeze()
        worker.put(_queue(files, depth))
        costs = Costs({"worker": worker.process.pid, **bench.servers()})
        began = time.perf_counter()
        worker.thaw()
        count = min(depth, len(pictures)) or len(pictures)
        worker.await_done(len(warm) + count, _TIMEOUT_S)
        count = worker.done() - len(warm)
        wall = (time.perf_counter() - began) * 1000
        spent = sum(costs.so_far().values())
        if depth > len(pictures):
            worker.process.kill()  # the rest of the queue is not measured
    return Cost(what, size, wall / count, spent / count)


def _queue(files: Sequence[Path], depth: int) -> Sequence[Path]:
    """The files, then names of files that are not there: they are never reached."""
    if not depth:
        return files
    missing = files[0].parent / "missing"
    return [*files[:depth], *(missing / f"{number}.jpg" for number in range(depth - len(files)))]


def fill(catalog: Path, count: int) -> None:
    """Put `count` finished uploads with three variants and a sent message each into the catalog."""
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        for start in range(0, count, _BATCH):
            ids = [str(uuid4()) for _ in range(min(_BATCH, count - start))]
            with connection:
                _insert(connection, "uploads", map(_upload, ids))
                _insert(connection, "variants", (row for upload in ids for row in _variants(upload)))
                _insert(connection, "outbox", ({"body": "{}", "made_ms": _NOW, "sent_ms": _NOW} for _ in ids))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


_NOW = int(time.time() * 1000)


_ZEROS = (
    *("event_ms", "event_n", "event_epoch", "generation", "claim", "crash_count"),
    *("attempts", "not_before_ms", "revive", "delete_original", "adopted"),
)


def _upload(upload: str) -> dict[str, object]:
    return {
        **dict.fromkeys(_ZEROS, 0),
        "id": upload,
        "source": f"uploads/old/{upload}.jpg",
        "state": "ready",
        "recipe": "default",
        "metadata": "{}",
        "job_id": upload,
        "queued_ms": _NOW,
        "changed_ms": _NOW,
        "stamp": "1:2:3:4:5",
        "sha256": uuid4().hex * 2,
        "bytes": 2_000_000,
        "format": "jpeg",
        "width": 4000,
        "height": 3000,
        "color": "#808080",
    }


def _variants(upload: str) -> Iterator[dict[str, object]]:
    for number, (name, width) in enumerate((("thumb", 150), ("medium", 800), ("large", 1920))):
        name_hex = uuid4().hex
        yield {
            "key": f"variants/{name_hex[:2]}/{name_hex[2:4]}/{name_hex}.jpg",
            "upload_id": upload,
            "name": name,
            "number": number,
            "width": width,
            "height": width * 3 // 4,
            "bytes": width * 100,
            "sha256": name_hex * 2,
            "made_ms": _NOW,
        }


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[dict[str, object]]) -> None:
    found = list(rows)
    names = list(found[0])
    columns, places = ", ".join(names), ", ".join(f":{name}" for name in names)
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})", found)  # noqa: S608


def _said(cost: Cost) -> Cost:
    say(f"{cost.what:>16}: {cost.wall_ms:6.1f} ms, {cost.cpu_ms:6.1f} CPU ms an upload")
    return cost


def table(found: Sequence[Cost]) -> str:
    """What was found, and whether it is flat."""
    lines = ["| | ms an upload | CPU ms an upload |", "|---|---:|---:|"]
    lines += [f"| {cost.what} | {cost.wall_ms:.1f} | {cost.cpu_ms:.1f} |" for cost in found]
    for kind in ("rows", "events"):
        of_kind = [cost.cpu_ms for cost in found if cost.what.endswith(kind)]
        if len(of_kind) > 1:
            ratio = max(of_kind) / min(of_kind)
            said = "flat" if ratio <= FLAT else "not flat"
            lines.append(f"\nBy {kind}: {said}, the most is {ratio:.2f} times the least.")
    return "\n".join(lines) + "\n"
