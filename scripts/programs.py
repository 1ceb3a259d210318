"""Programs of this project that run beside a command, each in a process of its own, until it ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scripts.processes import launch, tail
from scripts.terminal import CommandError

if TYPE_CHECKING:
    from worker.settings import Settings

T = TypeVar("T")

_STOP_TIMEOUT_S = 30
_LOOK_S = 0.2


@dataclass(frozen=True)
class Program:
    """A program that runs, by the name that sentences about it begin with, and where its log is."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        """Raises: CommandError where it has ended, with the last lines of its log."""
        code = self.process.poll()
        if code is not None:
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise CommandError(
                f"{self.name} ended ({how}). The end of its log:\n{tail(self.log) or '(empty)'}"
            )


@contextmanager
def running(name: str, command: str, settings: "Settings", log: Path) -> Iterator[Program]:
    """`media COMMAND` as an operator would run it; it is stopped when the block ends."""
    from worker.variables import environment

    words = [sys.executable, "-P", "-m", "media_worker", command]
    with log.open("wb") as lines:
        process = launch(words, lines, {**os.environ, **environment(settings)})
    try:
        yield Program(name, process, log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def while_alive(programs: Sequence[Program], work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Raises: CommandError if one of the programs ends first."""
    task = asyncio.create_task(work)
    try:
        while not (await asyncio.wait({task}, timeout=_LOOK_S))[0]:
            for program in programs:
                program.check_alive()
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=_STOP_TIMEOUT_S)
