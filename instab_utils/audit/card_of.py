"""From stored units to a card: means over images with intervals, words, pictures, and what was left
out.
"""

import math
import platform
import time

import numpy as np
import torch

from .. import metrics
from ..stability import alarms as of_alarms
from ..stability import sampling, structure
from . import operators, problem, said, shown, steps

pictures = shown.pictures


def mean(values) -> dict:
    """M of a card: the mean over the images that have a value, Student's interval, the values."""
    found = steps.finite(values)
    if not found:
        return {"mean": None, "ci": None, "values": list(values)}
    if len(found) == 1:
        return {"mean": found[0], "ci": None, "values": list(values)}
    m = metrics.mean_ci(torch.tensor(found, dtype=torch.float64))
    return {"mean": m.mean, "ci": m.ci, "values": list(values)}


def card(p, runner, *, name, task, budget_s, noise, public, about, notes, when) -> dict:
    """The card of what has been done."""
    done, f, A = runner.results, p.f, p.case.A
    of = {
        test: [done[key] for i in range(len(p.case.x)) if (key := f"{test}, image {i + 1}") in done]
        for test in (
            "clean",
            "worst case",
            "TV's own worst case",
            "details",
            "more samples",
            "alarms",
        )
    }
    worst_case = _worst(p, done, of["worst case"])
    parts = {
        "worst_case": worst_case,
        "structure": _structure(of["details"]),
        "more_samples": _samples(p, of["more samples"]),
        "alarms": _alarms(p, of["alarms"]),
    }
    strength = (
        p.strength
        if worst_case is None or any(r["strength"] == p.strength for r in worst_case["rows"])
        else None
    )
    network_weights = problem.weights_sha256(p.network)
    made = {
        "schema": "instab-card-1",
        "name": name,
        "subject": {
            "name": type(p.network).__name__
            if p.network is not None
            else getattr(f.f, "__name__", type(f.f).__name__),
            "access": "gradients" if f.gradients else "black box",
            "file": about.get("file"),
            "sha256": about.get("sha256") or network_weights,
            "n_parameters": None
            if p.network is None
            else sum(t.numel() for t in p.network.parameters()),
            "called": "f(y, A)" if f.with_operator else "f(y)",
            "output": "complex" if p.complex_output else "real",
            "deterministic": p.apart <= 1e-5,
            "device": str(A.device),
        },
        "operator": {
            "name": repr(A),
            "image_shape": list(A.image_shape),
            "y_shape": operators.shape_of_y(A, p.case.y[:1]),
            "complex": bool(A.is_complex),
            "norm": float(A.norm()),
            "adjoint_gap": p.gap,
            "pinv": _pinv(A),
        },
        "data": {
            "source": p.measured.source
            + (
                f", at {p.measured.fine.shape[-1] // A.image_shape[-1]} times the raster"
                if p.measured.fine is not None
                else ""
            ),
            "n_images": len(p.case.x),
            "image_size": list(p.case.x.shape[-2:]),
            "noise": float(noise),
            "sha256": problem.digest(p.case.x, p.case.y),
            "files": list(about.get("files", [])),
            "public": bool(public),
        },
        "settings": {
            "profile": p.profile,
            "seed": p.seed,
            "budget_s": budget_s,
            "strengths": list(p.size.strengths),
            "restarts": p.size.restarts,
            "n_twins": p.size.n_twins,
            "ascent_steps": p.size.ascent,
            "n_draws": structure.N_DRAWS[p.profile],
            "most_db": steps.MOST_DB,
            "search": of["worst case"][0]["search"]
            if of["worst case"]
            else "gradient ascent"
            if f.gradients
            else "black box",
            "task": task or "",
            "one_image_at_a_time": f.one_by_one,
            "notes": list(notes),
            "two_calls_differ_by": p.apart,
            "why_black_box": f.why_black_box,
        },
        "stable": {
            "method": "total variation",
            "weight": p.case.tv_weight,
            "chosen_on": p.chosen_on,
            "n_iter": p.size.n_iter,
        },
        "clean": {
            key: mean([row[key] for row in of["clean"]])
            for key in ("psnr_db", "psnr_stable_db", "psnr_front_end_db")
        },
        **parts,
        "bracket": done.get("bracket, image 1"),
        "verdicts": {
            "worst_case": said.of_worst(worst_case, strength),
            "structure": said.of_structure(parts["structure"]),
            "more_samples": said.of_samples(parts["more_samples"]),
            "alarms": said.of_alarms(parts["alarms"]),
        },
        "summary": "",
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
        "pictures": shown.encoded(done.get("pictures, image 1"), public),
        "versions": {
            "instab_utils": _version(),
            "code": str(problem.VERSION),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
    }
    made["summary"] = said.summary(made, strength)
    return _finite(made)


def _worst(p, done, found) -> dict | None:
    if not found:
        return None
    rows = []
    for s in map(str, p.size.strengths):
        m = [unit["rows"][s] for unit in found]
        own = [
            unit["rows"][s]
            for i in range(len(p.case.x))
            if (unit := done.get(f"TV's own worst case, image {i + 1}"))
        ]
        column = lambda key, of=m: mean([row[key] for row in of])
        lost = lambda before, after, of=m: mean([_minus(row[before], row[after]) for row in of])
        rows.append(
            {
                "strength": float(s),
                **{
                    key: column(key)
                    for key in (
                        "amplification",
                        "twin_amplification",
                        "stable_amplification",
                        "front_end_amplification",
                        "stable_twin_amplification",
                        "psnr_perturbed_db",
                        "psnr_twin_db",
                        "psnr_stable_perturbed_db",
                        "psnr_front_end_perturbed_db",
                    )
                },
                "stable_own_amplification": column("stable_own_amplification", own)
                if own
                else None,
                "psnr_stable_own_db": column("psnr_stable_own_db", own) if own else None,
                "lost_db": lost("psnr_clean_db", "psnr_perturbed_db"),
                "lost_twin_db": lost("psnr_clean_db", "psnr_twin_db"),
                "lost_stable_db": lost("psnr_stable_clean_db", "psnr_stable_perturbed_db"),
                "lost_stable_own_db": lost("psnr_stable_own_clean_db", "psnr_stable_own_db", own)
                if own
                else None,
            }
        )
    return {
        "domain": "image",
        "target": "prediction",
        "search": found[0]["search"],
        "n_images": len(found),
        "rows": rows,
    }


def _structure(found) -> dict | None:
    if not found:
        return None
    rows = []
    for k, first in enumerate(found[0]["rows"]):
        of = [unit["rows"][k] for unit in found]
        row = {"detail": first["detail"], "contrast": first["contrast"]}
        for m, who in (("f", ""), ("stable_", "stable_"), ("front_end_", "front_end_")):
            row[f"{who}contrast_recovery"] = mean([unit["recovery"][m] for unit in of])
            area = structure.auroc([tuple(pair) for unit in of for pair in unit["pairs"][m]])
            row[f"{who}auroc"] = {"mean": area.mean, "ci": list(area.ci)}
        rows.append(row)
    return {"rows": rows}


def _samples(p, found) -> dict | None:
    if not found:
        return None
    shares = [rate.share for rate in p.rates]
    # (images, rates, methods)
    values = torch.tensor([unit["rows"] for unit in found], dtype=torch.float64)
    at = min(range(len(shares)), key=lambda k: abs(shares[k] - 1))
    beyond = [k for k, s in enumerate(shares) if s >= sampling.BEYOND]
    change = values[:, beyond].mean(1) - values[:, at]
    words = {1: "improves", 0: "stagnates", -1: "degrades"}
    return {
        "trained_at": shares[at],
        "share": [round(s, 4) for s in shares],
        "n_samples": [rate.n_samples for rate in p.rates],
        **{
            f"psnr_{who}db": values[..., k].mean(0).tolist()
            for k, who in enumerate(("", "stable_", "front_end_"))
        },
        "change_db": mean(change[:, 0].tolist()),
        "stable_change_db": mean(change[:, 1].tolist()),
        "verdict": words[sampling.verdict(change[:, 0])],
        "stable_verdict": words[sampling.verdict(change[:, 1])],
    }


def _alarms(p, found) -> dict | None:
    groups: dict[tuple[str, str], list[dict]] = {}
    for unit in found:
        for row in unit["rows"]:
            groups.setdefault((row["alarm"], row["failure"]), []).append(row)
    rows = []
    for (alarm, failure), of in groups.items():
        means = [
            torch.tensor([row[key] for row in of], dtype=torch.float64)[:, None]
            for key in ("mean_before", "mean_after")
        ]
        rows.append(
            {
                "alarm": alarm,
                "failure": failure,
                "image_auroc": of_alarms.image_auroc(*means),
                **{
                    key: mean([row[key] for row in of])
                    for key in ("auroc", "auroc_clean", "rings", "rings_clean")
                },
            }
        )
    n = len(p.validation.x)
    return (
        {
            "rows": rows,
            "threshold_from": f"95 % quantile of means on {n} clean images that are not audited "
            f"({p.validation.source}); with fewer than 20 their largest",
        }
        if rows
        else None
    )


def _not_tested(p, runner) -> list[dict]:
    """What is missing and why, one line for each test."""
    missing: dict[tuple[str, str], list[str]] = {}
    for step in runner.steps:
        if step["status"] in ("no time", "failed", "not applicable"):
            test, _, image = step["name"].partition(", ")
            reason = {
                "failed": f"f failed: {step['why']}",
                "no time": f"no time: {step['why']}",
            }.get(step["status"], step["why"])
            missing.setdefault((test, step["status"]), []).append((image, reason))
    found = []
    for (test, _), cases in missing.items():
        images = [image.removeprefix("image ") for image, _ in cases if image]
        everything = len(images) == len(p.case.x) or test in ("pictures", "bracket") or not images
        found.append(
            {
                "what": test
                if everything
                else f"{test}, image{'s' if len(images) > 1 else ''} {', '.join(images)}",
                "why": cases[0][1],
            }
        )
    if not p.f.gradients:
        found.append({"what": "worst cases by gradients", "why": f"black box: {p.f.why_black_box}"})
    if p.dropout is None:
        found.append({"what": "MC dropout as an alarm", "why": "no dropout layer was found in f"})
    return found


def _pinv(A) -> str:
    inner = A.inner if isinstance(A, operators.Flat) else A
    if isinstance(inner, operators.Pair):
        return "the reader's own" if inner.has_pinv else "A* y / ||A||^2, as none was given"
    return {
        "Radon": "filtered back-projection",
        "MaskedFourier": "zero-filling",
        "MultiCoilFourier": "zero-filling, coils combined",
        "Identity": "nothing",
    }.get(type(inner).__name__, "A_dagger of the reader's physics")


def _minus(a, b):
    return None if a is None or b is None else a - b


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("instab-utils")
    except PackageNotFoundError:
        return "unknown"


def _finite(value):
    """Floats that are none as None."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
