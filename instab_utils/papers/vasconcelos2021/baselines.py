"""The classical methods of the INR paper's Table 1 on its phantoms: `python -m
instab_utils.papers.vasconcelos2021.baselines standard`.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ... import metrics, profiles, solvers, store
from ...fields.scans import TEST, VALIDATION, Scan, phantom_scan

BOUNDS = {"none": None, "nonnegative": (0, None), "box": (0, 1)}
# Vasconcelos, He, Teh, Table 1: PSNR of the validation and of the test phantoms; 21.12 twice is as
# printed
PAPER = {
    (5, "fbp"): (7.68, 5.15),
    (5, "cgls"): (16.38, 14.62),
    (5, "em"): (21.39, 19.88),
    (5, "sart"): (21.12, 19.75),
    (5, "sirt"): (21.12, 21.12),
    (20, "fbp"): (17.35, 15.71),
    (20, "cgls"): (21.85, 20.82),
    (20, "em"): (30.22, 29.11),
    (20, "sart"): (31.97, 30.45),
    (20, "sirt"): (31.98, 30.44),
}


class Method(NamedTuple):
    """A solver, what it knows of the values beforehand, and the most iterations it is given."""

    name: str
    # one of BOUNDS; EM is non-negative by itself. A field with a sigmoid knows the box.
    constraint: str
    cap: int


WEIGHTS = tuple(10 ** (k / 4) for k in range(-20, -7))
"""Of total variation, which the paper has not: a stable solver that knows that phantoms are
piecewise constant.
"""
METHODS = (
    Method("fbp", "none", 0),
    Method("cgls", "none", 20),
    Method("em", "nonnegative", 500),
    *(Method("sirt", constraint, 500) for constraint in BOUNDS),
    *(Method("sart", constraint, 50) for constraint in BOUNDS),
    Method("tv", "none", 1000),
)


@dataclass(frozen=True)
class Size:
    """How much work a profile does."""

    validation: tuple[int, ...]  # phantoms that the numbers of iterations are chosen on
    test: tuple[int, ...]
    # image sizes, and whether data and reconstruction share a matrix
    scans: tuple[tuple[int, bool], ...]
    share: float  # of the caps


SIZES = {
    "smoke": Size(VALIDATION[:1], TEST[:1], ((32, False),), 0.04),
    "standard": Size(VALIDATION, TEST, ((64, False), (128, False), (64, True)), 1.0),
    "paper": Size(VALIDATION, TEST, ((256, False), (256, True)), 1.0),
}


def solve(
    method: Method, scan: Scan, n_iter: float, callback: Callable | None = None
) -> torch.Tensor:
    """The reconstruction (k, 1, n, n) after n_iter iterations (SART: passes over all views; TV:
    with that weight), not clipped.
    """
    if method.name == "fbp":
        return solvers.fbp(scan.A, scan.y).x
    if method.name == "tv":
        return solvers.tv(scan.A, scan.y, n_iter, method.cap).x
    options = {} if method.name in ("cgls", "em") else {"bounds": BOUNDS[method.constraint]}
    return getattr(solvers, method.name)(scan.A, scan.y, n_iter, callback=callback, **options).x


def tune(method: Method, scan: Scan) -> tuple[float, torch.Tensor]:
    """The number of iterations, at most the cap, with the best mean PSNR after clipping to [0, 1],
    and the image there.

    Of TV, the weight among `WEIGHTS` with the smallest mean relative error.
    """
    if method.name == "tv":
        weight, _ = solvers.choose_weight(
            scan.A, scan.x, WEIGHTS, y_validation=scan.y, n_iter=method.cap
        )
        return weight, solve(method, scan, weight)
    best, n_iter, x = -math.inf, 0, None

    def look(k, x_k):
        nonlocal best, n_iter, x
        score = float(metrics.psnr_db(x_k.clamp(0, 1), scan.x, peak=1).mean())
        if score > best:
            best, n_iter, x = score, k, x_k

    if method.cap == 0:
        return 0, solve(method, scan, 0)
    solve(method, scan, method.cap, look)
    return n_iter, x


def run(profile: str) -> list[dict]:
    """Every method on validation and test phantoms, 5 and 20 views: records, saved. The validation
    phantoms choose n_iter.
    """
    return [record for plan in _plan(profile) for record in _run(profile, *plan)]


def _run(profile, about, n_views, method):
    (image_size, crime), size = about, SIZES[profile]
    scans = {
        split: phantom_scan(ids, n_views, image_size, crime=crime)
        for split, ids in (("validate", size.validation), ("test", size.test))
    }
    n_iter, x = tune(method, scans["validate"])
    made = []
    for i, (split, scan) in enumerate(scans.items()):
        x = x if split == "validate" else solve(method, scan, n_iter)
        published = PAPER.get((n_views, method.name))
        paper = (
            None
            if crime or not published
            else {"source": "vasconcelos", "where": "Table 1", "value": published[i]}
        )
        chosen = {"weight" if method.name == "tv" else "n_iter": n_iter}
        made.append(
            store.record(
                experiment="baseline",
                task="inr_ct",
                network="inr",
                method=method.name,
                seed=0,
                profile=profile,
                inputs=[scan.name],
                paper=paper,
                metrics={**scores(x, scan.x), "at_cap": float(n_iter == method.cap > 0)},
                parameters={
                    "n_views": n_views,
                    "image_size": image_size,
                    "constraint": method.constraint,
                    **chosen,
                    "split": split,
                    "crime": crime,
                },
            )
        )
        store.save_record(made[-1])
    return made


def scores(x_rec: torch.Tensor, x: torch.Tensor) -> dict[str, object]:
    """PSNR (peak 1, as in the paper) as it is and after clipping to [0, 1]: mean with its Student-t
    interval, and each image.
    """
    found = {
        "psnr_db": metrics.psnr_db(x_rec, x, peak=1),
        "psnr_clipped_db": metrics.psnr_db(x_rec.clamp(0, 1), x, peak=1),
    }
    each = {
        f"{name}_images": [round(v, 4) for v in values.tolist()] for name, values in found.items()
    }
    return {
        **{name: metrics.mean_ci(values) for name, values in found.items()},
        **each,
        "n_images": len(x),
    }


def rows(profile: str) -> list[dict]:
    """The last record of every method, size, number of views and split, made now where there is
    none: `run` takes two minutes.
    """
    found = store.records(experiment="baseline", task="inr_ct", network="inr", profile=profile)
    last = {_name(r): r for r in found}
    rows = []
    for scan, n_views, method in _plan(profile):
        wanted = [
            (method.name, method.constraint, n_views, *scan, split)
            for split in ("validate", "test")
        ]
        rows += (
            [last[name] for name in wanted]
            if set(wanted) <= set(last)
            else _run(profile, scan, n_views, method)
        )
    return rows


def _name(record):
    return (
        record["method"],
        *(
            record["parameters"].get(k)
            for k in ("constraint", "n_views", "image_size", "crime", "split")
        ),
    )


def _plan(profile: str) -> Iterator[tuple[tuple[int, bool], int, Method]]:
    size = SIZES[profile]
    for scan in size.scans:
        for n_views in (5, 20):
            # with the inverse crime TV wants a weight of zero
            for method in METHODS[:-1] if scan[1] else METHODS:
                yield scan, n_views, method._replace(cap=math.ceil(size.share * method.cap))


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m instab_utils.papers.vasconcelos2021.baselines", description=__doc__.split(":")[0]
    )
    parser.add_argument("profile", choices=profiles.NAMES)
    print(
        f"{'views':>5} {'size':>4} {'data':<6} {'method':<5} {'constraint':<12} {'n_iter':>6}   {'validate':>13}   {'test':>13}   paper"
    )
    made = rows(parser.parse_args().profile)
    for validate, test in zip(made[::2], made[1::2], strict=True):
        p, published = (
            validate["parameters"],
            [r["paper"]["value"] if r["paper"] else "" for r in (validate, test)],
        )
        numbers = "   ".join(
            f"{r['metrics']['psnr_db']:6.2f} {r['metrics']['psnr_clipped_db']:6.2f}"
            for r in (validate, test)
        )
        print(
            f"{p['n_views']:>5} {p['image_size']:>4} {'crime' if p['crime'] else 'fine':<6} {validate['method']:<5} "
            f"{p['constraint']:<12} {p.get('n_iter', p.get('weight')):>6.3g}   {numbers}   {published[0]} {published[1]}"
        )


if __name__ == "__main__":
    main()
