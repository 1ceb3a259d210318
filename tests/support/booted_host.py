"""A Debian that systemd has booted, in namespaces of its own: what a unit does there, it does on a server.

The controllers of cgroups are the machine's: limits of memory and CPU are not in force there.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.clients import ROOT, find_uv

CLONE = "/clone"
_PACKAGES = "systemd,python3,ca-certificates,redis-server"
_RELEASE, _MIRROR = "trixie", "http://deb.debian.org/debian"
_LEFT_OUT = ("doc", "man", "info", "locale")
_CERTIFICATES = "/etc/ssl/certs"
_PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT_S = 120
# A cgroup of its own, whose namespace then hides the others.
_CGROUPS = "mkdir -p $0.cgroups && mount -t cgroup2 cgroup2 $0.cgroups"
_OUTER = f"""
{_CGROUPS}
mkdir -p $0.cgroups/$1 && echo $$ > $0.cgroups/$1/cgroup.procs && umount -l $0.cgroups
exec unshare --mount --pid --fork --kill-child --uts --ipc --net --cgroup sh -euc "$2" $0
"""
_INNER = """
mount --make-rprivate / && mount --bind $0 $0 && cd $0
mount -t proc proc proc && mount --bind proc/sys proc/sys && mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys && mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in run tmp dev; do mount -t tmpfs tmpfs $folder; done
for name in null zero full random urandom tty; do touch dev/$name && mount --bind /dev/$name dev/$name; done
ln -s pts/ptmx dev/ptmx && ln -s /proc/self/fd dev/fd && mkdir dev/shm dev/pts old
pivot_root . old && cd / && umount -l /old
exec env -i container=other PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --log-target=journal < /dev/null
"""


class BootedHost:
    """Commands run there as root, those of `prepare` before it is booted."""

    def __init__(self) -> None:
        if os.geteuid() != 0 or shutil.which("mmdebstrap") is None or shutil.which("nsenter") is None:
            pytest.skip("needs root and apt-get install --no-install-recommends mmdebstrap")
        self.folder = Path(tempfile.mkdtemp(prefix="media-booted-"))
        self.root = self.folder / "root"
        self._process: subprocess.Popen[bytes] | None = None
        self.root.mkdir()
        subprocess.run(["tar", "--extract", f"--file={_tar()}", f"--directory={self.root}"], check=True)
        (self.root / CLONE[1:]).mkdir()

    def prepare(self, script: str) -> None:
        """Run lines of a shell there, in a clone, with the network and the uv of this machine."""
        shutil.copy(find_uv() or "uv", self.root / "usr/local/bin/uv")
        mounts = [f"mount --bind {ROOT} {self.root}{CLONE}", f"mount -t proc proc {self.root}/proc"]
        mounts += [f"mount --bind {place} {self.root}{place}" for place in (_CERTIFICATES, "/dev")]
        mounts += [
            f"touch {self.root}/etc/resolv.conf",
            f"mount --bind /etc/resolv.conf {self.root}/etc/resolv.conf",
        ]
        inside = f"cd {CLONE}\n{script}"
        variables = [f"PATH={_PATH}", "HOME=/root", "UV_LINK_MODE=copy", "UV_NO_CACHE=1", "UV_SYSTEM_CERTS=1"]
        variables.append(f"SSL_CERT_FILE={_CERTIFICATES}/ca-certificates.crt")
        enter = ["chroot", str(self.root), "env", "-i", *variables, "sh", "-euc", inside]
        command = ["unshare", "--mount", "sh", "-euc", "\n".join([*mounts, 'exec "$@"']), "sh", *enter]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
        assert done.returncode == 0, done.stderr

    def boot(self) -> None:
        """Start systemd, and wait until everything has been started that it starts."""
        words = ["unshare", "--mount", "sh", "-euc", _OUTER, str(self.root), self.folder.name, _INNER]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        until = time.monotonic() + _TIMEOUT_S
        while not self.run("systemctl is-system-running --wait").stdout.strip():
            assert self._process.poll() is None, "it has ended"
            assert time.monotonic() < until
            time.sleep(0.1)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run lines of a shell where systemd runs."""
        assert self._process is not None
        first = self._first()
        enter = ["nsenter", f"--target={first}", "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup"]
        command = [*enter, "env", "-i", f"PATH={_PATH}", "sh", "-euc", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)

    def close(self) -> None:
        """End everything there, and remove it."""
        if self._process is not None:
            os.kill(self._first(), signal.SIGKILL)
            self._process.wait()
            if self._process.stderr:
                self._process.stderr.close()
        forget = f"{_CGROUPS} && find $0.cgroups/$1 -depth -type d -exec rmdir {{}} +; umount $0.cgroups"
        words = ["unshare", "--mount", "sh", "-euc", forget, str(self.root), self.folder.name]
        subprocess.run(words, check=True)
        shutil.rmtree(self.folder)

    def _first(self) -> int:
        """The systemd, as this machine numbers it: the only child of the last `unshare`."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        until = time.monotonic() + _TIMEOUT_S
        while not (found := children.read_text().split()):
            assert time.monotonic() < until
            time.sleep(0.01)
        return int(found[0])


def _tar() -> Path:
    """A Debian with systemd and Redis; it is downloaded once, and kept beside the other tools."""
    tar = ROOT / f".tools/booted-{_RELEASE}.tar"
    if not tar.exists():
        options = [f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in _LEFT_OUT]
        command = ["mmdebstrap", "--variant=minbase", "--mode=root", f"--include={_PACKAGES}", *options]
        partial = tar.with_suffix(".partial.tar")
        subprocess.run(
            [*command, _RELEASE, partial, f"deb {_MIRROR} {_RELEASE} main"], check=True, capture_output=True
        )
        partial.rename(tar)
    return tar
