"""Where the primaries lie that have a number, and the matrices from their light to that of sRGB."""

from collections.abc import Sequence
from functools import lru_cache

Vector = Sequence[float]
Matrix = Sequence[Vector]

_D65 = (0.3127, 0.329)
_ILLUMINANT_C = (0.31, 0.316)
# Red, green, blue, white: ITU-T H.273, table 2.
_CHROMATICITIES = {
    1: ((0.64, 0.33), (0.3, 0.6), (0.15, 0.06), _D65),
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _ILLUMINANT_C),
    8: ((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _ILLUMINANT_C),
    9: ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046), _D65),
    10: ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (1 / 3, 1 / 3)),
    11: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), (0.314, 0.351)),
    12: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), _D65),
}
# Bradford's cone response, by which ICC profiles adapt to another white, too.
_CONES = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))


@lru_cache(16)
def to_srgb(number: int) -> Matrix:
    """Return the matrix from these primaries' light to that of sRGB, white becoming white."""
    return _product(_inverse(_to_xyz(1)), _product(_adapted(_white(number)), _to_xyz(number)))


def luminance(number: int) -> Vector:
    """Return how much of the luminance of white each of the primaries has."""
    return _to_xyz(number)[1]


def _to_xyz(number: int) -> Matrix:
    """Return the matrix to CIE XYZ, in which the luminance of white is 1."""
    points = _transposed([_tristimulus(x, y) for x, y in _CHROMATICITIES[number][:3]])
    scale = _applied(_inverse(points), _white(number))
    return [[point * factor for point, factor in zip(row, scale, strict=True)] for row in points]


def _white(number: int) -> Vector:
    x, y = _CHROMATICITIES[number][3]
    return [part / y for part in _tristimulus(x, y)]


def _tristimulus(x: float, y: float) -> Vector:
    return x, y, 1 - x - y


def _adapted(white: Vector) -> Matrix:
    """Return the matrix that makes this white that of sRGB."""
    before, after = _applied(_CONES, white), _applied(_CONES, _white(1))
    adapted = [[cone * b / a for cone in row] for row, a, b in zip(_CONES, before, after, strict=True)]
    return _product(_inverse(_CONES), adapted)


def _transposed(matrix: Matrix) -> Matrix:
    return list(zip(*matrix, strict=True))


def _applied(matrix: Matrix, vector: Vector) -> Vector:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def _product(left: Matrix, right: Matrix) -> Matrix:
    return [_applied(_transposed(right), row) for row in left]


def _inverse(matrix: Matrix) -> Matrix:
    one, two, three = matrix
    columns = [_cross(two, three), _cross(three, one), _cross(one, two)]
    volume = sum(a * b for a, b in zip(one, columns[0], strict=True))
    return _transposed([[part / volume for part in column] for column in columns])


def _cross(one: Vector, other: Vector) -> Vector:
    (a, b, c), (x, y, z) = one, other
    return b * z - c * y, c * x - a * z, a * y - b * x
