"""The classical methods of the INR paper's Table 1 on its phantoms, and total variation."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor

from ... import metrics, profiles, solvers, store
from ...fields import Scan, phantom_scan
from . import published

BOUNDS = {"none": None, "nonnegative": (0, None), "box": (0, 1)}


class Method(NamedTuple):
    """A solver, its constraint on the values, and the most iterations it is given."""

    name: str
    # one of BOUNDS; EM is non-negative by itself. The sigmoid of a field implies the box.
    constraint: str
    cap: int


WEIGHTS = tuple(10 ** (k / 4) for k in range(-20, -7))
"""Of total variation, which the paper does not have: phantoms are piecewise constant."""
METHODS = (
    Method("fbp", "none", 0),
    Method("cgls", "none", 20),
    Method("em", "nonnegative", 500),
    *(Method("sirt", constraint, 500) for constraint in BOUNDS),
    *(Method("sart", constraint, 50) for constraint in BOUNDS),
    Method("tv", "none", 1000),
)


def solve(method: Method, scan: Scan, n_iter: float, callback: Callable | None = None) -> Tensor:
    """Return the reconstruction (k, 1, n, n) after n_iter iterations, not clipped.

    An iteration of SART is a pass over all views; for TV n_iter is its weight.
    """
    if method.name == "fbp":
        return solvers.fbp(scan.A, scan.y).x
    if method.name == "tv":
        return solvers.tv(scan.A, scan.y, n_iter, method.cap).x
    options = {} if method.name in ("cgls", "em") else {"bounds": BOUNDS[method.constraint]}
    return getattr(solvers, method.name)(scan.A, scan.y, n_iter, callback=callback, **options).x


def tune(method: Method, scan: Scan, weights=WEIGHTS) -> tuple[float, Tensor]:
    """Return the number of iterations, at most the cap, that is best, and the image there.

    Best is the largest mean PSNR after clipping to [0, 1]; for TV the number is the weight with the
    smallest mean relative error.
    """
    if method.name == "tv":
        options = {"y_validation": scan.y, "n_iter": method.cap}
        weight, _ = solvers.choose_weight(scan.A, scan.x, weights, **options)
        return weight, solve(method, scan, weight)
    if method.cap == 0:
        return 0, solve(method, scan, 0)
    best, n_iter, image = -math.inf, 0, None

    def keep_best(k, x):
        nonlocal best, n_iter, image
        score = float(metrics.psnr_db(x.clamp(0, 1), scan.x, peak=1).mean())
        if score > best:
            best, n_iter, image = score, k, x

    solve(method, scan, method.cap, keep_best)
    return n_iter, image


def run(profile: str) -> list[dict]:
    """Return the records of every method, scan, number of views and split, in this order.

    What is not stored is computed, in two minutes for all. Validation phantoms choose n_iter.
    """
    rows = store.records(experiment="baseline", task="inr_ct", profile=profile)
    rows = [row for row in rows if "data" not in row["parameters"]]
    stored = {_asked(row["method"], row["parameters"]): row for row in rows}
    records = []
    for about, method in _plan(profile):
        asked = [_asked(method.name, {**about, "split": split}) for split in ("validate", "test")]
        known = all(name in stored for name in asked)
        records += [stored[name] for name in asked] if known else _compute(profile, about, method)
    return records


def _plan(profile) -> Iterator[tuple[dict, Method]]:
    size = profiles.stage("baselines", profile)
    for image_size, crime in size.scans:
        for n_views in (5, 20):
            # with the inverse crime TV's best weight is zero
            for method in METHODS[:-1] if crime else METHODS:
                about = {"n_views": n_views, "image_size": image_size, "crime": crime}
                method = method._replace(cap=math.ceil(size.share * method.cap))
                yield {**about, "constraint": method.constraint}, method


def _asked(method, parameters):
    names = ("constraint", "n_views", "image_size", "crime", "split")
    return method, *(parameters[name] for name in names)


def _compute(profile, about, method):
    size, crime, n_views = profiles.stage("baselines", profile), about["crime"], about["n_views"]
    validation, test = (
        phantom_scan(ids, n_views, about["image_size"], crime=crime)
        for ids in (size.validation, size.test)
    )
    n_iter, x = tune(method, validation)
    images = (("validate", validation, x), ("test", test, solve(method, test, n_iter)))
    values = (
        (None, None) if crime else published.CLASSICAL.get((n_views, method.name), (None, None))
    )
    records = []
    for (split, scan, x_rec), value in zip(images, values, strict=True):
        chosen = {"weight" if method.name == "tv" else "n_iter": n_iter}
        record = store.record(
            experiment="baseline",
            task="inr_ct",
            network="inr",
            method=method.name,
            seed=0,
            profile=profile,
            inputs=[scan.name],
            paper=value and {**published.TABLE1, "value": value},
            metrics={**_scores(x_rec, scan.x), "at_cap": float(n_iter == method.cap > 0)},
            parameters={**about, **chosen, "split": split},
        )
        store.save_record(record)
        records.append(record)
    return records


def _scores(x_rec, x):
    """Return PSNR (peak 1, as in the paper), as it is and clipped to [0, 1]: mean, each image."""
    scores = {"n_images": len(x)}
    for name, image in (("psnr_db", x_rec), ("psnr_clipped_db", x_rec.clamp(0, 1))):
        values = metrics.psnr_db(image, x, peak=1)
        scores[name] = metrics.mean_ci(values)
        scores[f"{name}_images"] = [round(v, 4) for v in values.tolist()]
    return scores
