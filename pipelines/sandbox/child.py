"""One decoder process: forked, spoken to in frames, watched while it works, and surely ended."""

import asyncio
import contextlib
import errno
import fcntl
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, NoReturn, Self

from pydantic import ValidationError

from pipelines import cgroups
from pipelines.errors import DecoderBloated, DecoderCrashed, DecoderFailed, DecoderKilled, PipelineError
from pipelines.formats import MIB, Engine
from pipelines.sandbox.answers import ANSWER, Answer, Bug, Hello
from pipelines.sandbox.budget import Budget
from pipelines.sandbox.exits import START_TIMEOUT_S, meaning_of, not_started
from pipelines.sandbox.fork_server import ForkServer
from pipelines.sandbox.frames import Frames

_POLL_INTERVAL_S = 0.05  # between two measurements of a working child
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (a nameless file there)
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LIBRARIES = 32 * MIB  # of the files that decoders map; those of both engines are a little smaller
_BLOCK = 512  # what st_blocks counts, whatever the file system: stat(2)
# The kernel's MAKE_PROCESS_CPUCLOCK and CPUCLOCK_SCHED (linux/posix-timers.h): the number of a clock is
# ~pid << 3 | 2; clock_getcpuclockid(3) returns the same, and Python lacks it.
_CPUCLOCK_SCHED = 2
_IDLE_CPU_S = 0.001  # a child that used less between two measurements was idle


class Child:
    """A decoder process that is ready for pictures; hold it through `start` and end it with `kill`."""

    def __init__(self, server: ForkServer, pid: int, engine: Engine, connection: Frames, output: int) -> None:
        self._server = server
        self.pid = pid
        self.engine = engine
        self._connection = connection
        self._output = output
        self._more_outputs: list[int] = []
        self._clock = ~pid << 3 | _CPUCLOCK_SCHED
        self._pidfd = _pidfd(pid)
        self._statm = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        self._cpu_used_s = 0.0  # when it was looked at last
        self._oom_kills = cgroups.oom_kills()
        self.hello: Hello
        self.idle_memory = 0
        self.start_cpu_s = self.start_debt_s = 0.0
        self.is_used = False
        self.owner: str | None = None
        """Whose pictures it has seen; None while it has seen none."""
        self._cpu_before_rest_s = 0.0
        self.rests_since = 0.0

    @classmethod
    async def start(cls, server: ForkServer, engine: Engine, *, warm_up: bool = False) -> Self:
        """Fork a decoder and wait until it is ready. Raises: DecoderUnavailable.

        One that is to `warm_up` decodes tiny pictures first, so that a library that cannot is noticed.
        """
        child = await cls._fork(server, engine, warm_up)
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
    async def _fork(cls, server: ForkServer, engine: Engine, warm_up: bool) -> Self:
        """A new child without its hello; a failure leaves nothing open. Raises: DecoderUnavailable."""
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as theirs:
            try:
                connection, sock, errors = Frames.open(theirs)
                undo.callback(connection.close)
                output = output_file()
            except OSError as error:
                raise not_started(error, "") from error
            undo.callback(os.close, output)
            pid = await server.fork(engine, [sock.fileno(), errors, output], warm_up=warm_up)
            try:
                child = cls(server, pid, engine, connection, output)
                connection.begin()
            except OSError as error:
                await server.end(pid)
                raise not_started(error, "") from error
            undo.pop_all()
        return child

    async def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send one frame, with `descriptors` beside its first bytes. Raises: what its death means."""
        try:
            await self._connection.send(message, descriptors)
        except OSError as error:
            raise await self._death() from error

    async def trim(self) -> None:
        """Have it return the memory of its pictures to the system, soon. Raises: what its death means."""
        await self.send({"trim": True})

    async def receive(
        self, budget: Budget, bloated: Callable[[int], bool], most_cpu_s: float = inf
    ) -> Answer:
        """The next answer, within what `budget` has left and `most_cpu_s`, and no growth that is `bloated`.

        Raises: as `receive_within`.
        """
        return await self.receive_within(lambda: budget, bloated, most_cpu_s)

    async def receive_within(
        self, budget: Callable[[], Budget], bloated: Callable[[int], bool], most_cpu_s: float = inf
    ) -> Answer:
        """The next answer, within the `budget` of what it works on at each moment.

        Raises: DecodeTimeout, DecoderBloated, DecoderCrashed, DecoderFailed, DecoderKilled, DecoderStarved,
        BlobsUnavailable. After each of them the child is of no more use.
        """
        try:
            watch = _Watch(self, budget, bloated, most_cpu_s)
            answer = ANSWER.validate_json(await self._watched_frame(watch))
        except ValidationError as error:
            raise DecoderCrashed("the decoder answered what no decoder may answer") from error
        if isinstance(answer, Bug):
            failed = DecoderFailed(f"the decoder failed: {answer.message}")
            failed.add_note(answer.traceback)
            raise failed
        return answer

    async def _watched_frame(self, watch: "_Watch") -> bytes:
        with self._connection.arrival() as arrival:
            try:
                while not await arrival.within(_POLL_INTERVAL_S):
                    watch.check()
            except (OSError, EOFError) as error:
                await self._watched_death(watch, error)
            watch.count()
        return arrival.frame

    async def _watched_death(self, watch: "_Watch", met: Exception) -> NoReturn:
        """Raise what its death means; it may have closed its socket and work on."""
        dying = asyncio.ensure_future(self._death())
        try:
            while not dying.done():
                await asyncio.wait({dying}, timeout=_POLL_INTERVAL_S)
                watch.check()
        finally:
            dying.cancel()
        raise dying.result() from met

    async def _frame(self) -> bytes:
        try:
            return await self._connection.receive()
        except (OSError, EOFError) as error:
            raise await self._death() from error

    def take_output(self, places: Sequence[tuple[int, int]]) -> Sequence[bytes]:
        """Return the bytes at these places (start, length) of the output, and empty it."""
        contents = read_places(self._output, places)
        os.ftruncate(self._output, 0)
        return contents

    @contextmanager
    def lent(self, outputs: Sequence[int]) -> Iterator[None]:
        """Count these outputs as its memory beside the usual one; afterwards they are empty for good.

        Raises: OSError.
        """
        with contextlib.ExitStack() as lent:
            lent.callback(self._more_outputs.clear)
            self._more_outputs += outputs
            for output in outputs:
                lent.callback(_empty_for_good, output)
            yield

    def memory(self) -> int:
        """Bytes of memory now: what is resident of its own, and the output; 0 once the process has died.

        What it still shares with its parent counts as its own. The files of its libraries do not, of which
        a new child has touched none.
        """
        if self._connection.is_closed:
            return 0
        try:
            _, resident, shared, *_ = os.pread(self._statm, 100, 0).split()
        except (OSError, ValueError):
            return 0
        libraries = min(int(shared) * _PAGE, _LIBRARIES)  # memory that is shared with nobody is counted there
        blocks = sum(os.fstat(output).st_blocks for output in (self._output, *self._more_outputs))
        return int(resident) * _PAGE - libraries + blocks * _BLOCK

    def cpu_s(self) -> float:
        """Seconds of CPU that it has taken; of a dead one those that were seen."""
        self._cpu_used_s = max(self._cpu_used_s, self._cpu())
        return self._cpu_used_s

    def rest(self) -> None:
        """Note that it has nothing to do from now on."""
        self._cpu_before_rest_s = self.cpu_s()
        self.rests_since = time.monotonic()

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
        return self._connection.is_silent()

    async def _death(self) -> PipelineError:
        """What it means that the process ended, with the end of its standard error as a note."""
        error = await self._why_it_ended()
        if stderr_tail := self.stderr_tail():
            error.add_note(stderr_tail)
        return error

    async def _why_it_ended(self) -> PipelineError:
        if self._connection.is_closed:
            return DecoderKilled("the worker itself ended the decoder")
        try:
            status = await self._server.exit_status(self.pid)
        except DecoderKilled as error:
            return error
        if status is None:
            return DecoderCrashed("the decoder closed its connection")
        return meaning_of(status, self.stderr_tail(), self._oom_kills)

    def stderr_tail(self) -> str:
        """The end of what the process wrote on its standard error, printable."""
        return self._connection.stderr_tail()

    async def kill(self) -> None:
        """End the process, whatever it does, and leave no zombie."""
        if self._connection.is_closed:
            return
        self._connection.close()
        os.close(self._output)
        os.close(self._statm)
        if self._pidfd is not None:  # at once, whatever its parent does
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            os.close(self._pidfd)
        await self._server.end(self.pid)


class _Watch:
    """What a child at work has taken since it was looked at last, held against what it may take."""

    def __init__(
        self,
        child: Child,
        budget_now: Callable[[], Budget],
        bloated: Callable[[int], bool],
        most_cpu_s: float,
    ) -> None:
        self._child = child
        self._budget_now = budget_now
        self._bloated = bloated
        self._most_cpu_s = most_cpu_s
        self._looked_at, self._cpu_s = time.monotonic(), child.cpu_s()

    def check(self) -> None:
        """Count what it has taken, while it has not answered.

        Raises: as `Budget.check`, and DecoderBloated.
        """
        budget, waited, cpu_s = self.count()
        if cpu_s < _IDLE_CPU_S:
            budget.count_idle(waited, states(self._child.pid))
        budget.check(min(budget.cpu_s, self._most_cpu_s))
        if self._bloated(self._child.memory() - self._child.idle_memory):
            raise DecoderBloated

    def count(self) -> tuple[Budget, float, float]:
        """Count what it has taken; returns whose budget that was, and the seconds of the wall and of CPU."""
        now, cpu_s = time.monotonic(), self._child.cpu_s()
        # A worker that was frozen for a while has not seen its child work: that time does not count.
        waited = min(now - self._looked_at, 10 * _POLL_INTERVAL_S)
        used = cpu_s - self._cpu_s
        self._looked_at, self._cpu_s = now, cpu_s
        budget = self._budget_now()
        budget.waited += waited
        budget.cpu_used += used
        return budget, waited, used


def states(pid: int) -> frozenset[str]:
    """The states of a process' threads as the kernel names them now: R, S, D, T, …"""
    found = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # it has just ended
                found.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
    return frozenset(found)


def _pidfd(pid: int) -> int | None:
    """A handle on a process, where the system has those and allows them."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


@cache
def can_seal() -> bool:
    """Whether the system lets this process seal outputs, so that nobody can fill them later."""
    try:
        with sealable_outputs(1) as [output]:
            _empty_for_good(output)
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # it has too little just now
    return True


@contextmanager
def sealable_outputs(count: int) -> Iterator[Sequence[int]]:
    """So many empty files in memory. Raises: OSError."""
    with contextlib.ExitStack() as opened:
        outputs = []
        for _ in range(count):
            output = os.memfd_create("group-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            opened.callback(os.close, output)
            outputs.append(output)
        yield outputs


def _empty_for_good(output: int) -> None:
    """Empty an output of which a child may have kept its descriptor, and let it stay so.

    Nobody would count what it wrote there: memory of a file is no process'.
    """
    os.ftruncate(output, 0)
    fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)


def read_places(output: int, places: Sequence[tuple[int, int]]) -> Sequence[bytes]:
    """Return the bytes at these places (start, length) of an output.

    A copy, one of each place: the child may keep its descriptor, and what is checked must not change any
    more. It may be shorter where there is not so much.
    """
    contents = {(start, count): os.pread(output, count, start) for start, count in {*places}}
    return [contents[place] for place in places]


def output_file() -> int:
    """A file in memory for a child's variants, also where a system call filter refuses the usual way."""
    try:
        return os.memfd_create("decoder-output", os.MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
    with tempfile.TemporaryFile(dir=_SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None) as file:
        return os.dup(file.fileno())
