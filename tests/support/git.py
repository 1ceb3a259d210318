"""Repositories that tests make."""

import os
import subprocess
from pathlib import Path

_AUTHOR = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def git(folder: Path, *words: str) -> None:
    """Run git in a folder, as somebody."""
    subprocess.run(
        ["git", *words], cwd=folder, env={**os.environ, **_AUTHOR}, check=True, capture_output=True
    )
