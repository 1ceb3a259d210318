"""`make corpus`: a folder's own checker has the last word, and everything that failed is told."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests import corpus
from tests.support.picture_folders import case_folders, corpus_folder

REGIONS = [{"box": [0.1, 0.1, 0.9, 0.9], "rgb": [200, 40, 40], "tol": 6}]
CHECKER = """
import json, sys
known, found = (json.load(open(name)) for name in sys.argv[1:3])
sys.exit(0 if all("regions" in one and found[one["path"]]["150"] for one in known) else 1)
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A corpus of one picture, with a checker in the folder above it."""
    folder = tmp_path / "shared" / "cases" / "pictures"
    folder.mkdir(parents=True)
    Image.new("RGB", (200, 100), (200, 40, 40)).save(folder / "red.png")
    entry = {"path": "red.png", "expect": "ok", "why": "red", "regions": REGIONS}
    (folder / "manifest.json").write_text(json.dumps([entry]))
    (tmp_path / "shared" / "check_variants.py").write_text(CHECKER)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, out: Path) -> int:
    monkeypatch.setattr("sys.argv", ["corpus", str(folder), "--out", str(out)])
    return corpus.main()


def test_the_checker_above_a_corpus_judges_its_variants(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, pictures, tmp_path / "out") == 0
    assert "1 rendered (1 of them with regions of known colours), 0 refused" in capsys.readouterr().out

    (tmp_path / "shared" / "check_variants.py").write_text("raise SystemExit(1)")

    assert run(monkeypatch, pictures, tmp_path / "out") == 1
    assert "the checker FAILED" in capsys.readouterr().out


def test_a_picture_that_should_have_been_refused_is_told(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = (pictures / "manifest.json").read_text()
    (pictures / "manifest.json").write_text(manifest.replace('"ok"', '"reject"'))

    assert run(monkeypatch, pictures, tmp_path / "out") == 1
    assert "red.png: should have been refused: red" in capsys.readouterr().out


def test_folders_of_pictures_are_those_that_the_environment_names(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIA_TEST_CORPUS", str(tmp_path / "nowhere"))
    monkeypatch.setenv("MEDIA_TEST_CASES", f"{pictures}:{tmp_path}")

    assert corpus_folder() is None
    assert case_folders() == [pictures]  # the other has no manifest


@pytest.mark.parametrize("name", ["", "gone"])
def test_a_folder_without_a_manifest_is_wrong_usage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, tmp_path / name, tmp_path / "out")

    assert ended.value.code == 2
    assert f"{tmp_path / name} has no manifest.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
