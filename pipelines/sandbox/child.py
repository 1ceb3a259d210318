"""One decoder process: started, spoken to in frames, watched while it works, and surely ended."""

import asyncio
import contextlib
import errno
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Self

import orjson
from pydantic import ValidationError

from pipelines import cgroups
from pipelines.errors import (
    DecoderBloated,
    DecoderCrashed,
    DecoderFailed,
    DecoderKilled,
    DecoderStarved,
    DecoderUnavailable,
    DecodeTimeout,
    PipelineError,
)
from pipelines.formats import MIB
from pipelines.sandbox.answers import ANSWER, MAX_FRAME, Answer, Bug, Hello, printable
from storage.errors import BlobsUnavailable

DECODER = (sys.executable, "-I", "-m", "pipelines.decoder")
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",  # halves the peak on camera JPEGs
    "VIPS_CONCURRENCY": "1",
}
_START_TIMEOUT_S = 30
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
# States of proc_pid_stat(5); D waits for a disk, and who is throttled is R, who is stopped T.
_ASLEEP, _WAITING = frozenset("S"), frozenset("SD")
_IDLE_CPU_S = 0.001  # a child that used less between two measurements was idle
_DECISIVE_SHARE = 1 / 2  # of its CPU time makes a picture slow, and of its waiting makes a storage slow
_UNCAUGHT = 1  # the exit status of Python after an exception that nothing caught
_LENGTH = struct.Struct(">I")
_MOVED = re.compile("No module named|cannot import name")
TOO_CROWDED = "Raise the limit of processes and threads (TasksMax, pids.max, ulimit -u)."
RESTART = "Was the program replaced or removed? Restart the worker, or install it again."
ROOM = "Is there room for its threads (TasksMax, pids.max, ulimit -u) and its memory?"
UNFILTER = "Let the filter refuse calls instead of killing: SystemCallErrorNumber=EPERM in a systemd unit."
NO_CPU_LIMIT = "Give the worker no limit of CPU time (LimitCPU, ulimit -t): it works for as long as it runs."
MORE_CPU = "Give the worker a larger CPU quota, or let less run beside it."
MORE_MEMORY = "Give it more memory, or let less run beside the worker."
_OWN_FAULTS = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}
)
"""The signals that a program brings on itself; every other comes from elsewhere."""
_NO_THREAD, _NO_MEMORY = "rror creating thread", "failed to allocate"
_REMEDIES = {
    errno.EAGAIN: TOO_CROWDED,
    errno.ENOENT: RESTART,
    errno.EMFILE: "Raise the limit of open files (LimitNOFILE, ulimit -n).",
    errno.ENFILE: "Raise the machine's limit of open files (fs.file-max).",
    errno.ENOMEM: "The machine is out of memory: free some, or give it more.",
}


@dataclass
class Budget:
    """The CPU and wall seconds for one try at a picture, and how much of them is spent.

    `slept` are those of the wall's that the decoder lay idle though it had the picture: nothing held it up.
    `held_up` are those that it lay idle before it had it.
    """

    cpu_s: float
    wall_s: float
    cpu_used: float = 0.0
    waited: float = 0.0
    slept: float = 0.0
    held_up: float = 0.0
    has_picture: bool = False


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
        self._unread = self._said = b""
        self._oom_kills = cgroups.oom_kills()
        self.hello: Hello
        self.idle_memory = 0
        self.is_used = False

    @classmethod
    async def start(cls, config: dict[str, Any], command: Sequence[str] = DECODER) -> Self:
        """Start a decoder and wait until it has warmed up. Raises: DecoderUnavailable."""
        try:
            child = cls._spawn(config, command)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "")
            raise DecoderUnavailable(f"a decoder could not be started: {error}", remedy) from error
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                child.hello = Hello.model_validate_json(await child._frame())
        except (TimeoutError, PipelineError, ValidationError) as error:
            reason, remedy = child._why_it_did_not_start(error)
            await child.kill()
            raise DecoderUnavailable(f"a decoder did not start: {reason}", remedy) from error
        except asyncio.CancelledError:
            await child.kill()
            raise
        child.idle_memory = child.memory()
        return child

    @classmethod
    def _spawn(cls, config: dict[str, Any], command: Sequence[str]) -> Self:
        """A process that was not heard of yet; where it fails, nothing stays open. Raises: OSError."""
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                ours.setblocking(False)
                # What it says is kept as far as the pipe holds it; the rest is refused at once.
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

    def _why_it_did_not_start(self, error: Exception) -> tuple[str, str]:
        """The reason, and the remedy where one is known."""
        match error:
            case ValidationError():
                return "it is of another version than this worker", RESTART
            case TimeoutError():
                return f"it was not ready within {_START_TIMEOUT_S} s", ""
            case DecoderKilled():
                return error.reason, error.remedy or "Find out who ends the worker's processes."
        said = self.stderr_tail().splitlines()
        if not said:
            return str(error), ROOM
        return said[-1], RESTART if _MOVED.search(said[-1]) else ""

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    async def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one frame, with `descriptors` beside its first bytes. Raises: what its death means."""
        body = orjson.dumps(message)
        frame = _LENGTH.pack(len(body)) + body
        try:
            sent = socket.send_fds(self._sock, [frame], descriptors)
            await asyncio.get_running_loop().sock_sendall(self._sock, frame[sent:])
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
        now, cpu = time.monotonic(), self._cpu()
        answered = False
        while not answered:
            answered = bool((await asyncio.wait({reading}, timeout=_POLL_INTERVAL_S))[0])
            now, before = time.monotonic(), now
            # A worker that was frozen for a while has not seen its child work: that time blames nobody.
            budget.waited += min(now - before, 10 * _POLL_INTERVAL_S)
            cpu, cpu_before = max(cpu, self._cpu()), cpu  # 0 once it is dead
            budget.cpu_used += cpu - cpu_before
            if answered:
                return
            if cpu - cpu_before < _IDLE_CPU_S:
                self._count_idle(budget, min(now - before, 10 * _POLL_INTERVAL_S))
            if budget.cpu_used > most_cpu_s:
                raise _too_slow(most_cpu_s)
            if budget.waited > budget.wall_s:
                raise self._why_it_took_so_long(budget)
            if bloated(self.memory() - self.idle_memory):
                raise DecoderBloated

    def _count_idle(self, budget: Budget, seconds: float) -> None:
        found = states(self.pid)
        if budget.has_picture and found == _ASLEEP:
            budget.slept += seconds
        elif not budget.has_picture and found and found <= _WAITING:
            budget.held_up += seconds

    def _why_it_took_so_long(self, budget: Budget) -> DecodeTimeout | DecoderStarved | BlobsUnavailable:
        """Whose fault it is that the time on the wall is over, and that of the CPU is not."""
        if budget.cpu_used + budget.slept > budget.cpu_s * _DECISIVE_SHARE:
            return _too_slow(budget.cpu_s)
        if budget.held_up > budget.waited * _DECISIVE_SHARE:
            return BlobsUnavailable(f"the original could not be read within {budget.wall_s:.3g} s")
        given = f"{budget.cpu_used:.1f} s of CPU time in {budget.wall_s:.3g} s"
        return DecoderStarved(f"the machine gave the decoder {given}. {MORE_CPU}")

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
        wanted, self._unread = self._unread[:count], self._unread[count:]
        return wanted

    def take_output(self, places: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """What is at these places (start, length) of the output, which is empty afterwards.

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

    def _cpu(self) -> float:
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return 0.0

    def is_silent(self) -> bool:
        """Whether nothing has come that was not asked for."""
        return not (self._unread or select.select([self._sock], [], [], 0)[0])

    async def _death(self) -> DecoderCrashed | DecoderFailed | DecoderKilled | DecoderStarved:
        """What it means that the process ended, with the end of its standard error as a note."""
        error = await self._why_it_ended()
        if stderr_tail := self.stderr_tail():
            error.add_note(stderr_tail)
        return error

    async def _why_it_ended(self) -> DecoderCrashed | DecoderFailed | DecoderKilled | DecoderStarved:
        if self._sock.fileno() == -1:
            return DecoderKilled("the worker itself ended the decoder")
        try:
            status = await asyncio.to_thread(self._process.wait, _EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return DecoderCrashed("the decoder closed its connection")
        match -status:
            case signal.SIGKILL:  # no decoder is killed by us while somebody waits for its answer
                return self._killed()
            case signal.SIGSYS:
                return DecoderKilled("a system call filter killed the decoder (SIGSYS)", UNFILTER)
            case signal.SIGXCPU:  # we set no limit of CPU time
                return DecoderKilled("a limit of CPU time ended the decoder (SIGXCPU)", NO_CPU_LIMIT)
            case died if died > 0 and died not in _OWN_FAULTS:
                return DecoderKilled(f"somebody ended the decoder with {_name(died)}")
            case died if died > 0:
                said = self.stderr_tail()
                if _NO_THREAD in said:  # glib ends the process then, as it does for memory
                    return DecoderStarved(f"the decoder died for want of a thread. {TOO_CROWDED}")
                if _NO_MEMORY in said:
                    return DecoderStarved(f"the decoder died for want of memory. {MORE_MEMORY}")
                return DecoderCrashed(f"the decoder died of signal {died}")
        if status == _UNCAUGHT:
            return DecoderFailed("an exception of its own ended the decoder")
        return DecoderCrashed(f"the decoder ended with status {status}")

    def _killed(self) -> DecoderKilled:
        if cgroups.oom_kills() == self._oom_kills:
            return DecoderKilled("the decoder was killed, and not by the worker or for lack of memory")
        limit = cgroups.memory_limit()
        where = "the machine" if limit is None else f"the container of {limit // MIB} MiB"
        reason = f"the kernel killed the decoder, for {where} ran out of memory"
        return DecoderKilled(reason, MORE_MEMORY, for_memory=True)

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
    """What the kernel says that the threads of a process do now: R, S, D, T, …"""
    found = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                found.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return frozenset(found)


def _too_slow(most_cpu_s: float) -> DecodeTimeout:
    return DecodeTimeout(f"The picture took longer to decode than the {most_cpu_s:g} seconds allowed.")


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _output_file() -> int:
    """A file in memory for a child's variants, also where a system call filter refuses the usual way."""
    try:
        return os.memfd_create("decoder-output", os.MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
    with tempfile.TemporaryFile(dir=_SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None) as file:
        return os.dup(file.fileno())
