"""The one checker: walks stream, jobs, catalog, disk and processes, and trusts none of our own code."""

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import redis
from PIL import Image

from tests.support import processes

Row = dict[str, Any]
# The spec as the contract writes it, not as the program does.
_BOXES = {"thumb": 150, "medium": 800, "large": 1920}
_SETTLE_S = 5.0

# What the totals say of which rows: their kinds, their column, and how the rows are counted.
_TOTALS = {
    "uploads": ("'upload'", "files", "uploads", "count(*)"),
    "originals": ("'original'", "files", "uploads", "count(bytes)"),
    "bytes of originals": ("'original'", "bytes", "uploads", "sum(bytes)"),
    "current variants": ("'variant'", "files", "variants", "sum(superseded_ms IS NULL)"),
    "bytes of variants": ("'variant', 'superseded'", "bytes", "variants", "sum(bytes)"),
    "variants": ("'variant', 'superseded'", "files", "variants", "count(*)"),
    "letters": ("'dead_letter'", "files", "dead_letters", "count(*)"),
}


@dataclass
class Findings:
    """What was found: the rows, the files nobody refers to, and everything that is wrong."""

    uploads: dict[str, Row] = field(default_factory=dict)  # by source, or by id where there is none
    states: Counter[str] = field(default_factory=Counter)
    letters: list[Row] = field(default_factory=list)
    unreferenced: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


def check(root: Path, catalog: Path, server: redis.Redis, workers: list[int], settled: bool) -> Findings:
    """Check a workplace; `settled` when nothing may be queued any more. Fails with all that is wrong."""
    found = Findings()
    if settled:
        _check_redis(server, found)
    _check_catalog(root, catalog, found, settled)
    _check_totals(catalog, found)
    if settled:
        _check_messages(catalog, server, found)
    if not any(processes.lives(pid) for pid in workers):
        _check_nothing_left(root, workers, found)
    assert not found.wrong, "\n".join(found.wrong)
    return found


def rows_of(catalog: Path, query: str) -> list[Row]:
    """What the catalog says, read without any code of ours."""
    with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True, timeout=10)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def _check_redis(server: redis.Redis, found: Findings) -> None:
    found.wrong += _settled(lambda: _leftovers(server))  # a job's end follows its last message


def _settled(look: Callable[[], list[str]]) -> list[str]:
    until = time.monotonic() + _SETTLE_S
    while (wrong := look()) and time.monotonic() < until:
        time.sleep(0.02)
    return wrong


def _leftovers(server: redis.Redis) -> list[str]:
    wrong = []
    if server.xlen("media:uploads"):
        wrong.append(f"{server.xlen('media:uploads')} entries are left in the stream")
    groups: Any = server.xinfo_groups("media:uploads") if server.exists("media:uploads") else []
    wrong += [f"{group['pending']} entries are pending" for group in groups if group["pending"]]
    queued: Any = server.zrange("media:uploads:jobs", 0, -1)
    wrong += [f"job {job!r} is left in the queue" for job in queued if not _is_cron(job)]
    for kind in (b"job", b"in-progress", b"retry", b"result"):
        for key in server.scan_iter(b"arq:%s:*" % kind):
            if not _is_cron(key.split(b":", 2)[2]):
                wrong.append(f"{key!r} is left in Redis")
    return wrong


def _is_cron(job: bytes) -> bool:
    return b":" in job  # arq keeps the lock of a tick for a minute, so that nobody repeats it


def _check_catalog(root: Path, catalog: Path, found: Findings, settled: bool) -> None:
    variants: dict[str, list[Row]] = {}
    for variant in rows_of(catalog, "SELECT * FROM variants"):
        variants.setdefault(variant["upload_id"], []).append(variant)
        _check_file(root, variant, found)
    for upload in rows_of(catalog, "SELECT * FROM uploads"):
        found.uploads[upload["source"] or upload["id"]] = upload
        found.states[upload["state"]] += 1
        _check_upload(upload, variants.get(upload["id"], []), found, settled)
    found.letters = rows_of(catalog, "SELECT * FROM dead_letters ORDER BY id")
    kept = {variant["key"] for rows in variants.values() for variant in rows}
    there = {str(path.relative_to(root)) for path in (root / "variants").rglob("*") if path.is_file()}
    found.unreferenced = {key for key in there - kept if not key.startswith("variants/.media-")}


def _check_totals(catalog: Path, found: Findings) -> None:
    kept = ", ".join(
        f"(SELECT coalesce(sum({column}), 0) FROM totals WHERE what IN ({whats})) AS '{name}, kept', "
        f"(SELECT coalesce({counted}, 0) FROM {table}) AS '{name}, counted'"
        for name, (whats, column, table, counted) in _TOTALS.items()
    )
    [row] = rows_of(catalog, f"SELECT {kept}")
    if any(row[f"{name}, kept"] != row[f"{name}, counted"] for name in _TOTALS):
        found.wrong.append(f"the totals are wrong: {row}")


def _check_file(root: Path, variant: Row, found: Findings) -> None:
    path = root / variant["key"]
    if not path.is_file():
        found.wrong.append(f"{variant['key']} has a row but no file")
        return
    content = path.read_bytes()
    if len(content) != variant["bytes"] or sha256(content).hexdigest() != variant["sha256"]:
        found.wrong.append(f"{variant['key']} is not what its row says")
    with Image.open(path) as picture:
        picture.load()
        if (picture.format, *picture.size) != ("JPEG", variant["width"], variant["height"]):
            found.wrong.append(f"{variant['key']} is {picture.format} {picture.size}, its row differs")
    if path.stat().st_mode & 0o777 != 0o644:
        found.wrong.append(f"{variant['key']} has mode {path.stat().st_mode:o}")


def _check_upload(upload: Row, variants: list[Row], found: Findings, settled: bool) -> None:
    name = upload["source"] or upload["id"]
    current = {variant["name"]: variant for variant in variants if variant["superseded_ms"] is None}
    match upload["state"]:
        case "ready":
            if current.keys() != _BOXES.keys():
                found.wrong.append(f"{name} is ready with the variants {sorted(current)}")
            for variant in current.values():
                _check_derived(upload, variant, found)
        case "failed":
            if not upload["error_code"] or not upload["error_message"]:
                found.wrong.append(f"{name} failed without a reason")
        case "deleted":
            if variants or upload["metadata"] != "{}":
                found.wrong.append(f"{name} is deleted, but something of it is left")
        case state if settled:
            found.wrong.append(f"{name} is still {state}")
    if upload["holder"] and settled:
        found.wrong.append(f"{name} is still claimed by {upload['holder']}")


def _check_derived(upload: Row, variant: Row, found: Findings) -> None:
    box = _BOXES[variant["name"]]
    spec = json.dumps(
        {"box": box, "fit": "inside", "format": "jpeg", "quality": 80, "v": 1}, separators=(",", ":")
    )
    fingerprint = sha256(spec.encode()).hexdigest()[:16]
    name = str(uuid5(UUID(upload["id"]), f"{upload['sha256']}/{variant['name']}/{fingerprint}"))
    if variant["key"] != f"variants/{name[:2]}/{name[2:4]}/{name}.jpg":
        found.wrong.append(f"{variant['key']} is not the name of {upload['source']}'s {variant['name']}")
    scale = min(1, box / max(upload["width"], upload["height"]))
    for side in ("width", "height"):
        if abs(variant[side] - upload[side] * scale) > 1:
            found.wrong.append(f"{variant['key']} has the {side} {variant[side]}, not {upload[side] * scale}")


def _check_messages(catalog: Path, server: redis.Redis, found: Findings) -> None:
    found.wrong += _settled(lambda: _unsent(catalog))  # the mark follows the message
    entries: Any = server.xrange("media:events")
    everything = [json.loads(fields[b"event"]) for _, fields in entries]
    answer = [message for message in everything if "entry" not in message]  # the others are about no upload
    last = {message["id"]: message["type"] for message in sorted(answer, key=lambda message: message["seq"])}
    for upload in found.uploads.values() if answer else ():
        if last.get(upload["id"]) != f"upload.{upload['state']}":
            found.wrong.append(
                f"{upload['source']} is {upload['state']}, last message: {last.get(upload['id'])}"
            )


def _unsent(catalog: Path) -> list[str]:
    rows = rows_of(catalog, "SELECT seq FROM outbox WHERE sent_ms IS NULL")
    return [f"message {row['seq']} was never sent" for row in rows]


def _check_nothing_left(root: Path, workers: list[int], found: Findings) -> None:
    left = [str(path.relative_to(root)) for path in (root / "staging").rglob("*")]
    found.wrong += [f"{path} is left in staging" for path in left]
    found.wrong += [
        f"decoder {pid} of worker {worker} is left"
        for worker in workers
        for pid in processes.decoders_of(worker)
    ]
