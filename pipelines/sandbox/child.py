"""One decoder process: started, spoken to in frames, watched while it works, and surely ended."""

import asyncio
import contextlib
import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any, Self

import orjson
from pydantic import ValidationError

from pipelines import cgroups
from pipelines.errors import DecoderBloated, DecoderCrashed, DecoderFailed, DecoderKilled, PipelineError
from pipelines.sandbox.answers import ANSWER, MAX_FRAME, Answer, Bug, Hello, printable
from pipelines.sandbox.budget import Budget
from pipelines.sandbox.exits import START_TIMEOUT_S, meaning_of, not_started

DECODER = (sys.executable, "-I", "-m", "pipelines.decoder")
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",  # halves the peak on camera JPEGs
    "VIPS_CONCURRENCY": "1",
}
_POLL_INTERVAL_S = 0.05  # between two measurements of a working child
_EXIT_TIMEOUT_S = 0.5  # between closing its socket and being dead
_ERRORS_BYTES = 64 * 1024  # what a pipe holds
_STDERR_TAIL = 2000
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (a nameless file there)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_BLOCK = 512  # what st_blocks counts, whatever the file system: stat(2)
# The kernel's MAKE_PROCESS_CPUCLOCK and CPUCLOCK_SCHED (linux/posix-timers.h): the number of a clock is
# ~pid << 3 | 2; clock_getcpuclockid(3) returns the same, and Python lacks it.
_CPUCLOCK_SCHED = 2
_IDLE_CPU_S = 0.001  # a child that used less between two measurements was idle
_LENGTH = struct.Struct(">I")


class Child:
    """A decoder process that is ready for pictures; hold it through `start` and end it with `kill`."""

    def __init__(
        self, process: subprocess.Popen[bytes], sock: socket.socket, errors: int, output: int
    ) -> None:
        self._process = process
        self._sock = sock
        self._errors = errors
        self._output = output
        self._clock = ~process.pid << 3 | _CPUCLOCK_SCHED
        self._statm = os.open(f"/proc/{process.pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._cpu_used_s = 0.0  # when it was looked at last
        self._unread = self._said = b""
        self._oom_kills = cgroups.oom_kills()
        self.hello: Hello
        self.idle_memory = 0
        self.start_cpu_s = 0.0
        self.is_used = False
        self._cpu_before_rest_s = 0.0

    @classmethod
    async def start(cls, config: dict[str, Any], command: Sequence[str] = DECODER) -> Self:
        """Start a decoder and wait until it has warmed up. Raises: DecoderUnavailable."""
        try:
            child = cls._spawn(config, command)
        except OSError as error:
            raise not_started(error, "") from error
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                child.hello = Hello.model_validate_json(await child._frame())
        except (TimeoutError, PipelineError, ValidationError) as error:
            stderr = child.stderr_tail()
            await child.kill()
            raise not_started(error, stderr) from error
        except asyncio.CancelledError:
            await child.kill()
            raise
        child.idle_memory = child.memory()
        child.start_cpu_s = child.cpu_s()
        child.rest()
        return child

    @classmethod
    def _spawn(cls, config: dict[str, Any], command: Sequence[str]) -> Self:
        """Start the process and return without its hello; a failure leaves nothing open. Raises: OSError."""
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                ours.setblocking(False)
                # Its messages stay in the pipe, as far as it has room; the rest is refused at once.
                errors, saying = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                undo.callback(os.close, errors)
                with os.fdopen(saying, "wb") as said:
                    output = _output_file()
                    undo.callback(os.close, output)
                    # From the main thread: a child's death signal is tied to the thread that started it.
                    process = subprocess.Popen(  # noqa: S603
                        [
                            *command,
                            orjson.dumps({**config, "parent": os.getpid(), "output": output}).decode(),
                        ],
                        pass_fds=[output],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=said,
                        env=_ENVIRONMENT,
                        cwd="/",
                        start_new_session=True,
                    )
            undo.callback(process.wait)
            undo.callback(process.kill)
            child = cls(process, ours, errors, output)
            undo.pop_all()
        return child

    @property
    def pid(self) -> int:
        return self._process.pid

    async def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one frame, with `descriptors` beside its first bytes. Raises: what its death means."""
        body = orjson.dumps(message)
        frame = _LENGTH.pack(len(body)) + body
        try:
            sent = socket.send_fds(self._sock, [frame], descriptors)
            if rest := frame[sent:]:  # even to send nothing fails where it has answered and ended already
                await asyncio.get_running_loop().sock_sendall(self._sock, rest)
        except OSError as error:
            raise await self._death() from error

    async def receive(
        self, budget: Budget, bloated: Callable[[int], bool], most_cpu_s: float = inf
    ) -> Answer:
        """The next answer, within what `budget` has left and `most_cpu_s`, and no growth that is `bloated`.

        Raises: DecodeTimeout, DecoderBloated, DecoderCrashed, DecoderFailed, DecoderKilled, DecoderStarved,
        BlobsUnavailable. After each of them the child is of no more use.
        """
        reading = asyncio.ensure_future(self._frame())
        try:
            await self._watch(reading, budget, bloated, min(budget.cpu_s, most_cpu_s))
            answer = ANSWER.validate_json(reading.result())
        except ValidationError as error:
            raise DecoderCrashed("the decoder answered what no decoder may answer") from error
        finally:
            reading.cancel()
        if isinstance(answer, Bug):
            failed = DecoderFailed(f"the decoder failed: {answer.message}")
            failed.add_note(answer.traceback)
            raise failed
        return answer

    async def _watch(
        self,
        reading: asyncio.Future[bytes],
        budget: Budget,
        bloated: Callable[[int], bool],
        most_cpu_s: float,
    ) -> None:
        now, cpu = time.monotonic(), self.cpu_s()
        while True:
            answered, _ = await asyncio.wait({reading}, timeout=_POLL_INTERVAL_S)
            now, before = time.monotonic(), now
            # A worker that was frozen for a while has not seen its child work: that time does not count.
            waited = min(now - before, 10 * _POLL_INTERVAL_S)
            budget.waited += waited
            cpu, cpu_before = self.cpu_s(), cpu
            budget.cpu_used += cpu - cpu_before
            if answered:
                return
            if cpu - cpu_before < _IDLE_CPU_S:
                budget.count_idle(waited, states(self.pid))
            budget.check(most_cpu_s)
            if bloated(self.memory() - self.idle_memory):
                raise DecoderBloated

    async def _frame(self) -> bytes:
        length = _LENGTH.unpack(await self._exactly(_LENGTH.size))[0]
        if length > MAX_FRAME:
            raise DecoderCrashed("the decoder sent a frame that is too large")
        return await self._exactly(length)

    async def _exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        while len(self._unread) < count:
            try:
                part = await loop.sock_recv(self._sock, MAX_FRAME)
            except OSError as error:
                raise await self._death() from error
            if not part:
                raise await self._death()
            self._unread += part
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken

    def take_output(self, places: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return the bytes at these places (start, length) of the output, and empty it.

        A copy, one of each place: the child keeps its descriptor, and what is checked must not change any
        more. It may be shorter where there is not so much.
        """
        contents = {(start, count): os.pread(self._output, count, start) for start, count in {*places}}
        os.ftruncate(self._output, 0)
        return [contents[place] for place in places]

    def memory(self) -> int:
        """Bytes of memory now: what is resident, and the output; 0 once the process has died."""
        if self._sock.fileno() == -1:
            return 0
        try:
            resident = int(os.pread(self._statm, 100, 0).split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0
        return resident + os.fstat(self._output).st_blocks * _BLOCK

    def cpu_s(self) -> float:
        """Seconds of CPU that it has taken; of a dead one those that were seen."""
        self._cpu_used_s = max(self._cpu_used_s, self._cpu())
        return self._cpu_used_s

    def rest(self) -> None:
        """Note that it has nothing to do from now on."""
        self._cpu_before_rest_s = self.cpu_s()

    def is_restless(self, most_cpu_s: float) -> bool:
        """Whether it has used more CPU time than that since it has had nothing to do."""
        return self.cpu_s() - self._cpu_before_rest_s > most_cpu_s

    def _cpu(self) -> float:
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return 0.0

    def is_silent(self) -> bool:
        """Whether nothing has come that was not asked for."""
        return not (self._unread or select.select([self._sock], [], [], 0)[0])

    async def _death(self) -> PipelineError:
        """What it means that the process ended, with the end of its standard error as a note."""
        error = await self._why_it_ended()
        if stderr_tail := self.stderr_tail():
            error.add_note(stderr_tail)
        return error

    async def _why_it_ended(self) -> PipelineError:
        if self._sock.fileno() == -1:
            return DecoderKilled("the worker itself ended the decoder")
        try:
            status = await asyncio.to_thread(self._process.wait, _EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return DecoderCrashed("the decoder closed its connection")
        return meaning_of(status, self.stderr_tail(), self._oom_kills)

    def stderr_tail(self) -> str:
        """The end of what the process wrote on its standard error, printable."""
        if self._sock.fileno() != -1:  # otherwise the number of the pipe may be another file's by now
            with contextlib.suppress(BlockingIOError):
                while part := os.read(self._errors, _ERRORS_BYTES):
                    self._said = (self._said + part)[-_STDERR_TAIL:]
        return printable(self._said.decode(errors="replace").strip())

    async def kill(self) -> None:
        """End the process, whatever it does, and leave no zombie."""
        if self._sock.fileno() == -1:
            return
        # With whatever it has started, although it should not be able to. Not yet waited for, it is the
        # leader of its group still; once it is, the number may be another's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        self._sock.close()
        os.close(self._errors)
        os.close(self._output)
        os.close(self._statm)
        await asyncio.shield(asyncio.to_thread(self._process.wait))


def states(pid: int) -> frozenset[str]:
    """The states of a process' threads as the kernel names them now: R, S, D, T, …"""
    found = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                found.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return frozenset(found)


def _output_file() -> int:
    """A file in memory for a child's variants, also where a system call filter refuses the usual way."""
    try:
        return os.memfd_create("decoder-output", os.MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
    with tempfile.TemporaryFile(dir=_SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None) as file:
        return os.dup(file.fileno())
