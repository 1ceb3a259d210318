"""What a storage's marker says of a copy, and what to do where it names another catalog."""

from storage.errors import RootMismatch

_UNFINISHED = " (not copied whole yet: media copy-blobs)"
_MOVED = " (moved to "


def unfinished(catalog_id: str) -> str:
    """What the marker of a copy says until the copy is whole: no worker takes it for the storage."""
    return f"{catalog_id}{_UNFINISHED}"


def moved(catalog_id: str, url: str) -> str:
    """What the marker of the storage says that was copied to `url`: no worker goes on with it."""
    return f"{catalog_id}{_MOVED}{url})"


def check_owner(found: str, catalog_id: str, place: str) -> None:
    """Raises: RootMismatch unless what the marker at `place` says is that catalog."""
    if found == unfinished(catalog_id):
        raise RootMismatch(
            f"{place} is a copy that is not finished. Set MEDIA_STORAGE_URL to the storage that was copied. "
            f"To go on: media copy-blobs --to {place}, and with --finish once every worker is stopped."
        )
    if found.startswith(catalog_id + _MOVED):
        url = found.removeprefix(catalog_id + _MOVED).removesuffix(")")
        raise RootMismatch(f"{place} was moved to {url}: set MEDIA_STORAGE_URL to that.")
    if found != catalog_id:
        raise RootMismatch(
            f"{place} belongs to the catalog {found}, but the catalog in use is {catalog_id}. Check "
            "MEDIA_STORAGE_URL and MEDIA_CATALOG_URL: one of them points to another installation. "
            "If this storage's catalog is lost, `media rebuild` makes a new one."
        )
