"""The tables of a run, for people and for programs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.compare import Measured
from bench.goals import goal_table, goals
from bench.summaries import FLOOR, OURS, Summary, cores_of, summarise, times, title_of
from worker.amounts import counted

_BUSY = 0.15
"""What others take while a contender waits is taken off as well: the more, the less the rates are true."""


def markdown(measured: Measured, machine: Mapping[str, str], more: Sequence[str] = ()) -> str:
    """Tables of each class, `more` of them, the goals, and where it was measured."""
    found = summarise(measured.rounds)
    parts = ["<!-- made by `make bench` -->", *_each_class(found, _table), *more]
    if reached := goals(found):
        parts.append(goal_table(reached))
    parts += [f"Not measured: {line}" for line in measured.missing]
    parts.append(_where(measured, machine))
    return "\n\n".join(parts) + "\n"


def for_readme(measured: Measured, machine: Mapping[str, str]) -> Sequence[str]:
    """The lines of the README's part: a short table of each class, and where they were measured."""
    parts = [*_each_class(summarise(measured.rounds), _short_table), _where(measured, machine)]
    return "\n\n".join(parts).splitlines()


def for_goals(measured: Measured) -> Sequence[str]:
    """The lines of a page that tell what was reached."""
    return goal_table(goals(summarise(measured.rounds))).splitlines()


def _each_class(found: Sequence[Summary], table: Callable[[Sequence[Summary]], str]) -> Iterator[str]:
    for name in dict.fromkeys(one.picture_class for one in found):
        yield f"{title_of(name)}:"
        yield table([one for one in found if one.picture_class == name])


def _table(found: Sequence[Summary]) -> str:
    """A row for each contender and number of cores."""
    floors = {one.cores: one for one in found if one.title == FLOOR}
    waited = any(one.singles for one in found)
    rows = [
        "| | cores | images/s | of the libvips loop | CPU ms an image | KB of variants | peak memory |"
        + (" one upload when idle, p50 / p95 / p99 |" if waited else ""),
        "|---|---:|---:|---:|---:|---:|---:|" + ("---:|" if waited else ""),
    ]
    for one in found:
        last = f" {_waited(one)} |" if waited else ""
        rows.append(
            f"| {_name(one)} | {one.cores} | {_rate(one)} | {_part(one, floors)} | {_ms(one.cpu_ms)} "
            f"| {_kb(one)} | {one.peak / 1e6:.0f} MB |{last}"
        )
    return "\n".join(rows)


def _short_table(found: Sequence[Summary]) -> str:
    """A row for each contender, with what it does on each number of cores."""
    counts = sorted({one.cores for one in found})
    floors = {one.cores: one for one in found if one.title == FLOOR}
    waited = any(one.singles for one in found)
    head = [
        "",
        *(cell for count in counts for cell in (f"images/s, {cores_of(count)}", "of the loop")),
        *(f"CPU ms, {cores_of(counts[0])}", "KB of variants", "peak memory"),
        *(["one when idle, p50 / p95 / p99"] if waited else []),
    ]
    rows = [_row(head).replace("|  |", "| |"), "|---" + "|---:" * (len(head) - 1) + "|"]
    for title in dict.fromkeys(one.title for one in found):
        on = {one.cores: one for one in found if one.title == title}
        first = on[min(on)]
        rates = [
            cell
            for count in counts
            for cell in ((_rate(on[count]), _part(on[count], floors)) if count in on else ("", ""))
        ]
        peaks = " / ".join(f"{on[count].peak / 1e6:.0f}" for count in counts if count in on)
        cells = [_name(first), *rates, _ms(first.cpu_ms), _kb(first), f"{peaks} MB"]
        rows.append(_row([*cells, *([_waited(first)] if waited else [])]))
    return "\n".join(rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _name(one: Summary) -> str:
    return f"**{one.title}**" if one.title == OURS else one.title


def _rate(one: Summary) -> str:
    spread = f" ± {one.undisturbed.percent:.0f} %" if one.undisturbed.count > 1 else ""
    return f"{one.undisturbed.median:.1f}{spread}"


def _part(one: Summary, floors: Mapping[int, Summary]) -> str:
    return f"{times(one, floors[one.cores]):.2f}" if one.cores in floors else ""


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 30 else f"{value:.0f}"


def _kb(one: Summary) -> str:
    size = one.variant_bytes / 1000
    return f"{size:.1f}" if size < 100 else f"{size:.0f}"


def _waited(one: Summary) -> str:
    return " / ".join(f"{ms:.0f}" for ms in one.singles) + " ms" if one.singles else ""


def _where(measured: Measured, machine: Mapping[str, str]) -> str:
    found = summarise(measured.rounds)
    rounds = min(one.rate.count for one in found)
    others = max(one.others for one in found)
    described = ", ".join(f"{name} {value}" for name, value in machine.items())
    busy = " A machine as busy as that proves little." if others > _BUSY else ""
    minutes = f" in {counted(max(1, round(measured.seconds / 60)), 'minute')}" if measured.seconds else ""
    counted_rounds = (
        f"One round{minutes}, too few to prove anything"
        if rounds == 1
        else f"Medians of {rounds} interleaved rounds{minutes}, ± half of their range"
    )
    return (
        f"{counted_rounds}; everybody, its children "
        f"and its Redis pinned to the same cores. Other programs took up to {others:.0%} of their time, "
        f"which is taken off.{busy} Memory is that of all its processes but Redis (PSS). "
        f"Measured on: {described}."
    )


def as_json(measured: Measured, machine: Mapping[str, str]) -> dict[str, Any]:
    """All of it, for programs."""
    return {
        "machine": dict(machine),
        "missing": list(measured.missing),
        "seconds": measured.seconds,
        "rounds": [one.as_json() for one in measured.rounds],
        "goals": [{**asdict(one), "met": one.met} for one in goals(summarise(measured.rounds))],
    }
