"""Test 3: more samples. A stable method improves; a network trained at one rate need not."""

from typing import NamedTuple

import torch

from .. import solvers
from ..networks import Case
from ..operators import LinearOperator
from .comparison import METHODS, psnr, summary

BEYOND = 1.5  # times the training rate: what counts as more samples
MARGIN_DB = 0.5  # least mean change that counts


class Rate(NamedTuple):
    """One sampling pattern, its share of the training's samples, and the measured images."""

    share: float
    n_samples: int
    A: LinearOperator
    y: torch.Tensor


@torch.no_grad()
def at_rate(case: Case, rate: Rate) -> dict[str, list[float]]:
    """Return the PSNR of every image at one rate: {method: values in dB}.

    TV has one weight for all rates; its data term is divided by ||A||^2.
    """
    tv = solvers.tv(rate.A, rate.y, case.tv_weight, n_iter=2 * case.tv_iterations, tol=1e-3)
    answers = {
        "network": case.behind(rate.A, rate.y),
        "tv": tv.x,
        "front_end": rate.A.pinv(rate.y),
    }
    return {
        method: [psnr(one, x) for one, x in zip(x_rec.split(1), case.x.split(1), strict=True)]
        for method, x_rec in answers.items()
    }


def trend(
    rates: list[tuple[float, int]], psnrs: list[dict[str, list[float]]], beyond: float = BEYOND
) -> dict[str, object]:
    """Return test 3: {method: metrics}, and "share", "n_samples" of every rate.

    - psnr_db: mean over images at each rate.
    - change_db: of each image, the mean over rates of at least `beyond` minus the PSNR at the
      training's rate.
    - verdict: 1 improves, 0 stagnates, -1 degrades, see `verdict`.

    Args:
        rates: share and number of samples of each rate.
        psnrs: `at_rate` of each.
    """
    shares = [round(share, 4) for share, _ in rates]
    trained = min(range(len(shares)), key=lambda k: abs(shares[k] - 1))
    more = [k for k, share in enumerate(shares) if share >= beyond]
    results = {"share": shares, "n_samples": [n_samples for _, n_samples in rates]}
    for method in METHODS:
        values = torch.tensor([each[method] for each in psnrs], dtype=torch.float64)
        results[method] = {"psnr_db": values.mean(1)}
        if more:
            change = values[more].mean(0) - values[trained]
            results[method] |= summary({"change_db": change.tolist()})
            results[method]["verdict"] = verdict(change)
    return results


def verdict(change_db: torch.Tensor) -> int:
    """Return 1 (improves), -1 (degrades) or 0 (stagnates).

    The mean change counts from MARGIN_DB and twice its standard error.
    """
    mean = float(change_db.mean())
    error = float(change_db.std() / len(change_db) ** 0.5) if len(change_db) > 1 else 0.0
    if abs(mean) < max(MARGIN_DB, 2 * error):
        return 0
    return 1 if mean > 0 else -1
