"""The stability card as a page: for readers who have not read the papers, on screen and on paper.

The page asks for nothing from elsewhere and runs no script; `templates/card.html.j2` has its words.
"""

from collections import Counter
from typing import NamedTuple

from markupsafe import Markup

from . import card_plots
from .card_plots import Line
from .formats import db, number, percent, share, times
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


class WorstCaseColumn(NamedTuple):
    """One method under a perturbation: its line, and where a row of the card has its numbers."""

    name: str
    kind: str
    psnr: str
    clean: str
    amplification: str


METHODS = (
    WorstCaseColumn("network", "network", "psnr_perturbed_db", "psnr_db", "amplification"),
    WorstCaseColumn("network, random", "twin", "psnr_twin_db", "psnr_db", "twin_amplification"),
    WorstCaseColumn(
        "stable, same data",
        "stable",
        "psnr_stable_perturbed_db",
        "psnr_stable_db",
        "stable_amplification",
    ),
    WorstCaseColumn(
        "stable, its worst",
        "own",
        "psnr_stable_own_db",
        "psnr_stable_db",
        "stable_own_amplification",
    ),
    WorstCaseColumn(
        "front end",
        "front",
        "psnr_front_end_perturbed_db",
        "psnr_front_end_db",
        "front_end_amplification",
    ),
)
THREE = {"network": ("network", ""), "stable solver": ("stable", "stable_")}
THREE |= {"front end": ("front", "front_end_")}


def card_page(card: dict, embedded: str, digest: str, link: str) -> str:
    """Return the card as one HTML page.

    Args:
        card: a checked card.
        embedded: the card's JSON as the text of a script element that no browser runs.
        digest: SHA-256 of `embedded`.
        link: the JSON as a data address, to download.
    """
    clean = {}
    if card["worst_case"]:
        n_images = card["worst_case"]["n_images"]
        clean = {name: first_images(value, n_images) for name, value in card["clean"].items()}
    samples = _samples(card["more_samples"])
    file_name = "".join(c if c.isalnum() else "-" for c in card["name"]).strip("-")
    return TEMPLATES.get_template("card.html.j2").render(
        card=card,
        clean=clean,
        samples=samples,
        step_counts=Counter(step["status"] for step in card["steps"]),
        plots={
            "worst_case": _worst_case_plots(card["worst_case"], clean),
            "bracket": _bracket_plot(card["bracket"]),
            "structure": _structure_plot(card["structure"]),
            "more_samples": _samples_plot(samples),
        },
        ACCESS=ACCESS,
        METHODS=METHODS,
        reasons=_reasons,
        contradictions=_contradictions,
        why_no_certificate=_why_no_certificate,
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


def _worst_case_plots(part: dict | None, clean: dict) -> list[Markup]:
    if part is None:
        return []
    rows = part["rows"]
    strengths = [row["strength"] for row in rows]
    drawn = METHODS[:-1]  # the front end is in the table
    quality = [
        Line(
            method.name,
            method.kind,
            [0.0, *strengths],
            [clean[method.clean]["mean"], *_means(rows, method.psnr)],
        )
        for method in drawn
    ]
    factors = [
        Line(method.name, method.kind, strengths, _means(rows, method.amplification))
        for method in drawn
    ]
    at = f"At a strength of {percent(strengths[-1])}: "
    last_quality = ", ".join(f"{line.name} {db(line.y[-1])} dB" for line in quality)
    last_factors = ", ".join(f"{line.name} {times(line.y[-1])}" for line in factors)
    return [
        card_plots.curves(
            quality,
            x_label="strength of the change (%)",
            y_label="Quality left: PSNR in dB, higher is better",
            alt=f"{at}{last_quality}. All numbers are in the table.",
        ),
        card_plots.curves(
            factors,
            x_label="strength of the change (%)",
            y_label="Amplification of the change, lower is better",
            log_y=True,
            alt=f"{at}{last_factors}. All numbers are in the table.",
        ),
    ]


def _means(rows: list[dict], name: str) -> list[float | None]:
    return [row[name] and row[name]["mean"] for row in rows]


def _bracket_plot(part: dict | None) -> Markup | None:
    if part is None:
        return None
    told = [
        f"{percent(row['rel_norm'])}: random {times(row['twin'])}, attack {times(row['attack'])}, "
        f"certificate {'none' if row['certificate'] is None else times(row['certificate'])}"
        for row in part["rows"]
    ]
    return card_plots.brackets(
        part["rows"],
        alt=f"Change of the reconstruction at each strength. {'; '.join(told)}.",
        x_label="change of the reconstruction (norm, logarithmic axis)",
    )


def _contradictions(rows: list[dict]) -> list[str]:
    """Strengths at which the attack lies above the certificate."""
    return [percent(row["rel_norm"]) for row in rows if row["attack"] > row["certificate"] * 1.001]


def _why_no_certificate(part: dict) -> str:
    reason = part["why_not"] or "no reason is recorded"
    return reason.removeprefix("no certificate for this network: ").rstrip(". ")


def _structure_plot(part: dict | None) -> Markup | None:
    """Contrast shown against contrast drawn, mean over the details; None for one contrast alone."""
    contrasts = sorted({row["contrast"] for row in part["rows"]}) if part else []
    if len(contrasts) < 2:
        return None
    lines = []
    for name, (kind, prefix) in THREE.items():
        shown = [
            _mean(
                [
                    row[f"{prefix}contrast_recovery"]["mean"]
                    for row in part["rows"]
                    if row["contrast"] == contrast
                ]
            )
            for contrast in contrasts
        ]
        lines.append(Line(name, kind, contrasts, shown))
    low, high = number(contrasts[0]), number(contrasts[-1])
    told = "; ".join(
        f"{line.name} {share(line.y[0])} at contrast {low}, {share(line.y[-1])} at {high}"
        for line in lines
    )
    return card_plots.curves(
        lines,
        x_label="contrast of the detail (1: the image's maximum)",
        percent=False,
        y_label="Share of the contrast that is shown: 1 whole, 0 erased",
        alt=f"Share of the contrast shown, mean over the details: {told}. "
        "All numbers are in the table.",
    )


def _samples(part: dict | None) -> list[dict]:
    """Return the rows of `more_samples`, fewest samples first; share 1 is training's."""
    if part is None:
        return []
    columns = ("share", "n_samples", "psnr_db", "psnr_stable_db", "psnr_front_end_db")
    rows = sorted(zip(*(part[column] for column in columns)), key=lambda row: row[0])
    return [
        {
            "share": fraction / part["trained_at"],
            "n_samples": float(n_samples),
            "network": network,
            "stable": stable,
            "front_end": front_end,
        }
        for fraction, n_samples, network, stable, front_end in rows
    ]


def _samples_plot(rows: list[dict]) -> Markup | None:
    if not rows:
        return None
    shares = [row["share"] for row in rows]
    lines = [
        Line(name, kind, shares, [row[key] for row in rows])
        for (name, (kind, _)), key in zip(THREE.items(), ("network", "stable", "front_end"))
    ]
    told = "; ".join(f"{line.name} from {db(line.y[0])} to {db(line.y[-1])} dB" for line in lines)
    return card_plots.curves(
        lines,
        x_label="measurements, beside those in training (%)",
        y_label="PSNR in dB, higher is better",
        alt=f"From the fewest to the most measurements: {told}. All numbers are in the table.",
        mark=(1.0, "as in training"),
    )


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
