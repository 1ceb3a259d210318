"""The shape of the house: imports go one way, and each foreign library has one room."""

import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).parents[2]


def test_every_import_keeps_to_the_contracts() -> None:
    linter = Path(sys.executable).parent / "lint-imports"

    judged = subprocess.run([linter, "--no-cache"], cwd=HOUSE, capture_output=True, text=True, check=False)

    assert judged.returncode == 0, judged.stdout


def test_the_house_has_only_the_rooms_that_are_named() -> None:
    packages = {path.parent.name for path in HOUSE.glob("*/__init__.py")} - {"bench"}

    assert packages == {"worker", "pipelines", "storage", "scripts"}
