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
# *Oala et al. 2021: Table 1 and Figures 1 and 2 (AdvDetect, ArtDetect), with null detectors beside them.
# Records: `python -m instab_utils.papers oala2021 table1`, and `sweep` for other settings.*
#
# **What you will see**
# - Two ways to make a network draw what is not there, and the maps that are meant to give it away: interval
#   widths, the variance of dropout, a variance that the network itself predicts.
# - Table 1 of the paper that proposed them as alarms, repeated on public data with three trainings each.
# - A question that the paper did not ask: does a detector *without* any notion of uncertainty do as well?
#
# **Needs** [interval networks](05_interval_neural_networks), [dropout and mean-variance](06_dropout_and_mean_variance).
# Measured minutes and memory: [status](../book/status.md).

# %% tags=["parameters"]
# smoke: proves that it runs · standard: the published page · paper: on a GPU
profile = "standard"
seed = (
    0  # training seed of the networks that run live on this page; the tables have all
)
task = "all"  # all, denoising or ct_limited
n_shown = 3  # images in the sliders

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(
    In, choices={"task": ("all", "denoising", "ct_limited"), "seed": (0, 1, 2)}
)

# %%
import torch

from instab_utils import data, figures, metrics, profiles, report, widgets
from instab_utils.papers import oala2021
from instab_utils.papers.oala2021 import changes, detectors, forms, table1
from instab_utils.uncertainty import detection

# %%
budget = profiles.get(profile)
claim = report.claims(profile)
standard = budget.at_least("standard")
tasks = list(changes.NETWORKS) if task == "all" else [task]
seeds = table1.SEEDS if standard else (seed,)
print(f"profile {profile}, data: {data.situation()}")

# %% tags=["hide-input"]
TITLES = {"denoising": "Denoising (DnCNN)", "ct_limited": "Limited-angle CT (U-Net)"}
NAMES = {
    "interval": "interval network",
    "dropout": "MC dropout",
    "probout": "mean-variance",
    "null-gradient": "gradient of the input",
    "null-residual": "|f(x) - x|",
    "null-residual-mean": "|f(x) - x|, 7 x 7 mean",
    "null-input": "the input itself",
    "null-variance": "7 x 7 variance of f(x)",
    "null-random": "random map",
}
METHODS = ("interval", "dropout", "probout")

# %% [markdown]
# ## Two ways to go wrong
#
# A post-processing network $f$ takes in a degraded image $\tilde x$ (noisy; or the filtered back-projection of a scan with a
# missing wedge) and gives a reconstruction $f(\tilde x)$. Oala et al. break it in two ways and define an alarm.
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
# **The alarm** is the change of an uncertainty map, $a = |u(x') - u(\tilde x)|$. Its score is the Pearson correlation with a reference
# $b$, over the pixels of an image,
#
# $$ r = \frac{\sum (a - \bar a)(b - \bar b)}{\sqrt{\sum (a - \bar a)^2 \sum (b - \bar b)^2}} , $$
#
# with $b = |f(x') - f(\tilde x)|$ in AdvDetect, and the changed region in ArtDetect.


# %%
def detection_score(u_before, u_after, reference):
    """Pearson correlation of |u(x') - u(x)| and a reference, image by image."""
    alarm = (u_after - u_before).abs().double().flatten(1)
    a = alarm - alarm.mean(1, keepdim=True)
    reference = reference.double().flatten(1)
    b = reference - reference.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()


# %% [markdown]
# The next cell attacks and shifts a few test images, and asks every detector about the clean and the changed ones.


# %%
def changes_of(task, f, group):
    """AdvDetect and ArtDetect of a few images."""
    attacked = changes.adversarial(task, f, group, profile)
    return {"adv_detect": attacked, "art_detect": next(changes.shifted(task, group))}


def live(task):
    """Test images, their changes, and predictions[method][clean or experiment]."""
    passes = min(detectors.n_passes(task, profile), 16)
    observed = detectors.detection(task, profile, seed, passes)
    # of CT the phantoms: patients' slices may not be redistributed
    group = changes.image_groups(task, profile)[-1].first(n_shown)
    changed = changes_of(task, observed.networks["base"], group)
    return group, changed, predictions(observed.detectors, group, changed)


# %%
def predictions(observed, group, changed):
    inputs = {"clean": group.x_in, **{k: change.x_in for k, change in changed.items()}}
    predicted = {}
    for d in observed:
        if d.about.get("masks") != "fresh" and d.about.get("n_layers") != 5:
            predicted[d.method] = {k: d.before.predict(x) for k, x in inputs.items()}
    return predicted


# %%
cases = {t: live(t) for t in tasks}
for t, (group, *_) in cases.items():
    n = group.x.shape[-1]
    print(f"{TITLES[t]}: {len(group.x)} of {group.name}, {n} x {n}")
group, _, predicted = cases[tasks[0]]
before, after = (predicted["interval"][key] for key in ("clean", "adv_detect"))
moved = (after.mean - before.mean).abs()
score = detection_score(before.spread, after.spread, moved)
torch.testing.assert_close(
    score, metrics.pearson(detection.alarm(before, after), moved)
)

# %% [markdown]
# ## What the alarms look like
#
# Drag the slider through the images. First row: the input, the changed input, the reconstruction before, and what the attacker
# wanted it to become (AdvDetect) or the region that was changed (ArtDetect). Then the reconstruction after, its change,
# and the alarms, each as bright as its own largest values; in the last row those of detectors without any
# notion of uncertainty. A good alarm is bright where the sixth picture is (AdvDetect) or within the changed region (ArtDetect), and
# nowhere else.


# %% tags=["hide-input"]
def bright(u):
    return (u / u.flatten().quantile(0.995).clamp_min(1e-12)).clamp(0, 1)


SHOWN = (*METHODS, "null-residual-mean", "null-input", "null-gradient")


def alarm_panels(task, experiment, k):
    group, changed, predicted = cases[task]
    change, one = changed[experiment], slice(k, k + 1)
    # the reconstruction: of the frozen network
    a, b = (predicted["interval"][key].mean[one] for key in ("clean", experiment))
    attacked = experiment == "adv_detect"
    goal = (change.target if attacked else change.mask.float())[one]
    titles = ["input", "changed input", "f(input)"]
    titles += ["target of the attack" if attacked else "changed region"]
    titles += ["f(changed)", "change of f"]
    pictures = [group.x_in[one], change.x_in[one], a, goal, b, bright((b - a).abs())]
    size = metrics.relative_error(change.x_in[one], group.x_in[one]).item()
    notes = ["", f"‖x' - x‖ / ‖x‖ = {size:.3f}", *[""] * 4]
    happened = (b - a).abs() if attacked else change.mask[one].float()
    for name in SHOWN:
        clean, after = (
            predicted[name][key].spread[one] for key in ("clean", experiment)
        )
        pictures.append(bright((after - clean).abs()))
        titles.append(NAMES[name])
        notes.append(f"r = {detection_score(clean, after, happened).item():.2f}")
    return figures.panels(
        pictures,
        titles,
        captions=notes,
        window=(0, 1),
        columns=4,
        alt=f"{TITLES[task]}, image {k + 1}: input and changed input, reconstructions, "
        "what changed, and the alarm of each detector with its correlation.",
    )


def slider(task, experiment):
    n = len(cases[task][0].x)
    panels = [alarm_panels(task, experiment, k) for k in range(n)]
    return widgets.explore(panels, [str(k + 1) for k in range(n)], name="image")


for t in tasks:
    print(f"{TITLES[t]}, AdvDetect (Figure 1 of the paper)")
    display(slider(t, "adv_detect"))

# %%
for t in tasks:
    print(f"{TITLES[t]}, ArtDetect (Figure 2 of the paper)")
    display(slider(t, "art_detect"))

# %% [markdown]
# ## The paper's Table 1, beside ours
#
# Pearson correlation, mean and standard deviation over three trainings, as in the paper. Its data are not ours: for CT it has
# 330 slices of patients that are handed out on application, we have 4 public ones and phantoms; its DnCNN has 17 layers of 128
# channels, ours 10 of 32, its U-Net 31 million weights, ours one; and a scan of 512 pixels is one of 128 here. So compare *orders*, not digits. MC dropout
# is listed twice, since the paper does not say whether the masks before and after the change were the same.

# %%
records = {t: [r for s in seeds for r in table1.rows(t, s, profile)] for t in tasks}
columns = {
    t: forms.columns(records[t]) for t in tasks
}  # head -> experiment, images, amount
made = {
    (r["created"][:10], r["device"], r["profile"]) for t in tasks for r in records[t]
}
origin = [f"{day} on {device} at {p}" for day, device, p in sorted(made)]
print("records made", "; ".join(origin))


# %%
def pm(pair, digits=2):
    mean, spread = pair
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def over_seeds(t, method, head, metric="pearson_r", **about):
    """Mean and deviation over trainings of a method in the paper's form."""
    form = forms.published_form(records[t], method, **about)
    return forms.over_seeds(records[t], form, metric, **columns[t][head])


# %% tags=["hide-input"]
LISTED = {
    "interval network": ("interval", {}),
    "interval network, 5 layers": ("interval", {"n_layers": 5}),
    "MC dropout, fresh masks": ("dropout", {"masks": "fresh"}),
    "MC dropout, the same masks": ("dropout", {"masks": "shared"}),
    "mean-variance": ("probout", {}),
}
for t in tasks:
    rows = []
    for label, (method, about) in LISTED.items():
        if "n_layers" in about and (t != "denoising" or not standard):
            continue  # fitted for DnCNN only
        row = {"": label}
        for head, experiment in (("Adv", "adv_detect"), ("Art", "art_detect")):
            row[f"paper, {head}"] = pm(table1.PUBLISHED[t, experiment][method])
        for head in columns[t]:
            row[head] = pm(over_seeds(t, method, head, **about))
        rows.append(row)
    images = dict.fromkeys(where["images"] for where in columns[t].values())
    caption = (
        f"{TITLES[t]}: correlation of the alarm, mean ± deviation of {len(seeds)} "
        f"trainings; ours on {' and '.join(images)}"
    )
    display(figures.table(rows, caption=caption))

# %% [markdown]
# Does the order depend on our small DnCNN? The same detectors around the *published* one, 17
# layers of 64 channels, trained on with dropout for a thousand steps, since Monte Carlo
# dropout asks for a network that was trained with it.

# %% tags=["hide-input"]
tuned = oala2021.recorded_tuned(profile) if "denoising" in tasks else []
rows = []
for label, (method, about) in LISTED.items():
    if tuned and "n_layers" not in about:
        form = forms.published_form(tuned, method, **about)
        row = {"": label}
        for head, experiment in (("Adv", "adv_detect"), ("Art", "art_detect")):
            row[f"paper, {head}"] = pm(table1.PUBLISHED["denoising", experiment][method])
        for head, where in forms.columns(tuned).items():
            row[head] = pm(forms.over_seeds(tuned, form, "pearson_r", **where))
        rows.append(row)
if rows:
    n = len({r["seed"] for r in tuned})
    display(figures.table(rows, caption=(
        "Published DnCNN tuned with dropout: correlation of the alarm, "
        f"{n} training{'s' if n > 1 else ''}, {tuned[0]['metrics']['n_images']} images")))
else:
    print("not recorded at this profile")

# %% [markdown]
# It does not, in this one training: with fresh masks MC dropout is near the paper's numbers
# and far behind the two others. The same masks before and after more than double its
# correlation with the attack: the order stays, and most of the distance is gone.

# %% tags=["hide-input"]
if tuned:
    adv = next(w for h, w in forms.columns(tuned).items() if h == "Adv")
    r = {label: forms.over_seeds(tuned, forms.published_form(tuned, method, **about),
                                 "pearson_r", **adv)[0]
         for label, (method, about) in LISTED.items() if "n_layers" not in about}
    fresh = r["MC dropout, fresh masks"]
    claim("published DnCNN: fresh masks are behind interval and mean-variance by .3, Adv",
          min(r["interval network"], r["mean-variance"]) > fresh + 0.3, at_least="smoke")
    claim("published DnCNN: the same masks more than double dropout's correlation, Adv",
          r["MC dropout, the same masks"] > 2 * fresh, at_least="smoke")

# %% [markdown]
# ## Better than a null detector?
#
# A score has no meaning without a yardstick. *Null detectors* follow the same protocol, with a map $u$ without any
# uncertainty. $|f(\tilde x) - \tilde x|$ is the change made by the network; the input itself makes the alarm the plain
# difference $|x' - \tilde x|$, which both inputs give without a network. Smoothing helps against a
# reference that is a whole region, so *every* alarm may be averaged over 7 x 7 pixels.
#
# Each method takes its best form, of masks, variance or standard deviation, averaged or not: chosen by the area under the ROC curve
# (AUROC) on **validation** images. Then the test images are evaluated once. AUROC is the probability that a pixel inside the changed
# region has a higher alarm than one outside; 0.5 is chance level.

# %%
validation = {t: table1.rows(t, seed, profile, "validate") for t in tasks}
chosen = {t: forms.choose(validation[t], "auroc") for t in tasks}
null = {t: forms.best_null(chosen[t]) for t in tasks}


def best_first(chosen):
    """(method, form), in the order of the validation images."""
    ordered = sorted(chosen.items(), key=lambda item: -item[1][1])
    return [(method, form) for method, (form, _) in ordered]


# %% tags=["hide-input"]
def scored(t, form, metrics):
    """Means over images and trainings, by metric and column of the table."""
    found = {}
    for metric, label in metrics.items():
        for head, where in columns[t].items():
            found[f"{label} {head}"] = forms.over_seeds(
                records[t], form, metric, **where
            )[0]
    return found


for t in tasks:
    rows = []
    for method, form in best_first(chosen[t]):
        row = {"": NAMES[method], "form": str(form).partition(", ")[2] or "plain"}
        rows.append(row | scored(t, form, {"auroc": "AUROC", "pearson_r": "r"}))
    caption = (
        f"{TITLES[t]}: each method in the form that was best on validation images, in "
        f"that order; test images, mean of {len(seeds)} trainings"
    )
    display(figures.table(rows, digits=2, caption=caption))

# %% [markdown]
# The next table compares each method with the best null detector, image by image, about the same changes.


# %%
def gains(t, chosen, null, metric):
    """For each method and column, its gain over the null detector with an interval."""
    found = {}
    for m in METHODS:
        pair = chosen[m][0], null
        found[m] = {
            head: forms.gain(records[t], *pair, metric, **where)
            for head, where in columns[t].items()
        }
    return found


# %% tags=["hide-input"]
def gain_table(found, caption):
    rows = []
    for m, row in found.items():
        cells = {
            h: f"{g.mean:+.3f} [{g.low:+.3f}, {g.high:+.3f}]" for h, g in row.items()
        }
        rows.append({"": NAMES[m], **cells})
    display(figures.table(rows, caption=caption))


# %%
ahead = {t: gains(t, chosen[t], null[t], "auroc") for t in tasks}
for t in tasks:
    caption = (
        f"{TITLES[t]}: AUROC minus that of the best null detector, "
        f"“{NAMES[null[t].method]}”, with 95 % bootstrap intervals over images"
    )
    gain_table(ahead[t], caption)

# %% [markdown]
# With the clean twin at hand nearly every map finds the region, the plain difference of the two inputs best: where the inputs agree, far from
# the change, every deterministic map agrees, too. Only *fresh* dropout masks, which make maps differ everywhere, do worse. So
# this protocol can rank maps by how well they follow the *size* of the damage; it cannot show that a map detects a failure.
#
# ## Without the clean twin
#
# In use there is no clean twin: there is one input $x'$, one map $u(x')$, and a limit that one pixel in twenty of
# clean validation images exceeds. An alarm can be *one-sided* ($u$ is large) or *two-sided* ($u$ is far
# from its usual value): a residual that is suddenly small is as suspicious as one that is large. The form is chosen on validation images again.

# %%
lone = {t: forms.choose(validation[t], "auroc_lone") for t in tasks}
lone_null = {t: forms.best_null(lone[t]) for t in tasks}

# %% tags=["hide-input"]
for t in tasks:
    rows = []
    first = next(iter(columns[t].values()))
    for method, form in best_first(lone[t]):
        row = {"": NAMES[method], "form": str(form).partition(", ")[2] or "plain"}
        for head, where in columns[t].items():
            auroc = forms.over_seeds(records[t], form, "auroc_lone", **where)[0]
            rate = forms.over_seeds(records[t], form, "detection_rate", **where)[0]
            row |= {f"AUROC {head}": auroc, f"found {head}, %": 100 * rate}
        rate = forms.over_seeds(records[t], form, "false_alarm_rate", **first)[0]
        row["false alarms, clean, %"] = 100 * rate
        rows.append(row)
    caption = (
        f"{TITLES[t]}: from u(x') alone, in the order of the validation images. "
        "“found”: share of the changed region beyond the limit"
    )
    display(figures.table(rows, digits=2, caption=caption))

# %%
lone_ahead = {t: gains(t, lone[t], lone_null[t], "auroc_lone") for t in tasks}
for t in tasks:
    caption = (
        f"{TITLES[t]}, without the clean twin: AUROC minus that of the best null "
        f"detector, “{NAMES[lone_null[t].method]}”, with 95 % bootstrap "
        "intervals over images"
    )
    gain_table(lone_ahead[t], caption)

# %% [markdown]
# ## The influence of settings
#
# **Sampling.** Two draws of MC dropout differ even if nothing else does. With *fresh* masks before and after the change, the alarm is
# mostly that difference, and it improves only as more passes are averaged. With the *same* masks this noise is absent. **The price of
# width** $\beta$ changes the width by orders of magnitude and the correlation hardly: Pearson has no scale. All on
# validation images, seed 0.


# %%
def of_passes(n, masks, **where):
    """Correlation of the dropout alarm, n passes, in the paper's form."""
    where |= {"method": "dropout", "masks": masks, "n_passes": n, "spread": "variance"}
    [record] = forms.select(swept, **where)
    return record["metrics"]["plain"]["pearson_r"]


ADV, ART = {"experiment": "adv_detect"}, {"experiment": "art_detect", "amount": 0.05}
if "denoising" in tasks:
    swept = validation["denoising"] + table1.sweep_rows(profile)
    dropout = [f for f in forms.all_forms(swept) if f.method == "dropout"]
    passes = sorted({dict(f.about)["n_passes"] for f in dropout})

# %% tags=["hide-input"]
if "denoising" in tasks:
    by_passes = {}
    for masks in ("shared", "fresh"):
        for head, where in (("Adv", ADV), ("Art", ART)):
            label = f"{head}, {masks} masks"
            by_passes[label] = [of_passes(n, masks, **where) for n in passes]
    display(
        figures.curves(
            passes,
            by_passes,
            x_label="passes T",
            y_label="correlation of the alarm",
            log_x=True,
            title="MC dropout: how many passes, which masks",
            alt="Correlation of the dropout alarm against the number of passes: flat "
            "for the same masks, rising from near zero for fresh ones.",
        )
    )

# %% tags=["hide-input"]
if "denoising" in tasks:
    rows = []
    for form in forms.all_forms(swept):
        if form.method != "interval" or form.variant != "plain":
            continue
        [adv] = forms.select(swept, form, **ADV)
        [art] = forms.select(swept, form, **ART)
        about = dict(form.about)
        rows.append(
            {
                "layers": about["n_layers"],
                "beta": about.get("beta", 1e-3),
                "coverage": form.value(adv, "coverage"),
                "mean width": form.value(adv, "width"),
                "width ~ |error|": form.value(adv, "corr_error"),
                "r Adv": form.value(adv, "pearson_r"),
                "r Art": form.value(art, "pearson_r"),
                "AUROC Art, without the twin": form.value(art, "auroc_lone"),
            }
        )
    caption = (
        "Interval networks around DnCNN on validation images: what is covered, and "
        "what the alarm scores"
    )
    rows.sort(key=lambda row: (-row["layers"], row["beta"]))
    display(figures.table(rows, caption=caption))

# %% [markdown]
# ## Is the map itself right?
#
# An uncertainty should be large where the *clean* reconstruction is wrong. Coverage is the
# share of pixels whose truth lies between the bounds (mean ± 1.96 standard deviations for the Gaussian methods, which promise
# 0.95; an interval network promises nothing).

# %% tags=["hide-input"]
HEADS = {"coverage": 2, "below": 2, "above": 2, "width": 3, "corr_error": 2}
SAME = {"dropout": {"masks": "shared"}}
for t in tasks:
    rows = []
    for method in METHODS:
        form = forms.published_form(records[t], method, **SAME.get(method, {}))
        for images in dict.fromkeys(where["images"] for where in columns[t].values()):
            where = {"images": images, "experiment": "adv_detect"}
            row = {"": NAMES[method], "images": images}
            for head, digits in HEADS.items():
                row[head] = pm(
                    forms.over_seeds(records[t], form, head, **where), digits
                )
            rows.append(row)
    caption = (
        f"{TITLES[t]}: calibration on clean test images, mean ± deviation over "
        "trainings. below, above: truth outside on that side; corr_error: correlation "
        "of the map with |error|"
    )
    display(figures.table(rows, caption=caption))

# %% [markdown]
# ## The verdict, method by method
#
# Better or worse than the best null detector: the 95 % interval of the difference of AUROC excludes zero. Equal: it does not.


# %% tags=["hide-input"]
def word(gain):
    if gain.low > 0:
        return "better"
    return "worse" if gain.high < 0 else "equal"


for t in tasks:
    for protocol, found, best in (
        ("with the clean twin", ahead[t], null[t]),
        ("without", lone_ahead[t], lone_null[t]),
    ):
        rows = []
        for m, row in found.items():
            cells = {head: word(gain) for head, gain in row.items()}
            rows.append({"": NAMES[m], **cells})
        caption = f"{TITLES[t]}, {protocol}: beside “{NAMES[best.method]}”"
        display(figures.table(rows, caption=caption))

# %%
for t in tasks:
    clean = {
        "experiment": "adv_detect",
        "images": next(iter(columns[t].values()))["images"],
    }
    for m in METHODS:
        form = forms.published_form(records[t], m, **SAME.get(m, {}))
        r = forms.over_seeds(records[t], form, "corr_error", **clean)[0]
        print(
            f"{TITLES[t]}, {NAMES[m]}: on clean images its map follows the error with "
            f"r = {r:.2f}"
        )

# %% [markdown]
# In words, of the shipped networks at `standard`:
#
# - **Interval networks** behave as in the paper: ahead of MC dropout, level with mean-variance for denoising, ahead of it on
#   slices. But their alarm follows the damage no better than the difference of the two inputs does. Without the clean twin they detect a heavy shift (10 % of specks), an attack hardly.
#   Around the U-Net they cover everything, being fitted on images with larger errors, and grow with the brightness of the image: a clean map of theirs shows
#   the patient rather than the error.
# - **MC dropout** depends on its masks. With fresh ones it is last everywhere, as in the paper; with the same ones it is equal to the others. For denoising its map does not follow the error.
# - **Mean-variance** is the best calibrated for denoising, and without the clean twin detects the attack slightly, more than any null detector. For CT its map changes from one training seed to the next.
# - **A null detector** wins with the clean twin, and without it for the lighter shift: a residual that is smaller than usual shows that
#   the noise is missing. For the attack without a clean twin no detector here is reliable.
#
# The paper's ranking of the three methods is reproduced if dropout uses fresh masks before and after the change. The conclusion that the score shows
# a working detector is not.
#
# The scores of the paper's form, with the best null detector, are:


# %%
def score(t, method, head, metric="pearson_r", **about):
    """Mean over images and trainings of the paper's form of a method."""
    return over_seeds(t, method, head, metric, **about)[0]


def null_score(t, head, metric="pearson_r"):
    """The largest of the null detectors in the paper's form, and which it is."""
    nulls = [method for method in NAMES if method.startswith("null")]
    return max((score(t, method, head, metric), NAMES[method]) for method in nulls)


# %%
FRESH = {"dropout": {"masks": "fresh"}}
for t in tasks if standard else []:
    for head in columns[t]:
        values = {NAMES[m]: score(t, m, head, **FRESH.get(m, {})) for m in METHODS}
        r, name = null_score(t, head)
        listed = ", ".join(f"{m} {v:.2f}" for m, v in values.items())
        print(f"{TITLES[t]}, {head}: {listed}; best null detector {r:.2f} ({name})")

# %% tags=["hide-input"]
if standard and "denoising" in tasks:
    fresh, same = (
        score("denoising", "dropout", "Adv", masks=m) for m in ("fresh", "shared")
    )
    report.differs(
        "MC dropout as a detector of adversarial artefacts",
        theirs="r = 0.20, far behind the others (Table 1)",
        ours=f"r = {fresh:.2f} with fresh masks, {same:.2f} with the same masks before "
        "and after",
        reason="most of the alarm with fresh masks is the noise of two samplings; "
        "which masks the paper took is not said",
    )
    r, name = null_score("denoising", "Adv")
    best = max(score("denoising", m, "Adv", **SAME.get(m, {})) for m in METHODS)
    report.differs(
        "Uncertainty detects adversarial artefacts",
        theirs="interval networks 0.77, mean-variance 0.81 (Table 1); no null detector",
        ours=f"the best of three methods reaches {best:.2f}; “{name}”, which holds no "
        f"uncertainty, {r:.2f}",
        reason="the attack changes the input most where the reconstruction is to "
        "change; with both inputs at hand that needs no network",
    )

# %% [markdown]
# ## Claims

# %%
for t in tasks:
    for head in columns[t]:
        random = score(t, "null-random", head, "auroc")
        at_chance = abs(random - 0.5) < 0.03
        claim(f"a random map is at chance level: {TITLES[t]}, {head}", at_chance)
        claim(
            f"with the clean twin a null detector finds the region of {head} with "
            f"AUROC above 0.9: {TITLES[t]}",
            null_score(t, head, "auroc")[0] > 0.9,
        )

# %%
for t in tasks:
    for head in columns[t]:
        fresh, same = (score(t, "dropout", head, masks=m) for m in ("fresh", "shared"))
        others = min(score(t, m, head) for m in ("interval", "probout"))
        claim(
            "fresh masks make MC dropout the last of the three methods: "
            f"{TITLES[t]}, {head}",
            fresh < others,
        )
        claim(
            f"the same masks raise its correlation: {TITLES[t]}, {head}", same > fresh
        )
    adv = [head for head in columns[t] if head.startswith("Adv")]
    held = [score(t, "dropout", head, "coverage", masks="shared") for head in adv]
    claim(f"95 % bars of MC dropout hold less than 90 %: {TITLES[t]}", max(held) < 0.9)

# %%
if "denoising" in tasks:
    best = max(score("denoising", m, "Adv", **SAME.get(m, {})) for m in METHODS)
    claim(
        "no method follows the damage of AdvDetect as well as the plain difference of "
        "the inputs (denoising)",
        score("denoising", "null-input", "Adv") > best,
    )

# %%
if "denoising" in tasks:
    where = columns["denoising"]["Adv"]
    found = [
        forms.over_seeds(records["denoising"], form, "auroc_lone", **where)[0]
        for form, _ in lone["denoising"].values()
    ]
    claim(
        "without the clean twin nothing finds the adversarial patch with AUROC above "
        "0.75 (denoising)",
        max(found) < 0.75,
    )

# %% [markdown]
# ## Exercises
#
# **1.** Divide every width of an interval network by ten thousand. What happens to its coverage, what to its score?

# %% tags=["hide-cell"]
group, changed, predicted = cases[tasks[0]]
pair = [predicted["interval"][key] for key in ("clean", "adv_detect")]
moved = (pair[1].mean - pair[0].mean).abs()


def narrowed(p, factor):
    lower, upper = (p.mean + factor * (end - p.mean) for end in (p.lower, p.upper))
    return p._replace(spread=factor * p.spread, lower=lower, upper=upper)


tiny = [narrowed(p, 1e-4) for p in pair]
scores = [
    detection_score(a.spread, b.spread, moved).mean().item() for a, b in (pair, tiny)
]
covered = []
for p in (pair[0], tiny[0]):
    covered.append(metrics.coverage(p.lower, p.upper, group.x).inside.mean().item())
assert abs(scores[0] - scores[1]) < 1e-3 and covered[1] < 0.05 < covered[0]
print(
    f"coverage {covered[0]:.2f} -> {covered[1]:.3f}, correlation {scores[0]:.3f} -> "
    f"{scores[1]:.3f}: the score does not show the collapse"
)

# %% [markdown]
# **2.** Average the alarm of the plain residual $|f(\tilde x) - \tilde x|$ over larger and larger boxes. Its correlation with a region grows.
# Is it a better detector? Do the same with a random map.

# %% tags=["hide-cell"]
region, scores = changed["art_detect"].mask.float(), {}
for name in ("null-residual", "null-random"):
    pair = [predicted[name][key] for key in ("clean", "art_detect")]
    scores[name] = {}
    for side in (1, 3, 7, 15):
        alarm = detection.alarm(*pair, average=side)
        scores[name][side] = metrics.pearson(alarm, region).mean().item()
    listed = ", ".join(f"{side} x {side}: {r:.2f}" for side, r in scores[name].items())
    print(f"{NAMES[name]}: {listed}")
assert scores["null-residual"][7] > scores["null-residual"][1]
print(
    "Averaging takes away noise that the region does not have; where there is no "
    "signal it finds none."
)

# %% [markdown]
# ## References
#
# The methods, the two experiments and Table 1: {cite:t}`oala2021`. Dropout as Bayesian approximation: {cite:t}`gal2016`.
# A variance as second output: {cite:t}`nix1994`, {cite:t}`kendall2017`. Photographs: {cite:t}`martin2001`. CT slices: {cite:t}`mccollough2017`.
