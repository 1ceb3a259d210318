"""Pushes every picture of a corpus through decoder children and checks what comes out.

python -m tests.corpus [CORPUS]... [--only TEXT] [--out FOLDER] [--checker FILE] [--python PROGRAM]
                       [--catalog sqlite|postgres] [--storage files|s3]

With a catalog or a storage, through a live worker that keeps them there. A corpus is a folder with a
manifest.json; what a variant must look like is judged by the check_variants.py in the corpus or above it.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any

from pipelines import formats
from tests.support.corpus_worker import through_worker
from tests.support.decoder_child import BOXES, DecoderProcess, Outcome, decoder_parent
from tests.support.picture_folders import picture_folders

Entry = dict[str, Any]
Answer = dict[str, Any]

CODES = {"source_too_large", "unsupported_format", "corrupt_image", "too_many_pixels", "too_much_memory"}


def main() -> int:
    """Check a corpus; 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument(
        "corpora", type=Path, nargs="*", metavar="CORPUS", help="default: all beside this one"
    )
    parser.add_argument("--only", default="", help="only paths that contain this text")
    parser.add_argument("--out", type=Path, default=Path("var/corpus"), help="where variants and results go")
    parser.add_argument("--checker", type=Path, help="default: check_variants.py in or above the corpus")
    parser.add_argument("--python", default=sys.executable, help="what runs the checker: it has numpy")
    parser.add_argument("--catalog", choices=["sqlite", "postgres"])
    parser.add_argument("--storage", choices=["files", "s3"])
    asked = parser.parse_args()
    corpora = asked.corpora or picture_folders()
    if not corpora:
        parser.error("no corpus is beside this checkout: name a folder with a manifest.json")
    for corpus in corpora:
        if not (corpus / "manifest.json").is_file():
            parser.error(f"{corpus} has no manifest.json, which says what is known of its pictures")
    faultless = [_check(corpus, asked.out / corpus.name, asked) for corpus in corpora]
    return 0 if all(faultless) else 1


def _check(corpus: Path, out: Path, asked: argparse.Namespace) -> bool:
    """Check one corpus, tell what came of it, and say whether nothing failed."""
    entries = [entry for entry in manifest(corpus) if asked.only in entry["path"]]
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    results = _results(corpus, entries, out, asked)
    took = time.monotonic() - start
    (out / "results.json").write_text(json.dumps(results, indent=1))
    wrong = [line for entry in entries if (line := misjudged(entry, results[entry["path"]]))]
    sys.stdout.write("".join(f"{line}\n" for line in wrong))
    sys.stdout.flush()
    accepted = is_accepted(corpus, out, asked)
    refused = sum("error" in answer for answer in results.values())
    by_regions = sum("error" not in results[entry["path"]] and "regions" in entry for entry in entries)
    sys.stdout.write(
        f"{corpus}: {len(results)} files in {took:.0f} s, {len(results) - refused} rendered ({by_regions} of "
        f"them with regions of known colours), {refused} refused, {len(wrong)} answered wrongly; "
        f"the checker {'accepts them' if accepted else 'FAILED'}\n"
    )
    return accepted and not wrong


def manifest(corpus: Path) -> list[Entry]:
    """Return what is known of each file of a corpus."""
    entries: list[Entry] = json.loads((corpus / "manifest.json").read_text())
    return entries


def _results(
    corpus: Path, entries: Sequence[Entry], out: Path, asked: argparse.Namespace
) -> dict[str, Answer]:
    if asked.catalog is None and asked.storage is None:
        return run(corpus, entries, out)
    paths = [entry["path"] for entry in entries]
    where = {"catalog": asked.catalog or "sqlite", "storage": asked.storage or "files"}
    return through_worker(corpus, paths, out, **where)


def run(corpus: Path, entries: Sequence[Entry], out: Path) -> dict[str, Answer]:
    """Push files through children, two at a time; the variants become files in `out`."""
    decoder_parent()  # from this thread: it dies with the one that started it
    children = Children()
    with ThreadPoolExecutor(2) as pool:
        answer = list(pool.map(lambda entry: _answer(children, corpus, entry["path"], out), entries))
    children.end()
    return {entry["path"]: one for entry, one in zip(entries, answer, strict=True)}


class Children:
    """A child of each kind for each thread, replaced when it has died."""

    def __init__(self) -> None:
        self._mine = local()
        self._all: list[DecoderProcess] = []

    def run(self, data: bytes) -> Outcome:
        """Push one picture through this thread's child of the right kind."""
        known = formats.sniff(data[: formats.HEAD])
        engine = known.engine if known else "vips"
        running: DecoderProcess | None = getattr(self._mine, engine, None)
        if running is None:
            running = DecoderProcess(engine)
            self._all.append(running)
        setattr(self._mine, engine, None)  # until it has answered
        outcome = running.run(data)
        if outcome.status != "bug":
            setattr(self._mine, engine, running)
        return outcome

    def end(self) -> None:
        """End every child that was started."""
        for child in self._all:
            child.__exit__()


def _answer(children: Children, corpus: Path, path: str, out: Path) -> Answer:
    try:
        outcome = children.run((corpus / path).read_bytes())
    except (EOFError, OSError) as error:
        return {"error": f"the child died: {error}", "code": "decoder_crashed", "message": str(error)}
    if outcome.status != "done":
        message = outcome.answer.get("message")
        return {"error": f"{outcome.code}: {message}", "code": outcome.code, "message": message}
    files = {}
    for box, data in zip(BOXES, outcome.variants, strict=True):
        files[str(box)] = f"{path.replace('/', '__')}.{box}.jpg"
        (out / files[str(box)]).write_bytes(data)
    return files


def misjudged(entry: Entry, answer: Answer) -> str:
    """Say what is wrong with an answer, before anybody looks at the variants; empty if nothing."""
    path, expected = entry["path"], entry["expect"]
    if "error" not in answer:
        return f"{path}: should have been refused: {entry['why']}" if expected == "reject" else ""
    if answer["code"] not in CODES:
        return f"{path}: {answer['code']}: {answer['error']}"
    return f"{path}: should have been rendered: {answer['error']}" if expected == "ok" else ""


def is_accepted(corpus: Path, out: Path, asked: argparse.Namespace) -> bool:
    """Let the corpus' own checker look at the variants; it prints the table of failures."""
    checker = asked.checker or checker_of(corpus)
    files = [str(corpus / "manifest.json"), str(out / "results.json")]
    only = ["--only", asked.only] if asked.only else []
    command = [asked.python, str(checker), *files, "--jobs", "2", *only]
    return subprocess.run(command, check=False).returncode == 0


def checker_of(corpus: Path) -> Path:
    """The nearest check_variants.py: in the corpus, or in a folder above it."""
    here = corpus.resolve()
    found = (folder / "check_variants.py" for folder in (here, *here.parents))
    return next((checker for checker in found if checker.is_file()), here.parent / "check_variants.py")


if __name__ == "__main__":
    sys.exit(main())
