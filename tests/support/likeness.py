"""How alike two pictures look: SSIM (Wang et al., 2004) with Pillow alone."""

from statistics import fmean

from PIL import Image, ImageMath

_WINDOW = 8
_STEADY_MEAN = (0.01 * 255) ** 2
_STEADY_CONTRAST = (0.03 * 255) ** 2


def ssim(one: Image.Image, other: Image.Image) -> float:
    """The structural similarity of the brightness of two pictures of one size, 1 for the same picture.

    The mean over windows of 8 x 8 pixels that do not overlap, each pixel weighing the same.
    """
    if one.size != other.size:
        raise ValueError(f"{one.size} and {other.size} cannot be compared")
    width, height = (max(_WINDOW, side - side % _WINDOW) for side in one.size)
    x, y = (picture.convert("L").crop((0, 0, width, height)).convert("F") for picture in (one, other))
    mean_x, mean_y = _means(x), _means(y)
    squares_x, squares_y, products = _means(_product(x, x)), _means(_product(y, y)), _means(_product(x, y))
    likeness = ImageMath.lambda_eval(
        lambda given: (
            (2 * given["mx"] * given["my"] + _STEADY_MEAN)
            * (2 * (given["xy"] - given["mx"] * given["my"]) + _STEADY_CONTRAST)
            / (
                (given["mx"] * given["mx"] + given["my"] * given["my"] + _STEADY_MEAN)
                * (
                    given["xx"]
                    - given["mx"] * given["mx"]
                    + given["yy"]
                    - given["my"] * given["my"]
                    + _STEADY_CONTRAST
                )
            )
        ),
        mx=mean_x,
        my=mean_y,
        xx=squares_x,
        yy=squares_y,
        xy=products,
    )
    values = list(likeness.get_flattened_data())
    return float(sum(values) / len(values))


def ssim_of_colours(one: Image.Image, other: Image.Image) -> float:
    """The mean of the structural similarity of red, green and blue, for which colour counts as well."""
    pairs = zip(one.convert("RGB").split(), other.convert("RGB").split(), strict=True)
    return fmean(ssim(before, after) for before, after in pairs)


def _means(picture: Image.Image) -> Image.Image:
    return picture.reduce(_WINDOW)


def _product(one: Image.Image, other: Image.Image) -> Image.Image:
    product: Image.Image = ImageMath.lambda_eval(lambda given: given["a"] * given["b"], a=one, b=other)
    return product
