"""The demo on a corpus of photographs: an independent program checks every variant; memory is measured."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import WITH_SERVICES
from tests.support.commands import MEDIA
from tests.support.trees import Watched

log = logging.getLogger(__name__)

BOXES = {"thumb": "150", "medium": "800", "large": "1920"}
BUDGET_MIB = 512


@pytest.fixture
def checker(corpus: Path) -> list[str]:
    """The program that checks variants, and its interpreter: it needs numpy and Pillow."""
    script = corpus.parent / "check_variants.py"
    if not script.is_file():
        pytest.skip(f"no check_variants.py beside {corpus}")
    for python in (os.environ.get("MEDIA_TEST_CHECKER_PYTHON"), sys.executable, "/usr/bin/python3"):
        if python and not subprocess.run([python, "-c", "import numpy, PIL"], capture_output=True).returncode:
            return [python, str(script)]
    pytest.skip("no Python with numpy and Pillow: name one in MEDIA_TEST_CHECKER_PYTHON")


def a_result(answer: dict[str, Any], storage: Path) -> dict[str, str]:
    """What the checker needs to know of one picture."""
    if answer["error"]:
        return {"error": f"{answer['error']['code']}: {answer['error']['message']}"}
    return {BOXES[variant["name"]]: str(storage / variant["key"]) for variant in answer["variants"]}


@pytest.mark.parametrize(
    "chosen", ["photos/Canon", pytest.param("photos/", id="all", marks=pytest.mark.campaign)]
)
@WITH_SERVICES
def test_a_demo_of_photographs_makes_faultless_variants_within_its_memory(
    corpus: Path, checker: list[str], tmp_path: Path, chosen: str
) -> None:
    (tmp_path / "photos").mkdir()
    for photo in (corpus / "photos").iterdir():
        if f"photos/{photo.name}".startswith(chosen):
            shutil.copy(photo, tmp_path / "photos")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [str(MEDIA), "demo", str(tmp_path / "photos"), "--into", str(tmp_path / "results"), "--json"]
    with (
        subprocess.Popen(command, env=env, cwd=tmp_path, stdout=subprocess.PIPE) as demo,
        Watched(demo.pid) as watched,
    ):
        answer = json.loads(demo.communicate(timeout=300)[0])
    log.info("%s photographs, peak %.0f MiB", len(answer["pictures"]), watched.peak_mib)
    storage = Path(answer["storage"])
    results = {
        str(Path(one["path"]).relative_to(tmp_path)): a_result(one, storage) for one in answer["pictures"]
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    what = [str(corpus / "manifest.json"), str(tmp_path / "results.json"), "--only", chosen]

    checked = subprocess.run([*checker, *what, "--jobs", "2"], capture_output=True, text=True, timeout=300)

    assert demo.returncode == 0
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.strip().endswith(f"{len(results)} ok, 0 failed")
    assert watched.samples > 10
    assert watched.peak_mib < BUDGET_MIB, f"{watched.peak_mib:.0f} MiB"
