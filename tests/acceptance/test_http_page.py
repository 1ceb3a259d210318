"""The examples of docs/http.md, as a reader runs them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.face import SECRET
from worker.http.tokens import Tokens

PAGE = Path(__file__).parents[2] / "docs" / "http.md"


def example(language: str, word: str) -> str:
    """The first block in that language with that word."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return next(block for block in blocks if word in block)


@pytest.mark.parametrize(
    ("language", "command", "word"),
    [("python", [sys.executable, "-c"], "import jwt"), ("bash", ["bash", "-euc"], "openssl dgst")],
)
def test_an_app_signs_a_token_as_the_page_says(language: str, command: list[str], word: str) -> None:
    env = {"PATH": os.environ["PATH"], "MEDIA_HTTP_SECRET": SECRET}
    run = [*command, example(language, word)]
    made = subprocess.run(run, env=env, capture_output=True, text=True, check=True, timeout=30)

    assert made.stderr == ""
    assert Tokens(SECRET).read(made.stdout.strip()).max_bytes == 5_000_000
