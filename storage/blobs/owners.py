"""What a storage's marker says of a copy, and what to do where it names another catalog."""

import shlex

from storage.errors import RootMismatch
from storage.keys import MARKER

_UNFINISHED = " (not copied whole yet: media copy-blobs)"
_MOVING = " (moves to "
_MOVED = " (moved to "
_BACKED_UP = " (a backup)"


def unfinished(catalog_id: str) -> str:
    """What the marker of a copy says until the copy is whole: no worker takes it for the storage."""
    return f"{catalog_id}{_UNFINISHED}"


def backed_up(catalog_id: str) -> str:
    """What the marker says where the originals of that catalog's storage are backed up."""
    return f"{catalog_id}{_BACKED_UP}"


def moving(catalog_id: str, url: str) -> str:
    """What the marker of the storage says while the last of it is copied to `url`: nobody works there."""
    return f"{catalog_id}{_MOVING}{url})"


def moved(catalog_id: str, url: str) -> str:
    """What the marker of the storage says that was copied to `url`: no worker goes on with it."""
    return f"{catalog_id}{_MOVED}{url})"


def tell_how_to_mark(catalog_id: str, place: str) -> str:
    """How a person gives the storage `place` to that catalog, in words or as a line for a shell."""
    marker = f'{{"catalog": "{catalog_id}", "version": 1}}'
    if place.startswith("s3://"):
        return f"write {place}/{MARKER}: {marker}"
    folder = place.removeprefix("file:").removeprefix("//")
    return f"echo '{marker}' > {shlex.quote(f'{folder}/{MARKER}')}"


def check_in_use(found: str, place: str) -> None:
    """Raises: RootMismatch where the marker at `place` says that it has moved, or is no whole copy."""
    if found.endswith(_UNFINISHED):
        raise RootMismatch(
            f"{place} is a copy that is not finished. Set MEDIA_STORAGE_URL to the storage that was copied. "
            f"To go on: media copy-blobs --to {place}, and with --finish once every worker is stopped."
        )
    if found.endswith(_BACKED_UP):
        raise RootMismatch(
            f"{place} is a backup: set MEDIA_STORAGE_URL to the storage. media restore brings back what that "
            "has lost."
        )
    if url := _url_behind(_MOVING, found):
        raise RootMismatch(
            f"{place} moves to {url}: wait for media copy-blobs --to {url} --finish to end. Where it was "
            "killed, run it again, or take it back with --cancel in the place of --finish."
        )
    if url := _url_behind(_MOVED, found):
        raise RootMismatch(f"{place} was moved to {url}: set MEDIA_STORAGE_URL to that.")


def _url_behind(word: str, found: str) -> str:
    return found.partition(word)[2].removesuffix(")")


def check_owner(found: str, catalog_id: str, place: str) -> None:
    """Raises: RootMismatch unless what the marker at `place` says is that catalog."""
    if found == catalog_id:
        return
    if found.startswith(f"{catalog_id} ("):
        check_in_use(found, place)
    raise RootMismatch(
        f"{place} belongs to the catalog {found}, but the catalog in use is {catalog_id}. Check "
        "MEDIA_STORAGE_URL and MEDIA_CATALOG_URL: one of them points to another installation. "
        "If this storage's catalog is lost, `media rebuild` makes a new one."
    )
