"""The variables that the settings come from, and the files of such, as the doctor finds them."""

import os
from collections.abc import Sequence

from worker.env_files import EnvFile, find_env_files
from worker.findings import Finding
from worker.settings import unknown_variables


def check_variables() -> Sequence[Finding]:
    """Whether each file of variables is read, and each variable is that of a setting."""
    found = [inspect_env_file(file) for file in find_env_files()]
    for unknown, nearest in unknown_variables().items():
        advice = f"Did you mean {nearest}?" if nearest else "The README lists them all."
        found.append(Finding("Settings", "warning", f"there is no setting {unknown}", advice))
    return found


def inspect_env_file(file: EnvFile) -> Finding:
    """Whether a file of variables is read, and keeps its password."""
    if file.problem:
        advice = f"Let the user {os.geteuid()} read it, or set its variables in the environment."
        return Finding("Settings", "warning", f"{file.path} cannot be read ({file.problem})", advice)
    if file.shows_a_password:
        detail = f"everybody on this machine can read the password in {file.path}"
        return Finding("Settings", "warning", detail, f"chmod o-r {file.path}")
    return Finding("Settings", "ok", f"read from {file.path}, unless the environment sets them")
