"""What an answer of S3 means: the one place where errors of its client become this layer's."""

import re
from collections.abc import Callable, Mapping
from html import unescape

from obstore.exceptions import (
    AlreadyExistsError,
    GenericError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from storage.errors import BlobForbidden, BlobsAway, BlobsUnavailable, BlobsUnfit, StorageFull

REFUSED = (PermissionDeniedError, UnauthenticatedError)
"""What the client raises for 403 and 401: of one object, or of everything."""

_BY_STATUS: Mapping[int, Callable[[str], Exception]] = {
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: AlreadyExistsError,
    412: PreconditionError,
}
_NO_ROOM = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507"})
_STATUS = re.compile(r"status code: (\d{3})( [A-Za-z ]+)?")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_MESSAGE = re.compile(r"<Message>([^<]{1,300})</Message>")
_REGION = "AWS_REGION must be the region of the bucket"
_AT = re.compile(r"Error performing [A-Z]+ (https?://[^/\s]+)(\S*)")
_METADATA = re.compile(r"/latest/(api/token|meta-data)")
_NOBODY_GIVES = (
    "there are no credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and this host has no "
    "role (its metadata service says: {reason})"
)
_NO_PLACE = re.compile("BareRedirect")  # of a wrong region
_WRONG_KEYS = {
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is not that of this AWS_ACCESS_KEY_ID",
    "InvalidAccessKeyId": "Correct AWS_ACCESS_KEY_ID",
}
# What the client's text of an error holds where no S3 has answered, and what it means.
_SPEAKS_TLS = re.compile(r"to (an )?HTTPS (server|port)")  # Go's servers, nginx
_WRONG = {
    "InvalidContentType": "{at} does not speak TLS: is it http://?",
    "InvalidCertificate": "the certificate of {at} is not one that this host trusts",
    "Parse(": "what answers at {at} does not speak HTTP",
}
_AWAY = {
    "ConnectionRefused": "nobody listens at {at}",
    "dns error": "the host of {at} is not known",
    "timed out": "timed out: {at} did not answer",
    "TimedOut": "timed out: {at} did not answer",
    "Unreachable": "{at} cannot be reached",
}
# The text names each time how long it took, and how often it was tried.
_CAUSE = re.compile(r" - (?:HTTP error: )?([^:(<\n]+)")


def of_answer(status: int, body: str) -> Exception:
    """What the client would raise for that answer."""
    return _BY_STATUS.get(status, GenericError)(f"status code: {status}: {body}")


def of_connection(error: Exception) -> Exception:
    """What the client would raise where no answer came."""
    return GenericError(f"no answer - {str(error) or type(error).__name__}")


def reason_of(error: Exception) -> str:
    """What S3 answered, or who did not, in a few words that are the same at each try."""
    text = str(error)
    at, path = _asked(text)
    reason = _answer_in(text) or _meaning_in(text, at) or _cause_in(text, at)
    if _METADATA.search(path):
        return _NOBODY_GIVES.format(reason=reason)
    if at.endswith(".amazonaws.com") and (not _STATUS.search(text) or _code_of(error) in _WRONG_KEYS):
        return f"{reason.removesuffix('.')} (MEDIA_S3_ENDPOINT names no other server)"
    return f"{reason} ({_REGION})" if "region" in reason else reason


def _asked(text: str) -> tuple[str, str]:
    """Which server was asked, and the path that it was asked for."""
    found = _AT.search(text)
    return (found[1], found[2]) if found else ("the server", "")


def _meaning_in(text: str, at: str) -> str:
    signs = {**_WRONG, **_AWAY}
    return next((signs[sign] for sign in signs if sign in text), "").format(at=at)


def _answer_in(text: str) -> str:
    status, code = _STATUS.search(text), _CODE.search(text)
    if not status:
        return ""
    if _SPEAKS_TLS.search(text):
        return f"{_asked(text)[0]} speaks TLS: is it https://?"
    words = " ".join([status[1], code[1] if code else (status[2] or "").strip()]).strip()
    message = _MESSAGE.search(text) if words.startswith("4") else None  # of others the code says enough
    return f"{words}: {unescape(message[1])}" if message else words


def _cause_in(text: str, at: str) -> str:
    cause = _CAUSE.search(text)
    return f"{cause[1].strip()} ({at})" if cause else text.splitlines()[0][:200]


def is_away(error: Exception) -> bool:
    """Whether no S3 has answered, but one may that starts later: no setting is surely wrong."""
    text = str(error)
    at, path = _asked(text)
    if _METADATA.search(path) or _NO_PLACE.search(text):
        return False
    if status := _STATUS.search(text):
        return status[1].startswith("5")
    return at.startswith("http") and not any(sign in text for sign in _WRONG)


def names_missing_bucket(error: Exception) -> bool:
    """Whether an answer says that the bucket is not there. That to a HEAD has no text, and cannot."""
    return _code_of(error) == "NoSuchBucket"


def is_past_the_end(error: Exception) -> bool:
    """Whether an answer says that the object ends before the bytes that were asked for."""
    status = _STATUS.search(str(error))
    return status is not None and status[1] == "416"


def refused(subject: object, error: Exception, right: str) -> BlobsUnavailable:
    """The refusal that `error` is; `right` is what S3 asks of the key or role for such a request."""
    said = f"the storage refused {subject}: {reason_of(error)}"
    if advice := _WRONG_KEYS.get(_code_of(error)):
        return BlobsUnfit(f"{said.removesuffix('.')}. {advice}")
    return BlobForbidden(f"{said.removesuffix('.')}{lack}" if (lack := _lack(error, right)) else said)


def unavailable(subject: object, error: Exception, right: str) -> BlobsUnavailable:
    """The outage that `error` is."""
    reason = reason_of(error)
    if _NO_ROOM & set(re.split(r"[\s:]+", reason)):
        return StorageFull(f"no room left on the storage: {reason}")
    if is_away(error):
        return BlobsAway(f"the storage failed at {subject}: {reason}")
    return BlobsUnavailable(f"the storage failed at {subject}: {reason}{_lack(error, right)}")


def unfit(place: object, error: Exception) -> BlobsUnfit:
    """What is wrong with the settings of which the client could not be made."""
    return BlobsUnfit(f"{place} cannot be opened: {str(error).splitlines()[0]}. See the variables AWS_*")


def _code_of(error: Exception) -> str:
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _lack(error: Exception, right: str) -> str:
    """The right that is missing; not where a key or its signature is refused as such."""
    code = _code_of(error)
    is_lacking = code == "AccessDenied" if code else isinstance(error, REFUSED)
    return f". It takes the right {right}" if is_lacking else ""
