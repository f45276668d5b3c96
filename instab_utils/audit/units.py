"""The units of an audit: one test of one image each, by the stability test's own functions."""

import functools
from collections.abc import Callable

import torch

from .. import profiles, solvers
from ..attacks import Ascent
from ..attacks.vectors import norm
from ..networks import Reconstructor
from ..stability import alarms as failure_alarms
from ..stability import structure
from ..stability.comparison import displayed, methods, psnr
from ..stability.worst_case import attack, effect, effect_on, random_changes, random_effect, search
from ..uncertainty import detection
from ..uncertainty.dropout import MCDropout
from ..uncertainty.null_detectors import NullDetector
from . import blackbox, operators
from .bracket import bracket as bracket_change
from .function import PostProcessor
from .problem import Problem

MOST_DB = 100.0
"""A PSNR above this is written as this: float32 resolves no more."""
NULLS = ("gradient", "residual", "variance")


def db(x_rec: torch.Tensor, x: torch.Tensor) -> float:
    """Return the PSNR, at most MOST_DB."""
    return min(psnr(x_rec, x), MOST_DB)


@torch.no_grad()
def clean(p: Problem, i: int, _) -> dict:
    """Reconstruct the measurement as it is by the three methods."""
    y, x = p.case.y[i : i + 1], p.case.x[i : i + 1]
    return {method: {"psnr_db": db(f(y), x)} for method, f in methods(p.case).items()}


def own_worst_case(p: Problem, i: int, _) -> dict:
    """Put total variation under its own worst case; r of the largest strength is kept."""
    case, size = p.case, p.size
    stream = f"TV's own, audit {p.options.seed}"
    r = search(case.unrolled_tv, case, i, size, stream=stream, restarts=1)
    with torch.no_grad():
        effects = {s: effect_on(case.unrolled_tv, case, i, s, case.A(r[s])) for s in r}
        rows = {str(s): {"tv_own": values} for s, values in effects.items()}
    return {"rows": _at_most(rows), "r": r[size.strengths[-1]]}


def worst_case(p: Problem, i: int, results: dict) -> dict:
    """Put f under the worst r found (test 1), at every strength.

    Two r are kept, of the verdict's strength and of the alarms'.
    """
    case, size = p.case, p.size
    own = results.get(f"TV's own worst case, image {i + 1}")
    r, how = _search(p, i, own["r"].to(case.x.device) if own else None)
    rows = {}
    with torch.no_grad():
        for s in size.strengths:
            row = effect(case, i, s, case.A(r[s])) | random_effect(case, i, s, size.n_twins)
            changed = [case.y[i : i + 1] + e for e in random_changes(case, i, s, size.n_twins)]
            worst = min(psnr(p.f(y), case.x[i : i + 1]) for y in changed)
            row["network_random"]["psnr_perturbed_db"] = worst
            rows[str(s)] = row
    kept = {str(s): r[s] for s in (p.strength, p.alarm_strength)}
    return {"rows": _at_most(rows), "search": how, "r": kept}


def _at_most(values: dict, name: str = "") -> dict | float:
    """Return nested numbers, those in dB at most MOST_DB."""
    if isinstance(values, dict):
        return {key: _at_most(value, key) for key, value in values.items()}
    return min(values, MOST_DB) if name.endswith("_db") else values


def _search(p: Problem, i: int, transferred: torch.Tensor | None) -> tuple[dict, str]:
    """Return the worst r found for f by strength, and how it was looked for."""
    case, size, seed = p.case, p.size, p.options.seed
    if p.f.gradients:
        stream = f"network's, audit {seed}"
        r = search(p.f, case, i, size, stream=stream)
        starts = f"{size.restarts} start{'s' * (size.restarts > 1)} of {size.ascent} steps"
        return r, f"gradient ascent, {starts}"
    y, image = case.y[i : i + 1], case.attacked[i : i + 1]
    substitute = attack(
        case.front_end,
        case.A,
        image,
        y,
        strengths=size.strengths,
        n_iter=size.ascent,
        ascent=Ascent(init_scale=size.strengths[0] / 5),
        generator=profiles.generator(seed, f"audit surrogate {i}"),
    )
    starts = {"the front end": substitute.r[size.strengths[-1]], "total variation": transferred}
    starts = {name: r / norm(r) for name, r in starts.items() if r is not None and bool(r.any())}
    length = float(norm(image))
    candidates = [{s: s * length * r for s in size.strengths} for r in starts.values()]
    n_calls = profiles.stage("audit", p.options.profile).n_calls // 2
    # one search from the transferred ones, one that has seen no substitute
    for tried in (list(starts.values()), []):
        result = blackbox.search(
            p.f,
            case.A,
            image,
            y,
            strengths=size.strengths,
            n_calls=n_calls,
            starts=tried,
            generator=profiles.generator(seed, f"audit black box {i} {len(tried)}"),
        )
        candidates.append(result.r)
    with torch.no_grad():
        before = p.f(y)

        def change(r):
            return float(norm(p.f(y + case.A(r)) - before))

        r = {s: max((c[s] for c in candidates), key=change) for s in size.strengths}
    return r, (
        f"black box: worst cases of {' and '.join(starts)}, and two searches of {n_calls} calls, "
        "from these and from nothing; weaker than gradients"
    )


def details(p: Problem, i: int, _) -> dict:
    """Draw details into the image and measure what is shown of them (test 2)."""
    rows = {}
    shown_details = structure.shown_details(p.case, i, p.size.n_draws)
    for (detail, contrast, method), shown in shown_details.items():
        row = rows.setdefault((detail, contrast), {"detail": detail, "contrast": contrast})
        recovery = sum(shown.slopes) / len(shown.slopes)
        row[method] = {"contrast_recovery": recovery, "pairs": shown.pairs}
    return {"rows": list(rows.values())}


@torch.no_grad()
def more_samples(p: Problem, i: int, _) -> dict:
    """Measure the PSNR of f, total variation and the front end at every rate (test 3)."""
    x, rows = p.case.x[i : i + 1], []
    for rate, f in zip(p.rates, p.f_at, strict=True):
        y = rate.y[i : i + 1]
        tv = solvers.tv(rate.A, y, p.case.tv_weight, n_iter=2 * p.size.n_iter, tol=1e-3).x
        calls = f.n_calls
        rows.append([db(f(y), x), db(tv, x), db(rate.A.pinv(y), x)])
        if f is not p.f:
            p.f.n_calls += f.n_calls - calls
    return {"rows": rows}


def alarm_maps(p: Problem) -> dict[str, Callable]:
    """Return every alarm: name -> ((y, displayed f(y)) -> map (1, 1, n, m))."""
    alarms = {f"null-{kind}": functools.partial(_null_map, p, kind) for kind in NULLS}
    if p.dropout is not None:
        estimator = MCDropout(
            _Displayed(p.f, p.dropout),
            profiles.stage("audit", p.options.profile).n_passes,
            profiles.generator(p.options.seed, "audit dropout"),
            batch=1 if p.f.one_by_one else None,
        )
        alarms["dropout"] = lambda y, x_rec: estimator.predict(y).spread
    for name, alarm in p.options.alarms.items():
        alarms[name] = functools.partial(_readers_map, p, alarm)
    return alarms


def _null_map(p, kind, y, x_rec):
    return NullDetector(kind, None).spread(displayed(p.case.front_end(y)), x_rec)


def _readers_map(p, alarm, y, x_rec):
    y = y.detach().cpu().numpy() if p.f.numpy else y
    return displayed(p.f.image(alarm(y), 1))


class _Displayed(torch.nn.Module):
    """y -> |f(y)|, whose dropout layers are the network's."""

    def __init__(self, f, network):
        super().__init__()
        self.network, self.f = network, f
        self.train(network.training)

    def forward(self, y):
        return displayed(self.f(y))


@torch.no_grad()
def thresholds(p: Problem, *_) -> dict:
    """Return of every alarm the 95 % quantile of its mean on clean images that are not audited."""
    alarms = alarm_maps(p)
    means = {name: [] for name in alarms}
    for y in p.validation.y.split(1):
        x_rec = displayed(p.f(y))
        for name, alarm in alarms.items():
            means[name].append(alarm(y, x_rec).mean())
    return {name: detection.threshold(torch.stack(values)) for name, values in means.items()}


def why_no_alarms(p: Problem, i: int, results: dict) -> str | None:
    """Return why no alarm can be tested: no thresholds, or nothing that went wrong."""
    if "alarm thresholds" not in results:
        return "there are no thresholds"
    if f"worst case, image {i + 1}" not in results and p.why_no_details:
        return "nothing has gone wrong: neither a worst case nor details"
    return None


@torch.no_grad()
def alarms(p: Problem, i: int, results: dict) -> dict:
    """Ask every alarm before and after the worst case and after details of contrast 0.3."""
    y = p.case.y[i : i + 1]
    before = displayed(p.f(y))
    usual = results["alarm thresholds"]
    failures = _failures(p, i, results.get(f"worst case, image {i + 1}"), before)
    rows = []
    for name, alarm in alarm_maps(p).items():
        u_before = alarm(y, before)
        for failure, x_after in failures:
            u_after = alarm(failure.x_in, x_after)
            scores = failure_alarms.scores(u_before, u_after, x_after, failure, usual[name])
            row = {"alarm": name, "failure": failure.kind}
            row |= {key: float(value) for key, value in scores["failed"].items()}
            row |= {f"{key}_clean": float(value) for key, value in scores["clean"].items()}
            row["mean_before"] = float(u_before.mean())
            row["mean_after"] = float(u_after.mean())
            rows.append(row)
    return {"rows": rows}


def _failures(p: Problem, i: int, worst: dict | None, before: torch.Tensor) -> list[tuple]:
    """(failure, displayed f of it), each with a place where it went wrong."""
    case, failures = p.case, []
    y, x = case.y[i : i + 1], displayed(case.x[i : i + 1])

    def add(kind, y_after, truth, mask=None):
        x_after = displayed(p.f(y_after))
        if mask is None:
            change = (x_after - before).abs()
            mask = change > change.flatten().quantile(0.95)
        if 0 < int(mask.sum()) < mask.numel():
            failure = failure_alarms.Failure(kind, 0.0, y_after, truth, mask)
            failures.append((failure, x_after))

    if worst is not None:
        r = worst["r"][str(p.alarm_strength)].to(x.device)
        add("worst case", y + case.A(r), x)
    if p.why_no_details is None:
        generator = profiles.generator(p.options.seed, f"audit alarms {i}")
        drawn = structure.detail(case, i, "suits", generator)
        height = failure_alarms.CONTRAST * float(case.attacked[i : i + 1].abs().max())
        suits = drawn.image.to(x.device)
        add("details", y + height * drawn.y, x + height * suits, suits > 0.5)
    return failures


def bracket(p: Problem, i: int, _) -> dict:
    """Bound from both sides how far f can be moved, in the measurement domain."""
    A, f = p.case.A, p.f
    # y has the form that f takes
    as_given = operators.own(A) is A and not operators.is_single(A)
    if as_given and f.gradients and not f.with_operator:
        f = p.f.f
    net = getattr(p.f.f, "network", None)
    behind_pinv = isinstance(p.f.f, PostProcessor) and p.f.f.front_end == "pinv"
    if behind_pinv and isinstance(net, torch.nn.Module):
        f = Reconstructor(net, A)
    return bracket_change(
        f,
        A,
        p.case.y[i : i + 1],
        network=p.network,
        rel_norms=p.size.strengths,
        n_iter=p.size.ascent,
        generator=profiles.generator(p.options.seed, "audit bracket"),
    )
