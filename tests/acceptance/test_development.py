"""`make dev`: everything that is needed to try a change of the code."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx

from tests.support.clients import ROOT, WITH_SERVICES
from tests.support.ports import free_port
from tests.support.workplace import WorkerProcess, eventually


@WITH_SERVICES
def test_worker_and_server_run_and_start_again_whenever_the_code_changes(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/module.py").write_text("1")
    bind = f"127.0.0.1:{free_port()}"
    env = {"PATH": os.environ["PATH"], "MEDIA_ENV_FILE": "", "MEDIA_HTTP_BIND": bind, "MEDIA_LOG": "json"}
    command = [sys.executable, "-m", "scripts.development", str(tmp_path / "code")]
    process = subprocess.Popen(
        command, env={**env, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, stderr=subprocess.PIPE
    )
    dev = WorkerProcess(process)
    try:
        dev.await_log("http_ready")
        dev.await_log("worker_started")
        assert httpx.get(f"http://{bind}/readyz", trust_env=False).status_code == 200
        assert f"http://{bind} takes uploads" in dev.text

        (tmp_path / "code/module.py").write_text("22")
        eventually(lambda: len(dev.logged("http_ready")) == len(dev.logged("worker_started")) == 2)
    finally:
        dev.signal(signal.SIGTERM)

    assert dev.wait() == 0
    assert len(dev.logged("http_stopped")) == 2
