"""A real PgBouncer in transaction mode before a Postgres of the tests."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.postgres_server import USER, PostgresServer
from scripts.processes import free_port, launch, stop, tail
from tests.support.clients import package_missing
from tests.support.workplace import eventually


@contextmanager
def pgbouncer(server: PostgresServer, connections: int) -> Iterator[int]:
    """Its port; skips where the program is absent and nobody could install it."""
    program = shutil.which("pgbouncer", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None:
        package_missing("no pgbouncer: apt-get install pgbouncer")
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="media-pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        port = free_port()
        config = _configure(folder, server, port, connections)
        with (folder / "log").open("wb") as log:
            process = launch([program, str(config)], log, user=user)
        try:
            eventually(lambda: _listens(process, port, folder / "log"))
            yield port
        finally:
            stop(process)


def _configure(folder: Path, server: PostgresServer, port: int, connections: int) -> Path:
    users = folder / "users"
    users.write_text(f'"{USER}" "{server.password}"\n')
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port}\n"
        "[pgbouncer]\npool_mode = transaction\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\ndefault_pool_size = {connections}\n"
    )
    return config


def _listens(process: "subprocess.Popen[bytes]", port: int, log: Path) -> bool:
    assert process.poll() is None, tail(log)
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
