"""Pushes every picture of a corpus through decoder children and judges what comes out.

python -m tests.corpus CORPUS [--only TEXT] [--out FOLDER] [--checker FILE]
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any

from pipelines import formats
from tests.support.decoder_child import BOXES, Child, Outcome

CODES = {
    "source_too_large",
    "unsupported_format",
    "corrupt_image",
    "too_many_pixels",
    "too_much_memory",
    "decoder_crashed",
    "decode_timeout",
}
_mine = local()
_all: list[Child] = []


def main() -> int:
    """Judge a corpus; 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--only", default="", help="only paths that contain this text")
    parser.add_argument("--out", type=Path, default=Path("var/corpus"), help="where variants and results go")
    parser.add_argument("--checker", type=Path, help="default: check_variants.py beside the corpus")
    parser.add_argument(
        "--python", default=sys.executable, help="what runs the checker: it needs numpy and Pillow"
    )
    asked = parser.parse_args()
    manifest = asked.corpus / "manifest.json"
    entries = [entry for entry in json.loads(manifest.read_text()) if asked.only in entry["path"]]
    asked.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        results = list(
            pool.map(lambda entry: result(asked.corpus / entry["path"], entry, asked.out), entries)
        )
    for child in _all:
        child.__exit__()
    took = time.monotonic() - start
    (asked.out / "results.json").write_text(json.dumps(dict(results), indent=1))
    wrong = [
        line for entry, (_, told) in zip(entries, results, strict=True) if (line := misjudged(entry, told))
    ]
    print(*wrong, sep="\n")
    checker = asked.checker or asked.corpus.parent / "check_variants.py"
    command = [asked.python, str(checker), str(manifest), str(asked.out / "results.json"), "--jobs", "2"]
    checked = subprocess.run(command + (["--only", asked.only] if asked.only else []), check=False)
    refused = sum("error" in told for _, told in results)
    print(
        f"{len(results)} files in {took:.0f} s: {len(results) - refused} rendered, {refused} refused, "
        f"{len(wrong)} with a wrong kind of answer; the checker says {'ok' if checked.returncode == 0 else 'FAILED'}"
    )
    return 1 if wrong or checked.returncode else 0


def result(path: Path, entry: dict[str, Any], out: Path) -> tuple[str, dict[str, Any]]:
    """Push one file through a child and return its line of results.json."""
    data = path.read_bytes()
    format = formats.sniff(data[: formats.HEAD])
    engine = format.engine if format else "vips"
    try:
        outcome = child(engine).run(data)
    except (EOFError, OSError) as error:
        vars(_mine).pop(engine, None)
        return entry["path"], {"error": "decoder_crashed", "code": "decoder_crashed", "message": str(error)}
    if outcome.status == "bug":
        vars(_mine).pop(engine, None)
    return entry["path"], told(entry["path"], outcome, out)


def told(path: str, outcome: Outcome, out: Path) -> dict[str, Any]:
    """Return what check_variants.py wants to know, the variants written to files."""
    if outcome.status != "done":
        code, message = outcome.code, outcome.answer.get("message")
        return {"error": f"{code}: {message}", "code": code, "message": message}
    files = {}
    for box, data in zip(BOXES, outcome.variants, strict=True):
        files[str(box)] = f"{path.replace('/', '__')}.{box}.jpg"
        (out / files[str(box)]).write_bytes(data)
    return files


def child(engine: formats.Engine) -> Child:
    """Return this thread's child for that engine."""
    if engine not in vars(_mine):
        vars(_mine)[engine] = Child(engine)
        _all.append(vars(_mine)[engine])
    running: Child = vars(_mine)[engine]
    return running


def misjudged(entry: dict[str, Any], told: dict[str, Any]) -> str:
    """Say what is wrong with a refusal, beyond what the checker of the variants sees."""
    if "error" not in told:
        return ""
    if told["code"] not in CODES:
        return f"{entry['path']}: code {told['code']}: {told['message']}"
    if told["code"] == "decoder_crashed":
        return f"{entry['path']}: the child died: {told['message']}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
