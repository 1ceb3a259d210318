"""The two charts of a run: who is how fast and how large, and where this worker's time goes."""

from collections.abc import Mapping, Sequence

from bench import chart
from bench.chart import Bar, Group
from bench.summaries import FLOOR, OURS, Summary, cores_of, title_of

_CHILD = ("read", "hash", "probe", "decode", "resize", "encode")
_IDLE = "idle"


def comparison(found: Sequence[Summary]) -> str:
    """Images per second of each class on one core, of photos on more, and the peak memory with these."""
    photos = found[0].picture_class
    groups = [
        _rates(alike)
        for (name, cores), alike in _grouped(found).items()
        if name == photos or cores == min(one.cores for one in found)
    ]
    first = next(iter(_grouped(found).values()))
    memory = [Bar(one.title, one.peak / 1e6, f"{one.peak / 1e6:.0f} MB", _colour(one)) for one in first]
    title = f"Peak memory with these, {cores_of(first[0].cores)} (shorter is better)"
    groups.insert(len({one.cores for one in found}), Group(title, memory))
    return chart.bars(groups, "media-worker beside its peers")


def _grouped(found: Sequence[Summary]) -> Mapping[tuple[str, int], Sequence[Summary]]:
    groups: dict[tuple[str, int], list[Summary]] = {}
    for one in found:
        groups.setdefault((one.picture_class, one.cores), []).append(one)
    return groups


def _rates(alike: Sequence[Summary]) -> Group:
    bars = [
        Bar(
            one.title,
            one.undisturbed.median,
            f"{one.undisturbed.median:.1f}",
            _colour(one),
            one.undisturbed.low,
            one.undisturbed.high,
        )
        for one in alike
    ]
    name = title_of(alike[0].picture_class)
    return Group(f"{name}: images per second, {cores_of(alike[0].cores)} (longer is better)", bars)


def _colour(one: Summary) -> str:
    return {OURS: chart.OURS, FLOOR: chart.FLOOR}.get(one.title, chart.OTHER)


def stages(found: Sequence[Summary], name: str) -> str | None:
    """The time of one picture of that class by stage, beside the libvips loop; None: it was not measured."""
    rows = []
    for one in found:
        if one.picture_class != name:
            continue
        if one.title == OURS:
            label = f"{one.title}, {cores_of(one.cores)}"
            rows.append((label, parts(one), _ms(sum(parts(one).values()))))
        elif one.title == FLOOR and one.cores == 1:
            whole = 1000 / one.undisturbed.median
            rows.append((one.title, {"libvips loop": whole}, _ms(whole)))
    return chart.stacked(rows, f"{title_of(name)}: core time for one, ms") if rows else None


def stage_table(found: Sequence[Summary], name: str) -> str:
    """The CPU time of one picture of that class on one core by what it was spent on, for people."""
    on_one = {one.title: one for one in found if (one.picture_class, one.cores) == (name, 1)}
    ours, floor = on_one.get(OURS), on_one.get(FLOOR)
    if ours is None:
        return ""
    spent = {key: value for key, value in parts(ours).items() if key != _IDLE}
    rows = [
        f"| {title_of(name)} | ms |",
        "|---|---:|",
        *(f"| {key} | {value:.1f} |" for key, value in spent.items()),
        f"| total | {sum(spent.values()):.1f} |",
        *([f"| the libvips loop in the same run | {floor.cpu_ms:.1f} |"] if floor else []),
    ]
    return "\n".join(rows)


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 30 else f"{value:.1f} ms"


def parts(one: Summary) -> Mapping[str, float]:
    """The core time of one picture by what it was spent on.

    The decoder's stages are its own measurements, brought to the CPU time that it really had: on a
    shared core its clock runs while others work. The worker's own time is told apart from what the kernel
    has spent for it.
    """
    child = {name: one.stages.get(name, 0.0) for name in _CHILD}
    spent = one.cpu.get("worker: children", 0.0)
    scale = spent / (sum(child.values()) or 1)
    known = {name: ms * scale for name, ms in child.items()}
    kernel = one.kernel.get("worker", 0.0)
    known["publish, catalog, queue"] = one.cpu.get("worker", 0.0) - kernel
    known["kernel: files, sockets"] = kernel
    known["redis"] = one.cpu.get("redis", 0.0)
    known[_IDLE] = max(0.0, 1000 * one.cores / one.undisturbed.median - sum(known.values()))
    return known
