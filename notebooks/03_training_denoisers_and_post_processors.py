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
# # Training denoisers and post-processors
#
# **What you will see**
# - The simplest way to learn a reconstruction: invert badly, then let a network repair the image. Three architectures,
#   one loss, and a small denoiser that learns in front of you.
# - Four trained networks on images they have never seen, beside total variation on the same data, with intervals, and
#   with other seeds of the same recipe: how much of a difference is luck?
# - What such a network cannot know, because of what it is given and how it is built, however long it trains.
#
# **Needs** [operators](01_operators_and_fbp) for filtered back-projection, [stable solvers](02_what_stable_looks_like)
# for total variation. Measured minutes and memory per profile: [status](../book/status.md).

# %% tags=["parameters"]
profile = "standard"  # smoke: seconds, proves that it runs · standard: shipped weights · paper: trains at the papers' scale, on a GPU
seed = 0  # every random draw of this chapter, and the first seed of the networks
task = "all"  # denoising: DnCNN · ct_limited: the U-Net · ct_sparse: Ell-50 and Med-50 · all
width = 16  # channels of the denoiser that is trained live
live_steps = 600  # updates of the denoiser that is trained live (smoke: 40 at most)

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In, choices={"task": ("all", "denoising", "ct_limited", "ct_sparse")})

# %%
import copy
import inspect
import math

import torch

from instab_utils import data, figures, metrics, networks, operators, report, solvers, store, training, widgets
from instab_utils.networks import pretrained
from instab_utils.training import SIGMA

budget = profiles.get(profile)
claim = report.claims(profile)
tasks = {"denoising": ["dncnn"], "ct_limited": ["unet-limited"], "ct_sparse": ["ell-50", "med-50"]}
names = [name for key, group in tasks.items() if task in (key, "all") for name in group]
print(f"profile {profile}, data: {data.situation()}; networks: {', '.join(training.TITLES[name] for name in names)}")

# %% [markdown]
# ## Invert, then repair
#
# A **post-processing scheme** takes an inverse that is quick and bad, and puts a network $\Phi_\theta$ behind it:
#
# $$ x_\mathrm{rec} = \Phi_\theta(A^+ y), \qquad \min_\theta \; \frac1N \sum_{i=1}^N \big\| \Phi_\theta(A^+ y_i) - x_i \big\|^2 . $$
#
# $A^+$ is filtered back-projection for CT; for denoising $A$ is the identity and there is nothing to invert. All the
# physics is in $A^+$. The network sees an image with streaks or noise and was shown, $N$ times, what should have been
# there. It minimises an *average* over the training images. Nothing in the formula asks that the answer explain the
# measurement, and nothing says what to do with an image unlike those $N$.
#
# | network | its input | built in | only learnt | not given |
# |---|---|---|---|---|
# | **DnCNN** | $y$ | predicts the *noise*, $f(y) = y - \Phi(y)$; sees a small neighbourhood | how strong the noise is, what an edge is | the noise level |
# | **limited-angle U-Net** | FBP | many scales, dropout; no way around: *draws the whole image* | everything, even what FBP had right; what the missing wedge hides | $A$, $y$ |
# | **Ell-50, Med-50** (FBPConvNet) | FBP | adds a correction, $f(u) = u + \Phi(u)$; statistics of each image divided out | what streaks look like | $A$, $y$ |
#
# Ell-50 and Med-50 are one architecture: the first learnt from ellipses, the second from pictures. "50" was the number
# of views at 512 pixels; at our size the number of views is smaller in proportion.

# %%
for name in names:
    size = training.recipe(name, profile).image_size
    print(f"{training.TITLES[name]:20}", training.task(name, 180 if name == "dncnn" else size).A)

# %% [markdown]
# The forward passes are short enough to read. DnCNN's residual is its last line:

# %%
print(inspect.getsource(networks.DnCNN.forward))

# %% [markdown]
# And FBPConvNet's is *its* last line. Down through the levels, up again, at each level the image of that size from the way
# down beside the one from the way up:

# %%
print(inspect.getsource(networks.FBPConvNet.forward))

# %% [markdown]
# ## Who may learn from what
#
# A network must not be tested on what it has learnt from, and "not the same file" is not enough. Neighbouring slices of
# one head are nearly the same picture. So the split is **by subject**: whole volumes train, another volume is for choices
# (when to stop, which weight TV gets), others again are for tests. A test of this project compares *pixels*, under all
# eight flips and turns, across the three groups, and has to find a duplicate that was planted.
#
# How much is at stake? Take a student who has learnt nothing but the training images by heart, and answers with the one
# that is nearest. How well does he do on a slice whose neighbours he knows, and on a slice of a head he does not know?

# %%
learnt, about = data.pool("mr", 64, "train")
unseen, about_unseen = data.pool("mr", 64, "validate")


def nearest_db(images, known):
    """PSNR of the nearest other image of `known`, by root mean square distance: nothing but memory."""
    distance = torch.cdist(images.flatten(1), known.flatten(1))
    return -20 * torch.log10(distance.masked_fill(distance < 1e-3, math.inf).amin(1) / 64)


by_slice, by_subject = (nearest_db(part, learnt).median().item() for part in (learnt, unseen))
print(f"{about}: the nearest other slice is at {by_slice:.1f} dB (median)\n"
      f"{about_unseen}: the nearest training slice is at {by_subject:.1f} dB")

# %% [markdown]
# The difference is what a split by slice gives away for pure memory. Validation and test data of this chapter:

# %%
def group(path):
    return path.split("/")[1].split(".")[0] if path.startswith("volumes/") else path.rsplit("/", 1)[0]


shared = [set(data.SPLITS[a]) & set(data.SPLITS[b]) for a, b in (("train", "validate"), ("train", "test"), ("validate", "test"))]
figures.table(
    [{"split": split, "files": len(paths), "from": ", ".join(dict.fromkeys(map(group, paths)))}
     for split, paths in data.SPLITS.items()],
    caption="Files by split; ellipses have a random stream of their own in each",
)

# %% [markdown]
# ## A denoiser learns, live
#
# The recipe is that of the shipped DnCNN with fewer layers, fewer channels, and few but large steps: patches of 40 x 40
# pixels from the training photographs, turned and mirrored at random, *fresh* noise of $\sigma = 25/255$ on each, Adam
# {cite:p}`kingma2015`. `prepare` gives the parts; `fit` is the loop. The score on validation photographs is taken as
# it goes, and with it a look at one of them.

# %%
device = "cuda" if torch.cuda.is_available() else "cpu"
steps = live_steps if budget.at_least("standard") else min(live_steps, 40)
live = training.recipe("dncnn", "standard", seed, steps=steps, every=max(1, steps // 8), batch_size=4, lr=5e-3,
                       architecture=dict(n_layers=6, width=width))
work = training.prepare(live, device)
photo, photo_source = data.demo("natural", 1, 180, "validate")
noisy = photo + SIGMA * torch.randn(photo.shape, generator=profiles.generator(seed, "live photo"))
frames = []


def look():
    frames.append(work.network(noisy.to(device)).cpu())
    return work.validate()


with torch.no_grad():
    before = look()
loop = training.Loop(steps, seed=seed, every=live.every)
history = training.fit(work.network, work.parts, work.draw, loop, validate=look, progress=False)
print(f"{sum(w.numel() for w in work.network.parameters()):,} parameters, {steps} steps, {history.seconds:.0f} s on {device}: "
      f"{before:.1f} dB before, {history.best_db:.1f} dB after; learnt from {work.source}")

# %%
clean, _ = data.pool("natural", 96, "validate", 8)  # what work.validate() looks at, under another draw of the noise
y = clean + SIGMA * torch.randn(clean.shape, generator=profiles.generator(seed, "live yardsticks"))
noise_db = metrics.psnr_db(y, clean).mean().item()
tv_db = max(metrics.psnr_db(solvers.tv(operators.Identity(96), y, w, n_iter=100).x, clean).mean().item() for w in (0.05, 0.065, 0.08))
at = [0, *[row["step"] for row in history.curve]]
scores = [before, *[row["validation_db"] for row in history.curve]]
figures.curves(
    at, {"live denoiser": scores, "TV at its best weight": [tv_db] * len(at), "the noisy image itself": [noise_db] * len(at)},
    x_label="step", y_label="validation PSNR, dB", title="A denoiser learns",
    alt="Validation PSNR of the live denoiser against steps: it starts below the noisy image, rises above it and towards TV.")

# %% [markdown]
# It starts *worse than doing nothing*: with random weights it subtracts something random. Then it learns to subtract
# nothing, then to subtract what does not look like a photograph. PSNR is relative to each photograph's brightest pixel.
# Drag the slider through its education.

# %%
widgets.explore(
    [figures.panels([noisy, x_rec, photo], ["noisy", f"after {step} steps", "the photograph"], window=(0, 1), error_of=-1, error_limit=0.3,
                    captions=[f"{metrics.psnr_db(z.clamp(0, 1), photo).item():.1f} dB" for z in (noisy, x_rec)] + [""],
                    alt=f"A noisy photograph, the live denoiser's answer after {step} steps, and the clean one, with errors.")
     for step, x_rec in zip(at, frames)],
    at, name="training step", value=len(at) - 1)

# %% [markdown]
# ## The networks that are shipped
#
# They were trained the same way, only longer. What follows is read from the *card* that lies beside each set of
# weights; nobody typed it here. "Kept after" is the step whose validation score was best: choosing it is a use of the
# validation images, which is why the test images are others.

# %%
seeds = [seed + k for k in range(3 if budget.at_least("standard") else 2)]
recipes = {name: training.recipe(name, profile, seed) for name in names}
shipped = {name: store.load_or_train(recipes[name], progress=False) for name in names}
count = lambda net: sum(w.numel() for w in net.parameters())  # noqa: E731
figures.table(
    [{"network": training.TITLES[name], "parameters": f"{count(t.network):,}", "pixels": recipes[name].image_size,
      "kept after": f"{t.card['steps']} of {recipes[name].steps}", "minutes": t.card["seconds"] / 60, "on": t.card["device"],
      "validation, dB": t.card["validation"]["psnr_db"], "stored as": "float16" if t.card["half"] else "float32"}
     for name, t in shipped.items()],
    caption="From the cards of the weights")

# %%
for name, t in shipped.items():
    print(f"{training.TITLES[name]} learnt from {t.card['data']}")

# %% [markdown]
# Their loss curves. The training loss is a mean squared error on $[0, 1]$, so $-10 \log_{10}$ of it is in decibels, too.
# Read the two curves with care: they are of different images (patches, or augmented pictures, against whole slices), and
# dropout is on in training only. A gap that *opens* while training goes on improving is overfitting; a gap that is
# there from the start is a difference between the pools. Several seeds where we have them.

# %%
def has_seeds(name):
    return name in ("dncnn", "unet-limited")


members = {name: {s: store.load_or_train(training.recipe(name, profile, s), progress=False) for s in seeds}
           if has_seeds(name) else {seed: shipped[name]} for name in names}
for name, runs in members.items():
    own = shipped[name].card["curve"]
    display(figures.curves(
        [row["step"] for row in own],
        {"training loss": [-10 * math.log10(row["loss"]) for row in own],
         **{f"validation, seed {s}": [row["validation_db"] for row in t.card["curve"]] for s, t in runs.items()}},
        x_label="step", y_label="dB", title=training.TITLES[name],
        alt=f"Training loss in decibels and validation PSNR of {training.TITLES[name]} against training steps."))

# %% [markdown]
# ## On images that nobody has seen
#
# Now the test. Every method gets the same measurements. TV has its one weight from validation images, as
# [before](02_what_stable_looks_like). CT slices are measured on a grid twice as fine, so that neither the network nor TV gets the
# scanner's own matrix. One thing is special about **Ell-50**: its *training* truth is what its authors could get from
# a scanner, the FBP of all views. Its *test* truth here is the phantom itself, which only an inventor of phantoms has.

# %%
n_images = {"dncnn": 8 * budget.n_images, "ell-50": 4 * budget.n_images}  # CT: the four slices there are
compared = {name: training.compare(recipes[name], n_images.get(name, budget.n_images), seed, n_iter=budget.solver_iterations)
            for name in names}
for name, c in compared.items():
    print(f"{c.case.title}: {len(c.case.x)} {c.case.source}, {c.case.x.shape[-1]} pixels; TV weight {c.tv_weight:g}, "
          f"largest relative duality gap {c.tv_gap:.0e}")


# %%
def row(c, i=0):
    shown = {"denoising": "noisy"}.get(c.case.task, "FBP")
    methods = {shown: "input", "TV": "TV", c.case.title: "network"}
    return figures.panels(
        [*[c.images[m][i : i + 1] for m in methods.values()], c.case.x[i : i + 1]], [*methods, "truth"], window=(0, 1),
        error_of=-1, error_limit=0.2, captions=[*[f"{c.psnr_db[m][i].item():.1f} dB" for m in methods.values()], ""], columns=4,
        lossless=not c.case.source.startswith("AAPM"),
        alt=f"{shown}, total variation, {c.case.title} and the truth, with their errors below.")


for c in compared.values():
    display(row(c))

# %% [markdown]
# Wipe from the input to the network's answer. (The CT slices may not be handed on, so the two networks that are tested on
# them show a phantom here, through the same scan.)


# %%
def wipe(name, c):
    before, after, what = c.images["input"][0], c.images["network"][0], c.case.source
    if what.startswith("AAPM"):
        scan = training.task(name, recipes[name].image_size)
        ellipses = data.phantoms.random_ellipses(1, scan.pool_size, profiles.generator(seed, "wipe"))[0]
        y, _, _ = scan.measure(ellipses, None)
        before, after, what = scan.A.pinv(y)[0], c.case.f(y)[0], "a phantom of ellipses"
    return widgets.compare(before[0], after[0], titles=("input", c.case.title), window=(0, 1),
                           caption=f"{c.case.title}: {what}",
                           alt=f"Input and answer of {c.case.title}, {what}; the handle wipes between them.")


for name, c in compared.items():
    display(wipe(name, c))

# %% [markdown]
# ## The table
#
# Means with 95 % intervals over the test images. What decides between two methods is the **paired** gain, image by
# image, because images differ more from each other than methods do. An interval over a handful of CT slices tells how the
# slices vary, not how *patients* do. The last column asks what the loss never asked: does the answer explain the
# measurement, $\|A x_\mathrm{rec} - y\| / \|y\|$? The last row of each network says what is to be expected of the truth:
# with noise the right misfit is the noise, not zero. Where the duality gap above is not small, TV was stopped before its
# minimum; what stands here is what it had reached by then.

# %% tags=["hide-input"]
def interval(mean, digits=2):
    return f"{mean.mean:.{digits}f}" + ("" if math.isnan(mean.low) else f" [{mean.low:.{digits}f}, {mean.high:.{digits}f}]")


@torch.no_grad()
def with_network(c, f):
    """The comparison c with the answers of another network to the same measurements."""
    x, x_rec = c.case.x, torch.cat([f(y) for y in c.case.y.split(4)]).clamp(0, 1)
    return c._replace(images={**c.images, "network": x_rec}, psnr_db={**c.psnr_db, "network": metrics.psnr_db(x_rec, x)},
                      ssim={**c.ssim, "network": metrics.ssim(x_rec, x)})


def misfit(c, x):
    """Mean of ||A x - y|| / ||y|| in per cent."""
    return (100 * metrics.relative_error(c.case.A(x), c.case.y)).mean().item()


published = {}
if "dncnn" in names:
    try:
        published["dncnn"] = with_network(compared["dncnn"], pretrained.reconstructor("dncnn-25", compared["dncnn"].case.A))
    except data.DataUnavailable as missing:
        print(f"The published DnCNN is left out, its weights are not here. {missing}")

# %% tags=["hide-input"]
rows = []
for name, c in compared.items():
    parts = {"input": (c, "input"), "TV": (c, "TV"), "network": (c, "network")}
    if name in published:
        parts["published network"] = (published[name], "network")
    for label, (part, m) in parts.items():
        gain = metrics.mean_ci(c.psnr_db["network"] - part.psnr_db[m])
        rows.append({"": c.case.title if label == "input" else "", "answer": label,
                     "PSNR, dB": interval(metrics.mean_ci(part.psnr_db[m])), "SSIM": interval(metrics.mean_ci(part.ssim[m]), 3),
                     "misfit, %": misfit(c, part.images[m]),
                     "our network is better by, dB": "" if label == "network" else interval(gain)})
    rows.append({"answer": "the truth", "misfit, %": misfit(c, c.case.x)})
figures.table(rows, caption="Test images, means with 95 % intervals: "
              + ", ".join(f"{len(c.case.x)} for {c.case.title}" for c in compared.values()))

# %% [markdown]
# The published DnCNN is the one that chapter 07 attacks: more layers, wider, trained far longer on
# the same photographs.
#
# ## How much is luck?
#
# A training draws its first weights, its batches, its noise and its dropout. Draw again, with the same recipe, and another
# network comes out. A difference between two *methods* that is no larger than that between two *seeds* says nothing about the
# methods. For DnCNN and the U-Net we have several seeds.

# %%
again = {name: {s: with_network(c, networks.Reconstructor(t.network, c.case.A)) for s, t in members[name].items()}
         for name, c in compared.items() if has_seeds(name)}
seed_db, luck = {}, {}
for name, runs in again.items():
    seed_db[name] = torch.stack([c.psnr_db["network"].mean() for c in runs.values()])
    luck[name] = seed_db[name].std().item()
    errors = [c.images["network"] - c.case.x for c in runs.values()]
    alike = metrics.pearson(errors[0], errors[1]).mean().item()
    gain = compared[name].gain_db("TV").mean
    print(f"{training.TITLES[name]}: {', '.join(f'{value:.2f}' for value in seed_db[name])} dB, mean {seed_db[name].mean():.2f}, "
          f"standard deviation over seeds {luck[name]:.2f} dB; its gain over TV is {gain:.2f} dB; "
          f"the error images of two seeds correlate by {alike:.2f}")

# %% [markdown]
# Where two seeds make the *same* error, that is the doing of the recipe and the data; the rest is luck. Keep the pictures
# in mind for later: what several seeds disagree about is a measure of uncertainty, and what they agree about and
# get wrong is what such a measure cannot see.

# %%
for name, runs in again.items():
    c = compared[name]
    display(figures.panels(
        [*[run.images["network"][:1] for run in runs.values()], c.case.x[:1]], [*[f"seed {s}" for s in runs], "truth"],
        captions=[*[f"{run.psnr_db['network'][0].item():.2f} dB" for run in runs.values()], ""], window=(0, 1),
        error_of=-1, error_limit=0.2, columns=4, lossless=not c.case.source.startswith("AAPM"),
        caption=f"{c.case.title}: the same data, the same recipe, other draws",
        alt=f"{c.case.title} with several seeds, with errors: images and errors resemble each other."))

# %% tags=["hide-input"]
# Keep the numbers: a record for each network and seed.
for name, runs in {name: again.get(name, {seed: compared[name]}) for name in names}.items():
    for s, c in [*runs.items(), *[("published", c) for c in [published.get(name)] if c]]:
        known = s == "published"
        store.save_record(store.record(
            experiment="reconstruct", task=c.case.task, network=f"{name}-published" if known else name, method=name,
            seed=seed if known else s, profile=profile, parameters={"n_iter": budget.solver_iterations, "noise_seed": seed},
            inputs=[c.case.source, *([] if known else [members[name][s].key])],
            metrics=c.metrics()))

# %% [markdown]
# ## What they cannot know
#
# **The noise level.** DnCNN was shown one noise level and gets no hint which one it is. So what it has learnt is not "noise" but "what
# is not photograph, *at that strength*". Below, the same photographs with less and with more noise. TV has its
# dial: left where it was set for the training level, and turned in proportion to the noise.

# %%
if "dncnn" in names:
    s = compared["dncnn"].case
    x, e = s.x[: budget.n_images], ((s.y - s.x) / SIGMA)[: budget.n_images]
    levels = [5, 10, 15, 20, 25, 30, 40, 50]
    weight, n_iter = compared["dncnn"].tv_weight, budget.solver_iterations // 2
    f = {"noisy": lambda y, k: y, "DnCNN": lambda y, k: s.f(y),
         "TV, dial left alone": lambda y, k: solvers.tv(s.A, y, weight, n_iter=n_iter).x,
         "TV, dial turned": lambda y, k: solvers.tv(s.A, y, weight * k / 25, n_iter=n_iter).x}
    with torch.no_grad():
        by_level = {m: [metrics.psnr_db(g(x + k / 255 * e, k).clamp(0, 1), x).mean().item() for k in levels]
                    for m, g in f.items()}
    display(figures.curves(levels, by_level, x_label="noise, standard deviation × 255 (trained at 25)", y_label="PSNR, dB",
                           title="One noise level learnt, others met",
                           alt="PSNR against noise level: the noisy image, DnCNN, and total variation, its weight fixed or in proportion."))

# %% [markdown]
# **The units.** Doubling $y$ (another detector gain, another unit) should double the answer and nothing else. FBP does so exactly
# and TV too, with $\alpha$ in the same units. A network with biases does not: FBPConvNet divides the statistics of the image out, so its
# *correction* hardly knows how bright the image is; DnCNN takes contrast that is as weak as noise for noise. The INN paper's code
# goes the whole way and maps each back-projection to $[0, 1]$, so that no brightness is left to know (exercise 2); our U-Net gets the FBP as it is.

# %%
factors = [0.25, 0.5, 0.71, 1, 1.41, 2, 4]
with torch.no_grad():
    by_factor = {s.title: [metrics.psnr_db((s.f(k * s.y[:4]) / k).clamp(0, 1), s.x[:4]).mean().item() for k in factors]
                 for s in (c.case for c in compared.values())}
lost = {title: [value - values[factors.index(1)] for value in values] for title, values in by_factor.items()}
figures.curves(factors, lost, x_label="c", y_label="PSNR of f(c y) / c, against f(y), dB", log_x=True,
               title="The same scan in other units",
               alt="Change of PSNR when data are multiplied by c and the answer divided by c: the networks lose away from c = 1.")

# %% [markdown]
# **The truth.** Ell-50 learnt from the FBP of *all* views and is tested against the phantom. A perfect pupil would answer with
# that FBP. What would it score? TV knows nothing of that ceiling.

# %%
if "ell-50" in names:
    s = compared["ell-50"].case
    size, n_views = s.A.image_size, training.views("ell-50", s.A.image_size)[0]
    tables, _ = training.test_images(training.task("ell-50", size), len(s.x))
    every = operators.Radon(size, torch.arange(n_views, dtype=torch.float64) * 180 / n_views)
    y_all = data.phantoms.ellipse_sinogram(tables, every.angles_deg, every.n_detectors, size, bin_average=True)
    ceiling = metrics.mean_ci(metrics.psnr_db(every.fbp(y_all).clamp(0, 1), s.x))
    print(f"FBP of all {n_views} views: {interval(ceiling)} dB")
    for m, scores in compared["ell-50"].psnr_db.items():
        print(f"   {m} from {s.A.n_views} views: {interval(metrics.mean_ci(scores))} dB")

# %% [markdown]
# ## Learned is not automatically better
#
# Look at the table again: who wins depends on *what is left to know*. Photographs with noise are full of texture that TV
# flattens and a network has seen; there, learning pays. The CT scans here have no noise at all, and their images are
# nearly flat between edges. That is total variation's home ground: few numbers describe such an image, and the missing
# ones follow. A network of this size, from this many pictures, in these minutes, does not find what one line of mathematics
# states. It is in addition not asked to agree with the measurement: compare the misfits.
#
# So read the next chapters with this in mind: **these networks are subjects, not winners.** The question there is
# not whether they are the best way to invert, but how one of them fails, and what tells you so.

# %%
def verdict(c):
    gain = c.gain_db("TV")
    said = "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not told apart from"
    return f"{c.case.title} is {said} TV on {len(c.case.x)} {c.case.source}: {interval(gain)} dB"


for name, c in compared.items():
    print(verdict(c))
if "med-50" in names and budget.at_least("standard") and compared["med-50"].gain_db("TV").mean < 0:
    report.differs(
        "FBPConvNet and total variation on realistic CT",
        theirs="the network outperforms TV-regularised reconstruction for the more realistic phantoms (Jin et al., abstract)",
        ours=verdict(compared["med-50"]),
        reason="a smaller network, fewer and other training images, minutes of training; noiseless data of few, smooth slices")

# %% [markdown]
# ## How far from the papers
#
# What ships was trained on a CPU. `profile = "paper"` trains at the scale of the papers, on a GPU, from the same recipes.

# %%
scale = []
for name in names:
    for label, r in (("here", recipes[name]), ("profile paper", training.recipe(name, "paper", seed))):
        scale.append({"network": training.TITLES[name] if label == "here" else "", "": label, "pixels a side": r.image_size,
                      "parameters": f"{count(training.build(r)):,}", "images shown": f"{r.steps * r.batch_size:,}",
                      "optimiser": f"{r.optimiser}, {r.lr:g}, {r.schedule}"})
figures.table(scale, caption="Our scale beside the papers' (DnCNN: patches)")

# %% [markdown]
# ## Claims

# %%
real = {name: not c.case.source.startswith("phantom") for name, c in compared.items()}
claim("no file is in two splits", not any(shared), at_least="smoke")
if not about.startswith("phantom"):
    claim("a split by slice would give away more than 3 dB for memory alone", by_slice > by_subject + 3, at_least="smoke")
if width >= 16 and live_steps >= 400:
    claim("the live denoiser gains more than 4 dB over the noisy image", history.best_db > noise_db + 4)
claim("and began below it", before < noise_db)
for name, c in compared.items():
    title = c.case.title
    claim(f"{title} improves on its input in the mean, beyond the interval", c.gain_db("input").low > 0)
    if name == "dncnn" and real[name]:
        claim("DnCNN is better than TV on photographs", c.gain_db("TV").low > 0)
    elif name != "dncnn" and profile == "standard":
        claim(f"TV is better than {title}, as shipped, on noiseless CT", c.gain_db("TV").high < 0)
    if name != "dncnn":
        claim(f"{title} explains its measurement less well than TV", misfit(c, c.images["network"]) > misfit(c, c.images["TV"]))
    claim(f"{title} is not homogeneous: other units cost it more than 0.5 dB", min(lost[title]) < -0.5)
for name, c in published.items():
    if real[name]:
        claim("the published DnCNN is better than ours", (c.psnr_db["network"] - compared[name].psnr_db["network"]).mean() > 0)
for name in again:
    claim(f"{training.TITLES[name]}: what separates it from TV is not luck of the seed",
          abs(compared[name].gain_db("TV").mean) > 3 * luck[name])
if "dncnn" in names and real["dncnn"]:
    claim("at half the noise it was trained for, DnCNN gains less than at the noise it was trained for",
          by_level["DnCNN"][1] - by_level["noisy"][1] < by_level["DnCNN"][4] - by_level["noisy"][4])

# %% [markdown]
# ## Exercises
#
# **1.** How far does DnCNN look? Back-propagate from one pixel and count the input pixels that matter. Why can no such
# network undo the streaks of a CT scan, however wide?

# %% tags=["hide-cell"]
for n_layers in (2, 5, recipes["dncnn"].architecture["n_layers"] if "dncnn" in names else 10):
    net = networks.DnCNN(n_layers, 4, generator=profiles.generator(seed, "exercise"))
    with torch.no_grad():
        for weights in net.parameters():
            weights.abs_()  # no ReLU is off and nothing cancels: every path counts
    x_in = torch.ones(1, 1, 65, 65, requires_grad=True)
    net(x_in)[0, 0, 32, 32].backward()
    seen = int((x_in.grad[0, 0, 32] != 0).sum())
    assert seen == 2 * n_layers + 1
    print(f"{n_layers} layers: {seen} x {seen} pixels. A streak crosses the whole image; that is why CT networks have many scales")

# %% [markdown]
# **2.** The INN paper's code maps each FBP to $[0, 1]$ by its own minimum and maximum.
# Show that a network behind it cannot know how bright the patient is. How bright would it have to guess?

# %% tags=["hide-cell"]
scan = training.task("unet-limited", training.recipe("unet-limited", profile).image_size)
images, exercise_source = data.demo("ct", 9, scan.pool_size, "validate")
y, x, A = scan.measure(images, None)
u = A.pinv(y)


def unit_range(image):
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low)


assert torch.allclose(unit_range(u), unit_range(A.pinv(0.5 * y)), atol=1e-5)
factor = (u.amax((1, 2, 3)) - u.amin((1, 2, 3))) / x.amax((1, 2, 3))  # what is divided out, in units of the truth's maximum
print(f"a patient half as bright gives the same input. What is divided out lies between {factor.min():.2f} and {factor.max():.2f} "
      f"of the true maximum on {len(x)} {exercise_source}: streaks decide it, and a guess has to be wrong by about that")

# %% [markdown]
# **3.** Before any training, how far is the output of an FBPConvNet from its input, and that of a U-Net? What does that explain
# about the first points of their validation curves?

# %% tags=["hide-cell"]
start = {}
for name in ("ell-50", "unet-limited"):
    with torch.no_grad():
        start[name] = metrics.relative_error(training.build(training.recipe(name, profile, seed))(x), x).mean().item()
assert start["ell-50"] < 0.25 < start["unet-limited"]
print(f"FBPConvNet changes its input by {100 * start['ell-50']:.0f} %, the U-Net by {100 * start['unet-limited']:.0f} %: "
      "one starts from FBP, the other from nothing")

# %% [markdown]
# ## References
#
# DnCNN: {cite:t}`zhang2017`. The U-Net: {cite:t}`ronneberger2015`; the limited-angle one and the scheme: {cite:t}`oala2021`.
# FBPConvNet: {cite:t}`jin2017`; as Ell-50 and Med-50: {cite:t}`antun2020`. Photographs: {cite:t}`martin2001`. CT slices:
# {cite:t}`mccollough2017`.
