"""The budget: how many instructions a decode and an upload may take, counted by valgrind's cachegrind.

Times differ by a tenth within minutes on a machine that others use as well; instructions hardly differ. A
budget is that of one machine type and of the versions that do most of the work: others have none.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bench.contenders import BenchError
from bench.counter import between_counts

BUDGET = Path(__file__).parent / "budget.json"
MOST_FOR_METRICS = 0.01  # of the instructions of an upload, with those of its decode
_ROOT = Path(__file__).parent.parent
_LOCK = _ROOT / "uv.lock"
_TIMEOUT_S = 600
_TRIES = 3
_PACKAGES = ("pyvips-binary", "sqlalchemy")


@dataclass(frozen=True)
class Workload:
    """A program, how often it does its work: first, and then for each count; and what may be added."""

    program: Sequence[str]
    first: int
    count: int
    times: int
    tolerance: float


WORKLOADS: Mapping[str, Workload] = {
    "decode": Workload(["bench.decode_workload"], 1, 1, 1, 0.02),
    "upload": Workload(["bench.upload_workload"], 16, 16, 3, 0.03),
}
COUNTED = Workload(["bench.upload_workload", "--counted"], 16, 16, 3, 0.0)


@dataclass(frozen=True)
class Finding:
    """What a workload takes now and what it may take, in instructions; no budget: nobody has set one."""

    name: str
    instructions: int
    budget: int | None
    tolerance: float

    @property
    def change(self) -> float:
        """Relative to the budget: 0.02 is two percent more."""
        return 0.0 if self.budget is None else self.instructions / self.budget - 1

    @property
    def is_over(self) -> bool:
        return self.change > self.tolerance

    @property
    def is_kept(self) -> bool:
        """Whether there is a budget, and it holds."""
        return self.budget is not None and not self.is_over

    @property
    def is_under(self) -> bool:
        return self.change < -self.tolerance

    def __str__(self) -> str:
        taken = f"{self.name}: {self.instructions / 1e6:.2f} million instructions"
        if self.budget is None:
            return f"{taken}; nobody has set a budget for {_said(key())}: ARGS=--write does."
        verdict = "over the budget" if self.is_over else "as budgeted"
        if self.is_under:
            verdict = "less than budgeted: ARGS=--write keeps it so"
        return f"{taken}, {self.change:+.2%}, {verdict}"


def key() -> Mapping[str, str]:
    """What a budget holds for: the machine type, and the versions that do most of the work."""
    packages = {package: version(package) for package in _PACKAGES}
    return {
        "machine": platform.machine(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        **packages,
    }


def budget_for(budgets: Sequence[Mapping[str, object]], name: str) -> int | None:
    """The budget of a workload here, if there is one."""
    for entry in budgets:
        if entry["for"] == key():
            found = entry.get(name)
            return found if isinstance(found, int) else None
    return None


def is_due(budgets: Sequence[Mapping[str, Mapping[str, str]]]) -> bool:
    """Whether there must be a budget here: for this machine type and Python there is one, of other versions.

    Those that run are then the lock's: whoever has changed it has not set the budget anew.
    """
    here = key()
    known = {(entry["for"]["machine"], entry["for"]["python"]) for entry in budgets}
    return (here["machine"], here["python"]) in known and locked().items() <= here.items()


def locked() -> Mapping[str, str]:
    """The versions that the lock has of the packages that do most of the work."""
    packages = tomllib.loads(_LOCK.read_text("utf-8"))["package"]
    return {package["name"]: package["version"] for package in packages if package["name"] in _PACKAGES}


def check(names: Sequence[str] = tuple(WORKLOADS), file: Path = BUDGET) -> Sequence[Finding]:
    """Measure those workloads, beside each other, against the budgets in `file`. Raises: BenchError."""
    budgets = json.loads(file.read_text("utf-8"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda name: _find(name, budget_for(budgets, name)), names))


def _find(name: str, allowed: int | None) -> Finding:
    """The least of some tries, unless one keeps the budget: on a busy machine threads wake more often."""
    tries: list[int] = []
    while len(tries) < _TRIES:
        tries.append(instructions(WORKLOADS[name]))
        found = Finding(name, min(tries), allowed, WORKLOADS[name].tolerance)
        if found.is_kept:
            break
    return found


def write(findings: Sequence[Finding], file: Path = BUDGET) -> None:
    """Make what was found the budget for this machine and these versions."""
    budgets = [entry for entry in json.loads(file.read_text("utf-8")) if entry["for"] != key()]
    budgets.append({"for": key(), **{finding.name: finding.instructions for finding in findings}})
    budgets.sort(key=lambda entry: sorted(entry["for"].items()))
    file.write_text(json.dumps(budgets, indent=1) + "\n", "utf-8")


def instructions(workload: Workload) -> int:
    """The instructions of doing it once more, when it has been done some times. Raises: BenchError."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise BenchError("There is no valgrind here: apt-get install valgrind.")
    tool = [valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    module, *options = workload.program
    counts = [str(number) for number in (workload.first, workload.count, workload.times)]
    ended = subprocess.run(  # noqa: S603
        [*tool, sys.executable, "-m", module, *counts, *options],
        cwd=_ROOT,
        env={"PATH": os.defpath, "PYTHONHASHSEED": "0", "VIPS_CONCURRENCY": "1", "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        timeout=_TIMEOUT_S,
    )
    try:
        if ended.returncode == 0:
            return between_counts(ended.stderr) // workload.count
    except ValueError:
        pass
    raise BenchError(f"{module} failed under valgrind: {ended.stderr.decode(errors='replace')[-2000:]}")


def _said(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items())
