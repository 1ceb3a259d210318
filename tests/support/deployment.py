"""The deployment files and the commands of their page."""

import re
from pathlib import Path

from tests.support.clients import ROOT

DEPLOY = ROOT / "deploy"
PAGE = (DEPLOY / "README.md").read_text("utf-8")
SNIPPETS: dict[str, str] = dict(re.findall(r"<!-- snippet: (\S+) -->\n```sh\n(.*?)```\n", PAGE, re.DOTALL))


def files() -> list[Path]:
    """All deployment files, relative to their folder."""
    return sorted(path.relative_to(DEPLOY) for path in DEPLOY.rglob("*") if path.is_file())
