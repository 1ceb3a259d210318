"""Whether something lies under a path of the operator's: surely, surely not, or nobody can say."""

import os
from pathlib import Path

from storage.errors import CatalogUnavailable, user


def folder_of(url: str) -> Path:
    """The folder that a storage URL (`file:PATH`) names."""
    return Path(url.removeprefix("file:")).absolute()


def is_there(path: Path) -> bool:
    """Whether something lies there, through links. Raises: OSError where nobody can say.

    `Path.exists` distinguishes a folder that may not be entered from nothing only in some versions of Python.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def barrier(path: Path) -> str | None:
    """Who may not enter which folder on the way to `path`, in words; None where every one can be entered."""
    for folder in reversed(path.absolute().parents):
        try:
            os.stat(f"{folder}/.")
        except PermissionError:
            return f"the user {user()} may not enter {folder}"
        except OSError:
            return None
    return None


def has_catalog(path: Path) -> bool:
    """Whether a catalog's file lies there.

    Raises: CatalogUnavailable where nobody can say, or a link on the way leads nowhere.
    """
    try:
        if is_there(path):
            return True
    except OSError as error:
        reason = barrier(path) or error.strerror
        raise CatalogUnavailable(f"the catalog {path} cannot be reached: {reason}") from error
    if lost := _lost_link(path):
        raise CatalogUnavailable(
            f"the catalog {path} cannot be reached: {lost} is a link to {lost.readlink()}, "
            "which is not there. Is a disk not mounted?"
        )
    return False


def _lost_link(path: Path) -> Path | None:
    """A link on the way to `path` of which nothing can be made; a file can, where its folder is."""
    for link in (*reversed(path.absolute().parents), path.absolute()):
        if link.is_symlink() and not link.exists():
            return None if link == path.absolute() and link.resolve().parent.is_dir() else link
    return None
