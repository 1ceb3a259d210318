"""Measures what the costliest pictures known take of a decoder's CPU time, each format's in a table.

python -m tests.campaigns.costs [--only TEXT] [--write]

--write puts the table into docs/security.md. A picture may take 3 CPU seconds, one below 100 kB one second;
what takes more is told.
"""

# ruff: noqa: T201 (a program that prints what it finds)

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines import formats
from pipelines.accounts import Meter
from pipelines.errors import DecodeTimeout, PictureRefused
from pipelines.recipe import BUILT_IN
from pipelines.sandbox import Sandbox, open_sandbox
from tests.campaigns.fuzz import allowance
from tests.support.costly_pictures import COSTLY
from tests.support.sandboxes import descriptor

SMALL, MOST_OF_SMALL_S, MOST_S = 100_000, 1.0, 3.0
# An AVIF of few colours in high dynamic range is small, and nobody has found out how to tell it from a bomb.
_HONEST = {"AVIF: PQ with opacity, 16 MP": 2.0}
_PAGE = Path(__file__).parents[2] / "docs" / "security.md"
_BEGIN, _END = "<!-- costs -->\n", "<!-- end of costs -->"


@dataclass(frozen=True)
class Cost:
    """What one picture took."""

    name: str
    bytes: int
    cpu_s: float
    ends: str

    @property
    def format(self) -> str:
        return self.name.partition(":")[0]

    @property
    def is_too_much(self) -> bool:
        most = MOST_OF_SMALL_S if self.bytes < SMALL else MOST_S
        return self.cpu_s > _HONEST.get(self.name, most)


async def measure(sandbox: Sandbox, name: str, make: Callable[[], bytes]) -> Cost:
    """Push it through, as a worker would with default settings."""
    content, meter = await asyncio.to_thread(make), Meter()
    known = formats.sniff(content[: formats.HEAD])
    assert known is not None
    await sandbox.hello(known.engine)  # a decoder's start is no picture's cost
    try:
        with descriptor(content) as source:
            await sandbox.render(source, len(content), BUILT_IN["default"].variants, None, meter=meter)
        ends = "ready"
    except PictureRefused as refused:
        ends = refused.code
    except DecodeTimeout as late:
        ends = late.code
    return Cost(name, len(content), meter.cpu_s, ends)


def table(costs: Iterable[Cost]) -> str:
    """For each format the costliest, those below 100 kB apart."""
    rows = ["| format | costliest found | bytes | CPU s | ends |", "|---|---|---:|---:|---|"]
    groups: dict[tuple[str, bool], list[Cost]] = {}
    for cost in costs:
        groups.setdefault((cost.format, cost.bytes >= SMALL), []).append(cost)
    for (name, _), found in sorted(groups.items()):
        worst = max(found, key=lambda cost: cost.cpu_s)
        what = worst.name.partition(": ")[2]
        rows.append(f"| {name} | {what} | {worst.bytes:,} | {worst.cpu_s:.1f} | `{worst.ends}` |")
    return "\n".join(rows) + "\n"


async def _run(names: Iterable[str]) -> list[Cost]:
    found = []
    async with open_sandbox(allowance(1)) as sandbox:
        for name in names:
            found.append(cost := await measure(sandbox, name, COSTLY[name]))
            print(f"{cost.cpu_s:6.2f} s {cost.bytes:9} bytes  {name}: {cost.ends}", flush=True)
    return found


def main() -> int:
    """Run the campaign; 0 when none took more than it may."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.costs", description=__doc__)
    parser.add_argument("--only", default="", help="only pictures whose name contains this text")
    parser.add_argument("--write", action="store_true", help="put the table into docs/security.md")
    asked = parser.parse_args()
    costs = asyncio.run(_run([name for name in COSTLY if asked.only in name]))
    print(table(costs))
    if asked.write:
        before, rest = _PAGE.read_text().split(_BEGIN)
        _PAGE.write_text(f"{before}{_BEGIN}{table(costs)}{_END}{rest.partition(_END)[2]}")
    dear = [cost for cost in costs if cost.is_too_much]
    for cost in dear:
        print(f"{cost.name} took {cost.cpu_s:.1f} s for {cost.bytes} bytes")
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())
