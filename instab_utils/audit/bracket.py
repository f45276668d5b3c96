"""The worst change of f(y) under ||e|| <= eps, between the best attack and a certificate."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import nn

from .. import attacks, profiles, store, training
from . import lipschitz
from .certificates import Certificate, certificate, exact

REL_NORMS = (0.001, 0.003, 0.01, 0.03)
VERSION = 2


def bracket(
    f: Callable,
    A,
    y: torch.Tensor,
    *,
    generator: torch.Generator,
    network: nn.Module | None = None,
    rel_norms: Sequence[float] = REL_NORMS,
    n_iter: int = 30,
    n_twins: int = 4,
) -> dict:
    """Return bounds of the worst change, e* and c(eps), for the first image of y.

    ||f(y + e*) - f(y)|| <= max over ||e|| <= eps of ||f(y + e) - f(y)|| <= c(eps).

    e* is the best of `attacks.measurement_attack` (of the twins where f has no gradient), c is
    `certificates.certificate`; beside them the mean change under random e of the same norm. Where f
    has a copy in double precision, all are measured in it, so that rounding in f stands in none of
    them. An attack at a smaller eps counts at the larger ones too.

    Args:
        f, A, y, network: as `certificate` takes them.
        generator: of the attack's start and of the twins.
        rel_norms: eps / ||y||.

    Returns:
        {"domain": "measurement", "rows": [{"rel_norm", "e_norm", "attack", "twin", "certificate"
        (None where there is none), "by"}], "per": "image 1", "why_not": why there is no
        certificate, or None}; all but rel_norm are norms in the units of y and x.

    Raises:
        AssertionError: an attack above a certificate, which means that one of the two is wrong.
        ValueError: y = 0.
    """
    y = y[:1].detach()
    length = float(y.abs().double().norm())
    if length == 0:
        raise ValueError(
            "bracket measures ||e|| relative to ||y||; got y = 0. Take another measurement."
        )
    rel_norms = sorted(float(r) for r in rel_norms)
    e_norms = [r * length for r in rel_norms]
    bound = certificate(f, A, y, e_norms, network)
    change = _change(f, A, y, network, bound)
    perturbations = _attack(f, y, rel_norms, generator, n_iter)
    support = (y != 0).to(y.dtype)
    rows, strongest = [], 0.0
    for i, (rel_norm, e_norm) in enumerate(zip(rel_norms, e_norms)):
        draws = attacks.random_twin(support, generator, n_twins)
        twins = [change(e, e_norm) for e in draws]
        attack = change(perturbations[rel_norm], e_norm) if perturbations else 0.0
        strongest = max(strongest, attack, *twins)
        row = {
            "rel_norm": rel_norm,
            "e_norm": e_norm,
            "attack": strongest,
            "twin": sum(twins) / len(twins),
            "certificate": None,
            "by": "none",
        }
        if bound.bounds is not None:
            row |= {"certificate": float(bound.bounds[0, i]), "by": bound.by[i]}
            if not row["attack"] <= row["certificate"]:
                raise AssertionError(
                    f"an attack of norm {e_norm:.6g} changes f(y) by {strongest:.9g}, above its "
                    f"certificate {row['certificate']:.9g} ({row['by']}): one of the two is wrong. "
                    "Please report it with the network."
                )
        rows.append(row)
    return {"domain": "measurement", "rows": rows, "per": "image 1", "why_not": bound.why_not}


def _change(f, A, y, network, bound: Certificate) -> Callable[[torch.Tensor, float], float]:
    """(e, norm) -> ||f(y + e) - f(y)||, e of that norm; in double precision where f allows it."""
    if bound.bounds is not None:
        f = exact(f, A, y, network)
        y = y.to(torch.complex128 if y.is_complex() else torch.float64)
    with torch.no_grad():
        before = f(y)

    @torch.no_grad()
    def change(e: torch.Tensor, norm: float) -> float:
        e = e.to(y.dtype)
        e = e * (norm / e.abs().double().norm())
        return float((f(y + e) - before).abs().double().norm())

    return change


def _attack(f, y, rel_norms, generator, n_iter) -> dict | None:
    """e by rel_norm; None where f has no gradient, or does not react."""
    try:
        leaf = y.clone().requires_grad_()
        out = f(leaf)
        if not out.requires_grad:
            return None
        torch.autograd.grad(out.abs().square().sum(), leaf)
        return attacks.measurement_attack(
            f,
            y,
            generator=generator,
            strengths=rel_norms,
            n_iter=n_iter,
            ascent=attacks.Ascent(init_scale=rel_norms[0] / 4),
        ).r
    except (ValueError, RuntimeError):
        return None


def recorded(
    name: str, seed: int = 0, rel_norms: Sequence[float] = REL_NORMS, image_size: int = 96
) -> list[dict]:
    """Return the bracket of a network of the package on its first test image, as records.

    Args:
        name: one of `training.NAMES`, or "lipschitz-dncnn".
        image_size: of the denoisers; the others take their own.

    Returns:
        One record for every norm: experiment "bracket", metrics attack, certificate, twin, e_norm.
    """
    if name == "lipschitz-dncnn":
        spec, case = lipschitz.LipschitzDnCNN(), lipschitz.case(1, image_size=image_size)
    else:
        spec = training.recipe(name)
        size = image_size if name == "dncnn" else None
        case = training.case(spec, n_images=1, image_size=size, noise=0.0, tv=False)
    key = store.load_or_train(spec).key

    @functools.cache
    def rows() -> list[dict]:
        generator = profiles.generator(seed, f"bracket {name}")
        return bracket(case.f, case.A, case.y, rel_norms=rel_norms, generator=generator)["rows"]

    def metrics(i: int) -> dict:
        return {name: rows()[i][name] for name in ("attack", "certificate", "twin", "e_norm")}

    records = []
    for i, rel_norm in enumerate(sorted(rel_norms)):
        identity = dict(
            experiment="bracket",
            task=case.task,
            network=name,
            method=name,
            seed=seed,
            profile="standard",
            parameters={"rel_norm": rel_norm, "image_size": list(case.x.shape[-2:])},
            inputs=[key],
        )
        records.append(store.cached(functools.partial(metrics, i), version=VERSION, **identity))
    return records
