"""A corpus of pictures through a live worker, with its catalog and its files wherever they may be."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from scripts.postgres_server import temporary_postgres
from scripts.redis_server import temporary_redis
from scripts.s3_server import BUCKET, temporary_seaweedfs
from storage.blobs.s3_place import S3Place
from tests.support.catalog_rows import PostgresRows
from tests.support.disks import quickest_disk
from tests.support.objects import ObjectsInBucket
from tests.support.postgres import create_database
from tests.support.workplace import Answer, Workplace

BOXES = {"thumb": "150", "medium": "800", "large": "1920"}
_WITHIN_S = 1800.0
_PATIENT = {"MEDIA_LEASE": "15", "MEDIA_RECONCILE_INTERVAL": "15"}


def through_worker(
    corpus: Path, paths: Sequence[str], out: Path, *, catalog: str, storage: str
) -> dict[str, dict[str, Any]]:
    """Send pictures of a corpus; the variants become files in `out`. Fails where anything else is wrong."""
    with ExitStack() as stack:
        place = _open(stack, catalog, storage)
        sources = {place.put(f"uploads/corpus/{path}", (corpus / path).read_bytes()): path for path in paths}
        worker = place.start()
        place.send_all({"source": source} for source in sources)
        ends = place.await_end_of(*sources, within=_WITHIN_S)
        tried_again = [source for source, answer in ends.items() if answer.get("attempts", 1) != 1]
        assert not tried_again, f"tried more than once: {tried_again}"
        assert worker.stop() == 0, worker.text[-3000:]
        place.check()
        return {path: _result(place, ends[source], path, out) for source, path in sources.items()}


def _open(stack: ExitStack, catalog: str, storage: str) -> Workplace:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="corpus-")))
    place = Workplace(folder, stack.enter_context(temporary_redis()).url, **_PATIENT)
    if catalog == "postgres":
        place.database = PostgresRows(
            create_database(stack.enter_context(temporary_postgres(beneath=quickest_disk())), "media")
        )
    if storage == "s3":
        place.storage = ObjectsInBucket(stack.enter_context(temporary_seaweedfs()), S3Place(BUCKET))
    stack.callback(place.close)
    return place


def _result(place: Workplace, answer: Answer, path: str, out: Path) -> dict[str, Any]:
    if answer["type"] != "upload.ready":
        error = answer["error"]
        return {"error": f"{error['code']}: {error['message']}", **error}
    names = {BOXES[variant["name"]]: variant["key"] for variant in answer["variants"]}
    files = {box: f"{path.replace('/', '__')}.{box}.jpg" for box in names}
    for box, content in zip(names, place.storage.contents(list(names.values())), strict=True):
        assert content is not None, f"{names[box]} is gone"
        (out / files[box]).write_bytes(content)
    return files
