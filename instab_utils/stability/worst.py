"""Test 1: tiny worst-case perturbations of a network, beside a stable solver on the same data and
under its own worst case.
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import NamedTuple

import torch

from .. import attacks, metrics, profiles, store, training
from ..attacks.vectors import norm
from ..networks import Case

STARTS = ("singular", "gaussian")  # of one restart after the other
NEAR = (0.25, 0.5, 1.0, 2.0)  # ||v|| / ||r|| of the noise around r
N_NEAR = 60  # draws of it, over all images


def attack_as_measured(
    f: Callable, A: Callable, image: torch.Tensor, y: torch.Tensor, **options
) -> attacks.WorstCase:
    """`attacks.worst_case` for f(y + A r), y as it was measured: what A(image) does not explain of
    it stays, noise and finer raster.
    """
    with torch.no_grad():
        extra = y - A(image)
    return attacks.worst_case(lambda z: f(z + extra), A, image, **options)


def worst(
    f: Callable,
    case: Case,
    i: int,
    profile: str | SimpleNamespace,
    target: str,
    domain: str,
    stream: str,
    restarts: int | None = None,
) -> dict[float, torch.Tensor]:
    """The worst change of measurement i found for f: {strength: e}, e = A r with ||r|| = strength
    ||x|| in the image domain.

    In the measurement domain e is any change with ||e|| = strength ||y||. The first run begins at
    the Jacobian's top singular
    vector (CT: and climbs by Algorithm 2 of the paper), others at noise, by the exact gradient; of
    each strength the one is kept that moves f(y + e) farthest from p. Measurements are those of the
    subject, noise and finer raster included.
    """
    found = directions(f, case, i, profile, target, domain, stream, restarts)
    with torch.no_grad():
        return {s: case.A(r) if domain == "image" else r for s, r in found.items()}


def directions(
    f: Callable,
    case: Case,
    i: int,
    profile: str | SimpleNamespace,
    target: str,
    domain: str,
    stream: str,
    restarts: int | None = None,
) -> dict[float, torch.Tensor]:
    """The r behind `worst`: {strength: r}, in the image, or e itself in the measurement domain."""
    size = profiles.stage("stability", profile) if isinstance(profile, str) else profile
    y, x, image = case.y[i : i + 1], case.x[i : i + 1], case.attacked[i : i + 1]
    with torch.no_grad():
        clean = f(y)
    goal = clean if target == "prediction" else x
    found, reach = {}, {}
    for k in range(restarts or size.restarts):
        options = dict(
            strengths=size.strengths,
            n_iter=size.ascent,
            ascent=attacks.Ascent(
                init=STARTS[min(k, 1)],
                init_scale=size.strengths[0] / 5,
                algorithm="auto" if k == 0 or domain != "image" else 1,
            ),
            target=goal,
            generator=profiles.generator(k, f"{stream} {case.name} {i} {target} {domain}"),
        )
        if domain == "image":
            run = attack_as_measured(f, case.A, image, y, **options)
        else:
            run = attacks.measurement_attack(f, y, **options)
        last = size.strengths[-1]
        # small ones are passed early in the climb: the final direction, made shorter, may be worse
        for s in size.strengths:
            for r in (run.r[s], run.r[last] * (s / last)):
                with torch.no_grad():
                    e = case.A(r) if domain == "image" else r
                    far = float(norm(f(y + e) - goal))
                if far > reach.get(s, -1.0):
                    found[s], reach[s] = r, far
    return found


def rows(
    name: str,
    profile: str = "standard",
    target: str = "prediction",
    domain: str = "image",
    say=lambda line: None,
) -> list[dict]:
    """The records of `perturb` for a subject, one a strength: as stored for these parameters,
    whatever the code was, or made now.
    """
    found = stored("worst_case", name, profile, target=target, domain=domain)
    if len(found) == len(profiles.stage("stability", profile).strengths):
        return found
    case = training.case(name, profile)
    return [
        save("worst_case", case, profile, *results)
        for results in perturb(case, profile, target, domain, say)
    ]


def perturb(
    case: Case,
    profile: str,
    target: str = "prediction",
    domain: str = "image",
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[dict, dict]]:
    """Test 1, for every strength (parameters, {metric: value of each image}).

    amplification: ||f(y + e) - f(y)|| / ||r|| in the image domain, (||f(y + e) - f(y)|| / ||f(y)||)
    / (||e|| / ||y||) in the measurement domain; of the network (its own worst), of TV (stable_) and
    of the front end on the same e, of TV under its own worst (stable_own_, for "prediction" and
    "image", one start), of the network and TV on Gaussian twins, the worst of them.
    psnr_*: against the truth, before and after.

    Args:
        target: p of the attack, "prediction" f(y) or "truth" x.
        domain: "image" or "measurement".
        say: called with a line after every image.
    """
    size = profiles.stage("stability", profile)
    values = {s: [] for s in size.strengths}
    for i in range(len(case.x)):
        theirs = worst(case.f, case, i, profile, target, domain, "network's")
        own = (
            worst(case.unrolled_tv, case, i, profile, target, domain, "TV's own", 1)
            # the dearest part, through every iteration of the solver
            if (target, domain) == ("prediction", "image")
            else {}
        )
        for s in size.strengths:
            values[s].append(changes(case, i, s, theirs[s], own.get(s), domain, size))
        say(f"{case.name}, {target}, {domain}: image {i + 1} of {len(case.x)}")
    for s, each in values.items():
        about = {
            "strength": s,
            "target": target,
            "domain": domain,
            "tv_weight": case.tv_weight,
            "restarts": size.restarts,
        }
        yield about, {key: [row[key] for row in each] for key in each[0]}


@torch.no_grad()
def changes(
    case: Case,
    i: int,
    strength: float,
    e: torch.Tensor,
    e_own: torch.Tensor | None,
    domain: str,
    size: SimpleNamespace,
) -> dict[str, float]:
    """What e does to image i: the metrics of `perturb` at one strength."""
    y, x = case.y[i : i + 1], case.x[i : i + 1]
    methods = {"": case.f, "stable_": case.tv, "front_end_": case.front_end}
    clean = {m: f(y) for m, f in methods.items()}
    length = strength * float(norm(case.attacked[i : i + 1]))

    def gain(change, before):
        return float(norm(change)) / (
            length if domain == "image" else strength * float(norm(before))
        )

    out = {"rel_norm": strength}
    for m, f in methods.items():
        after = f(y + e)
        out |= {
            f"{m}amplification": gain(after - clean[m], clean[m]),
            f"psnr_{m}clean_db": psnr(clean[m], x),
            f"psnr_{m}perturbed_db": psnr(after, x),
        }
    if e_own is not None:
        before, after = case.unrolled_tv(y), case.unrolled_tv(y + e_own)
        out |= {
            "stable_own_amplification": gain(after - before, before),
            "psnr_stable_own_clean_db": psnr(before, x),
            "psnr_stable_own_db": psnr(after, x),
        }
    draws = twins(case, i, strength, domain, size.n_twins)
    for m in ("", "stable_"):
        out[f"{m}twin_amplification"] = max(
            gain(methods[m](y + d) - clean[m], clean[m]) for d in draws
        )
    return out


def twins(case: Case, i: int, strength: float, domain: str, n: int) -> list[torch.Tensor]:
    """n Gaussian changes of measurement i, as large as the worst one in the image ("image"; then
    through A) or in y.
    """
    generator = profiles.generator(i, f"twins {case.name}")
    image, y = case.attacked[i : i + 1], case.y[i : i + 1]
    # a twin has its support and norm
    like = torch.ones_like(image) if domain == "image" else (y != 0).to(y)
    like = like * (strength * float(norm(image if domain == "image" else y)) / norm(like))
    draws = [attacks.random_twin(like, generator) for _ in range(n)]
    return [case.A(d) for d in draws] if domain == "image" else draws


def rows_around(name: str, profile: str = "standard", strength: float | None = None) -> list[dict]:
    """The records of `around` for a subject, at its middle strength by default."""
    size = profiles.stage("stability", profile)
    strength = strength or size.strengths[min(2, len(size.strengths) - 1)]
    found = stored("worst_case", name, profile, around=strength)
    if len(found) == len(NEAR):
        return found
    case = training.case(name, profile)
    return [
        save("worst_case", case, profile, *results) for results in around(case, profile, strength)
    ]


def around(case: Case, profile: str, strength: float) -> Iterator[tuple[dict, dict, dict]]:
    """How rare bad perturbations are around r: for every ||v|| / ||r|| (parameters, {metric: value
    of each image}, counts).

    v = A* e, e Gaussian, as in Fig. 2 of the paper (there ||v|| = ||r|| / 4). same_artefact: mean
    correlation of |f(y + A(r + v)) - f(y)| with |f(y + A r) - f(y)|; same_v_alone: of v without r.
    n_bad of n_draws: how often the change has at least half the size that r alone causes; rate_bad
    with Clopper and Pearson's interval; *_v_alone for v without r.
    """
    changes = [
        worst(case.f, case, i, profile, "prediction", "image", "network's")[strength]
        for i in range(len(case.x))
    ]
    n_each = max(2, (N_NEAR if profile != "smoke" else 4) // len(case.x))
    for fraction in NEAR:
        alike, bad = {"same_artefact": [], "same_v_alone": []}, {"bad": 0, "bad_v_alone": 0}
        for i, e in enumerate(changes):
            y, image, generator = (
                case.y[i : i + 1],
                case.attacked[i : i + 1],
                profiles.generator(i, f"around {case.name} {fraction}"),
            )
            # v asks for its norm alone
            r = torch.ones_like(image) * (strength * norm(image) / image.numel() ** 0.5)
            with torch.no_grad():
                before = case.f(y)
                change = (case.f(y + e) - before).abs()
                noise = [
                    case.A(attacks.gaussian_plus(r, case.A, generator, fraction)[1])
                    for _ in range(n_each)
                ]
                for with_r, like, count in (
                    (e, "same_artefact", "bad"),
                    (0 * e, "same_v_alone", "bad_v_alone"),
                ):
                    moved = [(case.f(y + v + with_r) - before).abs() for v in noise]
                    alike[like].append(
                        sum(float(metrics.pearson(m, change)) for m in moved) / n_each
                    )
                    bad[count] += sum(bool(norm(m) >= norm(change) / 2) for m in moved)
        n = n_each * len(changes)
        counts = {f"n_{key}": k for key, k in bad.items()} | {
            f"rate_{key}": Rate(k / n, clopper_pearson(k, n)) for key, k in bad.items()
        }
        yield {"around": strength, "fraction": fraction}, alike, {"n_draws": n, **counts}


class Rate(NamedTuple):
    """A number with its interval, as records take it."""

    mean: float
    ci: list[float]


def clopper_pearson(k: int, n: int, level: float = 0.95) -> list[float]:
    """The exact interval of a rate of which k of n were seen: quantiles of Beta(k, n - k + 1) and
    Beta(k + 1, n - k).
    """
    from scipy.stats import beta

    tail = (1 - level) / 2
    return [
        float(beta.ppf(tail, k, n - k + 1)) if k else 0.0,
        float(beta.ppf(1 - tail, k + 1, n - k)) if k < n else 1.0,
    ]


def psnr(x_rec: torch.Tensor, x: torch.Tensor) -> float:
    """In dB; real images clipped to [0, 1], whatever made them: every method knows the range."""
    x_rec = x_rec if x.is_complex() else (x_rec.abs() if x_rec.is_complex() else x_rec).clamp(0, 1)
    return float(metrics.psnr_db(x_rec, x))


def stored(experiment: str, name: str, profile: str, **parameters) -> list[dict]:
    """The records of a subject that have these parameters, one for each value of the others."""
    found = store.records(
        experiment=experiment, network=name, profile=profile, method=name.removesuffix("-published")
    )
    return [
        r
        for r in found
        if all(r["parameters"].get(key) == value for key, value in parameters.items())
    ]


def lost_db(m: dict[str, float], who: str = "") -> float:
    """PSNR that the network (""), TV ("stable_") or the front end ("front_end_") lose to its worst
    change, TV to its own (stable_own_).
    """
    return (
        m[f"psnr_{who}clean_db"]
        - m["psnr_stable_own_db" if who == "stable_own_" else f"psnr_{who}perturbed_db"]
    )


def save(
    experiment: str,
    case: Case,
    profile: str,
    parameters: dict,
    columns: dict[str, list],
    extra: dict | None = None,
) -> dict:
    """A record of a subject: of every column its mean over images with Student's interval, and the
    values themselves.
    """
    means = {
        key: metrics.mean_ci(torch.tensor(column, dtype=torch.float64))
        for key, column in columns.items()
    }
    each = {
        f"{key}_images": [round(float(v), 6) for v in column] for key, column in columns.items()
    }
    found = store.record(
        experiment=experiment,
        task=case.task,
        network=case.name,
        method=case.name.removesuffix("-published"),
        seed=0,
        profile=profile,
        parameters=parameters,
        inputs=[case.source],
        metrics={**means, **each, **(extra or {}), "n_images": len(case.x)},
    )
    store.save_record(found)
    return found
