"""Fields fitted to the INR paper's phantoms, and the scores of their samples."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ... import metrics, profiles, store
from ...fields import Scan, fit_fields, interior, samples, scans
from ...networks import Fields
from ...uncertainty import BayesByBackprop, ensemble
from .settings import Setting

N_SAMPLES = 50


def train(
    settings: Sequence[Setting], scan: Scan, ids: Sequence[int], n_samples: int = N_SAMPLES
) -> tuple[Tensor, float]:
    """Return samples (n_samples, K, 1, n, n) of a field for each setting and id, and seconds.

    All fields are trained in one stack, on a GPU where there is one. The scan has one image, or one
    for each field. A field without dropout gives one image, repeated.
    """
    first, device = settings[0], profiles.default_device()
    members = [setting.field(id) for setting, id in zip(settings, ids, strict=True)]
    net = (members[0] if len(members) == 1 else Fields.stack(members)).to(device)
    xi = torch.tensor([setting.xi for setting in settings], device=device)
    if first.method == "bbb":
        prior_std = torch.tensor([setting.prior_std for setting in settings], device=device)
        net = BayesByBackprop(net, prior_std, first.rho)
    draws = profiles.generator(first.seed, f"field {ids[0]} draws", device)
    A, y = scan.A.to(device), scan.y.to(device)
    fitted = fit_fields(net, A, y, first.steps, first.lr, xi=xi, generator=draws)
    return samples(net, first.image_size, n_samples, draws).cpu(), fitted.seconds


def passes(setting: Setting, ids: int | Sequence[int]) -> tuple[Tensor, float]:
    """Return `train` of one field a phantom, each computed once: samples and seconds of all."""
    ids = (ids,) if isinstance(ids, int) else ids
    stored = [
        store.cached_arrays(
            "inr-passes", {"setting": setting.parameters(), "id": id}, _passes, version=1
        )
        for id in ids
    ]
    drawn = torch.cat([arrays["samples"] for arrays in stored], 1).float()
    return drawn, sum(arrays["seconds"] for arrays in stored)


def _passes(setting, id):
    setting = Setting.of(setting)
    drawn, seconds = train([setting], setting.scan(id), [id])
    return {"samples": drawn.half(), "seconds": seconds}


def pooled_passes(settings: Sequence[Setting], ids: Sequence[int]) -> Tensor:
    """Return 50 samples of each phantom, of one field or of a deep ensemble of several."""
    members = [passes(setting, ids)[0] for setting in settings]
    return members[0] if len(members) == 1 else ensemble.pooled(members, N_SAMPLES)


def trial(ids: Sequence[int] = (1,), **setting) -> dict[str, object]:
    """Return `score` of fields of one setting, mean over phantoms, and the seconds of training.

    One job of a sweep.

    Args:
        ids: phantoms, validation 1 to 5 for any choice.
        setting: fields of `Setting`.
    """
    setting = Setting(**setting)
    drawn, seconds = passes(setting, ids)
    return {**_means(score(drawn, setting.scan(tuple(ids)))), "training_s": seconds}


STACKED = ("omega0", "p", "prior_std", "xi")
BATCHED = tuple(f.name for f in dataclasses.fields(Setting) if f.name not in STACKED)
"""What the settings of a stack must share; those of `STACKED` may differ."""


def batched(settings: Sequence[Mapping]) -> list[dict[str, object]]:
    """Return `trial` of many settings that agree in `BATCHED`, all fields in one stack.

    A sweep asks for it with `batch_by`: on a GPU many small fields take the time of one. They start
    as they would alone; masks and draws come from one stream for the whole stack, so that results
    with dropout are those of another seed.
    """
    jobs = [dict(setting) for setting in settings]
    ids = [tuple(job.pop("ids", (1,))) for job in jobs]
    each = [Setting(**job) for job, own in zip(jobs, ids) for _ in own]
    if len({tuple(getattr(setting, name) for name in BATCHED) for setting in each}) != 1:
        raise ValueError(f"batched expects settings that agree in {', '.join(BATCHED)}.")
    flat = [id for own in ids for id in own]
    scan = each[0].scan(flat)
    drawn, seconds = train(each, scan, flat)
    sizes = [len(own) for own in ids]
    results = []
    for part, x, y in zip(drawn.split(sizes, 1), scan.x.split(sizes), scan.y.split(sizes)):
        scores = score(part, scan._replace(x=x, y=y))
        results.append({**_means(scores), "training_s": seconds * len(x) / len(flat)})
    return results


def _means(scores):
    return {name: float(values.mean()) for name, values in scores.items()}


trial.batched = batched
trial.__signature__ = inspect.Signature(  # so that a sweep can check a plan before it starts
    [
        inspect.signature(trial).parameters["ids"],
        *(
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in inspect.signature(Setting).parameters.values()
        ),
    ]
)


def score(drawn: Tensor, scan: Scan) -> dict[str, Tensor]:
    """Return Table 1's numbers and others for each image, (k,), of samples (n_samples, k, 1, n, n).

    psnr_db of their mean (peak 1) and psnr_sample_db of a single one; nll of a Gaussian with their
    mean and variance; ece at delta = 0, ece_tuned with the delta that fits the truth best, as
    published; ece_interior, coverage_interior (of the central 90 %) on pixels strictly between 0
    and 1 only; residual ||A mean - y|| / ||y||; correlation of their std with |error|.
    """
    prediction, x = ensemble.from_samples(drawn), scan.x
    inside = interior(x)
    level = metrics.reliability(drawn, x, levels=[0.9], where=inside).coverage[:, 0]
    return {
        "psnr_db": metrics.psnr_db(prediction.mean, x, 1.0),
        "psnr_sample_db": torch.stack([metrics.psnr_db(image, x, 1.0) for image in drawn]).mean(0),
        "nll": metrics.gaussian_nll(prediction.mean, prediction.spread, x),
        "ece": metrics.calibration_error(drawn, x),
        "ece_tuned": metrics.tuned_calibration_error(drawn, x)[0],
        "ece_interior": metrics.calibration_error(drawn, x, where=inside),
        "coverage_interior": level,
        "residual": scans.residual(scan.A, prediction.mean, scan.y),
        "correlation": metrics.pearson(prediction.spread.sqrt(), (prediction.mean - x).abs()),
    }
