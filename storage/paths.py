"""Whether something lies under a path of the operator's: surely, surely not, or nobody can say."""

import os
from pathlib import Path

from storage.errors import CatalogUnavailable, user


def is_there(path: Path) -> bool:
    """Whether something lies there, through links. Raises: OSError where nobody can say.

    `Path.exists` tells a folder that may not be entered from nothing in some versions of Python only.
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
    """Whether a catalog's file lies there. Raises: CatalogUnavailable where nobody can say."""
    try:
        return is_there(path)
    except OSError as error:
        reason = barrier(path) or error.strerror
        raise CatalogUnavailable(f"the catalog {path} cannot be reached: {reason}") from error
