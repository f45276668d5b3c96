"""Beyond the phantoms: a field on CT slices with noise and on a measured tooth, beside stable
solvers on the same data.
"""

import functools
import math
from dataclasses import asdict, dataclass, replace

import torch

from ... import metrics, profiles, solvers, store
from ...fields import scans
from . import baselines, study
from .study import Setting

SNR_DB = 40.0


@dataclass(frozen=True)
class Size:
    """How much of it a profile does."""

    image_size: int
    n_test: int  # AAPM slices; 4 are public
    binning: int  # of the tooth: 360 / binning pixels
    setting: Setting  # n_views, image_size and omega0 are replaced
    omega0: tuple[float, ...]  # candidates; a validation slice decides
    weights: tuple[float, ...]  # of total variation, likewise
    share: float  # of the caps of the classical methods


SIZES = {
    "smoke": Size(32, 1, 12, Setting(width=16, n_frequencies=16, steps=12), (5.0,), (1e-3,), 0.04),
    "standard": Size(
        128,
        2,
        4,
        Setting(steps=1000),
        (5.0, 10.0, 15.0),
        tuple(10 ** (k / 4) for k in range(-16, -7)),
        1.0,
    ),
    "paper": Size(
        512,
        4,
        1,
        Setting(width=280, depth=5, n_frequencies=363, steps=15000, lr=3e-4),
        (10.0, 30.0),
        tuple(10 ** (k / 4) for k in range(-16, -7)),
        1.0,
    ),
}
METHODS = tuple(
    m
    for m in baselines.METHODS
    if (m.name, m.constraint) in (("fbp", "none"), ("sirt", "box"), ("tv", "none"))
)
"""Beside the field; iterations and weight from validation slice 0."""


def scan(data: str, profile: str = "standard", split: str = "test") -> scans.Scan:
    """ "aapm 0", "aapm 1", ...: a slice, 60 views, white noise of 40 dB; "tooth": 20 of its views."""
    size = SIZES[profile]
    if data == "tooth":
        return scans.tooth_scan(20, size.binning)
    index = int(data.split()[1])
    return scans.aapm_scan(
        index, 60, size.image_size, SNR_DB, profiles.generator(0, f"{data} {split} noise"), split
    )


def setting(data: str, profile: str = "standard", p: float = 0.2) -> Setting:
    """The field for these data; omega0 is chosen on a validation slice (`chosen`), for the tooth,
    too.
    """
    found = scan(data, profile)
    return replace(
        SIZES[profile].setting,
        n_views=found.y.shape[2],
        image_size=found.x.shape[-1],
        p=p,
        omega0=chosen(profile),
    )


def chosen(profile: str = "standard") -> float:
    """The omega0 with the best PSNR of the mean of dropout's passes on validation slice 0."""
    size = SIZES[profile]
    if len(size.omega0) == 1:
        return size.omega0[0]
    found = {
        r["parameters"]["omega0"]: r["metrics"]["psnr_db"]
        for r in _stored(profile, "validate")
        if r["method"] == "dropout"
    }
    for omega0 in set(size.omega0) - set(found):
        s = replace(size.setting, n_views=60, image_size=size.image_size, omega0=omega0)
        row = _recorded(s, scan("aapm 0", profile, "validate"), "aapm 0", "validate", profile)
        found[omega0] = row["metrics"]["psnr_db"]
    return max(size.omega0, key=found.get)


def passes(data: str, profile: str, p: float = 0.2) -> torch.Tensor:
    """The samples (50, 1, 1, n, n) behind `rows`, trained now where they are not cached."""
    s = setting(data, profile, p)
    return _cached_samples(s, data, profile, "test")["samples"].float()


def rows(profile: str = "standard") -> list[dict]:
    """Records for every test slice and the tooth: the field with dropout and without, FBP, SIRT
    with the box, TV.

    Iterations and weights are chosen on
    validation slice 0.
    """
    names = [*(f"aapm {i}" for i in range(SIZES[profile].n_test)), "tooth"]
    last = {
        (r["parameters"]["data"], r["method"], r["parameters"].get("p")): r
        for r in _stored(profile, "test")
    }
    made = []
    for data in names:
        for method, p in (("dropout", 0.2), ("dropout", 0.0)):
            made.append(
                last.get((data, method, p))
                or _recorded(setting(data, profile, p), scan(data, profile), data, "test", profile)
            )
        for method in METHODS:
            made.append(last.get((data, method.name, None)) or _classical(method, data, profile))
    return made


def exhibit(profile: str = "standard") -> None:
    """The exhibit `inr-tooth-<profile>`: mean and std of the field's passes, SIRT in the box, TV,
    and the reference.
    """
    one, drawn = scan("tooth", profile), passes("tooth", profile)
    store.save_exhibit(
        f"inr-tooth-{profile}",
        {
            "mean": drawn.mean(0)[0, 0].half(),
            "std": drawn.std(0)[0, 0].half(),
            "reference": one.x[0, 0].half(),
            **{m.name: classical(m.name, "tooth", profile)[0, 0].half() for m in METHODS[1:]},
        },
        data=[one.name],
        profile=profile,
        seed=0,
        note=f"{one.y.shape[2]} of the views of a measured tooth",
    )


def classical(method: str, data: str, profile: str = "standard") -> torch.Tensor:
    """The image of "fbp", "sirt" or "tv" on these data, as in `rows`."""
    return _solve(next(m for m in METHODS if m.name == method), scan(data, profile), profile)[0]


def _stored(profile: str, split: str) -> list[dict]:
    """The records on real data."""
    found = store.records(experiment=("inr", "baseline"), task="inr_ct", profile=profile)
    return [r for r in found if "data" in r["parameters"] and r["parameters"]["split"] == split]


def _samples(setting: dict, data: str, profile: str, split: str) -> dict:
    found, fitting = study.train(Setting(**setting), scan(data, profile, split), 0)
    return {"samples": found.half(), "seconds": fitting.seconds}


def _cached_samples(s: Setting, data: str, profile: str, split: str) -> dict:
    parameters = {"setting": asdict(s), "data": data, "profile": profile, "split": split}
    return store.cached_arrays("inr-samples", parameters, _samples, version=1)


def _recorded(s: Setting, measured: scans.Scan, data: str, split: str, profile: str) -> dict:
    def compute():
        drawn = _cached_samples(s, data, profile, split)
        scores = study.score(drawn["samples"].float(), measured)
        return {
            **{name: float(values[0]) for name, values in scores.items()},
            "training_s": drawn["seconds"],
        }

    return store.cached(
        compute,
        experiment="inr",
        task="inr_ct",
        network="inr",
        method="dropout",
        seed=s.seed,
        profile=profile,
        parameters={"data": data, "split": split, **asdict(s)},
        inputs=[measured.name],
    )


def _classical(method, data, profile):
    measured = scan(data, profile)

    def compute():
        x, chosen = _solve(method, measured, profile)
        psnr = {
            name: float(metrics.psnr_db(image, measured.x, 1.0))
            for name, image in (("psnr_db", x), ("psnr_clipped_db", x.clamp(0, 1)))
        }
        return {
            **psnr,
            "residual": float(scans.residual(measured.A, x, measured.y)),
            "chosen": chosen,
        }

    return store.cached(
        compute,
        experiment="baseline",
        task="inr_ct",
        network="inr",
        method=method.name,
        seed=0,
        profile=profile,
        parameters={"data": data, "split": "test", "constraint": method.constraint},
        inputs=[measured.name],
    )


def _solve(method, measured, profile):
    """The image and what was chosen for it: iterations, or TV's weight."""
    method = method._replace(cap=math.ceil(SIZES[profile].share * method.cap))
    chosen = _tuned(method, profile)
    return baselines.solve(method, measured, chosen), chosen


@functools.cache
def _tuned(method, profile):
    validation = scan("aapm 0", profile, "validate")
    if method.name != "tv":
        return baselines.tune(method, validation)[0]
    options = dict(y_validation=validation.y, n_iter=method.cap)
    return solvers.choose_weight(validation.A, validation.x, SIZES[profile].weights, **options)[0]
