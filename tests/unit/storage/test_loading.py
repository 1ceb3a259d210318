"""Libraries are loaded without parts that nobody uses here."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from storage.loading import in_parts, without

# A package whose name `light` is a function, once it is loaded as a whole.
LARGE = {
    "__init__": "from .heavy import weight\nfrom .light import light",
    "heavy": "weight = 100",
    "light": "from . import feather\ndef light(): return feather.weight",
    "feather": "weight = 1",
}

LOGS = """
from storage.loading import without
with without("rich"):
    import structlog
import sys
from worker.logs import configure_logs
configure_logs("console")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger("here").exception("failed", by="zero")
print([name for name in ("rich", "pygments") if name in sys.modules])
import rich
"""


def test_a_library_cannot_be_imported_in_the_body_but_can_be_after_it() -> None:
    sys.modules.pop("this", None)
    with without("this"), pytest.raises(ImportError):
        import this  # noqa: F401
    assert "this" not in sys.modules


def test_a_library_that_is_loaded_stays_so() -> None:
    with without("json"):
        import json
    assert sys.modules["json"] is json


def test_logs_for_people_need_no_rich() -> None:
    ran = subprocess.run([sys.executable, "-c", LOGS], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert "failed" in ran.stderr
    assert "ZeroDivisionError: division by zero" in ran.stderr


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package inside another one, both new to this process."""
    outer = f"outer_{tmp_path.parent.name}_{tmp_path.name}".replace("-", "_")
    package = tmp_path / outer / "large"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    for name, code in LARGE.items():
        (package / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return f"{outer}.large"


def test_a_part_of_a_package_is_imported_without_the_others(large: str) -> None:
    in_parts(large, "light")
    light = import_module(f"{large}.light").light

    assert light() == 1
    assert f"{large}.heavy" not in sys.modules


def test_a_package_of_which_a_part_is_there_has_all_its_names(large: str) -> None:
    in_parts(large, "light")
    package = import_module(large)

    assert package.weight == 100
    assert package.light is import_module(f"{large}.light").light
    assert package.feather is import_module(f"{large}.feather")
    with pytest.raises(AttributeError, match="has no attribute 'heaven'"):
        _ = package.heaven


def test_a_package_that_is_in_no_other_one_is_loaded_once_it_is_asked_for_a_name(large: str) -> None:
    outer = large.partition(".")[0]
    in_parts(outer)
    before = f"{large}.heavy" in sys.modules

    assert (before, import_module(large).weight) == (False, 100)


def test_a_package_that_is_loaded_stays_whole(large: str) -> None:
    package = import_module(large)
    in_parts(large, "light")
    assert vars(package)["weight"] == 100
