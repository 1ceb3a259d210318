"""A workplace whose storage is a bucket: apps put originals there, and the checker gets a copy of it."""

from pathlib import Path

import obstore
from obstore.store import S3Store

from scripts.s3_server import S3Server
from storage.blobs.s3_place import S3Place
from tests.support.checker import Findings
from tests.support.s3 import new_place
from tests.support.workplace import Workplace


class S3Workplace(Workplace):
    """One installation on one prefix of a server's bucket."""

    def __init__(
        self, home: Path, redis_url: str, server: S3Server, catalog: Path | None = None, /, **settings: str
    ) -> None:
        self.place = new_place(server)
        of_server = {**server.env, "MEDIA_STORAGE_URL": str(self.place)}
        super().__init__(home, redis_url, catalog, **of_server, **settings)
        self.store = store_of(self.place)

    def put(self, source: str, content: bytes) -> str:
        """Put an original as apps do: one request, after which it is there."""
        obstore.put(self.store, source, content)
        return source

    def keys(self, prefix: str) -> list[str]:
        """All keys below a folder."""
        return [meta["path"] for page in obstore.list(self.store, prefix) for meta in page]

    def check(self, *, settled: bool = True) -> Findings:
        """The same checker, on a copy of what is in the bucket."""
        for area in ("uploads", "variants", "trash", "staging"):
            for key in self.keys(area):
                path = self.root / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(bytes(obstore.get(self.store, key).bytes()))
                path.chmod(0o644)
        return super().check(settled=settled)


def store_of(place: S3Place) -> S3Store:
    """A client of a place, which none of our own code made."""
    return S3Store(
        place.bucket,
        prefix=place.prefix,
        endpoint=place.endpoint,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
