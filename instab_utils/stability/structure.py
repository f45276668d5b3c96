"""Test 2: details that no training had, drawn into the image. Does a network show them, and does a
stable solver?
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch

from .. import metrics, profiles, shifts, training
from ..networks import Case
from ..operators import Radon, measured_finely
from .worst import Rate, save, stored

CONTRASTS = (0.1, 0.3, 0.6)  # of max |x|
MESSAGE = "CAN U SEE IT"
N_DRAWS = {"smoke": 1, "standard": 3, "paper": 10}
FINER = 4  # CT: details are drawn and measured on a raster so many times as fine
METHODS = {"": "f", "stable_": "tv", "front_end_": "front_end"}


class Drawn(NamedTuple):
    """Details of one image: where each is, and all of them as one image of height 1."""

    image: torch.Tensor  # (1, 1, n, n) in [0, 1]
    # its measurement: real images, or to be turned by the phase of x
    y: torch.Tensor
    boxes: dict[str, tuple[slice, slice]]  # detail -> rows, columns


def side(image_size: int) -> int:
    """Pixels of a suit: 9 at 128. Those of Antun et al. have 10 to 11 pixels at 256 to 512, finer
    still.
    """
    return max(5, round(image_size * 9 / 128))


def draw(
    image_size: int, kind: str, generator: torch.Generator
) -> tuple[torch.Tensor, dict[str, tuple[slice, slice]]]:
    """("suits": the four suits, one in each quarter of the middle; "text": the message) on a raster
    FINER times as fine.

    Returns ((FINER n, FINER n) image, {detail: (rows, columns) on n pixels, two pixels wider than
    the detail}).
    """
    n, boxes, fine = image_size, {}, torch.zeros(FINER * image_size, FINER * image_size)
    if kind == "text":
        height = max(8, round(n * 10 / 128))
        page = shifts.text(
            MESSAGE,
            FINER * n,
            height=FINER * height,
            centre=(0.35 + 0.3 * _uniform(generator), 0.5),
        )[0, 0]
        rows, columns = page.nonzero().T
        boxes["text"] = tuple(
            slice(int(a.min()) // FINER - 1, int(a.max()) // FINER + 2) for a in (rows, columns)
        )
        return page, boxes
    s, order = side(n), torch.randperm(len(shifts.SUITS), generator=generator).tolist()
    for quarter, k in enumerate(order):
        row, column = (
            round(n * (0.28 + 0.26 * half + 0.18 * _uniform(generator))) - s // 2
            for half in divmod(quarter, 2)
        )
        at = slice(FINER * row, FINER * (row + s)), slice(FINER * column, FINER * (column + s))
        fine[at] = shifts.suit(shifts.SUITS[k], FINER * s)
        boxes[shifts.SUITS[k]] = slice(row - 2, row + s + 2), slice(column - 2, column + s + 2)
    return fine, boxes


def detail(case: Case, i: int, kind: str, generator: torch.Generator) -> Drawn:
    """The details of image i of a subject: CT measures them on the finer raster, MRI turns them by
    the image's own phase.
    """
    n = case.A.image_shape[-1]
    fine, boxes = draw(n, kind, generator)
    image = torch.nn.functional.avg_pool2d(fine[None, None], FINER)
    x = case.attacked[i : i + 1]
    if isinstance(case.A, Radon):
        return Drawn(image, measured_finely(fine[None, None], case.A), boxes)
    turned = image * torch.exp(1j * x.angle()) if x.is_complex() else image
    return Drawn(image, case.A(turned), boxes)


def rows(name: str, profile: str = "standard") -> list[dict]:
    """The records of `details` for a subject, one for each detail and contrast: as stored, whatever
    the code was, or made now.
    """
    found = stored("structure", name, profile)
    if found:
        return found
    case = training.case(name, profile)
    return [
        save("structure", case, profile, *results) for results in details(case, N_DRAWS[profile])
    ]


@torch.no_grad()
def details(case: Case, n_draws: int) -> Iterator[tuple[dict, dict, dict]]:
    """Test 2, for every detail and contrast (parameters, {metric: value of each image}, {metric:
    value}).

    contrast_recovery: slope of f(y + c A s) - f(y) against c s in the box of s: 1 shows it whole, 0
    erases it. auroc: of a reader
    who knows what to look for and where: matched filter on f, details against the same boxes
    without, over all images and draws; anatomy is the noise. Complex images by magnitude. Both for
    the network, TV (stable_) and the front end (front_end_).
    """
    slopes, matched = {}, {}
    for i in range(len(case.x)):
        of_one, pairs = of_image(case, i, n_draws)
        for key, each in of_one.items():
            for m, found in each.items():
                slopes.setdefault(key, {}).setdefault(m, {})[i] = found
        for key, found in pairs.items():
            matched.setdefault(key, []).extend(found)
    for (d, c), of_method in slopes.items():
        columns = {
            f"{m}contrast_recovery": [sum(v) / len(v) for v in each.values()]
            for m, each in of_method.items()
        }
        areas = {f"{m}auroc": auroc(matched[d, c, m]) for m in METHODS}
        about = {
            "detail": d,
            "contrast": c,
            "side": side(case.A.image_shape[-1]),
            "tv_weight": case.tv_weight,
        }
        yield about, columns, {**areas, "n_details": len(matched[d, c, ""])}


@torch.no_grad()
def of_image(case: Case, i: int, n_draws: int) -> tuple[dict, dict]:
    """Of image i: {(detail, contrast): {method: slope of each draw}}, {(detail, contrast, method):
    (without, with) of each draw}.
    """
    kinds = ("suits", "text") if case.A.image_shape[-1] >= 96 else ("suits",)  # below, no text fits
    slopes, matched = {}, {}
    y, peak = case.y[i : i + 1], float(case.attacked[i : i + 1].abs().max())
    before = {m: displayed(getattr(case, f)(y)) for m, f in METHODS.items()}
    for kind, k in itertools.product(kinds, range(n_draws)):
        drawn = detail(case, i, kind, profiles.generator(k, f"details {case.name} {kind} {i}"))
        for c, (m, f) in itertools.product(CONTRASTS, METHODS.items()):
            after = displayed(getattr(case, f)(y + c * peak * drawn.y))
            for d, box in drawn.boxes.items():
                s, with_, without = drawn.image[0, 0][box], after[0, 0][box], before[m][0, 0][box]
                slopes.setdefault((d, c), {}).setdefault(m, []).append(
                    slope(with_ - without, c * peak * s)
                )
                filtered = tuple(
                    float(((s - s.mean()) * where).sum()) for where in (without, with_)
                )
                matched.setdefault((d, c, m), []).append(filtered)
    return slopes, matched


def displayed(x: torch.Tensor) -> torch.Tensor:
    """What is looked at: the magnitude of a complex image, a real one as it is."""
    return x.abs() if x.is_complex() else x


def slope(change: torch.Tensor, s: torch.Tensor) -> float:
    """Least squares of change = a + b s: b."""
    s = (s - s.mean()).double()
    return float((s * change.double()).sum() / s.square().sum())


def auroc(pairs: list[tuple[float, float]]) -> Rate:
    """P(with > without) + P(equal) / 2 of (without, with), with the 95 % interval of pairs drawn
    again 1000 times.
    """
    values = torch.tensor(pairs, dtype=torch.float64).T
    n, generator = values.shape[1], profiles.generator(0, "bootstrap of details")
    better = (values[1][:, None] > values[0]).double() + (
        values[1][:, None] == values[0]
    ).double() / 2
    drawn = torch.randint(n, (1000, n), generator=generator)
    times = torch.zeros(1000, n, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(1000, n, dtype=torch.float64)
    )
    # of every draw: how often each pair is in it decides
    areas = ((times @ better) * times).sum(1) / n**2
    ends = areas.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    present = torch.arange(2 * n)[None] >= n
    return Rate(float(metrics.auroc(values.flatten()[None], present)), ends)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
