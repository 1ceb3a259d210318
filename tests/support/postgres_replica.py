"""A replica of a Postgres of the tests' own, which follows it by streaming."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.postgres_server import USER, PostgresNotStartedError, PostgresServer
from scripts.processes import launch, tail
from tests.support.disks import quickest_disk


class PostgresReplica(PostgresServer):
    """A server that has what another has, and takes no writes."""

    def __init__(self, primary: PostgresServer, folder: Path) -> None:
        """Copy the cluster of `primary` into `folder` and follow it. Raises: PostgresNotStartedError."""
        self._primary = primary
        super().__init__(primary.programs, folder)
        self.password = primary.password

    def _init(self, folder: Path) -> None:
        place = f"host=127.0.0.1 port={self._primary.port} user={USER} password={self._primary.password}"
        command = [str(self.programs / "pg_basebackup"), "--pgdata", str(self._data), "--dbname", place]
        command += ["--write-recovery-conf", "--checkpoint", "fast", "--no-sync"]
        with self._log.open("wb") as log:
            code = launch(command, log, user=self._user).wait()
        if code:
            raise PostgresNotStartedError(self.programs / "pg_basebackup", code, tail(self._log))


@contextmanager
def replica_of(primary: PostgresServer) -> Iterator[PostgresReplica]:
    """A replica on a free port of 127.0.0.1, stopped and wiped at the end."""
    prefix, disk = "media-replica-", quickest_disk()
    with tempfile.TemporaryDirectory(prefix=prefix, dir=disk, ignore_cleanup_errors=True) as outer:
        folder = Path(outer) / "replica"
        folder.mkdir(mode=0o700)
        folder.parent.chmod(0o711)  # so that another user reaches what is below
        replica = PostgresReplica(primary, folder)
        try:
            yield replica
        finally:
            replica.close()
