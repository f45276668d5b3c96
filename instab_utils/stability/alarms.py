"""Every alarm against every failure of tests 1 to 3, and against an attacker who knows the alarm."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.nn.functional import avg_pool2d

from .. import attacks, metrics, profiles, store, training
from ..attacks.vectors import norm
from ..operators import Radon, limited_angle, measured_finely
from ..uncertainty import detection, fits, study
from ..uncertainty.dropout import MCDropout
from ..uncertainty.interval import IntervalNetwork
from ..uncertainty.null_detectors import NullDetector
from ..uncertainty.study import Detector
from . import structure
from .worst import attack_as_measured

STRENGTH = 0.05  # ||r|| / ||x|| of the worst case
CONTRAST = 0.3  # of the details
WEDGES_DEG = (20, 45)  # trained at 30: more views, fewer views
ATTACKED_IMAGES = 8  # of the adaptive attack, which goes through the alarm
# of MC dropout's 16, whose masks the attacker knows: each costs as much as the network
ATTACKED_PASSES = 4
# how much the change of the alarm weighs in the adaptive attack against the distance to the target
QUIET = 10.0


class Failure(NamedTuple):
    """Inputs after something went wrong, the truth behind them, and where it went wrong if it has a
    place.
    """

    kind: str
    amount: float
    x_in: torch.Tensor
    x: torch.Tensor
    mask: torch.Tensor | None


def failures(task: str, f: Callable, group: study.Images, profile: str) -> Iterator[Failure]:
    """Test 1: a worst case for f. Test 2: four suits in each image. Test 3 (CT): another wedge than
    in training.
    """
    name = study.TASKS[task]
    what = training.task(name, group.x.shape[-1])
    y, x, A = what.measure(group.originals, profiles.generator(0, "detection test noise"))
    with torch.no_grad():
        x_rec = f(group.x_in)

    def answer(y):
        return f(fits.network_input(task, A, y))

    size, changed = profiles.stage("stability", profile), []
    for i in range(len(x)):
        image = y[i : i + 1] if task == "denoising" else x[i : i + 1]
        found = attack_as_measured(
            answer,
            A,
            image,
            y[i : i + 1],
            strengths=(STRENGTH,),
            n_iter=size.ascent,
            generator=profiles.generator(0, f"alarms {name} {i}"),
        )
        changed.append(fits.network_input(task, A, y[i : i + 1] + A(found.r[STRENGTH])))
    x_in = torch.cat(changed)
    with torch.no_grad():
        away = (f(x_in) - x_rec).abs()
    top = away.flatten(1).quantile(0.95, dim=1).view(-1, 1, 1, 1)
    yield Failure("worst case", STRENGTH, x_in, x, away > top)

    drawn, masks = [], []
    for i, original in enumerate(group.originals):
        fine, _ = structure.draw(
            group.x.shape[-1], "suits", profiles.generator(0, f"alarms details {i}")
        )
        drawn.append(avg_pool2d(fine[None, None], fine.shape[-1] // original.shape[-1])[0])
        masks.append(avg_pool2d(fine[None, None], structure.FINER)[0] > 0.5)
    details = CONTRAST * torch.stack(drawn).to(group.originals)
    shown = (
        avg_pool2d(details, details.shape[-1] // x.shape[-1])
        if details.shape[-1] > x.shape[-1]
        else details
    )
    yield Failure(
        "details",
        CONTRAST,
        group.remeasure(group.originals + details),
        x + shown,
        torch.stack(masks),
    )

    if task == "ct_limited":
        n = what.image_size
        angles = torch.arange(n, dtype=torch.float64) * 180 / n
        for wedge in WEDGES_DEG:
            kept = angles[limited_angle(n, wedge)]
            B = Radon(n, kept)
            y_other = measured_finely(group.originals, B)
            yield Failure("other wedge", wedge, fits.network_input(task, B, y_other), x, None)


def scores(
    before: torch.Tensor, after: torch.Tensor, f_after: torch.Tensor, failure: Failure, usual: float
) -> dict[str, torch.Tensor]:
    """How the alarm u answers a failure, of each image.

    corr_error: Pearson correlation of u(x') with the error |f(x') - x'| after the failure. auroc:
    of u(x') against the mask, where there is one; auroc_clean: of u(x) against the same mask, what
    the place alone is worth. rings, rings_clean: 1 where the mean of u exceeds `usual`, the 95 %
    quantile of means of clean validation images; false alarms are the latter.
    """
    found = {
        "corr_error": metrics.pearson(after, (f_after - failure.x).abs()),
        "rings": (after.flatten(1).mean(1) > usual).double(),
        "rings_clean": (before.flatten(1).mean(1) > usual).double(),
    }
    if failure.mask is not None:
        found |= {
            "auroc": metrics.auroc(after, failure.mask),
            "auroc_clean": metrics.auroc(before, failure.mask),
        }
    return found


def image_auroc(before: torch.Tensor, after: torch.Tensor) -> float:
    """P(mean u of a failure > mean u of a clean image), over all pairs of images."""
    values = torch.cat([u.flatten(1).mean(1) for u in (before, after)])
    failed = torch.arange(len(values)) >= len(before)
    return float(metrics.auroc(values[None], failed[None]))


def spread(estimator, x_in: torch.Tensor) -> torch.Tensor:
    """u(x_in) of an estimator, differentiable: an attacker's view of it."""
    if isinstance(estimator, IntervalNetwork):
        lower, upper = estimator.bounds(x_in)
        return upper - lower
    if isinstance(estimator, MCDropout):
        return torch.cat(
            [
                estimator.passes(image, ATTACKED_PASSES).var(0, keepdim=True)
                for image in x_in.split(1)
            ]
        )
    if isinstance(estimator, NullDetector):
        return estimator.spread(x_in, estimator.f(x_in))
    return estimator(x_in)[1].exp()


def adaptive(
    task: str, f: Callable, d: Detector, group: study.Images, naive: study.Change, profile: str
):
    """AdvDetect by an attacker who knows the alarm: (inputs, how much of the attack is left).

    Minimise ||f(x') - t||^2 + lambda ||x' - x||^2 + w ||u(x') - u(x)||^2 from x, with the target t
    and lambda of the naive attack and w such that its change of u weighs QUIET times the way to the
    target.
    """
    x_in = group.x_in
    with torch.no_grad():
        clean, x_rec, moved = spread(d.before, x_in), f(x_in), spread(d.before, naive.x_in)
        w = (
            (QUIET * norm(naive.target - x_rec) ** 2 / (norm(moved - clean) ** 2).clamp_min(1e-20))
            .mean()
            .sqrt()
        )
    both = lambda x: torch.cat([f(x), w * spread(d.before, x)], 1)
    box = (min(0.0, float(x_in.min())), max(1.0, float(x_in.max())))
    found = attacks.targeted(
        both,
        x_in,
        torch.cat([naive.target, w * clean], 1),
        penalty=naive.amount,
        box=box,
        n_evaluations=study.SIZES[profile].n_evaluations,
    )
    with torch.no_grad():
        left = norm(f(found.x_adv) - naive.target) / norm(x_rec - naive.target)
    return found.x_adv, left


def rows(
    task: str,
    profile: str = "standard",
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict]:
    """The records: each alarm on each failure ("adv_detect" for worst cases, else "art_detect"),
    and under the adaptive attack.
    """
    networks, detectors = study.detectors(task, profile, seed, 16 if profile != "smoke" else None)
    group, validation = study.images(task, profile)[0], study.images(task, profile, "validate")[0]
    made = []
    for attacked, f in networks.items():
        of_network = [
            d for d in detectors if d.attacked == attacked and d.about.get("masks") != "fresh"
        ]
        stored = {id(d): _stored(task, profile, seed, d) for d in of_network}
        made += [r for rows in stored.values() for r in rows]
        of_network = [d for d in of_network if not stored[id(d)]]
        if not of_network:
            continue
        wrong = list(failures(task, f, group, profile))
        naive = study.attack(task, f, group, profile)
        say(f"{task}, {attacked}: {len(wrong)} failures")
        for d in of_network:
            of_alarm = []
            with torch.no_grad():
                usual = detection.threshold(
                    d.before.predict(validation.x_in).spread.flatten(1).mean(1)
                )
                before = d.before.predict(group.x_in).spread
                for failure in wrong:
                    after, f_after = d.after.predict(failure.x_in).spread, f(failure.x_in)
                    extra = {"image_auroc": image_auroc(before, after)}
                    of_alarm.append(
                        _record(
                            task,
                            profile,
                            seed,
                            d,
                            group,
                            {"failure": failure.kind, "amount": failure.amount},
                            scores(before, after, f_after, failure, usual),
                            extra,
                            "adv_detect" if failure.kind == "worst case" else "art_detect",
                        )
                    )
            if d.method != "null-random":
                few, cut = _first(group, ATTACKED_IMAGES), _first(naive, ATTACKED_IMAGES)
                x_adv, left = adaptive(task, f, d, few, cut, profile)
                of_alarm.append(
                    _record(
                        task,
                        profile,
                        seed,
                        d,
                        few,
                        {"failure": "adaptive patch", "amount": naive.amount, "quiet": QUIET},
                        _adaptive_scores(f, d, few, cut, x_adv, left),
                        {},
                        "adaptive",
                    )
                )
            for record in of_alarm:
                store.save_record(record)
            made += of_alarm
            say(f"{task}, {d.method} {d.about or ''}")
    return made


def _stored(task, profile, seed, d) -> list[dict]:
    """The records of this alarm."""
    return [
        r
        for r in store.records(
            experiment=("adv_detect", "art_detect", "adaptive"),
            task=task,
            method=d.method,
            profile=profile,
            seed=seed,
        )
        if "failure" in r["parameters"] and d.about.items() <= r["parameters"].items()
    ]


def _first(batch, n):
    """The first n images of everything in a named tuple of batches."""
    return batch._replace(
        **{
            name: value[:n]
            for name, value in batch._asdict().items()
            if isinstance(value, torch.Tensor)
        }
    )


@torch.no_grad()
def _adaptive_scores(f, d, group, naive, x_adv, left):
    """The INN paper's correlation and the mask's AUROC for the naive and the adaptive attack, and
    what the attack still reaches.
    """
    before, found = d.before.predict(group.x_in), {"target_left": left}
    found["target_left_naive"] = norm(f(naive.x_in) - naive.target) / norm(
        f(group.x_in) - naive.target
    )
    for x_in, suffix in ((naive.x_in, "_naive"), (x_adv, "")):
        after = d.before.predict(x_in)
        change = (after.mean - before.mean).abs()
        twin = detection.twin_scores(before, after, change, naive.mask)
        found |= {
            f"pearson_r{suffix}": twin["pearson_r"],
            f"auroc{suffix}": twin["auroc"],
            f"rel_norm{suffix}": norm(x_in - group.x_in) / norm(group.x_in),
        }
    return found


def _record(task, profile, seed, d, group, about, columns, extra, experiment):
    means = {
        name: metrics.bootstrap_ci(v.double(), profiles.generator(0, "bootstrap over images"))
        for name, v in columns.items()
    }
    return store.record(
        experiment=experiment,
        task=task,
        network=study.TASKS[task],
        method=d.method,
        seed=seed,
        profile=profile,
        parameters={**about, **d.about},
        inputs=[d.key, group.name],
        metrics={**means, **extra, "n_images": len(group.x)},
    )
