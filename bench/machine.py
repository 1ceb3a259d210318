"""What a measurement must say of where it was made; no names of hosts or people."""

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path


def describe() -> Mapping[str, str]:
    """The machine and the versions of what ran on it."""
    return {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{_memory_gib():.0f} GiB",
        "kernel": platform.release().split("-")[0],
        "python": platform.python_version(),
        "pyvips": version("pyvips-binary"),
        "pillow": version("pillow"),
        "arq": version("arq"),
    }


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _memory_gib() -> float:
    found = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 / 1024 if found else 0.0
