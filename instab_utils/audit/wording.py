"""What the numbers of a card say in words, by the rules of the stability test."""

from ..stability import verdicts as rules

RINGS, QUIET = 0.8, 0.2
ALARM_RULE = (
    f"rings if one alarm exceeds its threshold on {100 * RINGS:g} % or more of the worst cases or "
    f"of the images with details, and on {100 * QUIET:g} % or less of the clean images; else silent"
)
NULLS = {
    "null-gradient": "image gradient magnitude",
    "null-residual": "the distance to the front end",
    "null-variance": "local variance",
}
SCORES = {**NULLS, "dropout": "MC dropout's variance"}
NOT_TESTED = "not tested"


def _verdict(word: str, stable_word: str | None, rule: str, said: str) -> dict:
    return {"word": word, "stable_word": stable_word, "rule": rule, "said": said}


def _one(value: float) -> str:
    """One decimal, and no -0.0."""
    return f"{round(value, 1) + 0.0:.1f}"


def worst_row(part: dict | None, strength: float) -> dict | None:
    """Return the row of one strength, if its loss is known."""
    for row in part["rows"] if part else []:
        if row["strength"] == strength and row["lost_db"]["mean"] is not None:
            return row
    return None


def worst_case(part: dict | None, strength: float) -> dict:
    rule = rules.RULES["worst"].replace("2 %", f"{100 * strength:g} %", 1)
    row = worst_row(part, strength)
    if row is None:
        return _verdict(NOT_TESTED, None, rule, "no worst case was found in the time there was")
    lost, on_same = row["lost_db"]["mean"], row["lost_stable_db"]["mean"]
    own = row["lost_stable_own_db"] and row["lost_stable_own_db"]["mean"]
    said = f"{_one(lost)} dB lost, TV {_one(on_same)} on the same data"
    if own is None:
        said += " (its own worst case was not computed)"
    else:
        said += f", {_one(own)} in its own worst case"
    gain, random = row["amplification"]["mean"], row["twin_amplification"]["mean"]
    said += f"; amplified {gain:.1f}, random {random:.1f}"
    word = rules.worst_word(lost, on_same, on_same if own is None else own)
    return _verdict(word, None if own is None else rules.own_word(own), rule, said)


def structure(part: dict | None) -> dict:
    rule, rows = rules.RULES["details"], []
    for row in part["rows"] if part else []:
        if row["detail"] != "text" and row["contrast"] == rules.CONTRAST:
            rows.append(row)
    if not rows:
        return _verdict(NOT_TESTED, None, rule, "no details were drawn")
    f, tv, front_end = (
        sum(row[f"{who}contrast_recovery"]["mean"] for row in rows) / len(rows)
        for who in ("", "stable_", "front_end_")
    )
    said = f"{f:.2f} of the contrast, TV {tv:.2f}, front end {front_end:.2f}"
    return _verdict(rules.detail_word(f), rules.detail_word(tv), rule, said)


def more_samples(part: dict | None) -> dict:
    rule = rules.RULES["samples"]
    if part is None:
        return _verdict(NOT_TESTED, None, rule, "no rates were measured")
    change, ci = part["change_db"]["mean"], part["change_db"]["ci"]
    sure = ci is not None and not ci[0] <= 0 <= ci[1]
    doubt = "" if sure else " (not sure: few images)"
    said = f"{change:+.1f} dB{doubt}, TV {part['stable_change_db']['mean']:+.1f}"
    return _verdict(part["verdict"], part["stable_verdict"], rule, said)


def alarms(part: dict | None) -> dict:
    if part is None:
        return _verdict(NOT_TESTED, None, ALARM_RULE, "no alarm was asked")

    def quality(row):
        rings, clean = row["rings"]["mean"], row["rings_clean"]["mean"]
        return clean <= QUIET, rings - clean

    best = max(part["rows"], key=quality)
    rings, clean = best["rings"], best["rings_clean"]
    after = "attacked" if best["failure"] == "worst case" else "changed"
    score = SCORES.get(best["alarm"], best["alarm"])
    if all(row["alarm"] in NULLS for row in part["rows"]):
        score += " (no uncertainty estimate was available)"
    said = (
        f"the best score was {score}: it exceeded its threshold on {_count(rings)} {after} "
        f"and {_count(clean)} clean images"
    )
    word = "rings" if rings["mean"] >= RINGS and clean["mean"] <= QUIET else "silent"
    return _verdict(word, None, ALARM_RULE, said)


def _count(rates: dict) -> str:
    known = [value for value in rates["values"] if value is not None]
    return f"{sum(known):.0f} of {len(known)}"


def summary(card: dict, strength: float) -> str:
    """Return the plain first paragraph."""
    n, verdicts = card["data"]["n_images"], card["verdicts"]
    lines = [
        f"{card['name']} was put to the stability test on {n} image{'s' * (n != 1)}, "
        "beside total variation, a stable classical method, on the same measurements."
    ]
    row = worst_row(card["worst_case"], strength)
    if row:
        lines.append(_tiny_changes(row, verdicts["worst_case"], strength))
    for test, sentence in (
        ("structure", "Small added details: it {word} them ({said})."),
        ("more_samples", "More samples: it {word} ({said})."),
        ("alarms", "Alarms: {word}; {said}."),
    ):
        if verdicts[test]["word"] != NOT_TESTED:
            lines.append(sentence.format(**verdicts[test]))
    lines.append(
        "What was found is a lower bound: a longer search, or other images, may find worse, "
        "and nothing here proves stability."
    )
    k = len(card["failures"])
    missing = sorted({item["what"].split(", image")[0] for item in card["not_tested"]})
    few = "One image is" if n == 1 else f"{n} images are"
    remarks = (
        (
            card["subject"]["access"] == "black box",
            "The network could only be called, without gradients, so the search was a weaker one.",
        ),
        (
            not card["subject"]["deterministic"],
            "It answers differently each time it is asked, "
            "so part of every change is its own noise.",
        ),
        (n < 5, f"{few} few: intervals are wide or missing."),
        (k, f"It broke in {k} step{'s' * (k != 1)}; the inputs are listed below."),
        (missing, f"Not tested, or not on every image: {', '.join(missing)}."),
        (
            card["run"]["interrupted"],
            "The run was interrupted; this is what it had until then.",
        ),
    )
    return " ".join(lines + [sentence for applies, sentence in remarks if applies])


def _tiny_changes(row: dict, verdict: dict, strength: float) -> str:
    start = f"Tiny changes: {verdict['word']}"
    random = row["lost_twin_db"]["mean"]
    if random is None:
        return f"{start}; {verdict['said']}."
    lost, on_same = row["lost_db"]["mean"], row["lost_stable_db"]["mean"]
    return (
        f"{start}. A change of {100 * strength:g} % of the image, made to do harm, costs "
        f"{_one(lost)} dB; the same change costs total variation {_one(on_same)} dB, and the worst "
        f"of a few random changes of that size costs this method {_one(random)} dB."
    )
