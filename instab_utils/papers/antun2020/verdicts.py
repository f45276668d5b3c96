"""What the records of the three tests say in a word, beside what the paper says."""

from typing import NamedTuple

from ... import profiles
from ...stability import verdicts as rules
from ...stability.worst_case import lost_db
from ...training.cases import CASES
from .records import stored

PAPER = {  # Figs. 1 to 5 and the text; what they do not show is left out
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


class Verdict(NamedTuple):
    """One test of one network."""

    test: str  # "worst", "details" or "samples"
    name: str
    word: str  # by `stability.verdicts.RULES`
    tv_word: str
    evidence: str
    sure: bool = True  # False: Student's interval of the change holds 0

    @property
    def paper(self) -> str | None:
        """Return the paper's word, None where it says nothing."""
        return PAPER.get((self.test, self.name.removesuffix("-published")))

    @property
    def agrees(self) -> bool | None:
        """Return whether the word is the paper's; None where the paper says nothing."""
        return None if self.paper is None else self.word == self.paper


def verdicts(profile: str = "standard") -> list[Verdict]:
    """Return the verdict on every case and test that has records."""
    tests = (worst_case_verdict, details_verdict, samples_verdict)
    found = [test(name, profile) for name in CASES for test in tests]
    return [verdict for verdict in found if verdict]


def worst_case_metrics(name: str, profile: str = "standard") -> dict | None:
    """Return the metrics of test 1 at the strength of the verdict, in the image, p = f(y)."""
    strengths = profiles.stage("stability", profile).strengths
    strength = rules.STRENGTH if rules.STRENGTH in strengths else strengths[-1]
    about = {"target": "prediction", "domain": "image", "strength": strength}
    rows = stored("worst_case", name, profile, **about)
    return rows[-1]["metrics"] if rows else None


def worst_case_verdict(name: str, profile: str = "standard") -> Verdict | None:
    """Return the verdict of test 1."""
    m = worst_case_metrics(name, profile)
    if m is None:
        return None
    lost, tv, own = (lost_db(m[method]) for method in ("network", "tv", "tv_own"))
    evidence = (
        f"{lost:.1f} dB lost, TV {tv:.1f} on the same data, {own:.1f} in its own worst case; "
        f"amplified {m['network']['amplification']:.1f}, "
        f"TV's own {m['tv_own']['amplification']:.1f}, "
        f"random {m['network_random']['amplification']:.1f}"
    )
    return Verdict("worst", name, rules.worst_word(lost, tv, own), rules.own_word(own), evidence)


def details_verdict(name: str, profile: str = "standard") -> Verdict | None:
    """Return the verdict of test 2, on the mean over the four suits."""
    rows = [
        row["metrics"]
        for row in stored("structure", name, profile, contrast=rules.CONTRAST)
        if row["parameters"]["detail"] != "text"
    ]
    if not rows:
        return None
    network, tv, front_end = (
        sum(m[method]["contrast_recovery"] for m in rows) / len(rows)
        for method in ("network", "tv", "front_end")
    )
    evidence = f"{network:.2f} of the contrast, TV {tv:.2f}, front end {front_end:.2f}"
    words = rules.detail_word(network), rules.detail_word(tv)
    return Verdict("details", name, *words, evidence)


def samples_verdict(name: str, profile: str = "standard") -> Verdict | None:
    """Return the verdict of test 3; None also where no rate exceeds the training's."""
    rows = stored("more_samples", name, profile)
    if not rows or "verdict" not in rows[-1]["metrics"]["network"]:
        return None
    network, tv = (rows[-1]["metrics"][method] for method in ("network", "tv"))
    sure = is_sure(network)
    doubt = "" if sure else " (its interval holds 0)"
    evidence = f"{network['change_db']:+.1f} dB{doubt}, TV {tv['change_db']:+.1f}"
    words = rules.CHANGES[network["verdict"]], rules.CHANGES[tv["verdict"]]
    return Verdict("samples", name, *words, evidence, sure)


def is_sure(change: dict) -> bool:
    """Return whether Student's interval of a method's change leaves out 0.

    With few images it is wider than the two standard errors of the verdict.
    """
    low, high = change["change_db_ci"] or (0.0, 0.0)
    return not low <= 0 <= high
