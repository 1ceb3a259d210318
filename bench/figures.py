"""The two charts of a run: who is how fast and how large, and where this worker's time goes."""

from collections.abc import Mapping, Sequence

from bench import chart
from bench.chart import Bar, Group
from bench.report import FLOOR, OURS, Summary

_CHILD = ("read", "hash", "probe", "decode", "resize", "encode")


def comparison(found: Sequence[Summary]) -> str:
    """Images per second on each number of cores, and peak memory on one."""
    cores = sorted({one.cores for one in found})
    groups = [
        Group(
            f"Images per second on {count} core{'s' * (count > 1)} (longer is better)",
            [
                Bar(
                    one.title,
                    one.undisturbed.median,
                    f"{one.undisturbed.median:.1f}",
                    _colour(one),
                    one.undisturbed.low,
                    one.undisturbed.high,
                )
                for one in found
                if one.cores == count
            ],
        )
        for count in cores
    ]
    memory = [
        Bar(one.title, one.peak / 1e6, f"{one.peak / 1e6:.0f} MB", _colour(one))
        for one in found
        if one.cores == cores[0]
    ]
    groups.append(Group(f"Peak memory, {cores[0]} core (shorter is better)", memory))
    return chart.bars(groups, "media-worker beside its peers")


def _colour(one: Summary) -> str:
    return {OURS: chart.OURS, FLOOR: chart.FLOOR}.get(one.title, chart.OTHER)


def stages(found: Sequence[Summary]) -> str:
    """The time of one picture on one core by stage, beside the libvips loop of the same run."""
    rows = []
    for one in found:
        if one.title == OURS:
            label = f"{one.title}, {one.cores} core{'s' * (one.cores > 1)}"
            rows.append((label, parts(one), f"{sum(parts(one).values()):.0f} ms"))
        elif one.title == FLOOR and one.cores == 1:
            whole = 1000 / one.undisturbed.median
            rows.append((one.title, {"libvips loop": whole}, f"{whole:.0f} ms"))
    return chart.stacked(rows, "Core time for one picture, ms")


def parts(one: Summary) -> Mapping[str, float]:
    """The core time of one picture by what it was spent on.

    The decoder's stages are its own measurements, brought to the CPU time that it really had: on a
    shared core its clock runs while others work.
    """
    child = {name: one.stages.get(name, 0.0) for name in _CHILD}
    spent = one.cpu.get("worker: children", 0.0)
    scale = spent / (sum(child.values()) or 1)
    known = {name: ms * scale for name, ms in child.items()}
    known["publish, catalog, queue"] = one.cpu.get("worker", 0.0)
    known["redis"] = one.cpu.get("redis", 0.0)
    known["idle"] = max(0.0, 1000 * one.cores / one.undisturbed.median - sum(known.values()))
    return known
