"""A workplace whose storage is a bucket."""

from pathlib import Path

from scripts.s3_server import S3Server
from tests.support.objects import ObjectsInBucket
from tests.support.s3 import new_place
from tests.support.workplace import Workplace


class S3Workplace(Workplace):
    """One installation on one prefix of a server's bucket."""

    def __init__(
        self, home: Path, redis_url: str, server: S3Server, catalog: Path | None = None, /, **settings: str
    ) -> None:
        super().__init__(home, redis_url, catalog, **settings)
        self.place = new_place(server)
        self.storage = bucket = ObjectsInBucket(server, self.place)
        self.store = bucket.store

    def keys(self, prefix: str) -> list[str]:
        """All keys below a folder."""
        return sorted(self.storage.keys(prefix))
