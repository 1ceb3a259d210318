"""Collects what Python and an environment need of a system: the root of an image that has nothing else.

python3 collect.py ROOT ENVIRONMENT
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

OWNER = 10001  # of /data, as in the other image
UNUSED = ("ensurepip", "idlelib", "pydoc_data", "test", "tests", "tkinter", "turtledemo")
PACKAGES = ("site-packages", "dist-packages")
UNUSED_MODULES = ("_dbm.", "_gdbm.", "_test", "_tkinter.", "_xxtest", "config-", "readline.", "turtle.")
FILES = ("/etc/ld.so.cache", "/etc/localtime", "/etc/nsswitch.conf", "/etc/ssl/certs/ca-certificates.crt")
ACCOUNTS = {
    "passwd": f"root:x:0:0:root:/:/sbin/nologin\nmedia:x:{OWNER}:{OWNER}::/nonexistent:/sbin/nologin\n",
    "group": f"root:x:0:\nmedia:x:{OWNER}:\n",
}


def main(root: Path, environment: Path) -> None:
    """Make `root`."""
    python = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib"))
    for folder in ("lib", "lib64"):  # on a merged /usr they are links, and the loader is found by them
        if Path("/", folder).is_symlink():
            root.mkdir(exist_ok=True)
            (root / folder).symlink_to(os.readlink(f"/{folder}"))
    shutil.copytree(standard, _below(root, standard), symlinks=True, ignore=_unused)
    subprocess.run([python, "-m", "compileall", "-q", _below(root, standard)], check=False)
    _copy(root, python)
    for link in _links_of(environment):
        if not _below(root, link).exists():
            _below(root, link).parent.mkdir(parents=True, exist_ok=True)
            _below(root, link).symlink_to(python)
    for library in sorted(_libraries([python, *_shared(_below(root, standard)), *_shared(environment)])):
        if not library.is_relative_to(environment):
            _copy(root, library)
    for file in map(Path, FILES):
        if file.exists():
            _copy(root, file)
    shutil.copytree("/usr/share/zoneinfo", root / "usr/share/zoneinfo", symlinks=True)
    for name, lines in ACCOUNTS.items():
        (root / "etc" / name).write_text(lines)
    (root / "tmp").mkdir(mode=0o777)
    (root / "tmp").chmod(0o1777)
    (root / "data").mkdir()
    os.chown(root / "data", OWNER, OWNER)


def _links_of(environment: Path) -> Iterator[Path]:
    """The paths outside of an environment that lead to its Python."""
    link = environment / "bin/python"
    while link.is_symlink():
        link = link.parent / os.readlink(link)
        if not link.is_relative_to(environment):
            yield Path(os.path.normpath(link))


def _shared(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.so*") if path.is_file()]


def _libraries(objects: list[Path]) -> set[Path]:
    """The libraries that these objects are linked with, and the loader."""
    listed = subprocess.run(["ldd", *objects], capture_output=True, text=True)
    words = (line.split() for line in listed.stdout.splitlines())
    return {Path(word) for line in words for word in line if word.startswith("/") and not word.endswith(":")}


def _below(root: Path, path: Path) -> Path:
    """Where a path lies in the image, all links among its folders followed."""
    return root / (path.parent.resolve() / path.name).relative_to("/")


def _copy(root: Path, path: Path) -> None:
    target = _below(root, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path, target)


def _unused(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in UNUSED + PACKAGES or name.startswith(UNUSED_MODULES)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
