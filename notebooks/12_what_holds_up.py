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
# *The three papers at once: every statement by `papers.findings`, every number of their
# tables by `papers.ledger`, Antun et al.'s verdicts by `papers.antun2020.verdicts`.
# What is read here is recomputed by `python -m instab_utils.papers all`.*
#
# **What you will see**
# - The three papers on one page: every statement that can be decided and every number of
#   their tables, beside ours, with a verdict.
# - All networks on one plane, how accurate against how stable: stable but blurred is not a
#   pass.
# - Which alarm rang for which failure, and what is left of it when the attacker knows the
#   alarm.
#
# Nothing is computed here: every entry is read from stored records.
#
# **Needs** nothing. Measured minutes and memory: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke, standard: shipped records; paper: paper scale
seed = 0  # nothing is drawn here

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In)

# %%
from collections import Counter

from IPython.display import Markdown

from instab_utils import figures, report, stability, store, training
from instab_utils.papers import findings, ledger
from instab_utils.papers.antun2020 import verdicts

claim = report.claims(profile)
recorded = "paper" if profile == "paper" else "standard"

# %%
lines, stated = ledger.lines(recorded), findings.findings(recorded)
words = verdicts.verdicts(recorded)
TITLES = {name: training.title(name) for name in training.CASES}
# test 1 at 2 %, in the image
worst = {name: verdicts.worst_case_metrics(name, recorded) for name in TITLES}
found = {name: m for name, m in worst.items() if m}
alarms = store.records(experiment="alarm", profile=recorded)
used = {line.device for line in lines if line.device}
print(f"{len(lines)} numbers and {len(stated)} statements of three papers, "
      f"{len(words)} verdicts of ours, from records at profile {recorded}, "
      f"made on {', '.join(sorted(used)) or 'nothing yet'}")

# %% [markdown]
# ## In five minutes
#
# **Antun et al. (2020)** take six networks and ask three questions: does a tiny, worst-case
# change of the image ruin the reconstruction; does a small detail survive; does more data
# help? Here are all of them, ours and where they exist the published weights, and the same
# questions to total variation (TV) on the same data.

# %% tags=["hide-input"]
TESTS = {"worst": "tiny worst case", "details": "small details",
         "samples": "more samples"}


def cell(v):
    if v is None:
        return "–"
    mark = {True: " ✓", False: f" ≠ {v.paper}", None: ""}[v.agrees]
    return f"{v.word}{'' if v.sure else ' (?)'}{mark}"


by_name = {(v.name, v.test): v for v in words}
verdict_rows = []
for name in training.CASES:
    of_name = {test: by_name.get((name, test)) for test in TESTS}
    if any(of_name.values()):
        ours = {TESTS[test]: cell(v) for test, v in of_name.items()}
        tv = {f"TV, {TESTS[test]}": v.tv_word if v else "–"
              for test, v in of_name.items()}
        verdict_rows.append({"network": TITLES[name], **ours, **tv})
figures.table(
    verdict_rows,
    caption="Verdicts. ✓: as the paper says; ≠: the paper says otherwise; no mark: the "
            "paper does not say; (?): the interval holds 0")

# %% tags=["hide-input"]
for test, rule in stability.verdicts.RULES.items():
    print(f"{TESTS[test]}: {rule}.")

# %% tags=["hide-input"]
agree = Counter((v.test, v.agrees) for v in words)
for test, label in TESTS.items():
    asked = agree[test, True] + agree[test, False]
    print(f"{label}: we reach the paper's verdict for {agree[test, True]} of {asked} "
          "networks")

# %% [markdown]
# **Main findings** (generated from the stored results):

# %% tags=["hide-input"]
SOLVERS = training.cases.SOLVERS


def named(test, word):
    names = [TITLES[v.name] for v in words
             if v.test == test and v.word == word and v.name not in SOLVERS]
    return f"{len(names)} ({', '.join(names)})" if names else "none"


lost = stability.worst_case.lost_db
networks = {name: m for name, m in found.items() if name not in SOLVERS}
tv_worst = {name: max(lost(m["tv_own"]), lost(m["tv"])) for name, m in networks.items()}
post = [name for name in ("ell-50", "med-50") if name in found]
cheap = [name for name, m in networks.items() if lost(m["network"]) < 1
         and m["network"]["psnr_clean_db"] < m["tv"]["psnr_clean_db"]]


def best_auroc(failure, null):
    """Return how well the best alarm tells this failure from clean images, by task."""
    fits = [r for r in alarms if r["parameters"]["failure"] == failure
            and r["method"].startswith("null") == null]
    return {task: max(r["metrics"]["image_auroc"] for r in fits if r["task"] == task)
            for task in ledger.TASKS}


def amplified(name, method):
    return found[name][method]["amplification"]


best = {null: best_auroc("worst case", null) for null in (False, True)}
in_theirs = " and ".join(f"{lost(found[name]['network']):.1f} dB"
                         for name in SOLVERS if name in found)
gains = ", ".join(f"{amplified(name, 'front_end'):.0f} times "
                  f"({TITLES[name]}: {amplified(name, 'network'):.0f})"
                  for name in post)
told_apart = ", ".join(
    f"{best[False][task]:.2f} ({title}; best null alarm {best[True][task]:.2f})"
    for task, title in ledger.TASKS.items())
main_findings = [
    "**Tiny worst cases are real, and not universal.** A change of 2 %, the worst that "
    "was "
    f"found, costs 3 dB or more in {named('worst', 'unstable')} of {len(networks)} "
    "networks. "
    f"TV loses at most {max(tv_worst.values()):.1f} dB, to the network's worst change "
    "or its "
    f"own; shearlets lose {in_theirs} to their own.",
    "**In CT much of it is the front end.** Filtered back-projection alone amplifies "
    "the "
    f"same change {gains}.",
    f"**Stable is not accurate.** {', '.join(TITLES[name] for name in cheap)} lose "
    "less than "
    "1 dB, and are worse than TV to begin with.",
    "**Details survive by size and contrast.** Suits of 30 % are preserved by "
    f"{named('details', 'preserves')}, blurred by {named('details', 'blurs')}, erased "
    "by "
    f"{named('details', 'erases')}.",
    "**More data can make it worse.** With more samples than in training, "
    f"{named('samples', 'degrades')} get worse; TV never does.",
    "**The alarms are not reliable.** Does any tell a network's worst case from a "
    "clean "
    f"image? The best estimator of uncertainty has AUROC {told_apart}; 0.5 is chance "
    "level.",
]
numbered = enumerate(main_findings, 1)
display(Markdown("\n".join(f"{k}. {sentence}" for k, sentence in numbered)))

# %% [markdown]
# **Oala et al. (2021)** offer interval networks as an alarm that finds such failures,
# against dropout and a network that predicts its own variance. **Vasconcelos et al. (2021)**
# fit one field to one scan and ask how certain it is.
#
# Below, what the three say in words, and the verdict of our data. We say *holds* or
# *differs* when the 95 % interval excludes zero, and *not shown* otherwise; single runs,
# marked, have no interval.

# %% tags=["hide-input"]
told = Counter((f.paper, f.verdict) for f in stated)
figures.bars(
    list(ledger.PAPERS.values()),
    {v: [told[p, v] for p in ledger.PAPERS] for v in findings.VERDICTS},
    y_label="statements", title="Statements, by paper and verdict",
    alt="Number of statements of each paper that hold, are not shown, differ or are "
        "not tested in our records.")

# %% [markdown]
# Two of them also print tables; each of their numbers has a line below. How many of ours
# agree depends on the quantity:

# %% tags=["hide-input"]
UNITS = {"r": "correlation", "dB": "PSNR", "NLL": "log-likelihood",
         "ECE": "calibration error"}
count = Counter((line.paper, line.unit, line.verdict) for line in lines)
groups = [(p, u) for p in ledger.PAPERS for u in UNITS
          if any(count[p, u, v] for v in ledger.VERDICTS)]
figures.bars(
    [f"{ledger.PAPERS[p].split(' et')[0].split(',')[0]}: {UNITS[u]}"
     for p, u in groups],
    {v: [count[p, u, v] for p, u in groups] for v in ledger.VERDICTS},
    y_label="published numbers", title="Published numbers, by quantity and verdict",
    alt="Number of published values that are reproduced, near, different or not "
        "tested, by paper and quantity.")

# %% tags=["hide-input"]
tolerances = ", ".join(f"{t:g} ({UNITS[u]})" for u, t in ledger.TOLERANCE.items())
print(f"A number counts as reproduced up to {tolerances} from ours; as near up to "
      "three times as much, or where it lies in our 95 % interval.")

# %% [markdown]
# ## Accurate and stable at once
#
# To the right: better than TV on the same clean data. Upward: more decibels lost to the
# worst perturbation of 2 % that was found (a lower bound, for every method). For TV we plot
# the larger of two losses: to its own worst perturbation (found through 60 unrolled
# iterations) and to the network's. A network that is right of 0 and below TV's line is
# better *and* no less stable. Left of 0, stability is cheap: the answer "always grey" loses
# nothing.

# %% tags=["hide-input"]
plane = {"networks": {}, "TV, the worst of both": {}, "linear front end": {}}
for k, (name, m) in enumerate(found.items()):
    tv_clean = m["tv"]["psnr_clean_db"]
    above = {method: m[method]["psnr_clean_db"] - tv_clean for method in m
             if method in ("network", "front_end")}
    worse = max(lost(m["tv_own"]), lost(m["tv"]))
    plane["networks"][TITLES[name]] = (above["network"], lost(m["network"]))
    plane["TV, the worst of both"][" " * k] = (0.0, worse)
    plane["linear front end"][" " * k] = (above["front_end"], lost(m["front_end"]))
figures.scatter(
    plane, x_label="PSNR above TV on clean data (dB)",
    y_label="PSNR lost to 2 % of worst-case perturbation (dB)",
    title="Accuracy against stability",
    alt="Each network by its PSNR relative to total variation and by what it loses to "
        "its worst perturbation of two per cent; total variation under its own worst "
        "case "
        "and "
        "the linear front ends beside them.")

# %% tags=["hide-input"]
figures.table(
    [{"network": TITLES[name], "clean, dB": m["network"]["psnr_clean_db"],
      "TV": m["tv"]["psnr_clean_db"], "front end": m["front_end"]["psnr_clean_db"],
      "lost at 2 %": lost(m["network"]), "TV, same data": lost(m["tv"]),
      "TV, its own worst": lost(m["tv_own"]),
      "amplification": m["network"]["amplification"],
      "random twin": m["network_random"]["amplification"],
      "TV's own": m["tv_own"]["amplification"],
      "front end ": m["front_end"]["amplification"]} for name, m in found.items()],
    digits=3, caption="The numbers behind it: PSNR, decibels lost, amplification")

# %% [markdown]
# ## Which alarm rings for which failure?
#
# Every alarm of this book that applies, on failures of all three tests: a worst-case
# perturbation, details that no training had, another wedge or fewer views. For fields
# ([chapter 10](10_one_scan_one_field)) the worst case is one of the fit; its control is a
# random twin of the same norm.
#
# - *Follows the error*: correlation of the alarm's map with the true error after the
#   failure, what an alarm is for.
# - *Tells failed from clean*: area under the ROC curve of its mean over the image; 0.5 is
#   chance level.
# - *Rings*: share of images above the 95 % quantile of clean validation images; the last
#   column is the same for clean test images, its false alarms. Eight validation images
#   (five scans of fields) set the threshold, so that the share is not exactly 5 %.
#
# Few images make these tables coarse, as their own control shows: an alarm of pure noise
# (*null: random*). The *null* alarms use no estimate of uncertainty: they are plain
# operations on the image.

# %% tags=["hide-input"]
TASKS = {**ledger.TASKS, "ct_field": "one field for one scan, CT with 20 views"}
ALARMS = {**ledger.DETECTORS, "mcd": "MC dropout", "de-5": "ensemble of 5",
          "bbb": "Bayes by backprop"}
KEYS = {"corr_error": "follows the error (correlation)",
        "image_auroc": "tells failed from clean (AUROC)",
        "rings": "rings, share of images"}


def label(r):
    failure, amount = r["parameters"]["failure"], r["parameters"]["amount"]
    units = {"other wedge": f"{amount:g}°", "fewer views": f"{amount:g}"}
    return f"{failure}, {units.get(failure, f'{100 * amount:g} %')}"


def method(r):
    layers = r["parameters"].get("n_layers")
    plain = r["method"].replace("null-", "null: ").replace("-", " ")
    return ALARMS.get(r["method"], plain) + (f", {layers} layers" if layers else "")


def alarm_table(task, key):
    of_task = [r for r in alarms if r["task"] == task]
    failures = list(dict.fromkeys(r["parameters"]["failure"] for r in of_task))
    of_task.sort(key=lambda r: (failures.index(r["parameters"]["failure"]),
                                -r["parameters"]["amount"]))
    table = {}
    for r in of_task:
        row = table.setdefault(method(r), {"alarm": method(r)})
        row[label(r)] = (r["metrics"] | r["metrics"]["failed"])[key]
    if key == "rings":
        for r in of_task:
            table[method(r)]["clean"] = r["metrics"]["clean"]["rings"]
    n = min(r["metrics"]["n_images"] for r in of_task)
    spread = ((2 * n + 1) / (12 * n * n)) ** 0.5
    chance = f"; chance level is 0.5 ± {spread:.2f}" if key == "image_auroc" else ""
    ordered = sorted(table.values(), key=lambda row: row["alarm"].startswith("null"))
    caption = f"{TASKS[task]}, {n} images: {KEYS[key]}{chance}"
    return figures.table(ordered, digits=2, caption=caption)


for task in dict.fromkeys(r["task"] for r in alarms):
    for key in KEYS:
        display(alarm_table(task, key))

# %% tags=["hide-input"]
fields = {(method(r), r["parameters"]["failure"]): r["metrics"]
          for r in alarms if r["task"] == "ct_field"}
figures.table(
    [{"field": name, "failure": failure, "clean, dB": m["clean"]["psnr_db"],
      "failed": m["failed"]["psnr_db"], "TV, clean": m["tv"]["psnr_clean_db"],
      "TV, failed": m["tv"]["psnr_db"],
      "amplification": m["failed"].get("amplification"),
      "TV's, same r": m["tv"].get("amplification")}
     for (name, failure), m in fields.items()],
    digits=3, caption="Fields and TV before and after: PSNR, mean over 5 phantoms")

# %% [markdown]
# Then an attacker who knows the alarm: the same patch is to be drawn, but the alarm's map is
# to stay as it was. *Target left*: how much of the way to the forged image is still missing,
# 0 where the forgery is perfect; if it grows, the alarm costs the attacker something.

# %% tags=["hide-input"]
adaptive = {(r["task"], method(r)): r["metrics"]
            for r in store.records(experiment="adaptive", profile=recorded)}
COLUMNS = {"target_left": "target left", "auroc": "AUROC", "pearson_r": "r"}
attacked = []
for (task, name), m in sorted(adaptive.items()):
    row = {"task": TASKS[task], "alarm": name}
    for key, head in COLUMNS.items():
        row[f"{head}, naive"] = m["naive"][key]
        head = "" if key == "target_left" else f"{head}, "
        row[f"{head}adaptive"] = m["adaptive"][key]
    attacked.append(row)
if adaptive:
    display(figures.table(
        attacked, digits=2,
        caption="Naive and adaptive attack: what is left of the forgery, and of the "
                "alarm (against the forged patch; against the change)"))

# %% tags=["hide-input"]
for task, title in ledger.TASKS.items() if adaptive else ():
    of_task = [m for (t, name), m in adaptive.items()
               if t == task and not name.startswith("null")]
    reached = [(1 - m["adaptive"]["target_left"]) / (1 - m["naive"]["target_left"])
               for m in of_task]
    low, high = 100 * (1 - max(reached)), 100 * (1 - min(reached))
    least = min(m["adaptive"]["auroc"] for m in of_task)
    print(f"{title}: to keep an estimator quiet the attacker gives up {low:.0f} to "
          f"{high:.0f} % of what the naive attack reaches; the map still finds the "
          "patch with "
          f"AUROC {least:.2f} or more")

# %% [markdown]
# ## Every statement

# %% tags=["hide-input"]
for paper, title in ledger.PAPERS.items():
    display(figures.table(
        [{"statement": f.says, "": f.verdict, "evidence": f.evidence,
          "where": f.where.replace(" ", "\u00a0")} for f in stated if f.paper == paper],
        caption=title))

# %% [markdown]
# ## Every number
#
# Ours with 95 % intervals, over trainings (Oala et al.) or phantoms (Vasconcelos et al.).

# %% tags=["hide-input"]
def group(line):
    if line.paper == "oala":
        return "Oala et al., Table 1: Pearson correlation"
    if ":" not in line.what:
        return "Vasconcelos et al., Table 1: classical methods, PSNR in dB"
    return f"Vasconcelos et al., Table 1: fields, {line.what.split(' ')[0]} views"


def number_row(line):
    ours = "–" if line.ours is None else f"{line.ours:.3g}"
    ours += f" [{line.ci[0]:.3g}, {line.ci[1]:.3g}]" if line.ci else ""
    return {"": line.what, "paper": line.theirs, "ours": ours, "over": line.over,
            "verdict": line.verdict}


GROUPS = ("Oala et al., Table 1: Pearson correlation",
          "Vasconcelos et al., Table 1: classical methods, PSNR in dB",
          "Vasconcelos et al., Table 1: fields, 20 views",
          "Vasconcelos et al., Table 1: fields, 5 views")
for caption in GROUPS:
    chosen = [line for line in lines if group(line) == caption]
    display(figures.table(map(number_row, chosen), caption=caption, digits=4))
    reasons = dict.fromkeys(line.why for line in chosen if line.why)
    print("what is different here: " + "; ".join(reasons))

# %% [markdown]
# ## Claims

# %%
claim("every published number has a line of its own, in one of the tables",
      all(group(line) in GROUPS for line in lines), at_least="smoke")
claim("every network of this book was tested, and the shearlets",
      len(found) == len(training.CASES), at_least="smoke")
claim("no statement is left without a verdict",
      not any(f.verdict == "not tested" for f in stated), at_least="smoke")
claim("no network amplifies its worst perturbation less than a random one of the same "
      "norm", all(amplified(name, "network") > amplified(name, "network_random")
                  for name in found), at_least="smoke")

# %%
unstable = [v.name for v in words if v.test == "worst" and v.word == "unstable"]
claim("where a network is unstable, TV loses less than half as much, whoever's worst "
      "change it is",
      all(2 * tv_worst[name] < lost(found[name]["network"]) for name in unstable),
      at_least="smoke")
claim("filtered back-projection alone amplifies the worst change of a post-processor "
      "more than the post-processor does",
      all(amplified(name, "front_end") > amplified(name, "network") for name in post),
      at_least="smoke")
claim("no estimator of uncertainty tells a network's worst case from a clean image "
      "better than the best plain image operation",
      all(best[False][task] <= best[True][task] for task in ledger.TASKS),
      at_least="smoke")

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
# r changes the measurement, not the patient
truth = {"clean": [0.1, 0.9, 0.4], "changed": [0.1, 0.9, 0.4]}
answers = dict.fromkeys(truth, [0.5, 0.5, 0.5])  # whatever is measured
errors = {k: sum((a - t) ** 2 for a, t in zip(answers[k], truth[k])) / 3 for k in truth}
# nothing is lost, below 10 dB all the time
assert errors["clean"] == errors["changed"] and errors["clean"] > 0.1
print("At 0 decibels lost, far to the left: perfectly stable and useless. "
      "Hence two axes.")

# %% [markdown]
# ## References
#
# {cite:t}`antun2020`, {cite:t}`oala2021`, {cite:t}`vasconcelos2021`.
