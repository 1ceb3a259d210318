"""Where copies may be: apart from what they are of."""

import os
from pathlib import Path

from storage.errors import CopyRefused
from storage.paths import folder_of


def check_apart(folder: Path, storage_url: str, catalog: Path | None) -> None:
    """Raises: CopyRefused where copies would lie inside the storage, or a file is in the folder's place."""
    place = folder.resolve()
    if storage_url.startswith("file:") and place.is_relative_to(root := folder_of(storage_url).resolve()):
        raise CopyRefused(f"{folder} lies inside the storage {root}: choose a folder apart, on another disk")
    if catalog is not None and place == catalog.resolve():
        raise CopyRefused(f"{folder} is the catalog: choose a folder")
    # Of what nobody may see, or is not there now, the one says more who tries to write.
    there = next((path for path in (place, *place.parents) if os.path.lexists(path)), None)
    if there is not None and os.path.exists(there) and not os.path.isdir(there):
        raise CopyRefused(f"{there} is a file: choose a folder")
