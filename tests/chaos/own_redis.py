"""A Redis of a test's own, which can be killed and comes back on the same port with what it has saved."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from secrets import token_hex
from typing import Any

import redis

from scripts.processes import LAUNCHER
from scripts.redis_server import OPTIONS, find_executable


class OwnRedis:
    """One server on one port and one folder, with a password that its command line does not tell."""

    def __init__(self, folder: Path, password: str | None = None, **options: str) -> None:
        executable = find_executable()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._password = password or token_hex(16)
        config = folder / "own.conf"
        config.touch(mode=0o600)
        config.write_text(f"requirepass {self._password}\nmasterauth {self._password}\n")
        self._words = [str(executable), str(config), "--bind", "127.0.0.1", "--dir", str(folder)]
        given = {f"--{name}": value for name, value in options.items()}
        self._words += [word for option in {**OPTIONS, **given}.items() for word in option]
        self.port = _free_port()
        self._begin()
        while not self._answers():  # somebody else was quicker to take the port
            self.port = _free_port()
            self._begin()
        self.url = f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it again and wait until it answers."""
        self._begin()
        assert self._answers(), "the Redis does not come up"

    def _begin(self) -> None:
        launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid())]
        self._process = subprocess.Popen(
            [*launch, *self._words, "--port", str(self.port), "--logfile", str(self.folder / "log")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.client: redis.Redis = redis.Redis(port=self.port, password=self._password, socket_timeout=5)

    def _answers(self) -> bool:
        until = time.monotonic() + 10
        while self._process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(redis.RedisError):
                info: Any = self.client.info()
                if info["process_id"] == self._process.pid and not info["loading"]:
                    return True
            time.sleep(0.01)
        return False

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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
