"""The peers' own packages, in a folder that git ignores: none of them is a dependency of the worker."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

PEERS = Path(__file__).parent / ".peers"
NODE = PEERS / "node"
CELERY = PEERS / "celery"
_NODE_PACKAGES = ("bullmq@6", "sharp@0.35", "ioredis@5")
_PYTHON_PACKAGES = ("celery[redis]>=5.5", "pillow>=12")
_QUIETLY = subprocess.DEVNULL


def bullmq() -> str | None:
    """Install BullMQ and sharp where they are missing; says why not if that fails."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "there is no node or npm"
    if not (NODE / "node_modules" / "sharp").is_dir() or not (NODE / "node_modules" / "bullmq").is_dir():
        NODE.mkdir(parents=True, exist_ok=True)
        (NODE / "package.json").write_text('{"private": true}\n')
        return _run("npm", "install", "--no-save", "--prefix", str(NODE), *_NODE_PACKAGES)
    return None


def celery() -> str | None:
    """Install Celery and Pillow where they are missing; says why not if that fails."""
    python = CELERY / "bin" / "python"
    if not (CELERY / "bin" / "celery").exists():
        if shutil.which("uv"):
            made = _run("uv", "venv", "--python", sys.executable, str(CELERY))
            return made or _run("uv", "pip", "install", "--python", str(python), *_PYTHON_PACKAGES)
        venv.create(CELERY, with_pip=True)
        return _run(str(python), "-m", "pip", "install", "--quiet", *_PYTHON_PACKAGES)
    return None


def _run(*command: str) -> str | None:
    done = subprocess.run(command, stdout=_QUIETLY, stderr=subprocess.PIPE, text=True)  # noqa: S603
    return None if done.returncode == 0 else f"{command[0]} failed: {done.stderr[-300:]}"
