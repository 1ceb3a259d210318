"""Names in open folders, in the order of their keys: what a listing is made of."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from storage import keys
from storage.errors import KeyRefused

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{,254}")  # surely a segment; others are looked at one by one


@dataclass(frozen=True)
class Run:
    """Files that follow one another in the order of keys, by name, in one folder that is open meanwhile."""

    folder: int
    path: str
    names: Sequence[str]
    strange: frozenset[str] = frozenset()  # those of them that no key can have, folders too


def runs(folder: int, path: str, after: str) -> Iterator[Run]:
    """All files below `folder`, whose key is `path`, after the key `after`; links are never followed.

    A folder is open only until the next run is asked for.
    """
    here = f"{path}/"
    is_area = path in keys.AREAS
    if not after.startswith(here):
        after = ""  # the folder as a whole comes after it
    names: list[str] = []
    found, strange = _names(folder)
    for name in found:
        key = here + name
        if is_area and keys.is_hidden(name.rstrip("/")):
            continue
        if after and key <= after and not (name[-1] == "/" and after.startswith(key)):
            continue
        if name[-1] != "/":
            names.append(name)
            continue
        if names:
            yield Run(folder, path, names, strange)
            names = []
        try:
            deeper = os.open(name[:-1], DIRECTORY, dir_fd=folder)
        except FileNotFoundError:
            continue
        try:
            yield from runs(deeper, key[:-1], after)
        finally:
            os.close(deeper)
    if names:
        yield Run(folder, path, names, strange)


def _names(folder: int) -> tuple[Sequence[str], frozenset[str]]:
    """The regular files and the folders in `folder`, these with a slash at the end, in the order of keys.

    Texts are in the order of their code points, which is that of their UTF-8 bytes. What has a name that no
    key can have is told apart; it has no slash.
    """
    found: list[str] = []
    strange: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if _PLAIN.fullmatch(name) is None and not _is_name(name):
                if entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False):
                    strange.add(name)
                continue
            if entry.is_file(follow_symlinks=False):
                found.append(name)
            elif entry.is_dir(follow_symlinks=False):
                found.append(f"{name}/")
    return sorted([*found, *strange]), frozenset(strange)


def _is_name(name: str) -> bool:
    try:
        keys.segments(name)
    except KeyRefused:
        return False
    return True
