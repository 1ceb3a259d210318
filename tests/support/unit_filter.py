"""Runs a program as far as its systemd unit confines it without systemd: system calls, memory, capabilities.

python3 unit_filter.py UNIT PROGRAM…; systemd-analyze names the calls of each group, and libseccomp, which
systemd uses too, loads the filter.
"""

import ctypes
import errno
import os
import subprocess
import sys

_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000  # seccomp.h: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO
_PR_SET_MDWE, _PR_SET_NO_NEW_PRIVS = 65, 38  # linux/prctl.h
# systemd.exec(5): these are allowed whatever a unit says, as is what asks for the time and sleeps.
_ALWAYS = (
    "@default execve exit exit_group getrlimit rt_sigreturn sigreturn clock_gettime clock_nanosleep "
    "gettimeofday nanosleep time"
)


def settings_of(unit: str) -> list[tuple[str, str]]:
    """The settings of a unit, in their order."""
    with open(unit, encoding="utf-8") as lines:
        pairs = [line.strip().partition("=") for line in lines if not line.startswith("#")]
    return [(name, value) for name, equals, value in pairs if equals]


def allowed_by(unit: str) -> set[str]:
    """The system calls that a unit allows: each line adds to those above it, or takes away."""
    groups = _groups()
    allowed = _calls(_ALWAYS.split(), groups)
    for line in [value for name, value in settings_of(unit) if name == "SystemCallFilter"]:
        named = _calls(line.removeprefix("~").split(), groups)
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


def _groups() -> dict[str, list[str]]:
    listed = subprocess.check_output(
        ["systemd-analyze", "--no-pager", "syscall-filter"], stderr=subprocess.DEVNULL, text=True
    )
    groups: dict[str, list[str]] = {}
    for line in listed.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), [])
        elif line.startswith("    ") and not line.strip().startswith("#"):
            members.append(line.strip())
        elif line.startswith("#"):
            members = []  # calls that are in no group
    return groups


def _calls(names: list[str], groups: dict[str, list[str]]) -> set[str]:
    calls: set[str] = set()
    for name in names:
        calls |= _calls(groups[name], groups) if name.startswith("@") else {name}
    return calls


def confine(unit: str) -> None:
    """Confine this process, and all that it becomes, as the unit says."""
    given = dict(settings_of(unit))
    refused = getattr(errno, given["SystemCallErrorNumber"])
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_REFUSE | refused)))
    for call in allowed_by(unit):
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # others are unknown here, or of another architecture
            seccomp.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if given["MemoryDenyWriteExecute"] == "yes":
        libc.prctl(_PR_SET_MDWE, ctypes.c_ulong(1), 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0)
    os.umask(int(given["UMask"], 8))
    if code := seccomp.seccomp_load(context):
        raise OSError(-code, "no filter can be loaded here")


if __name__ == "__main__":
    confine(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
