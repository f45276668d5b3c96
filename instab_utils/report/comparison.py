"""Two stability cards beside each other: what differs, and whether their numbers may be compared at
all.
"""

import math
from collections.abc import Iterator

from .. import metrics
from . import card_html as pieces
from .card_html import escape, percent

SAME = {  # what must agree before two numbers may stand beside each other, and where it stands
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
    "code of the tests": ("versions", "code"),
}
WORST = {
    "PSNR after the worst change (dB)": "psnr_perturbed_db",
    "PSNR after a random change (dB)": "psnr_twin_db",
    "PSNR of the stable solver, same data (dB)": "psnr_stable_perturbed_db",
    "amplification of the worst change": "amplification",
}


def differences(a: dict, b: dict) -> list[str]:
    """Why the numbers of two cards may not be compared: a phrase a reason, none where they may.

    Data, operator, budget, profile, search and stable solver must agree: a longer search finds more
    harm in the same network.
    """
    found = [
        f"{what}: {_said(a[part][name])} against {_said(b[part][name])}"
        for what, (part, name) in SAME.items()
        if not _alike(a[part][name], b[part][name])
    ]
    return found + [
        f"the run of “{card['name']}” was interrupted"
        for card in (a, b)
        if card["run"]["interrupted"]
    ]


def table(a: dict, b: dict) -> list[dict]:
    """The numbers that both cards hold.

    difference = b - a. Its interval is Student's, image by image, where both saw the same images;
    else Welch's, of two independent means.

    Returns:
        A row a number: what, at (strength, detail, ...), a, b, difference, low and high (None where
            an interval does not exist).
    """
    paired = a["data"]["sha256"] == b["data"]["sha256"]
    rows = [_row("PSNR, unchanged (dB)", "", a["clean"]["psnr_db"], b["clean"]["psnr_db"], paired)]
    for what, key in WORST.items():
        rows += [
            _row(what, percent(one["strength"]), one[key], two[key], paired)
            for one, two in _both(a["worst_case"], b["worst_case"], "strength")
        ]
    for one, two in _both(a["structure"], b["structure"], "detail", "contrast"):
        rows.append(
            _row(
                "share of the contrast shown",
                f"{one['detail']}, contrast {one['contrast']:g}",
                one["contrast_recovery"],
                two["contrast_recovery"],
                paired,
            )
        )
    if a["more_samples"] and b["more_samples"]:
        rows.append(
            _row(
                "change with more measurements (dB)",
                "",
                a["more_samples"]["change_db"],
                b["more_samples"]["change_db"],
                paired,
            )
        )
    for one, two in _both(a["alarms"], b["alarms"], "alarm", "failure"):
        rows.append(
            _row(
                "alarm finds the place (AUROC)",
                f"{one['alarm']}, {one['failure']}",
                one["auroc"],
                two["auroc"],
                paired,
            )
        )
    return [row for row in rows if row]


def compare(a: dict, b: dict) -> str:
    """Both cards on one page: verdicts, then differences with intervals; first of all, whether they
    may be compared.

    Args:
        a, b: checked cards; b's numbers minus a's are shown.

    Returns:
        A whole HTML page, with no script and no request.
    """
    names = (
        [a["name"], b["name"]]
        if a["name"] != b["name"]
        else [f"{a['name']} (first)", f"{b['name']} (second)"]
    )
    why = differences(a, b)
    if why:
        head = (
            '<div class="warning"><p><strong>These two cards may not be compared.</strong> They differ in more than the network, so a '
            'difference below may come from any of these:</p><ul class="plain">'
            + "".join(f"<li>{escape(w)}</li>" for w in why)
            + "</ul></div>"
        )
    else:
        head = "<p>Images, operator, search, budget and stable solver are the same: the numbers may be compared.</p>"
    words = [
        [escape(title), *(pieces.chip(card["verdicts"][part]["word"]) for card in (a, b))]
        for part, title in pieces.TESTS.items()
    ]
    verdicts = pieces.table("Verdicts of the two networks", ["test", *names], words, 3)
    rows = [
        [
            escape(row["what"]),
            escape(row["at"]),
            pieces.times(row["a"]),
            pieces.times(row["b"]),
            _difference(row),
        ]
        for row in table(a, b)
    ]
    numbers = pieces.table(
        "Means over images, and their difference [95 % interval]",
        ["what", "at", *names, "second − first"],
        rows,
        2,
    )
    notes = (
        '<p class="note">Where the interval of a difference holds 0, these images do not show which network is better. '
        "Only what both cards tested is listed.</p>"
    )
    body = (
        f'<header><p class="kind">Two stability cards</p><h1>{escape(names[0])} and {escape(names[1])}</h1></header>'
        + pieces.section("May they be compared?", head)
        + pieces.section("Verdicts", verdicts)
        + pieces.section("Numbers", numbers + notes)
    )
    return pieces.shell(f"{names[0]} and {names[1]}", body)


def _both(one: dict | None, two: dict | None, *names: str) -> Iterator[tuple[dict, dict]]:
    """The rows that two parts share, by the entries `names`."""
    for row in one["rows"] if one and two else ():
        for other in two["rows"]:
            if all(_alike(row[name], other[name]) for name in names):
                yield row, other


def _row(what, at, one, two, paired):
    if one["mean"] is None or two["mean"] is None:
        return None
    low, high = None, None
    first, second = one["values"], two["values"]
    if None not in (*first, *second):
        if paired and len(first) == len(second) > 1:
            found = metrics.mean_ci([y - x for x, y in zip(first, second)])
            low, high = found.low, found.high
        elif not paired and min(len(first), len(second)) > 1:
            low, high = _welch(first, second)
    return {
        "what": what,
        "at": at,
        "a": one["mean"],
        "b": two["mean"],
        "difference": two["mean"] - one["mean"],
        "low": low,
        "high": high,
    }


def _welch(first, second):
    """b - a +- t_k sqrt(s_a^2 / n_a + s_b^2 / n_b), k by Welch and Satterthwaite."""
    from scipy.stats import t

    means, parts = [], []
    for values in (first, second):
        n, mean = len(values), sum(values) / len(values)
        means.append(mean)
        parts.append((sum((v - mean) ** 2 for v in values) / (n - 1) / n, n - 1))
    total = sum(v for v, _ in parts)
    if total == 0:
        return means[1] - means[0], means[1] - means[0]
    half = float(t.ppf(0.975, total**2 / sum(v * v / k for v, k in parts))) * math.sqrt(total)
    return means[1] - means[0] - half, means[1] - means[0] + half


def _alike(one, two) -> bool:
    """Equal; numbers up to a millionth, for norms that were found by iteration."""
    if isinstance(one, float) and isinstance(two, int | float):
        return math.isclose(one, two, rel_tol=1e-6)
    return one == two


def _said(value) -> str:
    text = (
        pieces.size(value)
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
    return "none" if value is None else f"{text[:12]}…" if len(text) == 64 else text


def _difference(row) -> str:
    sign = "+" if row["difference"] > 0 else ""
    interval = (
        ""
        if row["low"] is None
        else f' <span class="ci">[{pieces.times(row["low"])}, {pieces.times(row["high"])}]</span>'
    )
    return f"<span>{sign}{pieces.times(row['difference'])}{interval}</span>"
