"""The examples of a page, each under its name, as readers take them from it."""

import re
from pathlib import Path

_SNIPPET = re.compile(r"<!-- snippet: (\S+) -->\n```(\w+)\n(.*?)```\n", re.DOTALL)


def snippets(page: Path) -> dict[str, tuple[str, str]]:
    """The language and the text of each named example of a page."""
    found = _SNIPPET.findall(page.read_text("utf-8"))
    return {name: (language, code) for name, language, code in found}


def blocks(page: Path, language: str) -> list[str]:
    """All examples in that language, with a name or without."""
    found: list[str] = re.findall(rf"```{language}\n(.*?)```\n", page.read_text("utf-8"), re.DOTALL)
    return found


def take(page: Path, folder: Path) -> None:
    """Write each named example into a file of that name."""
    for name, (_, code) in snippets(page).items():
        (folder / name).write_text(code, "utf-8")
