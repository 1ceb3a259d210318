"""Control groups, versions 1 and 2, and ulimits: what they leave this process.

A quota or limit may stand at any level (a slice, a service, a pod, a container): the least of them counts.
"""

import re
import resource
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_UNLIMITED = 1 << 60  # version 1 says "no limit" with a number of pages that no machine has


@dataclass(frozen=True)
class _Mount:
    """A hierarchy of groups: where it is mounted, which group is at the top there, and what it controls."""

    place: Path
    top: str
    controllers: frozenset[str]
    version: int


def memory_limit(root: Path = Path("/")) -> int | None:
    """The bytes that all processes of these groups may have together, None where nothing limits them."""
    limits = []
    for version, folder in _groups("memory", root):
        names = ("memory.max", "memory.high") if version == 2 else ("memory.limit_in_bytes",)
        limits += [number for name in names for number in _numbers(folder / name)]
        # The kernel's own sum, which also knows of groups that a container cannot see.
        limits += _fields(folder / "memory.stat", "hierarchical_memory_limit")
    return min((limit for limit in limits if 0 < limit < _UNLIMITED), default=None)


def process_memory_limit() -> int | None:
    """The bytes that each process may have (ulimit, LimitAS=, LimitDATA=), None where nothing limits them."""
    limits = [resource.getrlimit(what)[0] for what in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)


def address_space() -> int | None:
    """The bytes of address space that each process may have (ulimit -v, LimitAS=); None: any."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The CPUs that all processes of these groups may use together, None where nothing limits them."""
    quotas = []
    for version, folder in _groups("cpu", root):
        if version == 2:
            numbers = _numbers(folder / "cpu.max")
        else:
            numbers = [*_numbers(folder / "cpu.cfs_quota_us"), *_numbers(folder / "cpu.cfs_period_us")]
        if len(numbers) == 2 and min(numbers) > 0:
            quotas.append(numbers[0] / numbers[1])
    return min(quotas, default=None)


def oom_kills(root: Path = Path("/")) -> int:
    """How many processes of this process' group the kernel has killed for lack of memory so far.

    Where there is no group, those of the whole machine.
    """
    for version, folder in _groups("memory", root):
        if found := _fields(folder / ("memory.events" if version == 2 else "memory.oom_control"), "oom_kill"):
            return found[0]
    return next(iter(_fields(root / "proc/vmstat", "oom_kill")), 0)


def _groups(controller: str, root: Path) -> Iterator[tuple[int, Path]]:
    """The folders of this process' groups for that controller, each before the one above it."""
    paths = dict(_memberships(root))
    for mount in _mounts(root):
        path = paths.get(controller if mount.version == 1 else "")
        if path is None or (mount.version == 1 and controller not in mount.controllers):
            continue
        inside = _inside(path, mount.top)
        for folder in (inside, *inside.parents):
            yield mount.version, mount.place / folder


def _inside(path: str, top: str) -> PurePosixPath:
    """The way from the top of a mount down to a group; the top itself where the group is out of sight."""
    group, above = PurePosixPath(path), PurePosixPath(top)
    if ".." in group.parts or not group.is_relative_to(above):
        return PurePosixPath()
    return group.relative_to(above)


def _memberships(root: Path) -> Iterator[tuple[str, str]]:
    """Each controller with this process' group for it; "" is version 2."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _lines(root / "proc/self/mountinfo"):
        words, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        top, place = words.split(" ")[3:5]
        controllers = frozenset(options.split(","))
        yield _Mount(root / place.lstrip("/"), top, controllers, 2 if kind == "cgroup2" else 1)


def _numbers(file: Path) -> Sequence[int]:
    """The whole numbers that stand in it; none where it is missing or says "max"."""
    words = " ".join(_lines(file)).split()
    return [int(word) for word in words] if all(re.fullmatch(r"-?\d+", word) for word in words) else []


def _fields(file: Path, name: str) -> Sequence[int]:
    pairs = [line.split() for line in _lines(file)]
    return [int(pair[1]) for pair in pairs if len(pair) == 2 and pair[0] == name]


def _lines(file: Path) -> Iterable[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
