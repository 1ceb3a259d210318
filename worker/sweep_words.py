"""What the kinds of a sweep's findings mean, and what applying a plan does about each, in words."""

from collections.abc import Mapping

MEANING: Mapping[str, str] = {
    "orphan": "files that no record has",
    "missing": "records whose file is gone",
    "outdated": "superseded variants whose file is gone: a sweep drops their records",
    "leftover": "unfinished writes",
    "retired": "superseded variants that have outlived MEDIA_RETENTION",
    "unknown": "names that are not of the worker's form",
    "young": "files without a record that may still get one",
    "size_mismatch": "files whose size is not the recorded one",
    "unannounced": "originals without an upload",
    "misnamed": "names that are not UTF-8, or have control characters",
    "lost": "uploads whose original is gone",
    "original_mismatch": "originals whose size is not the one of their ready uploads",
}
ACTION: Mapping[str, str] = {
    "orphan": "moved to trash/",
    "missing": "made again",
    "outdated": "records removed",
    "leftover": "removed",
    "retired": "removed",
    "unknown": "left alone",
}
