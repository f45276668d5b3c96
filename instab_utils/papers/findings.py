"""What the papers say in words, beside what our records say: rule, evidence and verdict of each."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas

from .. import metrics, training
from ..stability.worst_case import lost_db
from ..training.cases import CASES, PUBLISHED
from .antun2020 import verdicts
from .antun2020.records import stored
from .ledger import DETECTORS, EXPERIMENTS, TASKS, classical_records, detection_records
from .oala2021 import table1
from .vasconcelos2021 import results

VERDICTS = ("holds", "not shown", "differs", "not tested")
SAYS = {
    "worst": "tiny worst-case perturbations",
    "details": "small details",
    "samples": "more samples",
}


class Finding(NamedTuple):
    """One statement of a paper.

    not shown: our 95 % interval holds both; differs: it, or a single number, says the contrary.
    """

    paper: str  # of ledger.PAPERS
    where: str
    says: str
    verdict: str  # one of VERDICTS
    evidence: str


def findings(profile: str = "standard") -> list[Finding]:
    """Return the statements that records decide: every test and network, orders of methods."""
    return [*_antun(profile), *_oala(profile), *_vasconcelos(profile)]


def _antun(profile: str) -> Iterator[Finding]:
    found = {(v.name, v.test): v for v in verdicts.verdicts(profile)}
    for (test, kind), word in verdicts.PAPER.items():
        for name in (kind, f"{kind}-published"):
            if name not in CASES:
                continue
            v = found.get((name, test))
            says = f"{training.title(name)}, {SAYS[test]}: {word}"
            evidence = f"{v.word}: {v.evidence}" if v else ""
            yield Finding("antun", "Figs. 1-5", says, _word(v and v.agrees), evidence)
    says = "Deep MRI, published: noise on top of r, a quarter of its size, leaves the artefact"
    rows = stored("neighbourhood", "deep-mri-published", profile, fraction=0.25)
    holds, evidence = None, ""
    if rows:
        m = rows[-1]["metrics"]["r_and_v"]
        holds = m["correlation"] > 0.7 and m["rate_bad"] > 0.9
        share = 100 * m["rate_bad"]
        evidence = f"correlation {m['correlation']:.2f}, {share:.0f} % of draws are as bad"
    yield Finding("antun", "Fig. 2", says, _word(holds), evidence)
    for name in PUBLISHED[:2]:
        says = f"{training.title(name)}: its perturbation leaves TV alone (below 1 dB)"
        m = verdicts.worst_case_metrics(name, profile)
        holds, evidence = None, ""
        if m:
            lost, own = lost_db(m["tv"]), lost_db(m["tv_own"])
            holds = lost < 1
            evidence = f"{lost:.2f} dB lost; in TV's own worst case {own:.2f} dB"
        yield Finding("antun", "Figs. 1, 4", says, _word(holds), evidence)


def _oala(profile: str) -> Iterator[Finding]:
    """Yield orders of Table 1's Pearson correlations, paired by training seed."""
    for (task, experiment), row in table1.PUBLISHED.items():
        published = {method: value for method, (value, _) in row.items()}
        ours = {}
        for method in published:
            for masks in ("shared", "fresh") if method == "dropout" else ("",):
                rows = detection_records(profile, task, experiment, method, masks)
                values = {row["seed"]: row["metrics"]["plain"]["pearson_r"] for row in rows}
                ours[method, masks] = values
        for (first, _), a in ours.items():
            for (second, masks), b in ours.items():
                # else equal in the paper, or the other way round
                if published[first] - published[second] > 0.02:
                    note = f" ({masks} masks)" if masks else ""
                    order = f"{DETECTORS[first]} above {DETECTORS[second]}{note}"
                    says = f"{TASKS[task]}, {EXPERIMENTS[experiment]}: {order}"
                    differences = [a[seed] - b[seed] for seed in a if seed in b]
                    yield Finding("oala", "Table 1", says, *_paired(differences, "", "r"))


def _vasconcelos(profile: str) -> Iterator[Finding]:
    for views in (20, 5):
        best = results.best_records(views, profile)
        psnr_db = {
            method: np.array(record["metrics"]["psnr_db_each"])
            for (method, split), record in best.items()
            if split == "test"
        }
        orders = [("dropout", "bbb", "MC dropout above Bayes by backprop")]
        for k in (5, 10):
            orders.append((f"ensemble-{k}", "dropout", f"an ensemble of {k} above one field"))
        for a, b, says in orders:
            both = a in psnr_db and b in psnr_db
            decided = _paired(list(psnr_db[a] - psnr_db[b]) if both else [], " dB", "PSNR")
            yield Finding("vasconcelos", "Table 1", f"{views} views: {says}", *decided)
        says = f"{views} views: the best field above SIRT and SART (both told x ≥ 0)"
        decided = _against_classical(best, views, profile)
        yield Finding("vasconcelos", "Section 3", says, *decided)
        says = f"{views} views: sine is the best single activation"
        yield Finding("vasconcelos", "Section 3", says, *_activations(views, profile))
    says = "the best Ω₀ grows with the number of views"
    yield Finding("vasconcelos", "Fig. 4", says, *_omega(profile))


def _against_classical(best: Mapping, views: int, profile: str) -> tuple[str, str]:
    """Compare field and classical method that are best on validation phantoms, on test phantoms.

    The classical images are clipped to [0, 1].
    """
    about = {"n_views": views, "constraint": "nonnegative"}
    classical = {
        (row["method"], row["parameters"]["split"]): row["metrics"]
        for row in classical_records(profile, **about)
    }
    rivals = {
        method: m["psnr_clipped_db"]
        for (method, split), m in classical.items()
        if split == "validate" and method in ("sirt", "sart")
    }
    ours = {m: row["metrics"]["psnr_db"] for (m, split), row in best.items() if split == "validate"}
    if not rivals or not ours:
        return _paired([], " dB", "PSNR")
    field, rival = max(ours, key=ours.get), max(rivals, key=rivals.get)
    field_db = np.array(best[field, "test"]["metrics"]["psnr_db_each"])
    rival_db = np.array(classical[rival, "test"]["psnr_clipped_db_images"])
    return _paired(list(field_db - rival_db), " dB", f"PSNR, {field} minus {rival.upper()}")


def _activations(views: int, profile: str) -> tuple[str, str]:
    """Compare the best setting of each activation in the whole sweep; one phantom, no interval."""
    sweep = results.exhibit(f"inr-sweep-dropout-{views}-{profile}")
    if sweep is None:
        return "not tested", ""
    psnr = pandas.Series(sweep[0]["psnr_db"]).groupby(sweep[0]["activation"])
    top = psnr.max().sort_values(ascending=False)
    listed = ", ".join(f"{name} {value:.1f}" for name, value in top.items())
    return _word(top.index[0] == "sine"), f"{listed} dB on one phantom"


def _omega(profile: str) -> tuple[str, str]:
    """Compare Ω₀ by the median over the grid's first rung, of each activation."""
    sweeps = [results.exhibit(f"inr-sweep-dropout-{views}-{profile}") for views in (5, 20)]
    if None in sweeps:
        return "not tested", ""
    few, many = (results.favourite_omega0(arrays) for arrays, _ in sweeps)
    common = [name for name in few if name in many]
    grows = all(many[a] >= few[a] for a in common) and any(many[a] > few[a] for a in common)
    listed = ", ".join(f"{a} {few[a]:g} -> {many[a]:g}" for a in common)
    return _word(grows), f"best median over the grid, 5 -> 20 views: {listed}"


def _paired(differences: Sequence[float], unit: str, what: str) -> tuple[str, str]:
    """Decide holds or differs where the mean difference's 95 % Student interval excludes 0."""
    if not len(differences):
        return "not tested", ""
    d = metrics.mean_ci(differences)
    text = f"{what} {d.mean:+.2f}{unit}"
    if np.isnan(d.low):
        return _word(d.mean > 0), f"{text}, one training"
    word = "not shown"
    if d.low > 0 or d.high < 0:
        word = _word(d.low > 0)
    return word, f"{text} [{d.low:+.2f}, {d.high:+.2f}], n = {len(differences)}"


def _word(holds: bool | None) -> str:
    if holds is None:
        return "not tested"
    return "holds" if holds else "differs"
