"""Test 2: which methods show details that no training image had."""

import itertools
from typing import NamedTuple

import torch
from torch import Tensor

from .. import metrics, profiles, shifts
from ..data import framed
from ..networks import Case
from ..operators import Radon, measured_finely
from .comparison import METHODS, displayed, methods, summary

CONTRASTS = (0.1, 0.3, 0.6)  # of max |x|
MESSAGE = "CAN U SEE IT"
FINER = 4  # CT: details are drawn and measured on a grid so many times as fine


class Drawn(NamedTuple):
    """Details of one image: where each is, and all of them as one image of height 1."""

    image: Tensor  # (1, 1, n, n) in [0, 1]
    y: Tensor  # its measurement, turned by the phase of x
    boxes: dict[str, tuple[slice, slice]]  # detail -> rows, columns


class Shown(NamedTuple):
    """What one method shows of one detail at one contrast, draw by draw."""

    slopes: list[float]  # contrast recovery
    pairs: list[tuple[float, float]]  # matched filter (without, with) the detail


def side(image_size: int) -> int:
    """Return the pixels of a suit: 9 at 128; those of Antun et al. have 10 to 11 at 256 to 512."""
    return max(5, round(image_size * 9 / 128))


def draw(
    image_size: int, kind: str, generator: torch.Generator
) -> tuple[Tensor, dict[str, tuple[slice, slice]]]:
    """Draw "suits", one in each quarter of the middle, or "text", on a grid FINER times as fine.

    Returns ((FINER n, FINER n) image, {detail: (rows, columns) on n pixels, two pixels wider than
    the detail}).
    """
    n, boxes = image_size, {}
    if kind == "text":
        height = max(8, round(n * 10 / 128))
        centre = (0.35 + 0.3 * _uniform(generator), 0.5)
        page = shifts.text(MESSAGE, FINER * n, height=FINER * height, centre=centre)[0, 0]
        rows, columns = page.nonzero().T
        boxes["text"] = tuple(
            slice(int(a.min()) // FINER - 1, int(a.max()) // FINER + 2) for a in (rows, columns)
        )
        return page, boxes
    fine = torch.zeros(FINER * n, FINER * n)
    s = side(n)
    order = torch.randperm(len(shifts.SUITS), generator=generator).tolist()
    for quarter, k in enumerate(order):
        row, column = (
            round(n * (0.28 + 0.26 * half + 0.18 * _uniform(generator))) - s // 2
            for half in divmod(quarter, 2)
        )
        box = slice(FINER * row, FINER * (row + s)), slice(FINER * column, FINER * (column + s))
        fine[box] = shifts.suit(shifts.SUITS[k], FINER * s)
        boxes[shifts.SUITS[k]] = slice(row - 2, row + s + 2), slice(column - 2, column + s + 2)
    return fine, boxes


def detail(case: Case, i: int, kind: str, generator: torch.Generator) -> Drawn:
    """Return details for image i: CT measures them on the finer grid, MRI by the image's phase.

    Those of a rectangle are in the square in its middle.
    """
    shape = case.A.image_shape
    n = min(shape)
    fine, boxes = draw(n, kind, generator)
    x = case.attacked[i : i + 1]
    fine = fine.to(x.device)[None, None]
    image = torch.nn.functional.avg_pool2d(fine, FINER)
    if isinstance(case.A, Radon):
        return Drawn(image, measured_finely(fine, case.A), boxes)
    image = framed(image, shape)
    for name, box in boxes.items():
        starts = ((side - n) // 2 for side in shape)
        boxes[name] = tuple(slice(s.start + k, s.stop + k) for s, k in zip(box, starts))
    turned = image * torch.exp(1j * x.angle()) if x.is_complex() else image
    return Drawn(image, case.A(turned), boxes)


def average(images: list[dict]) -> dict[tuple[str, float], dict[str, object]]:
    """Return test 2, of `shown_details` of every image: {(detail, contrast): {method: metrics}}.

    - contrast_recovery: slope of f(y + c A s) - f(y) against c s in the box of s: 1 shows it whole,
      0 erases it.
    - auroc: of a reader who knows what to look for and where: matched filter on f, details against
      the same boxes without, over all images and draws; anatomy is the noise.

    Complex images by magnitude.
    """
    results = {}
    for d, c in dict.fromkeys((d, c) for d, c, _ in images[0]):
        results[d, c] = {"n_details": sum(len(image[d, c, "network"].pairs) for image in images)}
        for method in METHODS:
            shown = [image[d, c, method] for image in images]
            recovery = [sum(one.slopes) / len(one.slopes) for one in shown]
            pairs = [pair for one in shown for pair in one.pairs]
            results[d, c][method] = summary({"contrast_recovery": recovery})
            results[d, c][method]["auroc"] = auroc(pairs)
    return results


@torch.no_grad()
def shown_details(case: Case, i: int, n_draws: int) -> dict[tuple[str, float, str], Shown]:
    """Return what is shown of image i's details: {(detail, contrast, method): Shown}."""
    # below 96 pixels no text fits
    kinds = ("suits", "text") if min(case.A.image_shape) >= 96 else ("suits",)
    y, peak = case.y[i : i + 1], float(case.attacked[i : i + 1].abs().max())
    reconstruct = methods(case)
    before = {method: displayed(f(y)) for method, f in reconstruct.items()}
    results = {}
    for kind, k in itertools.product(kinds, range(n_draws)):
        drawn = detail(case, i, kind, profiles.generator(k, f"details {case.name} {kind} {i}"))
        for c, (method, f) in itertools.product(CONTRASTS, reconstruct.items()):
            after = displayed(f(y + c * peak * drawn.y))
            for d, box in drawn.boxes.items():
                s = drawn.image[0, 0][box]
                without, with_detail = before[method][0, 0][box], after[0, 0][box]
                matched = s - s.mean()
                shown = results.setdefault((d, c, method), Shown([], []))
                shown.slopes.append(slope(with_detail - without, c * peak * s))
                shown.pairs.append(
                    (float((matched * without).sum()), float((matched * with_detail).sum()))
                )
    return results


def slope(change: Tensor, s: Tensor) -> float:
    """Return b of the least-squares fit change = a + b s."""
    s = (s - s.mean()).double()
    return float((s * change.double()).sum() / s.square().sum())


def auroc(pairs: list[tuple[float, float]]) -> metrics.Mean:
    """Return P(with > without) + P(equal) / 2 of pairs (without, with).

    Its 95 % interval is that of 1000 bootstrap samples of pairs.
    """
    values = torch.tensor(pairs, dtype=torch.float64).T
    n, generator = values.shape[1], profiles.generator(0, "bootstrap of details")
    without, with_detail = values
    better = (with_detail[:, None] > without).double()
    better += (with_detail[:, None] == without).double() / 2
    drawn = torch.randint(n, (1000, n), generator=generator)
    # of every sample: how often each pair is in it
    times = torch.zeros(1000, n, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(times))
    areas = ((times @ better) * times).sum(1) / n**2
    low, high = areas.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    present = torch.arange(2 * n)[None] >= n
    return metrics.Mean(float(metrics.auroc(values.flatten()[None], present)), low, high)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
