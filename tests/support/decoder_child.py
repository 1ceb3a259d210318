"""A tiny parent: starts the decoder's child the way the sandbox does and runs pictures through it."""

import atexit
import functools
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import orjson

from pipelines import formats
from pipelines.decoder.fork_loop import BEGIN

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h
BOXES = (150, 800, 1920)
ALL = tuple(format.name for format in formats.FORMATS)


def spec(box: int, **changes: Any) -> dict[str, Any]:
    """One variant as the default recipe has it, with changes."""
    usual = {
        "fit": "inside",
        "format": "jpeg",
        "quality": 80,
        "background": [255, 255, 255],
        "progressive": False,
    }
    return {"name": str(box), "box": box, **usual, **changes}


DEFAULT = tuple(spec(box) for box in BOXES)


class Parent:
    """The parent of decoders, as a sandbox starts it."""

    def __init__(self, names: Sequence[str] = ALL, without: Sequence[str] = (), **changes: Any) -> None:
        config = {
            "max_bytes": 10 * 1024 * 1024,
            "max_pixels": 100_000_000,
            "formats": list(names),
            "damaged": "reject",
            "memory_mb": None,
            "confinement": "try",
            "parent": os.getpid(),
            **changes,
        }
        self._one_at_a_time = threading.Lock()
        self._control, theirs = socket.socketpair()
        self._errors = os.memfd_create("stderr")
        self.process = subprocess.Popen(
            [sys.executable, "-I", *_program(without), json.dumps(config)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            env={"MALLOC_ARENA_MAX": "1"},
            start_new_session=True,
        )
        theirs.close()
        try:
            receive(self._control)
        except EOFError:
            said = os.pread(self._errors, 10_000, 0).decode(errors="replace")
            self.close()
            raise EOFError(said) from None

    def order(self, message: dict[str, Any], *descriptors: int) -> dict[str, Any]:
        """The answer to an order."""
        with self._one_at_a_time:
            send(self._control, message, descriptors)
            return receive(self._control)

    def close(self) -> None:
        """End it and all its children."""
        self._control.close()
        self.process.wait(10)
        os.close(self._errors)


def _program(without: Sequence[str]) -> Sequence[str]:
    """The decoders' program, where packages `without` which it can do are not installed."""
    if not without:
        return ["-m", "pipelines.decoder"]
    lack = f"import sys; sys.modules.update(dict.fromkeys({list(without)!r})); "
    return ["-c", f"{lack}from pipelines.decoder.__main__ import main; main(sys.argv[1])"]


def decoder_parent(names: Sequence[str] = ALL, **changes: Any) -> Parent:
    """The one of all decoders that are started alike, for as long as the thread that first asked."""
    return _parent(json.dumps({"names": names, **changes}))


@functools.cache
def _parent(words: str) -> Parent:
    parent = Parent(**json.loads(words))
    atexit.register(parent.close)
    return parent


def send(sock: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    body = orjson.dumps(message)
    socket.send_fds(sock, [struct.pack(">I", len(body)) + body], list(descriptors))


def receive(sock: socket.socket) -> dict[str, Any]:
    """The next frame. Raises: EOFError."""
    (length,) = struct.unpack(">I", _exactly(sock, 4))
    message: dict[str, Any] = orjson.loads(_exactly(sock, length))
    return message


def _exactly(sock: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = sock.recv(count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


class DecoderProcess:
    """One running decoder; a context manager that ends it."""

    def __init__(self, engine: str = "vips", names: Sequence[str] = ALL, **changes: Any) -> None:
        self.parent = decoder_parent(names, **changes)
        self._socket, theirs = socket.socketpair()
        self.errors = os.memfd_create("stderr")
        self.output = os.memfd_create("output")
        self.returncode: int | None = None
        order = {"fork": engine, "warm_up": True}
        with theirs:
            self.pid: int = self.parent.order(order, theirs.fileno(), self.errors, self.output)["pid"]
            self._socket.send(BEGIN)
        try:
            self.hello = self.receive()
        except EOFError:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        self.wait(10)
        os.close(self.errors)
        os.close(self.output)

    def wait(self, for_s: float) -> int:
        """Its exit status, once it has ended. Raises: TimeoutError."""
        if self.returncode is None:
            asked = {"wait": self.pid, "for_s": for_s, "kill": False}
            self.returncode = self.parent.order(asked)["status"]
        if self.returncode is None:
            raise TimeoutError
        return self.returncode

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        send(self._socket, message, descriptors)

    def receive(self) -> dict[str, Any]:
        try:
            return receive(self._socket)
        except EOFError:
            raise EOFError(f"the child ended ({self.wait(10)}): {self.said()}") from None

    def said(self) -> str:
        """What it wrote on standard error."""
        return os.pread(self.errors, 10_000, 0).decode(errors="replace")

    def resident(self) -> int:
        """Bytes of memory that it holds now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def peak(self) -> int:
        """Bytes of memory that it had at most since it was asked last. Only root may ask."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # proc_pid_clear_refs(5)
        return int(found.split()[1]) * 1024

    def cpu_ms(self) -> float:
        """The CPU time that it has taken so far, with that of all its threads."""
        return time.clock_gettime(~self.pid << 3 | _CPUCLOCK_SCHED) * 1000

    def descriptors(self) -> set[int]:
        """The files that it has open now."""
        return {int(entry.name) for entry in Path(f"/proc/{self.pid}/fd").iterdir()}

    def run(
        self,
        source: bytes | Path,
        specs: Sequence[dict[str, Any]] = DEFAULT,
        *,
        proceed: bool = True,
        size: int | None = None,
        known: str | None = None,
        placeholder: str = "thumbhash",
    ) -> "Outcome":
        """Push one picture through; the outcome holds the last answer, the probe and the variants' bytes."""
        file = os.memfd_create("file")
        try:
            data = source if isinstance(source, bytes) else source.read_bytes()
            os.write(file, data)
            request = {
                "bytes": len(data) if size is None else size,
                "known_sha256": known,
                "missing": [],
                "variants": list(specs),
                "placeholder": placeholder,
            }
            self.send(request, [file])
            answer = self.receive()
            probe = answer if answer["status"] == "probed" else None
            if probe is not None:
                self.send({"proceed": proceed})
                answer = self.receive() if proceed else probe
            made = answer.get("variants", [])
            return Outcome(answer, probe, [os.pread(self.output, v["bytes"], v["start"]) for v in made])
        finally:
            os.close(file)


class Outcome:
    """What came back for one picture."""

    def __init__(self, answer: dict[str, Any], probe: dict[str, Any] | None, variants: list[bytes]) -> None:
        self.answer = answer
        self.probe = probe
        self.variants = variants

    @property
    def status(self) -> str:
        return str(self.answer["status"])

    @property
    def code(self) -> str | None:
        return self.answer.get("code")
