"""The one checker: walks stream, jobs, catalog, storage and processes, and trusts none of our own code."""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import Any
from uuid import UUID, uuid5

import redis
from PIL import Image

from tests.support import processes
from tests.support.catalog_rows import CatalogRows, Row
from tests.support.job_queues import is_of_a_tick, queued_jobs_of_uploads
from tests.support.objects import Objects

# The spec as the contract writes it, not as the program does.
_BOXES = {"thumb": 150, "medium": 800, "large": 1920}
_SETTLE_S = 5.0

# What the totals say of which rows: their kinds, their column, and how the rows are counted.
_TOTALS = {
    "uploads": ("'upload'", "files", "uploads", "count(*)"),
    "originals": ("'original'", "files", "uploads", "count(bytes)"),
    "bytes of originals": ("'original'", "bytes", "uploads", "sum(bytes)"),
    "current variants": ("'variant'", "files", "variants", "count(*) FILTER (WHERE superseded_ms IS NULL)"),
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


def check(
    storage: Objects, database: CatalogRows, server: redis.Redis, workers: list[int], settled: bool
) -> Findings:
    """Check a workplace; `settled` when nothing may be queued any more. Fails with all that is wrong."""
    found = Findings()
    if settled:
        _check_redis(server, found)
    _check_catalog(storage, database, found, settled)
    _check_totals(database, found)
    if settled:
        _check_messages(database, server, found)
    if not any(processes.lives(pid) for pid in workers):
        _check_nothing_left(storage, workers, found)
    assert not found.wrong, "\n".join(found.wrong)
    return found


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
    wrong += [f"job {job!r} is left in a queue" for job in queued_jobs_of_uploads(server)]
    for kind in (b"job", b"in-progress", b"retry", b"result"):
        for key in server.scan_iter(b"arq:%s:*" % kind):
            if not is_of_a_tick(key.split(b":", 2)[2]):  # arq keeps their locks for a minute
                wrong.append(f"{key!r} is left in Redis")
    return wrong


def _check_catalog(storage: Objects, database: CatalogRows, found: Findings, settled: bool) -> None:
    variants: dict[str, list[Row]] = {}
    rows = database.rows("SELECT * FROM variants")
    keys = [variant["key"] for variant in rows]
    for variant, content in zip(rows, storage.contents(keys), strict=True):
        variants.setdefault(variant["upload_id"], []).append(variant)
        _check_file(variant, content, found)
    found.wrong += storage.unservable(keys)
    for upload in database.rows("SELECT * FROM uploads"):
        found.uploads[upload["source"] or upload["id"]] = upload
        found.states[upload["state"]] += 1
        _check_upload(upload, variants.get(upload["id"], []), found, settled)
    found.letters = database.rows("SELECT * FROM dead_letters ORDER BY id")
    nobodys = storage.keys("variants") - set(keys)
    found.unreferenced = {key for key in nobodys if not key.startswith("variants/.media-")}


def _check_totals(database: CatalogRows, found: Findings) -> None:
    kept = ", ".join(
        f'(SELECT coalesce(sum({column}), 0) FROM totals WHERE what IN ({whats})) AS "{name}, kept", '
        f'(SELECT coalesce({counted}, 0) FROM {table}) AS "{name}, counted"'
        for name, (whats, column, table, counted) in _TOTALS.items()
    )
    [row] = database.rows(f"SELECT {kept}")
    if any(row[f"{name}, kept"] != row[f"{name}, counted"] for name in _TOTALS):
        found.wrong.append(f"the totals are wrong: {row}")


def _check_file(variant: Row, content: bytes | None, found: Findings) -> None:
    if content is None:
        found.wrong.append(f"{variant['key']} has a row but no file")
        return
    if len(content) != variant["bytes"] or sha256(content).hexdigest() != variant["sha256"]:
        found.wrong.append(f"{variant['key']} is not what its row says")
    with Image.open(BytesIO(content)) as picture:
        picture.load()
        if (picture.format, *picture.size) != ("JPEG", variant["width"], variant["height"]):
            found.wrong.append(f"{variant['key']} is {picture.format} {picture.size}, its row differs")


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
            left = (
                current if upload["replaced_by"] else variants
            )  # what was replaced stays served for a while
            if left or upload["metadata"] != "{}":
                found.wrong.append(f"{name} is deleted, but something of it is left")
        case state if settled:
            found.wrong.append(f"{name} is still {state}")
    if upload["holder"] and settled:
        found.wrong.append(f"{name} is still claimed by {upload['holder']}")


def _check_derived(upload: Row, variant: Row, found: Findings) -> None:
    box = _BOXES[variant["name"]]
    spec = json.dumps(
        {"box": box, "fit": "inside", "format": "jpeg", "quality": 80, "v": 2}, separators=(",", ":")
    )
    fingerprint = sha256(spec.encode()).hexdigest()[:16]
    name = str(uuid5(UUID(upload["id"]), f"{upload['sha256']}/{variant['name']}/{fingerprint}"))
    if variant["key"] != f"variants/{name[:2]}/{name[2:4]}/{name}.jpg":
        found.wrong.append(f"{variant['key']} is not the name of {upload['source']}'s {variant['name']}")
    scale = min(1, box / max(upload["width"], upload["height"]))
    for side in ("width", "height"):
        if abs(variant[side] - upload[side] * scale) > 1:
            found.wrong.append(f"{variant['key']} has the {side} {variant[side]}, not {upload[side] * scale}")


def _check_messages(database: CatalogRows, server: redis.Redis, found: Findings) -> None:
    found.wrong += _settled(lambda: _unsent(database))  # the mark follows the message
    entries: Any = server.xrange("media:events")
    everything = [json.loads(fields[b"event"]) for _, fields in entries]
    of_outcomes = [message for message in everything if message["type"] != "upload.started"]
    answer = [message for message in of_outcomes if "entry" not in message]  # the others are about no upload
    last = {message["id"]: message["type"] for message in sorted(answer, key=lambda message: message["seq"])}
    found.wrong += [wrong for upload in found.uploads.values() for wrong in _of_replaced(upload, answer)]
    for upload in found.uploads.values() if answer else ():
        if last.get(upload["id"]) != f"upload.{upload['state']}":
            found.wrong.append(
                f"{upload['source']} is {upload['state']}, last message: {last.get(upload['id'])}"
            )


def _of_replaced(upload: Row, messages: list[Any]) -> list[str]:
    """What is wrong with the messages about an upload in whose place another has come."""
    by = upload["replaced_by"]
    if by is None or not messages:
        return []
    gone = [one["seq"] for one in messages if (one["id"], one.get("replaced_by")) == (upload["id"], by)]
    made = [one["seq"] for one in messages if (one["id"], one["type"]) == (by, "upload.ready")]
    if gone and made and min(made) < min(gone):
        return []
    return [f"{upload['source']} was replaced by {by}, which messages {gone} tell, and {made} that one"]


def _unsent(database: CatalogRows) -> list[str]:
    rows = database.rows("SELECT seq FROM outbox WHERE sent_ms IS NULL")
    return [f"message {row['seq']} was never sent" for row in rows]


def _check_nothing_left(storage: Objects, workers: list[int], found: Findings) -> None:
    found.wrong += [f"{path} is left in staging" for path in storage.unfinished()]
    found.wrong += [
        f"decoder {pid} of worker {worker} is left"
        for worker in workers
        for pid in processes.children_of(worker)
    ]
