"""What the numbers of a card say in words, by the rules of the stability test."""

from ..stability import verdicts as rules

RINGS, QUIET = 0.8, 0.2
ALARM_RULE = (
    f"rings if one alarm exceeds its threshold on {100 * RINGS:g} % or more of the worst cases or of the images with details, "
    f"and on {100 * QUIET:g} % or less of the clean images; else silent"
)
NAMES = {"worst_case": "worst", "structure": "details", "more_samples": "samples"}


def _one(value: float) -> str:
    """One decimal, and no -0.0."""
    return f"{round(value, 1) + 0.0:.1f}"


def verdict(word: str, stable_word: str | None, rule: str, said: str) -> dict:
    return {"word": word, "stable_word": stable_word, "rule": rule, "said": said}


def of_worst(part: dict | None, strength: float) -> dict:
    rule = rules.RULES["worst"].replace("2 %", f"{100 * strength:g} %", 1)
    row = next((r for r in part["rows"] if r["strength"] == strength), None) if part else None
    if row is None or row["lost_db"]["mean"] is None:
        return verdict("not tested", None, rule, "no worst case was found in the time there was")
    lost, on_same = row["lost_db"]["mean"], row["lost_stable_db"]["mean"]
    own = row["lost_stable_own_db"]["mean"] if row["lost_stable_own_db"] else None
    said = f"{_one(lost)} dB lost, TV {_one(on_same)} on the same data"
    said += (
        f", {_one(own)} in its own worst case"
        if own is not None
        else " (its own worst case was not computed)"
    )
    said += f"; amplified {row['amplification']['mean']:.1f}, random {row['twin_amplification']['mean']:.1f}"
    word = rules.worst_word(lost, on_same, on_same if own is None else own)
    return verdict(word, None if own is None else rules.own_word(own), rule, said)


def of_structure(part: dict | None) -> dict:
    rule = rules.RULES["details"]
    rows = (
        [r for r in part["rows"] if r["detail"] != "text" and r["contrast"] == rules.CONTRAST]
        if part
        else []
    )
    if not rows:
        return verdict("not tested", None, rule, "no details were drawn")
    mean = {
        who: sum(r[f"{who}contrast_recovery"]["mean"] for r in rows) / len(rows)
        for who in ("", "stable_", "front_end_")
    }
    return verdict(
        rules.detail_word(mean[""]),
        rules.detail_word(mean["stable_"]),
        rule,
        f"{mean['']:.2f} of the contrast, TV {mean['stable_']:.2f}, front end {mean['front_end_']:.2f}",
    )


def of_samples(part: dict | None) -> dict:
    rule = rules.RULES["samples"]
    if part is None:
        return verdict("not tested", None, rule, "no rates were measured")
    change, stable = part["change_db"], part["stable_change_db"]
    sure = change["ci"] is not None and not change["ci"][0] <= 0 <= change["ci"][1]
    return verdict(
        part["verdict"],
        part["stable_verdict"],
        rule,
        f"{change['mean']:+.1f} dB{'' if sure else ' (not sure: few images)'}, TV {stable['mean']:+.1f}",
    )


def of_alarms(part: dict | None) -> dict:
    if part is None:
        return verdict("not tested", None, ALARM_RULE, "no alarm was asked")
    best = max(
        part["rows"],
        key=lambda r: (
            r["rings_clean"]["mean"] <= QUIET,
            r["rings"]["mean"] - r["rings_clean"]["mean"],
        ),
    )
    word = (
        "rings"
        if best["rings"]["mean"] >= RINGS and best["rings_clean"]["mean"] <= QUIET
        else "silent"
    )
    after = "a worst case" if best["failure"] == "worst case" else "details"
    return verdict(
        word,
        None,
        ALARM_RULE,
        f"the best, {best['alarm']}, rings on {100 * best['rings']['mean']:.0f} % of the images with "
        f"{after}, and on {100 * best['rings_clean']['mean']:.0f} % of clean ones",
    )


def summary(card: dict, strength: float) -> str:
    """The plain first paragraph."""
    n, v, worst = card["data"]["n_images"], card["verdicts"], card["worst_case"]
    lines = [
        f"{card['name']} was put to the stability test on {n} image{'' if n == 1 else 's'}, beside total variation, a stable "
        "classical method, on the same measurements."
    ]
    row = next((r for r in worst["rows"] if r["strength"] == strength), None) if worst else None
    if row and v["worst_case"]["word"] != "not tested":
        lost, twin, on_same = (
            row["lost_db"]["mean"],
            row["lost_twin_db"]["mean"],
            row["lost_stable_db"]["mean"],
        )
        lines.append(
            f"Tiny changes: {v['worst_case']['word']}. A change of {100 * strength:g} % of the image, made to do harm, costs "
            f"{_one(lost)} dB; the same change costs total variation {_one(on_same)} dB, and the worst of a few "
            f"random changes of that size costs this method {_one(twin)} dB."
            if twin is not None
            else f"Tiny changes: {v['worst_case']['word']}; {v['worst_case']['said']}."
        )
    if v["structure"]["word"] != "not tested":
        lines.append(
            f"Small details that nobody expects: it {v['structure']['word']} them ({v['structure']['said']})."
        )
    if v["more_samples"]["word"] != "not tested":
        lines.append(f"More samples: it {v['more_samples']['word']} ({v['more_samples']['said']}).")
    if v["alarms"]["word"] != "not tested":
        lines.append(f"Alarms: {v['alarms']['word']}; {v['alarms']['said']}.")
    lines.append(
        "What was found is a lower bound: a longer search, or other images, may find worse, and nothing here proves stability."
    )
    if card["subject"]["access"] == "black box":
        lines.append(
            "The network could only be called, without gradients, so the search was a weaker one."
        )
    if not card["subject"]["deterministic"]:
        lines.append(
            "It answers differently each time it is asked, so part of every change is its own noise."
        )
    if n < 5:
        lines.append(
            f"{'One image is' if n == 1 else f'{n} images are'} few: intervals are wide or missing."
        )
    if card["failures"]:
        k = len(card["failures"])
        lines.append(f"It broke in {k} step{'' if k == 1 else 's'}; the inputs are listed below.")
    if missing := sorted({item["what"].split(", image")[0] for item in card["not_tested"]}):
        lines.append(f"Not tested, or not on every image: {', '.join(missing)}.")
    if card["run"]["interrupted"]:
        lines.append("The run was interrupted; this is what it had until then.")
    return " ".join(lines)
