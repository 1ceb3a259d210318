"""The C libraries that decoders read pictures with, asked of a process that loads them as decoders do."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.errors import DecoderUnavailable

_ASK = (sys.executable, "-I", "-m", "pipelines.decoder.libraries")
_TIMEOUT_S = 60


@dataclass(frozen=True)
class BundledLibrary:
    """A library, its version where it tells one, and the package that brought it."""

    package: str
    name: str
    version: str | None


def read_libraries() -> Sequence[BundledLibrary]:
    """All libraries, by package. Raises: DecoderUnavailable."""
    try:
        told = subprocess.run(  # noqa: S603
            _ASK, env={}, cwd="/", capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise DecoderUnavailable(f"the libraries do not tell their versions: {' '.join(said)}") from error
    return [BundledLibrary(**line) for line in json.loads(told.stdout)]
