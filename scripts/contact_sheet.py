"""The contact sheet: one page that shows what became of each picture, and needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from rich.filesize import decimal

from pipelines.placeholders import picture_of
from scripts.enqueue import Sent
from scripts.terminal import visible

STYLE = Path(__file__).with_suffix(".css").read_text("utf-8")
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; form-action 'none'"
)
MEDIA_TYPES = {".jpg": "image/jpeg", ".webp": "image/webp", ".avif": "image/avif"}
# A thumbnail of 150 px has 2 to 15 kB. A recipe whose smallest variant is large must not fill the page.
MAX_EMBEDDED_BYTES = 256 * 1024
LONGEST_SIDE = 150  # px of what is shown of a picture: a larger one does not fit
MAX_MESSAGE = 500

VariantDocument = Mapping[str, Any]
"""A variant as a message describes it."""


@dataclass(frozen=True)
class _Files:
    """The stored variants, as seen from the folder of the page."""

    root: Path
    folder: Path

    def link(self, variant: VariantDocument) -> str:
        relative = os.path.relpath(self.root / variant["key"], self.folder)
        return quote(os.fsencode(relative))

    def data_url(self, variant: VariantDocument) -> str | None:
        """The file itself as a URL; None if it is gone, too big, or nothing that a page can show."""
        media_type = MEDIA_TYPES.get(Path(variant["key"]).suffix)
        try:
            with (self.root / variant["key"]).open("rb") as file:
                data = file.read(MAX_EMBEDDED_BYTES + 1)
        except OSError:
            return None
        if media_type is None or len(data) > MAX_EMBEDDED_BYTES:
            return None
        return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def write_contact_sheet(
    path: Path, storage_root: Path, entries: Sequence[Sent], *, title: str, seconds: float | None = None
) -> None:
    """Write the page, whole or not at all; `seconds` is how long the pictures took.

    Variants are linked by relative URLs: the page works from disk, and moves together with the storage root.
    """
    files = _Files(storage_root, path.parent)
    with _replacing(path) as page:
        page.write(_head(title, _figures(entries, seconds)))
        cards = (_card(entry, files) for entry in entries if entry.error is None)
        page.writelines(_section('<h2 class="unseen">Ready</h2>\n<ul class="grid">\n', cards))
        refusals = (_refusal(entry) for entry in entries if entry.error is not None)
        page.writelines(_section('<h2>Refused</h2>\n<ul class="refused">\n', refusals))
        page.write(_FOOT if entries else f'<p class="nothing">There were no pictures.</p>\n{_FOOT}')


def _html(text: str) -> str:
    return escape(visible(text), quote=True)


def _head(title: str, figures: Iterable[tuple[str, str, str]]) -> str:
    rows = "".join(
        f'<div class="{of}"><dt>{label}</dt><dd>{value}</dd></div>\n' for of, value, label in figures
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{_html(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="kind">Contact sheet</p>
<h1><bdi>{_html(title)}</bdi></h1>
<dl class="totals">
{"".join(rows)}</dl>
</header>
<main>
"""


def _figures(entries: Sequence[Sent], seconds: float | None) -> Iterator[tuple[str, str, str]]:
    """Class, value and label of each figure of the header."""
    ready = [entry for entry in entries if entry.error is None]
    refused = len(entries) - len(ready)
    sizes = [variant["bytes"] for entry in ready for variant in entry.variants]
    yield "", f"{len(ready):,}", "picture ready" if len(ready) == 1 else "pictures ready"
    yield "bad" if refused else "", f"{refused:,}", "refused"
    yield "", _size(sum(entry.bytes for entry in ready)), "before, as uploaded"
    yield "", _size(sum(sizes)), f"after, in {len(sizes):,} variants"
    if seconds is not None and seconds > 0:
        yield "", f"{seconds:,.1f} s", "from first to last"
        yield "", f"{len(ready) / seconds:,.1f}", "ready per second"


def _section(opening: str, items: Iterator[str]) -> Iterator[str]:
    """The items one by one, in a list that begins with `opening`; nothing if there are none."""
    for first in items:
        yield opening + first
        yield from items
        yield "</ul>\n"


_FOOT = """</main>
<footer>A picture leads to its largest variant. Only the thumbnails are part of this page.</footer>
</body>
</html>
"""


def _card(entry: Sent, files: _Files) -> str:
    name = _html(entry.path.name)
    rows = "".join(_variant_row(variant, files.link(variant)) for variant in entry.variants)
    return f"""<li class="card">
{_stage(entry, files)}
<div class="about">
<h3 title="{name}"><bdi>{name}</bdi></h3>
<p class="original">{_original(entry)}</p>
<ul class="variants">
{rows}</ul>
</div>
</li>
"""


def _stage(entry: Sent, files: _Files) -> str:
    """The thumbnail, over what is shown until it is there, as a link to the largest variant."""
    if not entry.variants:
        return '<div class="stage"><span>no variants</span></div>'
    smallest = min(entry.variants, key=_area)
    largest = max(reversed(entry.variants), key=_area)
    label = f"{_html(entry.path.name)}, opens its {_html(largest['name'])} variant"
    data, placeholder = files.data_url(smallest), picture_of(entry.placeholder)
    scale = min(1, LONGEST_SIDE / max(smallest["width"], smallest["height"], 1))
    size = " ".join(f'{side}="{max(1, round(smallest[side] * scale))}"' for side in ("width", "height"))
    if data is not None:
        behind = f'<img class="behind" src="{placeholder}" alt="" {size}>' if placeholder else ""
        shown = f'<span class="print">{behind}<img src="{data}" alt="{label}" {size} decoding="async"></span>'
    elif placeholder is not None:
        shown = f'<img src="{placeholder}" alt="{label}" {size}>'
    else:
        shown = f'<span aria-label="{label}">no thumbnail</span>'
    return f'<a class="stage" href="{files.link(largest)}">{shown}</a>'


def _variant_row(variant: VariantDocument, link: str) -> str:
    name = _html(variant["name"])
    return (
        f'<li><a href="{link}"><b><bdi>{name}</bdi></b>'
        f"<span>{_pixels(variant)}</span><span>{_size(variant['bytes'])}</span></a></li>\n"
    )


def _refusal(entry: Sent) -> str:
    error = entry.error or {}
    return f"""<li>
<h3><bdi>{_html(entry.path.name)}</bdi><small>{_original(entry)}</small></h3>
<code>{_html(error["code"])}</code>
<p><bdi>{_html(error["message"][:MAX_MESSAGE])}</bdi></p>
</li>
"""


def _original(entry: Sent) -> str:
    size = _size(entry.bytes)
    return f"{_pixels(entry.original)} · {size}" if entry.original else size


def _area(variant: VariantDocument) -> int:
    return int(variant["width"] * variant["height"])


def _pixels(picture: Mapping[str, Any]) -> str:
    return f"{picture['width']} \N{MULTIPLICATION SIGN} {picture['height']}"


def _size(count: int) -> str:
    """Bytes as people read them, such as `5.2 kB`; the space does not break."""
    return decimal(count).replace(" ", "\N{NO-BREAK SPACE}")


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
