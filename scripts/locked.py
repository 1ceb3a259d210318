"""What is locked, by `uv export`, for those who release and audit."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = "media-worker"
EXTRAS = ("postgres", "s3", "sqs", "http", "webhooks", "turbo")  # as in the image


class ToolFailed(Exception):
    """A tool could not be run, or failed; the message says why."""


def export(*options: str) -> str:
    """What `uv export` says of the lock file, with the extras of the image. Raises: ToolFailed."""
    return run("uv", "export", "--frozen", "--quiet", *(f"--extra={extra}" for extra in EXTRAS), *options)


def time_of_the_commit() -> str:
    """So that whoever builds a commit gets the same files."""
    try:
        return run("git", "log", "-1", "--format=%ct").strip()
    except ToolFailed:
        return "315532800"  # 1980, before which a wheel knows no time


def run(*words: str, **env: str) -> str:
    """The output of a command in this folder, with the tools of `make`. Raises: ToolFailed."""
    done = complete(*words, **env)
    if done.returncode:
        raise ToolFailed(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def complete(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The same, however it ends. Raises: ToolFailed where there is no such program."""
    places = os.pathsep.join([os.environ["PATH"], str(ROOT / ".tools/bin"), str(ROOT / ".tools/venv/bin")])
    ours = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    variables = {**ours, "PATH": places, **env}
    try:
        return subprocess.run(words, cwd=ROOT, env=variables, capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError as error:
        raise ToolFailed(f"{words[0]} is neither on the PATH nor in .tools") from error
