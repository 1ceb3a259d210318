"""Sends a whole corpus through a live worker's stream and checks what is stored.

python -m tests.campaigns.corpus_live [CORPUS] [--only TEXT] [--checker FILE] [--python PROGRAM]
"""

# ruff: noqa: T201 (a program that prints what it finds)

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from scripts.redis_server import temporary_redis
from tests.campaigns.limits import REFUSALS, corpus_folder, outcome
from tests.support.workplace import Answer, Workplace

BOXES = {"thumb": "150", "medium": "800", "large": "1920"}


def main() -> int:
    """Check a corpus; 0 when nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.corpus_live", description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?", default=corpus_folder())
    parser.add_argument("--only", default="", help="only paths that contain this text")
    parser.add_argument("--checker", type=Path, help="default: check_variants.py beside the corpus")
    parser.add_argument("--python", default=sys.executable, help="runs the checker, with numpy and Pillow")
    asked = parser.parse_args()
    if asked.corpus is None:
        print("There is no corpus: name its folder, here or in MEDIA_TEST_CORPUS.")
        return 2
    manifest = json.loads((asked.corpus / "manifest.json").read_text())
    paths = [entry["path"] for entry in manifest if asked.only in entry["path"]]
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder, temporary_redis() as redis:
        place = Workplace(Path(folder), redis.url)
        began = time.monotonic()
        try:
            ends = _send(place, asked.corpus, paths)
            wrong = _misjudged(ends) + place.check().wrong
        finally:
            place.close()
        took = time.monotonic() - began
        results = place.root / "results.json"
        results.write_text(json.dumps({path: _result(answer) for path, answer in ends.items()}, indent=1))
        accepted = _is_accepted(asked, results)
    counts = Counter(outcome(answer) for answer in ends.values())
    print(*wrong, *(f"{count:5} {what}" for what, count in counts.most_common()), sep="\n")
    print(
        f"{len(ends)} files in {took:.0f} s through a live worker: {counts['ready']} ready, "
        f"{len(ends) - counts['ready']} refused, {len(wrong)} answered wrongly; "
        f"the checker {'accepts them' if accepted else 'FAILED'}"
    )
    return 0 if accepted and not wrong else 1


def _send(place: Workplace, corpus: Path, paths: list[str]) -> dict[str, Answer]:
    place.start("media", MEDIA_LEASE="15", MEDIA_RECONCILE_INTERVAL="15")
    sources = {place.put(f"uploads/corpus/{path}", (corpus / path).read_bytes()): path for path in paths}
    place.send_all({"source": source} for source in sources)
    ends = place.await_end_of(*sources, within=1800)
    return {path: ends[source] for source, path in sources.items()}


def _misjudged(ends: dict[str, Answer]) -> list[str]:
    return [
        f"{path}: {outcome(answer)}: {answer['error']['message']}"
        for path, answer in ends.items()
        if outcome(answer) not in {"ready", *REFUSALS} or answer.get("attempts", 1) != 1
    ]


def _result(answer: Answer) -> dict[str, Any]:
    if answer["type"] == "upload.ready":
        return {BOXES[variant["name"]]: variant["key"] for variant in answer["variants"]}
    return {"error": f"{answer['error']['code']}: {answer['error']['message']}"}


def _is_accepted(asked: argparse.Namespace, results: Path) -> bool:
    checker = asked.checker or asked.corpus.resolve().parent / "check_variants.py"
    command = [asked.python, checker, asked.corpus / "manifest.json", results, "--jobs", "2"]
    return (
        subprocess.run([*command, *(["--only", asked.only] if asked.only else [])], check=False).returncode
        == 0
    )


if __name__ == "__main__":
    sys.exit(main())
