"""Fields fitted to the INR paper's phantoms, and the scores of their samples."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ... import metrics, profiles, store
from ...fields import Scan, fit_fields, interior, samples, scans, stack_size
from ...networks import Fields
from ...sweep import Plan, Workers, run_plan
from ...uncertainty import BayesByBackprop, ensemble
from .settings import Setting

N_SAMPLES = 50


def train(
    settings: Sequence[Setting],
    scan: Scan,
    ids: Sequence[int],
    n_samples: int = N_SAMPLES,
    one_stream: bool = False,
) -> tuple[Tensor, float]:
    """Return samples (n_samples, K, 1, n, n) of a field for each setting and id, and seconds.

    On a GPU where there is one, in stacks of `fields.stack_size`. The scan has one image, or one
    for each field. A field without dropout gives one image, repeated. A field has frequencies,
    weights, masks and draws of its own, so that it is, but for rounding, what it would be alone.

    Args:
        settings: they agree in `BATCHED`.
        one_stream: all fields in one stack, with masks and draws from the stream of the first id.
    """
    size = len(settings) if one_stream else _stack_size(settings, n_samples)
    y = scan.y.expand(len(settings), -1, -1, -1)
    stacks = []
    for start in range(0, len(settings), size):
        here = slice(start, start + size)
        members = list(zip(settings[here], ids[here], strict=True))
        stacks.append(_train(members, scan.A, y[here], n_samples, one_stream))
    return torch.cat([drawn for drawn, _ in stacks], 1), sum(seconds for _, seconds in stacks)


def _stack_size(settings, n_samples):
    """Return `fields.stack_size` of settings that agree in `BATCHED`; a mask in one is in all."""
    largest = max(settings, key=lambda setting: setting.p)
    field, bayes, device = largest.field(0), largest.method == "bbb", profiles.default_device()
    return stack_size(field, largest.image_size, device, n_samples, bayes)


def _scan(members):
    """Return the views of the phantom of each (setting, id), each measured by itself."""
    scans = {id: setting.scan(id) for setting, id in members}
    each = [scans[id] for _, id in members]
    x, y = torch.cat([one.x for one in each]), torch.cat([one.y for one in each])
    return each[0]._replace(x=x, y=y)


def _train(members, A, y, n_samples, one_stream=False):
    """Return samples and seconds of one stack: a field for each setting and id."""
    first, device = members[0][0], profiles.default_device()
    nets = [setting.field(id) for setting, id in members]
    net = (nets[0] if len(nets) == 1 else Fields.stack(nets)).to(device)
    xi = torch.tensor([setting.xi for setting, _ in members], device=device)
    if first.method == "bbb":
        prior_std = torch.tensor([setting.prior_std for setting, _ in members], device=device)
        net = BayesByBackprop(net, prior_std, first.rho)
    draws = [
        profiles.generator(setting.seed, f"field {id} draws", device) for setting, id in members
    ]
    draws = draws[0] if one_stream else draws
    fitted = fit_fields(
        net, A.to(device), y.to(device), first.steps, first.lr, xi=xi, generator=draws
    )
    return samples(net, first.image_size, n_samples, draws).cpu(), fitted.seconds


def passes(setting: Setting, ids: int | Sequence[int]) -> tuple[Tensor, float]:
    """Return `train` of one field a phantom, each computed once: samples and seconds of all."""
    ids = (ids,) if isinstance(ids, int) else ids
    stored = list(_stored([(setting, id) for id in ids]))
    drawn = torch.cat([arrays["samples"] for arrays in stored], 1).float()
    return drawn, sum(arrays["seconds"] for arrays in stored)


def _stored(members: Sequence[tuple[Setting, int]]) -> Iterator[dict]:
    """Yield samples (half precision) and seconds of each field, in full float32.

    The first one that is not stored is trained in a stack with those after it.
    """
    trained = {}

    def compute(setting, id):
        member = (Setting.of(setting), id)
        if member not in trained:
            rest = members[members.index(member) :]
            stack = rest[: _stack_size([setting for setting, _ in rest], N_SAMPLES)]
            scan = _scan(stack)
            with profiles.tf32(False):
                drawn, seconds = _train(stack, scan.A, scan.y, N_SAMPLES)
            for one, own in zip(stack, drawn.half().split(1, 1)):
                trained[one] = {"samples": own, "seconds": seconds / len(stack)}
        return trained.pop(member)

    for setting, id in members:
        about = {"setting": setting.parameters(), "id": id}
        yield store.cached_arrays("inr-passes", about, compute, version=1)


def pooled_passes(settings: Sequence[Setting], ids: Sequence[int]) -> Tensor:
    """Return 50 samples of each phantom, of one field or of a deep ensemble of several."""
    members = [passes(setting, ids)[0] for setting in settings]
    return members[0] if len(members) == 1 else ensemble.pooled(members, N_SAMPLES)


def trial(ids: Sequence[int] = (1,), **setting) -> dict[str, object]:
    """Return `score` of fields of one setting, mean over phantoms, and the seconds of training.

    One job of a sweep, for choices: on a GPU in TF32, and samples are not kept.

    Args:
        ids: phantoms, validation 1 to 5 for any choice.
        setting: fields of `Setting`.
    """
    return _trials([{"ids": ids, **setting}])[0]


def final(ids: Sequence[int] = (1,), **setting) -> dict[str, object]:
    """Train fields of one setting in full float32, for `passes` to read; return the seconds.

    One job of a sweep, as `trial`.
    """
    return _finals([{"ids": ids, **setting}])[0]


STACKED = ("omega0", "p", "prior_std", "xi", "seed")
BATCHED = tuple(f.name for f in dataclasses.fields(Setting) if f.name not in STACKED)
"""What the settings of a stack must share; those of `STACKED` may differ."""


def _trials(jobs: Sequence[Mapping]) -> list[dict[str, object]]:
    """Return `trial` of many settings that agree in `BATCHED`, fields in stacks."""
    parts = _members(jobs)
    members = [member for part in parts for member in part]
    scan, (each, ids) = _scan(members), zip(*members)
    with profiles.tf32(True):
        drawn, seconds = train(each, scan, ids)
    drawn, sizes = drawn.half().float(), [len(part) for part in parts]
    results = []
    for part, x, y in zip(drawn.split(sizes, 1), scan.x.split(sizes), scan.y.split(sizes)):
        scores = score(part, scan._replace(x=x, y=y))
        means = {name: float(values.mean()) for name, values in scores.items()}
        results.append({**means, "training_s": seconds * len(x) / len(ids)})
    return results


def _finals(jobs: Sequence[Mapping]) -> list[dict[str, object]]:
    """Return `final` of many settings that agree in `BATCHED`, fields in stacks."""
    parts = _members(jobs)
    stored = _stored([member for part in parts for member in part])
    return [{"training_s": sum(next(stored)["seconds"] for _ in part)} for part in parts]


def _members(jobs: Sequence[Mapping]) -> list[list[tuple[Setting, int]]]:
    """Return (setting, id) of every field of each job."""
    parts = []
    for job in jobs:
        setting = dict(job)
        ids = setting.pop("ids", (1,))
        parts.append([(Setting(**setting), id) for id in ids])
    if len({tuple(getattr(part[0][0], name) for name in BATCHED) for part in parts}) != 1:
        raise ValueError(f"batched expects settings that agree in {', '.join(BATCHED)}.")
    return parts


def computed(
    job: Callable, plan: Plan | Sequence[Mapping], workers: int | None = None, strict: bool = False
):
    """Return the table of `run_plan` of `trial` or `final`, on all GPUs or cores.

    See `Workers.on_devices`.
    """
    where = Workers.on_devices(workers)
    stacks = BATCHED if profiles.default_device().type == "cuda" else ()
    return run_plan(job, plan, workers=where, batch_by=stacks, strict=strict)


trial.batched, final.batched = _trials, _finals
trial.__signature__ = final.__signature__ = inspect.Signature(  # to check a plan before it starts
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

    Computed on a GPU where there is one, as sorting the samples takes seconds an image on a core.

    psnr_db of their mean (peak 1) and psnr_sample_db of a single one; nll of a Gaussian with their
    mean and variance; ece at delta = 0, ece_tuned with the delta that fits the truth best, as
    published; ece_interior, coverage_interior (of the central 90 %) on pixels strictly between 0
    and 1 only; residual ||A mean - y|| / ||y||; correlation of their std with |error|.
    """
    device = profiles.default_device()
    drawn, scan = drawn.to(device), scan.to(device)
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
