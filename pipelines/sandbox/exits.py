"""Why a decoder ended or did not start: what that means for its picture, and what an operator can do."""

import errno
import re
import signal

from pydantic import ValidationError

from pipelines import cgroups
from pipelines.errors import (
    DecoderCrashed,
    DecoderFailed,
    DecoderKilled,
    DecoderStarved,
    DecoderUnavailable,
    PipelineError,
)
from pipelines.formats import MIB

START_TIMEOUT_S = 30
EXIT_TIMEOUT_S = 0.5  # between closing its socket and being dead
_TOO_CROWDED = "Raise the limit of processes and threads (TasksMax, pids.max, ulimit -u)."
_RESTART = "Was the program replaced or removed? Restart the worker, or install it again."
_ROOM = "Is there room for its threads (TasksMax, pids.max, ulimit -u) and its memory?"
_UNFILTER = "Let the filter refuse calls instead of killing: SystemCallErrorNumber=EPERM in a systemd unit."
_NO_CPU_LIMIT = "Give the worker no limit of CPU time (LimitCPU, ulimit -t): it works for as long as it runs."
_MORE_MEMORY = "Give it more memory, or let less run beside the worker."
_REMEDIES = {
    errno.EAGAIN: _TOO_CROWDED,
    errno.ENOENT: _RESTART,
    errno.EMFILE: "Raise the limit of open files (LimitNOFILE, ulimit -n).",
    errno.ENFILE: "Raise the machine's limit of open files (fs.file-max).",
    errno.ENOMEM: "The machine is out of memory: free some, or give it more.",
}
_MOVED = re.compile("No module named|cannot import name")
# Python ends with status 1 after an uncaught exception, and so does libjpeg's `error_exit` by default. Only
# Python writes a traceback, of which the end of standard error may hold no more than the last frames.
_UNCAUGHT = 1
_TRACEBACK = re.compile(r'^(Traceback \(most recent call last\):|\s*File "[^"]+", line \d+)', re.MULTILINE)
_OWN_FAULTS = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP}
)
"""The signals that a program brings on itself; every other is sent by somebody."""
_NO_THREAD, _NO_MEMORY = "rror creating thread", "failed to allocate"


def more_threads() -> str:
    """What lets threads start where none could: they want address space, and places among all of a user."""
    limit = cgroups.address_space()
    if limit is None:
        return _TOO_CROWDED
    return (
        f"Raise the limit of address space (LimitAS, ulimit -v), now {limit // MIB} MiB, or set none: "
        "threads reserve much that they never use. MEDIA_MEMORY_MB limits what is used."
    )


def not_started(
    error: OSError | TimeoutError | PipelineError | ValidationError, stderr: str
) -> DecoderUnavailable:
    """The error to raise for what prevented a decoder from starting, with a remedy where one is known."""
    match error:
        case ValidationError():
            reason, remedy = "it is of another version than this worker", _RESTART
        case TimeoutError():
            reason, remedy = f"it was not ready within {START_TIMEOUT_S} s", ""
        case OSError():
            return DecoderUnavailable(
                f"a decoder could not be started: {error}", _REMEDIES.get(error.errno or 0, "")
            )
        case DecoderKilled():
            reason, remedy = error.reason, error.remedy or "Find out who ends the worker's processes."
        case _ if _NO_THREAD in stderr:
            reason, remedy = "no thread can be started", more_threads()
        case _ if stderr:
            reason = stderr.splitlines()[-1]
            remedy = _RESTART if _MOVED.search(reason) else ""
        case _:
            reason, remedy = str(error), _ROOM
    return DecoderUnavailable(f"a decoder did not start: {reason}", remedy)


def meaning_of(status: int, stderr: str, oom_kills: int) -> PipelineError:
    """The error that an exit status of `subprocess` stands for; `oom_kills` is their number at the start."""
    match -status:
        case signal.SIGKILL:  # no decoder is killed by us while somebody waits for its answer
            return _killed(oom_kills)
        case signal.SIGSYS:
            return DecoderKilled("a system call filter killed the decoder (SIGSYS)", _UNFILTER)
        case signal.SIGXCPU:  # we set no limit of CPU time
            return DecoderKilled("a limit of CPU time ended the decoder (SIGXCPU)", _NO_CPU_LIMIT)
        case died if died > 0 and died not in _OWN_FAULTS:
            return DecoderKilled(f"somebody ended the decoder with {_name(died)}")
        case died if died > 0 and _NO_THREAD in stderr:  # glib ends the process then, as it does for memory
            return DecoderStarved(f"the decoder died for want of a thread. {more_threads()}")
        case died if died > 0 and _NO_MEMORY in stderr:
            return DecoderStarved(f"the decoder died for want of memory. {_MORE_MEMORY}")
        case died if died > 0:
            return DecoderCrashed(f"the decoder died of signal {died}")
    if status == _UNCAUGHT and _TRACEBACK.search(stderr):
        return DecoderFailed("an exception of its own ended the decoder")
    return DecoderCrashed(f"the decoder ended with status {status}")


def _killed(oom_kills: int) -> DecoderKilled:
    if cgroups.oom_kills() == oom_kills:
        return DecoderKilled("the decoder was killed, and not by the worker or for lack of memory")
    limit = cgroups.memory_limit()
    where = "the machine" if limit is None else f"the container of {limit // MIB} MiB"
    reason = f"the kernel killed the decoder, for {where} ran out of memory"
    return DecoderKilled(reason, _MORE_MEMORY, for_memory=True)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
