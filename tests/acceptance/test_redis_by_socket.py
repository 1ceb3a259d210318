"""Redis by a Unix socket, which redis-py reaches through another kind of connection."""

import subprocess
import time
from pathlib import Path

from scripts.redis_server import find_executable
from tests.support import pictures
from tests.support.workplace import Workplace, eventually


def test_a_worker_reaches_redis_by_its_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    command = [str(find_executable()), "--port", "0", "--unixsocket", str(path), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=tmp_path)
    try:
        eventually(path.exists)
        time.sleep(0.1)
        place = Workplace(tmp_path, f"unix://{path}?db=0")
        place.start("arq")
        source = place.put("uploads/a.jpg", pictures.small())
        place.send({"source": source})

        assert place.await_end_of(source)[source]["type"] == "upload.ready"
        place.close()
    finally:
        server.terminate()
        server.wait()
