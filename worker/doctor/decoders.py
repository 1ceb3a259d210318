"""The decoders and their limits, as `media doctor` finds them."""

import asyncio
import platform
import resource
from collections.abc import Sequence
from itertools import groupby

from pipelines import cgroups
from pipelines.allowance import CHILD_MEMORY, PARENT_MEMORY, Confinement, Isolation
from pipelines.errors import DecoderUnavailable
from pipelines.formats import FORMATS, MIB
from pipelines.libraries import BundledLibrary, read_libraries
from pipelines.sandbox import more_threads, open_sandbox
from pipelines.sandbox.answers import Hello
from worker.amounts import counted
from worker.decoders import allowance
from worker.findings import Finding, inspect_memory
from worker.limits import CONTAINERS, OF_A_PROCESS, available_cpus
from worker.settings import Settings

_LEAST_ADDRESS_SPACE = 1024 * MIB  # with two decoders a worker reserves that, and uses a tenth of it
_ENOUGH_ADDRESS_SPACE = 2 * _LEAST_ADDRESS_SPACE
_TURBO = "simplejpeg"
_ENOUGH_FILES = 512  # a worker with two decoders has 40 open, and up to 200 with many small uploads


async def check_decoders(settings: Settings) -> Sequence[Finding]:
    """Whether decoders start, what confines them, and how large a picture they take."""
    try:
        allowed = allowance(settings)
        async with open_sandbox(allowed) as sandbox:
            hellos = [await sandbox.hello(engine) for engine in ("vips", "pillow")]
    except DecoderUnavailable as error:
        remedy = error.remedy or "Install the package again: a library is missing."
        return [Finding("Decoders", "error", error.reason, remedy)]
    accepted = [known for known in FORMATS if known.name in settings.formats]
    reach = ", ".join(
        f"{known.title} (to {known.reach(allowed.memory_alone, settings.max_pixels)})" for known in accepted
    )
    return [
        inspect_libraries(hellos, is_glibc=platform.libc_ver()[0] == "glibc"),
        inspect_confinement(hellos, settings.confinement),
        inspect_isolation(settings.isolation),
        *inspect_missing(hellos),
        *inspect_encoder(hellos),
        Finding("Formats", "ok", f"{reach}, at least"),
    ]


def inspect_libraries(hellos: Sequence[Hello], *, is_glibc: bool) -> Finding:
    """The libraries of all decoders and their versions, each once, and which one would spare time."""
    detail = ", ".join(dict.fromkeys(one for hello in hellos for one in hello.version.split(", ")))
    if is_glibc and _TURBO not in detail:
        detail += f"; no {_TURBO} (the extra turbo), which decodes plain JPEGs in less time"
    return Finding("Decoders", "ok", detail)


async def check_libraries() -> Sequence[Finding]:
    """Which C libraries read pictures here, by the package that brought them."""
    try:
        found = await asyncio.to_thread(read_libraries)
    except DecoderUnavailable as error:
        return [Finding("Libraries", "warning", error.reason, "Install the package again.")]
    return [
        Finding("Libraries", "ok", f"{package}: {', '.join(map(_told, some))}")
        for package, some in groupby(found, key=lambda one: one.package)
    ]


def _told(library: BundledLibrary) -> str:
    return f"{library.name} {library.version or '(version not told)'}"


def inspect_confinement(hellos: Sequence[Hello], asked: Confinement = "require") -> Finding:
    """What the decoders say of their confinement."""
    if asked == "off":
        detail = "MEDIA_CONFINEMENT is off: a decoder has all rights of the worker's user"
        return Finding("Confinement", "warning", detail, "Unset it, unless a debugger needs it.")
    version = min(hello.landlock for hello in hellos)
    second = f"Landlock {version}" if version else "no Landlock"
    if all(hello.calls_closed for hello in hellos):
        detail = (
            "a decoder can make no system call but those that decoding takes (seccomp), so it opens no file"
        )
        return Finding("Confinement", "ok", f"{detail}, no socket and no process; {second}")
    left = [leaves for since, leaves in _LEFT_BEFORE.items() if version < since]
    return Finding(
        "Confinement",
        "warning",
        f"no seccomp; {second}: a decoder can open sockets, start processes{''.join(left)}",
        "Use x86-64 or arm64, and a container that allows seccomp filters.",
    )


_LEFT_BEFORE = {
    1: ", open and change files",
    3: ", truncate files",
    4: ", speak TCP",
    6: ", signal other processes",
}
"""What a kernel before that version of Landlock leaves to a process, where nothing else takes it away."""

_LACKS = {
    "oom-score": "to be the first that the kernel kills for lack of memory (oom_score_adj)",
    "nice": "a lower priority (nice)",
    "core-limit": "to forbid core dumps",
    "files-limit": "a limit on open files",
    "file-size-limit": "a limit on the size of its files",
    "memory-limit": "a limit on memory, which only the worker then watches",
    "task-limit": "a limit on threads",
    "dumpable": "to hide its memory from other processes of its user",
    "capabilities": "to give up root's capabilities",
}


def inspect_isolation(isolation: Isolation) -> Finding:
    """Which pictures a decoder sees one after another."""
    if isolation == "off":
        detail = "MEDIA_ISOLATION is off: a decoder that a picture took over sees the pictures of all owners"
        return Finding("Isolation", "warning", detail, "Unset it, unless all who upload trust each other.")
    seen = "one picture" if isolation == "picture" else "the pictures of one owner (of events, else a folder)"
    return Finding("Isolation", "ok", f"a decoder sees {seen}")


def inspect_missing(hellos: Sequence[Hello]) -> Sequence[Finding]:
    """What the system did not let the decoders set, if there is such a thing."""
    lacks = {lack for hello in hellos for lack in hello.lacks} & _LACKS.keys()
    if not lacks:
        return []
    refused = ", ".join(words for name, words in _LACKS.items() if name in lacks)
    advice = "Allow @resources in SystemCallFilter=, and make /proc/self/oom_score_adj writable."
    return [Finding("Decoder limits", "warning", f"the system refuses a decoder {refused}", advice)]


def inspect_encoder(hellos: Sequence[Hello]) -> Sequence[Finding]:
    """That JPEG variants are not what their quality says, where libvips is another one than the bundled."""
    if not any("mozjpeg" in hello.lacks for hello in hellos):
        return []
    detail = 'libvips has no mozjpeg: JPEG variants take more bytes, and effort = "small" hardly helps'
    return [Finding("JPEG", "warning", detail, "Install pyvips-binary, whose libvips has it.")]


def check_limits(settings: Settings) -> Sequence[Finding]:
    """How many decoders there are, and why not more; and whether the memory budget is there."""
    detail = (
        f"{counted(settings.decoders, 'decoder')} for {counted(available_cpus(), 'CPU')}, "
        f"{settings.budget_mb} MiB for the process tree"
    )
    if settings.decoders < settings.cpus:
        detail += f"; more decoders need a larger {' and '.join(_too_small_for_another(settings))}"
    return [Finding("Limits", "ok", detail), *_inspect_process_limits(), inspect_memory(settings)]


def _inspect_process_limits() -> Sequence[Finding]:
    """Limits of a process that a worker would meet, and take for something else."""
    found = []
    space = cgroups.address_space()
    if space is not None and space < _ENOUGH_ADDRESS_SPACE:
        detail = f"a process may have {space // MIB} MiB of address space"
        is_enough = space >= _LEAST_ADDRESS_SPACE
        found.append(Finding("Process limits", "warning" if is_enough else "error", detail, more_threads()))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < _ENOUGH_FILES:
        advice = f"Raise the limit of open files to {_ENOUGH_FILES} (LimitNOFILE, ulimit -n)."
        found.append(Finding("Process limits", "warning", f"a process may have {files} files open", advice))
    return found


def _too_small_for_another(settings: Settings) -> Sequence[str]:
    """What leaves no room for one more decoder."""
    needed = PARENT_MEMORY + CHILD_MEMORY * (settings.decoders + 1)
    limit = settings.memory_limit
    larger = "container" if limit is None or limit.by == CONTAINERS else OF_A_PROCESS.removeprefix("the ")
    return [
        *([larger] if limit is not None and limit.mb * MIB < needed else []),
        *(["MEDIA_MEMORY_MB"] if settings.memory_mb * MIB < needed else []),
    ]
