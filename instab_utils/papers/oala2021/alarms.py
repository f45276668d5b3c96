"""Every detector on the failures of Antun et al.'s tests, and against an adaptive attacker.

Metrics of a record of the experiment "alarm", one for each detector and failure:
- "failed": corr_error, the Pearson correlation of u(x') with the error |f(x') - x'|; auroc of u(x')
  against the mask of the failure, where it has a place; rings, 1 where the mean of u exceeds the
  95 % quantile of means of clean validation images.
- "clean": auroc of u(x) against the same mask, and rings, the false alarms.
- image_auroc: P(mean u of a failure > mean u of a clean image), over all pairs of images.

Of a record of the experiment "adaptive": "naive" and "adaptive" attack, each with pearson_r and
auroc of the alarm (as in Table 1), rel_norm ||x' - x|| / ||x||, and target_left, the distance of
f(x') from the target in units of that of f(x).
"""

import functools
import logging
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ... import attacks, metrics, profiles, store, training
from ...attacks.vectors import norm
from ...operators import Radon, limited_angle, measured_finely
from ...stability import structure
from ...stability.alarms import CONTRAST, Failure, image_auroc, scores
from ...stability.worst_case import attack
from ...uncertainty import detection as scoring
from ...uncertainty import fits
from ...uncertainty.dropout import MCDropout
from ...uncertainty.interval import IntervalNetwork
from ...uncertainty.null_detectors import NullDetector
from ..kept import kept
from .changes import NETWORKS, Change, ImageGroup, attacked, box, image_groups
from .detectors import Detector, Run, detection

STRENGTH = 0.05  # ||r|| / ||x|| of the worst case
WEDGES_DEG = (20, 45)  # trained at 30: more views, fewer views
QUIET = 10.0
"""Weight of the change of the alarm in the adaptive attack, against the distance to the target."""
log = logging.getLogger(__name__)


def failures(
    task: str, f: Callable, key: str, group: ImageGroup, profile: str
) -> Iterator[Failure]:
    """Yield the failures of test 1 (worst case), 2 (details) and 3 (CT: another wedge).

    `key` is that of the weights of f.
    """
    problem = training.task(NETWORKS[task], group.x.shape[-1])
    yield _worst_case(problem, f, key, group, profile)
    yield _details(group)
    if task == "ct_limited":
        n = problem.image_size
        angles = torch.arange(n, dtype=torch.float64) * 180 / n
        for wedge in WEDGES_DEG:
            B = Radon(n, angles[limited_angle(n, wedge)])
            y = measured_finely(group.originals, B)
            yield Failure("other wedge", wedge, fits.network_input(task, B, y), group.x, None)


def _worst_case(
    problem: training.Task, f: Callable, key: str, group: ImageGroup, profile: str
) -> Failure:
    """Return the worst case for f; its mask has the 5 % of the pixels that changed most."""
    task = problem.task
    y, x, A = problem.measure(group.originals, profiles.generator(0, "detection test noise"))
    with torch.no_grad():
        x_rec = f(group.x_in)
    n_iter = profiles.stage("stability", profile).ascent

    def find(i):
        one = y[i : i + 1]
        worst = attack(
            lambda y: f(fits.network_input(task, A, y)),
            A,
            one if task == "denoising" else x[i : i + 1],
            one,
            strengths=(STRENGTH,),
            n_iter=n_iter,
            generator=profiles.generator(0, f"alarms {problem.name} {i}"),
        )
        return {"r": worst.r[STRENGTH]}

    about = dict(task=task, key=key, strength=STRENGTH, n_iter=n_iter)
    changed = []
    for i, one in enumerate(y.split(1)):
        r = kept("alarm-r", (one, x[i : i + 1]), functools.partial(find, i), image=i, **about)["r"]
        changed.append(fits.network_input(task, A, one + A(r)))
    x_in = torch.cat(changed)
    with torch.no_grad():
        away = (f(x_in) - x_rec).abs()
    top = away.flatten(1).quantile(0.95, dim=1).view(-1, 1, 1, 1)
    return Failure("worst case", STRENGTH, x_in, x, away > top)


def _details(group: ImageGroup) -> Failure:
    """Return each image with four suits drawn into it."""
    n, n_original = group.x.shape[-1], group.originals.shape[-1]
    generators = [profiles.generator(0, f"alarms details {i}") for i in range(len(group.x))]
    fine = torch.stack([structure.draw(n, "suits", g)[0] for g in generators])[:, None]
    fine = fine.to(group.originals)
    details = CONTRAST * avg_pool2d(fine, fine.shape[-1] // n_original)
    x_in = group.remeasure(group.originals + details)
    shown = avg_pool2d(details, n_original // n)
    mask = avg_pool2d(fine, structure.FINER) > 0.5
    return Failure("details", CONTRAST, x_in, group.x + shown, mask)


def spread(estimator, x_in: Tensor, n_passes: int = 4) -> Tensor:
    """Return u(x_in), differentiable; of MC dropout from its first `n_passes` passes."""
    if isinstance(estimator, IntervalNetwork):
        lower, upper = estimator.bounds(x_in)
        return upper - lower
    if isinstance(estimator, MCDropout):
        images = x_in.split(1)
        return torch.cat([estimator.passes(image, n_passes).var(0)[None] for image in images])
    if isinstance(estimator, NullDetector):
        return estimator.spread(x_in, estimator.f(x_in))
    return estimator(x_in)[1].exp()


def adaptive_attack(
    f: Callable, d: Detector, group: ImageGroup, naive: Change, profile: str
) -> Tensor:
    """Return the inputs of an attacker who knows the alarm.

    min ||f(x') - t||^2 + lambda ||x' - x||^2 + w ||u(x') - u(x)||^2 from x, with the target t and
    lambda of the naive attack, and w such that the naive attack's change of u weighs QUIET times
    the distance to the target. The attacker knows the masks of MC dropout.
    """
    x_in = group.x_in
    n_passes = profiles.stage("alarm", profile).attacked_passes
    with torch.no_grad():
        clean = spread(d.before, x_in, n_passes)
        moved = spread(d.before, naive.x_in, n_passes)
        distance = norm(naive.target - f(x_in)) ** 2
        change = (norm(moved - clean) ** 2).clamp_min(1e-20)
        w = (QUIET * distance / change).mean().sqrt()

    def both(x):
        return torch.cat([f(x), w * spread(d.before, x, n_passes)], 1)

    return attacks.targeted(
        both,
        x_in,
        torch.cat([naive.target, w * clean], 1),
        penalty=naive.amount,
        box=box(x_in),
        n_evaluations=profiles.stage("detection", profile).n_evaluations,
    ).x_adv


@torch.no_grad()
def attack_scores(
    f: Callable, d: Detector, group: ImageGroup, naive: Change, x_adv: Tensor
) -> dict[str, dict[str, Tensor]]:
    """Return "naive" and "adaptive" scores of each image, see the module's docstring."""
    before = d.before.predict(group.x_in)
    way = norm(f(group.x_in) - naive.target)
    found = {}
    for name, x_in in (("naive", naive.x_in), ("adaptive", x_adv)):
        after = d.before.predict(x_in)
        twin = scoring.twin_scores(before, after, (after.mean - before.mean).abs(), naive.mask)
        found[name] = {
            "target_left": norm(f(x_in) - naive.target) / way,
            "pearson_r": twin["pearson_r"],
            "auroc": twin["auroc"],
            "rel_norm": norm(x_in - group.x_in) / norm(group.x_in),
        }
    return found


def rows(task: str, profile: str = "standard") -> list[dict]:
    """Return the records of each alarm on each failure, and under the adaptive attack."""
    run, size = Run(task, 0, profile, NETWORKS[task]), profiles.stage("alarm", profile)
    observed = detection(task, profile, run.seed, size.n_passes)
    group = image_groups(task, profile)[0]
    validation = image_groups(task, profile, "validate")[0]
    n, records = size.attacked_images, []

    @functools.cache
    def wrong(network):
        f, key = observed.networks[network], observed.keys[network]
        return list(failures(task, f, key, group, profile))

    def tested(d, experiment):
        f, key = observed.networks[d.attacked], observed.keys[d.attacked]
        if experiment == "alarm":
            return _on_failures(run, d, f, group, validation.x_in, wrong(d.attacked))
        naive = attacked(task, f, key, group, profile)
        return [_under_attack(run, d, f, group.first(n), naive.first(n))]

    for d in observed.detectors:
        if d.about.get("masks") == "fresh":
            continue
        for experiment in ("alarm", "adaptive")[: 1 if d.method == "null-random" else 2]:
            known = store.records(experiment=experiment, method=d.method, **run._asdict())
            known = [r for r in known if d.about.items() <= r["parameters"].items()]
            if not known:
                known = tested(d, experiment)
                store.save_records(known)
                log.info("%s, %s: %s %s", run, experiment, d.method, d.about or "")
            records += known
    return records


@torch.no_grad()
def _on_failures(run, d, f, group, clean, wrong):
    """Return the records of one alarm on each failure."""
    usual = scoring.threshold(d.before.predict(clean).spread.flatten(1).mean(1))
    before = d.before.predict(group.x_in).spread
    records = []
    for failure in wrong:
        after = d.after.predict(failure.x_in).spread
        found = means(scores(before, after, f(failure.x_in), failure, usual))
        found |= {"image_auroc": image_auroc(before, after), "n_images": len(group.x)}
        about = {"failure": failure.kind, "amount": failure.amount}
        records.append(run.record("alarm", d, group.name, about, metrics=found))
    return records


def _under_attack(run, d, f, group, naive):
    """Return the record of one alarm under the adaptive attack."""
    x_adv = adaptive_attack(f, d, group, naive, run.profile)
    found = means(attack_scores(f, d, group, naive, x_adv)) | {"n_images": len(group.x)}
    about = {"failure": "adaptive patch", "amount": naive.amount, "quiet": QUIET}
    return run.record("adaptive", d, group.name, about, metrics=found)


def means(scores: dict[str, dict[str, Tensor]]) -> dict[str, dict[str, metrics.Mean]]:
    """Return the means over images with bootstrap intervals, nested as the scores are."""
    found = {}
    for part, columns in scores.items():
        found[part] = {}
        for name, values in columns.items():
            generator = profiles.generator(0, "bootstrap over images")
            found[part][name] = metrics.bootstrap_ci(values.double(), generator)
    return found
