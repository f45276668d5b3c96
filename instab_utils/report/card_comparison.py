"""Compare two stability cards: what differs, and whether their numbers may be compared at all."""

import math
from collections.abc import Iterator

from .. import metrics
from . import formats
from .templating import TEMPLATES

# What must agree before two numbers may stand beside each other, and where a card has it.
CONDITIONS = {
    "images": ("data", "sha256"),
    "noise": ("data", "noise"),
    "size of the images": ("data", "image_size"),
    "operator": ("operator", "name"),
    "shape of the measurement": ("operator", "y_shape"),
    "norm of the operator": ("operator", "norm"),
    "access to the network": ("subject", "access"),
    "profile": ("settings", "profile"),
    "time budget in seconds": ("settings", "budget_s"),
    "search": ("settings", "search"),
    "restarts": ("settings", "restarts"),
    "random changes": ("settings", "n_twins"),
    "stable solver": ("stable", "method"),
    "weight of the stable solver": ("stable", "weight"),
    "version of the tests": ("versions", "code"),
}
WORST_CASE_SCORES = {
    "PSNR after the worst change (dB)": "psnr_perturbed_db",
    "PSNR after a random change (dB)": "psnr_twin_db",
    "PSNR of the stable solver, same data (dB)": "psnr_stable_perturbed_db",
    "amplification of the worst change": "amplification",
}


def differing_conditions(a: dict, b: dict) -> list[str]:
    """Return why the numbers of two cards may not be compared; empty where they may.

    Data, operator, budget, profile, search and stable solver must agree: a longer search finds more
    harm in the same network.
    """
    reasons = [
        f"{name}: {_short(a[part][key])} against {_short(b[part][key])}"
        for name, (part, key) in CONDITIONS.items()
        if not _agree(a[part][key], b[part][key])
    ]
    interrupted = [card["name"] for card in (a, b) if card["run"]["interrupted"]]
    return reasons + [f"the run of “{name}” was interrupted" for name in interrupted]


def difference_rows(a: dict, b: dict) -> list[dict]:
    """Return the numbers that both cards hold, and their difference b - a.

    Its interval is Student's, image by image, where both saw the same images; else Welch's, of two
    independent means.

    Returns:
        A row a number: what, at (strength, detail, ...), a, b, difference, low and high (None where
        an interval does not exist).
    """
    paired = a["data"]["sha256"] == b["data"]["sha256"]
    return [
        {"what": what, "at": at, **_difference(one, two, paired)}
        for what, at, one, two in _shared_scores(a, b)
        if one["mean"] is not None and two["mean"] is not None
    ]


def comparison_page(a: dict, b: dict) -> str:
    """Return both cards on one HTML page: may they be compared, verdicts, differences.

    Args:
        a, b: checked cards; b's numbers minus a's are shown.
    """
    names = [a["name"], b["name"]]
    if names[0] == names[1]:
        names = [f"{names[0]} (first)", f"{names[1]} (second)"]
    return TEMPLATES.get_template("comparison.html.j2").render(
        a=a,
        b=b,
        names=names,
        obstacles=differing_conditions(a, b),
        rows=difference_rows(a, b),
    )


def _shared_scores(a: dict, b: dict) -> Iterator[tuple[str, str, dict, dict]]:
    """Yield (what, at, score of a, score of b) of every test that both cards hold."""
    yield "PSNR, unchanged (dB)", "", a["clean"]["psnr_db"], b["clean"]["psnr_db"]
    pairs = list(_shared_rows(a["worst_case"], b["worst_case"], "strength"))
    for what, key in WORST_CASE_SCORES.items():
        for one, two in pairs:
            yield what, formats.percent(one["strength"]), one[key], two[key]
    for one, two in _shared_rows(a["structure"], b["structure"], "detail", "contrast"):
        at = f"{one['detail']}, contrast {one['contrast']:g}"
        key = "contrast_recovery"
        yield "share of the contrast shown", at, one[key], two[key]
    if a["more_samples"] and b["more_samples"]:
        one, two = (card["more_samples"]["change_db"] for card in (a, b))
        yield "change with more measurements (dB)", "", one, two
    for one, two in _shared_rows(a["alarms"], b["alarms"], "alarm", "failure"):
        at = f"{one['alarm']}, {one['failure']}"
        yield "alarm finds the place (AUROC)", at, one["auroc"], two["auroc"]


def _shared_rows(one: dict | None, two: dict | None, *keys: str) -> Iterator[tuple[dict, dict]]:
    """Yield the rows that two parts share, by their entries `keys`."""
    for row in one["rows"] if one and two else ():
        for other in two["rows"]:
            if all(_agree(row[key], other[key]) for key in keys):
                yield row, other


def _difference(one: dict, two: dict, paired: bool) -> dict:
    low, high = None, None
    first, second = one["values"], two["values"]
    if None not in (*first, *second):
        if paired and len(first) == len(second) > 1:
            interval = metrics.mean_ci([y - x for x, y in zip(first, second)])
            low, high = interval.low, interval.high
        elif not paired and min(len(first), len(second)) > 1:
            low, high = _welch_interval(first, second)
    difference = two["mean"] - one["mean"]
    return {"a": one["mean"], "b": two["mean"], "difference": difference, "low": low, "high": high}


def _welch_interval(first: list[float], second: list[float]) -> tuple[float, float]:
    """Return the 95 % interval of mean(second) - mean(first), variances not assumed equal."""
    from scipy.stats import ttest_ind

    if len({*first}) == len({*second}) == 1:
        return second[0] - first[0], second[0] - first[0]
    interval = ttest_ind(second, first, equal_var=False).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def _agree(one: object, two: object) -> bool:
    """Equal; numbers up to a millionth, for norms that were found by iteration."""
    if isinstance(one, float) and isinstance(two, int | float):
        return math.isclose(one, two, rel_tol=1e-6)
    return one == two


def _short(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return formats.size(value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{text[:12]}…" if len(text) == 64 else text
