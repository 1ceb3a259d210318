"""Which originals pages show: those that harm no browser, to whoever may have them."""

from pipelines.formats import BY_NAME
from storage.catalog.records import Upload
from worker.http.console.visitors import Visitor

HARMLESS = frozenset({"corrupt_image"})
"""The codes of originals whose sizes a decoder has read, and which it then refused by itself.

What failed before that may be anything, and what killed a decoder would be tried on the visitor's browser.
"""

OF_BROWSERS = ("jpeg", "png", "gif", "webp", "avif")
"""The formats that every browser shows."""

_REASONS = tuple(f"The {BY_NAME[name].title} picture " for name in OF_BROWSERS)
"""How a decoder's reason begins where it has found one of them."""


def is_safe(upload: Upload, visitor: Visitor) -> bool:
    """Whether the visitor may be shown the original, where it is of a format that browsers show."""
    return visitor.may_look_at_originals and upload.error_code in HARMLESS


def is_shown(upload: Upload, visitor: Visitor) -> bool:
    """Whether a page shows the original: it is safe, and was found to be of such a format."""
    return is_safe(upload, visitor) and (upload.error_message or "").startswith(_REASONS)
