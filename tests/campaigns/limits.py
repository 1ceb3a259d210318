"""Limits a real worker's memory and CPU by a cgroup, and sends it the worst there is, eight at once.

python -m tests.campaigns.limits [--pixels N] [--copies N] [--only TEXT] [--cpus N] [--corpus DIR]

Every picture must end ready or refused; no process may be killed by the kernel; the worker stays itself.
"""

# ruff: noqa: T201 (a program that prints what it finds)

import argparse
import contextlib
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from scripts.redis_server import temporary_redis
from tests.support import processes
from tests.support.cgroups import Cgroup, NoCgroupsError, open_cgroup
from tests.support.picture_folders import corpus_folder
from tests.support.workplace import STARTS, Workplace
from tests.support.worst_cases import WORST

MEMORY_MIB, CPUS = 512, 1
REFUSALS = {
    "corrupt_image",
    "decode_timeout",
    "source_too_large",
    "too_many_pixels",
    "too_much_memory",
    "unsupported_format",
}
# One of 100 megapixels takes minutes to encode, and is refused.
_SLOW_TO_MAKE = {"photo.heic": 20_000_000, "pq.heic": 40_000_000, "pq-alpha.heic": 30_000_000}
# What is refused for its size is tried again with so much of its pixels, until it is admitted.
_SMALLER = 0.7
_LEAST = 5_000_000
_CUT = "cut"
_RECIPES = f"""
[{_CUT}]
square = {{box = 1920, fit = "cover", crop = "attention"}}
small = {{box = 300, fit = "cover", crop = "entropy", subsampling = "4:4:4"}}
"""
_TIMEOUT_S = 1800.0


@dataclass
class Watch:
    """The most memory that the limited processes had at once, each page counted once."""

    peak_kib: int = 0

    @contextlib.contextmanager
    def over(self, cgroup: Cgroup) -> Iterator["Watch"]:
        """Sample the cgroup until the block ends."""
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.1):
                self.peak_kib = max(self.peak_kib, processes.proportional_kib(cgroup.pids()))

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            done.set()
            thread.join()


@contextlib.contextmanager
def limited_worker(place: Workplace, memory_mib: int = MEMORY_MIB, cpus: int = CPUS) -> Iterator[Cgroup]:
    """A worker with default settings in a cgroup. Raises: NoCgroupsError."""
    with open_cgroup(memory_mib, cpus) as cgroup:
        STARTS["limited"] = cgroup.inside(STARTS["media"])
        try:
            recipes = place.home / "recipes.toml"
            recipes.write_text(_RECIPES)
            place.start(
                "limited",
                MEDIA_CPUS=str(cpus),
                MEDIA_RECIPES=str(recipes),
                MEDIA_LEASE="15",
                MEDIA_RECONCILE_INTERVAL="15",
            )
            yield cgroup
        finally:
            place.close()


def push(
    place: Workplace, pictures: dict[str, Path], within: float = _TIMEOUT_S
) -> dict[str, dict[str, Any]]:
    """Announce these files all at once and give the last message about each."""
    for source, path in pictures.items():
        target = place.root / source
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    place.send_all({"source": source, "recipe": _recipe(source)} for source in pictures)
    return place.await_end_of(*pictures, within=within)


def _recipe(source: str) -> str:
    return _CUT if "panorama" in source else "default"


def outcome(answer: dict[str, Any]) -> str:
    """One word for a message."""
    return "ready" if answer["type"] == "upload.ready" else str(answer["error"]["code"])


def broken(place: Workplace, cgroup: Cgroup, ends: dict[str, dict[str, Any]]) -> list[str]:
    """What must not have happened."""
    found = [
        f"{source}: {outcome(answer)}: {answer['error']['message']}"
        for source, answer in ends.items()
        if outcome(answer) not in {"ready", *REFUSALS}
    ]
    if cgroup.kills:
        found.append(f"the kernel killed {cgroup.kills} processes for memory")
    if place.workers[0].process.poll() is not None:
        found.append(f"the worker ended: {place.workers[0].text[-2000:]}")
    return found


def main() -> int:
    """Run the campaign; 0 when nothing broke, and where no cgroup can be made."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.limits", description=__doc__)
    parser.add_argument("--pixels", type=int, default=100_000_000)
    parser.add_argument("--copies", type=int, default=8, help="of each, announced at once")
    parser.add_argument("--only", default="", help="only worst cases whose name contains this text")
    parser.add_argument("--cpus", type=int, default=CPUS, help="of the cgroup, and decoders at work at once")
    parser.add_argument("--corpus", type=Path, default=corpus_folder())
    asked = parser.parse_args()
    # Beside the checkout's other leavings: hard links from here into the storage root must be possible.
    Path("var").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="limits-", dir="var") as folder, temporary_redis() as redis:
        home = Path(folder).absolute()
        (home / "worst").mkdir()
        place = Workplace(home / "place", redis.url)
        try:
            with limited_worker(place, cpus=asked.cpus) as cgroup, Watch().over(cgroup) as watch:
                wrong = _campaign(place, cgroup, watch, home / "worst", asked)
        except NoCgroupsError as error:
            print(f"Skipped: {error}")
            return 0
    print(*wrong, sep="\n")
    print(f"{len(wrong)} things went wrong." if wrong else "All limits were kept.")
    return 1 if wrong else 0


def _campaign(
    place: Workplace, cgroup: Cgroup, watch: Watch, folder: Path, asked: argparse.Namespace
) -> list[str]:
    ends: dict[str, dict[str, Any]] = {}
    if asked.corpus is not None and not asked.only:
        files = [path for path in sorted(asked.corpus.rglob("*")) if path.is_file()]
        pictures = {f"uploads/corpus/{number}{path.suffix}": path for number, path in enumerate(files)}
        ends |= _round("the corpus", place, watch, _copied(pictures, place.home / "corpus"))
    worst = [name for name in WORST if asked.only in name]
    for name in worst:
        ends |= _down_to_what_is_admitted(name, place, watch, folder, asked)
    mixed = {f"uploads/mixed/{n}-{path.name}": path for n in range(2) for path in sorted(folder.iterdir())}
    ends |= _round("all of them at once", place, watch, mixed)
    wrong = broken(place, cgroup, ends)
    print(
        f"Peak: {watch.peak_kib / 1024:.0f} MiB in processes (PSS), {cgroup.peak_mib:.0f} MiB charged with "
        f"page cache, of {MEMORY_MIB}; {cgroup.kills} processes killed."
    )
    return wrong


def _round(name: str, place: Workplace, watch: Watch, pictures: dict[str, Path]) -> dict[str, dict[str, Any]]:
    began, watch.peak_kib, before = time.monotonic(), 0, watch.peak_kib
    ends = push(place, pictures)
    took, counts = time.monotonic() - began, Counter(outcome(answer) for answer in ends.values())
    said = ", ".join(f"{count} {what}" for what, count in counts.most_common())
    print(f"{name:24} {took:6.1f} s  {watch.peak_kib / 1024:4.0f} MiB  {said}", flush=True)
    watch.peak_kib = max(watch.peak_kib, before)
    return ends


def _down_to_what_is_admitted(
    name: str, place: Workplace, watch: Watch, folder: Path, asked: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Send that worst case, smaller and smaller, until it is admitted: that is where memory is tightest."""
    ends: dict[str, dict[str, Any]] = {}
    pixels = min(asked.pixels, _SLOW_TO_MAKE.get(name, asked.pixels))
    refused = True
    while refused and pixels >= min(_LEAST, asked.pixels):
        path = folder / f"{pixels // 1_000_000}-{name}"
        path.write_bytes(WORST[name](pixels))
        sources = {f"uploads/{path.name}/{n}": path for n in range(asked.copies)}
        answers = _round(path.name, place, watch, sources)
        refused = {outcome(answer) for answer in answers.values()} <= {"too_much_memory", "source_too_large"}
        ends |= answers
        pixels = int(pixels * _SMALLER)
    return ends


def _copied(pictures: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The same pictures where hard links to them can be made."""
    folder.mkdir()
    copies = {source: folder / uuid4().hex for source in pictures}
    for source, path in pictures.items():
        copies[source].write_bytes(path.read_bytes())
    return copies


if __name__ == "__main__":
    sys.exit(main())
