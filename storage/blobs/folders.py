"""Keys of the files in open folders, in order: what a listing is made of."""

import os
import re
from collections.abc import Callable, Iterator, Sequence

from storage import keys

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLAIN = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{,254}")  # surely a segment; others are checked one by one


def walk(folder: int, path: str, after: str, on_misnamed: Callable[[str], object]) -> Iterator[Sequence[str]]:
    """The keys after `after` of all files below `folder`, whose key is `path`; links are never followed.

    Each list is of one folder. `on_misnamed` gets the path of each file and folder that no key can name.
    """
    here = f"{path}/"
    is_area = path in keys.AREAS
    if not after.startswith(here):
        after = ""  # the folder as a whole comes after it
    found: list[str] = []
    names, misnamed = _names(folder, keys.MAX_BYTES - len(here.encode()))
    for name in names:
        key = here + name
        if is_area and keys.is_hidden(name.rstrip("/")):
            continue
        if after and key <= after and not (name[-1] == "/" and after.startswith(key)):
            continue
        if name in misnamed:
            on_misnamed(key)
        elif name[-1] != "/":
            found.append(key)
        else:
            if found:
                yield found
                found = []
            try:
                deeper = os.open(name[:-1], DIRECTORY, dir_fd=folder)
            except FileNotFoundError:
                continue
            try:
                yield from walk(deeper, key[:-1], after, on_misnamed)
            finally:
                os.close(deeper)
    if found:
        yield found


def folder_names(folder: int, start: str) -> Sequence[str]:
    """The names of the folders in `folder` that begin with `start`, as far as a key can name them."""
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.name.startswith(start) and _is_segment(entry.name)]
        return [one.name for one in found if one.is_dir(follow_symlinks=False)]


def _names(folder: int, most: int) -> tuple[Sequence[str], set[str]]:
    """The regular files and the folders in `folder`, these with a slash at the end, in the order of keys.

    Texts are in the order of their code points, which is that of their UTF-8 bytes. The set has those that
    no key can name, for the name or because it has more than `most` bytes; they have no slash.
    """
    found: list[str] = []
    misnamed: set[str] = set()
    with os.scandir(folder) as entries:
        for entry in entries:
            name, is_file = entry.name, entry.is_file(follow_symlinks=False)
            if not is_file and not entry.is_dir(follow_symlinks=False):
                continue
            if not _is_segment(name) or len(name.encode()) > most:
                misnamed.add(name)
            else:
                found.append(name if is_file else f"{name}/")
    return sorted([*found, *misnamed]), misnamed


def _is_segment(name: str) -> bool:
    return bool(_PLAIN.fullmatch(name)) or keys.is_segment(name)
