"""How templates are rendered: what they may call, and how pictures and static files are shown in them."""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines.placeholders import Placeholder, picture_of
from storage.catalog.records import Original, StoredVariant, Upload
from storage.filenames import filename_in
from storage.totals import Large
from worker.http.console import wording
from worker.http.console.paths import ROOT, picture_path, with_query
from worker.http.console.safe_originals import is_shown
from worker.http.console.visitors import Visitor

STATIC = Path(__file__).parent / "static"
LEAST_SIDE = 120  # px of the longer side of what lists show


def source_name(upload: Upload, visitor: Visitor) -> str:
    """How an upload is called on a page: by its source, unless nobody is to see that."""
    if visitor.is_demo or upload.source is None:
        return f"upload {str(upload.id)[:8]}"
    return wording.visible(upload.source)


def file_name(upload: Upload, visitor: Visitor) -> str:
    """The last part of that name, where there is room for no more."""
    return source_name(upload, visitor).rpartition("/")[2]


def own_name(upload: Upload, visitor: Visitor) -> str:
    """What an app calls the file in its metadata; empty: nothing that this visitor is to see, or the same."""
    if visitor.is_demo:
        return ""
    name = wording.visible(filename_in(upload.metadata, "name") or "")
    return "" if name == file_name(upload, visitor) else name


def large_name(large: Large, visitor: Visitor) -> str:
    """The same of one of the largest."""
    return "" if visitor.is_demo else wording.visible(large.filename or "")


def placeholder(original: Original) -> str | None:
    """What is shown of a picture while it loads, as a `data:` URL, which is in the page; None: nothing is."""
    return picture_of(Placeholder(original.thumbhash, original.blurhash))


def small_variant(variants: Sequence[StoredVariant]) -> StoredVariant:
    """The least of them that is no mere icon, else the largest."""
    by_size = sorted(variants, key=lambda one: (max(one.width, one.height), one.bytes))
    return next((one for one in by_size if max(one.width, one.height) >= LEAST_SIDE), by_size[-1])


def fitted(variant: StoredVariant, width: int, height: int) -> tuple[int, int]:
    """The size in px at which a variant is shown whole within that room, and never enlarged."""
    scale = min(1, width / max(1, variant.width), height / max(1, variant.height))
    return max(1, round(variant.width * scale)), max(1, round(variant.height * scale))


@cache
def static_version(name: str) -> str:
    """What changes with the content of a static file."""
    return sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def _static_path(name: str) -> str:
    return f"{ROOT}/static/{name}?v={static_version(name)}"


@cache
def template_environment() -> Environment:
    """The templates, with what all of them may call."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        name: getattr(wording, name)
        for name in (
            "visible",
            "visible_lines",
            "count",
            "size",
            "limit",
            "memory",
            "duration",
            "latency",
            "rate",
            "ago",
            "moment",
        )
    }
    environment.globals |= {
        "static": _static_path,
        "with_query": with_query,
        "source_name": source_name,
        "file_name": file_name,
        "own_name": own_name,
        "large_name": large_name,
        "placeholder": placeholder,
        "small_variant": small_variant,
        "fitted": fitted,
        "picture_path": picture_path,
        "shows_original": is_shown,
        "words_of": wording.words_of,
        "root": ROOT,
    }
    return environment
