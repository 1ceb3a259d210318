"""Whom files of this program's own belong to, where root makes them in another user's place."""

import os
from contextlib import suppress
from pathlib import Path


def owner_of(folder: Path) -> os.stat_result | None:
    """The status of the folder, or of its parent, where it is still to be made; None: neither is there."""
    for place in (folder, folder.parent):
        with suppress(FileNotFoundError):
            return place.stat()
    return None


def give_to_owner_of(place: Path, *paths: Path) -> None:
    """Give what root has made to whom that place belongs: workers run as another user, and go on there."""
    if os.geteuid() != 0:
        return
    owner = place.stat()
    for path in paths:
        with suppress(OSError):  # some file systems have one owner for all
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
