"""The breaker: a sweep that would take an implausible lot away touches nothing, and says so."""

LARGEST_SHARE = 0.05
LARGEST_NUMBER = 100


def implausible(files: int, rows: int, orphans: int) -> str | None:
    """Why a plan with so many of each must not be applied without a person's word; None when it may."""
    if orphans and not rows:
        return (
            f"the catalog holds no variant at all, but there are {files} files: "
            "this looks like another catalog, or an empty one"
        )
    share = orphans / files if files else 0.0
    if orphans > LARGEST_NUMBER and share > LARGEST_SHARE:
        return (
            f"{orphans} of {files} files ({share:.0%}) would be taken away; "
            f"more than {LARGEST_NUMBER} and more than {LARGEST_SHARE:.0%} are not plausible"
        )
    return None
