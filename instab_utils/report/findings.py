"""What the papers say in words, beside what our records say: each statement with its rule, its
evidence and a verdict.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from .. import metrics, store, training
from ..papers.oala2021 import table1
from ..papers.vasconcelos2021 import study as fields
from ..stability import verdicts, worst
from ..training.cases import PUBLISHED
from .ledger import DETECTORS, EXPERIMENTS, TASKS

VERDICTS = ("holds", "not shown", "differs", "not tested")


class Finding(NamedTuple):
    """One statement of a paper. not shown: our 95 % interval holds both; differs: it, or a single
    number, says the contrary.
    """

    paper: str  # of ledger.PAPERS
    where: str
    says: str
    verdict: str  # one of VERDICTS
    evidence: str


def findings(profile: str = "standard") -> list[Finding]:
    """All statements that can be decided from records: Antun et al. by test and network, orders of
    methods in the other two.
    """
    return [*_antun(profile), *_oala(profile), *_vasconcelos(profile)]


def _antun(profile) -> Iterator[Finding]:
    say = {
        "worst": "tiny worst-case perturbations: {}",
        "details": "small details: {}",
        "samples": "more samples: {}",
    }
    found = {(v.name, v.test): v for v in verdicts.verdicts(profile)}
    for (test, kind), word in verdicts.PAPER.items():
        published = f"{kind}-published"
        for name in [kind, published] if published in training.CASES else [kind]:
            v = found.get((name, test))
            yield Finding(
                "antun",
                "Figs. 1-5",
                f"{training.title(name)}, {say[test].format(word)}",
                _word(v and v.agrees),
                f"{v.word}: {v.said}" if v else "",
            )
    around = worst.stored("worst_case", "deep-mri-published", profile, fraction=0.25)
    m = around[-1]["metrics"] if around else {}
    yield Finding(
        "antun",
        "Fig. 2",
        "Deep MRI, published: noise on top of r, a quarter of its size, leaves the artefact",
        _word(bool(m["same_artefact"] > 0.7 and m["rate_bad"] > 0.9) if m else None),
        f"correlation {m['same_artefact']:.2f}, {100 * m['rate_bad']:.0f} % of draws are as bad"
        if m
        else "",
    )
    strength = verdicts.STRENGTH
    for name in PUBLISHED[:2]:
        rows = worst.stored(
            "worst_case", name, profile, target="prediction", domain="image", strength=strength
        )
        m = rows[-1]["metrics"] if rows else {}
        lost, own = (
            (worst.lost_db(m, "stable_"), worst.lost_db(m, "stable_own_")) if m else (0.0, 0.0)
        )
        yield Finding(
            "antun",
            "Figs. 1, 4",
            f"{training.title(name)}: its perturbation leaves TV alone (below 1 dB)",
            _word(lost < 1 if m else None),
            f"{lost:.2f} dB lost; in TV's own worst case {own:.2f} dB" if m else "",
        )


def _oala(profile) -> Iterator[Finding]:
    """Pearson correlations of Table 1, paired by training seed."""
    for task, experiment in table1.PUBLISHED:
        theirs = {
            method: value for method, (value, _) in table1.PUBLISHED[task, experiment].items()
        }
        forms = [
            (m, masks)
            for m in theirs
            for masks in (("shared", "fresh") if m == "dropout" else ("",))
        ]
        ours = {form: _by_seed(profile, task, experiment, *form) for form in forms}
        for (first, _), a in ours.items():
            for (second, masks), b in ours.items():
                # else level in the paper, or the other way round
                if theirs[first] - theirs[second] > 0.02:
                    says = f"{DETECTORS[first]} above {DETECTORS[second]}" + (
                        f" ({masks} masks)" if masks else ""
                    )
                    yield Finding(
                        "oala",
                        "Table 1",
                        f"{TASKS[task]}, {EXPERIMENTS[experiment]}: {says}",
                        *_paired([a[s] - b[s] for s in a if s in b], "", "r"),
                    )


def _by_seed(profile, task, experiment, method, masks) -> dict[int, float]:
    found = [
        r
        for r in store.records(experiment=experiment, task=task, method=method, profile=profile)
        if r["paper"]
        and r["parameters"].get("split") == "test"
        and "beta" not in r["parameters"]
        and (not masks or r["parameters"].get("masks") == masks)
        and (task != "denoising" or r["parameters"].get("n_layers", 8) == 8)
    ]
    return {r["seed"]: r["metrics"]["plain"]["pearson_r"] for r in found}


def _vasconcelos(profile) -> Iterator[Finding]:
    for views in (20, 5):
        best = fields.best_records(views, profile)
        each = {
            m: np.array(best[m, "test"]["metrics"]["psnr_db_each"])
            for m, split in best
            if split == "test"
        }

        def paired(a, b):
            return _paired(
                list(each[a] - each[b]) if a in each and b in each else [], " dB", "PSNR"
            )

        yield Finding(
            "vasconcelos",
            "Table 1",
            f"{views} views: MC dropout above Bayes by backprop",
            *paired("dropout", "bbb"),
        )
        for k in (5, 10):
            yield Finding(
                "vasconcelos",
                "Table 1",
                f"{views} views: an ensemble of {k} above one field",
                *paired(f"ensemble-{k}", "dropout"),
            )
        yield Finding(
            "vasconcelos",
            "Section 3",
            f"{views} views: the best field above SIRT and SART (both told x ≥ 0)",
            *_against_classical(best, views, profile),
        )
        yield Finding(
            "vasconcelos",
            "Section 3",
            f"{views} views: sine is the best single activation",
            *_activations(views, profile),
        )
    yield Finding(
        "vasconcelos", "Fig. 4", "the best Ω₀ grows with the number of views", *_omega(profile)
    )


def _against_classical(best, views, profile):
    """Field and classical method that are best on validation phantoms, on test phantoms; the latter
    clipped to [0, 1].
    """
    rows = [
        r
        for r in store.records(experiment="baseline", task="inr_ct", profile=profile)
        if {"n_views": views, "crime": False, "constraint": "nonnegative", "image_size": 64}.items()
        <= r["parameters"].items()
    ]
    valued = {(r["method"], r["parameters"]["split"]): r["metrics"] for r in rows}
    rivals = {
        m: v["psnr_clipped_db"]
        for (m, split), v in valued.items()
        if split == "validate" and m in ("sirt", "sart")
    }
    ours = {m: r["metrics"]["psnr_db"] for (m, split), r in best.items() if split == "validate"}
    if not rivals or not ours:
        return _paired([], " dB", "PSNR")
    field, rival = max(ours, key=ours.get), max(rivals, key=rivals.get)
    d = np.array(best[field, "test"]["metrics"]["psnr_db_each"]) - np.array(
        valued[rival, "test"]["psnr_clipped_db_images"]
    )
    return _paired(list(d), " dB", f"PSNR, {field} minus {rival.upper()}")


def _activations(views, profile):
    """By the best setting of each activation in the whole sweep; one phantom, no interval."""
    arrays = _swept(views, profile)
    if arrays is None:
        return "not tested", ""
    top = {
        a: float(arrays["psnr_db"][arrays["activation"] == a].max())
        for a in np.unique(arrays["activation"]).tolist()
    }
    order = sorted(top, key=top.get, reverse=True)
    return _word(order[0] == "sine"), ", ".join(
        f"{a} {top[a]:.1f}" for a in order
    ) + " dB on one phantom"


def _omega(profile):
    """By the median over the grid's first rung, of each activation."""
    both = {views: _swept(views, profile) for views in (5, 20)}
    if None in both.values():
        return "not tested", ""
    best = {}
    for views, arrays in both.items():
        first = arrays["rung"] == 0
        for a in np.unique(arrays["activation"][first]).tolist():
            these = first & (arrays["activation"] == a)
            at = {
                w: arrays["psnr_db"][these & (arrays["omega0"] == w)]
                for w in np.unique(arrays["omega0"][these]).tolist()
            }
            level = {w: float(np.median(values)) for w, values in at.items()}
            best.setdefault(a, {})[views] = max(level, key=level.get)
    moves = {a: w for a, w in best.items() if len(w) == 2}
    grows = all(w[20] >= w[5] for w in moves.values()) and any(w[20] > w[5] for w in moves.values())
    return _word(grows), "best median over the grid, 5 -> 20 views: " + ", ".join(
        f"{a} {w[5]:g} -> {w[20]:g}" for a, w in moves.items()
    )


def _swept(views, profile) -> Mapping[str, np.ndarray] | None:
    try:
        return store.load_exhibit(f"inr-sweep-dropout-{views}-{profile}")[0]
    except FileNotFoundError:
        return None


def _paired(differences: Sequence[float], unit: str, what: str) -> tuple[str, str]:
    """holds or differs where the 95 % Student interval of the mean difference leaves out 0."""
    if not len(differences):
        return "not tested", ""
    d = metrics.mean_ci(differences)
    text = f"{what} {d.mean:+.2f}{unit}"
    if np.isnan(d.low):
        return _word(d.mean > 0), text + ", one training"
    word = "holds" if d.low > 0 else "differs" if d.high < 0 else "not shown"
    return word, f"{text} [{d.low:+.2f}, {d.high:+.2f}], n = {len(differences)}"


def _word(holds: bool | None) -> str:
    return "not tested" if holds is None else "holds" if holds else "differs"
