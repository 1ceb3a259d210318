"""Confinement by seccomp: a list of the calls that decoding takes; the kernel refuses every other.

To find the list, decoders of both engines were traced over pictures of all formats in, and of all out.
"""

import ctypes
import errno
import os

_PR_SET_NO_NEW_PRIVS, _PR_GET_SECCOMP, _PR_SET_SECCOMP, _MODE_FILTER = (
    38,
    21,
    22,
    2,
)  # linux/prctl.h, …/seccomp.h
# linux/seccomp.h: SECCOMP_RET_ALLOW, and SECCOMP_RET_ERRNO with the errno in its low half.
_ALLOW, _REFUSE, _UNKNOWN = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
# linux/bpf_common.h: BPF_LD | BPF_W | BPF_ABS; BPF_JMP with BPF_JEQ, BPF_JGE or BPF_JSET; BPF_RET.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Offsets in struct seccomp_data; of arguments the low half, for both machines are little-endian.
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT, _THIRD_ARGUMENT_AT, _FOURTH_ARGUMENT_AT = 0, 4, 16, 32, 40
_CLONE_THREAD = 0x10000  # linux/sched.h
_PROT_EXEC = 4  # asm-generic/mman-common.h
_MAP_SHARED = 1  # linux/mman.h: memory that no limit of a process counts
_PR_SET_NAME = 15  # linux/prctl.h: libraries name their threads
_X32 = 0x40000000  # __X32_SYSCALL_BIT: the same calls under other numbers

# linux/audit.h: AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64; and the column of the table below.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
# Numbers on x86_64 (arch/x86/entry/syscalls/syscall_64.tbl) and on aarch64 (asm-generic/unistd.h), the most
# frequent first. None opens anything, names a path, or says anything to another process.
_CALLS = {
    "futex": (202, 98),
    "madvise": (28, 233),
    "munmap": (11, 215),
    "brk": (12, 214),
    "pwrite64": (18, 68),
    "preadv2": (327, 286),
    "recvmsg": (47, 212),
    "sendto": (44, 206),
    "close": (3, 57),
    "ftruncate": (77, 46),
    "rt_sigprocmask": (14, 135),
    "rseq": (334, 293),
    "set_robust_list": (273, 99),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "mremap": (25, 216),
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "preadv": (295, 69),
    "write": (1, 64),
    "writev": (20, 66),
    "lseek": (8, 62),
    "fstat": (5, 80),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "rt_sigaction": (13, 134),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "sched_yield": (24, 124),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "gettimeofday": (96, 169),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "mincore": (27, 232),
    "membarrier": (324, 283),
}
_MMAP, _MPROTECT = (9, 222), (10, 226)  # for data of its own: what is executable was there before
_CLONE, _CLONE3, _PRCTL = (56, 220), (435, 435), (157, 167)

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


def is_there() -> bool:
    """Whether the kernel has seccomp, and this module knows the numbers of the machine's calls."""
    return os.uname().machine in _ARCHITECTURES and _libc.prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0


def confine() -> bool:
    """Leave this thread and those it starts only the calls of a decoder; False where that cannot be."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return False
    instructions = _instructions(*_ARCHITECTURES[machine])
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0) != 0:
        return False
    return bool(_libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), ctypes.byref(program), 0, 0) == 0)


def _instructions(architecture: int, column: int) -> list[_Instruction]:
    calls = [numbers[column] for numbers in _CALLS.values()]
    needed = [
        (_CLONE[column], _FIRST_ARGUMENT_AT, _IF_ANY_BIT, _CLONE_THREAD),
        (_PRCTL[column], _FIRST_ARGUMENT_AT, _IF_EQUAL, _PR_SET_NAME),
    ]
    forbidden = {
        _MMAP[column]: [(_THIRD_ARGUMENT_AT, _PROT_EXEC), (_FOURTH_ARGUMENT_AT, _MAP_SHARED)],
        _MPROTECT[column]: [(_THIRD_ARGUMENT_AT, _PROT_EXEC)],
    }
    body = [_Instruction(_IF_EQUAL, 0, 1, _CLONE3[column]), _Instruction(_RETURN, 0, 0, _UNKNOWN)]
    for number, argument, test, value in needed:
        body += [
            _Instruction(_IF_EQUAL, 0, 4, number),
            _Instruction(_LOAD, 0, 0, argument),
            _Instruction(test, 0, 1, value),
            _Instruction(_RETURN, 0, 0, _ALLOW),
            _Instruction(_RETURN, 0, 0, _REFUSE),
        ]
    for number, bits in forbidden.items():
        body.append(_Instruction(_IF_EQUAL, 0, 3 * len(bits) + 1, number))
        for argument, bit in bits:
            body += [
                _Instruction(_LOAD, 0, 0, argument),
                _Instruction(_IF_ANY_BIT, 0, 1, bit),
                _Instruction(_RETURN, 0, 0, _REFUSE),
            ]
        body.append(_Instruction(_RETURN, 0, 0, _ALLOW))
    body.append(_Instruction(_RETURN, 0, 0, _REFUSE))
    to_the_end = len(calls) + len(body)
    return [
        _Instruction(_LOAD, 0, 0, _ARCHITECTURE_AT),
        _Instruction(_IF_EQUAL, 0, to_the_end + 1, architecture),
        _Instruction(_LOAD, 0, 0, _NUMBER_AT),
        _Instruction(_IF_AT_LEAST, to_the_end - 1, 0, _X32),
        *(_Instruction(_IF_EQUAL, to_the_end - 1 - at, 0, call) for at, call in enumerate(calls)),
        *body,
        _Instruction(_RETURN, 0, 0, _ALLOW),
    ]
