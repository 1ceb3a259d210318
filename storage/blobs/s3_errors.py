"""What an answer of S3 means: the one place where errors of its client become this layer's."""

import re
from html import unescape

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from storage.errors import BlobForbidden, BlobsUnavailable, StorageFull

REFUSED = (PermissionDeniedError, UnauthenticatedError)
"""What the client raises for 403 and 401: of one object, or of everything."""

_NO_ROOM = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507"})
_STATUS = re.compile(r"status code: (\d{3})( [A-Za-z ]+)?")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_REGION = "AWS_REGION must be the region of the bucket"
# The text names each time how long it took, and how often it was tried.
_CAUSE = re.compile(r" - (?:HTTP error: )?([^:(<\n]+)")


def reason_of(error: Exception) -> str:
    """What S3 answered, in a few words that are the same at each try."""
    text = str(error)
    reason = _answer_in(text) or _cause_in(text)
    return f"{reason} ({_REGION})" if "region" in reason else reason


def _answer_in(text: str) -> str:
    status, code = _STATUS.search(text), _CODE.search(text)
    if not status:
        return ""
    words = " ".join([status[1], code[1] if code else (status[2] or "").strip()]).strip()
    message = _MESSAGE.search(text) if words.startswith("4") else None  # of others the code says enough
    return f"{words}: {unescape(message[1])}" if message else words


def _cause_in(text: str) -> str:
    if "timed out" in text.lower():
        return "timed out"
    cause = _CAUSE.search(text)
    return cause[1].strip() if cause else text.splitlines()[0][:200]


def names_missing_bucket(error: Exception) -> bool:
    """Whether an answer says that the bucket is not there. That to a HEAD has no text, and cannot."""
    found = _CODE.search(str(error))
    return found is not None and found[1] == "NoSuchBucket"


def refused(subject: object, error: Exception, right: str) -> BlobForbidden:
    """The refusal that `error` is; `right` is what S3 asks of the key or role for such a request."""
    return BlobForbidden(f"the storage refused {subject}: {reason_of(error)}{_lack(error, right)}")


def unavailable(subject: object, error: Exception, right: str) -> BlobsUnavailable:
    """The outage that `error` is."""
    reason = reason_of(error)
    if _NO_ROOM & set(re.split(r"[\s:]+", reason)):
        return StorageFull(f"no room left on the storage: {reason}")
    return BlobsUnavailable(f"the storage failed at {subject}: {reason}{_lack(error, right)}")


def _lack(error: Exception, right: str) -> str:
    """The right that is missing; not where a key or its signature is refused as such."""
    code = _CODE.search(str(error))
    is_lacking = code[1] == "AccessDenied" if code else isinstance(error, REFUSED)
    return f". It takes the right {right}" if is_lacking else ""
