"""What an answer of S3 means: the one place where errors of its client become this layer's."""

import re

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from storage.errors import BlobsUnavailable, StorageFull

REFUSED = (PermissionDeniedError, UnauthenticatedError)
"""What the client raises for 403 and 401: of one object, or of everything."""

_NO_ROOM = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507"})
_STATUS = re.compile(r"status code: (\d{3})( [A-Za-z ]+)?")
_CODE = re.compile(r"<Code>(\w+)</Code>")
# The text names each time how long it took, and how often it was tried.
_CAUSE = re.compile(r" - (?:HTTP error: )?([^:(<\n]+)")


def reason_of(error: Exception) -> str:
    """What S3 answered, in a few words that are the same at each try."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    if status:
        return " ".join([status[1], code[1] if code else (status[2] or "").strip()]).strip()
    cause = "timed out" if "timed out" in text.lower() else _CAUSE.search(text)
    return cause if isinstance(cause, str) else cause[1].strip() if cause else text.splitlines()[0][:200]


def names_missing_bucket(error: Exception) -> bool:
    """Whether an answer says that the bucket is not there. That to a HEAD has no text, and cannot."""
    found = _CODE.search(str(error))
    return found is not None and found[1] == "NoSuchBucket"


def unavailable(subject: object, error: Exception) -> BlobsUnavailable:
    """The outage that `error` is."""
    reason = reason_of(error)
    if _NO_ROOM & set(reason.split()):
        return StorageFull(f"no room left on the storage: {reason}")
    if isinstance(error, REFUSED):
        return BlobsUnavailable(f"the storage refused {subject}: {reason}")
    return BlobsUnavailable(f"the storage failed at {subject}: {reason}")
