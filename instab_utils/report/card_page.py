"""The stability card as a page: for a reader who has not read the papers, on a screen or on paper,
and without any request.
"""

from . import card_parts
from .card_html import TESTS, chip, count, db, escape, facts, mean, section, shell, size, table
from .card_plots import number

ACCESS = {
    "gradients": "tested with its gradients: the strongest search",
    "black box": "tested by its outputs alone: a weaker search, which may miss harm",
}
GLOSSARY = {
    "Reconstruction": "the picture that is computed from what a scanner measured.",
    "Stable solver": "a method without a network (here: {stable}) that sees the same measurements. Where it fails as well, blame the data; "
    "where the network alone fails, blame the network.",
    "Front end": "the simplest linear reconstruction ({pinv}), with neither network nor solver.",
    "Worst case": "a change so small that one hardly sees it, found by a search for the greatest harm. A real scan need not contain it, "
    "but nobody can promise that it does not.",
    "Random change": "one of exactly the same size, drawn at random (a worst case's ‘twin’). If it is harmless, size is not the problem.",
    "Strength": "the size of a change in per cent of the size of the image, or of the measurement.",
    "PSNR": "how near a reconstruction is to the true image, in decibels (dB). Higher is better; 6 dB less is twice the error.",
    "Amplification": "how many times larger the reconstruction's change is than the change that caused it. About 1 is harmless.",
    "Attack, certificate": "an attack shows that some change does at least so much; a certificate proves that none does more.",
    "AUROC": "how well a score tells two groups apart: 1 always, 0.5 no better than a coin.",
    "[low, high]": "95 % interval: where the mean over many images of the same kind is likely to lie.",
}


def document(card: dict, embedded: str, link: str) -> str:
    """The page. `embedded`: the card's JSON in a script element that no browser runs; `link`: the
    same to download.
    """
    parts = [
        _head(card),
        _short(card),
        _looked_at(card),
        card_parts.worst(card),
        card_parts.bracket(card),
        card_parts.details(card),
        card_parts.more(card),
        card_parts.alarms(card),
        _untested(card),
        _reading(card),
        _provenance(card, link),
    ]
    return shell(f"Stability card: {card['name']}", "".join(parts), embedded)


def _head(card):
    data = card["data"]
    return (
        f'<header><p class="kind">Stability card</p><h1>{escape(card["name"])}</h1><p class="scope">What this network did to '
        f"{count(data['n_images'], 'image')} of {size(data['image_size'])} pixels ({escape(data['source'])}), measured by "
        f"{escape(card['operator']['name'])}, beside {escape(card['stable']['method'])} on the same measurements. "
        "It says nothing of other data.</p></header>"
    )


def _short(card):
    items = ""
    for part, title in TESTS.items():
        v, alarm = card["verdicts"][part], part == "alarms"
        tested = v["word"] != "not tested"
        words = [("the best alarm" if alarm else "this network", v["word"])]
        if v["stable_word"] or not alarm:
            words.append((card["stable"]["method"], v["stable_word"] if tested else "not tested"))
        chips = "".join(
            f"<div><dt>{escape(who)}</dt><dd>{chip(word)}</dd></div>" for who, word in words
        )
        said = f"<p>{escape(v['said'])}</p>" if v["said"] != v["word"] else ""
        rule = f'<p class="rule">Rule: {escape(v["rule"])}.</p>' if v["rule"] and tested else ""
        items += f'<li><h3>{title}</h3><dl class="chips">{chips}</dl>{said}{rule}</li>'
    cut = (
        '<p class="warning">The run was interrupted: this card is not complete.</p>'
        if card["run"]["interrupted"]
        else ""
    )
    return section(
        "In short",
        f'{cut}<p class="summary">{escape(card["summary"])}</p><ul class="tests">{items}</ul>',
    )


def _looked_at(card):
    data, operator, stable, settings, clean = (
        card[k] for k in ("data", "operator", "stable", "settings", "clean")
    )
    budget = (
        "no limit of time" if settings["budget_s"] is None else f"{number(settings['budget_s'])} s"
    )
    weight = (
        ""
        if stable["weight"] is None
        else f", weight {number(stable['weight'])} (chosen on {escape(stable['chosen_on'])})"
    )
    noise = f"noise {number(data['noise'])}" if data["noise"] else "no noise added"
    notes = " ".join(map(escape, settings.get("notes") or []))
    return section(
        "What was looked at",
        facts(
            [
                (
                    "Network",
                    f"{escape(card['subject']['name'])}, {ACCESS[card['subject']['access']]}",
                ),
                (
                    "Images",
                    f"{count(data['n_images'], 'image')} of {size(data['image_size'])} pixels: {escape(data['source'])}",
                ),
                (
                    "Measurement",
                    f"{escape(operator['name'])}: {size(operator['y_shape'])} {'complex ' if operator['complex'] else ''}values for "
                    f"{size(operator['image_shape'])} pixels; {noise}",
                ),
                (
                    "Stable solver",
                    f"{escape(stable['method'])}{weight}, {count(stable['n_iter'], 'iteration')}",
                ),
                (
                    "Budget",
                    f"{budget}; strengths {', '.join(number(100 * s) for s in settings['strengths'])} %; "
                    f"{count(settings['restarts'], 'restart')}; {count(settings['n_twins'], 'random change')} a strength; "
                    f"{escape(settings['search'])}",
                ),
                (
                    "Quality, unchanged",
                    f"PSNR of the network {mean(clean['psnr_db'], db, ' dB')}, {escape(stable['method'])} "
                    f"{mean(clean['psnr_stable_db'], db, ' dB')}, front end {mean(clean['psnr_front_end_db'], db, ' dB')}",
                ),
                *([("Notes", notes)] if notes else []),
            ]
        ),
    )


def _untested(card):
    missing = "".join(
        f"<li><strong>{escape(item['what'])}</strong>: {escape(item['why'])}</li>"
        for item in card["not_tested"]
    )
    failed = ""
    for item in card["failures"]:
        more = [
            f"Input: {escape(item['input'])}." if item["input"] else "",
            f"SHA-256 <code>{escape(item['sha256'])}</code>." if item["sha256"] else "",
            f"Cure: {escape(item['cure'])}" if item["cure"] else "",
        ]
        failed += f"<li><strong>{escape(item['step'])}</strong>: {escape(item['error'])} {' '.join(filter(None, more))}</li>"
    return section(
        "What was not tested, and what failed",
        "<h3>Not tested</h3>"
        + (f'<ul class="plain">{missing}</ul>' if missing else "<p>Nothing is listed.</p>")
        + "<h3>Failures of the run</h3>"
        + (f'<ul class="plain">{failed}</ul>' if failed else "<p>None.</p>"),
    )


def _reading(card):
    words = {
        "{stable}": escape(card["stable"]["method"]),
        "{pinv}": escape(card["operator"]["pinv"]),
    }
    pairs = []
    for name, text in GLOSSARY.items():
        for place, word in words.items():
            text = text.replace(place, word)
        pairs.append((name, text))
    return section("How to read this page", facts(pairs, "glossary"))


def _provenance(card, link):
    run, subject, data, operator = card["run"], card["subject"], card["data"], card["operator"]
    parameters = (
        "an unknown number of parameters"
        if subject["n_parameters"] is None
        else count(subject["n_parameters"], "parameter")
    )
    pairs = [
        (
            "Network's file",
            escape(subject["file"] or "none given")
            + (f"<br><code>{escape(subject['sha256'])}</code>" if subject["sha256"] else ""),
        ),
        (
            "Network",
            f"{parameters}; called as <code>{escape(subject['called'])}</code>; {escape(subject['output'])} output; "
            f"{'the same' if subject['deterministic'] else 'not the same'} output each time; on {escape(subject['device'])}",
        ),
        (
            "Operator",
            f"norm {number(operator['norm'], 4)}; adjoint exact to {number(operator['adjoint_gap'], 2)}",
        ),
        ("Data", f"<code>{escape(data['sha256'])}</code>"),
        (
            "Settings",
            "; ".join(
                f"{escape(name.replace('_', ' '))}: {_value(value)}"
                for name, value in card["settings"].items()
                if name != "notes"
            ),
        ),
        (
            "Run",
            f"started {escape(run['started'])}; {number(run['seconds'])} s, and {number(run['seconds_before'])} s in earlier runs; "
            f"{count(run['n_calls'], 'call')} of the network, {count(run['n_gradients'], 'gradient')}",
        ),
        (
            "Versions",
            "; ".join(
                f"{escape(name)} {escape(value)}" for name, value in card["versions"].items()
            ),
        ),
    ]
    steps = table(
        "Steps of the run",
        ["step", "status", "why", "seconds"],
        [
            [escape(s["name"]), escape(s["status"]), escape(s["why"] or ""), number(s["seconds"])]
            for s in card["steps"]
        ],
        3,
    )
    counts = ", ".join(
        f"{sum(s['status'] == status for s in card['steps'])} {status}"
        for status in dict.fromkeys(s["status"] for s in card["steps"])
    )
    steps = f"<details><summary>Steps of the run ({counts or 'none'})</summary>{steps}</details>"
    used = "".join(
        f"<li>{escape(f['name'])} <code>{escape(f['sha256'])}</code></li>" for f in data["files"]
    )
    used = (
        f'<details><summary>Files of the data ({len(data["files"])})</summary><ul class="plain">{used}</ul></details>'
        if used
        else ""
    )
    name = "".join(c if c.isalnum() else "-" for c in card["name"]).strip("-") or "card"
    return section(
        "Provenance",
        facts(pairs)
        + steps
        + used
        + f'<p class="screen"><a download="{escape(name)}.json" href="{link}">Download the card as JSON</a>: every number, '
        "those of single images too. The same JSON stands inside this page.</p>",
    )


def _value(value) -> str:
    if isinstance(value, list) and value:
        return ", ".join(map(_value, value))
    return (
        "none"
        if value in (None, "", [])
        else escape(f"{value:g}" if isinstance(value, float) else value)
    )
