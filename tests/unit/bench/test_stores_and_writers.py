"""What stores and writers amount to: ratios of pairs, and growth by doubling."""

import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import stores, writers
from bench.processes import cpu_ms
from bench.rounds import Round
from bench.small_hosts import NoSmallHostsError, open_small_host

REPOSITORY = Path(__file__).parents[3]


def a_round(title: str, worker_ms: float, decoders_ms: float, peak_mb: float) -> Round:
    cpu = {"worker": worker_ms, "worker: children": decoders_ms, "redis": 50.0}
    found = Round(title, 1, 100, 10.0, cpu, int(peak_mb * 1e6), 1, 1, 1, 0.0)
    return replace(found, servers={"Postgres": 1.0, "Postgres: children": 2.0, "S3": 4.0})


def measured(photo_ms: float, small_ms: float, more_mb: float) -> stores.Measured:
    """Pairs in which the servers cost so much where local stores cost 100 and 20 ms, on a noisy machine."""
    return {
        kind: [
            one
            for noise in (1, 2, 1)
            for one in (
                a_round(stores.LOCAL, 10 * noise, (local - 10) * noise, 100),
                a_round(stores.SERVERS, 10 * noise, (ms - 10) * noise, 100 + more_mb),
            )
        ]
        for kind, local, ms in ((stores.PHOTOS, 100, photo_ms), (stores.SMALL, 20, small_ms))
    }


def test_stores_are_compared_pair_by_pair_without_redis_and_the_servers() -> None:
    goals = stores.goals(measured(109, 26, 16))

    assert [goal.found for goal in goals] == pytest.approx([1.09, 16, 1.3, 16])
    assert [goal.met for goal in goals] == [True, False, False, False]


def test_the_table_of_stores_tells_the_servers_apart() -> None:
    table = stores.table(measured(105, 22, 5))

    assert "| Postgres + S3 | 105.0 ± 50 % | 10.0 | 95.0 | 3.0 | 4.0 | 105 MB | 10.0 |" in table
    assert "| photos: CPU of an upload, times SQLite + files | at most 1.1 | 1.05 | yes |" in table


def found(count: int, rate: float, trip_ms: float = 0.5) -> writers.Found:
    return writers.Found(trip_ms, count, rate, 20.0, 10.0, 2.0, 0.01, 1.5)


def test_writers_are_compared_with_half_as_many_at_the_same_round_trip() -> None:
    rounds = [found(1, 10), found(2, 19), found(4, 30), found(1, 10), found(1, 2, 5.0), found(2, 4, 5.0)]
    goals = writers.goals(rounds)

    assert [goal.found for goal in goals] == pytest.approx([1.9, 30 / 19, 2])
    assert [goal.met for goal in goals] == [True, False, True]
    assert "| 0.5 ms | 2 | 19.0 ± 0 % | 20.0 | 10.0 | 2.0 | 1.0% | 1.5 |" in writers.table(rounds)


def test_a_process_on_a_small_host_has_a_small_part_of_a_core() -> None:
    try:
        with (
            open_small_host(0.1) as host,
            subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy,
        ):
            host.move_here(busy.pid)
            before, began = cpu_ms(busy.pid), time.monotonic()
            time.sleep(0.4)
            part = (cpu_ms(busy.pid) - before) / 1000 / (time.monotonic() - began)
            busy.kill()
    except NoSmallHostsError as error:
        pytest.skip(str(error))

    assert part < 0.2


def test_a_round_trip_through_the_proxy_is_later_by_what_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as echo:
        threading.Thread(target=_echo, args=(echo,), daemon=True).start()
        command = [sys.executable, "-m", "bench.delay", str(echo.getsockname()[1]), "0.02"]
        with subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as proxy:
            assert proxy.stdout is not None
            with socket.create_connection(("127.0.0.1", int(proxy.stdout.readline()))) as client:
                began = time.monotonic()
                for word in (b"one", b"two"):
                    client.sendall(word)
                    assert client.recv(10) == word
                assert time.monotonic() - began >= 0.04
            proxy.kill()


def _echo(listener: socket.socket) -> None:
    client, _ = listener.accept()
    with client:
        while chunk := client.recv(10):
            client.sendall(chunk)
