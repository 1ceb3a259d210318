"""Pushes broken pictures through the whole sandbox; each must end in variants or an error code, in time.

python -m tests.campaigns.fuzz [--inputs N] [--seed N] [--first N] [--kind KIND] [--corpus DIR] ...

Every second one is a mutant of a good picture, the others are built from the structure of their format.

What kills or hangs a decoder is saved in var/crashers. The tests run what lies in tests/pictures/crashers.
"""

# ruff: noqa: T201 (a program that prints what it finds)

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from pipelines.allowance import Allowance
from pipelines.errors import DecoderCrashed, DecoderFailed, DecodeTimeout, PictureRefused
from pipelines.formats import MIB
from pipelines.recipe import BUILT_IN
from pipelines.sandbox import Sandbox, open_sandbox
from tests.campaigns.limits import REFUSALS
from tests.support.mutations import LARGEST, mutant, own_pictures
from tests.support.picture_folders import picture_folders
from tests.support.sandboxes import descriptor
from tests.support.structures import structured

CRASHERS = Path(__file__).parents[1] / "pictures" / "crashers"
AT_ONCE = 2
_SAVED = 256 * 1024  # bytes of the largest crasher that is kept as a test


@dataclass
class FuzzReport:
    """What came of a campaign."""

    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    largest: tuple[int, str] = (0, "")
    bad: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def inputs(self) -> int:
        return sum(self.outcomes.values())


def allowance(decoders: int = AT_ONCE, seconds: float = 20) -> Allowance:
    """What a worker allows by default."""
    return Allowance(decoders, 512 * MIB, 10 * MIB, 100_000_000, seconds)


async def fuzz(sandbox: Sandbox, mutants: Iterator[tuple[str, bytes]], found: FuzzReport) -> None:
    """Push every mutant through, as many at a time as there are decoders."""

    async def lane() -> None:
        for name, content in mutants:
            began = time.monotonic()
            word = await outcome(sandbox, content)
            found.outcomes[word] += 1
            found.slowest = max(found.slowest, (time.monotonic() - began, f"{name} {word}"))
            if word not in {"ready", *REFUSALS} or word == "decode_timeout":
                found.bad.append((f"{name} {word}", content))

    watching = asyncio.create_task(_watch(sandbox, found))
    await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
    watching.cancel()


async def outcome(sandbox: Sandbox, content: bytes) -> str:
    """One word for what becomes of that content."""
    wanted = BUILT_IN["default"].variants
    try:
        with descriptor(content) as source:
            made = await sandbox.render(source, len(content), wanted, None)
    except PictureRefused as error:
        raised = getattr(
            error, "__notes__", []
        )  # by our own code: such a picture is refused, and a bug all the same
        return f"{error.code}: {raised[0].splitlines()[-1]}" if raised else error.code
    except DecodeTimeout:
        return "decode_timeout"
    except (DecoderCrashed, DecoderFailed) as error:
        return f"{type(error).__name__}: {error}"
    return "ready" if made is not None else "nothing"


async def _watch(sandbox: Sandbox, found: FuzzReport) -> None:
    while True:
        found.largest = max(found.largest, (sandbox.pool.growth() // MIB, f"after {found.inputs}"))
        await asyncio.sleep(0.02)


def originals(folders: Sequence[Path]) -> list[bytes]:
    """What is mutated: the pictures of these folders, and as many times the project's own, of every kind."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    small = (path for path in files if path.suffix != ".json" and 0 < path.stat().st_size <= LARGEST)
    others = [path.read_bytes() for path in small]
    own = own_pictures()
    return [*own * max(1, len(others) // len(own)), *others]


def inputs(
    seed: int, numbers: Iterable[int], kind: str, pictures: Sequence[bytes]
) -> Iterator[tuple[str, bytes]]:
    """The inputs of these numbers with their names; of `both` kinds they take turns."""
    for number in numbers:
        is_mutant = kind == "mutants" or (kind == "both" and number % 2 == 0)
        made = mutant(seed, number, pictures) if is_mutant else structured(seed, number // 2)
        yield f"{seed}/{number}", made


def main() -> int:
    """Run the campaign; 0 when every input ended as it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--kind", choices=("both", "mutants", "structures"), default="both")
    parser.add_argument("--corpus", type=Path, action="append", help="a folder of pictures; may be repeated")
    parser.add_argument("--crashers", type=Path, default=Path("var/crashers"))
    asked = parser.parse_args()
    pictures, found = originals(asked.corpus or picture_folders()), FuzzReport()
    print(f"Seed {asked.seed}, {asked.inputs} inputs ({asked.kind}), {len(pictures)} pictures", flush=True)
    numbers = range(asked.first, asked.first + asked.inputs)
    began = time.monotonic()
    asyncio.run(_run(inputs(asked.seed, numbers, asked.kind, pictures), found))
    _print(found, time.monotonic() - began)
    for name, content in found.bad:
        _save(name, content, asked.crashers)
    return 1 if found.bad else 0


async def _run(mutants: Iterator[tuple[str, bytes]], found: FuzzReport) -> None:
    async with open_sandbox(allowance()) as sandbox:
        await fuzz(sandbox, mutants, found)


def _print(found: FuzzReport, took: float) -> None:
    for word, count in found.outcomes.most_common():
        print(f"{count:7} {word}")
    print(f"slowest {found.slowest[0]:.1f} s: {found.slowest[1]}; largest growth {found.largest[0]} MiB")
    print(f"{found.inputs} inputs in {took:.0f} s, {len(found.bad)} ended as none may")


def _save(name: str, content: bytes, folder: Path) -> None:
    print(f"{name}: {len(content)} bytes")
    if len(content) <= _SAVED:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / sha256(content).hexdigest()[:16]).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
