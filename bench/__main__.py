"""`python -m bench`: measure this worker, its peers and the bare libvips loop side by side.

`python -m bench scale` measures uploads in large catalogs and behind long queues, `python -m bench load` how
long they take under a load, `python -m bench http` what the HTTP server answers beside a worker at full load,
`python -m bench stores` what uploads cost with Postgres and S3, `python -m bench writers` how many commits
several workers make on Postgres, `python -m bench budget` the instructions of a decode and of an upload,
`python -m bench quality` the bytes of variants beside their likeness.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench import (
    budget,
    classes,
    compare,
    contenders,
    figures,
    http,
    load,
    machine,
    photos,
    quality,
    report,
    scale,
    stores,
    summaries,
    writers,
)
from scripts import readme

_HERE = Path(__file__).parent
_RESULTS = _HERE / "results"
_DOCS = _HERE.parent / "docs"
_WHAT = (
    "Measure this worker, its peers and the bare libvips loop side by side. "
    "See also: scale, load, http, stores, writers, budget, quality."
)
_STAGES = {classes.PHOTOS: "bench-stages.svg", classes.SMALL: "bench-stages-small.svg"}
_ALONE = (contenders.MediaWorker, contenders.Floor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 0 when it could be measured, 1 when somebody failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    commands = {
        "scale": _scale,
        "load": _load,
        "http": _http,
        "stores": _stores,
        "writers": _writers,
        "budget": _budget,
        "quality": _quality,
    }
    try:
        if arguments and arguments[0] in commands:
            return commands[arguments[0]](arguments[1:])
        return _compare(arguments)
    except contenders.BenchError as error:
        compare.say(str(error))
        return 1


def _compare(arguments: Sequence[str]) -> int:
    asked = _parser().parse_args(arguments)
    options = compare.Options(
        folder=asked.photos,
        kinds=_ALONE if asked.no_peers else contenders.ALL,
        cores=_cores(asked.cores),
        classes=asked.classes or ([classes.PHOTOS] if asked.quick else list(classes.CLASSES)),
        count=asked.rounds or (1 if asked.quick else 5),
        seconds=asked.seconds or (0.5 if asked.quick else None),
        is_quick=asked.quick,
        minutes=asked.minutes,
        work=asked.work or compare.Options().work,
    )
    measured = compare.run(options)
    where = machine.describe()
    stages = _stage_tables(measured)
    table = report.markdown(measured, where, stages)
    _save(asked.into, json.dumps(report.as_json(measured, where), indent=1), table, measured)
    if asked.docs:
        _illustrate(_DOCS, measured)
        _write_part(readme.README, "bench", report.for_readme(measured, where))
        _write_part(_DOCS / "performance.md", "goals", report.for_goals(measured))
        _write_part(_DOCS / "performance.md", "stages", "\n\n".join(stages).splitlines())
    sys.stdout.write(table)
    return 0


def _scale(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench scale", description=scale.__doc__)
    parser.add_argument("--catalog", choices=(scale.SQLITE, scale.POSTGRES), default=scale.SQLITE)
    parser.add_argument("--rows", type=int, nargs="*", default=scale.ROWS, help="rows in the catalog")
    parser.add_argument("--depths", type=int, nargs="*", default=scale.DEPTHS, help="events in the stream")
    parser.add_argument("--uploads", type=int, default=scale.UPLOADS, help="uploads to measure")
    asked = parser.parse_args(arguments)
    (cores,) = _cores([1])
    sys.stdout.write(scale.table(scale.run(cores, asked.rows, asked.depths, asked.uploads, asked.catalog)))
    return 0


def _load(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench load", description=load.__doc__)
    parser.add_argument("--profile", choices=load.PROFILES, default="smoke")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="a folder of JPEGs")
    parser.add_argument("--cores", type=int, default=1, help="how many cores")
    parser.add_argument("--seconds", type=float, help="another time than the profile's")
    asked = parser.parse_args(arguments)
    (cores,) = _cores([asked.cores])
    sys.stdout.write(load.main(asked.profile, asked.photos, cores, asked.seconds))
    return 0


def _http(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench http", description=http.__doc__)
    parser.add_argument("--only", choices=http.PARTS, nargs="+", default=(), help="these parts alone")
    parser.add_argument("--quick", action="store_true", help="little of each: figures that prove nothing")
    parser.add_argument("--rows", type=int, help="uploads in the catalog for statuses and lists")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="a folder of JPEGs")
    asked = parser.parse_args(arguments)
    options = http.Options.quick() if asked.quick else http.Options()
    options = replace(options, photos=asked.photos, rows=asked.rows or options.rows)
    (cores,) = _cores([1])
    found = http.run(options, asked.only, cores)
    sys.stdout.write(http.table(found))
    return 0 if all(figure.is_kept for figure in found) else 1


def _stores(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench stores", description=stores.__doc__)
    parser.add_argument("--photos", type=Path, metavar="DIR", help="a folder of JPEGs")
    parser.add_argument("--pairs", type=int, default=stores.Options.pairs, help="rounds for each")
    parser.add_argument("--passes", type=int, default=stores.Options.passes, help="how often all photos")
    parser.add_argument("--small", type=int, default=stores.Options.small, help="small pictures in a round")
    parser.add_argument("--each", action="store_true", help="also Postgres + files, and SQLite + S3")
    asked = parser.parse_args(arguments)
    there = sorted(os.sched_getaffinity(0))
    options = stores.Options(asked.photos, asked.pairs, asked.passes, asked.small, asked.each)
    sys.stdout.write(stores.table(stores.run(options, there[:1], there[1:] or there)))
    return 0


def _writers(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench writers", description=writers.__doc__)
    default = writers.Options()
    parser.add_argument("--trips", type=float, nargs="+", default=default.trips_ms, metavar="MS")
    parser.add_argument("--writers", type=int, nargs="+", default=default.writers)
    parser.add_argument(
        "--seconds", type=float, default=default.seconds, help="how long each number of writers is at work"
    )
    parser.add_argument("--rounds", type=int, default=default.rounds, help="rounds for each")
    parser.add_argument(
        "--share", type=float, default=default.share, help="the part of a core of a writer; 0: all there is"
    )
    asked = parser.parse_args(arguments)
    share = asked.share or None
    options = writers.Options(asked.trips, asked.writers, asked.seconds, asked.rounds, share=share)
    found = writers.run(options)
    sys.stdout.write(writers.table(found))
    return 0


def _budget(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench budget", description=budget.__doc__)
    parser.add_argument("--write", action="store_true", help="make what is measured the budget")
    asked = parser.parse_args(arguments)
    found = budget.check()
    sys.stdout.write("".join(f"{finding}\n" for finding in found))
    if asked.write:
        budget.write(found)
        return 0
    return 0 if all(finding.is_kept for finding in found) else 1


def _quality(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench quality", description=quality.__doc__)
    parser.add_argument("--photos", type=Path, metavar="DIR", help="a folder of JPEGs")
    parser.add_argument("--quality", type=int, default=80, help="of the variants; 80 by default")
    asked = parser.parse_args(arguments)
    table, kept = quality.main(photos.find(asked.photos), asked.quality)
    sys.stdout.write(table)
    return 0 if kept else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=_WHAT)
    parser.add_argument("--photos", type=Path, metavar="DIR", help="a folder of JPEGs")
    parser.add_argument(
        "--classes", choices=list(classes.CLASSES), nargs="+", help="which pictures; all by default"
    )
    parser.add_argument("--rounds", type=int, help="rounds for each; 5 by default")
    parser.add_argument(
        "--seconds", type=float, help="about how long a round of each takes; 2.5 to 4 by default, by class"
    )
    parser.add_argument(
        "--minutes", type=float, default=30, help="the longest that it takes: then with fewer rounds"
    )
    parser.add_argument(
        "--cores", type=int, nargs="+", default=[1, 2], help="how many cores; 1 and 2 by default"
    )
    parser.add_argument("--no-peers", action="store_true", help="only this worker and the libvips loop")
    parser.add_argument("--quick", action="store_true", help="one short round, of photos alone by default")
    parser.add_argument(
        "--docs", action="store_true", help="write charts and tables to docs/ and README.md too"
    )
    parser.add_argument("--into", type=Path, default=_RESULTS, help="where results go")
    parser.add_argument("--work", type=Path, help="where storage, catalog and Redis live meanwhile")
    return parser


def _cores(counts: Sequence[int]) -> Sequence[Sequence[int]]:
    there = sorted(os.sched_getaffinity(0))
    return [there[:count] for count in counts if count <= len(there)]


def _write_part(page: Path, name: str, lines: Sequence[str]) -> None:
    page.write_text(readme.with_part(page.read_text("utf-8"), name, lines), "utf-8")


def _save(into: Path, document: str, table: str, measured: compare.Measured) -> None:
    into.mkdir(parents=True, exist_ok=True)
    name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S")
    (into / f"{name}.json").write_text(document)
    (into / f"{name}.md").write_text(table)
    _illustrate(into, measured)


def _stage_tables(measured: compare.Measured) -> Sequence[str]:
    found = summaries.summarise(measured.rounds)
    return [table for name in _STAGES if (table := figures.stage_table(found, name))]


def _illustrate(folder: Path, measured: compare.Measured) -> None:
    found = summaries.summarise(measured.rounds)
    (folder / "bench.svg").write_text(figures.comparison(found))
    for name, file in _STAGES.items():
        if chart := figures.stages(found, name):
            (folder / file).write_text(chart)


if __name__ == "__main__":
    sys.exit(main())
