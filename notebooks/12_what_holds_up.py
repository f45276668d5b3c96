# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What holds up
#
# **What you will see**
# - The three papers on one page: every statement that can be decided and every number of their tables, beside ours, with a verdict.
# - All networks on one plane, how accurate against how stable: stable but blurred is not a pass.
# - Which alarm rang for which failure, and what is left of it when the attacker knows the alarm.
#
# Nothing is computed here: every entry is read from the records that the other chapters and their commands have left.
#
# **Needs** nothing; each line links back to its chapter by its name. Measured minutes and memory: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke and standard read the shipped records; paper: those of a run at the papers' scale
seed = 0  # nothing is drawn here

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In)

# %%
from collections import Counter

from IPython.display import Markdown

from instab_utils import figures, report, stability, store, training
from instab_utils.report import findings, ledger
from instab_utils.stability import verdicts

claim = report.claims(profile)
recorded = "paper" if profile == "paper" else "standard"
lines, words, stated = ledger.lines(recorded), verdicts.verdicts(recorded), findings.findings(recorded)
TITLES = {name: training.title(name) for name in training.CASES}
found = {}  # test 1 at 2 %, in the image
for name in training.CASES:
    rows = stability.worst.stored("worst_case", name, recorded, target="prediction", domain="image", strength=verdicts.STRENGTH)
    if rows:
        found[name] = rows[-1]["metrics"]
alarms = store.records(experiment="alarm", profile=recorded)
used = {line.device for line in lines if line.device}
print(f"{len(lines)} numbers and {len(stated)} statements of three papers, {len(words)} verdicts of ours, from records at profile "
      f"{recorded}, made on {', '.join(sorted(used)) or 'nothing yet'}")

# %% [markdown]
# ## In five minutes
#
# **Antun et al. (2020)** take six networks and ask three questions: does a tiny, worst-case change of the image ruin the
# reconstruction; does a small detail survive; does more data help? Here all of them, ours and where they exist the published weights, and
# the same questions to total variation (TV) on the same data.

# %% tags=["hide-input"]
TESTS = {"worst": "tiny worst case", "details": "small details", "samples": "more samples"}


def cell(v):
    if v is None:
        return "–"
    mark = {True: " ✓", False: f" ≠ {v.paper}", None: ""}[v.agrees]
    return f"{v.word}{'' if v.sure else ' (?)'}{mark}"


by_name = {(v.name, v.test): v for v in words}
figures.table(
    [{"network": TITLES[name], **{f"{TESTS[test]}": cell(by_name.get((name, test))) for test in TESTS},
      **{f"TV, {TESTS[test]}": by_name[name, test].stable_word if (name, test) in by_name else "–" for test in TESTS}}
     for name in training.CASES if any((name, test) in by_name for test in TESTS)],
    caption="Verdicts. ✓: as the paper says; ≠: the paper says otherwise; no mark: the paper does not say; (?): the interval holds 0")

# %% tags=["hide-input"]
for test, rule in verdicts.RULES.items():
    print(f"{TESTS[test]}: {rule}.")

# %% tags=["hide-input"]
agree = Counter((v.test, v.agrees) for v in words)
for test, label in TESTS.items():
    asked = agree[test, True] + agree[test, False]
    print(f"{label}: {agree[test, True]} of {asked} of the paper's verdicts are ours, too")

# %% [markdown]
# **What to take home**, in sentences that the records write:

# %% tags=["hide-input"]
def named(test, word):
    names = [TITLES[v.name] for v in words if v.test == test and v.word == word and v.name not in training.cases.SOLVERS]
    return f"{len(names)} ({', '.join(names)})" if names else "none"


lost = stability.worst.lost_db
networks = {name: m for name, m in found.items() if name not in training.cases.SOLVERS}
tv_worst = {name: max(lost(m, "stable_own_"), lost(m, "stable_")) for name, m in networks.items()}
post = [name for name in ("ell-50", "med-50") if name in found]
cheap = [name for name, m in networks.items() if lost(m) < 1 and m["psnr_clean_db"] < m["psnr_stable_clean_db"]]


def best_auroc(failure, null):
    """Of all alarms that are null, or are not, how well the best tells this failure of a network from clean images, by task."""
    fits = [r for r in alarms if (r["parameters"]["failure"], r["method"].startswith("null")) == (failure, null)]
    return {task: max(r["metrics"]["image_auroc"] for r in fits if r["task"] == task) for task in ledger.TASKS}


best = {null: best_auroc("worst case", null) for null in (False, True)}
in_theirs = " and ".join(f"{lost(found[name]):.1f} dB" for name in training.cases.SOLVERS if name in found)
gains = ", ".join(f"{found[name]['front_end_amplification']:.0f} times ({TITLES[name]}: {found[name]['amplification']:.0f})"
                  for name in post)
told_apart = ", ".join(f"{best[False][task]:.2f} ({title}; best null alarm {best[True][task]:.2f})" for task, title in ledger.TASKS.items())
take_home = [
    f"**Tiny worst cases are real, and not universal.** A change of 2 %, the worst that was found, costs 3 dB or more in "
    f"{named('worst', 'unstable')} of {len(networks)} networks. TV loses at most {max(tv_worst.values()):.1f} dB, to the network's worst "
    f"change or its own; shearlets lose {in_theirs} to their own.",
    f"**In CT much of it is the front end.** Filtered back-projection alone amplifies the same change {gains}.",
    f"**Stable is not accurate.** {', '.join(TITLES[name] for name in cheap)} lose less than 1 dB, and are worse than TV to begin with.",
    f"**Details survive by size and contrast.** Suits of 30 % are preserved by {named('details', 'preserves')}, blurred by "
    f"{named('details', 'blurs')}, erased by {named('details', 'erases')}.",
    f"**More data can make it worse.** With more samples than in training, {named('samples', 'degrades')} get worse; TV never does.",
    f"**The alarms are not reliable.** Does any tell a network's worst case from a clean image? The best estimator of uncertainty has "
    f"AUROC {told_apart}; 0.5 is a coin.",
]
display(Markdown("\n".join(f"{k}. {sentence}" for k, sentence in enumerate(take_home, 1))))

# %% [markdown]
# **Oala et al. (2021)** offer interval networks as an alarm that finds such failures, against dropout and a network that predicts its own variance.
# **Vasconcelos et al. (2021)** fit one field to one scan and ask how certain it is.
#
# What the three say in words, and what our data say to it: *holds* and *differs* where the 95 % interval leaves no doubt (a single number where
# there is no interval), *not shown* where it does.

# %% tags=["hide-input"]
told = Counter((f.paper, f.verdict) for f in stated)
figures.bars(list(ledger.PAPERS.values()), {v: [told[p, v] for p in ledger.PAPERS] for v in findings.VERDICTS},
             y_label="statements", title="Statements, by paper and verdict",
             alt="Number of statements of each paper that hold, are not shown, differ or are not tested in our records.")

# %% [markdown]
# Two of them also print tables; each of their numbers has a line below. How many of ours agree depends on the quantity:

# %% tags=["hide-input"]
UNITS = {"r": "correlation", "dB": "PSNR", "NLL": "log-likelihood", "ECE": "calibration error"}
count = Counter((line.paper, line.unit, line.verdict) for line in lines)
groups = [(p, u) for p in ledger.PAPERS for u in UNITS if any(count[p, u, v] for v in ledger.VERDICTS)]
figures.bars([f"{ledger.PAPERS[p].split(' et')[0].split(',')[0]}: {UNITS[u]}" for p, u in groups],
             {v: [count[p, u, v] for p, u in groups] for v in ledger.VERDICTS}, y_label="published numbers",
             title="Published numbers, by quantity and verdict",
             alt="Number of published values that are reproduced, near, different or not tested, by paper and quantity.")

# %% tags=["hide-input"]
print("A number counts as reproduced up to " + ", ".join(f"{t:g} ({UNITS[u]})" for u, t in ledger.TOLERANCE.items())
      + " from ours; as near up to three times as much, or where it lies in our 95 % interval.")

# %% [markdown]
# ## Accurate and stable at once
#
# To the right: better than TV on the same clean data. Upward: more decibels lost to the worst perturbation of
# 2 % that was found (a lower bound, for every method; for TV the larger loss of two, to its own worst change, found through 60 iterations, and to the network's). A network that is right of 0 and below TV's line is better *and* no less stable. Left of 0, stability is cheap:
# the answer "always grey" loses nothing.

# %% tags=["hide-input"]
plane = {"networks": {}, "TV, the worst of both": {}, "linear front end": {}}
for name, m in found.items():
    over = m["psnr_stable_clean_db"]
    plane["networks"][TITLES[name]] = (m["psnr_clean_db"] - over, lost(m))
    plane["TV, the worst of both"][f"TV, {TITLES[name]}"] = (0.0, max(lost(m, "stable_own_"), lost(m, "stable_")))
    plane["linear front end"][f"A⁺, {TITLES[name]}"] = (m["psnr_front_end_clean_db"] - over, lost(m, "front_end_"))
shown = {group: {(label if group == "networks" else " " * k): xy for k, (label, xy) in enumerate(points.items())}
         for group, points in plane.items()}
figures.scatter(shown, x_label="PSNR above TV on clean data (dB)", y_label="PSNR lost to 2 % of worst-case perturbation (dB)",
                title="Accuracy against stability",
                alt="Each network by its PSNR relative to total variation and by what it loses to its worst perturbation of two per cent; "
                    "total variation under its own worst case and the linear front ends beside them.")

# %%
figures.table(
    [{"network": TITLES[name], "clean, dB": m["psnr_clean_db"], "TV": m["psnr_stable_clean_db"], "front end": m["psnr_front_end_clean_db"],
      "lost at 2 %": lost(m), "TV, same data": lost(m, "stable_"),
      "TV, its own worst": lost(m, "stable_own_"), "amplification": m["amplification"],
      "random twin": m["twin_amplification"], "TV's own": m["stable_own_amplification"], "front end ": m["front_end_amplification"]}
     for name, m in found.items()], digits=3, caption="The numbers behind it: PSNR, decibels lost, amplification")

# %% [markdown]
# ## Which alarm rings for which failure?
#
# Every alarm of this book that applies, on failures of all three tests: a worst-case perturbation, details that no training had,
# another wedge or fewer views. For fields ([chapter 10](10_one_scan_one_field)) the worst case is one of the fit; its control is a random twin of the same norm.
#
# - *Follows the error*: correlation of the alarm's map with the true error after the failure, what an alarm is for.
# - *Tells failed from clean*: area under the ROC curve of its mean over the image; ½ is a coin.
# - *Rings*: share of images above the 95 % quantile of clean validation images; the last column is the same for clean test images, its false
#   alarms. Eight validation images (five scans of fields) set the threshold, so that 5 % is not what one gets.
#
# Few images make these tables coarse, as their own control shows: an alarm of pure noise (*null: random*).
#
# The *null* alarms know nothing of uncertainty: plain operations on the image.

# %% tags=["hide-input"]
TASKS = {**ledger.TASKS, "ct_field": "one field for one scan, CT with 20 views"}
ALARMS = {**ledger.DETECTORS, "mcd": "MC dropout", "de-5": "ensemble of 5", "bbb": "Bayes by backprop"}


def label(r):
    about = r["parameters"]
    amount = {"other wedge": f"{about['amount']:g}°", "fewer views": f"{about['amount']:g}"}
    share = f"{100 * about['amount']:g} %"
    return f"{about['failure']}, {amount.get(about['failure'], share)}"


def method(r):
    layers = r["parameters"].get("n_layers")
    name = ALARMS.get(r["method"], r["method"].replace("null-", "null: ").replace("-", " "))
    return name + (f", {layers} layers" if layers else "")


KEYS = {"corr_error": "follows the error (correlation)", "image_auroc": "tells failed from clean (AUROC)",
        "rings": "rings, share of images"}
for task in dict.fromkeys(r["task"] for r in alarms):
    for key, what in KEYS.items():
        table = {}
        for r in (r for r in alarms if r["task"] == task):
            row = table.setdefault(method(r), {"alarm": method(r)})
            row[label(r)] = (r["metrics"] | r["metrics"]["failed"])[key]
        if key == "rings":
            for r in (r for r in alarms if r["task"] == task):
                table[method(r)]["clean"] = r["metrics"]["clean"]["rings"]
        n = min(r["metrics"]["n_images"] for r in alarms if r["task"] == task)
        coin = f"; a coin has ½ ± {((2 * n + 1) / (12 * n * n)) ** 0.5:.2f}" if key == "image_auroc" else ""
        ordered = sorted(table.values(), key=lambda row: row["alarm"].startswith("null"))
        display(figures.table(ordered, digits=2, caption=f"{TASKS[task]}, {n} images: {what}{coin}"))

# %% tags=["hide-input"]
fields = {(method(r), r["parameters"]["failure"]): r["metrics"] for r in alarms if r["task"] == "ct_field"}
figures.table(
    [{"field": name, "failure": failure, "clean, dB": m["clean"]["psnr_db"], "failed": m["failed"]["psnr_db"], "TV, clean": m["tv"]["psnr_clean_db"],
      "TV, failed": m["tv"]["psnr_db"], "amplification": m["failed"].get("amplification"), "TV's, same r": m["tv"].get("amplification")}
     for (name, failure), m in fields.items()], digits=3, caption="Fields and TV before and after: PSNR, mean over 5 phantoms")

# %% [markdown]
# And an attacker who knows the alarm: the same patch to be drawn, but the alarm's map is to stay as it was. *Target left*: how much of the way to the forged
# image is still missing, 0 where the forgery is perfect; if it grows, the alarm costs the attacker something.

# %% tags=["hide-input"]
adaptive = {(r["task"], method(r)): r["metrics"] for r in store.records(experiment="adaptive", profile=recorded)}
if adaptive:
    display(figures.table(
        [{"task": TASKS[task], "alarm": name, "target left, naive": m["naive"]["target_left"], "adaptive": m["adaptive"]["target_left"],
          "AUROC, naive": m["naive"]["auroc"], "AUROC, adaptive": m["adaptive"]["auroc"],
          "r, naive": m["naive"]["pearson_r"], "r, adaptive": m["adaptive"]["pearson_r"]}
         for (task, name), m in sorted(adaptive.items())], digits=2,
        caption="Naive and adaptive attack: what is left of the forgery, and of the alarm (against the forged patch; against the change)"))
    for task, title in ledger.TASKS.items():
        of_task = [m for (t, name), m in adaptive.items() if t == task and not name.startswith("null")]
        kept = [(1 - m["adaptive"]["target_left"]) / (1 - m["naive"]["target_left"]) for m in of_task]
        low, high = 100 * (1 - max(kept)), 100 * (1 - min(kept))
        print(f"{title}: to keep an estimator quiet the attacker gives up {low:.0f} to {high:.0f} % of what the naive attack "
              f"reaches; the map still finds the patch with AUROC {min(m['adaptive']['auroc'] for m in of_task):.2f} or more")

# %% [markdown]
# ## Every statement

# %% tags=["hide-input"]
for paper, title in ledger.PAPERS.items():
    display(figures.table(
        [{"statement": f.says, "": f.verdict, "evidence": f.evidence, "where": f.where.replace(" ", "\u00a0")}
         for f in stated if f.paper == paper],
        caption=title))

# %% [markdown]
# ## Every number
#
# Ours with 95 % intervals, over trainings (Oala et al.) or phantoms (Vasconcelos et al.).

# %% tags=["hide-input"]
def rows(chosen):
    for line in chosen:
        ours = "–" if line.ours is None else f"{line.ours:.3g}" + (f" [{line.ci[0]:.3g}, {line.ci[1]:.3g}]" if line.ci else "")
        yield {"": line.what, "paper": line.theirs, "ours": ours, "over": line.over, "verdict": line.verdict}


GROUPS = {"Oala et al., Table 1: Pearson correlation": lambda x: x.paper == "oala",
          "Vasconcelos et al., Table 1: classical methods, PSNR in dB": lambda x: x.paper == "vasconcelos" and ":" not in x.what,
          "Vasconcelos et al., Table 1: fields, 20 views": lambda x: ":" in x.what and x.what.startswith("20"),
          "Vasconcelos et al., Table 1: fields, 5 views": lambda x: ":" in x.what and x.what.startswith("5 ")}
for caption, belongs in GROUPS.items():
    chosen = [line for line in lines if belongs(line)]
    display(figures.table(rows(chosen), caption=caption, digits=4))
    print("what is different here: " + "; ".join(dict.fromkeys(line.why for line in chosen if line.why)))

# %% [markdown]
# ## Claims

# %%
claim("every published number has a line of its own, in one of the tables",
      all(sum(belongs(line) for belongs in GROUPS.values()) == 1 for line in lines), at_least="smoke")
claim("every network of this book was tested, and the shearlets", len(found) == len(training.CASES), at_least="smoke")
claim("no statement is left without a verdict", not any(f.verdict == "not tested" for f in stated), at_least="smoke")
claim("no network amplifies its worst perturbation less than a random one of the same norm",
      all(m["amplification"] > m["twin_amplification"] for m in found.values()), at_least="smoke")
claim("where a network is unstable, TV loses less than half as much, whoever's worst change it is",
      all(2 * tv_worst[v.name] < lost(found[v.name]) for v in words if v.test == "worst" and v.word == "unstable"), at_least="smoke")
claim("filtered back-projection alone amplifies the worst change of a post-processor more than the post-processor does",
      all(found[name]["front_end_amplification"] > found[name]["amplification"] for name in post), at_least="smoke")
claim("no estimator of uncertainty tells a network's worst case from a clean image better than the best plain image operation",
      all(best[False][task] <= best[True][task] for task in ledger.TASKS), at_least="smoke")

# %% [markdown]
# ## Exercises
#
# **1.** Change the tolerance of a decibel to half of it. How many verdicts change?

# %% tags=["hide-cell"]
before = Counter(line.verdict for line in lines if line.unit == "dB")
ledger.TOLERANCE["dB"] /= 2
after = Counter(line.verdict for line in lines if line.unit == "dB")
ledger.TOLERANCE["dB"] *= 2
assert after["reproduced"] <= before["reproduced"]
print(dict(before), "->", dict(after))

# %% [markdown]
# **2.** A method answers with one fixed image. Where does it lie in the plane?

# %% tags=["hide-cell"]
truth = {"clean": [0.1, 0.9, 0.4], "changed": [0.1, 0.9, 0.4]}  # r changes the measurement, not the patient
answers = dict.fromkeys(truth, [0.5, 0.5, 0.5])  # whatever is measured
errors = {k: sum((a - t) ** 2 for a, t in zip(answers[k], truth[k])) / 3 for k in truth}
assert errors["clean"] == errors["changed"] and errors["clean"] > 0.1  # nothing is lost, below 10 dB all the time
print("At 0 decibels lost, far to the left: perfectly stable and useless. Hence two axes.")

# %% [markdown]
# ## References
#
# {cite:t}`antun2020`, {cite:t}`oala2021`, {cite:t}`vasconcelos2021`.
