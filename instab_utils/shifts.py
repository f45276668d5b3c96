"""Changes of the image that no network was trained on: drawn details with their exact mask."""

from typing import NamedTuple

import numpy as np
import torch

HALVES = ("left", "right", "top", "bottom")
# outline in a unit square: beak, head, far wing, near wing with its feathers, tail, belly, breast
_DOVE_COLUMNS = """
    0.01 0.06 0.09 0.15 0.21 0.25 0.29 0.25 0.26 0.31 0.36 0.41 0.42 0.47 0.56 0.69 0.66 0.71
    0.66 0.70 0.64 0.66 0.59 0.62 0.72 0.84 0.98 0.94 0.99 0.93 0.95 0.84 0.70 0.56 0.42 0.28
    0.18 0.12 0.07
"""
_DOVE_ROWS = """
    0.49 0.45 0.40 0.38 0.41 0.46 0.44 0.30 0.15 0.03 0.12 0.16 0.26 0.17 0.08 0.02 0.12 0.15
    0.22 0.27 0.32 0.38 0.44 0.50 0.55 0.54 0.50 0.57 0.62 0.65 0.72 0.68 0.68 0.75 0.77 0.73
    0.64 0.54 0.51
"""


def text(
    message: str,
    image_size: int,
    *,
    height: int | None = None,
    centre: tuple[float, float] = (0.5, 0.5),
) -> torch.Tensor:
    """Return the message in white on black, anti-aliased, as (1, 1, n, n) in [0, 1].

    Args:
        message: one line of text.
        image_size: n in pixels.
        height: font size in pixels; default n / 8. Antun et al. write "CAN U SEE IT" at 10 to 11
            pixels.
        centre: (row, column) of the text's middle as fractions of n.

    Raises:
        ValueError: when the text does not fit into the image.
    """
    from PIL import Image, ImageDraw, ImageFont

    size = max(height or image_size // 8, 4)
    page = Image.new("L", (image_size, image_size))
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=size)
    at = (centre[1] * image_size, centre[0] * image_size)
    left, top, right, bottom = draw.textbbox(at, message, font=font, anchor="mm")
    if left < 0 or top < 0 or right > image_size or bottom > image_size:
        raise ValueError(
            f"{message!r} at {size} px takes {right - left} x {bottom - top} pixels and leaves the "
            f"image of {image_size} x {image_size}. Lower `height` or move `centre`."
        )
    draw.text(at, message, fill=255, font=font, anchor="mm")
    return torch.from_numpy(np.asarray(page, np.float32) / 255)[None, None]


SUITS = ("spade", "heart", "diamond", "club")


def suit(name: str, side: int) -> torch.Tensor:
    """Return a card symbol, (side, side) in [0, 1]: the share of each pixel that lies inside.

    Antun et al. add such symbols to their images; theirs are glyphs of a font. `name`: one of
    `SUITS`.
    """
    if name not in SUITS or side < 3:
        raise ValueError(
            f"suit expects one of {', '.join(SUITS)} and side >= 3 pixels; got {name!r}, {side}."
        )
    scale = 8
    ticks = (torch.arange(side * scale, dtype=torch.float64) + 0.5) / (side * scale) * 2 - 1
    v, u = torch.meshgrid(ticks, ticks, indexing="ij")  # rows go down

    def disc(row, column, radius):
        return (v - row) ** 2 + (u - column) ** 2 <= radius**2

    def leaf(w):  # a heart with its tip at w = 1: (a^2 + b^2 - 1)^3 <= a^2 b^3
        a, b = 1.2 * u, -1.18 * w + 0.12
        return (a**2 + b**2 - 1) ** 3 <= a**2 * b**3

    stem = (u.abs() <= 0.08 + 0.22 * (v - 0.2).clamp_min(0)) & (v > 0) & (v < 0.95)
    if name == "diamond":
        inside = u.abs() / 0.7 + v.abs() / 0.98 <= 1
    elif name == "heart":
        inside = leaf(v)
    elif name == "spade":
        inside = leaf(-1.25 * v - 0.25) & (v < 0.6) | stem
    else:
        inside = (
            disc(-0.5, 0, 0.4)
            | disc(0.15, -0.5, 0.4)
            | disc(0.15, 0.5, 0.4)
            | disc(0, 0, 0.2)
            | stem
        )
    return _average(inside.float(), scale)


class Shift(NamedTuple):
    """Images that are unlike the training images in one region, and that region."""

    x: torch.Tensor  # (batch, channels, n, m)
    mask: torch.Tensor  # the same shape, bool: True where the shift was made


def salt_and_pepper_half(
    x_noisy: torch.Tensor,
    x: torch.Tensor,
    generator: torch.Generator,
    amount: float = 0.05,
) -> Shift:
    """Replace the noise in a random half of each image by salt and pepper; keep the other half.

    A pixel of the half is 0 with probability amount / 2, 1 with amount / 2, else x: the Gaussian
    noise is gone from all of it.

    Args:
        x_noisy, x: (batch, channels, n, m) noisy and clean images.
        generator: of the specks and of the halves.
        amount: share of the half's pixels that become 0 or 1. The paper does not say; 0.05 is
            scikit-image's default.

    Returns:
        Shift; the mask is the whole half, as the paper's "binary mask of the change", not only its
        specks.

    Raises:
        ValueError: for different shapes, or an amount outside (0, 1].

    Oala et al., section 3.2, ArtDetect for denoising; halves, amount and the untouched other half
    are our choices.
    """
    if x_noisy.shape != x.shape or x.ndim != 4:
        raise ValueError(
            "salt_and_pepper_half expects x_noisy and x of one shape (batch, channels, n, m); "
            f"got {(*x_noisy.shape,)} and {(*x.shape,)}."
        )
    if not 0 < amount <= 1:
        raise ValueError(f"salt_and_pepper_half expects 0 < amount <= 1; got {amount}.")
    n, m = x.shape[-2:]
    where = {
        "left": (slice(None), slice(0, m // 2)),
        "right": (slice(None), slice(m - m // 2, m)),
        "top": (slice(0, n // 2), slice(None)),
        "bottom": (slice(n - n // 2, n), slice(None)),
    }
    mask = torch.zeros(x.shape, dtype=torch.bool)
    for image in mask:
        half = HALVES[int(torch.randint(len(HALVES), (), generator=generator))]
        image[(slice(None), *where[half])] = True
    u = torch.rand(x.shape, generator=generator).to(x.device)
    specks = torch.where(u < amount / 2, 0.0, torch.where(u < amount, 1.0, x))
    mask = mask.to(x.device)
    return Shift(torch.where(mask, specks, x_noisy), mask)


def dove(x: torch.Tensor, generator: torch.Generator) -> Shift:
    """Fill the silhouette of a flying dove with the mean of each image.

    Its box has n / 2 rows in the middle and as many columns from a column that is drawn uniformly,
    so that it fits.

    Args:
        x: (batch, channels, n, m) images, n and m >= 16.
        generator: of the columns.

    Raises:
        ValueError: for images below 16 pixels, or a dove that does not fit.

    Oala et al., ArtDetect for CT, and their code: rows 128 to 384 of 512, mean of the target. Their
    bitmap is not published.
    """
    if x.ndim != 4 or min(x.shape[-2:]) < 16:
        raise ValueError(
            "dove expects images (batch, channels, n, m) of at least 16 pixels a side; got "
            f"{(*x.shape,)}."
        )
    n, m = x.shape[-2:]
    side = round(n / 2)
    if side > m:
        raise ValueError(f"dove expects a box of {side} pixels to fit; got images of {n} x {m}.")
    shape, top = dove_silhouette(side), (n - side) // 2
    mask = torch.zeros(x.shape, dtype=torch.bool)
    for image in mask:
        left = int(torch.randint(m - side + 1, (), generator=generator))
        image[:, top : top + side, left : left + side] = shape
    mask = mask.to(x.device)
    return Shift(torch.where(mask, x.mean((1, 2, 3), keepdim=True), x), mask)


def dove_silhouette(side: int) -> torch.Tensor:
    """Return a bool image (side, side) of the dove: pixels that are at least half inside.

    The outline is rounded by a closed Catmull-Rom spline.
    """
    from PIL import Image, ImageDraw

    scale = 8
    corners = [np.array(text.split(), float) for text in (_DOVE_COLUMNS, _DOVE_ROWS)]
    b = np.stack(corners, 1)[:, None]  # (corners, 1, 2)
    a, c, d = np.roll(b, 1, 0), np.roll(b, -1, 0), np.roll(b, -2, 0)
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    path = 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )
    page = Image.new("L", (scale * side, scale * side))
    outline = [tuple(point) for point in scale * side * path.reshape(-1, 2)]
    ImageDraw.Draw(page).polygon(outline, fill=255)
    fine = torch.from_numpy(np.asarray(page, np.float32) / 255)
    return _average(fine, scale) >= 0.5


def _average(fine: torch.Tensor, scale: int) -> torch.Tensor:
    """Return the mean of every block of scale x scale pixels."""
    return torch.nn.functional.avg_pool2d(fine[None, None], scale)[0, 0]
