"""How a length scales: alike for the recipe that names a size and for the decoder that makes it."""


def scaled(length: int, side: int, box: int) -> int:
    """`length` px of a picture whose `side` px become `box`, rounded half up, at least 1."""
    return max(1, (2 * length * box + side) // (2 * side))
