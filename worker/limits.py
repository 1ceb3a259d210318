"""What the system sets for this process, and can do for it: CPUs, memory, confinement."""

import os
from dataclasses import dataclass

from pipelines import cgroups
from pipelines.allowance import Confinement
from pipelines.decoder import seccomp
from pipelines.formats import MIB

CONTAINERS = "the container's limit"
OF_A_PROCESS = "the limit of a process (LimitAS, LimitDATA, ulimit -v, -d)"


@dataclass(frozen=True)
class MemoryLimit:
    """MiB that the system allows at most, and what says so."""

    mb: int
    by: str


def memory_limit() -> MemoryLimit | None:
    """The least limit of memory that the system sets, None where it sets none."""
    limits = ((cgroups.memory_limit(), CONTAINERS), (cgroups.process_memory_limit(), OF_A_PROCESS))
    found = (MemoryLimit(limit // MIB, of) for limit, of in limits if limit is not None)
    return min(found, key=lambda limit: limit.mb, default=None)


def usual_confinement() -> Confinement:
    """Whether decoders have to be confined: where the kernel can do it at all."""
    return "require" if seccomp.is_there() else "try"


def available_cpus() -> int:
    """The CPUs that this process may use: the cgroups' quota or the affinity mask, whichever is less."""
    cpus = len(os.sched_getaffinity(0))
    quota = cgroups.cpu_quota()
    return cpus if quota is None else min(cpus, max(1, int(quota)))
