"""What the records of the stability test say in a word, by rules fixed before they were looked at,
beside what Antun et al. say.
"""

from typing import NamedTuple

from .. import profiles
from ..training import CASES
from .worst import lost_db, stored

PAPER = {  # Antun et al. 2020, Figs. 1 to 5 and the text; what it does not show is left out
    ("worst", "deep-mri"): "unstable",
    ("worst", "automap"): "unstable",
    ("worst", "mri-vn"): "unstable",
    ("worst", "med-50"): "unstable",
    ("details", "ell-50"): "erases",
    ("details", "dagan"): "blurs",
    ("details", "mri-vn"): "blurs",
    ("details", "deep-mri"): "preserves",
    ("details", "automap"): "preserves",
    ("samples", "ell-50"): "degrades",
    ("samples", "med-50"): "degrades",
    ("samples", "dagan"): "degrades",
    ("samples", "mri-vn"): "stagnates",
    ("samples", "deep-mri"): "improves",
}
STRENGTH, CONTRAST = 0.02, 0.3
RULES = {
    "worst": f"at ‖r‖/‖x‖ = {100 * STRENGTH:g} %: unstable if at least 3 dB are lost and twice what TV loses, on the same data and in its "
    "own worst case; stable if at most 1 dB is lost, or no more than TV loses in its own worst case; else between",
    "details": f"suits of contrast {CONTRAST:g}: preserves if 80 % of the contrast or more is shown, erases if 30 % or less; else blurs",
    "samples": "beyond 1.5 times the training's samples: improves or degrades if the mean change is at least 0.5 dB and two standard "
    "errors; else stagnates",
}


class Verdict(NamedTuple):
    """One test of one network."""

    test: str  # "worst", "details" or "samples"
    name: str
    word: str  # by RULES
    stable_word: str  # of TV
    evidence: dict[str, float]
    paper: str | None
    # Student's interval of the change leaves out 0; with few images it is wider than two standard
    # errors
    sure: bool = True

    @property
    def said(self) -> str:
        """The evidence as a phrase."""
        e = self.evidence
        if self.test == "worst":
            return (
                f"{e['lost_db']:.1f} dB lost, TV {e['lost_stable_db']:.1f} on the same data, {e['lost_stable_own_db']:.1f} in its own "
                f"worst case; amplified {e['amplification']:.1f}, TV's own {e['stable_own_amplification']:.1f}, "
                f"random {e['twin_amplification']:.1f}"
            )
        if self.test == "details":
            return f"{e['recovery']:.2f} of the contrast, TV {e['stable_recovery']:.2f}, front end {e['front_end_recovery']:.2f}"
        return f"{e['change_db']:+.1f} dB{'' if self.sure else ' (its interval holds 0)'}, TV {e['stable_change_db']:+.1f}"

    @property
    def agrees(self) -> bool | None:
        """Whether it is what the paper says; None where the paper says nothing."""
        return None if self.paper is None else self.word == self.paper


def verdicts(profile: str = "standard") -> list[Verdict]:
    """Of every subject and test that has records."""
    found = []
    for name in CASES:
        kind = name.removesuffix("-published")
        for test, judge in (("worst", _worst), ("details", _details), ("samples", _samples)):
            if judged := judge(name, profile):
                word, stable, evidence, *sure = judged
                found.append(
                    Verdict(test, name, word, stable, evidence, PAPER.get((test, kind)), *sure)
                )
    return found


def _worst(name, profile):
    strengths = profiles.stage("stability", profile).strengths
    strength = STRENGTH if STRENGTH in strengths else strengths[-1]
    found = stored(
        "worst_case", name, profile, target="prediction", domain="image", strength=strength
    )
    if not found:
        return None
    m = found[-1]["metrics"]
    lost, own = (
        {who: lost_db(m, who) for who in ("", "stable_", "front_end_")},
        lost_db(m, "stable_own_"),
    )
    evidence = {
        "lost_db": lost[""],
        "lost_stable_db": lost["stable_"],
        "lost_stable_own_db": own,
        "lost_front_end_db": lost["front_end_"],
        "amplification": m["amplification"],
        "stable_own_amplification": m["stable_own_amplification"],
        "twin_amplification": m["twin_amplification"],
    }
    return worst_word(lost[""], lost["stable_"], own), own_word(own), evidence


def worst_word(lost_db: float, lost_stable_db: float, lost_stable_own_db: float) -> str:
    """By RULES, from what the network, TV on the same data and TV in its own worst case lose."""
    if lost_db >= max(3.0, 2 * lost_stable_db, 2 * lost_stable_own_db):
        return "unstable"
    return "stable" if lost_db <= max(1.0, lost_stable_own_db) else "between"


def own_word(lost_stable_own_db: float) -> str:
    """Of TV, from what it loses in its own worst case."""
    return (
        "stable"
        if lost_stable_own_db <= 1
        else "unstable"
        if lost_stable_own_db >= 3
        else "between"
    )


def detail_word(recovery: float) -> str:
    """By RULES, from the share of the contrast that is shown."""
    return "preserves" if recovery >= 0.8 else "erases" if recovery <= 0.3 else "blurs"


def _details(name, profile):
    found = [
        r["metrics"]
        for r in stored("structure", name, profile, contrast=CONTRAST)
        if r["parameters"]["detail"] != "text"
    ]
    if not found:
        return None
    mean = {
        who: sum(m[f"{who}contrast_recovery"] for m in found) / len(found)
        for who in ("", "stable_", "front_end_")
    }
    word = {who: detail_word(v) for who, v in mean.items()}
    return word[""], word["stable_"], {f"{who}recovery": v for who, v in mean.items()}


def _samples(name, profile):
    found = [
        r["metrics"] for r in stored("more_samples", name, profile) if "verdict" in r["metrics"]
    ]
    if not found:
        return None
    word = {1: "improves", 0: "stagnates", -1: "degrades"}
    m = found[-1]
    low, high = m["change_db_ci"] or (0.0, 0.0)
    evidence = {"change_db": m["change_db"], "stable_change_db": m["stable_change_db"]}
    return word[m["verdict"]], word[m["stable_verdict"]], evidence, not low <= 0 <= high
