"""What an upload costs with its catalog in Postgres and its files in a bucket, beside SQLite and a folder."""

import asyncio
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import obstore
from obstore.store import S3Store

from bench import photos, rounds
from bench.compare import say, turned
from bench.contenders import MediaWorker, Place, Start
from bench.filling import new_database
from bench.goals import Goal, goal_table
from bench.processes import pinned
from bench.rounds import Plan, Round
from bench.statistics import spread
from scripts.postgres_server import PostgresServer, temporary_postgres
from scripts.redis_server import temporary_redis
from scripts.s3_server import BUCKET, S3Server, temporary_seaweedfs

LOCAL, SERVERS = "SQLite + files", "Postgres + S3"
PHOTOS, SMALL = "photos", "small"
MOST_TIMES = {PHOTOS: 1.10, SMALL: 1.25}
MOST_MB = 15
_PUTS_AT_ONCE = 8


@dataclass(frozen=True)
class Options:
    """What to measure: so many pairs of rounds; `each` store alone beside the other's default, too."""

    folder: Path | None = None
    pairs: int = 4
    passes: int = 4
    small: int = 600
    each: bool = False


class Stored(MediaWorker):
    """The worker on that Postgres and that S3; where there is none, on SQLite or files."""

    def __init__(self, place: Place, postgres: PostgresServer | None, s3: S3Server | None) -> None:
        names = "SQLite" if postgres is None else "Postgres", "files" if s3 is None else "S3"
        self.title = " + ".join(names)
        self._postgres = postgres
        self._s3 = s3
        self._bucket = s3 and bucket(s3, place.home.name)
        super().__init__(place)

    def stores(self) -> Mapping[str, str]:
        """A new database, and a prefix of the bucket."""
        name = self.place.home.name
        found = dict(super().stores())
        if self._postgres:
            found["MEDIA_CATALOG_URL"] = asyncio.run(new_database(self._postgres, name))
        if self._s3:
            found |= {**self._s3.env, "MEDIA_STORAGE_URL": f"s3://{BUCKET}/{name}"}
        return found

    def servers(self) -> Mapping[str, int]:
        """Those that it uses."""
        there = {"Postgres": self._postgres, "S3": self._s3}
        return {name: server.pid for name, server in there.items() if server}

    def supply(self, files: Sequence[Path]) -> int:
        """Put the originals into the bucket, as apps would."""
        if not self._bucket:
            return 0
        with ThreadPoolExecutor(_PUTS_AT_ONCE) as pool:
            return len(list(pool.map(partial(self._put_object, self._bucket), files)))

    def _put_object(self, bucket: S3Store, file: Path) -> None:
        obstore.put(bucket, str(file.relative_to(self.place.root)), file.read_bytes())

    def made(self) -> Sequence[int]:
        if not self._bucket:
            return super().made()
        return [meta["size"] for page in obstore.list(self._bucket, "variants") for meta in page]


def bucket(server: S3Server, prefix: str) -> S3Store:
    """A client of a prefix of the server's bucket."""
    return S3Store(
        BUCKET,
        prefix=prefix,
        endpoint=server.endpoint,
        access_key_id=server.env["AWS_ACCESS_KEY_ID"],
        secret_access_key=server.env["AWS_SECRET_ACCESS_KEY"],
        region=server.env["AWS_REGION"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


Measured = Mapping[str, Sequence[Round]]
"""The rounds on each kind of pictures, interleaved."""


def run(options: Options, cores: Sequence[int], apart: Collection[int]) -> Measured:
    """Measure: the worker and its Redis on `cores`, the other servers on `apart`. Raises: BenchError."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
    ):
        work = Path(folder)
        large = photos.copied(photos.find(options.folder), work / "photos")
        little = photos.small(large, options.small, work / "small")
        with pinned(apart):
            postgres = stack.enter_context(temporary_postgres())
            s3 = stack.enter_context(temporary_seaweedfs())
        with pinned(cores):
            redis = stack.enter_context(temporary_redis())
        starts = _starts(postgres, s3, each=options.each)
        kinds = {
            PHOTOS: (large, Plan(cores, 0, passes=options.passes, work=work)),
            SMALL: (little, Plan(cores, 0, passes=1, work=work)),
        }
        found: dict[str, list[Round]] = {kind: [] for kind in kinds}
        for number in range(options.pairs):
            for kind, (pictures, plan) in kinds.items():
                for start in turned(starts, number):
                    found[kind].append(_said(rounds.run(start, pictures, redis, plan), kind))
        return found


def _starts(postgres: PostgresServer, s3: S3Server, *, each: bool) -> Sequence[Start]:
    chosen = [(None, None), (postgres, s3), *([(postgres, None), (None, s3)] if each else [])]
    return [partial(Stored, postgres=one, s3=other) for one, other in chosen]


def _said(found: Round, kind: str) -> Round:
    say(
        f"{kind:>6}: {found.title:<16} {found.tree_ms:6.1f} CPU ms, {found.peak / 1e6:4.0f} MB, "
        f"{found.rate:5.1f}/s, others took {found.others:.0%}"
    )
    return found


def goals(found: Measured) -> Sequence[Goal]:
    """How many times the cost of local stores an upload may have, and how much more memory."""
    return [goal for kind, rounds_of in found.items() for goal in _goals(kind, rounds_of)]


def _goals(kind: str, found: Sequence[Round]) -> Iterator[Goal]:
    local, servers = ([one for one in found if one.title == title] for title in (LOCAL, SERVERS))
    pairs = list(zip(local, servers, strict=True))
    times = spread([ours.tree_ms / theirs.tree_ms for theirs, ours in pairs]).median
    more = spread([ours.peak - theirs.peak for theirs, ours in pairs]).median / 1e6
    yield Goal(f"{kind}: CPU of an upload, times {LOCAL}", MOST_TIMES[kind], times, at_least=False)
    yield Goal(f"{kind}: peak memory, MB more", MOST_MB, more, at_least=False)


def table(found: Measured) -> str:
    """Medians, and what must hold."""
    parts = []
    for kind, rounds_of in found.items():
        titles = dict.fromkeys(one.title for one in rounds_of)
        lines = [
            f"| {kind} | CPU ms an upload | the worker's | its decoders' | Postgres | S3 server | peak "
            "memory | uploads/s |",
            "|---|---:|---:|---:|---:|---:|---:|---:|",
            *(_line(title, [one for one in rounds_of if one.title == title]) for title in titles),
        ]
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, goal_table(goals(found))]) + "\n"


def _line(title: str, found: Sequence[Round]) -> str:
    tree = spread([one.tree_ms for one in found])
    cells = [
        f"{tree.median:.1f} ± {tree.percent:.0f} %",
        *(f"{_middle(one.cpu.get(name, 0) for one in found):.1f}" for name in ("worker", "worker: children")),
        *(f"{_middle(_spent_by(name, one) for one in found):.1f}" for name in ("Postgres", "S3")),
        f"{_middle(one.peak for one in found) / 1e6:.0f} MB",
        f"{_middle(one.rate for one in found):.1f}",
    ]
    return f"| {title} | {' | '.join(cells)} |"


def _middle(values: Iterable[float]) -> float:
    return spread(list(values)).median


def _spent_by(server: str, found: Round) -> float:
    return sum(ms for name, ms in found.servers.items() if name.partition(":")[0] == server)
