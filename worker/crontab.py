"""Crontab lines, as operators write them."""

from datetime import datetime

from cronsim import CronSim, CronSimError

_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # minute, hour, day, month, weekday


def check_crontab(line: str) -> str:
    """`line`, if it is empty or a crontab line. Raises: ValueError, with a reason for people."""
    if not line:
        return line
    words = line.split()
    if len(words) != len(_RANGES):
        raise ValueError("must be five fields: minute, hour, day, month and weekday, as in 0 3 * * *")
    for place, (word, (lowest, highest)) in enumerate(zip(words, _RANGES, strict=True)):
        alone = [word if place == other else "*" for other in range(len(words))]
        if not _is_valid(" ".join(alone)):
            raise ValueError(f"has {word!r} where numbers from {lowest} to {highest} are expected")
    if words[2] != "*" != words[4]:
        raise ValueError("names days of the month or of the week, not both")
    if not _is_valid(line):
        raise ValueError("names a day that never comes")
    return line


def next_after(line: str, moment: datetime) -> datetime:
    """The first time after `moment` that a crontab line names."""
    return next(CronSim(line, moment))


def _is_valid(line: str) -> bool:
    try:
        CronSim(line, datetime.min)
    except CronSimError:
        return False
    return True
