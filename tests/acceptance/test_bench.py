"""`python -m bench` measures a real worker beside the libvips loop."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.campaign
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be chosen on Linux only")
def test_a_quick_run_measures_the_worker_and_the_libvips_loop(tmp_path: Path) -> None:
    options = [
        "--quick",
        "--no-peers",
        "--cores",
        "1",
        "--photos",
        "scripts/pictures",
        "--classes",
        "photos",
        "avatars",
    ]
    places = ["--into", str(tmp_path / "results"), "--work", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options, *places],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert "| **media-worker** | 1 |" in done.stdout
    (saved,) = (tmp_path / "results").glob("*.json")
    rounds = json.loads(saved.read_text())["rounds"]
    assert {(one["picture_class"], one["title"]) for one in rounds} == {
        (name, title) for name in ("photos", "avatars") for title in ("media-worker", "libvips loop")
    }
    assert all(one["rate"] > 0 and one["peak"] > 0 and one["cpu_ms"] > 0 for one in rounds)
    assert (tmp_path / "results" / "bench.svg").exists()
