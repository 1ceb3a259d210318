"""A host that commands of the docs may change: this machine, with copies of its folders."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.clients import ROOT

CHANGED = ("/etc", "/var/lib", "/opt", "/srv", "/usr/local")
_TIMEOUT_S = 180  # to install packages takes minutes where all CPUs are busy


class SpareHost:
    """What root does there is seen by later commands there, and by nobody else."""

    def __init__(self, folder: Path, places: tuple[str, ...] = CHANGED) -> None:
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            pytest.skip("only root can have folders of its own where everybody has one")
        self.folder = folder
        self.mounts: list[str] = []
        for place in places:
            changed, work = (folder / kind / place.strip("/") for kind in ("changed", "work"))
            for made in (changed, work):
                made.mkdir(parents=True)
            options = f"lowerdir={place},upperdir={changed},workdir={work}"
            self.mounts.append(f"mount -t overlay spare -o {shlex.quote(options)} {place}")
        tried = self.run("true")
        if tried.returncode:
            pytest.skip(f"no folders can be mounted here: {tried.stderr.strip()}")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run lines of a shell in a clone, as root; one that fails is the last."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("MEDIA_")}
        return subprocess.run(
            ["unshare", "--mount", "sh", "-euc", "\n".join([*self.mounts, script])],
            cwd=ROOT,
            env={**ours, "PATH": f"{ours['PATH']}:/usr/sbin:/sbin"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
        )

    def changed(self, path: str) -> Path:
        """Where a file lies that a command there has written."""
        return self.folder / "changed" / path.lstrip("/")
