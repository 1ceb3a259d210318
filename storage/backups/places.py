"""Where copies may be: apart from what they are of."""

from pathlib import Path

from storage.errors import CopyRefused
from storage.paths import folder_of


def check_apart(folder: Path, storage_url: str, catalog: Path | None) -> None:
    """Raises: CopyRefused where copies would lie inside the storage, or the folder is the catalog's file."""
    place = folder.resolve()
    if storage_url.startswith("file:") and place.is_relative_to(root := folder_of(storage_url).resolve()):
        raise CopyRefused(f"{folder} lies inside the storage {root}: choose a folder apart, on another disk")
    if catalog is not None and place == catalog.resolve():
        raise CopyRefused(f"{folder} is the catalog: choose a folder")
