"""Where pictures are whose manifest says what must become of each: beside this checkout, or as named."""

import os
from pathlib import Path

_BESIDE = Path(__file__).parents[3] / "shared"


def corpus_folder() -> Path | None:
    """The corpus of pictures of every format: the one that MEDIA_TEST_CORPUS names, or ../shared/corpus."""
    folder = Path(os.environ.get("MEDIA_TEST_CORPUS") or _BESIDE / "corpus")
    return folder if folder.is_dir() else None


def case_folders() -> list[Path]:
    """Folders of single cases: those that MEDIA_TEST_CASES lists, or those below ../shared/cases."""
    named = os.environ.get("MEDIA_TEST_CASES")
    folders = map(Path, named.split(os.pathsep)) if named else sorted(_BESIDE.glob("cases/*"))
    return [folder for folder in folders if (folder / "manifest.json").is_file()]


def picture_folders() -> list[Path]:
    """Every folder that there is."""
    corpus = corpus_folder()
    return [*([corpus] if corpus is not None else []), *case_folders()]
