"""Why an upload has failed, as far as a visitor may know it, and whether another try may help."""

from storage.catalog.records import Upload
from worker.documents import OUR_FAULT
from worker.http.console.visitors import Visitor
from worker.retry import blame_of

_OF_FILES = frozenset({"source_too_large", "unsupported_format", "corrupt_image"})
_OF_LIMITS = frozenset({"too_many_pixels", "too_much_memory", "decode_timeout", "decoder_crashed"})


def reason(upload: Upload, visitor: Visitor) -> str:
    """What the last try ended with, in words; a demo's visitor hears nothing that may name source or host."""
    code, message = upload.error_code, upload.error_message or ""
    if code == "internal_error":
        return OUR_FAULT
    is_of_us = code is not None and blame_of(code) == "us"
    return "" if visitor.is_demo and (is_of_us or "/" in message) else message


def traceback(upload: Upload, visitor: Visitor) -> str | None:
    """The traceback of a bug, for whoever runs the worker."""
    is_theirs = visitor.may_operate and visitor.sees_all
    return upload.error_message if upload.error_code == "internal_error" and is_theirs else None


def retry_hint(upload: Upload) -> str:
    """What has to be done before another try of a failed upload can help; empty: perhaps nothing."""
    if upload.error_code == "source_missing":
        return "A retry helps only once the original is there."
    if upload.error_code in _OF_FILES:
        return "A retry helps only once the original was replaced, or the settings accept it."
    if upload.error_code in _OF_LIMITS:
        return "A retry helps only once the original was replaced, or workers have more room and time."
    return ""
