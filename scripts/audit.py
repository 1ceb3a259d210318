"""What is known against the packages of uv.lock, and which C libraries read pictures here.

`python -m scripts.audit` ends with 0 where nothing is known, 1 where something is, 2 where it was called
wrongly, and 3 where nobody could be asked: then nothing was audited. `make audit` runs it for people: make
ends with 2 whatever the code was.
"""

import argparse
import json
import platform
import re
import sqlite3
import ssl
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import DecoderUnavailable
from pipelines.libraries import BundledLibrary, read_libraries
from scripts.locked import ToolFailed, complete, export, run

NOTHING_KNOWN, ADVISORIES, NOT_AUDITED = 0, 1, 3
# In an environment of its own, of the versions that the lock has.
_PIP_AUDIT = ("run", "--quiet", "--frozen", "--isolated", "--only-group", "audit", "pip-audit")
_HOW = (
    "--require-hashes",
    "--disable-pip",
    "--progress-spinner=off",
    "--vulnerability-service=osv",
    "--format=json",
)
_MARKER = re.compile(r" ; [^\\\n]*")


class NotAudited(Exception):
    """Nobody could say what is known; the message says why."""


@dataclass(frozen=True)
class Advisory:
    """What is known against one package."""

    package: str
    version: str
    name: str
    fixed_in: Sequence[str]
    is_shipped: bool
    """Whether the image has the package; the others are those of developers."""

    def __str__(self) -> str:
        where = "in the image" if self.is_shipped else "for developers only"
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no release fixes it"
        return f"{self.package} {self.version} ({where}): {self.name}, {fixed}"


def main() -> None:
    """Tell, and end with the code that says it."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.audit", description="What is known against what is locked."
    )
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="ID", help="an advisory that does no harm here"
    )
    parser.add_argument("--osv-url", metavar="URL", help="another service that speaks OSV's API")
    given = parser.parse_args()
    sys.exit(audit(given.ignore, given.osv_url))


def audit(ignored: Sequence[str], url: str | None) -> int:
    """Print libraries and advisories; returns the exit code."""
    try:
        for line in tell_libraries(read_libraries()):
            print(line)  # noqa: T201
        requirements = run(
            "uv", "export", "--quiet", "--frozen", "--all-extras", "--all-groups", "--no-emit-project"
        )
        shipped = names(export("--no-dev", "--no-emit-project", "--no-hashes"))
        answers = [one for text in split(requirements) for one in ask(text, ignored, url)]
        found = list(read(answers, shipped, names(requirements)))
    except (NotAudited, ToolFailed, DecoderUnavailable) as error:
        print(f"Not audited: {error}", file=sys.stderr)  # noqa: T201
        return NOT_AUDITED
    print(f"{len(names(requirements))} packages of uv.lock, {len(shipped)} of them in the image:")  # noqa: T201
    for advisory in found:
        print(f"  {advisory}")  # noqa: T201
    print(f"  {len(found) or 'No'} known vulnerabilities.")  # noqa: T201
    return ADVISORIES if found else NOTHING_KNOWN


def names(requirements: str) -> set[str]:
    """The packages of an export."""
    return set(re.findall(r"^([\w.-]+)==", requirements, re.MULTILINE))


def ask(requirements: str, ignored: Sequence[str], url: str | None) -> Sequence[Mapping[str, Any]]:
    """What pip-audit says of each package; no name may be there twice. Raises: NotAudited, ToolFailed."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(requirements)
        file.flush()
        options = [*(f"--ignore-vuln={one}" for one in ignored), *([f"--osv-url={url}"] if url else [])]
        done = complete("uv", *_PIP_AUDIT, *_HOW, *options, f"--requirement={file.name}")
    try:
        answers: Sequence[Mapping[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError as error:
        [last] = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise NotAudited(
            f"pip-audit has no answer, mostly because OSV cannot be reached: {last[:300]}"
        ) from error
    return answers


def split(requirements: str) -> Sequence[str]:
    """Texts that together have every version for every machine, and each of which names no package twice."""
    texts: list[dict[str, str]] = [{}]
    for entry in re.split(r"^(?=[\w.-]+==)", _MARKER.sub(" ", requirements), flags=re.MULTILINE)[1:]:
        name = entry.partition("==")[0]
        if name in texts[-1]:
            texts.append({})
        next(text for text in texts if name not in text)[name] = entry
    return ["".join(text.values()) for text in texts]


def read(answers: Sequence[Mapping[str, Any]], shipped: set[str], asked: set[str]) -> Iterator[Advisory]:
    """Each advisory, those of the image first. Raises: NotAudited where a package was passed over."""
    told = {line["name"] for line in answers if "skip_reason" not in line}
    if missing := asked - told:
        raise NotAudited(f"nobody said anything of {len(missing)} packages: {', '.join(sorted(missing)[:5])}")
    for line in sorted(answers, key=lambda line: (line["name"] not in shipped, line["name"])):
        for one in line["vulns"]:
            name = ", ".join([one["id"], *one["aliases"]])
            yield Advisory(line["name"], line["version"], name, one["fix_versions"], line["name"] in shipped)


def tell_libraries(libraries: Sequence[BundledLibrary]) -> Iterator[str]:
    """A table of what no advisory of a package names: the C code inside."""
    yield "C libraries (no service knows packages by them; scanners find them in the SBOM, by CPE):"
    for one in libraries:
        yield f"  {one.name:15} {one.version or 'not told':15} in {one.package}"
    for name, version in (("sqlite", sqlite3.sqlite_version), ("openssl", ssl.OPENSSL_VERSION.split()[1])):
        yield f"  {name:15} {version:15} in python {platform.python_version()}"


if __name__ == "__main__":
    main()
