"""From results of units to a card: means with intervals, words, pictures, what was left out."""

import platform
import time
from collections import defaultdict
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from .. import metrics
from ..stability import alarms as failure_alarms
from ..stability import more_samples, structure, verdicts
from . import operators, units, wording
from .card_images import encoded
from .plan import unit_name
from .problem import Problem, weights_sha256
from .runner import VERSION, Runner, finite, packed

PREFIXES = {"network": "", "tv": "stable_", "front_end": "front_end_"}
"""Methods of the results of units -> prefixes of the card."""
PERTURBED = {
    **PREFIXES,
    "network_random": "twin_",
    "tv_random": "stable_twin_",
    "tv_own": "stable_own_",
}
LOSSES = ("network", "network_random", "tv", "tv_own")
"""Methods whose loss against the clean reconstruction a card has."""
PINV = {
    "Radon": "filtered back-projection",
    "MaskedFourier": "zero-filling",
    "MultiCoilFourier": "zero-filling, coils combined",
    "Identity": "nothing",
}


def mean(values: list[float | None]) -> dict:
    """Return the mean over the images that have a value, Student's interval, the values."""
    known = [value for value in values if finite(value) is not None]
    average, ci = None, None
    if known:
        estimate = metrics.mean_ci(torch.tensor(known, dtype=torch.float64))
        average, ci = estimate.mean, estimate.ci if len(known) > 1 else None
    return {"mean": average, "ci": ci, "values": list(values)}


def build_card(p: Problem, runner: Runner, name: str, when: str) -> dict:
    """Return the card of what has been done."""
    parts = {
        "worst_case": _worst_case(p, runner),
        "structure": _structure(_of(runner, p, "details")),
        "more_samples": _more_samples(p, _of(runner, p, "more samples")),
        "alarms": _alarms(p, _of(runner, p, "alarms")),
    }
    clean = _of(runner, p, "clean")
    card = {
        "schema": "instab-card-1",
        "name": name,
        "subject": _subject(p),
        "operator": _operator(p),
        "data": _data(p),
        "settings": _settings(p, runner),
        "stable": {
            "method": "total variation",
            "weight": p.case.tv_weight,
            "chosen_on": p.chosen_on,
            "n_iter": p.size.n_iter,
        },
        "clean": {
            f"psnr_{prefix}db": mean([row[method]["psnr_db"] for row in clean])
            for method, prefix in PREFIXES.items()
        },
        **parts,
        "bracket": runner.results.get("bracket, image 1"),
        "verdicts": {
            "worst_case": wording.worst_case(parts["worst_case"], p.strength),
            "structure": wording.structure(parts["structure"]),
            "more_samples": wording.more_samples(parts["more_samples"]),
            "alarms": wording.alarms(parts["alarms"]),
        },
        "not_tested": _not_tested(p, runner),
        "failures": runner.failures,
        "steps": runner.steps,
        "run": {
            "started": when,
            "seconds": round(time.monotonic() - runner.started, 3),
            "seconds_before": round(runner.seconds_before, 3),
            "n_calls": runner.n_calls,
            "n_gradients": runner.n_gradients,
            "interrupted": runner.interrupted,
        },
        "pictures": encoded(runner.results.get("pictures, image 1"), p.options.public),
        "versions": _versions(),
    }
    card["summary"] = wording.summary(card, p.strength)
    return packed(card)


def _of(runner: Runner, p: Problem, test: str) -> list[dict]:
    """Return the results of a test, image by image, as far as there are any."""
    names = [unit_name(test, i) for i in range(len(p.case.x))]
    return [runner.results[name] for name in names if name in runner.results]


def _subject(p: Problem) -> dict:
    f, network, about = p.f, p.network, p.options.about
    named = f.f if network is None else type(network)
    n_parameters = network and sum(t.numel() for t in network.parameters())
    return {
        "name": getattr(named, "__name__", type(named).__name__),
        "access": "gradients" if f.gradients else "black box",
        "file": about.get("file"),
        "sha256": about.get("sha256") or (network and weights_sha256(network)),
        "n_parameters": n_parameters,
        "called": "f(y, A)" if f.with_operator else "f(y)",
        "output": "complex" if p.is_complex else "real",
        "deterministic": p.difference <= 1e-5,
        "device": str(p.case.A.device),
    }


def _operator(p: Problem) -> dict:
    A = p.case.A
    y = operators.plain(A, p.case.y[:1])
    inner = operators.inner(A)
    pinv = PINV.get(type(inner).__name__, "A_dagger of the reader's physics")
    if isinstance(inner, operators.Pair):
        own = inner.functions[2] is not None
        pinv = "the reader's own" if own else "A* y / ||A||^2, as none was given"
    return {
        "name": repr(A),
        "image_shape": list(A.image_shape),
        "y_shape": list(y.shape if operators.is_single(A) else y.shape[1:]),
        "complex": bool(A.is_complex),
        "norm": float(A.norm()),
        "adjoint_gap": p.gap,
        "pinv": pinv,
    }


def _data(p: Problem) -> dict:
    finer = p.measured.finer
    return {
        "source": p.measured.source + (f", at {finer} times the raster" if finer > 1 else ""),
        "n_images": len(p.case.x),
        "image_size": list(p.case.x.shape[-2:]),
        "noise": float(p.options.noise),
        "sha256": operators.digest(p.case.x, p.case.y),
        "files": list(p.options.about.get("files", [])),
        "public": bool(p.options.public),
    }


def _settings(p: Problem, runner: Runner) -> dict:
    f, size, options = p.f, p.size, p.options
    searches = [result["search"] for result in _of(runner, p, "worst case")]
    planned = "gradient ascent" if f.gradients else "black box"
    return {
        "profile": options.profile,
        "seed": options.seed,
        "budget_s": runner.budget_s,
        "strengths": list(size.strengths),
        "restarts": size.restarts,
        "n_twins": size.n_twins,
        "ascent_steps": size.ascent,
        "n_draws": size.n_draws,
        "most_db": units.MOST_DB,
        "search": [*searches, planned][0],
        "task": options.task,
        "one_image_at_a_time": f.one_by_one,
        "notes": f.notes,
        "two_calls_differ_by": p.difference,
        "why_black_box": f.why_black_box,
    }


def _worst_case(p: Problem, runner: Runner) -> dict | None:
    results = _of(runner, p, "worst case")
    if not results:
        return None
    rows = []
    for s in map(str, p.size.strengths):
        of_method = defaultdict(list)
        for result in results + _of(runner, p, "TV's own worst case"):
            for method, numbers in result["rows"][s].items():
                of_method[method].append(numbers)
        row = {"strength": float(s)}
        for method, prefix in PERTURBED.items():
            after = "perturbed_" if method in PREFIXES else ""
            row[f"{prefix}amplification"] = _column(of_method[method], "amplification")
            if method != "tv_random":
                psnr = _column(of_method[method], "psnr_perturbed_db")
                row[f"psnr_{prefix}{after}db"] = psnr
            if method in LOSSES:
                clean = of_method[method.removesuffix("_random")]
                row[f"lost_{prefix}db"] = _loss(clean, of_method[method])
        rows.append(row)
    return {
        "domain": "image",
        "target": "prediction",
        "search": results[0]["search"],
        "n_images": len(results),
        "rows": rows,
    }


def _column(rows: list[dict], name: str) -> dict | None:
    return mean([row[name] for row in rows]) if rows else None


def _loss(clean: list[dict], perturbed: list[dict]) -> dict | None:
    """Return the mean loss of PSNR over the images that have both values."""
    losses = []
    for before, after in zip(clean, perturbed):
        pair = before["psnr_clean_db"], after["psnr_perturbed_db"]
        losses.append(None if None in pair else pair[0] - pair[1])
    return mean(losses) if losses else None


def _structure(results: list[dict]) -> dict | None:
    if not results:
        return None
    rows = []
    for of_detail in zip(*[result["rows"] for result in results]):
        row = {name: of_detail[0][name] for name in ("detail", "contrast")}
        for method, prefix in PREFIXES.items():
            shown = [one[method] for one in of_detail]
            area = structure.auroc([pair for one in shown for pair in one["pairs"]])
            row[f"{prefix}contrast_recovery"] = mean([one["contrast_recovery"] for one in shown])
            row[f"{prefix}auroc"] = {"mean": area.mean, "ci": list(area.ci)}
        rows.append(row)
    return {"rows": rows}


def _more_samples(p: Problem, results: list[dict]) -> dict | None:
    if not results:
        return None
    shares = [rate.share for rate in p.rates]
    # (images, rates, methods)
    values = torch.tensor([result["rows"] for result in results], dtype=torch.float64)
    at = min(range(len(shares)), key=lambda k: abs(shares[k] - 1))
    beyond = [k for k, share in enumerate(shares) if share >= more_samples.BEYOND]
    change = values[:, beyond].mean(1) - values[:, at]
    part = {
        "trained_at": shares[at],
        "share": [round(share, 4) for share in shares],
        "n_samples": [rate.n_samples for rate in p.rates],
    }
    for k, prefix in enumerate(PREFIXES.values()):
        part[f"psnr_{prefix}db"] = values[..., k].mean(0).tolist()
    for k, prefix in enumerate(("", "stable_")):
        part[f"{prefix}change_db"] = mean(change[:, k].tolist())
        part[f"{prefix}verdict"] = verdicts.CHANGES[more_samples.verdict(change[:, k])]
    return part


def _alarms(p: Problem, results: list[dict]) -> dict | None:
    groups: dict[tuple[str, str], list[dict]] = {}
    for result in results:
        for row in result["rows"]:
            groups.setdefault((row["alarm"], row["failure"]), []).append(row)
    rows = []
    for (alarm, failure), group in groups.items():
        before, after = (
            torch.tensor([[row[name]] for row in group], dtype=torch.float64)
            for name in ("mean_before", "mean_after")
        )
        row = {"alarm": alarm, "failure": failure}
        row["image_auroc"] = failure_alarms.image_auroc(before, after)
        for name in ("auroc", "auroc_clean", "rings", "rings_clean"):
            row[name] = mean([one[name] for one in group])
        rows.append(row)
    n, source = len(p.validation.x), p.validation.source
    threshold = (
        f"95 % quantile of means on {n} clean images that are not audited ({source}); "
        "with fewer than 20 their largest"
    )
    return {"rows": rows, "threshold_from": threshold} if rows else None


def _not_tested(p: Problem, runner: Runner) -> list[dict]:
    """Return what is missing and why, one line for each test."""
    missing: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for step in runner.steps:
        status = step["status"]
        if status in ("no time", "failed", "not applicable"):
            test, _, image = step["name"].partition(", image ")
            start = {"failed": "f failed: ", "no time": "no time: "}.get(status, "")
            missing.setdefault((test, status), []).append((image, start + step["why"]))
    lines = []
    for (test, _), cases in missing.items():
        images = [image for image, _ in cases if image]
        if images and len(images) < len(p.case.x) and test not in ("pictures", "bracket"):
            test += f", image{'s' * (len(images) > 1)} {', '.join(images)}"
        lines.append({"what": test, "why": cases[0][1]})
    if not p.f.gradients:
        why = f"black box: {p.f.why_black_box}"
        lines.append({"what": "worst cases by gradients", "why": why})
    if p.dropout is None:
        why = "no dropout layer was found in f"
        lines.append({"what": "MC dropout as an alarm", "why": why})
    return lines


def _versions() -> dict:
    try:
        package = version("instab-utils")
    except PackageNotFoundError:
        package = "unknown"
    return {
        "instab_utils": package,
        "code": str(VERSION),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
