"""Table 1: every detector on every change, as records; the sweep of beta and of the passes.

Metrics of a record ("adv_detect", "art_detect") are nested by the form of the alarm, `VARIANTS`:
- "plain", "averaged" (7 x 7 mean): with the clean twin pearson_r, auroc, constant (see
  `detection.twin_scores`); without it auroc_lone, detection_rate, false_alarm_rate_outside (see
  `detection.lone_scores`) and false_alarm_rate, of clean images.
- "two_sided", "two_sided_averaged": those without the clean twin, for the distance of u from its
  usual value. It answers values that are too small as well, such as a residual without noise.
- "clean": `detection.calibration` on the clean images.
Means over images, with bootstrap intervals; the main ones image by image (<name>_images).
"""

import functools
import logging
import time
from collections.abc import Iterable

from torch import Tensor

from ... import metrics, profiles, store, training
from ...uncertainty import detection as scoring
from ...uncertainty import fits
from ...uncertainty.prediction import Prediction
from ..kept import kept
from .changes import NETWORKS, PHANTOMS, SPECKS, Change, attacked, image_groups, shifted
from .detectors import Detection, Run, detection, in_form, n_passes, sweep_detection

VARIANTS = ("plain", "averaged", "two_sided", "two_sided_averaged")
SIDES = {"plain": 1, "averaged": 7}  # of the box that averages u
SEEDS = (0, 1, 2)
EXPERIMENTS = ("adv_detect", "art_detect")
PUBLISHED = {  # Pearson correlation, mean and standard deviation over 3 trainings
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
log = logging.getLogger(__name__)


def rows(
    task: str, seed: int, profile: str, split: str = "test", network: str | None = None
) -> list[dict]:
    """Return the records of one task and training seed, computed where there are none.

    They are looked up by the weights of the networks; computing takes up to an hour on a CPU.
    `network` is that of `NETWORKS`, or another one for the task.
    """
    run = Run(task, seed, profile, network or NETWORKS[task])
    stored = _stored(run, split)
    specs = (
        training.recipe(run.network, profile, seed),
        fits.fit_recipe("probout", run.network, seed, profile),
    )
    keys = {store.weights_key(spec) for spec in specs}
    found = [r for r in stored if not _swept(r)]
    if all(_both(r for r in found if key in r["inputs"]) for key in keys):
        return found
    return compute(run, split, detection(task, profile, seed, network=run.network))


def sweep_rows(profile: str) -> list[dict]:
    """Return the records of the sweep of beta and passes: denoising, seed 0, validation images."""
    run = Run("denoising", 0, profile, NETWORKS["denoising"])
    stored = [r for r in _stored(run, "validate") if _swept(r)]
    return stored if _both(stored) else compute(run, "validate", sweep_detection(profile))


def _both(records: Iterable[dict]) -> bool:
    """Return whether there are records of both experiments, which are saved all or none each."""
    return {r["experiment"] for r in records} == set(EXPERIMENTS)


def _stored(run: Run, split: str) -> list[dict]:
    stored = store.records(experiment=EXPERIMENTS, **run._asdict())
    return [r for r in stored if r["parameters"]["split"] == split]


def _swept(record: dict) -> bool:
    usual = n_passes(record["task"], record["profile"])
    about = record["parameters"]
    return "beta" in about or about.get("n_passes", usual) != usual


def compute(run: Run, split: str, observed: Detection) -> list[dict]:
    """Save and return the records of every detector on every change of every group of images.

    What a detector has found is kept: a run that was stopped goes on with the next detector.
    """
    task, profile = run.task, run.profile
    validation = image_groups(task, profile, "validate")[0]
    groups = image_groups(task, profile, split)

    @functools.cache
    def clean(estimator, k):
        return estimator.predict([*groups, validation][k].x_in)

    @functools.cache
    def changes(network, k):
        f, key = observed.networks[network], observed.keys[network]
        return [attacked(task, f, key, groups[k], profile), *shifted(task, groups[k])]

    def find(d):
        began = time.perf_counter()
        usual = {form: levels(in_form(clean(d.before, -1), form)) for form in d.forms}
        records = []
        for k, group in enumerate(groups):
            before = clean(d.before, k)
            for change in changes(d.attacked, k):
                after = d.after.predict(change.x_in)
                for form in d.forms:
                    pair = in_form(before, form), in_form(after, form)
                    found = scores(*pair, change, group.x, usual[form])
                    records.append(_record(run, split, d, group.name, change, form, found))
        seconds = round(time.perf_counter() - began, 3)  # of all of the detector's
        return {"found": {"records": [{**record, "seconds": seconds} for record in records]}}

    records = []
    for d in observed.detectors:
        about = dict(run=run._asdict(), split=split, method=d.method, about=d.about, key=d.key)
        inputs = [group.x_in for group in (*groups, validation)]
        found = kept(f"scores-{d.method}", inputs, functools.partial(find, d), **about)
        records += found["found"]["records"]
        log.info("%s, %s: %s %s", run, split, d.method, d.about or "")
    store.save_records(records)
    return records


def _record(run, split, d, images, change, form, found):
    about = {
        "images": images,
        "split": split,
        "change": change.kind,
        "amount": change.amount,
        "spread": form,
    }
    paper = published(run.task, change.experiment, d.method, about)
    return run.record(change.experiment, d, images, about, metrics=found, paper=paper)


def published(task: str, experiment: str, method: str, about: dict) -> dict | None:
    """Return the paper's number for a record with these parameters, where it has one."""
    row = PUBLISHED[task, experiment]
    comparable = about["spread"] == "variance" and about["images"] != PHANTOMS
    if method not in row or not comparable or about["amount"] == SPECKS[1]:
        return None
    value, spread = row[method]
    return {"source": "oala", "where": "Table 1", "value": value, "spread": spread}


def levels(clean: Prediction) -> dict[str, tuple[float, float, float]]:
    """Return limit, centre and reach of clean maps, for "plain" and "averaged" ones.

    95 % of their pixels are below `limit`, and within `reach` of `centre`.
    """
    found = {}
    for variant, side in SIDES.items():
        u = scoring.averaged(clean.spread, side)
        centre = u.median().item()
        reach = scoring.threshold((u - centre).abs())
        found[variant] = scoring.threshold(u), centre, reach
    return found


def scores(
    before: Prediction, after: Prediction, change: Change, x: Tensor, levels: dict
) -> dict[str, object]:
    """Return the metrics of the module's docstring."""
    of_change = (after.mean - before.mean).abs()
    reference = of_change if change.experiment == "adv_detect" else change.mask.float()
    values = {}
    for variant, side in SIDES.items():
        limit, centre, reach = levels[variant]
        clean = scoring.averaged(before.spread, side)
        changed = scoring.averaged(after.spread, side)
        twin = scoring.twin_scores(before, after, reference, change.mask, side)
        values[variant] = twin | _lone(clean, changed, change.mask, limit)
        far = [(u - centre).abs() for u in (clean, changed)]
        two_sided = "two_sided" if variant == "plain" else "two_sided_averaged"
        values[two_sided] = _lone(*far, change.mask, reach)
    values["clean"] = scoring.calibration(before, x)
    del values["clean"]["interval_score"]
    bootstrap = profiles.generator(0, "bootstrap over images")
    found = {}
    for variant, columns in values.items():
        found[variant] = {name: metrics.bootstrap_ci(v, bootstrap) for name, v in columns.items()}
        for name, v in columns.items():
            if name.startswith(("pearson_r", "auroc")):
                found[variant][f"{name}_images"] = [round(value, 5) for value in v.tolist()]
    return {**found, "n_images": len(x)}


def _lone(clean: Tensor, changed: Tensor, mask: Tensor, limit: float) -> dict:
    scores = scoring.lone_scores(changed, mask, limit)
    return {**scores, "false_alarm_rate": metrics.rate_above(clean, limit)}
