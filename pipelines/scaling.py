"""How a length scales: by the recipe that says what is wanted and by the decoder that makes it alike."""


def scaled(length: int, side: int, box: int) -> int:
    """`length` px of a picture whose `side` px become `box`, rounded half up, at least 1."""
    return max(1, (2 * length * box + side) // (2 * side))
