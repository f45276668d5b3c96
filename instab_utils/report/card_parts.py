"""What each test found, as a section of the card's page: pictures, curves, tables; or why it was
not tested.
"""

from . import card_plots
from .card_html import (
    change,
    chip,
    count,
    db,
    escape,
    mean,
    middle,
    percent,
    section,
    share,
    table,
    times,
)
from .card_plots import Line, number

# line -> its kind, then where a row has its PSNR, its start at strength 0, and its amplification
WHO = {
    "network": ("network", "psnr_perturbed_db", "psnr_db", "amplification"),
    "network, random": ("twin", "psnr_twin_db", "psnr_db", "twin_amplification"),
    "stable, same data": (
        "stable",
        "psnr_stable_perturbed_db",
        "psnr_stable_db",
        "stable_amplification",
    ),
    "stable, its worst": (
        "own",
        "psnr_stable_own_db",
        "psnr_stable_db",
        "stable_own_amplification",
    ),
}
CALLED = {
    "worst_case": ("worst case",),
    "structure": ("structure", "details"),
    "more_samples": ("more samples",),
    "bracket": ("bracket",),
    "alarms": ("alarms",),
}  # part of a card -> what its steps are called
METHODS = {
    "network": ("network", ""),
    "stable solver": ("stable", "stable_"),
    "front end": ("front", "front_end_"),
}


def worst(card: dict) -> str:
    """The worst cases found: pictures, quality and amplification against strength, beside stable
    solver and random twin.
    """
    part, heading = card["worst_case"], "Worst cases"
    if part is None:
        return section(heading, _not_tested(card, "worst_case"))
    rows, solver = part["rows"], card["stable"]["method"]
    clean = {key: _first(value, part["n_images"]) for key, value in card["clean"].items()}
    strengths = [row["strength"] for row in rows]
    quality = [
        Line(
            name,
            kind,
            [0.0, *strengths],
            [middle(clean[start]), *(middle(row[key]) for row in rows)],
        )
        for name, (kind, key, start, _) in WHO.items()
    ]
    magnified = [
        Line(name, kind, strengths, [middle(row[key]) for row in rows])
        for name, (kind, _, _, key) in WHO.items()
    ]
    at = f"At a strength of {percent(strengths[-1])}: "
    plots = [
        card_plots.curves(
            lines,
            x_label="strength of the change (%)",
            y_label=label,
            log_y=log,
            alt=at
            + ", ".join(f"{line.name} {form(line.y[-1])}{unit}" for line in lines)
            + ". All numbers are in the table.",
        )
        for lines, label, log, form, unit in (
            (quality, "Quality left: PSNR in dB, higher is better", False, db, " dB"),
            (magnified, "Amplification of the change, lower is better", True, times, ""),
        )
    ]
    words = (
        "<p>‘Network’: the worst change that the search found. ‘Network, random’: random changes of the same size. The stable solver "
        f"({escape(solver)}) stands there twice: on the very data that were made to harm the network, and on data made to harm "
        "the solver itself.</p>"
    )
    heads = [
        "strength",
        "network",
        "network, random change",
        f"{solver}, same data",
        f"{solver}, its own worst case",
        "front end, same data",
    ]
    after = [
        [
            percent(row["strength"]),
            *(mean(row[key], db) for _, key, *_ in WHO.values()),
            mean(row["psnr_front_end_perturbed_db"], db),
        ]
        for row in rows
    ]
    factor = [
        [
            percent(row["strength"]),
            *(mean(row[key], times) for *_, key in WHO.values()),
            mean(row["front_end_amplification"], times),
        ]
        for row in rows
    ]
    before = [
        "unchanged",
        *(mean(clean[start], db) for _, _, start, _ in WHO.values()),
        mean(clean["psnr_front_end_db"], db),
    ]
    how = (
        f'<p class="note">Changes of the {escape(part["domain"])}, sought for the {escape(part["target"])} by {escape(part["search"])}; '
        f"{count(part['n_images'], 'image')}. A search can find harm; it cannot show that there is none.</p>"
    )
    return section(
        heading,
        words
        + _pictures(card, "worst case")
        + '<div class="two">'
        + "".join(f"<figure>{plot}</figure>" for plot in plots)
        + "</div>"
        + table(
            "PSNR in dB after the change: mean over images [95 % interval]", heads, [before, *after]
        )
        + table("Amplification of the change: mean over images [95 % interval]", heads, factor)
        + how,
    )


def _first(value: dict, n: int) -> dict:
    """The mean over the first n images: those that were attacked, where there was no time for all."""
    values = value["values"][:n]
    known = [v for v in values if v is not None]
    return (
        value
        if n >= len(value["values"])
        else {"mean": sum(known) / len(known) if known else None, "ci": None, "values": values}
    )


def bracket(card: dict) -> str:
    """What was reached, and what is proven to be the most; a warning where the two contradict each
    other.
    """
    part, heading = card["bracket"], "How bad can it get? From below and from above"
    if part is None:
        return section(heading, _not_tested(card, "bracket"))
    rows = part["rows"]
    certified = [row for row in rows if row["certificate"] is not None]
    words = (
        "<p>An attack shows what can happen; a certificate proves what cannot. The truth lies between the two.</p>"
        if certified
        else ""
    )
    if part["why_not"] or not certified:
        why = (
            (part["why_not"] or "no reason is recorded")
            .removeprefix("no certificate for this network: ")
            .rstrip(". ")
        )
        words += (
            f"<p><strong>No certificate for {'every row' if certified else 'this network'}:</strong> {escape(why)}. "
            "An attack alone says that it can be at least so bad, never how much worse.</p>"
        )
    wrong = [
        percent(row["rel_norm"]) for row in certified if row["attack"] > row["certificate"] * 1.001
    ]
    if wrong:
        words += (
            f'<p class="warning">At {", ".join(wrong)} the attack lies above the certificate. One of the two is wrong: '
            "trust neither.</p>"
        )
    marks = [
        ("random", "random change of the same size"),
        ("attack", "attack: so much was reached"),
    ]
    marks += [("bound", "certificate: never more"), ("between", "not known")] if certified else []
    key = "".join(f"<li>{card_plots.sample(kind)}{text}</li>" for kind, text in marks)
    alt = "; ".join(
        f"{percent(row['rel_norm'])}: random {times(row['twin'])}, attack {times(row['attack'])}, certificate "
        + ("none" if row["certificate"] is None else times(row["certificate"]))
        for row in rows
    )
    plot = card_plots.brackets(
        rows,
        alt=f"Change of the reconstruction at each strength. {alt}.",
        x_label="change of the reconstruction (norm, logarithmic axis)",
    )
    body = [
        [
            percent(row["rel_norm"]),
            *(times(row[k]) for k in ("e_norm", "twin", "attack", "certificate")),
            escape(row["by"]),
        ]
        for row in rows
    ]
    heads = ["strength", "norm of it", "random", "attack", "certificate", "by"]
    return section(
        heading,
        f'{words}<ul class="key">{key}</ul><div class="two uneven"><figure>{plot}<figcaption>Changes of the '
        f"{escape(part['domain'])}; {escape(part['per'])}.</figcaption></figure>"
        + table(f"Norm of the reconstruction's change, {part['per']}", heads, body)
        + "</div>",
    )


def details(card: dict) -> str:
    """Small details: the share of their contrast that is shown."""
    part, heading = card["structure"], "Small details"
    if part is None:
        return section(heading, _not_tested(card, "structure"))
    solver, rows = card["stable"]["method"], part["rows"]
    heads = [
        "detail",
        "contrast",
        "network",
        solver,
        "front end",
        "AUROC: network",
        solver,
        "front end",
    ]
    body = [
        [
            escape(row["detail"]),
            number(row["contrast"]),
            *(
                mean(row[f"{start}{what}"], share)
                for what in ("contrast_recovery", "auroc")
                for _, start in METHODS.values()
            ),
        ]
        for row in rows
    ]
    contrasts = sorted({row["contrast"] for row in rows})
    plot = ""
    if len(contrasts) > 1:
        lines = [
            Line(
                name,
                kind,
                contrasts,
                [
                    _average(
                        row[f"{start}contrast_recovery"] for row in rows if row["contrast"] == c
                    )
                    for c in contrasts
                ],
            )
            for name, (kind, start) in METHODS.items()
        ]
        alt = "; ".join(
            f"{line.name} {share(line.y[0])} at contrast {number(contrasts[0])}, {share(line.y[-1])} at {number(contrasts[-1])}"
            for line in lines
        )
        plot = card_plots.curves(
            lines,
            x_label="contrast of the detail (1: the image's maximum)",
            percent=False,
            y_label="Share of the contrast that is shown: 1 whole, 0 erased",
            alt=f"Share of the contrast shown, mean over the details: {alt}. All numbers are in the table.",
        )
        plot = f"<figure>{plot}<figcaption>Mean over the details.</figcaption></figure>"
    words = (
        "<p>Small shapes that no training had were drawn into the images. A good reconstruction shows them with their whole "
        "contrast (1); 0 means that the detail is gone. AUROC: how surely one can tell a picture with the detail from one "
        "without it.</p>"
    )
    return section(
        heading,
        words
        + f'<div class="two"><div>{_pictures(card, "details")}</div>{plot}</div>'
        + table(
            "Share of each detail's contrast that is shown, and AUROC [95 % interval]", heads, body
        ),
    )


def more(card: dict) -> str:
    """Quality against the share of samples; the training's share is marked."""
    part, heading = card["more_samples"], "More measurements"
    if part is None:
        return section(heading, _not_tested(card, "more_samples"))
    keys = {name: f"psnr_{start}db" for name, (_, start) in METHODS.items()}
    order = sorted(range(len(part["share"])), key=part["share"].__getitem__)
    shares = [part["share"][i] / part["trained_at"] for i in order]
    lines = [
        Line(name, kind, shares, [part[keys[name]][i] for i in order])
        for name, (kind, _) in METHODS.items()
    ]
    alt = "; ".join(f"{line.name} from {db(line.y[0])} to {db(line.y[-1])} dB" for line in lines)
    plot = card_plots.curves(
        lines,
        x_label="measurements, beside those in training (%)",
        y_label="PSNR in dB, higher is better",
        alt=f"From the fewest to the most measurements: {alt}. All numbers are in the table.",
        mark=(1.0, "as in training"),
    )
    body = [
        [
            percent(s),
            number(float(part["n_samples"][i]), 7),
            *(db(part[key][i]) for key in keys.values()),
        ]
        for i, s in zip(order, shares)
    ]
    words = (
        f"<p>More measurements should give a better picture. Well beyond the training’s number the network’s "
        f"PSNR changes by {_change(part['change_db'])}, that of {escape(card['stable']['method'])} by "
        f"{_change(part['stable_change_db'])}.</p>"
    )
    heads = ["beside training", "measurements", "network", card["stable"]["method"], "front end"]
    return section(
        heading,
        f'{words}<div class="two"><figure>{plot}</figure>'
        + table("PSNR in dB against the number of measurements", heads, body)
        + "</div>",
    )


def alarms(card: dict) -> str:
    """Whether any score would have told of the failures."""
    part, heading = card["alarms"], "Would anything have warned?"
    if part is None:
        return section(heading, _not_tested(card, "alarms"))
    body = [
        [
            escape(row["alarm"]),
            escape(row["failure"]),
            mean(row["auroc"], share),
            mean(row["auroc_clean"], share),
            share(row["image_auroc"]),
            _rate(row["rings"]),
            _rate(row["rings_clean"]),
        ]
        for row in part["rows"]
    ]
    heads = [
        "alarm",
        "failure",
        "finds the place (AUROC)",
        "the same before the failure",
        "finds the image (AUROC)",
        "rings after the failure",
        "rings before it (false alarm)",
    ]
    words = (
        "<p>An alarm is a map of doubt beside the picture. A good one marks the place of a failure, rings where there is one, and is "
        f"silent where there is none. Threshold: {escape(part['threshold_from'])}.</p>"
    )
    return section(
        heading, words + table("Alarms on failures of this network [95 % interval]", heads, body, 2)
    )


def _pictures(card, group):
    shown = [p for p in card["pictures"] if p["group"] == group]
    if not shown:
        return ""
    items = ""
    for p in shown:
        kind = "png" if "png" in p else "jpeg"
        items += (
            f'<figure><img alt="{escape(p["alt"])}" src="data:image/{kind};base64,{escape(p[kind])}"><figcaption>'
            f'<span class="title">{escape(p["title"])}</span>{escape(p["caption"])}</figcaption></figure>'
        )
    zero = (
        " Difference maps are centred at zero."
        if any(p["kind"] == "difference" for p in shown)
        else ""
    )
    return f'<div class="pictures">{items}</div><p class="note">Images of a row share one grey window.{zero}</p>'


def _not_tested(card, part):
    """With the step's or the list's own reason, where one of them names the part."""
    called = CALLED[part]
    whys = [
        f"{item['what']}: {item['why']}"
        for item in card["not_tested"]
        if item["what"].lower().startswith(called)
    ]
    whys = whys or [
        f"{step['name']}: {step['why'] or step['status']}"
        for step in card["steps"]
        if step["name"].lower().startswith(called) and step["status"] not in ("done", "resumed")
    ]
    return f"<p>{chip('not tested')}</p>" + "".join(f"<p>{escape(why)}</p>" for why in whys)


def _average(found):
    known = [m["mean"] for m in found if m["mean"] is not None]
    return sum(known) / len(known) if known else None


def _rate(m) -> str:
    return percent(None if m["mean"] is None else round(m["mean"], 2))


def _change(m) -> str:
    return mean(m, change, " dB")
