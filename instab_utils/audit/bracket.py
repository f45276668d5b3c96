"""The bracket: the worst change of f(y) under ||e|| <= eps lies between the best attack found and a
certificate.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from .. import attacks, profiles, store, training
from . import lipschitz
from .certificates import NoCertificate, certificate, exact


def bracket(
    f: Callable,
    A,
    y: torch.Tensor,
    *,
    network: nn.Module | None = None,
    rel_norms: Sequence[float] = (0.001, 0.003, 0.01, 0.03),
    generator: torch.Generator,
    n_iter: int = 30,
    n_twins: int = 4,
) -> dict:
    """||f(y + e*) - f(y)|| <= max over ||e|| <= eps of ||f(y + e) - f(y)|| <= c(eps), for the first
    image of y.

    e* is the best of `attacks.measurement_attack` (of the twins where f has no gradient), c is
    `certificates.certificate`; beside them the mean change under random e of the same norm. Where f
    can be had in double precision, all are measured in it, so that rounding in f stands in none of
    them. An attack at a smaller eps counts at the larger ones too.

    Args:
        f, A, y, network: as `certificate` takes them.
        rel_norms: eps / ||y||.
        generator: of the attack's start and of the twins.

    Returns:
        {"domain": "measurement", "rows": [{"rel_norm", "e_norm", "attack", "twin", "certificate"
        (None where there is none), "by"}], "per": "image 1", "why_not": why there is no
        certificate, or None}; all but rel_norm are norms in the units of y and x.

    Raises:
        AssertionError: an attack above a certificate, which means that one of the two is wrong.
        ValueError: y = 0.
    """
    y = y[:1].detach()
    size = float(y.abs().double().norm())
    if size == 0:
        raise ValueError(
            "bracket measures ||e|| relative to ||y||; got y = 0. Take another measurement."
        )
    rel_norms = sorted(float(r) for r in rel_norms)
    e_norms = [r * size for r in rel_norms]
    found = certificate(f, A, y, e_norms, network)
    try:
        f_wide = exact(f, A, y, network) if found.bounds is not None else f
        wide = torch.complex128 if y.is_complex() else torch.float64
    except NoCertificate:
        f_wide, wide = f, y.dtype
    wide = wide if found.bounds is not None else y.dtype
    perturbations = _attack(f, y, rel_norms, generator, n_iter)
    y_wide = y.to(wide)
    with torch.no_grad():
        x_rec = f_wide(y_wide)

        def change(e, norm):
            e = e.to(wide)
            return float(
                (f_wide(y_wide + e * (norm / e.abs().double().norm())) - x_rec)
                .abs()
                .double()
                .norm()
            )

        rows, strongest = [], 0.0
        for i, (rel, norm) in enumerate(zip(rel_norms, e_norms)):
            sampled = (y != 0).to(y.dtype)
            twins = [change(e, norm) for e in attacks.random_twin(sampled, generator, n_twins)]
            tried = [change(perturbations[rel], norm)] if perturbations else twins
            strongest = max(strongest, *tried, *twins)
            bound = None if found.bounds is None else float(found.bounds[0, i])
            if bound is not None and not strongest <= bound:
                raise AssertionError(
                    f"an attack of norm {norm:.6g} changes f(y) by {strongest:.9g}, above its certificate {bound:.9g} "
                    f"({found.by[i]}): one of the two is wrong. Please report it with the network."
                )
            rows.append(
                {
                    "rel_norm": rel,
                    "e_norm": norm,
                    "attack": strongest,
                    "twin": sum(twins) / len(twins),
                    "certificate": bound,
                    "by": found.by[i] if found.by else "none",
                }
            )
    return {"domain": "measurement", "rows": rows, "per": "image 1", "why_not": found.why_not}


def recorded(
    name: str,
    seed: int = 0,
    rel_norms: Sequence[float] = (0.001, 0.003, 0.01, 0.03),
    image_size: int = 96,
    **options,
) -> list[dict]:
    """The bracket of a network of the package on its first test image, as records: looked up, or
    made and saved.

    Args:
        name: one of `training.NAMES`, or "lipschitz-dncnn".
        image_size: of the denoisers; the others take their own.

    Returns:
        One record for every norm: experiment "bracket", metrics attack, certificate, twin, e_norm.
    """
    if name == "lipschitz-dncnn":
        spec, found = lipschitz.LipschitzDnCNN(), lipschitz.case(1, image_size=image_size)
    else:
        spec = training.recipe(name)
        size = image_size if name == "dncnn" else None
        found = training.case(spec, n_images=1, image_size=size, noise=0.0, tv=False)
    key, rows = store.load_or_train(spec).key, []

    def row(i):
        if not rows:
            generator = profiles.generator(seed, f"bracket {name}")
            rows.extend(
                bracket(
                    found.f, found.A, found.y, rel_norms=rel_norms, generator=generator, **options
                )["rows"]
            )
        return {k: rows[i][k] for k in ("attack", "certificate", "twin", "e_norm")}

    return [
        store.cached(
            lambda i=i: row(i),
            experiment="bracket",
            task=found.task,
            network=name,
            method=name,
            seed=seed,
            profile="standard",
            parameters={"rel_norm": r, "image_size": list(found.x.shape[-2:]), **options},
            inputs=[key],
        )
        for i, r in enumerate(sorted(rel_norms))
    ]


def _attack(f, y, rel_norms, generator, n_iter) -> dict | None:
    """e by rel_norm; None where f has no gradient, or does not react."""
    try:
        leaf = y.clone().requires_grad_()
        out = f(leaf)
        if not out.requires_grad:
            return None
        torch.autograd.grad(out.abs().square().sum(), leaf)
        run = attacks.measurement_attack(
            f,
            y,
            generator=generator,
            strengths=rel_norms,
            n_iter=n_iter,
            ascent=attacks.Ascent(init_scale=rel_norms[0] / 4),
        )
    except (ValueError, RuntimeError):
        return None
    return run.r
