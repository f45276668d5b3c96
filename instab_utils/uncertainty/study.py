"""The detection experiment of the INN paper, with its null detectors: every alarm against every
change, as records.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import avg_pool2d

from .. import attacks, metrics, profiles, shifts, store, training
from ..data import phantoms
from . import detection, fits
from .dropout import MCDropout
from .null_detectors import NULL_DETECTORS, NullDetector
from .prediction import Estimator, Prediction

TASKS = {"denoising": "dncnn", "ct_limited": "unet-limited"}
PHANTOMS = "phantoms of random ellipses"  # beside the slices of patients, where these are at hand
AVERAGES = {"": 1, "_averaged": 7}  # suffix of a metric: side of the box
FORMS: dict[str, Callable[[Prediction], Prediction]] = {
    "variance": lambda p: p,
    "std": lambda p: p._replace(spread=p.spread.sqrt()),
}
BETAS = (1e-4, 1e-2, 4e-2)
"""Prices of width beside the paper's 1e-3, for denoising and seed 0."""
PAPER = {  # Oala et al., Table 1: Pearson correlation, mean and standard deviation over 3 trainings
    ("denoising", "adv_detect"): {
        "interval": (0.77, 0.008),
        "dropout": (0.20, 0.001),
        "probout": (0.81, 0.002),
    },
    ("denoising", "art_detect"): {
        "interval": (0.69, 0.006),
        "dropout": (0.44, 0.02),
        "probout": (0.44, 0.01),
    },
    ("ct_limited", "adv_detect"): {
        "interval": (0.56, 0.05),
        "dropout": (0.28, 0.02),
        "probout": (0.48, 0.12),
    },
    ("ct_limited", "art_detect"): {
        "interval": (0.52, 0.03),
        "dropout": (0.26, 0.01),
        "probout": (0.34, 0.04),
    },
}


@dataclass(frozen=True)
class Size:
    """How much work a profile does."""

    n_images: int  # test images, at most; of CT phantoms, beside the 4 AAPM slices
    n_validation: int  # images for the thresholds and for choosing the form of an alarm
    n_passes: dict  # of MC dropout, by task; the paper has 128 for denoising and 16 for CT
    n_evaluations: int  # of the attack
    image_size: int  # of photographs; CT has the size that its network was trained at


_PASSES = {"denoising": 128, "ct_limited": 16}
SIZES = {
    "smoke": Size(2, 2, {"denoising": 4, "ct_limited": 4}, 6, 48),
    "standard": Size(16, 8, _PASSES, 60, 128),
    "paper": Size(68, 32, _PASSES, 400, 128),
}


class Images(NamedTuple):
    """Inputs of a network and the truth behind them; `remeasure(images)` gives inputs of changed
    originals.
    """

    name: str
    x_in: torch.Tensor
    x: torch.Tensor
    originals: torch.Tensor
    remeasure: Callable[[torch.Tensor], torch.Tensor]


class Change(NamedTuple):
    """Changed inputs, where they were changed, and how strongly."""

    experiment: str  # "adv_detect" or "art_detect"
    kind: str  # "patch", "salt and pepper" or "dove"
    amount: float
    x_in: torch.Tensor
    mask: torch.Tensor
    target: torch.Tensor | None = None  # of the attack: what the reconstruction was to look like


class Detector(NamedTuple):
    """One row of the table: `before` predicts for clean inputs, `after` for changed ones (fresh
    masks: another estimator).
    """

    method: str
    about: dict[str, object]  # what else names it in a record: masks, n_layers
    before: Estimator
    after: Estimator
    forms: tuple[str, ...]  # of its spread
    attacked: str  # "base" or "probout": whose attack it has to find
    key: str  # of its weights


def images(task: str, profile: str, split: str = "test") -> list[Images]:
    """The groups of test (or validation) images of a task: BSD68 centres; AAPM slices and, for
    testing, phantoms.
    """
    size, recipe = SIZES[profile], training.recipe(TASKS[task], profile)
    n_images = size.n_images if split == "test" else size.n_validation
    what = training.task(recipe.name, size.image_size if task == "denoising" else recipe.image_size)
    originals, source = training.test_images(what, n_images, split)
    groups = [(source, originals)]
    if task == "ct_limited" and split == "test" and not source.startswith("phantom"):
        tables = phantoms.random_ellipses(
            n_images, 64, profiles.generator(0, "detection phantoms")
        )[1]
        groups.append((PHANTOMS, phantoms.raster(tables, what.pool_size)))

    def remeasure(originals):
        # the same noise each time
        y, _, A = what.measure(originals, profiles.generator(0, f"detection {split} noise"))
        return fits.network_input(task, A, y)

    return [
        Images(
            name, remeasure(x), what.measure(x, profiles.generator(0, "unused"))[1], x, remeasure
        )
        for name, x in groups
    ]


def detectors(
    task: str, profile: str, seed: int, n_passes: int | None = None
) -> tuple[dict[str, Callable], list[Detector]]:
    """The networks that are attacked, by name, and everything that may raise an alarm about them."""
    name = TASKS[task]
    base = store.load_or_train(training.recipe(name, profile, seed))
    f, found = base.network, []
    for n_layers in (
        (8, 5)
        if task == "denoising" and profile != "smoke"
        else (fits.fit("interval", name, seed, profile).n_layers,)
    ):
        found.append(interval_detector(name, seed, profile, n_layers=n_layers))
    found += dropout_detectors(base, seed, n_passes or SIZES[profile].n_passes[task])
    probout = store.load_or_train(fits.fit("probout", name, seed, profile))
    found.append(
        Detector(
            "probout",
            {},
            probout.network,
            probout.network,
            ("variance", "std"),
            "probout",
            probout.key,
        )
    )
    for kind in NULL_DETECTORS:
        detector = NullDetector(kind, f, profiles.generator(seed, f"null {kind}"))
        found.append(
            Detector(detector.name, {}, detector, detector, ("variance",), "base", base.key)
        )
    return {"base": f, "probout": probout.network.mean}, found


def interval_detector(name: str, seed: int, profile: str, **changes) -> Detector:
    """The interval network of that fit; `changes` as in `fits.fit`."""
    spec = fits.fit("interval", name, seed, profile, **changes)
    trained = store.load_or_train(spec)
    about = {"n_layers": spec.n_layers, **changes}
    return Detector(
        "interval", about, trained.network, trained.network, ("variance",), "base", trained.key
    )


def dropout_detectors(base: store.Trained, seed: int, n_passes: int) -> list[Detector]:
    """MC dropout with the same masks before and after, and with fresh ones."""
    shared, fresh = (
        MCDropout(base.network, n_passes, profiles.generator(seed, f"{masks} masks"), masks=masks)
        for masks in ("shared", "fresh")
    )
    return [
        Detector(
            "dropout",
            {"masks": masks, "n_passes": n_passes},
            shared,
            after,
            tuple(FORMS),
            "base",
            base.key,
        )
        for masks, after in (("shared", shared), ("fresh", fresh))
    ]


def attack(task: str, f: Callable, group: Images, profile: str) -> Change:
    """AdvDetect: an input that makes f draw what is not there, a patch of noise or (CT) a dark
    square.
    """
    x_in = group.x_in
    with torch.no_grad():
        x_rec = f(x_in)
    kind, penalty = ("noise", 0.5) if task == "denoising" else ("dark", 0.0)
    target, mask = attacks.patch_target(x_rec, kind, profiles.generator(0, f"patch {group.name}"))
    box = (min(0.0, float(x_in.min())), max(1.0, float(x_in.max())))  # FBP leaves [0, 1]
    found = attacks.targeted(
        f, x_in, target, penalty=penalty, box=box, n_evaluations=SIZES[profile].n_evaluations
    )
    return Change("adv_detect", "patch", penalty, found.x_adv, mask, target)


def shift(task: str, group: Images) -> Iterator[Change]:
    """ArtDetect: inputs unlike those of the training; salt and pepper in one half, or a dove in the
    patient.
    """
    if task == "denoising":
        for amount in (0.05, 0.10):
            generator = profiles.generator(0, f"salt and pepper {group.name}")
            found = shifts.salt_and_pepper_half(group.x_in, group.x, generator, amount=amount)
            yield Change("art_detect", "salt and pepper", amount, found.x.clamp(0, 1), found.mask)
    else:
        found = shifts.dove(group.originals, profiles.generator(0, f"dove {group.name}"))
        mask = avg_pool2d(found.mask.float(), 2) > 0.5
        yield Change("art_detect", "dove", 0.0, group.remeasure(found.x), mask)


class Level(NamedTuple):
    """What a map is like on clean validation images: 95 % of its pixels lie below `limit`, and
    within `reach` of `centre`.
    """

    limit: float
    centre: float
    reach: float


def level(clean: torch.Tensor) -> Level:
    """The `Level` of maps of clean images."""
    centre = clean.median().item()
    return Level(detection.threshold(clean), centre, detection.threshold((clean - centre).abs()))


def scores(
    before: Prediction, after: Prediction, change: Change, x: torch.Tensor, levels: dict[str, Level]
) -> dict[str, object]:
    """Means over images with bootstrap intervals, and the main ones image by image.

    "_averaged" is the 7 x 7 mean of the alarm. "_two_sided" is, without the clean twin, the
    distance of u from what is usual: an alarm for values that are too small as well, such as a
    residual where the noise is gone.
    """
    found = {}
    for suffix, side in AVERAGES.items():
        reference = (
            (after.mean - before.mean).abs()
            if change.experiment == "adv_detect"
            else change.mask.float()
        )
        found |= {
            name + suffix: v
            for name, v in detection.twin_scores(
                before, after, reference, change.mask, side
            ).items()
        }
        clean, changed = (
            detection.averaged(before.spread, side),
            detection.averaged(after.spread, side),
        )
        usual = levels[suffix]
        for alarm, limit, kind in (
            (lambda u: u, usual.limit, ""),
            (lambda u: (u - usual.centre).abs(), usual.reach, "_two_sided"),
        ):
            lone = detection.lone_scores(after._replace(spread=alarm(changed)), change.mask, limit)
            lone["false_alarm_rate"] = metrics.rate_above(alarm(clean), limit)
            found |= {name + kind + suffix: v for name, v in lone.items()}
    found |= {
        name: values
        for name, values in detection.calibration(before, x).items()
        if name != "interval_score"
    }
    bootstrap = profiles.generator(0, "bootstrap over images")
    means = {name: metrics.bootstrap_ci(values, bootstrap) for name, values in found.items()}
    kept = {
        f"{name}_images": [round(v, 5) for v in values.tolist()]
        for name, values in found.items()
        if name.startswith(("pearson_r", "auroc"))
    }
    return {**means, **kept, "n_images": len(x)}


def run(
    task: str,
    seed: int,
    profile: str,
    split: str = "test",
    chosen: tuple[dict, list[Detector]] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[dict]:
    """Every detector on every change of every group of images: records, as saved. Minutes to an
    hour on a CPU; see `rows`.

    Args:
        chosen: other networks and detectors than `detectors(task, profile, seed)`.
        progress: called with a line after each step; default prints, except while a book is built.
    """
    progress = progress or (
        lambda line: None if os.environ.get("INSTAB_BOOK") else print(line, flush=True)
    )
    networks, found = chosen or detectors(task, profile, seed)
    validation = images(task, profile, "validate")[0]
    clean = _predictions(found, validation.x_in)
    made = []
    for group in images(task, profile, split):
        attacked = {
            name: attack(task, f, group, profile)
            for name, f in networks.items()
            if any(d.attacked == name for d in found)
        }
        progress(f"{task}, seed {seed}, {split}: {group.name} attacked")
        before, shifted = _predictions(found, group.x_in), list(shift(task, group))
        for d in found:
            levels = {
                form: {
                    suffix: level(detection.averaged(FORMS[form](clean[id(d.before)]).spread, side))
                    for suffix, side in AVERAGES.items()
                }
                for form in d.forms
            }
            for change in (attacked[d.attacked], *shifted):
                after = d.after.predict(change.x_in)
                for form in d.forms:
                    turned = [FORMS[form](p) for p in (before[id(d.before)], after)]
                    made.append(
                        _record(
                            task,
                            seed,
                            profile,
                            split,
                            group,
                            d,
                            form,
                            change,
                            scores(*turned, change, group.x, levels[form]),
                        )
                    )
            progress(f"{task}, seed {seed}, {split}: {d.method} {d.about or ''}")
    for record in made:
        store.save_record(record)
    return made


def _predictions(found: list[Detector], x_in: torch.Tensor) -> dict[int, Prediction]:
    """Of the clean inputs, once an estimator."""
    return {
        key: estimator.predict(x_in)
        for key, estimator in {id(d.before): d.before for d in found}.items()
    }


def sweep(profile: str, betas: tuple[float, ...] = BETAS) -> list[dict]:
    """Denoising, seed 0, on validation images: other prices of width, fewer passes."""
    base = store.load_or_train(training.recipe("dncnn", profile, 0))
    found = [interval_detector("dncnn", 0, profile, beta=beta) for beta in betas]
    usual = SIZES[profile].n_passes["denoising"]
    for n_passes in (max(2, usual // 16), max(3, usual // 4)):
        found += dropout_detectors(base, 0, n_passes)
    return run("denoising", 0, profile, "validate", ({"base": base.network}, found))


def rows(task: str, seed: int, profile: str, split: str = "test") -> list[dict]:
    """The records of `run` where they exist for the present weights, else made now.

    They are looked up by weights, not by code: they take an hour, and a changed comment would ask
    for all of them again.
    """
    found = _stored(task, seed, profile, split)
    needed = {
        store.load_or_train(spec).key
        for spec in (
            training.recipe(TASKS[task], profile, seed),
            fits.fit("probout", TASKS[task], seed, profile),
        )
    }
    if all(any(key in r["inputs"] for r in found) for key in needed):
        return [r for r in found if not _swept(r)]
    return run(task, seed, profile, split)


def sweep_rows(profile: str, betas: tuple[float, ...] = BETAS) -> list[dict]:
    """The records of `sweep`, made now where there are none."""
    return [r for r in _stored("denoising", 0, profile, "validate") if _swept(r)] or sweep(
        profile, betas
    )


def _stored(task, seed, profile, split):
    """Records of the detectors of a task on one split."""
    found = store.records(
        experiment=("adv_detect", "art_detect"),
        task=task,
        seed=seed,
        profile=profile,
        network=TASKS[task],
    )
    return [r for r in found if r["parameters"].get("split") == split]


def _swept(record):
    usual = SIZES[record["profile"]].n_passes[record["task"]]
    return "beta" in record["parameters"] or record["parameters"].get("n_passes", usual) != usual


def _record(task, seed, profile, split, group, d, form, change, found) -> dict:
    compared = form == "variance" and change.amount != 0.10 and group.name != PHANTOMS
    paper = PAPER[task, change.experiment].get(d.method) if compared else None
    return store.record(
        experiment=change.experiment,
        task=task,
        network=TASKS[task],
        method=d.method,
        seed=seed,
        profile=profile,
        parameters={
            "images": group.name,
            "split": split,
            "change": change.kind,
            "amount": change.amount,
            "spread": form,
            **d.about,
        },
        inputs=[d.key, group.name],
        metrics=found,
        paper=paper
        and {"source": "oala", "where": "Table 1", "value": paper[0], "spread": paper[1]},
    )
