"""Files of variables: where they are searched for, what they contain, who may read a password in one."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ENCODING = "utf-8-sig"  # with or without the byte order mark that some editors write
PLACES = ("/etc/media-worker.env", ".env")  # a later file overrides
INSTEAD = "MEDIA_ENV_FILE"  # names one file instead of `PLACES`; empty: none
_KEY, _SECRET, _TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"


@dataclass(frozen=True)
class EnvFile:
    """A file that exists, with its variables, or with the reason why it cannot be read."""

    path: Path
    variables: Mapping[str, str]
    problem: str | None = None

    @property
    def shows_a_password(self) -> bool:
        """Whether every user of this machine may read a password in it."""
        try:
            everybody = self.path.stat().st_mode & stat.S_IROTH
        except OSError:
            return False
        shown = any(map(_is_secret, self.variables)) or any(map(_has_password, self.variables.values()))
        return bool(everybody) and shown


def find_env_files() -> Sequence[EnvFile]:
    """The files that exist, in the order of `PLACES`. A folder is none: `.env` may be a venv."""
    named = os.environ.get(INSTEAD)
    places = PLACES if named is None else (named,) if named else ()
    return [_read(Path(place).absolute()) for place in places if os.path.isfile(place) or place == named]


def export_aws(files: Sequence[EnvFile]) -> None:
    """Give the clients of S3 and SQS what files say of AWS: they read nothing but the environment.

    What the environment says already counts more.
    """
    for file in reversed(files):
        has_key = _KEY in os.environ  # another key than the one that this file's token belongs to
        for name, value in file.variables.items():
            if name.startswith("AWS_") and not (has_key and name == _TOKEN):
                os.environ.setdefault(name, value)
    if region := os.environ.get("AWS_REGION"):
        os.environ.setdefault("AWS_DEFAULT_REGION", region)  # the only one that boto3 reads


def export_otel(files: Sequence[EnvFile]) -> None:
    """Give OpenTelemetry what files say of it: it reads nothing but the environment, which counts more."""
    for file in reversed(files):
        for name, value in file.variables.items():
            if name.startswith("OTEL_"):
                os.environ.setdefault(name, value)


def _read(path: Path) -> EnvFile:
    from dotenv import dotenv_values  # only where there is a file: `media health` has no time for it

    try:
        with path.open(encoding=ENCODING) as lines:
            values = dotenv_values(stream=lines)
    except OSError as error:
        return EnvFile(path, {}, error.strerror or str(error))
    except UnicodeDecodeError:
        return EnvFile(path, {}, "it is not UTF-8")
    return EnvFile(path, dict(_set(values)))


def _set(values: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    return ((name.upper(), value) for name, value in values.items() if value is not None)


def _is_secret(name: str) -> bool:
    """Whether a variable holds what nobody else is to know: OpenTelemetry's tokens stand in headers."""
    return name == _SECRET or (name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("HEADERS"))


def _has_password(value: str) -> bool:
    try:
        return bool("://" in value and urlsplit(value).password)
    except ValueError:
        return False
