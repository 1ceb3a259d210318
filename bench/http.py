"""Whether `media serve` keeps what it promises beside a worker at full load on the same core."""

import asyncio
import io
import json
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from bench import http_streams, photos
from bench.compare import say
from bench.contenders import BenchError, MediaWorker
from bench.http_client import Client, Load
from bench.http_server import Served, served
from bench.processes import Peak, cpu_ms, memory, pinned
from bench.rounds import place, started
from scripts.redis_server import RedisServer, temporary_redis
from tests.support import large_catalog

MB = 1_000_000
LARGE = 10 * MB
SEED = 14
_WARM_UP = 200
_WAIT_S = 30


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rows: int = 1_000_000
    seconds: float = 15.0
    lists: int = 200
    uploads: int = 20
    streams: int = 200
    connections: int = 1000
    photos: Path | None = None

    @classmethod
    def quick(cls) -> "Options":
        """As little as shows that everything works."""
        return cls(rows=20_000, seconds=2.0, lists=30, uploads=5, streams=50, connections=300)


@dataclass(frozen=True)
class Figure:
    """What was measured, and what it must not exceed; without a limit it is there to be compared."""

    what: str
    value: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def is_kept(self) -> bool:
        return (self.most is None or self.value <= self.most) and (
            self.least is None or self.value >= self.least
        )

    @property
    def limit(self) -> str:
        if self.most is not None:
            return f"at most {self.most:g}"
        return "" if self.least is None else f"at least {self.least:g}"


@dataclass(frozen=True)
class Bench:
    """Where it is measured: which cores the server and the worker share, and which pictures there are."""

    options: Options
    work: Path
    redis: RedisServer
    cores: Collection[int]
    pictures: Sequence[Path]

    @contextmanager
    def beside_a_worker(self, rows: int = 0) -> Iterator[Served]:
        """A server and a worker on the same cores, with so many uploads in the catalog."""
        with place(self.work, self.redis, len(self.cores)) as where, ExitStack() as stack:
            if rows:
                with started(MediaWorker, where, self.cores):
                    pass  # makes the catalog
                large_catalog.fill(where.home / "catalog.db", rows, SEED)
            worker = stack.enter_context(started(MediaWorker, where, self.cores))
            assert isinstance(worker, MediaWorker)
            yield stack.enter_context(served(worker, self.cores))

    def occupy(self, worker: MediaWorker) -> None:
        """Give the worker more than it can do before the end."""
        links = photos.linked(self.pictures, 5000 // len(self.pictures), worker.place.uploads / "load")
        worker.put(links)
        worker.await_done(3, _WAIT_S)


def run(options: Options, parts: Collection[str], cores: Collection[int]) -> Sequence[Figure]:
    """Measure these parts, or all. Raises: BenchError."""
    _allow_files(options.connections + 500)
    found: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
    ):
        work = Path(folder)
        pictures = photos.copied(photos.find(options.photos), work / "photos")
        with pinned(cores):
            server = stack.enter_context(temporary_redis())
        bench = Bench(options, work, server, cores, pictures)
        for name in parts or PARTS:
            for figure in PARTS[name](bench):
                say(f"{figure.what}: {figure.value:.1f} {figure.unit}")
                found.append(figure)
    return found


def table(found: Sequence[Figure]) -> str:
    """All figures, as Markdown."""
    lines = ["| | measured | must be | |", "|---|---:|---:|---|"]
    for figure in found:
        verdict = "" if not figure.limit else "kept" if figure.is_kept else "**not kept**"
        lines.append(f"| {figure.what} | {figure.value:.1f} {figure.unit} | {figure.limit} | {verdict} |")
    return "\n".join([*lines, ""])


# -- one upload, and lists


def _reading(bench: Bench) -> Iterator[Figure]:
    """Status and lists in a large catalog, beside a worker at full load."""
    options = bench.options
    with bench.beside_a_worker(options.rows) as there:
        client = there.client
        statuses = requests_for_status(client, there.worker.place.home / "catalog.db")
        idle = asyncio.run(_cost(there, statuses))
        empty = asyncio.run(_cost(there, [client.request("/healthz")]))
        yield Figure("status, CPU of the server", idle, "ms")
        yield Figure("status, CPU by that of an empty request", idle / empty, "times")
        bench.occupy(there.worker)
        before, began = there.worker.done(), time.monotonic()
        for due, most in ((1000, 200.0), (3000, None)):
            load = asyncio.run(client.load(statuses, int(due * options.seconds), 64, due))
            load.check()
            yield Figure(
                f"status beside the worker, {due} due each second: answered",
                load.rate,
                "/s",
                least=due * 0.98 if most else None,
            )
            yield Figure(f"status beside the worker, {due} due each second: p95", load.p(95), "ms", most)
        load = asyncio.run(client.load(statuses, int(3000 * options.seconds), 16))
        load.check()
        yield Figure("status beside the worker, 16 clients in turn: answered", load.rate, "/s")
        yield Figure("status beside the worker, 16 clients in turn: p95", load.p(95), "ms")
        for what, requests in asyncio.run(requests_for_lists(client)).items():
            load = asyncio.run(client.load(requests, options.lists, 1))
            load.check()
            yield Figure(f"list of 20 of {options.rows:,} ({what}): p95", load.p(95), "ms", 50.0)
        rate = (there.worker.done() - before) / (time.monotonic() - began)
        yield Figure("meanwhile the worker made ready", rate, "photos/s")
        if rate == 0:
            raise BenchError("the worker was not at full load")


def requests_for_status(client: Client, catalog: Path, number: int = 1000) -> Sequence[bytes]:
    """Requests for uploads that are there, by chance."""
    with closing(sqlite3.connect(catalog)) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM uploads LIMIT 100000")]
    chance = random.Random(SEED)  # noqa: S311 (the same each time)
    return [client.request(f"/v1/uploads/{chance.choice(ids)}") for _ in range(number)]


async def requests_for_lists(client: Client) -> Mapping[str, Sequence[bytes]]:
    """Requests for pages of 20, by what is asked for."""
    filters = {
        "all": "",
        "failed": "state=failed",
        "by code": "code=corrupt_image",
        "a folder": "source=uploads/000010",
        "the folder of all": "source=uploads/",
        "since": "since=2026-11-01T00:00:00Z",
        "waiting, with fields": "state=queued&fields=id,state,variants.url",
    }
    found = {what: [client.request(f"/v1/uploads?limit=20&{query}")] for what, query in filters.items()}
    cursor, deep = "", list[bytes]()
    for _ in range(50):
        target = f"/v1/uploads?limit=20&{cursor}"
        deep.append(client.request(target))
        answer = await client.ask(deep[-1])
        following = json.loads(answer.body)["next"]
        if following is None:
            break
        cursor = f"cursor={quote(following)}"
    return {**found, "page after page": deep}


async def _cost(there: Served, requests: Sequence[bytes], total: int = 3000) -> float:
    """CPU of the server for a request, in ms."""
    (await there.client.load(requests, _WARM_UP, 4)).check()
    before = cpu_ms(there.pid)
    (await there.client.load(requests, total, 4)).check()
    return (cpu_ms(there.pid) - before) / total


# -- uploads


def _uploading(bench: Bench) -> Iterator[Figure]:
    """Uploads of 10 MB: many at once, then one after the other."""
    picture = noise(LARGE)
    with bench.beside_a_worker() as there:
        asyncio.run(upload_at_once(there.client, picture, 1))  # what is imported at the first
        yield Figure("memory of the server before", memory([there.pid]) / MB, "MB")
        with Peak(there.pid, 0.02).watched() as peak:
            load = asyncio.run(upload_at_once(there.client, picture, 20))
        load.check(201)
        yield Figure("memory (PSS) at 20 uploads of 10 MB at once", peak.bytes / MB, "MB", 130.0)
        yield Figure("20 uploads of 10 MB at once, all taken after", load.seconds * 1000, "ms")
        there.worker.await_done(21, 120)
        load = asyncio.run(_ready(there.client, picture, bench.options.uploads))
        yield Figure("an upload of 10 MB is ready after, p50", load.p(50), "ms")
        yield Figure("an upload of 10 MB is ready after, p95", load.p(95), "ms", 2000.0)


def noise(size: int) -> bytes:
    """A JPEG of nearly so many bytes, which is hard to decode, and is padded to them."""
    chance = random.Random(SEED)  # noqa: S311
    edge = int((size / 1.45) ** 0.5)
    content = io.BytesIO()
    Image.frombytes("RGB", (edge, edge), chance.randbytes(edge * edge * 3)).save(content, "JPEG", quality=97)
    made = content.getvalue()
    if not 0.9 * size < len(made) <= size:
        raise BenchError(f"the picture has {len(made)} bytes")
    return made + bytes(size - len(made))


async def upload_at_once(client: Client, picture: bytes, number: int) -> Load:
    """Upload it on so many connections at once."""
    found = Load()
    head = client.request("/v1/uploads", "POST", len(picture), Content_Type="image/jpeg")
    async with client.connections(number) as opened:
        began = time.perf_counter()
        for answer in await asyncio.gather(*(each.ask(head, picture) for each in opened)):
            found.statuses[answer.status] += 1
        found.seconds = time.perf_counter() - began
    return found


async def _ready(client: Client, picture: bytes, number: int) -> Load:
    """Upload it so often, one after the other; each takes until it is ready."""
    found = Load()
    head = client.request(
        "/v1/uploads", "POST", len(picture), Content_Type="image/jpeg", Prefer=f"wait={_WAIT_S}"
    )
    async with client.connections(1) as (connection,):
        for _ in range(number):
            await asyncio.sleep(0.2)
            began = time.perf_counter()
            answer = await connection.ask(head, picture)
            found.ms.append((time.perf_counter() - began) * 1000)
            if answer.status != 201 or json.loads(answer.body)["state"] != "ready":
                raise BenchError(f"an upload is not ready: {answer.status} {answer.body[:300]!r}")
    return found


# -- what stays open


def _streaming(bench: Bench) -> Iterator[Figure]:
    """Messages to many clients, each of which follows all."""
    streams = bench.options.streams
    with bench.beside_a_worker() as there:
        before = memory([there.pid])
        load = asyncio.run(http_streams.follow(there, bench.pictures, streams, 50, 5))
        yield Figure(f"{streams} streams, commit to client, p50", load.p(50), "ms")
        yield Figure(f"{streams} streams, commit to client, p95", load.p(95), "ms", 50.0)
        yield Figure("memory for a stream", (memory([there.pid]) - before) / streams / 1000, "kB")


def _holding(bench: Bench) -> Iterator[Figure]:
    """Connections that stay open, and answers on all of them."""
    number = bench.options.connections
    with bench.beside_a_worker() as there:
        before = memory([there.pid])
        held, after = asyncio.run(_hold(there, number, bench.options.seconds / 3))
        yield Figure("connections held", held, "", least=number)
        yield Figure("memory for a connection", (after - before) / number / 1000, "kB")


async def _hold(there: Served, number: int, seconds: float) -> tuple[int, int]:
    """How many connections were open all the time, and the memory of the server then."""
    head = there.client.request("/healthz")
    async with there.client.connections(number) as opened:
        for connection in opened:
            await connection.ask(head)
        await asyncio.sleep(seconds)
        held = memory([there.pid])
        answers = await asyncio.gather(*(each.ask(head) for each in opened), return_exceptions=True)
    return sum(1 for answer in answers if not isinstance(answer, BaseException)), held


PARTS: Mapping[str, Callable[[Bench], Iterator[Figure]]] = {
    "reading": _reading,
    "uploads": _uploading,
    "streams": _streaming,
    "connections": _holding,
}


def _allow_files(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))
