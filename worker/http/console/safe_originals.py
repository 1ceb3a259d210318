"""Which originals pages show: those that harm no browser, to whoever may have them."""

from collections.abc import Mapping

from storage.catalog.records import Upload
from worker.http.console.visitors import Visitor

HARMLESS = frozenset({"corrupt_image"})
"""The codes of originals whose sizes a decoder has read, and which it then refused by itself.

What failed before that may be anything, and what killed a decoder would be tried on the visitor's browser.
"""

OF_BROWSERS: Mapping[str, tuple[str, ...]] = {
    "jpeg": (".jpg", ".jpeg"),
    "png": (".png",),
    "gif": (".gif",),
    "webp": (".webp",),
    "avif": (".avif",),
}
"""The formats that every browser shows, and how the names of such files end."""

_ENDINGS = tuple(ending for endings in OF_BROWSERS.values() for ending in endings)


def is_safe(upload: Upload, visitor: Visitor) -> bool:
    """Whether the visitor may be shown the original, where it is of a format that browsers show."""
    return visitor.may_look_at_originals and upload.error_code in HARMLESS


def is_shown(upload: Upload, visitor: Visitor) -> bool:
    """Whether a page shows the original: it is safe, and named like a picture that browsers show."""
    return is_safe(upload, visitor) and (upload.source or "").lower().endswith(_ENDINGS)
