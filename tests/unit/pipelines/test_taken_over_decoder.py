"""What a decoder that a picture has taken over can do to its machine: nothing, with and without Landlock."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipelines.decoder import seccomp

ATTEMPTS = """
import ctypes, errno, json, mmap, os, resource, signal, socket, sys, threading
from pathlib import Path
from pipelines.decoder import landlock, limits, seccomp

folder, user, has_landlock = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "landlock"
victim, parent = folder + "/catalog.db", os.getppid()
libc = ctypes.CDLL(None, use_errno=True)

def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)

def number(x86_64, aarch64, *arguments):
    call("syscall", x86_64 if os.uname().machine == "x86_64" else aarch64, *arguments)

path, ten = victim.encode(), ctypes.byref(ctypes.create_string_buffer(1024))
attempts = {
    "open": lambda: os.close(os.open(victim, os.O_RDONLY)),
    "create": lambda: os.close(os.open(folder + "/new", os.O_CREAT | os.O_WRONLY)),
    "memory of the worker": lambda: os.close(os.open(f"/proc/{parent}/mem", os.O_RDWR)),
    "unlink": lambda: os.unlink(victim),
    "rename": lambda: os.rename(victim, victim + "2"),
    "mkdir": lambda: os.mkdir(folder + "/sub"),
    "symlink": lambda: os.symlink("/", folder + "/link"),
    "truncate": lambda: os.truncate(victim, 0),
    "chmod": lambda: os.chmod(victim, 0o666),
    "chown": lambda: os.chown(victim, os.getuid(), os.getgid()),
    "utime": lambda: os.utime(victim, (0, 0)),
    "setxattr": lambda: os.setxattr(victim, "user.a", b"b"),
    "stat": lambda: os.stat(victim),
    "access": lambda: call("access", path, 0),
    "chdir": lambda: os.chdir(folder),
    "chroot": lambda: os.chroot(folder),
    "inotify": lambda: call("inotify_init"),
    "fanotify": lambda: number(300, 262, 0, 0),
    "kill": lambda: os.kill(parent, 0),
    "tkill": lambda: number(200, 130, parent, 0),
    "tgkill": lambda: number(234, 131, parent, parent, 0),
    "sigqueue": lambda: number(129, 138, parent, 0, ten),
    "pidfd": lambda: number(434, 434, parent, 0),
    "ptrace": lambda: call("ptrace", 16, parent, None, None),
    "read its memory": lambda: number(310, 270, parent, ten, 0, ten, 0, 0),
    "write its memory": lambda: number(311, 271, parent, ten, 0, ten, 0, 0),
    "limits of the worker": lambda: call("prlimit", parent, resource.RLIMIT_NOFILE, ten, None),
    "own limits": lambda: call("setrlimit", resource.RLIMIT_CORE, ten),
    "priority of the worker": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
    "scheduler of the worker": lambda: os.sched_setscheduler(parent, os.SCHED_IDLE, os.sched_param(0)),
    "CPUs of the worker": lambda: os.sched_setaffinity(parent, {0}),
    "shared memory": lambda: call("shmget", 0, 4096, 0o1600),
    "message queue": lambda: call("msgget", 0, 0o1600),
    "semaphore": lambda: call("semget", 0, 1, 0o1600),
    "memory that is not counted": lambda: mmap.mmap(-1, 4096),
    "hidden memory": lambda: number(319, 279, b"x", 0),
    "secret memory": lambda: number(447, 447, 0),
    "life after its parent": lambda: call("prctl", 1, 0, 0, 0, 0),
    "dumps of itself": lambda: call("prctl", 4, 1, 0, 0, 0),
    "machine code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "other machine code": lambda: call("mprotect", ctypes.c_void_p(id(ten) & ~4095), 4096, 7),
    "socket": lambda: socket.socket(),
    "unix socket": lambda: socket.socket(socket.AF_UNIX),
    "socket pair": lambda: socket.socketpair(),
    "fork": lambda: os.fork() or os._exit(0),
    "program": lambda: os.execv("/bin/true", ["true"]),
    "io_uring": lambda: number(425, 425, 1, ten),
    "bpf": lambda: number(321, 280, 0, ten, 0),
    "userfaultfd": lambda: number(323, 282, 0),
    "perf": lambda: number(298, 241, ten, 0, -1, -1, 0),
    "keys": lambda: number(250, 219, 0, -3, 0),
    "mount": lambda: call("mount", b"a", path, b"tmpfs", 0, None),
    "new mounts": lambda: number(430, 430, b"tmpfs", 0),
    "namespaces": lambda: call("unshare", 0x10000000),
    "kernel log": lambda: call("klogctl", 10, None, 0),
    "clock": lambda: number(227, 112, 0, ten),
    "reboot": lambda: number(169, 142, 1, 2, 3, None),
    "swap": lambda: call("swapon", path, 0),
    "other user": lambda: os.setuid(0 if user else 1),
    "host name": lambda: call("sethostname", b"x", 1),
}
if os.getuid() == 0 and user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
    libc.prctl(4, 1, 0, 0, 0)  # as after the start of a program: its files in /proc are its own
output = os.memfd_create("output")
lacks = limits.give_up(None, output)[1]
capabilities = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Cap")]
if has_landlock:
    landlock.confine()
found = {"confined": seccomp.confine(), "lacks": lacks, "capabilities": capabilities}

def outcome_of(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"

def attempt_all():
    found["attempts"] = {name: outcome_of(attempt) for name, attempt in attempts.items()}

thread = threading.Thread(target=attempt_all)
thread.start()
thread.join()
print(json.dumps(found))
"""
SOMEBODY = 65_534
pytestmark = pytest.mark.skipif(not seccomp.is_there(), reason="there are no seccomp filters here")


@cache
def found(folder: Path, user: int, beside: str) -> Mapping[str, Any]:
    """What a process with the rights of a decoder is told when it tries to do harm."""
    command = [sys.executable, "-c", ATTEMPTS, str(folder), str(user), beside]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalog that everybody may write."""
    folder = tmp_path_factory.mktemp("var")
    folder.chmod(0o777)
    (folder / "catalog.db").write_bytes(b"rows")
    (folder / "catalog.db").chmod(0o666)
    return folder


AS_WHOM = [SOMEBODY, 0] if os.getuid() == 0 else [os.getuid()]


@pytest.mark.parametrize("beside", ["landlock", "seccomp alone"])
@pytest.mark.parametrize("user", AS_WHOM)
def test_a_decoder_that_was_taken_over_can_do_nothing_to_its_machine(
    folder: Path, user: int, beside: str
) -> None:
    outcomes = found(folder, user, beside)

    assert outcomes["confined"] is True
    assert outcomes["attempts"] == dict.fromkeys(outcomes["attempts"], "EPERM")
    assert (folder / "catalog.db").read_bytes() == b"rows"


@pytest.mark.parametrize("user", AS_WHOM)
def test_a_decoder_has_none_of_roots_capabilities(folder: Path, user: int) -> None:
    outcomes = found(folder, user, "landlock")

    held = [line for line in outcomes["capabilities"] if not line.startswith("CapBnd")]
    assert {int(line.split()[1], 16) for line in held} == {0}
    assert outcomes["lacks"] == []
