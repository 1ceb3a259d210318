"""A bucket of as many objects as one likes: a SeaweedFS whose index is in Postgres, where rows are objects.

To write a million objects by requests takes half an hour. Their rows are copies of that of one that was
written, so the server lists and reads them as any other; all have the bytes of that one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from hashlib import md5
from typing import Any

import obstore
from obstore.store import S3Store

from scripts.postgres_server import USER, PostgresServer
from scripts.s3_server import BUCKET, SeaweedServer, temporary_seaweedfs
from storage.blobs.s3_place import S3Place
from tests.support.postgres import connect
from tests.support.s3 import client_keys

Row = tuple[int, str, str, bytes]

_COLUMNS = ("dirhash", "name", "directory", "meta")


@contextmanager
def large_seaweedfs(server: PostgresServer) -> Iterator[SeaweedServer]:
    """One that keeps its index in the database `postgres` of that server."""
    index = {
        "enabled": "true",
        "hostname": "127.0.0.1",
        "port": str(server.port),
        "username": USER,
        "password": server.password,
        "database": "postgres",
        "sslmode": "disable",
        "createTable": "true",
    }
    options = {f"WEED_POSTGRES_{name.upper()}": value for name, value in index.items()}
    with (
        temporary_seaweedfs({**options, "WEED_LEVELDB2_ENABLED": "false"}) as seaweedfs,
        client_keys(seaweedfs),
    ):
        yield seaweedfs


async def add_objects(server: PostgresServer, store: S3Store, place: S3Place, keys: Sequence[str]) -> None:
    """Add an object of one byte under each key, where none of them is yet."""
    template = "template/folder/object"
    await obstore.put_async(store, template, b"x")
    root = f"/buckets/{BUCKET}/{place.prefix}"
    connection = await connect(server)
    try:
        known = await _known(connection, root)
        new = _folders(keys) - known.keys()
        rows = [_row(f"{root}/{path}", known["template/folder"]) for path in new]
        rows += [_row(f"{root}/{key}", known[template]) for key in keys]
        await connection.copy_records_to_table("filemeta", records=sorted(rows), columns=_COLUMNS)
        await connection.execute(
            "VACUUM ANALYZE filemeta"
        )  # or autovacuum does it while something is measured
    finally:
        await connection.close()
    await obstore.delete_async(store, template)


async def _known(connection: Any, root: str) -> Mapping[str, bytes]:
    """What the server says of each object and folder below `root`."""
    query = (
        "SELECT directory || '/' || name AS path, meta FROM filemeta WHERE directory || '/' LIKE $1 || '/%'"
    )
    return {row["path"].removeprefix(f"{root}/"): row["meta"] for row in await connection.fetch(query, root)}


def _folders(paths: Collection[str]) -> Set[str]:
    parents = {path.rpartition("/")[0] for path in paths} - {""}
    return parents | _folders(parents) if parents else parents


def _row(path: str, meta: bytes) -> Row:
    """The row of an object or folder, as the server looks it up."""
    folder, _, name = path.rpartition("/")
    number = int.from_bytes(md5(folder.encode(), usedforsecurity=False).digest()[:8], signed=True)
    return number, name, folder, meta
