"""Confinement by seccomp: no new socket of any kind, no process, no program, no access to another process."""

import ctypes
import errno
import os

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2  # linux/prctl.h, linux/seccomp.h
# linux/seccomp.h: SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with the errno in its low half.
_ALLOW, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
# linux/bpf_common.h: BPF_LD | BPF_W | BPF_ABS; BPF_JMP with BPF_JEQ, BPF_JGE or BPF_JSET; BPF_RET.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Offsets in struct seccomp_data; of the argument the low half, for both machines are little-endian.
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE_THREAD = 0x10000  # linux/sched.h
_X32 = 0x40000000  # __X32_SYSCALL_BIT: the same calls under other numbers

# linux/audit.h: AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64; and the column of the table below.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# Numbers on x86_64 (arch/x86/entry/syscalls/syscall_64.tbl) and on aarch64 (asm-generic/unistd.h).
_CALLS = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "bind": (49, 200),
    "listen": (50, 201),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kill": (62, 129),
    "open_by_handle_at": (304, 265),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
}
_FORKS = ((57, 58), ())  # fork and vfork; on aarch64 there is only clone
_CLONE, _CLONE3 = (56, 220), (435, 435)

_libc = ctypes.CDLL(None, use_errno=True)


class _Instruction(ctypes.Structure):
    """`struct sock_filter` of linux/filter.h."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("yes", ctypes.c_uint8),
        ("no", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    """`struct sock_fprog` of linux/filter.h."""

    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def confine() -> bool:
    """Refuse this thread and those it starts the calls that a decoder never needs; False where it cannot."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return False
    architecture, column = _ARCHITECTURES[machine]
    refused = [*(numbers[column] for numbers in _CALLS.values()), *_FORKS[column]]
    instructions = _instructions(architecture, refused, _CLONE[column], _CLONE3[column])
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0) != 0:
        return False
    return bool(_libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program), 0, 0) == 0)


def _instructions(architecture: int, refused: list[int], clone: int, clone3: int) -> list[_Instruction]:
    calls = len(refused)
    return [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE_AT),
        _Instruction(_IF_EQUAL, 0, calls + 7, architecture),
        _Instruction(_LOAD, 0, 0, _NUMBER_AT),
        _Instruction(_IF_AT_LEAST, calls + 5, 0, _X32),
        # The flags of clone3 lie in memory, out of reach: the C library falls back to clone for a thread.
        _Instruction(_IF_EQUAL, calls + 5, 0, clone3),
        *(_Instruction(_IF_EQUAL, calls + 3 - at, 0, call) for at, call in enumerate(refused)),
        _Instruction(_IF_EQUAL, 0, 2, clone),
        _Instruction(_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        _Instruction(_IF_ANY_BIT, 0, 1, _CLONE_THREAD),
        _Instruction(_RETURN, 0, 0, _ALLOW),
        _Instruction(_RETURN, 0, 0, _REFUSE),
        _Instruction(_RETURN, 0, 0, _UNKNOWN),
    ]
