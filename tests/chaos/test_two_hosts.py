"""Two hosts in networks of their own, with clocks five minutes apart: one is cut off, one is killed."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.redis_server import RedisServer
from scripts.s3_server import SeaweedServer
from tests.support import fork_server, pictures
from tests.support.catalog_rows import PostgresRows
from tests.support.elsewhere import elsewhere
from tests.support.fork_server import LoggedProcess
from tests.support.hosts import Host, two_hosts
from tests.support.job_queues import queued_jobs_of_uploads
from tests.support.s3_workplace import S3Workplace
from tests.support.tcp_proxy import Strike, TcpProxy
from tests.support.workplace import WorkerProcess, database_on, eventually

SERVERS = ("MEDIA_REDIS_URL", "MEDIA_CATALOG_URL", "MEDIA_S3_ENDPOINT")
LEASE_S = 2
FIVE_MINUTES_S = 300
UPLOADS = 8  # at a time


class _PublishingProxy(TcpProxy):
    """Tells when a client of a bucket publishes a variant, before the bucket has it."""

    def __init__(self, port: int, address: str, told: Callable[[], None]) -> None:
        self._told = told
        super().__init__(port, address)

    def strike(self, chunk: bytes) -> Strike:
        line = chunk.split(b"\r\n", 1)[0]
        # A health check writes there as well, under a name of its own.
        if line.startswith(b"PUT /") and b"/variants/" in line and b"/.media-" not in line:
            self._told()
        return Strike.PASS


class HostPlace:
    """One host, and the servers as it reaches them."""

    def __init__(self, host: Host, place: S3Workplace, stack: ExitStack, ahead_s: int = 0) -> None:
        self.host, self.place, self._ahead_s = host, place, ahead_s
        self._to_be_cut_off, self._is_cut_off = threading.Event(), threading.Event()
        self._servers = {
            name: stack.enter_context(host.reaching(place.env()[name], self._proxy)) for name in SERVERS
        }

    def _proxy(self, port: int, gateway: str) -> TcpProxy:
        return _PublishingProxy(port, gateway, self._a_variant_is_published)

    def _a_variant_is_published(self) -> None:
        if self._to_be_cut_off.is_set() and not self._is_cut_off.is_set():
            self.host.cut_off()
            self._is_cut_off.set()

    def start(self, *words: str) -> WorkerProcess:
        """Start the command `media …` there."""
        env = self.place.env(**self._servers, **elsewhere(self.host.name, self._ahead_s))
        process = LoggedProcess(fork_server.commands(), ["media", *words], env, self.place.home)
        worker = WorkerProcess(process)
        self.place.workers.append(worker)
        return worker

    def send_until_at_work(self, worker: WorkerProcess, name: str) -> list[str]:
        """Send uploads until a worker of this host has claimed one of them; gives their sources."""
        sources: list[str] = []

        def has_claimed() -> bool:
            sources.extend(send(self.place, f"{name}/{len(sources)}", 2))
            return self._holds(worker)

        eventually(has_claimed, within=60)
        return sources

    def cut_off_while_it_publishes(self) -> list[str]:
        """Cut this host off once the bucket gets a variant from it; returns the sources that were sent."""
        sources: list[str] = []

        def is_cut_off() -> bool:
            sources.extend(send(self.place, f"first/{len(sources)}", 2))
            return self._is_cut_off.wait(0.2)

        self._to_be_cut_off.set()
        eventually(is_cut_off, within=60)
        return sources

    def _holds(self, worker: WorkerProcess) -> bool:
        holder = worker.await_log("worker_started")["consumer"]
        return bool(self.place.database.rows(f"SELECT id FROM uploads WHERE holder = '{holder}'"))

    def sweep(self) -> None:
        """Sweep from there, and do at once what is found."""
        sweep = self.start("sweep", "--apply", "--json")
        assert sweep.wait(30) == 0, sweep.text


@pytest.fixture
def on_two_hosts(
    redis_server: RedisServer, postgres_catalog_url: str, seaweedfs: SeaweedServer, tmp_path: Path
) -> Iterator[tuple[HostPlace, HostPlace]]:
    """An installation that two hosts share; the second one's clock is ahead."""
    settings = {"MEDIA_LEASE": str(LEASE_S), "MEDIA_GRACE": "60"}
    place = S3Workplace(tmp_path, database_on(redis_server.url), seaweedfs, **settings)
    place.database = PostgresRows(postgres_catalog_url)
    with two_hosts() as (first, second), ExitStack() as stack:
        stack.callback(place.close)
        yield HostPlace(first, place, stack), HostPlace(second, place, stack, FIVE_MINUTES_S)


@pytest.mark.fault(27, 28, 58)
def test_a_host_that_is_cut_off_and_one_that_is_killed_lose_nothing_though_clocks_differ(
    on_two_hosts: tuple[HostPlace, HostPlace],
) -> None:
    first, second = on_two_hosts
    place = first.place
    workers = [host.start("worker") for host in on_two_hosts]
    for worker in workers:
        worker.await_log("worker_started", within=60)

    sources = send(place, "both")
    sources += first.cut_off_while_it_publishes()
    cut_off = time.monotonic()
    sources += send(place, "cut")
    place.await_end_of(*sources, within=60)
    second.sweep()
    threading.Event().wait(max(0, 2 * LEASE_S - (time.monotonic() - cut_off)))
    first.host.join()
    sources += send(place, "back")
    eventually(lambda: bool(refused(workers[0])) or gave_up(workers[0]), within=60)
    sources += second.send_until_at_work(workers[1], "second")
    workers[1].kill()
    sources += send(place, "killed")
    place.await_end_of(*sources, within=60)
    eventually(lambda: not is_anything_left(place), within=30)  # of what the dead one had taken, too

    assert workers[0].stop() == 0
    second.sweep()
    found = place.check()
    assert found.states == {"ready": len(sources)}
    assert found.unreferenced == set()
    assert place.database.rows("SELECT DISTINCT attempts FROM uploads") == [{"attempts": 0}]
    assert place.database.rows("SELECT count(*) AS number FROM variants") == [{"number": 3 * len(sources)}]
    assert contradictions(place) == {}


def refused(worker: WorkerProcess) -> list[int]:
    """How many outcomes of each batch came when others had the claim."""
    return [batch["fenced"] for batch in worker.logged("batch") if "fenced" in batch]


def gave_up(worker: WorkerProcess) -> bool:
    """Whether it has begun anew, because Redis was away for long: then it has let go of what it worked on."""
    return len(worker.logged("worker_started")) > 1


def is_anything_left(place: S3Workplace) -> bool:
    """Whether an entry or a job is left; those of a dead worker outlive its uploads for some time."""
    return bool(place.redis.xlen("media:uploads") or queued_jobs_of_uploads(place.redis))


def send(place: S3Workplace, name: str, number: int = UPLOADS) -> list[str]:
    """Put and announce some pictures; gives their sources."""
    sources = [place.put(f"uploads/{name}/{at}.jpg", pictures.small(at)) for at in range(number)]
    place.send_all({"source": source} for source in sources)
    return sources


def contradictions(place: S3Workplace) -> dict[str, set[str]]:
    """What was said of an upload that differs from what else was said of it."""
    said: dict[str, set[str]] = {}
    for message in place.messages:
        kept = {name: message[name] for name in ("type", "variants")}
        said.setdefault(message["source"], set()).add(json.dumps(kept))
    return {source: what for source, what in said.items() if len(what) > 1}
