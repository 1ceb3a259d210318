"""A tiny parent: starts the decoder's child the way the sandbox does and runs pictures through it."""

import json
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import orjson

from pipelines import formats

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


class DecoderProcess:
    """One running decoder; a context manager that ends it."""

    def __init__(self, engine: str = "vips", names: Sequence[str] = ALL, **changes: Any) -> None:
        config = {
            "engine": engine,
            "max_bytes": 10 * 1024 * 1024,
            "max_pixels": 100_000_000,
            "formats": list(names),
            "damaged": "reject",
            "memory_mb": None,
            "confinement": "try",
            "parent": os.getpid(),
            **changes,
        }
        self._socket, theirs = socket.socketpair()
        self.errors = os.memfd_create("stderr")
        self.output = os.memfd_create("output")
        config["output"] = self.output
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-m", "pipelines.decoder", json.dumps(config)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            pass_fds=[self.output],
            env={"MALLOC_ARENA_MAX": "1"},
            start_new_session=True,
        )
        theirs.close()
        try:
            self.hello = self.receive()
        except EOFError:
            self.__exit__()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()
        self.process.wait(10)
        os.close(self.errors)
        os.close(self.output)

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        body = orjson.dumps(message)
        socket.send_fds(self._socket, [struct.pack(">I", len(body)) + body], list(descriptors))

    def receive(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", self._exactly(4))
        message: dict[str, Any] = orjson.loads(self._exactly(length))
        return message

    def _exactly(self, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            part = self._socket.recv(count - len(parts))
            if not part:
                raise EOFError(f"the child ended ({self.process.wait(10)}): {self.said()}")
            parts += part
        return parts

    def said(self) -> str:
        """What it wrote on standard error."""
        return os.pread(self.errors, 10_000, 0).decode(errors="replace")

    def resident(self) -> int:
        """Bytes of memory that it holds now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf(
            "SC_PAGE_SIZE"
        )

    def cpu_ms(self) -> float:
        """The CPU time that it has taken so far, with that of all its threads."""
        return time.clock_gettime(~self.process.pid << 3 | _CPUCLOCK_SCHED) * 1000

    def descriptors(self) -> set[int]:
        """The files that it has open now."""
        return {int(entry.name) for entry in Path(f"/proc/{self.process.pid}/fd").iterdir()}

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
