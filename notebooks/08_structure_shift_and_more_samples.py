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
# # Structure and more samples
#
# **What you will see**
# - Small details that no training image had, drawn into a scan. A network may show them, blur them, or paint them over; the
#   slider turns their contrast up until it gives in.
# - A number for what a picture only suggests: how much of a detail's contrast survives, and whether a reader who knows
#   where to look could tell that it is there. For every network of this book, beside total variation and the linear front end.
# - Networks that are given *more* data than in training, and what they make of it.
#
# **Needs** [stable solvers](02_what_stable_looks_like), [post-processors](03_training_denoisers_and_post_processors),
# [learned inverses](04_learning_the_whole_inverse). Measured minutes and memory: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke: proves that it runs · standard: the published page · paper: longer
seed = 0  # where the details of the picture lie; the tables have seeds of their own
network = "ell-50"  # in the pictures: any of training.CASES
detail = "suits"  # in the pictures: suits, or text (from 96 pixels)

# %% tags=["remove-cell"]
from instab_utils import profiles
from instab_utils.training import CASES as NAMES

profiles.check_parameters(In, choices={"network": NAMES, "detail": ("suits", "text")})

# %%
import inspect

import torch

from instab_utils import data, figures, metrics, report, shifts, store, training, widgets
from instab_utils.stability import sampling, structure, verdicts

budget = profiles.get(profile)
claim = report.claims(profile)
recorded = "paper" if profile == "paper" else "standard"  # the tables are read, not computed here
case = training.case(network, profile)
TITLES = {name: training.title(name) for name in NAMES}
print(f"profile {profile}, data: {data.situation()}; pictures: {case.title}, {case.source}")

# %% [markdown]
# ## A detail that was never there in training (Fig. 5)
#
# Antun et al. draw card suits and the words *CAN U SEE IT* into the image $x$ and ask whether the network's answer to the
# measurement of the *changed* image shows them. This is no attack: nobody searched for a worst case. It is what any unusual finding in a
# patient looks like to a network that learned from others.
#
# Ours are drawn as shapes, so that their size and contrast are known exactly: the suits have 9 pixels at 128, the text 10.

# %%
figures.panels([shifts.suit(name, 63) for name in shifts.SUITS], list(shifts.SUITS), window=(0, 1), columns=4,
               alt="The four suits as they are drawn: spade, heart, diamond, club.")

# %%
kind = detail if detail == "suits" or case.A.image_shape[-1] >= 96 else "suits"
drawn = structure.detail(case, 0, kind, profiles.generator(seed, "details on the page"))
y, x, peak = case.y[:1], case.attacked[:1], float(case.attacked[:1].abs().max())
contrasts = [0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6] if budget.at_least("standard") else [0, 0.3]
methods = {case.title: case.f, "total variation": case.tv, "linear front end": case.front_end}
with torch.no_grad():
    answers = [{m: structure.displayed(f(y + c * peak * drawn.y)) / peak for m, f in methods.items()} for c in contrasts]


def frame(c, answer):
    truth = structure.displayed(x) / peak + c * drawn.image
    return figures.panels([truth, *answer.values()], ["x + detail", *answer], window=(0, 1), columns=2, lossless=False,
                          alt=f"Contrast {100 * c:.0f} %: the image with the detail, and three reconstructions of its measurement.")


widgets.explore([frame(c, a) for c, a in zip(contrasts, answers)], [f"{100 * c:g} %" for c in contrasts], name="contrast of the details",
                value=len(contrasts) - 1)

# %% [markdown]
# What a reconstruction makes of the detail *alone* is its change when the detail comes in. With everything else gone, one sees what
# survives:

# %%
shown = [(answers[-1][m] - answers[0][m]) / contrasts[-1] for m in methods]
figures.panels([drawn.image, *shown], ["the detail", *methods], window=(-0.5, 1.2), columns=2, lossless=False,
               alt="The detail itself and what three reconstructions show of it, divided by its contrast.")

# %% [markdown]
# ## Every network
#
# The suits at 30 % in all of them. The slider goes through the networks; the shearlets at the end are no network.

# %%
gallery = [name for name in NAMES if recorded == "standard"] if budget.at_least("standard") else [network]
pictures, shown_names = [], []
for name in gallery:
    try:
        one = training.case(name, profile, 1)
    except data.DataUnavailable as reason:
        print(f"{TITLES[name]} is left out: {reason}")
        continue
    part = structure.detail(one, 0, "suits", profiles.generator(seed, "details on the page"))
    height = float(one.attacked[:1].abs().max())
    with torch.no_grad():
        images = [structure.displayed(f(one.y[:1] + 0.3 * height * part.y)) / height for f in (one.f, one.tv)]
    pictures.append(figures.panels([structure.displayed(one.attacked[:1]) / height + 0.3 * part.image, *images],
                                   ["x + detail", TITLES[name], "TV, same data"], window=(0, 1), lossless=False,
                                   alt=f"{TITLES[name]}: an image with four suits of 30 % contrast, its reconstruction and TV's."))
    shown_names.append(TITLES[name])
widgets.explore(pictures, shown_names, name="network", value=0)

# %% [markdown]
# ## A number for it
#
# **Contrast recovery** is the slope of that change against the detail, by least squares in a box around it, with an offset for what
# happens to everything in the box: 1 shows it whole, 0 erases it. PSNR in the box would be the wrong number: it is worst for filtered back-projection, which
# shows every detail, because of streaks that have nothing to do with it.
#
# **AUROC** asks a reader: a matched filter that knows shape and place, on boxes with the detail and the same boxes without, over all
# images and positions. 1 means that it never errs, ½ that it guesses. Anatomy is what it has to tell the detail from. Its interval draws the details again, each with
# its own background; a box is then compared with itself more often, so that the interval leans to 1, by up to (1 − AUROC) / 12.

# %%
print(inspect.getsource(structure.slope))

# %% tags=["hide-input"]
def row(name):
    """{(detail, contrast): metrics} of a network's records."""
    found = [r for r in store.records(experiment="structure", network=name, profile=recorded) if "side" in r["parameters"]]
    last = {(r["parameters"]["detail"], r["parameters"]["contrast"]): r["metrics"] for r in found}
    return last


details = {name: found for name in NAMES if (found := row(name))}
missing = [name for name in NAMES if name not in details]


def mean(name, key, contrast, which=shifts.SUITS):
    values = [details[name][d, contrast][key] for d in which if (d, contrast) in details[name]]
    return sum(values) / len(values) if values else None


def shown_share(name, who, contrast):
    """Contrast recovery: mean over suits and positions of each image, then over images with Student's interval."""
    each = [details[name][d, contrast][f"{who}contrast_recovery_images"] for d in shifts.SUITS]
    over = metrics.mean_ci([sum(values) / len(values) for values in zip(*each, strict=True)])
    return f"{over.mean:.2f} [{over.low:.2f}, {over.high:.2f}]"


figures.table(
    [{"network": TITLES[name], **{f"{100 * c:g} %": shown_share(name, "", c) for c in (0.1, 0.3, 0.6)},
      "TV, 30 %": shown_share(name, "stable_", 0.3), "front end, 30 %": mean(name, "front_end_contrast_recovery", 0.3)}
     for name in details], digits=2,
    caption="Contrast recovery of the four suits by contrast (of the image's maximum), with 95 % intervals over images")

# %%
figures.bars(
    [TITLES[name] for name in details],
    {"network": [mean(name, "contrast_recovery", 0.3) for name in details],
     "TV": [mean(name, "stable_contrast_recovery", 0.3) for name in details],
     "linear front end": [mean(name, "front_end_contrast_recovery", 0.3) for name in details]},
    y_label="share of the contrast that is shown", title="Suits at 30 % contrast",
    alt="Contrast recovery of every network, total variation and the front end on the same measurements.")

# %%
def area(name, who, contrast):
    """AUROC, mean over suits of the value and of the ends of its interval."""
    ends = [details[name][d, contrast][f"{who}auroc_ci"] for d in shifts.SUITS]
    low, high = (sum(side) / len(side) for side in zip(*ends, strict=True))
    return f"{mean(name, f'{who}auroc', contrast):.2f} [{low:.2f}, {high:.2f}]"


figures.table(
    [{"network": TITLES[name], **{f"{label}, 10 %": area(name, who, 0.1) for who, label in
                                  (("", "network"), ("stable_", "TV"), ("front_end_", "front end"))},
      "network, 30 %": mean(name, "auroc", 0.3), "TV, 30 %": mean(name, "stable_auroc", 0.3)} for name in details],
    digits=2, caption="AUROC of a matched filter for the suits, with 95 % intervals over details where it is not near 1")

# %%
figures.table(
    [{"network": TITLES[name], **{f"{label}, {100 * c:g} %": mean(name, f"{who}contrast_recovery", c, ("text",))
                                  for c in (0.3, 0.6) for who, label in (("", "network"), ("stable_", "TV"), ("front_end_", "front end"))}}
     for name in details if ("text", 0.3) in details[name]], digits=2, caption="The text: contrast recovery at 30 and 60 %")

# %% [markdown]
# ## More samples should help (Fig. 5)
#
# A stable method that is given more measurements gives a better image: there is more in them. A network was trained at *one* sampling rate; its input at
# another looks unlike anything it has seen. The same images, measured with fewer and with more samples than in training (masks of Deep MRI and
# views of CT are nested: more means the same and others), network and TV on the same data, TV with one weight for all rates:

# %% tags=["hide-input"]
def rates(name):
    found = [r for r in store.records(experiment="more_samples", network=name, profile=recorded) if "share" in r["metrics"]]
    return max(found, key=lambda r: r["created"])["metrics"] if found else None


sampled = {name: found for name in NAMES if (found := rates(name))}
missing += [name for name in NAMES if name not in sampled and name not in sampling.EXCLUDED]
for name, m in sampled.items():
    plot = figures.curves([100 * s for s in m["share"]],
                          {"network": m["psnr_db"], "TV": m["psnr_stable_db"], "front end": m["psnr_front_end_db"]},
                          x_label="samples (% of those in training)", y_label="PSNR, dB", log_x=True, height=320, title=TITLES[name],
                          alt=f"PSNR of {TITLES[name]}, of total variation and of the linear front end against the number of samples.")
    display(plot.add_vline(x=100, line_dash="dot"))

# %%
WORDS = {1: "improves", 0: "stagnates", -1: "degrades"}


def doubt(m):
    """Student's interval over two to four images is wider than two standard errors."""
    low, high = m["change_db_ci"] or (-1, 1)
    return " (?)" if m["verdict"] and low <= 0 <= high else ""


figures.table(
    [{"network": TITLES[name], "verdict": WORDS[m["verdict"]] + doubt(m), "change, dB": m["change_db"],
      "95 % interval": f"[{m['change_db_ci'][0]:+.1f}, {m['change_db_ci'][1]:+.1f}]" if m["change_db_ci"] else "–",
      "from its best to the most samples, dB": m["psnr_db"][-1] - max(m["psnr_db"]),
      "TV": WORDS[m["stable_verdict"]], "TV's change, dB": m["stable_change_db"],
      "TV, from its best": m["psnr_stable_db"][-1] - max(m["psnr_stable_db"]),
      "paper": verdicts.PAPER.get(("samples", name.removesuffix("-published")), "")} for name, m in sampled.items() if "verdict" in m],
    caption=f"From the training's rate to {sampling.BEYOND:g} times as many samples and more (mean over these rates, paired by image)")

# %% [markdown]
# Two questions that are easily confused: is the image better than with the training's samples (the verdict), and would it have been better
# with fewer than one has (the fall from the best rate)? (?) marks a verdict whose interval holds 0. The rule was fixed before the numbers were looked at: a verdict needs a mean change of half a decibel and of two standard errors. The sign of a slope alone would
# be the wrong rule: with filtered back-projection of all views as the truth, as published for Ell-50, even total variation seems to
# get worse with more views, since it leaves that truth's noise behind. Here the truth is the image itself.
#
# ## What the paper says, and what is here

# %%
VERBS = {"details": "details", "samples": "more samples"}
EYE = "the paper shows pictures and no number; its details are finer and its contrasts unknown"
REASONS = {
    ("details", "ell-50"): f"{EYE}; ours is a smaller U-Net, at 128 pixels instead of 512",
    ("details", "dagan"): f"{EYE}; ours is a fortieth of the size and sees 128 pixels",
    ("details", "mri-vn"): f"{EYE}; 30 % of the lines here, 15 % there, and heads for knees",
    ("samples", "ell-50"): "its truth is the filtered back-projection of 1000 views, ours the image; beyond twice the views it "
                           "gains nothing more, while TV does",
    ("samples", "med-50"): "here it gains at first and falls from twice the views on, so that the mean beyond 1.5 times is still a gain; "
                           "12 views in training here, 50 there",
    ("samples", "mri-vn"): "its data term uses whatever is measured; with 2 % noise, and the input scaled to 1 at every rate as in "
                           "training, it follows; two images only",
}
for v in verdicts.verdicts(recorded):
    if v.test in VERBS and v.paper:
        if v.agrees:
            claim(f"{TITLES[v.name]}, {VERBS[v.test]}: {v.word}, as in the paper ({v.said})", True, at_least="smoke")
        else:
            report.differs(f"{TITLES[v.name]}, {VERBS[v.test]}", theirs=v.paper, ours=f"{v.word} ({v.said}); TV {v.stable_word}",
                           reason=REASONS[v.test, v.name.removesuffix("-published")])

# %% [markdown]
# ## Claims

# %%
claim("everything that the tables show was computed", not missing, at_least="smoke")
if case.task.startswith("ct"):
    back = metrics.pearson(shown[2].flatten()[None], drawn.image.flatten()[None]).item()
    ours = metrics.pearson(shown[0].flatten()[None], drawn.image.flatten()[None]).item()
    print(f"correlation with the detail: front end {back:.2f}, network {ours:.2f}")
for name in details:
    if name in ("ell-50", "med-50", "unet-limited"):
        claim(f"{TITLES[name]} shows less of the suits than the filtered back-projection that it starts from",
              mean(name, "contrast_recovery", 0.3) < mean(name, "front_end_contrast_recovery", 0.3), at_least="smoke")
for name in ("ell-50", "med-50"):
    if name in sampled:
        ours, back = sampled[name]["psnr_db"][-1], sampled[name]["psnr_front_end_db"][-1]
        claim(f"with ten times the views plain filtered back-projection beats {TITLES[name]}, which starts from it "
              f"({back:.1f}, {ours:.1f} dB)", back > ours, at_least="smoke")
claim("total variation never gets worse with more samples",
      all(m.get("stable_verdict", 0) >= 0 for m in sampled.values()), at_least="smoke")

# %% [markdown]
# ## Exercises
#
# **1.** Filtered back-projection is linear. Show that its contrast recovery does not depend on the contrast. Whose does, and why?

# %% tags=["hide-cell"]
for name in details:
    recoveries = [mean(name, "front_end_contrast_recovery", c) for c in structure.CONTRASTS]
    if name not in ("dagan", "deep-mri", "deep-mri-published", "mri-vn", "mri-vn-published", "automap"):  # magnitudes are not linear
        assert max(recoveries) - min(recoveries) < 1e-3
print("A nonlinear method decides by size and contrast what is noise; so does total variation, whose loss at an edge is constant.")

# %% [markdown]
# **2.** A method that copies a picture from an atlas, whatever is measured, has AUROC ½ and contrast recovery 0. Check it.

# %% tags=["hide-cell"]
box = next(iter(drawn.boxes.values()))
atlas, part = torch.rand(1, 1, *case.A.image_shape), drawn.image[0, 0][box]
assert structure.slope(atlas[0, 0][box] - atlas[0, 0][box], part) == 0
assert structure.auroc([(1.0, 1.0), (2.0, 2.0)]).mean == 0.5

# %% [markdown]
# ## References
#
# The tests: {cite:t}`antun2020`. Networks: {cite:t}`jin2017`, {cite:t}`schlemper2018`, {cite:t}`hammernik2018`, {cite:t}`yang2018`,
# {cite:t}`zhu2018`, {cite:t}`zhang2017`. Total variation: {cite:t}`rudin1992`.
