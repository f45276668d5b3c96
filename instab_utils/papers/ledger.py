"""The ledger: every published number beside ours, computed from records alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .. import metrics, store
from .oala2021 import table1
from .vasconcelos2021 import posterior_chains, published, results

VERDICTS = ("reproduced", "near", "differs", "not tested")
TOLERANCE = {"r": 0.05, "dB": 1.0, "NLL": 0.5, "ECE": 0.02}
"""|ours - theirs| up to which a number counts as reproduced, by unit.

Up to three times as much, or inside our interval: near.
"""
PAPERS = {
    "antun": "Antun et al. 2020",
    "oala": "Oala et al. 2021",
    "vasconcelos": "Vasconcelos, He, Teh 2021",
}
DETECTORS = {
    "interval": "interval network",
    "dropout": "MC dropout",
    "probout": "mean and variance",
}
TASKS = {"denoising": "denoising", "ct_limited": "limited-angle CT"}
EXPERIMENTS = {"adv_detect": "AdvDetect", "art_detect": "ArtDetect"}
LEARNED = {
    "dropout": "MC dropout",
    "bbb": "Bayes by backprop",
    "ensemble-2": "ensemble of 2",
    "ensemble-5": "ensemble of 5",
    "ensemble-10": "ensemble of 10",
    "hmc": "HMC, one phantom",
}


@dataclass(frozen=True)
class Line:
    """One published number and ours. `ours` is None where there is no record of it."""

    paper: str  # one of PAPERS, of its Table 1
    what: str
    unit: str  # of TOLERANCE
    theirs: float
    ours: float | None = None
    ci: tuple[float, float] | None = None
    over: str = ""  # what the mean and its interval are over
    why: str = ""  # what is known to be different
    device: str = ""
    keys: tuple[str, ...] = ()  # of the records

    @property
    def verdict(self) -> str:
        """Return one of VERDICTS, by TOLERANCE."""
        if self.ours is None:
            return "not tested"
        away = abs(self.ours - self.theirs)
        allowed = TOLERANCE[self.unit]
        inside = self.ci is not None and self.ci[0] <= self.theirs <= self.ci[1]
        if away <= allowed:
            return "reproduced"
        return "near" if away <= 3 * allowed or inside else "differs"


def lines(profile: str = "standard") -> list[Line]:
    """Return a line for every number of the papers' tables.

    Oala et al., Table 1 (12); Vasconcelos et al., Table 1 (10 classical, 12 learned rows). Antun et
    al. print pictures and curves, no table of results; their claims are in `antun2020.verdicts`.
    """
    return [*_detection(profile), *_classical(profile), *_learned(profile)]


def detection_records(
    profile: str, task: str, experiment: str, method: str, masks: str = "shared"
) -> list[dict]:
    """Return the records that Table 1 of Oala et al. is compared with, one for each seed.

    On test images, 8 interval layers, the paper's beta. "shared": dropout has the same masks before
    and after the change; "fresh": it has not; "": any.
    """

    def is_compared(record: dict) -> bool:
        about = record["parameters"]
        usual = task != "denoising" or about.get("n_layers", 8) == 8
        same_masks = not masks or about.get("masks", "shared") == masks
        on_test = about.get("split") == "test"
        return bool(record["paper"]) and on_test and usual and same_masks and "beta" not in about

    about = dict(task=task, network=table1.NETWORKS[task], method=method, profile=profile)
    rows = store.records(experiment=experiment, **about)
    newest = {row["seed"]: row for row in rows if is_compared(row)}
    return sorted(newest.values(), key=lambda row: row["created"])


def classical_records(profile: str, **parameters: object) -> list[dict]:
    """Return the records of classical methods at 64 pixels, without inverse crime."""
    about = {"crime": False, "image_size": 64, **parameters}
    rows = store.records(experiment="baseline", task="inr_ct", profile=profile)
    return [row for row in rows if about.items() <= row["parameters"].items()]


def _detection(profile: str) -> Iterator[Line]:
    """Yield means over images and over seeds; the interval is Student's, over seeds."""
    for (task, experiment), row in table1.PUBLISHED.items():
        different = "a smaller network"
        if task == "ct_limited":
            different = "ellipses and 4 slices for 330 slices"
        for method, (theirs, _) in row.items():
            rows = detection_records(profile, task, experiment, method)
            values = [record["metrics"]["plain"]["pearson_r"] for record in rows]
            number = metrics.mean_ci(values) if values else None
            yield Line(
                paper="oala",
                what=f"{TASKS[task]}, {EXPERIMENTS[experiment]}, {DETECTORS[method]}",
                unit="r",
                theirs=theirs,
                why=different,
                **_ours(rows, number, f"{len(values)} trainings"),
            )


def _classical(profile: str) -> Iterator[Line]:
    for (n_views, method), both in published.CLASSICAL.items():
        constraint = "nonnegative" if method in ("sirt", "sart", "em") else "none"
        for split, theirs in zip(("validate", "test"), both, strict=True):
            about = {"n_views": n_views, "split": split, "constraint": constraint}
            rows = [r for r in classical_records(profile, **about) if r["method"] == method][-1:]
            yield Line(
                paper="vasconcelos",
                what=f"{n_views} views, {split}, {method.upper()}",
                unit="dB",
                theirs=theirs,
                why="64 pixels; its image size and iterations are not given",
                **_ours(rows, _number(rows, "psnr_db"), "5 phantoms"),
            )


def _learned(profile: str) -> Iterator[Line]:
    best = {views: results.best_records(views, profile) for views in (5, 20)}
    quantities = (("PSNR", "dB", "psnr_db"), ("NLL", "NLL", "nll"), ("ECE", "ECE", "ece_tuned"))
    for (method, n_views), both in published.FIELDS.items():
        for split, theirs in zip(("validate", "test"), both, strict=True):
            if theirs is None:
                continue
            if method == "hmc":
                rows = posterior_chains.stored(profile, n_views)[-1:]
            else:
                rows = [r for key, r in best[n_views].items() if key == (method, split)]
            over = "one phantom" if method == "hmc" else "5 phantoms"
            for (quantity, unit, name), value in zip(quantities, theirs, strict=True):
                yield Line(
                    paper="vasconcelos",
                    what=f"{n_views} views, {split}, {LEARNED[method]}: {quantity}",
                    unit=unit,
                    theirs=value,
                    why="64 pixels, 1000 steps, widths to 64; its image size, steps and learning "
                    "rates are not given",
                    **_ours(rows, _number(rows, name), over),
                )


def _number(rows: list[dict], name: str) -> metrics.Mean | None:
    if not rows:
        return None
    values = rows[0]["metrics"]
    low, high = values.get(f"{name}_ci") or (np.nan, np.nan)
    return metrics.Mean(values[name], low, high)


def _ours(rows: list[dict], number: metrics.Mean | None, over: str) -> dict:
    """Return the fields of a `Line` that come from records."""
    if number is None:
        return {}
    return {
        "ours": number.mean,
        "ci": None if np.isnan(number.low) else (number.low, number.high),
        "over": over,
        "device": rows[0]["device"],
        "keys": tuple(row["key"] for row in rows),
    }
