"""The ledger: every published number beside ours, computed from records alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .. import metrics, store
from ..papers.oala2021 import table1
from ..papers.vasconcelos2021 import baselines
from ..papers.vasconcelos2021 import study as fields

VERDICTS = ("reproduced", "near", "differs", "not tested")
TOLERANCE = {"r": 0.05, "dB": 1.0, "NLL": 0.5, "ECE": 0.02}
"""|ours - theirs| up to which a number of this unit counts as reproduced; up to three times as
much, or inside our interval: near.
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

    paper: str  # one of PAPERS
    where: str
    what: str
    unit: str  # of TOLERANCE
    theirs: float
    ours: float | None = None
    ci: tuple[float, float] | None = None
    over: str = ""  # what the mean and its interval are over
    why: str = ""  # what is known to be different
    profile: str = ""
    device: str = ""
    keys: tuple[str, ...] = ()  # of the records

    @property
    def verdict(self) -> str:
        """One of VERDICTS, by TOLERANCE."""
        if self.ours is None:
            return "not tested"
        away, allowed = abs(self.ours - self.theirs), TOLERANCE[self.unit]
        inside = self.ci is not None and self.ci[0] <= self.theirs <= self.ci[1]
        return (
            "reproduced"
            if away <= allowed
            else "near"
            if away <= 3 * allowed or inside
            else "differs"
        )


def lines(profile: str = "standard") -> list[Line]:
    """Every number of the papers' tables: Oala et al., Table 1 (12), Vasconcelos et al., Table 1
    (10 classical, 12 learned rows).

    Antun et al. print pictures and curves, no table of results; their claims are in
    `instab_utils.stability`'s verdicts.
    """
    return [*_detection(profile), *_classical(profile), *_learned(profile)]


def _detection(profile) -> Iterator[Line]:
    """Means over images and over seeds; the interval is Student's, over seeds."""
    for (task, experiment), row in table1.PUBLISHED.items():
        for method, (theirs, _) in row.items():
            found = [
                r
                for r in store.records(
                    experiment=experiment, task=task, method=method, profile=profile
                )
                if r["paper"] and r["parameters"].get("split") == "test" and _usual(r)
            ]
            last = list({r["seed"]: r for r in found}.values())
            values = [r["metrics"]["plain"]["pearson_r"] for r in last]
            about = dict(
                paper="oala",
                where="Table 1",
                what=f"{TASKS[task]}, {EXPERIMENTS[experiment]}, {DETECTORS[method]}",
                unit="r",
                theirs=theirs,
                why="ellipses and 4 slices for 330 slices"
                if task == "ct_limited"
                else "a smaller network",
            )
            yield Line(
                **about,
                **_found(
                    last, metrics.mean_ci(values) if values else None, f"{len(values)} trainings"
                ),
            )


def _usual(record) -> bool:
    """The row that the paper's is compared with: 8 interval layers, the same masks before and
    after.
    """
    about = record["parameters"]
    usual = about.get("n_layers", 8) == 8 or record["task"] != "denoising"
    return usual and about.get("masks", "shared") == "shared" and "beta" not in about


def _classical(profile) -> Iterator[Line]:
    constraint = {"sirt": "nonnegative", "sart": "nonnegative", "em": "nonnegative"}
    records = store.records(experiment="baseline", task="inr_ct", profile=profile)
    for (n_views, method), both in baselines.PAPER.items():
        for split, theirs in zip(("validate", "test"), both):
            about = {
                "n_views": n_views,
                "split": split,
                "crime": False,
                "constraint": constraint.get(method, "none"),
                "image_size": 64,
            }
            found = [
                r
                for r in records
                if r["method"] == method and about.items() <= r["parameters"].items()
            ]
            last = found[-1:]
            number = _number(last[0]["metrics"], "psnr_db") if last else None
            yield Line(
                "vasconcelos",
                "Table 1",
                f"{n_views} views, {split}, {method.upper()}",
                "dB",
                theirs,
                **_found(last, number, "5 phantoms"),
                why="64 pixels; its image size and iterations are not given",
            )


def _learned(profile) -> Iterator[Line]:
    best = {v: fields.best_records(v, profile) for v in (5, 20)}
    hmc = store.records(experiment="hmc", profile=profile)
    for (method, n_views), both in fields.PAPER.items():
        for split, theirs in zip(("validate", "test"), both):
            if theirs is None:
                continue
            if method == "hmc":
                last = [
                    r
                    for r in hmc
                    if r["parameters"]["n_views"] == n_views
                    and r["parameters"].get("start") == "anchored"
                    and r["parameters"]["sigma"] == 0.03
                ][-1:]
            else:
                last = [best[n_views][method, split]] if (method, split) in best[n_views] else []
            for name, unit, value in zip(
                ("psnr_db", "nll", "ece_tuned"), ("dB", "NLL", "ECE"), theirs
            ):
                number = _number(last[0]["metrics"], name) if last else None
                what = "PSNR" if unit == "dB" else unit
                yield Line(
                    "vasconcelos",
                    "Table 1",
                    f"{n_views} views, {split}, {LEARNED[method]}: {what}",
                    unit,
                    value,
                    **_found(last, number, "one phantom" if method == "hmc" else "5 phantoms"),
                    why="64 pixels, 1000 steps, widths to 64; its image size, steps and learning rates are not given",
                )


def _number(found, name):
    low, high = found.get(f"{name}_ci") or (np.nan, np.nan)
    return metrics.Mean(found[name], low, high)


def _found(records, number, over) -> dict:
    if number is None:
        return {}
    ci = None if np.isnan(number.low) else (number.low, number.high)
    return {
        "ours": number.mean,
        "ci": ci,
        "over": over,
        "profile": records[0]["profile"],
        "device": records[0]["device"],
        "keys": tuple(r["key"] for r in records),
    }
