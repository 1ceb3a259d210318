"""The long form of the chaos.

    python -m tests.chaos [--uploads 10000] [--seconds 600] [--workers 3] [--seed N] [--home DIR]
                          [--catalog sqlite|postgres] [--storage files|s3]

Ends with exit code 1 where anything was lost, doubled, leaked or left behind.
"""

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.driver import Report, run_chaos

_MORE_MEMORY, _MORE_DESCRIPTORS = 1.2, 8  # at the end than in the second quarter, when caches are filled
_KEYS = {
    "media:events",
    "media:limits",
    "media:uploads",
    "media:uploads:catalog",
}  # whatever else lasts has leaked


def what_is_wrong(report: Report) -> list[str]:
    """Why this run is red, if it is."""
    quarter = len(report.memory_kib) // 4
    early, late = max(report.memory_kib[quarter : 2 * quarter + 1]), report.memory_kib[-1]
    opened = report.descriptors[-1] - max(report.descriptors[quarter : 2 * quarter + 1])
    found = {
        f"{len(report.stderr_tails)} workers ended with an error": bool(report.stderr_tails),
        f"memory went from {early} to {late} KiB": late > _MORE_MEMORY * early,
        f"{opened} descriptors leaked": opened > _MORE_DESCRIPTORS,
        f"the keys {report.keys_left} last": not _KEYS.issuperset(report.keys_left),
        f"tracebacks that no fault explains: {report.tracebacks}": bool(report.tracebacks),
        f"sweeps that failed: {report.failed_sweeps}": bool(report.failed_sweeps),
        f"questions without a right answer: {report.wrong_answers}": bool(report.wrong_answers),
        f"unexpected ends: {report.unexpected}": len(report.unexpected) > report.faults["kill_decoder"],
    }
    return [wrong for wrong, is_so in found.items() if is_so]


def main() -> int:
    """Run it, and print what came of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--uploads", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--home", type=Path, help="a folder that keeps everything; default: one that goes")
    parser.add_argument("--catalog", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--storage", choices=["files", "s3"], default="files")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", file=sys.stderr)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="media-chaos-") as folder:
        home = asked.home or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        report = run_chaos(
            home,
            uploads=asked.uploads,
            seconds=asked.seconds,
            workers=asked.workers,
            seed=asked.seed,
            catalog=asked.catalog,
            storage=asked.storage,
        )
    wrong = what_is_wrong(report)
    print(json.dumps({"seed": asked.seed, **vars(report), "wrong": wrong}, indent=1))  # noqa: T201
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
