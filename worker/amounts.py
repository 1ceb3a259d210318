"""Amounts in words: the one place that says how a number and its noun, or a number of bytes, are written."""

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def counted(number: int, noun: str) -> str:
    """`number` with its noun, in the plural where it is not one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(number: int) -> str:
    """A number of bytes in powers of 1000, as rich writes it, which only commands may import."""
    if number < 1000:
        return "1 byte" if number == 1 else f"{number:,} bytes"
    power = next((power for power in range(1, len(_UNITS)) if number < 1000 ** (power + 1)), len(_UNITS))
    return f"{number / 1000**power:,.1f} {_UNITS[power - 1]}"
