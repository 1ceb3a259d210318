"""`make dev`: a Redis, a worker and the HTTP server, which start again whenever the code changes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scripts.processes import launch
from scripts.redis_server import RedisNotFoundError, RedisNotStartedError, private_redis
from scripts.terminal import errors
from worker.settings import Settings
from worker.settings_or_exit import load_or_exit
from worker.variables import environment

PROGRAMS = ("worker", "serve")
PACKAGES = ("worker", "pipelines", "storage", "scripts")
_LOOK_S = 0.3
_STOP_S = 10.0


def main(folders: Sequence[Path]) -> int:
    """Run them until Ctrl-C or SIGTERM; returns the exit code."""
    settings = load_or_exit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with private_redis() as redis:
            _run(settings.model_copy(update={"redis_url": redis.url}), folders)
    except (RedisNotFoundError, RedisNotStartedError) as error:
        errors.print(str(error))
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _run(settings: Settings, folders: Sequence[Path]) -> None:
    bind = settings.http_bind
    at = bind if bind.startswith("unix:") else f"http://{bind}"
    errors.print(f"{at} takes uploads, and has a console at /console; Ctrl-C ends it.", soft_wrap=True)
    errors.print(
        f"Redis: {settings.redis_url}  Storage: {settings.storage}  Catalog: {settings.catalog_name}"
    )
    while True:
        before = _written(folders)
        with _programs(settings):
            while _written(folders) == before:
                time.sleep(_LOOK_S)
        errors.print("The code has changed.")


def _written(folders: Sequence[Path]) -> Mapping[Path, int]:
    """When each module was written."""
    found = {}
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        with suppress(FileNotFoundError):  # an editor is just writing it
            found[path] = path.stat().st_mtime_ns
    return found


@contextmanager
def _programs(settings: Settings) -> Iterator[None]:
    """Worker and server, which end with the block."""
    env = {**os.environ, **environment(settings)}
    output = sys.stderr.buffer
    running = [launch([sys.executable, "-P", "-m", "media_worker", name], output, env) for name in PROGRAMS]
    try:
        yield
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


if __name__ == "__main__":
    root = Path(__file__).parents[1]
    sys.exit(main([Path(name) for name in sys.argv[1:]] or [root / name for name in PACKAGES]))
