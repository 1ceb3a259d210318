"""Runs a program under a system call filter, as a hardened unit does.

python filtered.py ACTION CALL… -- PROGRAM…: ACTION is an errno's name, or `kill`.
"""

import ctypes
import errno
import os
import sys

from pipelines.decoder import seccomp

CALLS = {
    **seccomp._CALLS,
    "nice": (141, 140),  # the C library calls setpriority
    "setrlimit": (302, 261),  # and prlimit64, which also reads limits
    "landlock_create_ruleset": (444, 444),
    "landlock_restrict_self": (446, 446),
    "close_range": (436, 436),
    "memfd_create": (319, 279),
}
_KILL, _REFUSE = 0x80000000, 0x00050000


def refuse(action: str, names: list[str]) -> None:
    """Let the kernel refuse these calls to this process from now on."""
    _, column = seccomp._ARCHITECTURES[os.uname().machine]
    answer = _KILL if action == "kill" else _REFUSE | getattr(errno, action)
    numbers = [CALLS[name][column] for name in names]
    make = seccomp._Instruction
    instructions = [
        make(seccomp._LOAD, 0, 0, seccomp._NUMBER_AT),
        *(make(seccomp._IF_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)),
        make(seccomp._RETURN, 0, 0, seccomp._ALLOW),
        make(seccomp._RETURN, 0, 0, answer),
    ]
    program = seccomp._Program(len(instructions), (make * len(instructions))(*instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(seccomp._PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)
    if libc.prctl(seccomp._PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no filter can be installed here")


if __name__ == "__main__":
    separator = sys.argv.index("--")
    refuse(sys.argv[1], sys.argv[2:separator])
    os.execv(sys.argv[separator + 1], sys.argv[separator + 1 :])
