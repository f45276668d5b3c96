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
# # Uncertainty as an alarm
#
# **What you will see**
# - Two ways to make a network draw what is not there, and the maps that are meant to give it away: interval
#   widths, the variance of dropout, a variance that the network itself predicts.
# - Table 1 of the paper that proposed them as alarms, repeated on public data with three trainings each.
# - The question that the paper did not ask: would a detector that knows *nothing* of uncertainty have done as well?
#
# **Needs** [interval networks](05_interval_neural_networks), [dropout and mean-variance](06_dropout_and_mean_variance).
# Measured minutes and memory: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke: proves that it runs · standard: the published page · paper: as published, on a GPU
seed = 0  # training seed of the networks that run live on this page; the tables have all
task = "all"  # all, denoising or ct_limited
n_shown = 3  # images in the sliders

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In, choices={"task": ("all", "denoising", "ct_limited"), "seed": (0, 1, 2)})

# %%
import statistics

import torch

from instab_utils import data, figures, metrics, report, widgets
from instab_utils.uncertainty import detection, study, verdicts

budget = profiles.get(profile)
claim = report.claims(profile)
standard = budget.at_least("standard")
tasks = list(study.TASKS) if task == "all" else [task]
seeds = (0, 1, 2) if standard else (seed,)
TITLES = {"denoising": "Denoising (DnCNN)", "ct_limited": "Limited-angle CT (U-Net)"}
NAMES = {"interval": "interval network", "dropout": "MC dropout", "probout": "mean-variance", "null-gradient": "gradient of the input",
         "null-residual": "|f(x) - x|", "null-residual-mean": "|f(x) - x|, 7 x 7 mean", "null-input": "the input itself",
         "null-variance": "7 x 7 variance of f(x)", "null-random": "random map"}
METHODS = ("interval", "dropout", "probout")
print(f"profile {profile}, data: {data.situation()}")

# %% [markdown]
# ## Two ways to go wrong
#
# A post-processing network $f$ takes in a degraded image $\tilde x$ (noisy; or the filtered back-projection of a scan with a
# missing wedge) and gives a reconstruction $f(\tilde x)$. Oala et al. break it in two ways and ask for an alarm.
#
# **AdvDetect.** An attacker looks for an input $x'$ close to $\tilde x$ whose reconstruction shows a *chosen* fault $t$:
#
# $$ \min_{x' \in [0, 1]^n} \; \| f(x') - t \|^2 + \lambda \| x' - \tilde x \|^2 . $$
#
# For denoising, $t$ is the reconstruction with a square of noise in it; for CT one with a square made darker.
#
# **ArtDetect.** The input is unlike anything in training: salt-and-pepper noise in one half of a photograph; the silhouette of
# a dove in a patient.
#
# **The alarm** is the change of an uncertainty map, $a = |u(x') - u(\tilde x)|$. It is scored by its correlation with what
# happened: with $|f(x') - f(\tilde x)|$ in AdvDetect, with the changed region in ArtDetect.

# %%
def live(task):
    """Test images, attacked and shifted; every detector's predictions for the clean and for the changed ones."""
    networks, found = study.detectors(task, profile, seed, n_passes=min(study.SIZES[profile].n_passes[task], 16))
    group = study.images(task, profile)[-1]  # of CT the phantoms: patients' slices may not be handed on
    group = group._replace(x_in=group.x_in[:n_shown], x=group.x[:n_shown], originals=group.originals[:n_shown])
    changes = {"adv_detect": study.attack(task, networks["base"], group, profile), "art_detect": next(study.shift(task, group))}
    shown = {d.method: d.before for d in found if d.about.get("masks") != "fresh" and d.about.get("n_layers") != 5}
    inputs = {"clean": group.x_in, **{experiment: change.x_in for experiment, change in changes.items()}}
    return group, changes, {name: {k: d.predict(x) for k, x in inputs.items()} for name, d in shown.items()}


cases = {t: live(t) for t in tasks}
for t, (group, *_) in cases.items():
    print(f"{TITLES[t]}: {len(group.x)} of {group.name}, {group.x.shape[-1]} x {group.x.shape[-1]}")

# %% [markdown]
# ## What the alarms look like
#
# Drag the slider through the images. First row: the input, the changed input, the reconstruction before, and what the attacker
# wanted it to become (AdvDetect) or the region that was changed (ArtDetect). Then the reconstruction after, what really happened to it,
# and the alarms, each as bright as its own largest values; in the last row those of detectors that have no
# notion of uncertainty. A good alarm lights up where the sixth picture does (AdvDetect) or within the changed region (ArtDetect), and
# nowhere else.

# %% tags=["hide-input"]
def bright(u):
    return (u / u.flatten().quantile(0.995).clamp_min(1e-12)).clamp(0, 1)


def alarm_panels(task, experiment, k):
    group, changes, predicted = cases[task]
    change, one = changes[experiment], slice(k, k + 1)
    a, b = (predicted["interval"][key].mean[one] for key in ("clean", experiment))  # the reconstruction: of the frozen network
    attacked = experiment == "adv_detect"
    pictures = [group.x_in[one], change.x_in[one], a, (change.target if attacked else change.mask.float())[one], b, bright((b - a).abs())]
    titles = ["input", "changed input", "f(input)", "target of the attack" if attacked else "changed region", "f(changed)", "change of f"]
    notes = ["", f"‖x' - x‖ / ‖x‖ = {metrics.relative_error(change.x_in[one], group.x_in[one]).item():.3f}", *[""] * 4]
    happened = (b - a).abs() if attacked else change.mask[one].float()
    for name in (*METHODS, "null-residual-mean", "null-input", "null-gradient"):
        u = (predicted[name][experiment].spread[one] - predicted[name]["clean"].spread[one]).abs()
        pictures, titles = [*pictures, bright(u)], [*titles, NAMES[name]]
        notes.append(f"r = {metrics.pearson(u, happened).item():.2f}")
    return figures.panels(pictures, titles, captions=notes, window=(0, 1), columns=4,
                          alt=f"{TITLES[task]}, image {k + 1}: input and changed input, reconstructions, what changed, and the "
                              "alarm of each detector with its correlation.")


for t in tasks:
    print(f"{TITLES[t]}, AdvDetect (Figure 1 of the paper)")
    display(widgets.explore([alarm_panels(t, "adv_detect", k) for k in range(len(cases[t][0].x))],
                            [str(k + 1) for k in range(len(cases[t][0].x))], name="image"))

# %%
for t in tasks:
    print(f"{TITLES[t]}, ArtDetect (Figure 2 of the paper)")
    display(widgets.explore([alarm_panels(t, "art_detect", k) for k in range(len(cases[t][0].x))],
                            [str(k + 1) for k in range(len(cases[t][0].x))], name="image"))

# %% [markdown]
# ## The paper's Table 1, beside ours
#
# Pearson correlation, mean and standard deviation over three trainings, as in the paper. Its data are not ours: for CT it has
# 330 slices of patients that are handed out on application, we have 4 public ones and phantoms; its DnCNN has 17 layers of 128
# channels, ours 10 of 32, its U-Net 31 million weights, ours one; and a scan of 512 pixels is one of 128 here. So compare *orders*, not digits. MC dropout
# is listed twice, since the paper does not say whether the masks before and after the change were the same.

# %% tags=["hide-input"]
records = {t: [r for s in seeds for r in study.rows(t, s, profile)] for t in tasks}
made = {(r["created"][:10], r["device"], r["profile"]) for t in tasks for r in records[t]}
print("records made", "; ".join(f"{day} on {device} at {p}" for day, device, p in sorted(made)))


def plain(t, method, **about):
    """The paper's form of an alarm: width or variance, not averaged; interval networks with the most layers."""
    found = [f for f in verdicts.forms(records[t]) if f.method == method and f.spread == "variance" and not f.suffix
             and all(dict(f.about).get(k) == v for k, v in about.items())]
    return max(found, key=lambda f: dict(f.about).get("n_layers", 0))


def pm(pair, digits=2):
    mean, spread = pair
    return f"{mean:.{digits}f}" if spread is None else f"{mean:.{digits}f} ± {spread:.{digits}f}"


def columns(t):
    """Heads of a table's columns, and which records are meant."""
    found = {}
    for r in records[t]:
        p = r["parameters"]
        head = {"patch": "Adv", "dove": "Art"}.get(p["change"], f"Art {p['amount']:g}")
        where = "" if t == "denoising" else ", phantoms" if p["images"] == study.PHANTOMS else ", slices"
        found[head + where] = dict(experiment=r["experiment"], images=p["images"], amount=p["amount"])
    return dict(sorted(found.items()))


LISTED = {"interval network": ("interval", {}), "interval network, 5 layers": ("interval", {"n_layers": 5}),
          "MC dropout, fresh masks": ("dropout", {"masks": "fresh"}), "MC dropout, the same masks": ("dropout", {"masks": "shared"}),
          "mean-variance": ("probout", {})}
for t in tasks:
    rows = []
    for label, (method, about) in LISTED.items():
        if "n_layers" in about and (t != "denoising" or not standard):
            continue  # fitted for DnCNN only
        paper = {f"paper, {head}": pm(study.PAPER[t, e][method]) for head, e in (("Adv", "adv_detect"), ("Art", "art_detect"))}
        ours = {head: pm(verdicts.over_seeds(records[t], plain(t, method, **about), "pearson_r", **where))
                for head, where in columns(t).items()}
        rows.append({"": label, **paper, **ours})
    display(figures.table(rows, caption=f"{TITLES[t]}: correlation of the alarm, mean ± deviation of {len(seeds)} trainings; ours on "
                                        + " and ".join(dict.fromkeys(where["images"] for where in columns(t).values()))))

# %% [markdown]
# ## Better than knowing nothing?
#
# A score has no meaning without a yardstick. So here are *null detectors*: the same protocol, with a map $u$ that holds no
# uncertainty at all. $|f(\tilde x) - \tilde x|$ is what the network has changed; the input itself makes the alarm the plain
# difference $|x' - \tilde x|$, which anybody who owns both inputs can take without a network. Smoothing helps against a
# reference that is a whole region, so *every* alarm may be averaged over 7 x 7 pixels.
#
# Each method takes its best form, of masks, variance or standard deviation, averaged or not: chosen by the area under the ROC curve
# (AUROC) on **validation** images. Then the test images are looked at once. AUROC asks: of a pixel inside the changed region
# and one outside, how often has the inside one the higher alarm? One half is a coin.

# %%
validation = {t: study.rows(t, seed, profile, "validate") for t in tasks}
chosen = {t: verdicts.choose(validation[t], "auroc") for t in tasks}
null = {t: verdicts.best_null(chosen[t]) for t in tasks}


def signed(gain):
    return f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"


for t in tasks:
    display(figures.table(
        [{"": NAMES[method], "form": str(form).partition(", ")[2] or "plain", **{f"AUROC {head}": verdicts.over_seeds(
            records[t], form, "auroc", **where)[0] for head, where in columns(t).items()},
          **{f"r {head}": verdicts.over_seeds(records[t], form, "pearson_r", **where)[0] for head, where in columns(t).items()}}
         for method, (form, _) in sorted(chosen[t].items(), key=lambda item: -item[1][1])],
        digits=2, caption=f"{TITLES[t]}: each method in the form that was best on validation images, in that order; test images, "
                          f"mean of {len(seeds)} trainings"))

# %% [markdown]
# Is a method ahead of the best null detector? Image by image, both about the same changes:

# %%
ahead = {(t, m): {head: verdicts.gain(records[t], chosen[t][m][0], null[t], "auroc", **where) for head, where in columns(t).items()}
         for t in tasks for m in METHODS}
for t in tasks:
    display(figures.table([{"": NAMES[m], **{head: signed(gain) for head, gain in ahead[t, m].items()}} for m in METHODS],
                          caption=f"{TITLES[t]}: AUROC minus that of the best null detector, “{NAMES[null[t].method]}”, with "
                                  "95 % bootstrap intervals over images"))

# %% [markdown]
# With the clean twin in hand nearly everything finds the region, the plain difference of the two inputs first of all: where the inputs agree, far from
# the change, every deterministic map agrees, too. Only *fresh* dropout masks, which make maps differ everywhere, do worse. So
# this protocol can rank maps by how well they follow the *size* of the damage; it cannot show that a map notices anything.
#
# ## Without the clean twin
#
# Nobody who needs an alarm has the clean twin. In use there is one input $x'$ and one map $u(x')$, and what such maps are like on
# clean validation images: a limit that one pixel in twenty exceeds there. An alarm can be *one-sided* ($u$ is large) or *two-sided* ($u$ is far
# from its usual value): a residual that is suddenly small is as suspicious as one that is large. The form is chosen on validation images again.

# %%
lone = {t: verdicts.choose(validation[t], "auroc_lone") for t in tasks}
lone_null = {t: verdicts.best_null(lone[t]) for t in tasks}
for t in tasks:
    listed = []
    for method, (form, _) in sorted(lone[t].items(), key=lambda item: -item[1][1]):
        row = {"": NAMES[method], "form": str(form).partition(", ")[2] or "plain"}
        for head, where in columns(t).items():
            row[f"AUROC {head}"] = verdicts.over_seeds(records[t], form, "auroc_lone", **where)[0]
            row[f"found {head}, %"] = 100 * verdicts.over_seeds(records[t], form, "detection_rate", **where)[0]
        first = next(iter(columns(t).values()))
        row["false alarms, clean, %"] = 100 * verdicts.over_seeds(records[t], form, "false_alarm_rate", **first)[0]
        listed.append(row)
    display(figures.table(listed, digits=2, caption=f"{TITLES[t]}: from u(x') alone, in the order of the validation images. “found”: "
                                                    "share of the changed region beyond the limit"))

# %%
lone_ahead = {(t, m): {head: verdicts.gain(records[t], lone[t][m][0], lone_null[t], "auroc_lone", **where)
                       for head, where in columns(t).items()} for t in tasks for m in METHODS}
for t in tasks:
    display(figures.table([{"": NAMES[m], **{head: signed(gain) for head, gain in lone_ahead[t, m].items()}} for m in METHODS],
                          caption=f"{TITLES[t]}, without the clean twin: AUROC minus that of the best null detector, "
                                  f"“{NAMES[lone_null[t].method]}”, with 95 % bootstrap intervals over images"))

# %% [markdown]
# ## What moves the numbers
#
# **Sampling.** Two draws of MC dropout differ even if nothing else does. With *fresh* masks before and after the change, the alarm is
# mostly that difference, and it gets better only as more passes are averaged. With the *same* masks it is gone. **The price of
# width** $\beta$ changes what an interval covers by orders of magnitude and its correlation hardly: Pearson has no scale. All on
# validation images, seed 0.

# %%
if "denoising" in tasks:
    swept = validation["denoising"] + study.sweep_rows(profile)
    passes = sorted({dict(f.about)["n_passes"] for f in verdicts.forms(swept) if f.method == "dropout"})
    by_passes = {}
    for masks in ("shared", "fresh"):
        for head, where in (("Adv", dict(experiment="adv_detect")), ("Art", dict(experiment="art_detect", amount=0.05))):
            by_passes[f"{head}, {masks} masks"] = [
                verdicts.select(swept, method="dropout", masks=masks, n_passes=n, spread="variance", **where)[0]["metrics"]["pearson_r"]
                for n in passes]
    display(figures.curves(passes, by_passes, x_label="passes T", y_label="correlation of the alarm", log_x=True,
                           title="MC dropout: how many passes, which masks",
                           alt="Correlation of the dropout alarm against the number of passes: flat for the same masks, rising from "
                               "near zero for fresh ones."))

# %%
if "denoising" in tasks:
    listed = []
    for form in [f for f in verdicts.forms(swept) if f.method == "interval" and not f.suffix]:
        [adv] = verdicts.select(swept, form, experiment="adv_detect")
        [art] = verdicts.select(swept, form, experiment="art_detect", amount=0.05)
        adv, art, about = adv["metrics"], art["metrics"], dict(form.about)
        listed.append({"layers": about["n_layers"], "beta": about.get("beta", 1e-3), "coverage": adv["coverage"],
                       "mean width": adv["width"], "width ~ |error|": adv["corr_error"],
                       "r Adv": adv["pearson_r"], "r Art": art["pearson_r"],
                       "AUROC Art, without the twin": art["auroc_lone"]})
    display(figures.table(sorted(listed, key=lambda row: (-row["layers"], row["beta"])),
                          caption="Interval networks around DnCNN on validation images: what is covered, and what the alarm scores"))

# %% [markdown]
# ## Is the map itself right?
#
# Before it is asked to find faults, an uncertainty should be large where the *clean* reconstruction is wrong. Coverage is the
# share of pixels whose truth lies between the bounds (mean ± 1.96 standard deviations for the Gaussian methods, which promise
# 0.95; an interval network promises nothing).

# %%
HEADS = {"coverage": 2, "below": 2, "above": 2, "width": 3, "corr_error": 2}
for t in tasks:
    listed = []
    for method in METHODS:
        form = plain(t, method, **({"masks": "shared"} if method == "dropout" else {}))
        for images in dict.fromkeys(where["images"] for where in columns(t).values()):
            cells = {head: pm(verdicts.over_seeds(records[t], form, head, images=images, experiment="adv_detect"), digits)
                     for head, digits in HEADS.items()}
            listed.append({"": NAMES[method], "images": images, **cells})
    display(figures.table(listed, caption=f"{TITLES[t]}: calibration on clean test images, mean ± deviation over trainings. below, "
                                          "above: truth outside on that side; corr_error: correlation of the map with |error|"))

# %% [markdown]
# ## The verdict, method by method

# %%
def against(gain):
    return "ahead of it" if gain.low > 0 else "behind it" if gain.high < 0 else "level with it"


def verdict(found):
    return ", ".join(f"{head}: {against(gain)}" for head, gain in found.items())


for t in tasks:
    print(f"{TITLES[t]}")
    for m in METHODS:
        honest = verdicts.over_seeds(records[t], plain(t, m, **({"masks": "shared"} if m == "dropout" else {})), "corr_error",
                                     **{**next(iter(columns(t).values())), "experiment": "adv_detect"})[0]
        print(f"   {NAMES[m]}\n      beside “{NAMES[null[t].method]}”, with the clean twin: {verdict(ahead[t, m])}\n"
              f"      beside “{NAMES[lone_null[t].method]}”, without: {verdict(lone_ahead[t, m])}\n"
              f"      on clean images its map follows the error with r = {honest:.2f}")

# %% [markdown]
# In plain words, of the shipped networks at `standard`:
#
# - **Interval networks** are what the paper found: ahead of MC dropout, level with mean-variance for denoising, ahead of it on
#   slices. But their alarm follows the damage no better than the difference of the two inputs does. Alone, they see a heavy shift (10 % of specks), an attack hardly.
#   Around the U-Net they cover everything, being fitted on images with larger errors, and grow with the brightness of the image: a clean map of theirs says more about
#   where the patient is than about where the error is.
# - **MC dropout** scores by its masks. With fresh ones it is last everywhere, as in the paper; with the same ones it is one among equals. For denoising its map has nothing to do with the error.
# - **Mean-variance** is the best calibrated for denoising, and alone sees the attack a little, more than any null detector. For CT it is another one with each training.
# - **A null detector** wins with the clean twin, and without it for the lighter shift: a residual that is smaller than usual tells that
#   the noise is gone. For the attack without a clean twin nothing here is an alarm that one would want to rely on.
#
# So what survives is the *order* of the three methods, given fresh masks. What does not survive is the conclusion that the score shows a detector at work.
#
# What survives, with the numbers:

# %%
def score(t, method, head, metric="pearson_r", **about):
    """Mean over images and trainings of the paper's form of a method."""
    return verdicts.over_seeds(records[t], plain(t, method, **about), metric, **columns(t)[head])[0]


def null_score(t, head, metric="pearson_r"):
    """The largest of the null detectors in the paper's form, and which it is."""
    return max((score(t, method, head, metric), NAMES[method]) for method in NAMES if method.startswith("null"))


if standard:
    for t in tasks:
        for head in columns(t):
            values = {NAMES[m]: score(t, m, head, **({"masks": "fresh"} if m == "dropout" else {})) for m in METHODS}
            r, name = null_score(t, head)
            print(f"{TITLES[t]}, {head}: " + ", ".join(f"{m} {v:.2f}" for m, v in values.items())
                  + f"; best null detector {r:.2f} ({name})")
if standard and "denoising" in tasks:
    fresh, same = (score("denoising", "dropout", "Adv", masks=m) for m in ("fresh", "shared"))
    report.differs(
        "MC dropout as a detector of adversarial artefacts", theirs="r = 0.20, far behind the others (Table 1)",
        ours=f"r = {fresh:.2f} with fresh masks, {same:.2f} with the same masks before and after",
        reason="most of the alarm with fresh masks is the noise of two samplings; which masks the paper took is not said")
    r, name = null_score("denoising", "Adv")
    best = max(score("denoising", m, "Adv", **({"masks": "shared"} if m == "dropout" else {})) for m in METHODS)
    report.differs(
        "Uncertainty detects adversarial artefacts", theirs="interval networks 0.77, mean-variance 0.81 (Table 1); no null detector",
        ours=f"the best of three methods reaches {best:.2f}; “{name}”, which holds no uncertainty, {r:.2f}",
        reason="the attack changes the input most where the reconstruction is to change; with both inputs at hand that needs no network")

# %% [markdown]
# ## Claims

# %%
for t in tasks:
    for head in columns(t):
        claim(f"a random map is a coin: {TITLES[t]}, {head}", abs(score(t, "null-random", head, "auroc") - 0.5) < 0.03)
        claim(f"with the clean twin a null detector finds the region of {head} with AUROC above 0.9: {TITLES[t]}",
              null_score(t, head, "auroc")[0] > 0.9)
        claim(f"fresh masks make MC dropout the last of the three methods: {TITLES[t]}, {head}",
              score(t, "dropout", head, masks="fresh") < min(score(t, m, head) for m in ("interval", "probout")))
        claim(f"the same masks raise its correlation: {TITLES[t]}, {head}",
              score(t, "dropout", head, masks="shared") > score(t, "dropout", head, masks="fresh"))
    adv = [head for head in columns(t) if head.startswith("Adv")]
    claim(f"95 % bars of MC dropout hold less than 90 %: {TITLES[t]}",
          all(score(t, "dropout", head, "coverage", masks="shared") < 0.9 for head in adv))
if "denoising" in tasks:
    claim("no method follows the damage of AdvDetect as well as the plain difference of the inputs (denoising)",
          score("denoising", "null-input", "Adv") > max(score("denoising", m, "Adv", **a) for m, a in (
              ("interval", {}), ("probout", {}), ("dropout", {"masks": "shared"}))))
    claim("without the clean twin nothing finds the adversarial patch with AUROC above 0.75 (denoising)",
          max(verdicts.over_seeds(records["denoising"], form, "auroc_lone", **columns("denoising")["Adv"])[0]
              for form, _ in lone["denoising"].values()) < 0.75)

# %% [markdown]
# ## Exercises
#
# **1.** Divide every width of an interval network by ten thousand. What happens to its coverage, what to its score?

# %% tags=["hide-cell"]
group, changes, predicted = cases[tasks[0]]
a, b = predicted["interval"]["clean"], predicted["interval"]["adv_detect"]
moved = (b.mean - a.mean).abs()
tiny = [p._replace(spread=p.spread / 1e4, lower=p.mean - (p.mean - p.lower) / 1e4, upper=p.mean + (p.upper - p.mean) / 1e4) for p in (a, b)]
before, after = (metrics.pearson(detection.alarm(*pair), moved).mean().item() for pair in ((a, b), tiny))
covered = [metrics.coverage(p.lower, p.upper, group.x).inside.mean().item() for p in (a, tiny[0])]
assert abs(before - after) < 1e-3 and covered[1] < 0.05 < covered[0]
print(f"coverage {covered[0]:.2f} -> {covered[1]:.3f}, correlation {before:.3f} -> {after:.3f}: the score cannot see the collapse")

# %% [markdown]
# **2.** Average the alarm of the plain residual $|f(\tilde x) - \tilde x|$ over larger and larger boxes. Its correlation with a region grows.
# Has it learnt anything? Do the same with a random map.

# %% tags=["hide-cell"]
change, scores = changes["art_detect"], {}
for name in ("null-residual", "null-random"):
    pair = [predicted[name][key] for key in ("clean", "art_detect")]
    scores[name] = [metrics.pearson(detection.alarm(*pair, average=side), change.mask.float()).mean().item() for side in (1, 3, 7, 15)]
    print(f"{NAMES[name]}: " + ", ".join(f"{side} x {side}: {r:.2f}" for side, r in zip((1, 3, 7, 15), scores[name])))
assert scores["null-residual"][2] > scores["null-residual"][0]
print("Averaging takes away noise that the region does not have; where there is no signal it finds none.")

# %% [markdown]
# ## References
#
# The methods, the two experiments and Table 1: {cite:t}`oala2021`. Dropout as Bayesian approximation: {cite:t}`gal2016`.
# A variance as second output: {cite:t}`nix1994`, {cite:t}`kendall2017`. Photographs: {cite:t}`martin2001`. CT slices: {cite:t}`mccollough2017`.
