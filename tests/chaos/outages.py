"""What befalls a Postgres, a bucket, and the ways to them."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, get_args

from scripts.postgres_server import PostgresServer, temporary_postgres
from scripts.s3_server import BUCKET, SeaweedServer, temporary_seaweedfs
from storage.blobs.s3_place import S3Place
from tests.support.catalog_rows import CatalogRows, PostgresRows
from tests.support.disks import quickest_disk
from tests.support.objects import Objects, ObjectsInBucket
from tests.support.postgres import create_database
from tests.support.postgres_proxy import CommitProxy, Loss
from tests.support.s3_proxy import Fault, S3Proxy, s3_proxy

Outage = Callable[[], None]
"""A fault that begins and ends."""
_FAULTS = [fault for fault in get_args(Fault) if fault != "no conditions"]  # which is no server's that we use
_LIES = ("error in 200", "html", "short list")  # which nobody can tell from an answer to a PUT


class OwnServer(Protocol):
    """One that can be killed and comes back with what it had."""

    @property
    def pid(self) -> int: ...

    def kill(self) -> None: ...

    def start(self) -> None: ...


class _Outages:
    """Those of one server, each of at most `longest_s` seconds."""

    def __init__(self, server: OwnServer, longest_s: float, chance: random.Random) -> None:
        self._server, self._longest_s, self._chance = server, longest_s, chance

    def _freeze(self) -> None:
        with frozen(self._server.pid):
            time.sleep(self._chance.uniform(0.2, self._longest_s))

    def _kill(self) -> None:
        self._server.kill()
        time.sleep(self._chance.uniform(0, self._longest_s))
        self._server.start()


class PostgresOutages(_Outages):
    """Those of a Postgres and the proxy before it."""

    def __init__(
        self, server: PostgresServer, proxy: CommitProxy, longest_s: float, chance: random.Random
    ) -> None:
        super().__init__(server, longest_s, chance)
        self._proxy = proxy

    def every(self) -> Sequence[Outage]:
        return [self.freeze_postgres, self.kill_postgres, self.cut_postgres, self.lose_commits]

    def freeze_postgres(self) -> None:
        self._freeze()

    def kill_postgres(self) -> None:
        self._kill()

    def cut_postgres(self) -> None:
        for _ in range(self._chance.randint(1, 20)):
            self._proxy.cut()
            time.sleep(0.02)

    def lose_commits(self) -> None:
        ways: list[Loss] = self._chance.choices(["before", "after"], k=self._chance.randint(1, 10))
        self._proxy.lose(*ways)
        time.sleep(self._chance.uniform(0.5, 2))
        self._proxy.lose_no_more()


class BucketOutages(_Outages):
    """Those of a bucket and the proxy before it."""

    def __init__(
        self, server: SeaweedServer, proxy: S3Proxy, longest_s: float, chance: random.Random
    ) -> None:
        super().__init__(server, longest_s, chance)
        self._proxy = proxy

    def every(self) -> Sequence[Outage]:
        return [self.freeze_bucket, self.kill_bucket, self.spoil_bucket, self.spoil_bucket]

    def freeze_bucket(self) -> None:
        self._freeze()

    def kill_bucket(self) -> None:
        self._kill()

    def spoil_bucket(self) -> None:
        fault: Fault = self._chance.choice(_FAULTS)
        self._proxy.strike(fault, self._chance.randint(1, 50), "GET|HEAD" if fault in _LIES else "")
        time.sleep(self._chance.uniform(0.2, 2))
        self._proxy.rest()


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """A process and its children get no CPU; the parent first, so that it starts no more of them."""
    os.kill(pid, signal.SIGSTOP)
    family = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    for child in family:
        os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        for child in reversed(family):
            os.kill(child, signal.SIGCONT)


def on_postgres(
    stack: ExitStack, longest_s: float, chance: random.Random
) -> tuple[CatalogRows, Sequence[Outage]]:
    """An empty database on a Postgres of its own, and what may befall that."""
    server = stack.enter_context(temporary_postgres(beneath=quickest_disk()))
    url = create_database(server, "media")
    proxy = CommitProxy(server.port)
    stack.callback(proxy.close)
    behind = url.replace(f":{server.port}/", f":{proxy.port}/")
    return PostgresRows(url, behind), PostgresOutages(server, proxy, longest_s, chance).every()


def on_s3(stack: ExitStack, longest_s: float, chance: random.Random) -> tuple[Objects, Sequence[Outage]]:
    """An empty bucket on a server of its own, and what may befall that."""
    server = stack.enter_context(temporary_seaweedfs())
    proxy = stack.enter_context(s3_proxy(server.endpoint))
    bucket = ObjectsInBucket(server, S3Place(BUCKET), proxy.endpoint)
    return bucket, BucketOutages(server, proxy, longest_s, chance).every()
