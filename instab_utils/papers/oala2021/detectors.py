"""The detectors of Table 1, with null detectors beside them."""

from collections.abc import Callable
from typing import NamedTuple

from ... import profiles, store, training
from ...uncertainty import fits
from ...uncertainty.dropout import MCDropout
from ...uncertainty.null_detectors import NULL_DETECTORS, NullDetector
from ...uncertainty.prediction import Estimator, Prediction
from .changes import NETWORKS

BETAS = (1e-4, 1e-2, 4e-2)
"""Prices of width beside the paper's 1e-3, for denoising and seed 0."""
FORMS = ("variance", "std")  # of a spread


class Detector(NamedTuple):
    """An estimator before and after a change: two estimators for fresh dropout masks."""

    method: str
    about: dict[str, object]  # what else names it in a record: masks, n_layers
    before: Estimator
    after: Estimator
    key: str  # of its weights
    forms: tuple[str, ...] = FORMS[:1]
    attacked: str = "base"  # or "probout": whose attack it has to find


class Detection(NamedTuple):
    """The networks that are attacked, by name, and the detectors of their failures."""

    networks: dict[str, Callable]
    detectors: list[Detector]
    keys: dict[str, str]  # of the networks' weights


class Run(NamedTuple):
    """What the records of one run have in common."""

    task: str
    seed: int  # of the trainings
    profile: str
    network: str

    def record(
        self, experiment: str, d: Detector, images: str, parameters: dict, **values: object
    ) -> dict:
        """Return a record of one detector; values: `store.record`'s metrics and paper."""
        return store.record(
            experiment=experiment,
            method=d.method,
            parameters={**parameters, **d.about},
            inputs=[d.key, images],
            **self._asdict(),
            **values,
        )


def in_form(prediction: Prediction, form: str) -> Prediction:
    """Return the prediction with its spread, a variance, as a variance or as its root ("std")."""
    return prediction._replace(spread=prediction.spread.sqrt()) if form == "std" else prediction


def n_passes(task: str, profile: str) -> int:
    """Return the number of passes of MC dropout."""
    size = profiles.stage("detection", profile)
    return size.n_passes_denoising if task == "denoising" else size.n_passes_ct


def detection(
    task: str, profile: str, seed: int, passes: int | None = None, network: str | None = None
) -> Detection:
    """Return the networks and all detectors of one task and training seed, see `table1.rows`."""
    name = network or NETWORKS[task]
    base = store.load_or_train(training.recipe(name, profile, seed))
    depths = [fits.fit_recipe("interval", name, seed, profile).n_layers]
    if name == "dncnn" and profile != "smoke":
        depths = [8, 5]
    detectors = [interval_detector(name, seed, profile, n_layers=n) for n in depths]
    detectors += dropout_detectors(base, seed, passes or n_passes(task, profile))
    probout = store.load_or_train(fits.fit_recipe("probout", name, seed, profile))
    model = probout.network
    detectors.append(Detector("probout", {}, model, model, probout.key, FORMS, "probout"))
    for kind in NULL_DETECTORS:
        null = NullDetector(kind, base.network, profiles.generator(seed, f"null {kind}"))
        detectors.append(Detector(null.name, {}, null, null, base.key))
    networks = {"base": base.network, "probout": probout.network.mean}
    return Detection(networks, detectors, {"base": base.key, "probout": probout.key})


def interval_detector(name: str, seed: int, profile: str, **changes) -> Detector:
    """Return the interval network of a fit; `changes` as in `fits.fit_recipe`."""
    spec = fits.fit_recipe("interval", name, seed, profile, **changes)
    trained = store.load_or_train(spec)
    about = {"n_layers": spec.n_layers, **changes}
    network = trained.network
    return Detector("interval", about, network, network, trained.key)


def dropout_detectors(base: store.Trained, seed: int, n_passes: int) -> list[Detector]:
    """Return MC dropout with the same masks before and after, and with fresh ones."""
    estimators, detectors = {}, []
    for masks in ("shared", "fresh"):
        generator = profiles.generator(seed, f"{masks} masks")
        after = estimators[masks] = MCDropout(base.network, n_passes, generator, masks=masks)
        about = {"masks": masks, "n_passes": n_passes}
        before = estimators["shared"]
        detectors.append(Detector("dropout", about, before, after, base.key, FORMS))
    return detectors


def sweep_detection(profile: str) -> Detection:
    """Return DnCNN, seed 0, with other prices of width and fewer passes."""
    base = store.load_or_train(training.recipe("dncnn", profile, 0))
    detectors = [interval_detector("dncnn", 0, profile, beta=beta) for beta in BETAS]
    usual = n_passes("denoising", profile)
    for passes in (max(2, usual // 16), max(3, usual // 4)):
        detectors += dropout_detectors(base, 0, passes)
    return Detection({"base": base.network}, detectors, {"base": base.key})
