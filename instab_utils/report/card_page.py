"""The stability card as a page: for readers who have not read the papers, on screen and on paper.

The page asks for nothing from elsewhere and runs no script; `templates/card.html.j2` has its words.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

from markupsafe import Markup

from . import card_plots
from .card_plots import Line
from .templating import TEMPLATES

ACCESS = {
    "gradients": "tested with its gradients: the strongest search",
    "black box": "tested by its outputs alone: a weaker search, which may miss harm",
}
STEP_NAMES = {  # part of a card -> how the names of its steps begin
    "worst_case": ("worst case",),
    "structure": ("structure", "details"),
    "more_samples": ("more samples",),
    "bracket": ("bracket",),
    "alarms": ("alarms",),
}


class Column(NamedTuple):
    """One method under a worst case: its line, and the names of its numbers in a card."""

    name: str
    kind: str
    psnr: str
    clean: str
    amplification: str


STABLE = "psnr_stable_db"
COLUMNS = (
    Column("network", "network", "psnr_perturbed_db", "psnr_db", "amplification"),
    Column("network, random", "twin", "psnr_twin_db", "psnr_db", "twin_amplification"),
    Column(
        "stable, same data", "stable", "psnr_stable_perturbed_db", STABLE, "stable_amplification"
    ),
    Column("stable, its worst", "own", "psnr_stable_own_db", STABLE, "stable_own_amplification"),
    Column(
        "front end",
        "front",
        "psnr_front_end_perturbed_db",
        "psnr_front_end_db",
        "front_end_amplification",
    ),
)
PREFIXES = {  # of a name in a card -> name and kind of line
    "": ("network", "network"),
    "stable_": ("stable solver", "stable"),
    "front_end_": ("front end", "front"),
}


def card_page(card: dict, embedded: str, digest: str, link: str) -> str:
    """Return the card as one HTML page.

    Args:
        card: a checked card.
        embedded: the card's JSON as the text of a script element that no browser runs.
        digest: SHA-256 of `embedded`.
        link: the JSON as a data address, to download.
    """
    file_name = "".join(c if c.isalnum() else "-" for c in card["name"]).strip("-")
    return TEMPLATES.get_template("card.html.j2").render(
        card=card,
        worst=_worst_case(card),
        contrast_lines=_contrast_lines(card["structure"]),
        samples=_samples(card["more_samples"]),
        step_counts=Counter(step["status"] for step in card["steps"]),
        ACCESS=ACCESS,
        COLUMNS=COLUMNS,
        PREFIXES=PREFIXES,
        layout=card_plots.curves,
        bracket_layout=card_plots.brackets,
        reasons=_reasons,
        embedded=Markup(embedded),
        digest=digest,
        link=link,
        file_name=file_name or "card",
    )


def first_images(value: dict, n: int) -> dict:
    """Return the mean over the first n images: those attacked, where time ended before the last."""
    if n >= len(value["values"]):
        return value
    values = value["values"][:n]
    return {"mean": _mean(values), "ci": None, "values": values}


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _worst_case(card: dict) -> dict:
    """Return the lines of both plots of the worst cases, and the scores they start from."""
    part = card["worst_case"]
    if part is None:
        return {}
    clean = {name: first_images(value, part["n_images"]) for name, value in card["clean"].items()}
    strengths = [row["strength"] for row in part["rows"]]
    quality, factors = [], []
    for column in COLUMNS[:-1]:  # the front end is in the table
        scores = [clean[column.clean], *(row[column.psnr] for row in part["rows"])]
        quality.append(Line(column.name, column.kind, [0.0, *strengths], _means(scores)))
        scores = [row[column.amplification] for row in part["rows"]]
        factors.append(Line(column.name, column.kind, strengths, _means(scores)))
    return {"clean": clean, "quality": quality, "factors": factors}


def _means(scores: list[dict | None]) -> list[float | None]:
    return [score and score["mean"] for score in scores]


def _contrast_lines(part: dict | None) -> list[Line]:
    """Return the contrast shown against the contrast drawn, mean over the details."""
    rows_at = defaultdict(list)
    for row in part["rows"] if part else ():
        rows_at[row["contrast"]].append(row)
    contrasts = sorted(rows_at)
    lines = []
    for prefix, (name, kind) in PREFIXES.items():
        key = f"{prefix}contrast_recovery"
        means = [_mean([row[key]["mean"] for row in rows_at[at]]) for at in contrasts]
        lines.append(Line(name, kind, contrasts, means))
    return lines


def _samples(part: dict | None) -> dict:
    """Return the columns of `more_samples` from the fewest to the most; share 1 is training's."""
    if part is None:
        return {}
    order = sorted(range(len(part["share"])), key=part["share"].__getitem__)
    shares = [part["share"][i] / part["trained_at"] for i in order]
    lines = [
        Line(name, kind, shares, [part[f"psnr_{prefix}db"][i] for i in order])
        for prefix, (name, kind) in PREFIXES.items()
    ]
    return {"shares": shares, "n_samples": [part["n_samples"][i] for i in order], "lines": lines}


def _reasons(card: dict, part: str) -> list[str]:
    """Why a part was not tested: by the card's list, else by the status of its steps."""
    names = STEP_NAMES[part]
    listed = [
        f"{item['what']}: {item['why']}"
        for item in card["not_tested"]
        if item["what"].lower().startswith(names)
    ]
    return listed or [
        f"{step['name']}: {step['why'] or step['status']}"
        for step in card["steps"]
        if step["name"].lower().startswith(names) and step["status"] not in ("done", "resumed")
    ]
