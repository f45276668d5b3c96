"""Oala et al. (2021), interval neural networks as instability detectors.

| figure / table / claim | function | chapter |
|---|---|---|
| Sec. 2, App. A.2: interval arithmetic and its loss | `uncertainty.interval` | 05 |
| Sec. 2: MC dropout, mean-variance | `uncertainty.dropout`, `uncertainty.probout` | 06 |
| Table 2: how the detectors are fitted | `fitted` -> `uncertainty.fits` | 05, 06 |
| Fig. 1 (AdvDetect), Fig. 2 (ArtDetect) | `changes.adversarial`, `changes.shifted` | 09 |
| Table 1: AdvDetect and ArtDetect, denoising and CT | `table1.rows` | 09 |
| Table 1 with null detectors, best forms, gains | `forms` | 09 |
| beyond the paper: Table 1 around the published DnCNN | `tuned_rows` | 09 |
| beyond the paper: other beta, fewer passes | `table1.sweep_rows` | 09 |
| beyond the paper: alarms on failures of Antun et al.'s tests | `alarms.rows` | 12 |
| beyond the paper: an attacker who knows the alarm | `alarms.adaptive_attack` | 12 |

`python -m instab_utils.papers oala2021 table1` runs one of `ARTEFACTS`.
"""

import logging

from ... import store, training
from ...uncertainty import fits
from ..artefact import Artefact
from . import alarms, changes, detectors, forms, table1
from .changes import NETWORKS, PHANTOMS
from .detectors import BETAS

TUNED = "dncnn-tuned"
"""The published DnCNN trained on with dropout: the second denoiser of Table 1."""
log = logging.getLogger(__name__)


def shipped_fits(profile: str = "standard") -> list[fits.FitRecipe]:
    """Return the fits whose weights ship, the most needed first."""
    specs = [
        fits.fit_recipe(method, network, seed, profile)
        for network, seeds in (*((name, table1.SEEDS) for name in NETWORKS.values()), (TUNED, (0,)))
        for method in ("interval", "probout")
        for seed in seeds
    ]
    fewer = min(5, training.recipe("dncnn", profile).architecture["n_layers"] - 2)
    specs += [
        fits.fit_recipe("interval", "dncnn", seed, profile, n_layers=fewer) for seed in table1.SEEDS
    ]
    specs += [fits.fit_recipe("interval", "dncnn", 0, profile, beta=beta) for beta in BETAS]
    without = [spec.key for spec in cards_only(profile)]
    return [spec for spec in specs if spec.key not in without]


def cards_only(profile: str = "standard") -> list[fits.FitRecipe | training.Recipe]:
    """Return the trainings whose cards ship and whose weights, 6 MB, do not.

    The cards say which records are theirs. Weights are made anew by `store.load_or_train`.
    """
    specs = [fits.fit_recipe("probout", "unet-limited", seed, profile) for seed in (1, 2)]
    return specs + [training.recipe(TUNED, profile, seed) for seed in (1, 2)]


def fitted(profile: str, only: list[str] | None = None) -> list[dict]:
    """Return the cards of the shipped fits around the networks `only`, fitted where missing."""
    cards = []
    for spec in shipped_fits(profile):
        if spec.base.name in (only or (*NETWORKS.values(), TUNED)):
            trained = store.load_or_train(spec)
            log.info("%s: %s", trained.key, trained.card["validation"])
            cards.append(trained.card)
    return cards


def detection_rows(profile: str, only: list[str] | None = None) -> list[dict]:
    """Return Table 1's records of the tasks `only`: three trainings, and validation images."""
    records = []
    for task in only or NETWORKS:
        for seed in table1.SEEDS:
            records += table1.rows(task, seed, profile)
        records += table1.rows(task, 0, profile, "validate")
    return records


def tuned_rows(profile: str) -> list[dict]:
    """Return Table 1's records of the published denoiser, tuned three times."""
    seeds = table1.SEEDS if profile != "smoke" else (0,)
    splits = [(seed, "test") for seed in seeds] + [(0, "validate")]
    return [row for s in splits for row in table1.rows("denoising", s[0], profile, s[1], TUNED)]


def recorded_tuned(profile: str) -> list[dict]:
    """Return the records on test images that `tuned_rows` has made so far."""
    rows = store.records(experiment=table1.EXPERIMENTS, network=TUNED, profile=profile)
    return [row for row in rows if row["parameters"]["split"] == "test"]


def alarm_rows(profile: str, only: list[str] | None = None) -> list[dict]:
    """Return the records of alarms on failures and attacks, of the tasks `only`."""
    return [row for task in only or NETWORKS for row in alarms.rows(task, profile)]


ARTEFACTS = {
    "fits": Artefact(
        "Table 2", "intervals and variances are fitted to a trained network", fitted, "05"
    ),
    "table1": Artefact(
        "Table 1", "interval networks detect failures better than MC dropout", detection_rows, "09"
    ),
    "published-denoiser": Artefact(
        "beyond the paper", "the same detectors around the published DnCNN", tuned_rows, "09"
    ),
    "sweep": Artefact(
        "Table 2", "denoising takes beta = 1e-3 and 128 passes", table1.sweep_rows, "09"
    ),
    "alarms": Artefact(
        "beyond the paper",
        "detectors on Antun et al.'s failures, adaptive attack",
        alarm_rows,
        "12",
    ),
}
