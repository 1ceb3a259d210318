"""The parent of decoders as the worker sees it: started once, it forks them, and tells how each has ended."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Self

import orjson

from pipelines import cgroups
from pipelines.allowance import Allowance
from pipelines.errors import DecoderKilled, PipelineError
from pipelines.formats import MIB, Engine
from pipelines.sandbox.exits import EXIT_TIMEOUT_S, START_TIMEOUT_S, meaning_of, not_started
from pipelines.sandbox.frames import Frames
from storage.tasks import completed
from storage.threads import in_thread

DECODER = (sys.executable, "-I", "-m", "pipelines.decoder")
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",  # halves the peak on camera JPEGs
    "VIPS_CONCURRENCY": "1",
}
_WAIT_S = 0.1  # for which the end of one decoder may keep others from being forked


def config_of(allowance: Allowance) -> dict[str, Any]:
    """What the process is told of the limits of a picture."""
    return {
        "max_bytes": allowance.max_source_bytes,
        "max_pixels": allowance.max_pixels,
        "formats": list(allowance.formats),
        "damaged": "accept" if allowance.accept_damaged else "reject",
        "memory_mb": allowance.memory // MIB,
        "confinement": allowance.confinement,
    }


class ForkServer:
    """A process that was set up once and forks decoders; hold it through `start` and end it with `close`."""

    def __init__(self, process: subprocess.Popen[bytes], connection: Frames) -> None:
        self._process = process
        self._connection = connection
        self._oom_kills = cgroups.oom_kills()
        self._one_at_a_time = asyncio.Lock()
        self._living: set[int] = set()
        self.end_reason = ""

    @classmethod
    async def start(cls, config: dict[str, Any], command: Sequence[str] = DECODER) -> Self:
        """Start the process and wait until it is set up. Raises: DecoderUnavailable."""
        return await cls.spawn(config, command).greeted()

    @classmethod
    def spawn(cls, config: dict[str, Any], command: Sequence[str] = DECODER) -> Self:
        """Start the process, for whoever awaits later that it has `greeted`. Raises: DecoderUnavailable."""
        try:
            return cls._spawn(config, command)
        except OSError as error:
            raise not_started(error, "") from error

    async def greeted(self) -> Self:
        """This one, once the process is set up; otherwise it is gone. Raises: DecoderUnavailable."""
        try:
            return await self._greeted()
        except BaseException:
            await self.close()
            raise

    async def _greeted(self) -> Self:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._answer()
        except (OSError, EOFError, PipelineError) as error:
            stderr = self._connection.stderr_tail()
            why = error if isinstance(error, TimeoutError | PipelineError) else await self._why_it_ended()
            raise not_started(why, stderr) from error
        return self

    @classmethod
    def _spawn(cls, config: dict[str, Any], command: Sequence[str]) -> Self:
        with contextlib.ExitStack() as theirs:
            connection, sock, errors = Frames.open(theirs)
            try:
                # From the main thread: its death signal is tied to the thread that started it.
                process = subprocess.Popen(  # noqa: S603
                    [*command, orjson.dumps({**config, "parent": os.getpid()}).decode()],
                    stdin=sock.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env=_ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                )
            except BaseException:
                connection.close()
                raise
        return cls(process, connection)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process is no more, although nobody has asked it anything yet."""
        return self._process.poll() is not None

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked; once it has ended, so have all its children."""
        return not self._connection.is_closed

    async def fork(self, engine: Engine, descriptors: Sequence[int], *, warm_up: bool) -> int:
        """The number of a new decoder, which has its socket, its standard error and its output from these.

        Raises: DecoderUnavailable.
        """
        forked: list[int] = []
        try:
            await completed(self._fork({"fork": engine, "warm_up": warm_up}, descriptors, forked))
        except (OSError, PipelineError) as error:
            raise not_started(error, self._connection.stderr_tail()) from error
        except asyncio.CancelledError:
            for pid in forked:
                await self.end(pid)
            raise
        return forked[0]

    async def _fork(self, order: dict[str, Any], descriptors: Sequence[int], forked: list[int]) -> None:
        self._oom_kills = cgroups.oom_kills()
        answer = await self._exchange(order, descriptors)
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        self._living.add(answer["pid"])
        forked.append(answer["pid"])

    async def end(self, pid: int) -> None:
        """Kill that decoder, whatever it does, and leave no zombie; a cancelled caller waits for that."""
        await completed(self._end(pid))

    async def _end(self, pid: int) -> None:
        while pid in self._living:
            try:
                await self._reap(pid, kill=True)
            except PipelineError:
                return  # it has ended with this process

    async def exit_status(self, pid: int) -> int | None:
        """How a decoder that has closed its socket ended, as subprocess says it; None if it does not end.

        Raises: DecoderKilled where this process has ended, and so all its children.
        """
        until = time.monotonic() + EXIT_TIMEOUT_S
        while time.monotonic() < until:
            if (status := await completed(self._reap(pid, kill=False))) is not None:
                return status
        return None

    async def _reap(self, pid: int, *, kill: bool) -> int | None:
        """Its exit status, if it ends soon; never cancelled, for it is told once."""
        answer = await self._exchange({"wait": pid, "for_s": _WAIT_S, "kill": kill})
        if not answer["lives"]:
            self._living.discard(pid)
        status: int | None = answer["status"]
        return status

    async def _exchange(self, order: dict[str, Any], descriptors: Sequence[int] = ()) -> dict[str, Any]:
        """The answer to an order. Raises: DecoderKilled."""
        async with self._one_at_a_time:
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await self._connection.send(order, descriptors)
                    return await self._answer()
            except (OSError, EOFError, TimeoutError) as error:
                raise await self._end_of_all() from error

    async def _answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads(await self._connection.receive())
        return answer

    async def _end_of_all(self) -> DecoderKilled:
        """What it means that this process does not answer, after which it is gone for good."""
        stderr = self._connection.stderr_tail()
        why = await self._why_it_ended()
        await self.close()
        self.end_reason = str(why)
        for_memory = isinstance(why, DecoderKilled) and why.for_memory
        killed = DecoderKilled(f"the parent of all decoders has ended: {why}", for_memory=for_memory)
        if stderr:
            killed.add_note(stderr)
        return killed

    async def _why_it_ended(self) -> PipelineError:
        try:
            status = await in_thread(self._process.wait, EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return DecoderKilled("it does not answer")
        return meaning_of(status, self._connection.stderr_tail(), self._oom_kills)

    async def close(self) -> None:
        """End the process and all decoders, and leave no zombie."""
        await completed(self._close())

    async def _close(self) -> None:
        self._connection.close()  # upon which it ends them, and itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            await in_thread(self._process.wait, EXIT_TIMEOUT_S)
        self._process.kill()
        await in_thread(self._process.wait)
        for pid in [*self._living]:
            self._living.discard(pid)
            with contextlib.suppress(ChildProcessError):  # only a container's first process inherits them
                await in_thread(os.waitpid, pid, 0)
