"""The contact sheet: complete, harmless whatever the pictures are called, and sufficient unto itself."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from pipelines.placeholders import Placeholder, picture_of
from scripts.contact_sheet import VariantDocument, write_contact_sheet
from scripts.enqueue import Sent
from scripts.terminal import visible
from tests.support.catalogs import THUMBHASH

PLACEHOLDER = Placeholder(thumbhash=THUMBHASH)
THUMB = b"\xff\xd8\xff\xe0 a very small picture \xff\xd9"
HOSTILE_NAMES = [
    "<script>alert(1)</script>.jpg",
    '"><img src=x onerror=alert(1)>.jpg',
    "' onmouseover='alert(1).jpg",
    "</title></style><svg onload=alert(1)>.jpg",
    "&lt;b&gt;&amp;#60;.jpg",
    "two\nlines\r\x00\x1b[31m\x7f\x9b.jpg",
    "photo\u202egpj.exe\u2066\u200f\ufeff\u2028.jpg",
    b"caf\xe9 \xff.jpg".decode("utf-8", "surrogateescape"),
    "\ud800.jpg",
    "javascript:alert(1)",
    "x" * 255,
]


@dataclass
class SheetPage(HTMLParser):
    """A page as a browser would take it apart."""

    source: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "var" / "media"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.html"


def stored(root: Path, key: str, width: int, height: int, data: bytes = THUMB) -> VariantDocument:
    (root / key).parent.mkdir(parents=True, exist_ok=True)
    (root / key).write_bytes(data)
    return {"name": Path(key).stem, "key": key, "width": width, "height": height, "bytes": len(data)}


def shown_as(name: str, size: int, width: int, height: int, variants: Sequence[VariantDocument] = ()) -> Sent:
    return Sent(Path(name), size, variants=variants, original={"width": width, "height": height})


def ready(root: Path, name: str = "cat.jpg", at: str = "variants/ab/cd") -> Sent:
    sizes = [("thumb", 150, 113), ("medium", 800, 600), ("large", 1920, 1440)]
    variants = [stored(root, f"{at}/{variant}.jpg", width, height) for variant, width, height in sizes]
    return shown_as(name, 2_345_678, 4000, 3000, variants)


def refused(name: str = "bomb.png", message: str = "too many of them") -> Sent:
    entry = shown_as(name, 42_000, 50_000, 50_000)
    entry.fail("too_many_pixels", message)
    return entry


def written(path: Path, root: Path, entries: Sequence[Sent], **options: float) -> SheetPage:
    write_contact_sheet(path, root, entries, title="Holiday", seconds=options.get("seconds"))
    return SheetPage(path.read_text("utf-8"))


def target(link: str, path: Path) -> Path:
    return path.parent / os.fsdecode(unquote_to_bytes(link))


def test_a_ready_picture_is_shown_with_its_name_size_and_three_variants(path: Path, root: Path) -> None:
    page = written(path, root, [ready(root)])

    for text in ("cat.jpg", "4000 × 3000 · 2.3\xa0MB", "150 × 113", "800 × 600", "1920 × 1440"):  # noqa: RUF001
        assert text in page.text


def test_the_thumbnail_is_part_of_the_page_and_leads_to_the_large_variant(path: Path, root: Path) -> None:
    page = written(path, root, [ready(root)])

    [image] = page.all("img")
    kind, _, data = image["src"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(data) == THUMB
    assert page.all("a")[0]["href"] == "var/media/variants/ab/cd/large.jpg"


def test_while_a_thumbnail_loads_its_placeholder_is_shown_behind_it(path: Path, root: Path) -> None:
    behind, thumbnail = written(path, root, [replace(ready(root), placeholder=PLACEHOLDER)]).all("img")

    assert behind["src"] == picture_of(PLACEHOLDER)
    assert (behind["alt"], behind["class"]) == ("", "behind")
    assert (behind["width"], behind["height"]) == (thumbnail["width"], thumbnail["height"])


def test_where_there_is_no_thumbnail_to_embed_its_placeholder_is_shown(path: Path, root: Path) -> None:
    entry = replace(ready(root), placeholder=PLACEHOLDER)
    for variant in entry.variants:
        (root / variant["key"]).unlink()
    [shown] = written(path, root, [entry]).all("img")

    assert shown["src"] == picture_of(PLACEHOLDER)
    assert shown["alt"].startswith("cat.jpg, opens its")


def test_every_picture_says_in_words_what_it_is_and_where_it_leads(path: Path, root: Path) -> None:
    page = written(path, root, [ready(root)])

    assert [image["alt"] for image in page.all("img")] == ["cat.jpg, opens its large variant"]


def test_every_link_leads_to_a_file_that_exists(path: Path, root: Path) -> None:
    page = written(path, root, [ready(root), ready(root, at="variants/a b/100%#?é")])

    assert len(page.all("a")) == 8
    for link in page.all("a"):
        assert target(link["href"], path).is_file()


def test_a_sheet_beside_the_storage_root_leads_up_and_down_again(tmp_path: Path, root: Path) -> None:
    path = tmp_path / "sheets" / "index.html"
    path.parent.mkdir()
    page = written(path, root, [ready(root)])

    assert page.all("a")[0]["href"] == "../var/media/variants/ab/cd/large.jpg"


def test_a_small_picture_whose_variants_are_all_alike_leads_to_the_one_called_large(
    path: Path, root: Path
) -> None:
    variants = [stored(root, f"variants/{name}.jpg", 100, 80) for name in ("thumb", "medium", "large")]
    page = written(path, root, [shown_as("icon.png", 900, 100, 80, variants)])

    assert page.all("a")[0]["href"] == "var/media/variants/large.jpg"


def test_a_refused_picture_is_named_with_its_reason_but_not_linked(path: Path, root: Path) -> None:
    page = written(path, root, [refused()])

    for text in ("bomb.png", "50000 × 50000 · 42.0\xa0kB", "too_many_pixels", "too many of them"):  # noqa: RUF001
        assert text in page.text
    assert page.all("a") == page.all("img") == []


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_a_hostile_name_adds_nothing_to_the_page_but_text(name: str, path: Path, root: Path) -> None:
    harmless = written(path, root, [ready(root, "harmless"), refused("harmless", "harmless")])
    page = written(path, root, [ready(root, name), refused(name, name)])

    def structure(page: SheetPage) -> list[tuple[str, list[str]]]:
        return [(tag, sorted(attributes)) for tag, attributes in page.elements]

    assert structure(page) == structure(harmless)
    assert page.text.count(visible(Path(name).name)) == 3  # no file's name has a slash
    assert visible(name) in page.text


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_no_character_of_a_hostile_name_is_invisible_or_turns_text_around(
    name: str, path: Path, root: Path
) -> None:
    page = written(path, root, [ready(root, name), refused(name, name)])

    assert not re.findall(
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]", page.source
    )


def test_a_hostile_title_is_escaped_too(path: Path, root: Path) -> None:
    write_contact_sheet(path, root, [], title="</title><script>alert(1)</script>")

    assert SheetPage(path.read_text("utf-8")).all("script") == []


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Grüße 猫 🐈.jpg", "Grüße 猫 🐈.jpg"),
        ("a\nb\x1b[31m", r"a\nb\x1b[31m"),
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_is_invisible_in_a_name_is_shown_as_an_escape(name: str, shown: str) -> None:
    assert visible(name) == shown


def test_the_policy_allows_this_style_and_embedded_pictures_and_nothing_else(path: Path, root: Path) -> None:
    page = written(path, root, [ready(root), refused()])
    [style] = re.findall(r"<style>(.*?)</style>", page.source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    [policy] = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.split("; ") == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_the_page_needs_nothing_from_anywhere_else(path: Path, root: Path) -> None:
    page = written(path, root, [ready(root), refused()])

    assert "http:" not in page.source
    assert "https:" not in page.source
    assert "url(" not in page.source
    assert page.all("script") == []
    assert not [name for _, attributes in page.elements for name in attributes if name in ("style", "srcset")]


def test_the_header_sums_up_what_happened(path: Path, root: Path) -> None:
    page = written(path, root, [ready(root), refused(), ready(root)], seconds=1.5)

    totals = page.text[page.text.index("Holiday") :].split("\n")
    for text in ("pictures ready2", "refused1", "before, as uploaded4.7\xa0MB", "ready per second1.3"):
        assert text in totals


def test_a_sheet_of_no_pictures_says_so(path: Path, root: Path) -> None:
    assert "There were no pictures." in written(path, root, [], seconds=0.0).text


def test_a_thumbnail_that_is_gone_meanwhile_costs_only_itself(path: Path, root: Path) -> None:
    gone, there = ready(root, "gone.jpg", at="variants/gone"), ready(root, "there.jpg")
    (root / "variants/gone/thumb.jpg").unlink()
    page = written(path, root, [gone, there])

    assert len(page.all("img")) == 1
    assert "no thumbnail" in page.text


def test_a_smallest_variant_that_is_large_does_not_fill_the_page(path: Path, root: Path) -> None:
    huge = stored(root, "variants/poster.jpg", 9000, 9000, data=b"\xff" * 300_000)
    page = written(path, root, [shown_as("poster.tif", 10**8, 9000, 9000, [huge])])

    assert page.all("img") == []
    assert len(page.source) < 50_000


def test_a_sheet_that_could_not_be_finished_leaves_the_old_one_as_it_was(path: Path, root: Path) -> None:
    before = written(path, root, [ready(root)]).source

    class InterruptedSheets(list[Sent]):
        def __iter__(self) -> Iterator[Sent]:
            yield from super().__iter__()
            if set(path.parent.iterdir()) > {path, root.parent}:  # the page is being written
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(path, root, InterruptedSheets([refused()]))
    assert path.read_text("utf-8") == before
    assert sorted(path.parent.iterdir()) == [path, root.parent]


def test_memory_does_not_grow_with_the_number_of_pictures(path: Path, root: Path) -> None:
    entry = ready(root)

    def peak() -> int:
        tracemalloc.start()
        try:
            write_contact_sheet(path, root, [entry] * 1_000, title="Many")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # The least of two: Python's table of interned names, which paths use, may have to grow in one of them.
    assert min(peak() for _ in range(2)) < 500_000
    assert path.stat().st_size > 750_000
