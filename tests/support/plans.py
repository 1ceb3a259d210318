"""Plans of sweeps, written as a sweep writes them, and how their commands are shown."""

from collections.abc import Sequence

from pipelines.sweep.findings import Discrepancy, Kind, StepResult
from pipelines.sweep.plan import Draft, Plan, finish, write_down
from storage.blobs import Put
from storage.totals import Count
from tests.support.console_page import Element

MIDNIGHT = 1_800_000_000.0  # s since 1970


async def written_plan(
    blobs: Put, *parts: Sequence[Discrepancy], at: float = MIDNIGHT, files: int = 500, rows: int = 490
) -> Plan:
    """A plan that found all that, when so many files and rows were compared."""
    draft = Draft.new(at)
    for part in parts:
        draft = await write_down(draft, StepResult(part, "to be continued"), blobs)
    seen = {"variants": Count(files, 5000), "rows": Count(rows, 4900)}
    return await finish(await write_down(draft, StepResult([], None, seen), blobs), at, blobs)


def found(kind: Kind, *keys: str, size: int = 10) -> Sequence[Discrepancy]:
    """Findings of one kind, each with so many bytes."""
    return [Discrepancy(kind, key, size) for key in keys]


def commands_on(page: Element) -> Sequence[str]:
    """The commands that a page shows to be copied."""
    return [
        button.attributes["data-copy"] for button in page.all("button") if "data-copy" in button.attributes
    ]
