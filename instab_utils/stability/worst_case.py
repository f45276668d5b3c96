"""Test 1: tiny worst-case perturbations of a network, beside a stable solver.

The stable solver sees the network's perturbation, and its own worst case.
"""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor

from .. import attacks, metrics, profiles
from ..attacks.vectors import norm
from ..networks import Case
from .comparison import methods, psnr, summary

STARTS = ("singular", "gaussian")  # of the first run, of all others
FRACTIONS = (0.25, 0.5, 1.0, 2.0)  # ||v|| / ||r|| of the noise around r


def attack(f: Callable, A: Callable, image: Tensor, y: Tensor, **options) -> attacks.WorstCase:
    """Return `attacks.worst_case` of f(y + A r): what A(image) does not explain of y stays in it.

    That is noise, and the finer grid on which CT data are simulated.
    """
    with torch.no_grad():
        rest = y - A(image)
    return attacks.worst_case(lambda z: f(z + rest), A, image, **options)


def search(
    f: Callable,
    case: Case,
    i: int,
    size: SimpleNamespace,
    target: str = "prediction",
    domain: str = "image",
    stream: str = "network's",
    restarts: int | None = None,
) -> dict[float, Tensor]:
    """Return the worst perturbations of image i found for f: {strength: r}, ||r|| = strength ||x||.

    The first run begins at the Jacobian's top singular vector (CT: and climbs by Algorithm 2 of the
    paper), others at noise, by the exact gradient; of each strength the one is kept that moves
    f(y + A r) farthest from p. y is the measurement of the case, noise and finer grid included.

    Args:
        size: `profiles.stage("stability", ...)`: strengths, ascent (steps), restarts.
        target: p of the attack, "prediction" f(y) or "truth" x.
        domain: "image", or "measurement": e in place of A r, any change with
            ||e|| = strength ||y||.
        stream: name of the random starts.
        restarts: in place of `size.restarts`.
    """
    y, image = case.y[i : i + 1], case.attacked[i : i + 1]
    with torch.no_grad():
        p = f(y) if target == "prediction" else case.x[i : i + 1]
    largest = size.strengths[-1]
    worst, distance = {}, {}
    for k in range(restarts or size.restarts):
        exact = domain == "image" and k > 0
        ascent = attacks.Ascent(
            init=STARTS[min(k, 1)],
            init_scale=size.strengths[0] / 5,
            algorithm=1 if exact else "auto",
        )
        options = dict(
            strengths=size.strengths,
            n_iter=size.ascent,
            target=p,
            ascent=ascent,
            generator=profiles.generator(k, f"{stream} {case.name} {i} {target} {domain}"),
        )
        if domain == "image":
            run = attack(f, case.A, image, y, **options)
        else:
            run = attacks.measurement_attack(f, y, **options)
        for s in size.strengths:
            # small ones are passed early in the climb: the final direction, shortened, may be worse
            for r in (run.r[s], run.r[largest] * (s / largest)):
                with torch.no_grad():
                    moved = float(norm(f(y + in_measurement(case, r, domain)) - p))
                if moved > distance.get(s, -1.0):
                    worst[s], distance[s] = r, moved
    return worst


def in_measurement(case: Case, r: Tensor, domain: str) -> Tensor:
    """Return the change of y that r makes: A r, or r itself in the measurement domain."""
    with torch.no_grad():
        return case.A(r) if domain == "image" else r


def effects(
    case: Case,
    i: int,
    size: SimpleNamespace,
    worst: dict[float, Tensor],
    own: dict[float, Tensor] | None = None,
    domain: str = "image",
) -> dict[float, dict[str, dict[str, float]]]:
    """Return test 1 of image i: {strength: {method: {metric: value}}}, for `average`.

    Methods: the network under its own worst case, TV ("tv") and the front end under the same e, TV
    under its own worst case ("tv_own"), and the largest amplification of random changes
    ("network_random", "tv_random").

    - amplification: ||f(y + e) - f(y)|| / ||r|| in the image domain,
      (||f(y + e) - f(y)|| / ||f(y)||) / (||e|| / ||y||) in the measurement domain.
    - psnr_clean_db, psnr_perturbed_db: against the truth, before and after.

    Args:
        size: as of `search`, with n_twins random changes.
        worst: what `search` found for the network.
        own: what `own_search` found for TV, if it was asked.
        domain: as of `search`.
    """
    rows = {}
    for s in size.strengths:
        e = in_measurement(case, worst[s], domain)
        rows[s] = effect(case, i, s, e, domain)
        rows[s] |= random_effect(case, i, s, size.n_twins, domain)
        if own:
            e = in_measurement(case, own[s], domain)
            rows[s]["tv_own"] = effect_on(case.unrolled_tv, case, i, s, e)
    return rows


def own_search(case: Case, i: int, size: SimpleNamespace) -> dict[float, Tensor]:
    """Return total variation's own worst perturbations of image i, from one start."""
    return search(case.unrolled_tv, case, i, size, stream="TV's own", restarts=1)


def average(images: list[dict[float, dict]]) -> dict[float, dict[str, dict]]:
    """Return test 1 of all images, of the `effects` of each: {strength: {method: metrics}}."""
    return {
        s: {
            method: summary({name: [rows[s][method][name] for rows in images] for name in values})
            for method, values in each.items()
        }
        for s, each in images[0].items()
    }


@torch.no_grad()
def effect(
    case: Case, i: int, strength: float, e: Tensor, domain: str = "image"
) -> dict[str, dict[str, float]]:
    """Return what e does to the three methods on image i: {method: {metric: value}}."""
    return {
        method: effect_on(f, case, i, strength, e, domain) for method, f in methods(case).items()
    }


@torch.no_grad()
def effect_on(
    f: Callable, case: Case, i: int, strength: float, e: Tensor, domain: str = "image"
) -> dict[str, float]:
    """Return amplification and PSNR before and after of one reconstruction f of image i."""
    y, x = case.y[i : i + 1], case.x[i : i + 1]
    before, after = f(y), f(y + e)
    return {
        "amplification": float(norm(after - before)) / _length(case, i, strength, before, domain),
        "psnr_clean_db": psnr(before, x),
        "psnr_perturbed_db": psnr(after, x),
    }


@torch.no_grad()
def random_effect(
    case: Case, i: int, strength: float, n_twins: int, domain: str = "image"
) -> dict[str, dict[str, float]]:
    """Return the largest amplification of n random changes, of the network and of TV."""
    y = case.y[i : i + 1]
    changes = random_changes(case, i, strength, n_twins, domain)
    values = {}
    for method in ("network", "tv"):
        f = methods(case)[method]
        before = f(y)
        length = _length(case, i, strength, before, domain)
        largest = max(float(norm(f(y + e) - before)) / length for e in changes)
        values[f"{method}_random"] = {"amplification": largest}
    return values


def random_changes(
    case: Case, i: int, strength: float, n: int, domain: str = "image"
) -> list[Tensor]:
    """Return n Gaussian changes of measurement i, as large as the worst one.

    In the image domain they are A of Gaussian images, else Gaussian where y has samples.
    """
    generator = profiles.generator(i, f"twins {case.name}")
    image, y = case.attacked[i : i + 1], case.y[i : i + 1]
    # a twin has its argument's support and norm
    like = torch.ones_like(image) if domain == "image" else (y != 0).to(y)
    like = like * (strength * float(norm(image if domain == "image" else y)) / norm(like))
    draws = [attacks.random_twin(like, generator) for _ in range(n)]
    return [in_measurement(case, d, domain) for d in draws]


@torch.no_grad()
def around(
    case: Case, i: int, r: Tensor, strength: float, n_draws: int
) -> dict[float, dict[str, dict[str, float]]]:
    """Return what noise around the worst r of image i does: {||v|| / ||r||: {kind: values}}.

    v = A* e, e Gaussian, as in Fig. 2 of the paper (there ||v|| = ||r|| / 4). Of n_draws of r + v
    ("r_and_v") and of v without r ("v_alone"):

    - correlation: mean over v of that of |f(y + A(r + v)) - f(y)| with |f(y + A r) - f(y)|;
    - n_bad: how often the change has at least half the size that r alone causes.
    """
    y, e = case.y[i : i + 1], in_measurement(case, r, "image")
    before = case.f(y)
    change = (case.f(y + e) - before).abs()
    found = {}
    for fraction in FRACTIONS:
        noise = _noise_around(case, i, strength, fraction, n_draws)
        found[fraction] = {}
        for kind, added in (("r_and_v", e), ("v_alone", 0 * e)):
            moved = [(case.f(y + v + added) - before).abs() for v in noise]
            alike = [float(metrics.pearson(m, change)) for m in moved]
            n_bad = sum(bool(norm(m) >= norm(change) / 2) for m in moved)
            found[fraction][kind] = {"correlation": sum(alike) / n_draws, "n_bad": n_bad}
    return found


def rarity(images: list[dict[float, dict]], n_draws: int) -> dict[float, dict[str, object]]:
    """Return how rare bad perturbations are around r, of `around` of every image.

    {||v|| / ||r||: {kind: metrics}}: correlation; n_bad of n_draws, over all images; rate_bad with
    Clopper and Pearson's exact interval.
    """
    n, found = n_draws * len(images), {}
    for fraction, kinds in images[0].items():
        found[fraction] = {"n_draws": n}
        for kind in kinds:
            values = [image[fraction][kind] for image in images]
            k = sum(v["n_bad"] for v in values)
            alike = summary({"correlation": [v["correlation"] for v in values]})
            found[fraction][kind] = alike | {"n_bad": k, "rate_bad": rate(k, n)}
    return found


def rate(k: int, n: int) -> metrics.Mean:
    """Return k / n with Clopper and Pearson's exact 95 % interval."""
    from scipy.stats import binomtest

    interval = binomtest(k, n).proportion_ci(0.95, method="exact")
    return metrics.Mean(k / n, float(interval.low), float(interval.high))


def lost_db(values: dict[str, float]) -> float:
    """Return the PSNR that one method of a record loses to its perturbation."""
    return values["psnr_clean_db"] - values["psnr_perturbed_db"]


def _length(case, i, strength, before, domain):
    """Return ||r||, or ||e|| / ||y|| times ||f(y)|| in the measurement domain."""
    return strength * float(norm(case.attacked[i : i + 1] if domain == "image" else before))


def _noise_around(case, i, strength, fraction, n):
    """Return n measurements A v, ||v|| = fraction ||r||."""
    image = case.attacked[i : i + 1]
    generator = profiles.generator(i, f"around {case.name} {fraction}")
    # of r the norm alone matters
    r = torch.ones_like(image) * (strength * norm(image) / image.numel() ** 0.5)
    draws = [attacks.gaussian_plus(r, case.A, generator, fraction)[1] for _ in range(n)]
    return [case.A(v) for v in draws]
