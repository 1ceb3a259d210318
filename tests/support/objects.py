"""Where a workplace keeps its objects, seen without any code of ours: a folder, or a bucket."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import obstore
from obstore.store import S3Store

from scripts.s3_server import S3Server
from storage.blobs.s3_place import S3Place

_AT_ONCE = 8  # requests
_PATIENCE = timedelta(minutes=2)


class Objects(Protocol):
    """What the tests put there, and see there."""

    @property
    def settings(self) -> Mapping[str, str]:
        """The variables of a worker that uses it."""

    def put(self, key: str, content: bytes) -> None:
        """Put an original as apps should."""

    def keys(self, area: str) -> set[str]:
        """All keys below a folder."""

    def contents(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes under each key, or None where nothing is."""

    def unservable(self, keys: Sequence[str]) -> list[str]:
        """What a web server could not hand out, and why."""

    def unfinished(self) -> list[str]:
        """What writers have left behind."""


class ObjectsInFolder:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        (root / "uploads").mkdir(parents=True, exist_ok=True)

    @property
    def settings(self) -> Mapping[str, str]:
        return {"MEDIA_STORAGE_URL": f"file:{self._root}"}

    def put(self, key: str, content: bytes) -> None:
        """A temporary name, then a rename."""
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{uuid4().hex}.part")
        aside.write_bytes(content)
        aside.rename(path)

    def keys(self, area: str) -> set[str]:
        found = (path for path in (self._root / area).rglob("*") if path.is_file())
        return {str(path.relative_to(self._root)) for path in found}

    def contents(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        for path in (self._root / key for key in keys):
            yield path.read_bytes() if path.is_file() else None

    def unservable(self, keys: Sequence[str]) -> list[str]:
        found = ((self._root / key, key) for key in keys)
        modes = ((path.stat().st_mode & 0o777, key) for path, key in found if path.is_file())
        return [f"{key} has mode {mode:o}" for mode, key in modes if mode != 0o644]

    def unfinished(self) -> list[str]:
        return [str(path.relative_to(self._root)) for path in (self._root / "staging").rglob("*")]


class ObjectsInBucket:
    """A prefix of a server's bucket; workers reach it at `endpoint`, if something is in between."""

    def __init__(self, server: S3Server, place: S3Place, endpoint: str | None = None) -> None:
        self._env = {**server.env, "MEDIA_S3_ENDPOINT": endpoint or server.endpoint}
        self._place = place
        self.store = store_of(place, server)

    @property
    def settings(self) -> Mapping[str, str]:
        return {**self._env, "MEDIA_STORAGE_URL": str(self._place)}

    def put(self, key: str, content: bytes) -> None:
        """One request, after which it is there."""
        obstore.put(self.store, key, content)

    def keys(self, area: str) -> set[str]:
        return {meta["path"] for page in obstore.list(self.store, area) for meta in page}

    def contents(self, keys: Sequence[str]) -> Iterator[bytes | None]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(self._content, keys)

    def _content(self, key: str) -> bytes | None:
        with suppress(FileNotFoundError):
            return bytes(obstore.get(self.store, key).bytes())
        return None

    def unservable(self, keys: Sequence[str]) -> list[str]:
        return []  # an object has no mode

    def unfinished(self) -> list[str]:
        return sorted(self.keys("staging"))


def store_of(place: S3Place, server: S3Server) -> S3Store:
    """A client of a place, which none of our own code made."""
    return S3Store(
        place.bucket,
        prefix=place.prefix,
        endpoint=server.endpoint,
        access_key_id=server.env["AWS_ACCESS_KEY_ID"],
        secret_access_key=server.env["AWS_SECRET_ACCESS_KEY"],
        region=server.env["AWS_REGION"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
        retry_config={"max_retries": 1000, "retry_timeout": _PATIENCE},  # as an app that waits for a server
    )
