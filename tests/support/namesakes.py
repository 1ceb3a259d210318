"""An app's folders that are named like this project's packages, as apps often have them."""

from pathlib import Path

from media_worker import PACKAGES


def make_namesakes(folder: Path) -> dict[str, str]:
    """Make them in `folder`, each ending whoever imports it; returns the environment to find them by."""
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise SystemExit('this is the {name} of an app')\n")
    return {"PYTHONPATH": str(folder)}
