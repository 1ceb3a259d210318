"""What control groups leave a process: the least of what its own group and those above it are given."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pipelines import cgroups
from pipelines.formats import MIB
from tests.support.cgroups import NoCgroupsError, open_cgroup

V2 = "30 1 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw"
V1_CPU = "31 1 0:27 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "32 1 0:28 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
V1_PIDS = "33 1 0:29 {top} /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids"
HYBRID = "34 1 0:26 {top} /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw"
DISK = "29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def machine(
    root: Path, groups: str, mounts: tuple[str, ...], files: Mapping[str, str], top: str = "/"
) -> Path:
    """A machine whose process is in these groups, with these files below /sys/fs/cgroup."""
    own = root / "proc/self"
    own.mkdir(parents=True)
    (own / "cgroup").write_text(groups)
    (own / "mountinfo").write_text("\n".join([DISK, *(mount.format(top=top) for mount in mounts)]))
    for name, content in files.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return root


UNITS = "0::/x.slice/y.service\n"
UNITS_V1 = "5:cpu,cpuacct:/x.slice/y.service\n4:memory:/x.slice/y.service\n3:pids:/\n1:name=systemd:/\n"

CPUS = {
    "no groups": ("", (), {}, None),
    "version 2, nothing said": (UNITS, (V2,), {"x.slice/y.service/cpu.max": "max 100000"}, None),
    "version 2, the unit": (UNITS, (V2,), {"x.slice/y.service/cpu.max": "50000 100000"}, 0.5),
    "version 2, the slice above": (
        UNITS,
        (V2,),
        {"x.slice/y.service/cpu.max": "400000 100000", "x.slice/cpu.max": "150000 100000"},
        1.5,
    ),
    "version 2, a container's top": ("0::/\n", (V2,), {"cpu.max": "200000 100000"}, 2.0),
    "version 2, another group of the slice": (UNITS, (V2,), {"x.slice/z.service/cpu.max": "1 100000"}, None),
    "version 1, the unit": (
        UNITS_V1,
        (V1_CPU, V1_MEMORY),
        {
            "cpu,cpuacct/x.slice/y.service/cpu.cfs_quota_us": "50000",
            "cpu,cpuacct/x.slice/y.service/cpu.cfs_period_us": "100000",
        },
        0.5,
    ),
    "version 1, nothing said": (
        UNITS_V1,
        (V1_CPU,),
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        None,
    ),
    "both, and only version 1 controls": (
        UNITS_V1 + UNITS,
        (V1_CPU, V1_MEMORY, HYBRID),
        {
            "cpu,cpuacct/x.slice/cpu.cfs_quota_us": "70000",
            "cpu,cpuacct/x.slice/cpu.cfs_period_us": "100000",
            "unified/x.slice/y.service/cgroup.procs": "1",
        },
        0.7,
    ),
    "a file that is empty": (UNITS, (V2,), {"x.slice/y.service/cpu.max": ""}, None),
    "a file of something else": (UNITS, (V2,), {"x.slice/y.service/cpu.max": "what 100000"}, None),
}


@pytest.mark.parametrize("name", CPUS)
def test_the_quota_is_the_least_of_all_groups_from_the_own_one_up(name: str, tmp_path: Path) -> None:
    groups, mounts, files, expected = CPUS[name]

    assert cgroups.cpu_quota(machine(tmp_path, groups, mounts, files)) == expected


MEMORY = {
    "no groups": ("", (), {}, None),
    "version 2, nothing said": (UNITS, (V2,), {"x.slice/y.service/memory.max": "max"}, None),
    "version 2, the unit": (UNITS, (V2,), {"x.slice/y.service/memory.max": str(256 * MIB)}, 256 * MIB),
    "version 2, throttled before it is killed": (
        UNITS,
        (V2,),
        {"x.slice/y.service/memory.max": str(512 * MIB), "x.slice/y.service/memory.high": str(300 * MIB)},
        300 * MIB,
    ),
    "version 2, the slice above": (
        UNITS,
        (V2,),
        {"x.slice/y.service/memory.max": "max", "x.slice/memory.max": str(128 * MIB)},
        128 * MIB,
    ),
    "version 1, nothing said": (
        UNITS_V1,
        (V1_MEMORY,),
        {"memory/x.slice/y.service/memory.limit_in_bytes": "9223372036854771712"},
        None,
    ),
    "version 1, the slice above": (
        UNITS_V1,
        (V1_MEMORY,),
        {
            "memory/x.slice/y.service/memory.limit_in_bytes": "9223372036854771712",
            "memory/x.slice/memory.limit_in_bytes": str(200 * MIB),
        },
        200 * MIB,
    ),
    "version 1, a group that cannot be seen": (
        UNITS_V1,
        (V1_MEMORY,),
        {"memory/x.slice/y.service/memory.stat": f"cache 7\nhierarchical_memory_limit {99 * MIB}\n"},
        99 * MIB,
    ),
}


@pytest.mark.parametrize("name", MEMORY)
def test_the_memory_is_the_least_of_all_groups_from_the_own_one_up(name: str, tmp_path: Path) -> None:
    groups, mounts, files, expected = MEMORY[name]

    assert cgroups.memory_limit(machine(tmp_path, groups, mounts, files)) == expected


@pytest.mark.parametrize(
    ("group", "top"),
    [
        ("/docker/abc", "/docker/abc"),  # the container sees its own group as the mount's top
        ("/", "/"),  # a namespace of groups
        ("/../../elsewhere", "/"),  # a process that was moved out of its namespace
        ("/docker/abc", "/docker/other"),
    ],
)
def test_a_container_reads_the_group_at_the_top_of_its_mount(group: str, top: str, tmp_path: Path) -> None:
    files = {"memory.max": str(256 * MIB), "cpu.max": "50000 100000"}
    inside = machine(tmp_path, f"0::{group}\n", (V2,), files, top)

    assert (cgroups.memory_limit(inside), cgroups.cpu_quota(inside)) == (256 * MIB, 0.5)


@pytest.mark.parametrize(
    ("groups", "mount", "files"),
    [
        (UNITS, V2, {"x.slice/y.service/memory.events": "low 0\noom 9\noom_kill 7\n"}),
        (UNITS_V1, V1_MEMORY, {"memory/x.slice/y.service/memory.oom_control": "under_oom 0\noom_kill 7\n"}),
        ("", DISK, {"../../../proc/vmstat": "oom_kill 7\npgfault 1\n"}),
    ],
)
def test_what_the_kernel_killed_for_memory_is_counted(
    groups: str, mount: str, files: Mapping[str, str], tmp_path: Path
) -> None:
    assert cgroups.oom_kills(machine(tmp_path, groups, (mount,), files)) == 7


def test_what_this_machine_says_of_a_cgroup_is_what_the_cgroup_was_given() -> None:
    import subprocess
    import sys

    look = "from pipelines import cgroups; print(cgroups.memory_limit(), cgroups.cpu_quota())"
    try:
        with open_cgroup(256, 0.5) as cgroup:
            command = cgroup.inside([sys.executable, "-c", look])
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except NoCgroupsError as error:
        pytest.skip(str(error))

    assert said == [str(256 * MIB), "0.5"]
