"""A Redis of a test's own, which can be killed and comes back on the same port with what it has saved."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis

from scripts.redis_server import LAUNCHER, OPTIONS, RedisNotFoundError, find_executable


class OwnRedis:
    """One server on one port and one folder."""

    def __init__(self, folder: Path, **options: str) -> None:
        executable = find_executable()
        if executable is None:
            raise RedisNotFoundError
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        given = {f"--{name}": value for name, value in options.items()}
        place = {"--port": str(self.port), "--dir": str(folder), "--logfile": str(folder / "log")}
        words = [word for option in {**OPTIONS, **place, **given}.items() for word in option]
        self._command = [
            sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), str(executable.resolve()),
            "--bind", "127.0.0.1", *words,
        ]  # fmt: skip
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client: redis.Redis = redis.Redis.from_url(self.url, socket_timeout=5)
        self.start()

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
            except redis.RedisError:
                assert time.monotonic() < until, "the Redis does not come up"
                time.sleep(0.01)
            else:
                return

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it accepts connections, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it."""
        self.client.close()
        self.thaw()
        self.kill()
