"""Sandboxes for tests: allowances, pictures, a rogue in place of the decoder, and a look at the children."""

import asyncio
import io
import os
import select
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from PIL import Image

from pipelines.accounts import Meter
from pipelines.allowance import Allowance
from pipelines.formats import MIB
from pipelines.recipe import Variant
from pipelines.sandbox import Rendered, Sandbox
from pipelines.sandbox.fork_server import DECODER, ForkServer, config_of

ROGUE = (sys.executable, "-I", str(Path(__file__).with_name("rogue_decoder.py")))
BOTH = (Variant("thumb", 150), Variant("large", 1920))


def allowance(decoders: int = 1, seconds: float = 5) -> Allowance:
    """What a worker allows by default, with that many decoders and CPU seconds for a picture."""
    return Allowance(
        decoders=decoders,
        memory=512 * MIB,
        max_source_bytes=10 * MIB,
        max_pixels=100_000_000,
        image_timeout_s=seconds,
    )


def jpeg(width: int = 40, height: int = 30, color: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """A small JPEG of one colour, without metadata."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), color).save(file, "jpeg")
    return file.getvalue()


def bitmap() -> bytes:
    """A small BMP, which the other kind of decoder reads."""
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (10, 200, 10)).save(file, "bmp")
    return file.getvalue()


def ordered(fault: str) -> bytes:
    """A picture that makes the rogue do something."""
    return jpeg() + f"--{fault}--".encode()


@contextmanager
def descriptor(content: bytes) -> Iterator[int]:
    """A source with that content."""
    file = os.memfd_create("test")
    try:
        os.pwrite(file, content, 0)
        yield file
    finally:
        os.close(file)


class LentServers:
    """The parents of decoders, each lent to one sandbox after the other: to start one takes 0.2 s of CPU."""

    def __init__(self) -> None:
        self._free: dict[Sequence[str], ForkServer] = {}

    @asynccontextmanager
    async def open_sandbox(
        self, allowance: Allowance, command: Sequence[str] = DECODER
    ) -> AsyncIterator[Sandbox]:
        """A sandbox with one decoder, like that of a worker; its decoders are gone at the end.

        All that name the same command allow the same but for times.
        """
        sandbox = Sandbox(allowance, command)
        pool = sandbox.pool
        lent = self._free.pop(command, None) or await ForkServer.start(config_of(allowance), command)
        lent._one_at_a_time = asyncio.Lock()  # of this test's loop
        pool._server = lent
        try:
            await pool.warm_up()
            yield sandbox
        finally:
            if pool._server is lent and lent.is_alive and not has_ended(lent.pid, 0):
                pool._server, self._free[command] = None, lent
            else:
                await lent.close()
            await pool.close()

    async def close(self) -> None:
        for server in self._free.values():
            await server.close()


async def render(
    sandbox: Sandbox,
    content: bytes,
    wanted: Sequence[Variant] = BOTH,
    known: str | None = None,
    meter: Meter | None = None,
) -> Rendered | None:
    """Push one picture through."""
    with descriptor(content) as source:
        return await sandbox.render(source, len(content), wanted, known, meter=meter)


def children() -> dict[int, str]:
    """The decoders of this process that are not yet buried, and the state of each."""
    servers = fork_servers()
    return {pid: state for pid, (state, parent) in _stats().items() if parent in servers}


def fork_servers() -> list[int]:
    """The processes of this one that decoders are forked from."""
    return [pid for pid, (_, parent) in _stats().items() if parent == os.getpid() and _decodes(pid)]


def _stats() -> dict[int, tuple[str, int]]:
    """The state and the parent of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            found[int(folder.name)] = state, int(parent)
    return found


def _decodes(pid: int) -> bool:
    with suppress(OSError):
        return b"decoder" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def has_ended(pid: int, within_s: float) -> bool:
    """Whether the process ends in that time; it may be anybody's."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], within_s)[0])
    finally:
        os.close(handle)
