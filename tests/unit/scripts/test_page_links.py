"""Links in all pages of the repository lead to files and sections that are there."""

import re
import subprocess
from collections.abc import Iterator, Sequence, Set
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
HOME = "https://github.com/media-worker/media-worker"
OURS = re.compile(re.escape(HOME) + r"/(?:blob|tree)/main/")
CODE = re.compile(r"^( *)(```+|~~~+).*?^\1\2", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
DEFINED = re.compile(r"^\[([^\]]+)\]:\s+<?(\S+?)>?(?:\s|$)", re.MULTILINE)
USED = re.compile(r"\[[^\]]+\]\[([^\]]+)\]")
OF_HTML = re.compile(r"<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)=\"([^\"\s]+)\"")
A_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")


def pages() -> Sequence[Path]:
    """Every page that git knows, or is to know."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.md"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists()]


def prose_of(text: str) -> str:
    """A page without what is code, where brackets are no links."""
    return re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", CODE.sub("", text))


def links_in(text: str) -> Sequence[str]:
    """What a page links to, in its own repository."""
    prose = prose_of(text)
    targets = (
        INLINE.findall(prose) + [target for _, target in DEFINED.findall(prose)] + OF_HTML.findall(prose)
    )
    ours = [OURS.sub("/", target).replace(f"{HOME}#", "/README.md#") for target in targets]
    return [target for target in ours if not A_SCHEME.match(target) and not target.startswith("//")]


@cache
def sections_of(page: Path) -> Set[str]:
    """The anchors of a page, as GitHub makes them of its titles."""
    text = CODE.sub("", page.read_text("utf-8"))
    found = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for title in re.findall(r"^#{1,6} +(.*?) *#*$", text, re.MULTILINE):
        words = re.sub(r"[^\w -]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title)).strip().lower()
        anchor = words.replace(" ", "-")
        found.add(next(one for one in _numbered(anchor) if one not in found))
    return found


def _numbered(anchor: str) -> Iterator[str]:
    yield anchor
    yield from (f"{anchor}-{number}" for number in range(1, 100))


def is_there(target: str, page: Path) -> bool:
    """Whether a page's link leads to a file of the repository and, in another page, to a section."""
    path, _, anchor = target.partition("#")
    file = (ROOT / path[1:] if path.startswith("/") else page.parent / path if path else page).resolve()
    if not file.exists() or ROOT not in (file, *file.parents):
        return False
    return not anchor or file.suffix != ".md" or anchor in sections_of(file)


def test_every_link_of_every_page_leads_to_a_file_or_section_that_is_there() -> None:
    found = {page.relative_to(ROOT): links_in(page.read_text("utf-8")) for page in pages()}
    broken = [
        f"{page}: {target}"
        for page, targets in found.items()
        for target in targets
        if not is_there(target, ROOT / page)
    ]

    assert broken == []
    assert {"README.md", "docs/http.md", "examples/express/README.md"} <= {str(page) for page in found}
    assert sum(map(len, found.values())) > 300


def test_every_named_link_is_defined() -> None:
    missing = list[str]()
    for page in pages():
        prose = prose_of(page.read_text("utf-8"))
        defined = {name.lower() for name, _ in DEFINED.findall(prose)}
        missing += [f"{page.name}: {name}" for name in USED.findall(prose) if name.lower() not in defined]

    assert missing == []


def test_what_is_no_file_or_no_section_is_found(tmp_path: Path) -> None:
    page = "[a](nowhere.md) [b](README.md#nothing) [c]: x\n```\n[d](code.md)\n```\n`[e](code.md)`\n"
    page += f'<img src="no.png"> [f]({HOME}/blob/main/none.md) [j]({HOME}#no)\n'
    page += "[g](https://elsewhere.example/a.md) [h](../outside.md) [i](README.md)\n"
    broken = [target for target in links_in(page) if not is_there(target, ROOT / "page.md")]

    assert broken == [
        "nowhere.md",
        "README.md#nothing",
        "/none.md",
        "/README.md#no",
        "../outside.md",
        "no.png",
    ]
