"""The breaker: a sweep that would take an implausible lot away touches nothing, and says so."""

from dataclasses import dataclass

LARGEST_SHARE = 0.05
LARGEST_NUMBER = 100


@dataclass(frozen=True)
class Totals:
    """What a plan was made from: all files and rows of variants, and how many orphans there are."""

    files: int
    rows: int
    orphans: int


def implausible(totals: Totals) -> str | None:
    """Why a plan with these totals must not be applied without a person's word; None when it may."""
    if totals.orphans and not totals.rows:
        return (
            f"the catalog holds no variant at all, but there are {totals.files} files: "
            "this looks like another catalog, or an empty one"
        )
    share = totals.orphans / totals.files if totals.files else 0.0
    if totals.orphans > LARGEST_NUMBER and share > LARGEST_SHARE:
        return (
            f"{totals.orphans} of {totals.files} files ({share:.0%}) would be taken away; "
            f"more than {LARGEST_NUMBER} and more than {LARGEST_SHARE:.0%} are not plausible"
        )
    return None
