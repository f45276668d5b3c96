"""One image under perturbations of growing size (Figs. 1, 2 and 4), as chapter 07 shows it.

A run is a dictionary: "x" the image, "pictures" x + r, "network" and "TV" their reconstructions,
(1 + n_strengths, n, n) uint8; "dB <method>" and "gain <method>" PSNR and amplification. The chapter
runs one network live and reads the others from exhibits "07-<network>".
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ... import attacks, metrics, profiles, solvers, store, training
from ...networks import Case
from ...operators import MultiCoilFourier, masks
from ...stability import worst_case
from ...training.cases import NOISE

NETWORKS = ("deep_mri", "mri_vn", "dncnn")
STRENGTH = 0.02  # largest ||r|| / ||x||; an eighth, a quarter and a half of it are shown, too
TV_WEIGHTS = {"denoising": (0.03, 0.06, 0.1, 0.15), "mri": (3e-5, 1e-4, 3e-4, 1e-3)}
LINES = (0.15, 0.30)  # shares of k-space lines for MRI-VN; the paper has 15 %
METHODS = ("network", "TV", "front end")
IMAGES = ("pictures", "network", "TV")
VERSION = 3


def case(name: str, profile: str, seed: int = 0, split: str = "test") -> Case:
    """Return a published network at work on one image of the profile's full size, without TV.

    MRI-VN has the noise of its records.
    """
    budget = profiles.get(profile)
    options = dict(n_images=1, seed=seed, split=split, image_size=budget.image_size, tv=False)
    built = training.case(f"{name}-published", profile, **options)
    title = built.title.removesuffix(", published")
    return replace(built, title=title, tv_iterations=budget.solver_iterations // 2)


def tv(case: Case) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return total variation y -> x, to a tighter tolerance than the records'."""

    def solve(y: torch.Tensor) -> torch.Tensor:
        return solvers.tv(case.A, y, case.tv_weight, n_iter=case.tv_iterations).x

    return solve


def with_tv(case: Case, other: Case) -> tuple[Case, float]:
    """Return the case with the TV weight that is best on another subject's, and its PSNR there."""
    scores = {}
    for weight in TV_WEIGHTS["denoising" if case.task == "denoising" else "mri"]:
        x_rec = tv(replace(other, tv_weight=weight))(other.y)
        scores[weight] = float(metrics.psnr_db(x_rec, other.x))
    best = max(scores, key=scores.get)
    return replace(case, tv_weight=best), scores[best]


def attack(case: Case, strengths: list[float], **options) -> attacks.WorstCase:
    """Return the worst perturbations of a case's one image from one run, by test 1's function."""
    ascent = attacks.Ascent(init_scale=min(1e-3, strengths[-1] / 20))
    options = dict(strengths=strengths, ascent=ascent, **options)
    return worst_case.attack(case.f, case.A, case.attacked, case.y, **options)


@torch.no_grad()
def ladder(
    case: Case,
    r: dict[float, torch.Tensor],
    solver: Callable,
    n_random: int,
    generator: torch.Generator,
) -> dict[str, object]:
    """Return a run: r by strength through the network, a stable solver y -> x and the front end.

    And n random changes of the same norms through the network.
    """
    steps = [torch.zeros_like(case.attacked), *r.values()]
    run = {
        "strengths": list(r),
        "x": _grey([case.x], case.x)[0],
        "pictures": _grey([case.attacked + step for step in steps], case.x),
    }
    for method, f in zip(METHODS, (case.f, solver, case.front_end), strict=True):
        answers = [f(case.y + case.A(step)) for step in steps]
        run[method] = _grey(answers, case.x)
        run[f"dB {method}"] = [float(metrics.psnr_db(answer, case.x)) for answer in answers]
        run[f"gain {method}"] = [
            float((answer - answers[0]).norm() / step.norm())
            for answer, step in zip(answers[1:], steps[1:], strict=True)
        ]
    before, state = case.f(case.y), generator.get_state()
    run["gain random"] = []
    for step in steps[1:] if n_random else ():
        generator.set_state(state)  # the same directions at every strength
        twins = attacks.random_twin(step, generator, n=n_random)
        gains = [(case.f(case.y + case.A(v)) - before).norm() / v.norm() for v in twins]
        run["gain random"].append(float(max(gains)))
    return run


@torch.no_grad()
def noise(case: Case, r: torch.Tensor, generator: torch.Generator) -> dict[str, object]:
    """Return the changes under r, r + v and v alone, v = A* e, ||v|| = ||r|| / 4 (Fig. 2).

    With their sizes, and their correlations with the first.
    """
    both, v = attacks.gaussian_plus(r, case.A, generator)
    before = case.f(case.y)
    changes = [(case.f(case.y + case.A(p)) - before).abs() for p in (r, both, v)]
    return {
        "changes": _grey(changes, changes[0]),
        "size": [float(change.norm() / changes[0].norm()) for change in changes],
        "correlation": [float(metrics.pearson(change, changes[0])) for change in changes],
    }


def fewer_lines(vn: Case, profile: str, seed: int = 0) -> np.ndarray:
    """Return MRI-VN's worst cases at `LINES`, and larger ones.

    One row each: share of lines, strength, amplification, PSNR before and after.
    """
    shape = vn.A.image_shape
    n_iter = min(profiles.get(profile).attack_iterations, 14)
    rows = []
    for fraction in LINES:
        mask = masks.uniform_lines(fraction, shape, n_centre=round(28 * shape[1] / 368))
        A = MultiCoilFourier(mask, vn.A.coil_maps)
        x = vn.x / A.adjoint(A(vn.x)).abs().amax((1, 2, 3), keepdim=True)
        generator = profiles.generator(seed, f"sampling {fraction}")
        noisy = solvers.add_noise(
            A(x), NOISE[vn.name], profiles.generator(0, "stability noise test")
        )
        one = replace(vn, A=A, x=x, y=noisy)
        found = attack(one, [STRENGTH, 2.5 * STRENGTH], n_iter=n_iter, generator=generator)
        for s in found.r:
            values = [A.mask.mean(), s, found.amplification[s], *found.psnr_db(s)]
            rows.append([float(value) for value in values])
    return np.array(rows)


def live(name: str, profile: str, seed: int = 0) -> dict[str, object]:
    """Return everything that chapter 07 shows of one network."""
    budget = profiles.get(profile)
    one, tv_db = with_tv(case(name, profile, seed), case(name, profile, seed, split="validate"))
    strengths = [STRENGTH / 8, STRENGTH / 4, STRENGTH / 2, STRENGTH]
    generator = profiles.generator(seed, f"attack {name}")
    found = attack(one, strengths, n_iter=budget.attack_iterations, generator=generator)
    twins = profiles.generator(seed, f"twin {name}")
    run = ladder(one, found.r, tv(one), budget.n_random, twins)
    run |= noise(one, found.r[STRENGTH], profiles.generator(seed, f"Fig. 2 {name}"))
    run |= {"source": one.source, "weight": one.tv_weight, "weight dB": tv_db}
    run |= {"gradients": int(found.n_evaluations), "sigma": float(found.sigma_max)}
    return run


def save(name: str, profile: str, run: dict[str, object]) -> None:
    """Save a run as an exhibit; of Deep MRI, live in the chapter, the first and last images.

    Of the others every image is stored as its difference from the one before, modulo 256.
    """
    run = dict(run)
    source = run.pop("source")
    run.pop("front end")
    n = run["x"].shape[-1] // 10  # the rim is empty, and exhibits are small
    inside = slice(n, -n)
    run["x"] = run["x"][inside, inside]
    changes = run.pop("changes")
    if name != "deep_mri":
        run["changes"] = changes[:, inside, inside]
    for kind in IMAGES:
        images = run[kind][:, inside, inside]
        if name == "deep_mri":
            run[kind] = images[[0, -1]]
        else:
            run[kind] = np.concatenate([images[:1], images[1:] - images[:-1]])
    about = dict(data=[source], profile=profile, seed=0, version=VERSION, note=source)
    store.save_exhibit(f"07-{name}", run, **about)


def load(name: str) -> dict[str, object]:
    """Return a recorded run; its "source" says on which device and when it was made."""
    run, about = store.load_exhibit(f"07-{name}")
    for kind in IMAGES if name != "deep_mri" else ():
        run[kind] = np.cumsum(run[kind], axis=0, dtype=np.uint8)
    made = f"recorded on {about['device']}, {about['created'][:10]}"
    return run | {"source": f"{about['note']}; {made}"}


def run(profile: str, only: list[str] | None = None) -> list[dict]:
    """Return the runs that chapter 07 reads, and save those that are missing as exhibits.

    A smoke run is no exhibit.
    """
    runs = []
    for name in only or NETWORKS:
        if not _is_stored(name, profile):
            new = _computed(name, profile)
            if profile == "smoke":
                runs.append(new)
                continue
            save(name, profile, new)
        runs.append(load(name))
    return runs


def _computed(name: str, profile: str) -> dict[str, object]:
    """Return a run with everything that its exhibit has, computed once."""

    def compute(**_):
        computed = live(name, profile)
        if name == "mri_vn":
            computed["lines"] = fewer_lines(case(name, profile), profile)
        return computed

    about = {"network": name, **vars(profiles.get(profile))}
    return store.cached_arrays("ladder", about, compute, version=VERSION)


def _is_stored(name: str, profile: str) -> bool:
    try:
        about = store.load_exhibit(f"07-{name}")[1]
    except FileNotFoundError:
        return False
    return (about["profile"], about.get("version")) == (profile, VERSION)


def _grey(images: list[torch.Tensor], reference: torch.Tensor) -> np.ndarray:
    """Return magnitudes as uint8, 255 at the largest value of the reference."""
    shown = torch.cat(images).abs()[:, 0] / reference.abs().max()
    return (255 * shown.clamp(0, 1)).round().byte().cpu().numpy()
