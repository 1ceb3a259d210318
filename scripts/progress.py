"""A progress bar on standard error: how many are done, how many failed, the rate and what time remains."""

from typing import Self

from rich import progress as bars
from rich.text import Text

from scripts.terminal import errors


class _Rate(bars.ProgressColumn):
    def render(self, task: bars.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="cyan")


class Progress:
    """A bar of `total` steps (None: unknown); on anything but a terminal it stays silent."""

    def __init__(self, what: str, total: int | None) -> None:
        self._failed = 0
        self._bars = bars.Progress(
            bars.BarColumn(bar_width=None),
            bars.MofNCompleteColumn(),
            bars.TextColumn(what),
            bars.TextColumn("[red]{task.fields[failed]}[/red]"),
            _Rate(),
            bars.TimeRemainingColumn(),
            console=errors,
            disable=not errors.is_terminal,
        )
        self._task = self._bars.add_task(what, total=total, failed="")

    def advance(self, steps: int = 1, *, failed: bool = False) -> None:
        """One more is done, or several."""
        self._failed += failed
        self._bars.update(self._task, advance=steps, failed=f"{self._failed} failed" if self._failed else "")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()
