"""Images of the worker, built by buildah and run by podman and crun, without a daemon and without a registry.

A Debian of the same release stands in for the base that the Dockerfile names.
"""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import ROOT

TOOLS = ("buildah", "podman", "crun", "mmdebstrap")
BASE = "localhost/python:3.13-slim"
_RELEASE, _MIRROR = "trixie", "http://deb.debian.org/debian"
_PACKAGES = "python3,python3-pip,ca-certificates,tzdata,netbase"
_LEFT_OUT = ("doc", "man", "info", "locale")  # as in the official image
_CERTIFICATES = "/etc/ssl/certs"  # the index of a machine may have an authority of its own
_TIMEOUT_S = 600
_BUD = (
    "--quiet",
    "--layers",
    "--isolation=chroot",
    "--pull-never",
    "--format=docker",
    f"--volume={_CERTIFICATES}:{_CERTIFICATES}:ro",
)
# crun wants the unified hierarchy alone, and this may be a machine with both.
_UNIFIED = 'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
# As compose.yaml and deploy/kubernetes have it.
_CONFINED = [
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp:size=16m",
]


class ImageStore:
    """Images and containers in a folder of their own."""

    def __init__(self) -> None:
        lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
        if lacking or os.geteuid() != 0:
            pytest.skip(f"needs root and apt-get install --no-install-recommends {' '.join(TOOLS)}")
        # Not below pytest's own folder, which nobody could remove while something is mounted there.
        self.folder = Path(tempfile.mkdtemp(prefix="media-images-"))
        self._places = [
            f"--root={self.folder}/images",
            f"--runroot={self.folder}/run",
            "--storage-driver=overlay",
        ]

    def close(self) -> None:
        """Remove everything; the driver leaves its folder mounted upon itself."""
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            below = [line.split()[1] for line in mounts if f" {self.folder}/" in line]
        for place in reversed(below):
            subprocess.run(["umount", "--lazy", place], check=True)
        shutil.rmtree(self.folder)

    def buildah(self, *words: str, cwd: Path = ROOT) -> str:
        """Run buildah, and return what it prints."""
        command = ["buildah", *self._places, *words]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT_S)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()

    def make_base(self) -> None:
        """A Debian with Python; it is downloaded once, and kept beside the other tools."""
        tar = ROOT / f".tools/base-{_RELEASE}.tar"
        if not tar.exists():
            options = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _LEFT_OUT]
            command = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={_PACKAGES}", *options]
            partial = tar.with_suffix(".partial.tar")
            source = f"deb {_MIRROR} {_RELEASE} main"
            subprocess.run([*command, _RELEASE, partial, source], check=True, capture_output=True)
            partial.rename(tar)
        container = self.buildah("from", "scratch")
        self.buildah("add", "--quiet", container, str(tar), "/")
        root = self.buildah("mount", container)  # like the official one it has no bytecode
        subprocess.run(["find", root, "-name", "*.pyc", "-delete"], check=True)
        file = f"{_CERTIFICATES}/ca-certificates.crt"
        variables = {"PIP_BREAK_SYSTEM_PACKAGES": "1", "SSL_CERT_FILE": file, "PIP_CERT": file}
        self.buildah("config", *(f"--env={name}={value}" for name, value in variables.items()), container)
        self.buildah("commit", "--quiet", "--rm", container, BASE)

    def build(self, target: str, context: Path = ROOT, **arguments: str) -> str:
        """Build a target of the Dockerfile; returns the image's name."""
        given = [f"--build-arg={name}={value}" for name, value in {"BASE": BASE, **arguments}.items()]
        name = f"localhost/media-worker-{target}"
        self.buildah("bud", *_BUD, *given, f"--target={target}", f"--tag={name}", ".", cwd=context)
        return name

    @property
    def bud(self) -> str:
        """The words before those that `docker build` takes as well."""
        return shlex.join(["buildah", *self._places, "bud", *_BUD])

    def inspect(self, image: str) -> Any:
        """What is known of an image."""
        listed = subprocess.check_output(["podman", *self._places, "image", "inspect", image])
        [document] = json.loads(listed)
        return document

    def command(self, image: str, words: Sequence[str], volume: Path, env: dict[str, str]) -> list[str]:
        """What runs a program of an image with no more rights than compose and Kubernetes give it."""
        podman = ["podman", *self._places, "--cgroup-manager=cgroupfs", "--runtime=crun", "run", "--rm"]
        host = ["--cgroups=disabled", "--network=host", "--pull=never", "--no-healthcheck"]
        limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]  # below those of this machine
        variables = [f"--env={name}={value}" for name, value in env.items()]
        run = [*podman, *host, *limits, *_CONFINED, *variables, f"--volume={volume}:/data", image, *words]
        return ["unshare", "--mount", "sh", "-c", _UNIFIED, "sh", *run]

    def run(self, image: str, *words: str, volume: Path, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program of an image to its end."""
        command = self.command(image, words, volume, env)
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)

    def start(self, image: str, volume: Path, **env: str) -> subprocess.Popen[str]:
        """Start the image's own command."""
        return subprocess.Popen(self.command(image, [], volume, env), stderr=subprocess.PIPE, text=True)
