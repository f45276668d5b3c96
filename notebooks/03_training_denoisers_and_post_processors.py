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
# *The networks of Oala et al. (Table 2) and of Antun et al. (Ell-50, Med-50), trained by
# `python -m instab_utils.training all`; every size beside the paper's is in `profiles.STAGES`.*
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
# smoke: proves that it runs · standard: shipped weights · paper: papers' scale (GPU)
profile = "standard"
seed = 0  # every random draw of this chapter, and the first seed of the networks
# denoising: DnCNN · ct_limited: the U-Net · ct_sparse: Ell-50 and Med-50 · all
task = "all"
width = 16  # channels of the denoiser that is trained live
live_steps = 600  # updates of the denoiser that is trained live (smoke: 40 at most)

# %% tags=["remove-cell"]
from instab_utils import profiles

TASKS = {
    "denoising": ["dncnn"],
    "ct_limited": ["unet-limited"],
    "ct_sparse": ["ell-50", "med-50"],
}
profiles.check_parameters(In, choices={"task": ("all", *TASKS)})

# %%
import math

import torch

from instab_utils import data, figures, metrics, networks, operators, report
from instab_utils import solvers, store, training, widgets
from instab_utils.training import SIGMA, TITLES

budget, claim = profiles.get(profile), report.claims(profile)
names = [name for key in TASKS if task in (key, "all") for name in TASKS[key]]

# %% tags=["hide-input"]
shown = ", ".join(TITLES[name] for name in names)
print(f"profile {profile}, data: {data.situation()}; networks: {shown}")


def interval(mean, digits=2):
    """A mean with its interval; one image has none."""
    if math.isnan(mean.low):
        return f"{mean.mean:.{digits}f}"
    return f"{mean.mean:.{digits}f} [{mean.low:.{digits}f}, {mean.high:.{digits}f}]"


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
    A = training.task(name, 180 if name == "dncnn" else size).A
    print(f"{TITLES[name]:20}", A)

# %% [markdown]
# The forward passes are short enough to write down. DnCNN is a chain of convolutions; its residual is the last line:

# %%
random = profiles.generator(seed, "shown")
net = networks.DnCNN(n_layers=5, width=8, generator=random)
y = torch.rand(1, 1, 24, 24, generator=profiles.generator(seed, "shown image"))

hidden = y
for conv in net.convs[:-1]:
    hidden = torch.relu(conv(hidden))
x_rec = y - net.convs[-1](hidden)  # the last convolution predicts the noise

assert torch.equal(x_rec, net.eval()(y))

# %% [markdown]
# FBPConvNet adds its correction in *its* last line. Down through the levels, up again, at each level the image of that size from the way
# down beside the one from the way up:

# %%
net = networks.FBPConvNet(4, 3, generator=random)

hidden, skips = y, []
for level, convs in enumerate(net.down):
    hidden = convs(torch.nn.functional.max_pool2d(hidden, 2) if level else hidden)
    skips.append(hidden)
for up, convs, skip in zip(net.up, net.merge, reversed(skips[:-1])):
    hidden = convs(torch.cat([skip, up(hidden)], 1))
x_rec = y + net.last(hidden)

assert torch.equal(x_rec, net(y))

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
    """PSNR of the nearest other image of `known`: nothing but memory."""
    distance = torch.cdist(images.flatten(1), known.flatten(1))
    distance = distance.masked_fill(distance < 1e-3, math.inf)
    return -20 * torch.log10(distance.amin(1) / 64)


by_slice = nearest_db(learnt, learnt).median().item()
by_subject = nearest_db(unseen, learnt).median().item()

# %% tags=["hide-input"]
print(
    f"{about}: the nearest other slice is at {by_slice:.1f} dB (median)\n"
    f"{about_unseen}: the nearest training slice is at {by_subject:.1f} dB"
)

# %% [markdown]
# The difference is what a split by slice gives away for pure memory. Validation and test data of this chapter:


# %% tags=["hide-input"]
def group(path):
    parts = path.split("/")
    return parts[1].split(".")[0] if parts[0] == "volumes" else path.rsplit("/", 1)[0]


pairs = (("train", "validate"), ("train", "test"), ("validate", "test"))
shared = [set(data.SPLITS[a]) & set(data.SPLITS[b]) for a, b in pairs]
figures.table(
    [
        {
            "split": split,
            "files": len(paths),
            "from": ", ".join(dict.fromkeys(map(group, paths))),
        }
        for split, paths in data.SPLITS.items()
    ],
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
device = profiles.default_device()
steps = live_steps if budget.at_least("standard") else min(live_steps, 40)
small = dict(n_layers=6, width=width)
fast = dict(steps=steps, every=max(1, steps // 8), batch_size=4, lr=5e-3)
live = training.recipe("dncnn", "standard", seed, architecture=small, **fast)
work = training.prepare(live, device)
photo, photo_source = data.demo("natural", 1, 180, "validate")
live_noise = torch.randn(photo.shape, generator=profiles.generator(seed, "live photo"))
noisy, frames = photo + SIGMA * live_noise, []


def look():
    frames.append(work.network(noisy.to(device)).cpu())
    return work.validate()


# %% [markdown]
# One step of it: a batch, the loss of the formula above, its gradient. An optimiser then moves every weight against the
# gradient.

# %%
network = work.network.eval()  # without dropout
with torch.no_grad():
    before = look()
y, x, A = work.draw(0)  # noisy patches, the same patches, the identity
loss = (network(y) - x).square().mean()
assert torch.equal(loss, work.parts[0].loss((y, x, A)))
loss.backward()
slope = torch.cat([w.grad.flatten() for w in network.parameters()]).norm()
print(f"batch of {len(y)} patches: loss {loss:.4f}, norm of its gradient {slope:.3f}")

# %% [markdown]
# The loop does this again and again, with a new batch each time.

# %%
loop = training.Loop(steps, seed=seed, every=live.every)
history = training.fit(network, work.parts, work.draw, loop, look, progress=False)
n_weights = sum(w.numel() for w in network.parameters())
print(
    f"{n_weights:,} parameters, {steps} steps, {history.seconds:.0f} s on {device}: "
    f"{before:.1f} dB before, {history.best_db:.1f} dB after; learnt from {work.source}"
)

# %% tags=["hide-input"]
# what work.validate() looks at, under another draw of the noise
clean, _ = data.pool("natural", 96, "validate", 8)
yardsticks = profiles.generator(seed, "live yardsticks")
y = clean + SIGMA * torch.randn(clean.shape, generator=yardsticks)
noise_db = metrics.psnr_db(y, clean).mean().item()
A = operators.Identity(96)
tv_db = max(
    metrics.psnr_db(solvers.tv(A, y, w, n_iter=100).x, clean).mean().item()
    for w in (0.05, 0.065, 0.08)
)
at = [0, *[row["step"] for row in history.curve]]
scores = [before, *[row["validation_db"] for row in history.curve]]
figures.curves(
    at,
    {
        "live denoiser": scores,
        "TV at its best weight": [tv_db] * len(at),
        "the noisy image itself": [noise_db] * len(at),
    },
    x_label="step",
    y_label="validation PSNR, dB",
    title="A denoiser learns",
    alt="Validation PSNR of the live denoiser against steps: it starts below the noisy "
    "image, rises above it and towards TV.",
)

# %% [markdown]
# It starts *worse than doing nothing*: with random weights it subtracts something random. Then it learns to subtract
# nothing, then to subtract what does not look like a photograph. PSNR is relative to each photograph's brightest pixel.
# Drag the slider through its education.


# %% tags=["hide-input"]
def frame(step, x_rec):
    scores = [metrics.psnr_db(z.clamp(0, 1), photo).item() for z in (noisy, x_rec)]
    return figures.panels(
        [noisy, x_rec, photo],
        ["noisy", f"after {step} steps", "the photograph"],
        window=(0, 1),
        error_of=-1,
        error_limit=0.3,
        captions=[*[f"{score:.1f} dB" for score in scores], ""],
        alt=f"A noisy photograph, the live denoiser's answer after {step} steps, and "
        "the clean one, with errors.",
    )


widgets.explore(
    [frame(step, x_rec) for step, x_rec in zip(at, frames)],
    at,
    name="training step",
    value=len(at) - 1,
)

# %% [markdown]
# ## The networks that are shipped
#
# They were trained the same way, only longer. What follows is read from the *card* that lies beside each set of
# weights. "Kept after" is the step whose validation score was best: choosing it is a use of the
# validation images, which is why the test images are others.

# %%
seeds = [seed + k for k in range(3 if budget.at_least("standard") else 2)]
recipes = {name: training.recipe(name, profile, seed) for name in names}
shipped = {name: store.load_or_train(recipes[name], progress=False) for name in names}


# %% tags=["hide-input"]
def count(net):
    return sum(w.numel() for w in net.parameters())


figures.table(
    [
        {
            "network": TITLES[name],
            "parameters": f"{count(t.network):,}",
            "pixels": recipes[name].image_size,
            "kept after": f"{t.card['steps']} of {recipes[name].steps}",
            "minutes": t.card["seconds"] / 60,
            "on": t.card["device"],
            "validation, dB": t.card["validation"]["psnr_db"],
            "stored as": "float16" if t.card["half"] else "float32",
        }
        for name, t in shipped.items()
    ],
    caption="From the cards of the weights",
)

# %%
for name, t in shipped.items():
    print(f"{TITLES[name]} learnt from {t.card['data']}")

# %% [markdown]
# Every size of a recipe stands in one table of the package, `profiles.STAGES`, beside the paper's own number.

# %%
sizes = profiles.table()
sizes[sizes["stage"] == f"train {names[0]}"].drop(columns="stage").fillna("")

# %% [markdown]
# Their loss curves. The training loss is a mean squared error on $[0, 1]$, so $-10 \log_{10}$ of it is in decibels, too.
# Read the two curves with care: they are of different images (patches, or augmented pictures, against whole slices), and
# dropout is on in training only. A gap that *opens* while training goes on improving is overfitting; a gap that is
# there from the start is a difference between the pools. Several seeds where we have them.


# %%
def has_seeds(name):
    return name in ("dncnn", "unet-limited")


members = {name: {seed: shipped[name]} for name in names}
for name in filter(has_seeds, names):
    others = {s: training.recipe(name, profile, s) for s in seeds}
    members[name] = {
        s: store.load_or_train(r, progress=False) for s, r in others.items()
    }

# %% tags=["hide-input"]
for name, runs in members.items():
    own = shipped[name].card["curve"]
    loss_db = [-10 * math.log10(row["loss"]) for row in own]
    validation = {
        f"validation, seed {s}": [row["validation_db"] for row in t.card["curve"]]
        for s, t in runs.items()
    }
    display(
        figures.curves(
            [row["step"] for row in own],
            {"training loss": loss_db, **validation},
            x_label="step",
            y_label="dB",
            title=TITLES[name],
            alt=f"Training loss in decibels and validation PSNR of {TITLES[name]} "
            "against training steps.",
        )
    )

# %% [markdown]
# ## On unseen images
#
# Now the test. Every method gets the same measurements. TV has its one weight from validation images, as
# [before](02_what_stable_looks_like). CT slices are measured on a grid twice as fine, so that neither the network nor TV gets the
# scanner's own matrix. One thing is special about **Ell-50**: its *training* truth is what its authors could get from
# a scanner, the FBP of all views. Its *test* truth here is the phantom itself, which only an inventor of phantoms has.

# %%
# CT: the four slices there are
n_images = {"dncnn": 8 * budget.n_images, "ell-50": 4 * budget.n_images}
compared = {}
for name in names:
    n = n_images.get(name, budget.n_images)
    compared[name] = training.compare(recipes[name], n, seed, budget.solver_iterations)
for c in compared.values():
    print(
        f"{c.case.title}: {len(c.case.x)} {c.case.source}, "
        f"{c.case.x.shape[-1]} pixels; "
        f"TV weight {c.tv_weight:g}, largest relative duality gap {c.tv_gap:.0e}"
    )


# %% tags=["hide-input"]
def row(c, i=0):
    shown = "noisy" if c.case.task == "denoising" else "FBP"
    methods = {shown: "input", "TV": "TV", c.case.title: "network"}
    images = [c.images[m][i : i + 1] for m in methods.values()]
    return figures.panels(
        [*images, c.case.x[i : i + 1]],
        [*methods, "truth"],
        window=(0, 1),
        error_of=-1,
        error_limit=0.2,
        captions=[*[f"{c.psnr_db[m][i].item():.1f} dB" for m in methods.values()], ""],
        columns=4,
        lossless=not c.case.source.startswith("AAPM"),
        alt=f"{shown}, total variation, {c.case.title} and the truth, with their "
        "errors below.",
    )


for c in compared.values():
    display(row(c))

# %% [markdown]
# Wipe from the input to the network's answer. (The CT slices may not be handed on, so the two networks that are tested on
# them show a phantom here, through the same scan.)


# %% tags=["hide-input"]
def wipe(name, c):
    before, after, what = c.images["input"][0], c.images["network"][0], c.case.source
    if what.startswith("AAPM"):
        scan = training.task(name, recipes[name].image_size)
        random = profiles.generator(seed, "wipe")
        ellipses = data.phantoms.random_ellipses(1, scan.pool_size, random)[0]
        y, _, _ = scan.measure(ellipses, None)
        before, after = scan.A.pinv(y)[0], c.case.f(y)[0]
        what = "a phantom of ellipses"
    return widgets.compare(
        before[0],
        after[0],
        titles=("input", c.case.title),
        window=(0, 1),
        caption=f"{c.case.title}: {what}",
        alt=f"Input and answer of {c.case.title}, {what}; the handle wipes between "
        "them.",
    )


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


# %%
@torch.no_grad()
def with_network(c, f):
    """The comparison c with the answers of another network to the same measurements."""
    x, x_rec = c.case.x, torch.cat([f(y) for y in c.case.y.split(4)]).clamp(0, 1)
    return c._replace(
        images={**c.images, "network": x_rec},
        psnr_db={**c.psnr_db, "network": metrics.psnr_db(x_rec, x)},
        ssim={**c.ssim, "network": metrics.ssim(x_rec, x)},
    )


def misfit(c, x):
    """Mean of ||A x - y|| / ||y|| in per cent."""
    return (100 * metrics.relative_error(c.case.A(x), c.case.y)).mean().item()


# %%
published = {}
if "dncnn" in names:
    try:
        A = compared["dncnn"].case.A
        theirs = networks.pretrained.reconstructor("dncnn-25", A)
        published["dncnn"] = with_network(compared["dncnn"], theirs)
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
        better = "" if label == "network" else interval(gain)
        rows.append(
            {
                "": c.case.title if label == "input" else "",
                "answer": label,
                "PSNR, dB": interval(metrics.mean_ci(part.psnr_db[m])),
                "SSIM": interval(metrics.mean_ci(part.ssim[m]), 3),
                "misfit, %": misfit(c, part.images[m]),
                "our network is better by, dB": better,
            }
        )
    rows.append({"answer": "the truth", "misfit, %": misfit(c, c.case.x)})
counts = ", ".join(f"{len(c.case.x)} for {c.case.title}" for c in compared.values())
figures.table(rows, caption=f"Test images, means with 95 % intervals: {counts}")

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
again = {}
for name in filter(has_seeds, compared):
    A = compared[name].case.A
    again[name] = {
        s: with_network(compared[name], networks.Reconstructor(t.network, A))
        for s, t in members[name].items()
    }

# %% tags=["hide-input"]
seed_db, luck = {}, {}
for name, runs in again.items():
    seed_db[name] = torch.stack([c.psnr_db["network"].mean() for c in runs.values()])
    luck[name] = seed_db[name].std().item()
    errors = [c.images["network"] - c.case.x for c in runs.values()]
    alike = metrics.pearson(errors[0], errors[1]).mean().item()
    gain = compared[name].gain_db("TV").mean
    print(
        f"{TITLES[name]}: {', '.join(f'{value:.2f}' for value in seed_db[name])} dB, "
        f"mean {seed_db[name].mean():.2f}, "
        f"standard deviation over seeds {luck[name]:.2f} dB; "
        f"its gain over TV is {gain:.2f} dB; "
        f"the error images of two seeds correlate by {alike:.2f}"
    )

# %% [markdown]
# Where two seeds make the *same* error, that is the doing of the recipe and the data; the rest is luck. Keep the pictures
# in mind for later: what several seeds disagree about is a measure of uncertainty, and what they agree about and
# get wrong is what such a measure cannot see.

# %% tags=["hide-input"]
for name, runs in again.items():
    c = compared[name]
    scores = [run.psnr_db["network"][0].item() for run in runs.values()]
    display(
        figures.panels(
            [*[run.images["network"][:1] for run in runs.values()], c.case.x[:1]],
            [*[f"seed {s}" for s in runs], "truth"],
            captions=[*[f"{score:.2f} dB" for score in scores], ""],
            window=(0, 1),
            error_of=-1,
            error_limit=0.2,
            columns=4,
            lossless=not c.case.source.startswith("AAPM"),
            caption=f"{c.case.title}: the same data, the same recipe, other draws",
            alt=f"{c.case.title} with several seeds, with errors: images and errors "
            "resemble each other.",
        )
    )


# %% tags=["hide-input"]
# Keep the numbers: a record for each network and seed.
def keep(name, c, record_seed, key=None):
    store.save_record(
        store.record(
            experiment="reconstruct",
            task=c.case.task,
            network=name if key else f"{name}-published",
            method=name,
            seed=record_seed,
            profile=profile,
            parameters={"n_iter": budget.solver_iterations, "noise_seed": seed},
            inputs=[c.case.source, *([key] if key else [])],
            metrics=c.metrics(),
        )
    )


for name in names:
    for s, c in again.get(name, {seed: compared[name]}).items():
        keep(name, c, s, members[name][s].key)
    if name in published:
        keep(name, published[name], seed)

# %% [markdown]
# ## What they cannot know
#
# **The noise level.** DnCNN was shown one noise level and gets no hint which one it is. So what it has learnt is not "noise" but "what
# is not photograph, *at that strength*". Below, the same photographs with less and with more noise. TV has its
# dial: left where it was set for the training level, and turned in proportion to the noise.

# %% tags=["hide-input"]
if "dncnn" in names:
    s = compared["dncnn"].case
    x, e = s.x[: budget.n_images], ((s.y - s.x) / SIGMA)[: budget.n_images]
    levels = [5, 10, 15, 20, 25, 30, 40, 50]
    weight, n_iter = compared["dncnn"].tv_weight, budget.solver_iterations // 2
    by_level = {
        m: [] for m in ("noisy", "DnCNN", "TV, dial left alone", "TV, dial turned")
    }
    for k in levels:
        y = x + k / 255 * e
        with torch.no_grad():
            answers = (
                y,
                s.f(y),
                solvers.tv(s.A, y, weight, n_iter=n_iter).x,
                solvers.tv(s.A, y, weight * k / 25, n_iter=n_iter).x,
            )
        for values, x_rec in zip(by_level.values(), answers):
            values.append(metrics.psnr_db(x_rec.clamp(0, 1), x).mean().item())
    display(
        figures.curves(
            levels,
            by_level,
            x_label="noise, standard deviation × 255 (trained at 25)",
            y_label="PSNR, dB",
            title="One noise level learnt, others met",
            alt="PSNR against noise level: the noisy image, DnCNN, and total "
            "variation, "
            "its weight fixed or in proportion.",
        )
    )

# %% [markdown]
# **The units.** Doubling $y$ (another detector gain, another unit) should double the answer and nothing else. FBP does so exactly
# and TV too, with $\alpha$ in the same units. A network with biases does not: FBPConvNet divides the statistics of the image out, so its
# *correction* hardly knows how bright the image is; DnCNN takes contrast that is as weak as noise for noise. The INN paper's code
# goes the whole way and maps each back-projection to $[0, 1]$, so that no brightness is left to know (exercise 2); our U-Net gets the FBP as it is.

# %%
factors = [0.25, 0.5, 0.71, 1, 1.41, 2, 4]


@torch.no_grad()
def in_units(case, c):
    """PSNR of f(c y) / c: the same scan in other units."""
    x_rec = (case.f(c * case.y[:4]) / c).clamp(0, 1)
    return metrics.psnr_db(x_rec, case.x[:4]).mean().item()


lost = {}
for s in (c.case for c in compared.values()):
    by_factor = [in_units(s, c) for c in factors]
    lost[s.title] = [value - by_factor[factors.index(1)] for value in by_factor]

# %% tags=["hide-input"]
figures.curves(
    factors,
    lost,
    x_label="c",
    y_label="PSNR of f(c y) / c, against f(y), dB",
    log_x=True,
    title="The same scan in other units",
    alt="Change of PSNR when data are multiplied by c and the answer divided by c: the "
    "networks lose away from c = 1.",
)

# %% [markdown]
# **The truth.** Ell-50 learnt from the FBP of *all* views and is tested against the phantom. A perfect pupil would answer with
# that FBP. What would it score? TV knows nothing of that ceiling.

# %% tags=["hide-input"]
if "ell-50" in names:
    s = compared["ell-50"].case
    size, n_views = s.A.image_size, training.views("ell-50", s.A.image_size)[0]
    tables, _ = training.test_images(training.task("ell-50", size), len(s.x))
    angles_deg = torch.arange(n_views, dtype=torch.float64) * 180 / n_views
    every = operators.Radon(size, angles_deg)
    y_all = data.phantoms.ellipse_sinogram(
        tables, every.angles_deg, every.n_detectors, size, bin_average=True
    )
    x_all = every.fbp(y_all).clamp(0, 1).to(s.x)
    ceiling = metrics.mean_ci(metrics.psnr_db(x_all, s.x))
    print(f"FBP of all {n_views} views: {interval(ceiling)} dB")
    for m, scores in compared["ell-50"].psnr_db.items():
        score = interval(metrics.mean_ci(scores))
        print(f"   {m} from {s.A.n_views} views: {score} dB")

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
    said = "not told apart from"
    if gain.low > 0:
        said = "better than"
    elif gain.high < 0:
        said = "worse than"
    about = f"{len(c.case.x)} {c.case.source}: {interval(gain)} dB"
    return f"{c.case.title} is {said} TV on {about}"


for c in compared.values():
    print(verdict(c))

# %% tags=["hide-input"]
med = compared.get("med-50")
if med and budget.at_least("standard") and med.gain_db("TV").mean < 0:
    report.differs(
        "FBPConvNet and total variation on realistic CT",
        theirs="the network outperforms TV-regularised reconstruction for the more "
        "realistic phantoms (Jin et al., abstract)",
        ours=verdict(med),
        reason="a smaller network, fewer and other training images, minutes of "
        "training; "
        "noiseless data of few, smooth slices",
    )

# %% [markdown]
# ## How far from the papers
#
# What ships was trained on a CPU. `profile = "paper"` trains at the scale of the papers, on a GPU, from the same recipes.

# %% tags=["hide-input"]
scale = []
for name in names:
    papers = training.recipe(name, "paper", seed)
    for label, r in (("here", recipes[name]), ("profile paper", papers)):
        scale.append(
            {
                "network": TITLES[name] if label == "here" else "",
                "": label,
                "pixels a side": r.image_size,
                "parameters": f"{count(training.build(r)):,}",
                "images shown": f"{r.steps * r.batch_size:,}",
                "optimiser": f"{r.optimiser}, {r.lr:g}, {r.schedule}",
            }
        )
figures.table(scale, caption="Our scale beside the papers' (DnCNN: patches)")

# %% [markdown]
# ## Claims

# %%
real = {name: not c.case.source.startswith("phantom") for name, c in compared.items()}
claim("no file is in two splits", not any(shared), at_least="smoke")
if not about.startswith("phantom"):
    claim(
        "a split by slice would give away more than 3 dB for memory alone",
        by_slice > by_subject + 3,
        at_least="smoke",
    )
if width >= 16 and live_steps >= 400:
    gained = history.best_db > noise_db + 4
    claim("the live denoiser gains more than 4 dB over the noisy image", gained)
claim("and began below it", before < noise_db)

# %% tags=["hide-input"]
for name, c in compared.items():
    title = c.case.title
    better = c.gain_db("input").low > 0
    claim(f"{title} improves on its input in the mean, beyond the interval", better)
    if name == "dncnn" and real[name]:
        claim("DnCNN is better than TV on photographs", c.gain_db("TV").low > 0)
    elif name != "dncnn" and profile == "standard":
        worse = c.gain_db("TV").high < 0
        claim(f"TV is better than {title}, as shipped, on noiseless CT", worse)
    if name != "dncnn":
        claim(
            f"{title} explains its measurement less well than TV",
            misfit(c, c.images["network"]) > misfit(c, c.images["TV"]),
        )
    claim(
        f"{title} is not homogeneous: other units cost it more than 0.5 dB",
        min(lost[title]) < -0.5,
    )

# %% tags=["hide-input"]
for name, c in published.items():
    if real[name]:
        ahead = (c.psnr_db["network"] - compared[name].psnr_db["network"]).mean()
        claim("the published DnCNN is better than ours", ahead > 0)
for name in again:
    claim(
        f"{TITLES[name]}: what separates it from TV is not luck of the seed",
        abs(compared[name].gain_db("TV").mean) > 3 * luck[name],
    )
if "dncnn" in names and real["dncnn"]:
    gains = [d - n for d, n in zip(by_level["DnCNN"], by_level["noisy"])]
    claim(
        "at half the noise it was trained for, DnCNN gains less than at the noise it "
        "was "
        "trained for",
        gains[1] < gains[4],
    )

# %% [markdown]
# ## Exercises
#
# **1.** How far does DnCNN look? Back-propagate from one pixel and count the input pixels that matter. Why can no such
# network undo the streaks of a CT scan, however wide?

# %% tags=["hide-cell"]
own = recipes["dncnn"].architecture["n_layers"] if "dncnn" in names else 10
for n_layers in (2, 5, own):
    random = profiles.generator(seed, "exercise")
    net = networks.DnCNN(n_layers, 4, generator=random)
    with torch.no_grad():
        for weights in net.parameters():
            weights.abs_()  # no ReLU is off and nothing cancels: every path counts
    x_in = torch.ones(1, 1, 65, 65, requires_grad=True)
    net(x_in)[0, 0, 32, 32].backward()
    seen = int((x_in.grad[0, 0, 32] != 0).sum())
    assert seen == 2 * n_layers + 1
    print(
        f"{n_layers} layers: {seen} x {seen} pixels. A streak crosses the whole image; "
        "that is why CT networks have many scales"
    )

# %% [markdown]
# **2.** The INN paper's code maps each FBP to $[0, 1]$ by its own minimum and maximum.
# Show that a network behind it cannot know how bright the patient is. How bright would it have to guess?

# %% tags=["hide-cell"]
size = training.recipe("unet-limited", profile).image_size
scan = training.task("unet-limited", size)
images, exercise_source = data.demo("ct", 9, scan.pool_size, "validate")
y, x, A = scan.measure(images, None)
u = A.pinv(y)


def unit_range(image):
    low, high = image.amin((1, 2, 3), keepdim=True), image.amax((1, 2, 3), keepdim=True)
    return (image - low) / (high - low)


assert torch.allclose(unit_range(u), unit_range(A.pinv(0.5 * y)), atol=1e-5)
# what is divided out, in units of the truth's maximum
factor = (u.amax((1, 2, 3)) - u.amin((1, 2, 3))) / x.amax((1, 2, 3))
print(
    "a patient half as bright gives the same input. What is divided out lies between "
    f"{factor.min():.2f} and {factor.max():.2f} of the true maximum on {len(x)} "
    f"{exercise_source}: streaks decide it, and a guess has to be wrong by about that"
)

# %% [markdown]
# **3.** Before any training, how far is the output of an FBPConvNet from its input, and that of a U-Net? What does that explain
# about the first points of their validation curves?

# %% tags=["hide-cell"]
start = {}
for name in ("ell-50", "unet-limited"):
    untrained = training.build(training.recipe(name, profile, seed)).eval()
    with torch.no_grad():
        start[name] = metrics.relative_error(untrained(x), x).mean().item()
assert start["ell-50"] < 0.25 < start["unet-limited"]
print(
    f"FBPConvNet changes its input by {100 * start['ell-50']:.0f} %, the U-Net by "
    f"{100 * start['unet-limited']:.0f} %: one starts from FBP, the other from nothing"
)

# %% [markdown]
# ## References
#
# DnCNN: {cite:t}`zhang2017`. The U-Net: {cite:t}`ronneberger2015`; the limited-angle one and the scheme: {cite:t}`oala2021`.
# FBPConvNet: {cite:t}`jin2017`; as Ell-50 and Med-50: {cite:t}`antun2020`. Photographs: {cite:t}`martin2001`. CT slices:
# {cite:t}`mccollough2017`.
