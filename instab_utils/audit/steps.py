"""The units of an audit: one test of one image each, by the stability test's own functions."""

import functools
import itertools
import math

import torch

from .. import attacks, profiles, solvers
from ..attacks.vectors import norm
from ..networks import Reconstructor
from ..stability import alarms as of_alarms
from ..stability import structure, worst
from ..stability.worst import attack_as_measured, psnr
from ..uncertainty import detection
from ..uncertainty.dropout import MCDropout
from ..uncertainty.null_detectors import NullDetector
from . import operators
from .function import PostProcessor

MOST_DB = 100.0
"""A PSNR above this is written as this: float32 knows no more."""
N_CALLS = {"smoke": 60, "standard": 600, "paper": 4000}
"""Calls of a black box in one search."""
N_PASSES = {"smoke": 4, "standard": 16, "paper": 64}
"""Of MC dropout."""
NULLS = ("gradient", "residual", "variance")


def db(x_rec: torch.Tensor, x: torch.Tensor) -> float:
    """PSNR, at most MOST_DB."""
    return min(psnr(x_rec, x), MOST_DB)


@torch.no_grad()
def clean(p, i: int) -> dict:
    """What the three make of the measurement as it is."""
    y, x = p.case.y[i : i + 1], p.case.x[i : i + 1]
    return {
        "psnr_db": db(p.f(y), x),
        "psnr_stable_db": db(p.case.tv(y), x),
        "psnr_front_end_db": db(p.case.front_end(y), x),
    }


def own(p, i: int) -> dict:
    """TV under its own worst case, through `unrolled` iterations; its r of the largest strength is
    kept, a start for black boxes.
    """
    case, size = p.case, p.size
    r = worst.directions(
        case.unrolled_tv, case, i, size, "prediction", "image", f"TV's own, audit {p.seed}", 1
    )
    y, x = case.y[i : i + 1], case.x[i : i + 1]
    rows = {}
    with torch.no_grad():
        before = case.unrolled_tv(y)
        for s in size.strengths:
            after = case.unrolled_tv(y + case.A(r[s]))
            rows[str(s)] = {
                "stable_own_amplification": float(norm(after - before) / norm(r[s])),
                "psnr_stable_own_clean_db": db(before, x),
                "psnr_stable_own_db": db(after, x),
            }
    return {"rows": rows, "r": r[size.strengths[-1]]}


def search(p, i: int, transferred: torch.Tensor | None) -> tuple[dict, str]:
    """The worst r found for f: {strength: r}, and how it was looked for."""
    case, size = p.case, p.size
    if p.f.gradients:
        r = worst.directions(
            p.f, case, i, size, "prediction", "image", f"network's, audit {p.seed}"
        )
        return (
            r,
            f"gradient ascent, {size.restarts} start{'s' * (size.restarts > 1)} of {size.ascent} steps",
        )
    y, image = case.y[i : i + 1], case.attacked[i : i + 1]
    generator = functools.partial(profiles.generator, p.seed)
    surrogate = attack_as_measured(
        case.front_end,
        case.A,
        image,
        y,
        strengths=size.strengths,
        n_iter=size.ascent,
        ascent=attacks.Ascent(init_scale=size.strengths[0] / 5),
        generator=generator(f"audit surrogate {i}"),
    )
    starts = {"the front end": surrogate.r[size.strengths[-1]], "total variation": transferred}
    starts = {
        name: r / norm(r) for name, r in starts.items() if r is not None and float(norm(r)) > 0
    }
    candidates = [{s: s * float(norm(image)) * r for s in size.strengths} for r in starts.values()]
    by = f"black box: worst cases of {' and '.join(starts)}"
    from . import blackbox

    n_calls = N_CALLS[p.profile]
    # one search from the transferred ones, one that has seen no stand-in
    for tried in (list(starts.values()), []):
        candidates.append(
            blackbox.search(
                p.f,
                case.A,
                image,
                y,
                strengths=size.strengths,
                n_calls=n_calls // 2,
                starts=tried,
                generator=generator(f"audit black box {i} {len(tried)}"),
            ).r
        )
    by += f", and two searches of {n_calls // 2} calls, from these and from nothing; weaker than gradients"
    with torch.no_grad():
        before = p.f(y)
        far = lambda r: float(norm(p.f(y + case.A(r)) - before))
        return {s: max((c[s] for c in candidates), key=far) for s in size.strengths}, by


def worst_case(p, i: int, transferred: torch.Tensor | None) -> dict:
    """Test 1 of one image, at every strength; two r are kept, of the verdict's strength and of the
    alarms'.
    """
    case, size = p.case, p.size
    r, by = search(p, i, transferred)
    y, x = case.y[i : i + 1], case.x[i : i + 1]
    rows = {}
    with torch.no_grad():
        for s in size.strengths:
            row = worst.changes(case, i, s, case.A(r[s]), None, "image", size)
            rows[str(s)] = {
                name: min(v, MOST_DB) if name.endswith("_db") else v for name, v in row.items()
            }
            draws = worst.twins(case, i, s, "image", size.n_twins)
            rows[str(s)]["psnr_twin_db"] = min(db(p.f(y + d), x) for d in draws)
    return {"rows": rows, "search": by, "r": {str(s): r[s] for s in {p.strength, p.alarm_strength}}}


def details(p, i: int) -> dict:
    """Test 2 of one image."""
    slopes, matched = structure.of_image(p.case, i, structure.N_DRAWS[p.profile])
    rows = []
    for (d, c), of_method in slopes.items():
        rows.append(
            {
                "detail": d,
                "contrast": c,
                "recovery": {m or "f": sum(v) / len(v) for m, v in of_method.items()},
                "pairs": {m or "f": matched[d, c, m] for m in structure.METHODS},
            }
        )
    return {"rows": rows}


@torch.no_grad()
def more_samples(p, i: int) -> dict:
    """Test 3 of one image: PSNR at every rate."""
    x, rows = p.case.x[i : i + 1], []
    for rate, f in zip(p.rates, p.f_at, strict=True):
        y = rate.y[i : i + 1]
        stable = solvers.tv(rate.A, y, p.case.tv_weight, n_iter=2 * p.size.n_iter, tol=1e-3).x
        calls = f.n_calls
        rows.append([db(f(y), x), db(stable, x), db(rate.A.pinv(y), x)])
        if f is not p.f:
            p.f.n_calls += f.n_calls - calls
    return {"rows": rows}


def watchers(p) -> dict:
    """Every alarm: name -> ((y, what is displayed of f(y)) -> map (1, 1, n, m)); the second is
    computed once for all.
    """

    def with_null(kind):
        return lambda y, x_rec: NullDetector(kind, None).spread(
            structure.displayed(p.case.front_end(y)), x_rec
        )

    found = {f"null-{kind}": with_null(kind) for kind in NULLS}
    if p.dropout is not None:
        estimator = MCDropout(
            _Through(p.f, p.dropout),
            N_PASSES[p.profile],
            profiles.generator(p.seed, "audit dropout"),
            batch=1 if p.f.one_by_one else None,
        )
        found["dropout"] = lambda y, x_rec: estimator.predict(y).spread
    for name, given in p.alarms.items():
        found[name] = functools.partial(_given, p, given)
    return found


class _Through(torch.nn.Module):
    """y -> |f(y)|, whose dropout layers are the network's."""

    def __init__(self, f, network):
        super().__init__()
        self.network, self.f = network, f
        self.train(network.training)

    def forward(self, y):
        return structure.displayed(self.f(y))


def _given(p, alarm, y, x_rec):
    u = p.f.image(alarm(y.detach().cpu().numpy() if p.f.numpy else y), 1)
    return structure.displayed(u)


@torch.no_grad()
def thresholds(p) -> dict:
    """Of every alarm the 95 % quantile of its mean on clean images that are not audited."""
    every = watchers(p)
    means = {name: [] for name in every}
    for y in p.validation.y.split(1):
        x_rec = structure.displayed(p.f(y))
        for name, u in every.items():
            means[name].append(u(y, x_rec).mean())
    return {name: detection.threshold(torch.stack(values)) for name, values in means.items()}


@torch.no_grad()
def alarms(p, i: int, r: torch.Tensor | None, usual: dict) -> dict:
    """Every alarm before and after the worst case and after details of contrast 0.3."""
    case = p.case
    y, x = case.y[i : i + 1], structure.displayed(case.x[i : i + 1])
    before = structure.displayed(p.f(y))
    failures = {}
    if r is not None:
        y_after = y + case.A(r)
        x_after = structure.displayed(p.f(y_after))
        away = (x_after - before).abs()
        failures["worst case"] = y_after, x_after, away > away.flatten().quantile(0.95), x
    if p.why_no_details is None:
        drawn = structure.detail(case, i, "suits", profiles.generator(p.seed, f"audit alarms {i}"))
        height = of_alarms.CONTRAST * float(case.attacked[i : i + 1].abs().max())
        y_after, s = y + height * drawn.y, drawn.image.to(x.device)
        failures["details"] = y_after, structure.displayed(p.f(y_after)), s > 0.5, x + height * s
    rows = []
    for name, u in watchers(p).items():
        u_before = u(y, before)
        for kind, (y_after, x_after, mask, truth) in failures.items():
            if not 0 < int(mask.sum()) < mask.numel():
                continue
            u_after = u(y_after, x_after)
            found = of_alarms.scores(
                u_before,
                u_after,
                x_after,
                of_alarms.Failure(kind, 0.0, y_after, truth, mask),
                usual[name],
            )
            rows.append(
                {
                    "alarm": name,
                    "failure": kind,
                    **{key: float(v) for key, v in found.items()},
                    "mean_before": float(u_before.mean()),
                    "mean_after": float(u_after.mean()),
                }
            )
    return {"rows": rows}


def bracket(p, i: int) -> dict:
    """How far f can be moved at least, and at most, in the measurement domain."""
    from .bracket import bracket as between

    # y has the form that f takes
    as_given = operators.own(p.case.A) is p.case.A and not getattr(p.case.A, "single", False)
    f = p.f.f if as_given and p.f.gradients and not p.f.with_operator else p.f
    if (
        isinstance(p.f.f, PostProcessor)
        and p.f.f.front_end == "pinv"
        and isinstance(p.f.f.network, torch.nn.Module)
    ):
        f = Reconstructor(p.f.f.network, p.case.A)
    return between(
        f,
        p.case.A,
        p.case.y[i : i + 1],
        network=p.network,
        rel_norms=p.size.strengths,
        n_iter=p.size.ascent,
        generator=profiles.generator(p.seed, "audit bracket"),
    )


def plan(p) -> list[tuple[str, str, int]]:
    """(test, kind, image), so that every test has one image before any has two; TV's own worst
    first, a start for black boxes.
    """
    tests = [
        "clean",
        "TV's own worst case",
        "worst case",
        "details",
        "more samples",
        "alarms",
        "pictures",
        "bracket",
    ]
    first_only = {"pictures", "bracket"}
    order = []
    for i, test in itertools.product(range(len(p.case.x)), tests):
        if i == 0 or test not in first_only:
            order.append((test, test, i))
    return order


def finite(values: list) -> list[float]:
    return [v for v in values if v is not None and math.isfinite(v)]
