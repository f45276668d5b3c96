"""Fields on CT slices with noise and on a measured tooth, beside stable solvers."""

import functools
import math
from dataclasses import replace

from torch import Tensor

from ... import metrics, profiles, store
from ...fields import Scan, aapm_scan, scans, tooth_scan
from . import baselines, results
from .settings import Setting
from .trials import score, train

SNR_DB = 40.0
METHODS = tuple(
    m
    for m in baselines.METHODS
    if (m.name, m.constraint) in (("fbp", "none"), ("sirt", "box"), ("tv", "none"))
)
"""Beside the field; iterations and weight from validation slice 0."""


def scan(data: str, profile: str = "standard", split: str = "test") -> Scan:
    """Return "aapm 0", "aapm 1", ... (60 views of a slice, 40 dB), or "tooth" (20 of its views)."""
    size = profiles.stage("real_data", profile)
    if data == "tooth":
        return tooth_scan(20, size.binning)
    generator = profiles.generator(0, f"{data} {split} noise")
    return aapm_scan(int(data.split()[1]), 60, size.image_size, SNR_DB, generator, split)


def setting(data: str, profile: str = "standard", p: float = 0.2) -> Setting:
    """Return the field for these data, with omega0 from a validation slice."""
    measured = scan(data, profile)
    shape = {"n_views": measured.y.shape[2], "image_size": measured.x.shape[-1]}
    return replace(_base(profile), p=p, omega0=_omega0(profile), **shape)


def _base(profile):
    size = profiles.stage("real_data", profile)
    names = ("width", "depth", "n_frequencies", "steps", "lr")
    return Setting(**{name: getattr(size, name) for name in names})


def _omega0(profile):
    """Return the omega0 with the best PSNR of dropout's mean image on validation slice 0."""
    size = profiles.stage("real_data", profile)
    if len(size.omega0) == 1:
        return size.omega0[0]
    psnr = {
        r["parameters"]["omega0"]: r["metrics"]["psnr_db"]
        for r in stored(profile, "validate")
        if r["method"] == "dropout"
    }
    for omega0 in set(size.omega0) - set(psnr):
        s = replace(_base(profile), n_views=60, image_size=size.image_size, omega0=omega0)
        psnr[omega0] = _field(s, "aapm 0", "validate", profile)["metrics"]["psnr_db"]
    return max(size.omega0, key=psnr.get)


def stored(profile: str, split: str = "test") -> list[dict]:
    """Return the records on real data that exist, of fields and of classical methods."""
    rows = store.records(experiment=("inr", "baseline"), task="inr_ct", profile=profile)
    return [r for r in rows if "data" in r["parameters"] and r["parameters"]["split"] == split]


def run(profile: str = "standard") -> list[dict]:
    """Return the records of every test slice and the tooth; write the tooth's exhibit if missing.

    A field with dropout and without, FBP, SIRT in the box, TV. Iterations and weights are chosen on
    validation slice 0.
    """
    n_test = profiles.stage("real_data", profile).n_test
    records = []
    for data in (*(f"aapm {i}" for i in range(n_test)), "tooth"):
        for p in (0.2, 0.0):
            records.append(_field(setting(data, profile, p), data, "test", profile))
        records += [_classical(method, data, profile) for method in METHODS]
    if results.exhibit(f"inr-tooth-{profile}") is None:
        _exhibit(profile)
    return records


def _exhibit(profile):
    """Write the exhibit `inr-tooth-<profile>`: the field's passes, SIRT, TV and the reference."""
    tooth, drawn = scan("tooth", profile), _samples(setting("tooth", profile), "tooth", profile)
    drawn = drawn["samples"].float()
    images = {m.name: classical(m, "tooth", profile)[0][0, 0] for m in METHODS[1:]}
    means = {"mean": drawn.mean(0)[0, 0], "std": drawn.std(0)[0, 0]}
    store.save_exhibit(
        f"inr-tooth-{profile}",
        {},
        pictures={**means, "reference": tooth.x[0, 0], **images},
        data=[tooth.name],
        profile=profile,
        seed=0,
        note=f"{tooth.y.shape[2]} of the views of a measured tooth",
    )


def classical(
    method: baselines.Method, data: str, profile: str = "standard"
) -> tuple[Tensor, float]:
    """Return a classical method's image of these data, and its iterations or TV's weight."""
    method = method._replace(cap=math.ceil(profiles.stage("real_data", profile).share * method.cap))
    chosen = _tuned(method, profile)
    return baselines.solve(method, scan(data, profile), chosen), chosen


@functools.cache
def _tuned(method, profile):
    weights = profiles.stage("real_data", profile).weights
    return baselines.tune(method, scan("aapm 0", profile, "validate"), weights)[0]


def _samples(setting, data, profile, split="test"):
    about = {"setting": setting.parameters(), "data": data, "profile": profile, "split": split}
    return store.cached_arrays("inr-samples", about, _train, version=1)


def _train(setting, data, profile, split):
    drawn, seconds = train([Setting.of(setting)], scan(data, profile, split), [0])
    return {"samples": drawn.half(), "seconds": seconds}


def _field(setting, data, split, profile):
    measured = scan(data, profile, split)

    def compute():
        arrays = _samples(setting, data, profile, split)
        scores = score(arrays["samples"].float(), measured)
        means = {name: float(values[0]) for name, values in scores.items()}
        return {**means, "training_s": arrays["seconds"]}

    return store.cached(
        compute,
        experiment="inr",
        task="inr_ct",
        network="inr",
        method="dropout",
        seed=setting.seed,
        profile=profile,
        parameters={"data": data, "split": split, **setting.parameters()},
        inputs=[measured.name],
    )


def _classical(method, data, profile):
    measured = scan(data, profile)

    def compute():
        x, chosen = classical(method, data, profile)
        return {
            "psnr_db": float(metrics.psnr_db(x, measured.x, 1.0)),
            "psnr_clipped_db": float(metrics.psnr_db(x.clamp(0, 1), measured.x, 1.0)),
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
