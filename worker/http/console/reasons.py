"""Why an upload has failed, as far as a visitor may know it."""

from storage.catalog.records import Upload
from worker.documents import OUR_FAULT
from worker.http.console.visitors import Visitor


def reason(upload: Upload, visitor: Visitor) -> str:
    """What the last try ended with, in words; a demo's visitor hears nothing that may name a source."""
    if upload.error_code == "internal_error":
        return OUR_FAULT
    message = upload.error_message or ""
    return "" if visitor.is_demo and "/" in message else message


def traceback(upload: Upload, visitor: Visitor) -> str | None:
    """The traceback of a bug, for whoever runs the worker."""
    is_theirs = visitor.may_operate and visitor.sees_all
    return upload.error_message if upload.error_code == "internal_error" and is_theirs else None
