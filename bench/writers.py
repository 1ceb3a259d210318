"""Whether group commits on Postgres grow with the number of writers, each with a round trip to the server.

Each writer has the same small part of a core, as if it were a host of its own. Then the machine is not what
ends the growth, but what all writers share: the server, and its locks.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from bench.compare import say
from bench.contenders import BenchError
from bench.filling import add_claimed, new_database
from bench.goals import Goal, goal_table
from bench.processes import busy_ms, cpu_ms, tree
from bench.small_hosts import NoSmallHostsError, open_small_host
from bench.statistics import spread
from scripts.postgres_server import PostgresServer, temporary_postgres
from storage.catalog.database import open_database

WRITERS = (1, 2, 4, 8)
ROUND_TRIPS_MS = (0.5, 20.0)
GROUP = 16
LEAST_TIMES = 1.85
SHARE = 0.1  # of a core, for each writer
_MOST_GROUPS = 200  # a second, by one writer with a core
_LEAST_TRIPS = 20  # in a group
_SAMPLE_S = 0.05
_LOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = $1 AND application_name = 'media-worker' AND wait_event_type = 'Lock'
"""


@dataclass(frozen=True)
class Found:
    """What so many writers did: group commits a second, what those cost, and who waited for whom."""

    trip_ms: float
    """That was added to each round trip."""
    writers: int
    rate: float
    writer_ms: float
    """CPU of a writer for a group."""
    server_ms: float
    """CPU of Postgres for a group."""
    proxy_ms: float
    """CPU of the proxy for a group."""
    locked: float
    """The part of the writers' time in which they waited for locks of one another."""
    busy: float
    """Cores that were busy, whoever with."""


@dataclass(frozen=True)
class Options:
    """What to measure, and for how long."""

    trips_ms: Sequence[float] = ROUND_TRIPS_MS
    writers: Sequence[int] = WRITERS
    seconds: float = 6.0
    rounds: int = 2
    group: int = GROUP
    share: float | None = SHARE
    """Of a core, for each writer; None: writers have what there is."""

    def uploads(self, trip_ms: float) -> int:
        """More than a writer can commit."""
        rates = [_MOST_GROUPS * (self.share or 1), 1000 / (_LEAST_TRIPS * trip_ms)]
        return (int(self.seconds * min(rates)) + 2) * self.group


@dataclass(frozen=True)
class Proxy:
    """Something before the server that makes each round trip longer."""

    pid: int
    port: int
    trip_ms: float


def run(options: Options) -> Sequence[Found]:
    """Measure, each number of writers in turn, again and again. Raises: BenchError."""
    options = replace(options, share=_possible(options.share))
    found = []
    with temporary_postgres() as server:
        for trip_ms in options.trips_ms:
            with _proxy(server.port, trip_ms) as proxy:
                for number in range(options.rounds):
                    for count in options.writers:
                        name = f"w{count}-{trip_ms}-{number}"
                        url = asyncio.run(_prepared(server, name, count, options.uploads(trip_ms)))
                        through = url.replace(f":{server.port}/", f":{proxy.port}/")
                        found.append(_said(_measure(server, proxy, name, through, count, options)))
    return found


def _possible(share: float | None) -> float | None:
    """That part of a core, None where this machine cannot hold a process to it."""
    if share is not None:
        try:
            with open_small_host(share):
                pass
        except NoSmallHostsError as error:
            say(f"{error}. All writers share all cores, which may be what ends the growth.")
            return None
    return share


async def _prepared(server: PostgresServer, name: str, writers: int, uploads: int) -> str:
    url = await new_database(server, name)
    async with open_database(url, create=True, migrate=True):
        pass
    await add_claimed(url, uploads, [f"writer-{number}" for number in range(writers)])
    return url


def _measure(
    server: PostgresServer, proxy: Proxy, name: str, url: str, writers: int, options: Options
) -> Found:
    with ExitStack() as stack:  # hosts first: who is on one has to end before it is removed
        share = options.share
        hosts = [stack.enter_context(open_small_host(share)) for _ in range(writers)] if share else []
        children = [stack.enter_context(_writer(url, number, options)) for number in range(writers)]
        for child in children:
            _line(child)  # ready
        for host, child in zip(hosts, children, strict=False):
            host.move_here(child.pid)
        before = _spent(server, proxy)
        for child in children:
            _say(child, "go")
        locked = asyncio.run(_locked(server, name, children))
        spent = [now - then for now, then in zip(_spent(server, proxy), before, strict=True)]
        each = [tuple(map(float, _line(child).split())) for child in children]
    groups = sum(done for done, _, _ in each)
    server_ms, proxy_ms, busy, took_ms = spent
    return Found(
        proxy.trip_ms,
        writers,
        sum(done / took for done, took, _ in each),
        1000 * sum(cpu for _, _, cpu in each) / groups,
        server_ms / groups,
        proxy_ms / groups,
        locked / writers,
        busy / took_ms,
    )


def _spent(server: PostgresServer, proxy: Proxy) -> Sequence[float]:
    """In ms, so far: CPU of the server, of the proxy, of everybody; time."""
    of_server = sum(map(cpu_ms, tree(server.pid)))
    return of_server, cpu_ms(proxy.pid), busy_ms(os.sched_getaffinity(0)), time.perf_counter() * 1000


async def _locked(server: PostgresServer, name: str, children: Sequence[subprocess.Popen[str]]) -> float:
    """How many writers waited for locks, on average, while all were at work."""
    connection = await asyncpg.connect(server.url().replace("+asyncpg", ""))
    seen = []
    while all(child.poll() is None for child in children):
        seen.append(await connection.fetchval(_LOCKED, name))
        await asyncio.sleep(_SAMPLE_S)
    await connection.close()
    return float(sum(seen) / max(1, len(seen)))


def _writer(url: str, number: int, options: Options) -> AbstractContextManager[subprocess.Popen[str]]:
    arguments = [f"writer-{number}", str(options.seconds), str(options.group)]
    return _piped([sys.executable, "-m", "bench.writer", *arguments], MEDIA_CATALOG_URL=url)


@contextmanager
def _proxy(port: int, trip_ms: float) -> Iterator[Proxy]:
    """Something that makes each round trip to the server at `port` longer."""
    with _piped([sys.executable, "-m", "bench.delay", str(port), str(trip_ms / 1000)]) as child:
        yield Proxy(child.pid, int(_line(child)), trip_ms)


@contextmanager
def _piped(command: Sequence[str], **env: str) -> Iterator[subprocess.Popen[str]]:
    """A child of which one end of a pipe is here, and which is ended at the end."""
    with subprocess.Popen(  # noqa: S603
        command,
        env={**os.environ, **env},
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def _say(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin
    child.stdin.write(f"{line}\n")
    child.stdin.flush()


def _line(child: subprocess.Popen[str]) -> str:
    """The next line that it says. Raises: BenchError."""
    assert child.stdout
    if line := child.stdout.readline():
        return line.strip()
    raise BenchError(f"{child.args!r} ended with {child.wait()}")


def _said(found: Found) -> Found:
    say(
        f"{found.trip_ms} ms, {found.writers} writers: {found.rate:6.1f} groups/s, CPU a group "
        f"{found.writer_ms:.1f} + {found.server_ms:.1f} + {found.proxy_ms:.1f} ms, "
        f"{found.locked:.1%} waiting, {found.busy:.1f} cores busy"
    )
    return found


def goals(found: Sequence[Found]) -> Sequence[Goal]:
    """How many times as much each doubling commits, by the round trip."""
    rates = {key: _middle(one.rate for one in group) for key, group in _grouped(found).items()}
    return [
        Goal(f"{trip_ms:g} ms: {count} writers, times {count // 2}", LEAST_TIMES, rate / rates[half])
        for (trip_ms, count), rate in rates.items()
        if (half := (trip_ms, count // 2)) in rates
    ]


def table(found: Sequence[Found]) -> str:
    """Medians, and what must hold."""
    lines = [
        "| round trip | writers | group commits/s | CPU ms of a writer | of Postgres | of the proxy "
        "| waits for locks | cores busy |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for (trip_ms, writers), group in _grouped(found).items():
        rate = spread([one.rate for one in group])
        cells = [
            f"{trip_ms:g} ms",
            str(writers),
            f"{rate.median:.1f} ± {rate.percent:.0f} %",
            f"{_middle(one.writer_ms for one in group):.1f}",
            f"{_middle(one.server_ms for one in group):.1f}",
            f"{_middle(one.proxy_ms for one in group):.1f}",
            f"{_middle(one.locked for one in group):.1%}",
            f"{_middle(one.busy for one in group):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n\n" + goal_table(goals(found)) + "\n"


def _grouped(found: Sequence[Found]) -> Mapping[tuple[float, int], Sequence[Found]]:
    groups: dict[tuple[float, int], list[Found]] = {}
    for one in sorted(found, key=lambda one: (one.trip_ms, one.writers)):
        groups.setdefault((one.trip_ms, one.writers), []).append(one)
    return groups


def _middle(values: Iterable[float]) -> float:
    return spread(list(values)).median
