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
# # Dropout and mean-variance
#
# *Oala et al. 2021: MCDrop and ProbOut (Sec. 2) and their settings (Table 2).
# Fits: `python -m instab_utils.papers oala2021 fits`.*
#
# **What you will see**
# - Two cheap ways to get an error bar for every pixel. *MC dropout* runs one network many times, each time with parts of it switched
#   off, and takes the disagreement. *Mean-variance* gives the network a second output and lets it learn how large its errors are.
# - How many times one has to ask, and a detail that decides what a *change* of such a map means: whether the same parts are
#   switched off before and after.
# - A loss that is printed in one form, coded in another and derived in a third, and what each of them makes of the error bars. Then
#   both methods against the error that they are meant to estimate.
#
# **Needs** [trained networks](03_training_denoisers_and_post_processors). Measured minutes and memory per profile:
# [status](../book/status.md). Whether these maps raise an alarm when a reconstruction fails is a chapter of its own.

# %% tags=["parameters"]
# smoke: seconds, proves that it runs · standard: shipped weights · paper: on a GPU
profile = "standard"
seed = 0  # of the networks and of every random draw of this chapter
task = "denoising"  # denoising: DnCNN · ct_limited: the limited-angle U-Net
n_passes = 128  # the paper has 128 for denoising and 16 for CT (smoke: 8 at most)
penalty = (
    1.0  # weight of the log variance in the shipped network's loss; authors' code: 3
)

# %% tags=["remove-cell"]
from instab_utils import profiles

profiles.check_parameters(In, choices={"task": ("denoising", "ct_limited")})

# %%
import time

import torch

from instab_utils import data, figures, metrics, report, store, training, widgets
from instab_utils.networks import layers
from instab_utils.uncertainty import Prediction, detection, dropout, fits
from instab_utils.uncertainty import null_detectors, probout

# %%
budget = profiles.get(profile)
claim = report.claims(profile)
standard = budget.at_least("standard")
name = {"denoising": "dncnn", "ct_limited": "unet-limited"}[task]
title = training.TITLES[name]
T = n_passes if standard else min(n_passes, 8)
print(f"profile {profile}, data: {data.situation()}; network: {title}, {T} passes")

# %%
recipe = training.recipe(name, profile, seed)
net = store.load_or_train(recipe, progress=False).network
what = training.task(name, 180 if name == "dncnn" else recipe.image_size)
source = training.test_images(what, 1)[1]
lossless = not source.startswith("AAPM")  # may be printed, not redistributed
small = 48 if name == "dncnn" and not standard else None
x_in, x = fits.inputs(recipe, 2 * budget.n_images, "test", image_size=small)
side = 96 if task == "denoising" else x.shape[-1]
spot, spot_x = x_in[:1, :, :side, :side], x[:1, :, :side, :side]  # for many passes
with torch.no_grad():
    f_x, f_spot = net(x_in), net(spot)
print(f"tested on {len(x)} {source}, {x.shape[-1]} pixels a side")

# %% [markdown]
# ## A network that disagrees with itself
#
# **Dropout** {cite:p}`srivastava2014` switches off a random share of a layer's values while a network *trains*, so that no value can be relied on alone, and
# scales up the rest. In use it is off.
#
# **MC dropout** {cite:p}`gal2016` leaves it on in use. Each of $T$ passes draws new **masks** (the set that is off), so each answers a little differently, $f_1(x), \dots, f_T(x)$. The reconstruction
# stays that of the whole network; the disagreement is the uncertainty,
#
# $$ u(x) = \frac{1}{T-1} \sum_{t=1}^T \Big( f_t(x) - \frac1T \sum_{\tau=1}^T f_\tau(x) \Big)^2 . $$
#
# By hand: a layer that drops, in the place of every dropout layer of the network, and the formula.


# %%
def drop(layer, inputs, output):
    """Dropout as in training: x keep / (1 - p), keep ~ Bernoulli(1 - p)."""
    keep = torch.rand(output.shape, generator=draw) >= layer.fraction
    return output * keep.to(output.device) / (1 - layer.fraction)


draw = profiles.generator(seed, "masks by hand")
dropouts = [layer for layer in net.modules() if isinstance(layer, layers.Dropout)]
hooks = [layer.register_forward_hook(drop) for layer in dropouts]
with torch.no_grad():
    f_t = torch.cat([net(spot) for _ in range(8)])
for hook in hooks:
    hook.remove()
u_by_hand = (f_t - f_t.mean(0)).square().sum(0) / (len(f_t) - 1)

# %% [markdown]
# `MCDropout` does the same in batches, and can repeat its masks. Its maps of two independent draws of $T$ passes, A and B, are used below.

# %%
masks, passes = {}, {}
for name_of_draw in "AB":
    generator = profiles.generator(seed, f"masks {name_of_draw}")
    masks[name_of_draw] = dropout.MCDropout(net, T, generator)
    passes[name_of_draw] = masks[name_of_draw].passes(spot)[:, 0]  # f_1(x), ..., f_T(x)
agreement = metrics.pearson(u_by_hand[None], passes["A"].var(0)[None, None]).item()
print(f"8 passes by hand beside {T}: correlation of the two maps {agreement:.2f}")

# %% tags=["hide-input"]
one = passes["A"][:1][None]
average, std = passes["A"].mean(0)[None, None], passes["A"].std(0)[None, None]
SCALE, FAINT = 4, 12  # brightness of errors, and of the fainter effect of dropout
pictures = {"the whole network": f_spot, "one pass": one, "mean of the passes": average}
db = {key: metrics.psnr_db(image, spot_x).item() for key, image in pictures.items()}
error_spot = (f_spot - spot_x).abs()
figures.panels(
    [spot, f_spot, one, FAINT * (one - f_spot).abs(), FAINT * std, SCALE * error_spot],
    [
        "input",
        "the whole network",
        "one pass",
        f"|pass − whole| × {FAINT}",
        f"std of {T} passes × {FAINT}",
        f"|error| × {SCALE}",
    ],
    captions=[
        "",
        *(f"{db[k]:.1f} dB" for k in ("the whole network", "one pass")),
        "",
        f"mean {std.mean():.4f}",
        f"mean {error_spot.mean():.4f}",
    ],
    window=(0, 1),
    columns=3,
    lossless=lossless,
    alt="Input, the network's answer, one pass with dropout, what dropout changed, the "
    "standard deviation of all passes, the error.",
)

# %%
print(
    f"dropout {recipe.architecture['dropout']:g} of the values; "
    + ", ".join(f"{k} {v:.2f} dB" for k, v in db.items())
)
print(
    f"mean standard deviation {std.mean():.4f}, "
    f"root mean square error {(f_spot - spot_x).square().mean().sqrt():.4f}"
)

# %% [markdown]
# The *size* of the disagreement follows from the dropout rate, a choice made for training: with twice the rate $u$ grows, though the
# network has not become worse. Its *pattern* may carry information; a section further down tests that. First, how precisely is $u$ known?
#
# ## How many passes?
#
# A variance from $T$ samples is itself random. For Gaussian samples its relative error is $\sqrt{2 / (T - 1)}$. With
# independent masks A and B, the correlation of the two maps is below 1 because of this sampling noise. The prediction uses this formula, and from the two maps
# themselves how much $u$ truly varies over the image.

# %%
counts = [t for t in (2, 4, 8, 16, 32, 64, 128, 256, 512) if t <= T]


def u(samples, t):
    """Variance of the first t passes, as a batch of one map."""
    return samples[:t].var(0)[None, None]


# %%
a, b = u(passes["A"], T), u(passes["B"], T)
true_spread = ((a - a.mean()) * (b - b.mean())).mean()
true_square = (a * b).mean()
agree, predicted = [], []
for t in counts:
    agree.append(metrics.pearson(u(passes["A"], t), u(passes["B"], t)).item())
    sampling = 2 * true_square / (t - 1)
    predicted.append((true_spread / (true_spread + sampling)).item())

# %% tags=["hide-input"]
figures.curves(
    counts,
    {"two draws of the masks": agree, "predicted": predicted},
    x_label="passes T",
    y_label="correlation of the two maps",
    log_x=True,
    y_range=(0, 1),
    height=340,
    title="Two independent maps of the same image",
    alt="Correlation of two independently drawn variance maps against the number of "
    "passes: rising from low values towards one.",
)

# %% [markdown]
# ## The same masks or fresh ones?
#
# To use $u$ as an alarm, the INN paper compares it before and after a change of the input, $|u(x') - u(x)|$. Are the masks the same both
# times? The paper does not say; code that simply calls the network again takes fresh ones. With fresh masks the difference of two maps is not zero
# even for $x' = x$. Its noise is about $\sqrt{4 / (T - 1)}$ of $u$ itself, and hides a small change. In the figure a square of the input
# has additional noise; compare the alarms inside and outside it.

# %%
SIGMA = 25 / 255  # of the noise that DnCNN was trained for
start, end = side // 3, side // 3 + side // 4
where = torch.zeros_like(spot, dtype=torch.bool)
where[..., start:end, start:end] = True
generator = profiles.generator(seed, "extra noise")
extra = SIGMA * torch.randn(spot.shape, generator=generator).to(spot)
changed = torch.where(where, spot + extra, spot)
changed = changed.clamp(0, 1) if task == "denoising" else changed
after = {draw: m.passes(changed)[:, 0] for draw, m in masks.items()}
with torch.no_grad():
    moved = (net(changed) - f_spot).abs()

# %%
PAIRS = {"same masks": ["AA", "BB"], "fresh masks": ["AB", "BA"]}  # before, after


def alarms(how, t):
    """|u(x') - u(x)| from t passes, for both pairs of draws."""
    return [(u(after[b], t) - u(passes[a], t)).abs() for a, b in PAIRS[how]]


# %% tags=["hide-input"]
pictures = {
    "input, changed": changed,
    "change of f": moved / moved.amax().clamp_min(1e-12),
}
for how in PAIRS:
    for t in (counts[len(counts) // 2], T):
        map_ = alarms(how, t)[0]
        brightest = map_.flatten().quantile(0.995).clamp_min(1e-12)
        pictures[f"{how}, T = {t}"] = map_ / brightest
figures.panels(
    list(pictures.values()),
    list(pictures),
    window=(0, 1),
    columns=3,
    lossless=lossless,
    caption="Alarms |u(x') − u(x)|, each map with its own brightness.",
    alt="A changed input, the change of the reconstruction, and alarms with the same "
    "and with fresh masks, few and many passes: with the same masks only the square is "
    "bright, with fresh ones the whole image is.",
)

# %%
outside_u = u(passes["A"], T)[~where].mean()
follows = {how: [] for how in PAIRS}
outside = {how: [] for how in PAIRS}
for how in PAIRS:
    for t in counts:
        maps = alarms(how, t)
        r = [metrics.pearson(m, moved).item() for m in maps]
        follows[how].append(sum(r) / 2)
        off = [(m[~where].mean() / outside_u).item() for m in maps]
        outside[how].append(sum(off) / 2)

# %% tags=["hide-input"]
display(
    figures.curves(
        counts,
        follows,
        x_label="passes T",
        y_label="correlation of the alarm with the change of f",
        log_x=True,
        height=340,
        title="Does the alarm follow what happened?",
        alt="Correlation of the alarm with the change of the reconstruction against "
        "passes: flat with the same masks, rising from near zero with fresh masks.",
    )
)
quiet = {f"{how}, alarm where nothing changed": outside[how] for how in PAIRS}
correlation = {f"{how}, correlation": follows[how] for how in PAIRS}
figures.table(
    [
        {"T": t, **{head: values[k] for head, values in (quiet | correlation).items()}}
        for k, t in enumerate(counts)
    ],
    caption="Alarm outside the changed square, in units of the mean u there; "
    "correlation of alarm and change",
)

# %% [markdown]
# A dozen passes with the same masks follow the change better than all passes with fresh ones. So a low score of MC dropout as a *detector*
# can be due to sampling rather than to dropout. Where [detectors are compared](09_uncertainty_as_an_alarm), MC dropout has to be listed twice.
#
# ## Variance or standard deviation? And the price
#
# The paper defines $u$ as the variance; one of its authors' scripts takes the root. The order of pixels is the same, a correlation is not: with squares a
# few bright pixels dominate. The next cell has both correlations with the error of the reconstruction on the test images, and the time of a pass.

# %%
n_test = min(T, 32)
estimator = dropout.MCDropout(net, n_test, profiles.generator(seed, "masks test"))
started = time.perf_counter()
by_dropout = estimator.predict(x_in)
per_pass = (time.perf_counter() - started) / len(x_in) / (n_test + 1)
started = time.perf_counter()
with torch.no_grad():
    for image in x_in.split(1):
        net(image)
plain = (time.perf_counter() - started) / len(x_in)

# %%
error = (f_x - x).abs()
forms = {"variance": by_dropout.spread, "standard deviation": by_dropout.spread.sqrt()}
corr = {k: metrics.mean_ci(metrics.pearson(u, error)) for k, u in forms.items()}
for form, r in corr.items():
    interval = f"{r.mean:.2f} [{r.low:.2f}, {r.high:.2f}]"
    print(f"correlation of the {form} with |error|: {interval} on {len(x)} {source}")
print(
    f"{1000 * per_pass:.0f} ms a pass, {per_pass / plain:.1f} times a plain one: "
    f"{n_test} passes cost {n_test * per_pass / plain:.0f} reconstructions"
)

# %% [markdown]
# ## A network that predicts its own error
#
# The second method {cite:p}`nix1994` lets the network predict its error. A second output $s(x)$ has the input of the last layer, and is the *logarithm of the variance* of
# the first, so that any number is allowed. Its loss follows from a likelihood: if errors are Gaussian with variance $e^s$, the negative
# logarithm of their probability is, up to factors and constants,
#
# $$ L = \operatorname{mean} \; (x - f)^2 \, e^{-s} + \lambda s , \qquad \lambda = 1 . $$
#
# The first term wants large variances, the second small ones. Over pixels that share an $s$, $L$ is least at $e^s = \operatorname{mean} (x - f)^2 / \lambda$: **the variance becomes
# the mean squared error**, without labels of difficult pixels. Two other forms are in circulation. The paper *prints* $|s|$ in the place of $s$; its
# authors' *code* has $\lambda = 3$. The figure has all three for a squared error of the size we have here.


# %%
def mean_variance_loss(mean, s, x, form="derived", penalty=1.0):
    penalised = s.abs() if form == "printed" else s
    return ((x - mean).square() * torch.exp(-s) + penalty * penalised).mean()


FORMS = {
    "derived": ("derived", 1.0),
    "as in the code, λ = 3": ("derived", 3.0),
    "as printed, |s|": ("printed", 1.0),
}

# %%
square = error.square().mean().item()
grid = torch.linspace(-9, 2, 111, dtype=torch.float64)
typical = torch.tensor(square**0.5, dtype=torch.float64)
zero = torch.zeros_like(typical)
losses, lowest = {}, {}
for label, how in FORMS.items():
    losses[label] = [mean_variance_loss(zero, s, typical, *how).item() for s in grid]
    lowest[label] = grid[torch.tensor(losses[label]).argmin()].item()
    package = [probout.mean_variance_loss(zero, s, typical, *how).item() for s in grid]
    assert package == losses[label]

# %% tags=["hide-input"]
display(
    figures.curves(
        grid,
        losses,
        x_label="s, logarithm of the variance",
        y_label="loss",
        markers=False,
        y_range=(-25, 15),
        height=360,
        title="Three losses",
        alt="Loss against s for three forms: the derived one is least at the squared "
        "error, the code's at a third of it, the printed one at zero.",
    )
)
for label, s in lowest.items():
    print(
        f"{label}: least at s = {s:.1f}, a variance of {torch.tensor(s).exp():.4f}; "
        f"the squared error is {square:.4f}"
    )

# %% [markdown]
# The printed form has its minimum at $s = 0$, a standard deviation of **1, the whole grey scale**, for every error below 1: $|s|$ falls
# towards zero from either side. It is probably a misprint, since the authors' code does not have it.
#
# A live training shows the same. The trained network stays as it is; only its second output, one small layer, learns from validation images, with each
# of the three losses.

# %%
n_learn = 8 if standard else 2
pixels = (64 if standard else 32) if name == "dncnn" else None
learn_in, learn_x = fits.inputs(recipe, n_learn, "validate", image_size=pixels)


@torch.enable_grad()
def second_output(form, weight):
    """The network with a second output of random weights, trained alone; its losses."""
    generator = profiles.generator(seed, "second output")
    model = probout.MeanVariance.from_network(net, generator=generator)
    mean, features = (t.detach() for t in model.with_features(learn_in))
    path = descent(model.variance, mean, features, form, weight)
    return model.requires_grad_(False), path


# %%
def descent(output, mean, features, form, weight, steps=200 if standard else 20):
    optimiser = torch.optim.Adam(output.parameters(), 0.1)
    path = []
    for _ in range(steps):
        loss = mean_variance_loss(mean, output(features), learn_x, form, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        path.append(loss.item())
    return path


# %%
live = {label: second_output(*how) for label, how in FORMS.items()}
answers = {label: model.predict(x_in) for label, (model, _) in live.items()}
new_output = live["derived"][0].variance
n_new = sum(w.numel() for w in new_output.parameters())
for label, (_, path) in live.items():
    losses_at = f"loss {path[0]:.2f} → {path[-1]:.2f}"
    print(f"{label}: {n_new} weights, {len(path)} steps, {losses_at}")

# %% [markdown]
# If these error bars are right, $z^2 = (x - f)^2 / \text{variance}$ is 1 in the mean, $f \pm 1.96\,$std
# holds the truth in 95 of 100 pixels, and the bars are long where the error is.


# %%
def bars(prediction):
    """Scores of a Gaussian error bar, as means over the test images."""
    scores = detection.calibration(prediction, x)
    variance = ((prediction.upper - prediction.mean) / 1.96).square()
    z2 = (prediction.mean - x).square() / variance.clamp_min(1e-12)
    return {
        "mean std": variance.sqrt().mean().item(),
        "mean z²": z2.mean().item(),
        "coverage of 95 %": scores["coverage"].mean().item(),
        "correlation with |error|": scores["corr_error"].mean().item(),
        "Winkler, 95 %": scores["interval_score"].mean().item(),
    }


# %%
live_scores = {label: bars(p) for label, p in answers.items()}
figures.table(
    [{"loss": label, **row} for label, row in live_scores.items()],
    caption=f"Second outputs trained live, on {len(x)} {source}. "
    f"Root mean square error {square**0.5:.4f}",
)

# %% [markdown]
# The factor 3 makes all error bars shorter by $\sqrt 3$ and changes nothing else; the correlation of the *map* does
# not depend on it. The printed form makes bars that cover everything and carry no information.
#
# ## The shipped network: all layers learn
#
# In the paper the whole network is trained with the new loss, not only the new output. That is allowed to move the reconstruction, too: where the network declares
# a large variance, errors count less.

# %%
spec = fits.fit_recipe("probout", name, seed, profile, penalty=penalty)
trained = store.load_or_train(spec, progress=False)
model, card = trained.network, trained.card
by_variance = model.predict(x_in)
gain = metrics.mean_ci(metrics.psnr_db(by_variance.mean, x) - metrics.psnr_db(f_x, x))
print(
    f"{card['steps']} steps of {spec.batch_size} images, "
    f"{card['seconds'] / 60:.1f} minutes on {card['device']}; "
    f"learnt from {card['data']}\n"
    f"reconstruction: {gain.mean:+.2f} dB [{gain.low:+.2f}, {gain.high:+.2f}] against "
    "the network that it started from"
)

# %%
METHODS = {
    "MC dropout": by_dropout,
    "second output alone, live": answers["derived"],
    "mean-variance, all layers": by_variance,
}
scores = {label: bars(p) for label, p in METHODS.items()}
figures.table(
    [{"": label, **row} for label, row in scores.items()],
    caption=f"Error bars on {len(x)} {source}; smaller is better for Winkler's score",
)

# %% [markdown]
# ## Are the bars calibrated?
#
# A bar of level $p$ should contain the truth in a share $p$ of the pixels, for every $p$. A curve below the diagonal means bars that are too
# short: the method is overconfident.

# %%
levels = torch.linspace(0.1, 0.95, 18, dtype=torch.float64)
normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)


def held(prediction):
    """Share of pixels whose truth is inside the bar, for every level."""
    std = (prediction.upper - prediction.mean) / 1.96
    z = (prediction.mean - x).abs() / std.clamp_min(1e-6)
    return [(z <= normal.icdf((1 + p) / 2)).double().mean().item() for p in levels]


reliability = {label: held(p) for label, p in METHODS.items()}

# %% tags=["hide-input"]
figures.curves(
    levels,
    {"calibrated": levels.tolist(), **reliability},
    x_label="level that the bar claims",
    y_label="share of pixels inside",
    markers=False,
    y_range=(0, 1),
    title="Claimed and held",
    alt="Share of pixels inside the error bar against its claimed level, for each "
    "method, beside the diagonal.",
)

# %% [markdown]
# A second output has *learnt* the size of errors, and is calibrated on images like those that it has learnt from. (The live one learnt from images of the kind that it is tested on, the shipped one
# from the network's training images; where these are harder, its bars are too long.) MC dropout was never fitted to errors; the
# dropout rate sets the length of its bars. One factor corrects the length (exercise 3). No factor corrects the pattern.
#
# ## What does the pattern follow?
#
# No map can have a correlation of 1 with $|$error$|$ of single pixels, because the error of a single pixel is random; so the table has the error averaged over 7 x 7 pixels, too. Beside it stands
# the quantity that the network *computes*: DnCNN the noise $f(x) - x$ that it removes, the U-Net the image. The last row is a control without uncertainty: the local variation of the reconstruction.

# %%
computed = {
    "denoising": ("the noise taken away", (f_x - x_in).abs()),
    "ct_limited": ("the image", f_x.abs()),
}[task]
error_near = detection.averaged(error.square()).sqrt()
TARGETS = {"|error|": error, "error, 7 x 7": error_near, computed[0]: computed[1]}
maps = {label: (p.upper - p.mean) / 1.96 for label, p in METHODS.items()}
control = null_detectors.NullDetector("variance", net).predict(x_in)
maps["control: local variation of f(x)"] = control.spread.sqrt()
follow = {label: {} for label in maps}
for label, m in maps.items():
    for target, v in TARGETS.items():
        follow[label][target] = metrics.mean_ci(metrics.pearson(m, v))

# %% tags=["hide-input"]
listed = []
for label, row in follow.items():
    cells = {t: f"{r.mean:.2f} [{r.low:.2f}, {r.high:.2f}]" for t, r in row.items()}
    listed.append({"standard deviation of": label, **cells})
display(figures.table(listed, caption=f"Correlations on {len(x)} {source}"))
of_control = metrics.pearson(maps["control: local variation of f(x)"], error)
of_variance = metrics.pearson(maps["mean-variance, all layers"], error)
ahead = metrics.mean_ci(of_variance - of_control)
print(
    f"mean-variance is ahead of the control by {ahead.mean:.2f} "
    f"[{ahead.low:.2f}, {ahead.high:.2f}] in the first column, image by image"
)

# %% [markdown]
# Dropout perturbs activations in proportion to their size (exercise 1 has the formula), so **its map mainly mirrors the output that the network computes**. A denoiser computes noise: where it removes much, the passes
# disagree much, right or wrong. The U-Net computes the image: bright places disagree. The pictures show both.
#
# ## Image by image
#
# The error and the bars of mean-variance have the same scale; those of MC dropout are shown brighter.

# %% tags=["hide-input"]
if lossless:
    shown_in, shown_x, shown_source = x_in, x, source
else:  # sliders show phantoms, through the same scan
    generator = profiles.generator(seed, "sliders")
    ellipses = data.phantoms.random_ellipses(len(x), what.pool_size, generator)[0]
    y, shown_x, _ = what.measure(ellipses, None)
    shown_in, shown_source = what.A.pinv(y), "phantoms of ellipses"


def look(image, truth, drop, lossless=True):
    """Reconstruction, error, and the standard deviations of both methods."""
    off = (drop.mean - truth).abs()
    stds = drop.spread.sqrt(), model.predict(image).spread.sqrt()
    r = [metrics.pearson(std, off).item() for std in stds]
    notes = [f"mean {std.mean():.3f}, r = {r:.2f}" for std, r in zip(stds, r)]
    return figures.panels(
        [image, drop.mean, SCALE * off, FAINT * stds[0], SCALE * stds[1]],
        [
            "input",
            "reconstruction",
            f"|error| × {SCALE}",
            f"std, MC dropout × {FAINT}",
            f"std, mean-variance × {SCALE}",
        ],
        captions=["", "", f"mean {off.mean():.3f}", *notes],
        lossless=lossless,
        window=(0, 1),
        columns=3,
        alt="Input, reconstruction, absolute error, and the standard deviation of MC "
        "dropout and of the mean-variance network.",
    )


shown = by_dropout if lossless else estimator.predict(shown_in)
pick = [slice(i, i + 1) for i in range(min(len(shown_x), 6))]
widgets.explore(
    [look(shown_in[i], shown_x[i], Prediction(*(t[i] for t in shown))) for i in pick],
    [str(i.stop) for i in pick],
    name=shown_source,
)

# %%
if not lossless:
    first = Prediction(*(t[:1] for t in by_dropout))
    display(look(x_in[:1], x[:1], first, lossless=False))
stds = by_dropout.spread.sqrt(), by_variance.spread.sqrt()
between = metrics.mean_ci(metrics.pearson(*stds))
print(
    f"the two maps correlate with each other by {between.mean:.2f} "
    f"[{between.low:.2f}, {between.high:.2f}], {len(x)} {source}"
)

# %% [markdown]
# The number above says how much the maps of the two methods have in common. Neither is computed from the error of *this* image; at best a map shows where images are difficult in general. And a bar that was learnt in training describes
# errors *in training*. The figure shows both methods with other noise than there.

# %%
LEVELS = [5, 15, 25, 35, 50]  # standard deviation × 255
if task == "ct_limited":
    LEVELS = [0.0, 0.5, 1.0, 2.0, 4.0]  # % of the sinogram's maximum
few = x[:2] if name != "dncnn" else x[:2, :, :64, :64]
scan = what if name != "dncnn" else training.task(name, few.shape[-1])
y = few if task == "denoising" else scan.A(few)
unit = SIGMA / 25 if task == "denoising" else y.amax().item() / 100
draw = profiles.generator(seed, "other noise levels")
noise = unit * torch.randn(y.shape, generator=draw).to(y)
quick = dropout.MCDropout(net, min(T, 16), profiles.generator(seed, "masks noise"))

# %%
grown = {"root mean square error": [], "std, MC dropout": [], "std, mean-variance": []}
for level in LEVELS:
    noisy = fits.network_input(task, scan.A, y + level * noise)
    drop, var = quick.predict(noisy), model.predict(noisy)
    rmse = (drop.mean - few).square().mean().sqrt()
    stds = drop.spread.sqrt().mean(), var.spread.sqrt().mean()
    for key, value in zip(grown, (rmse, *stds)):
        grown[key].append(value.item())

# %% tags=["hide-input"]
axis = {
    "denoising": "noise, standard deviation × 255 (trained at 25)",
    "ct_limited": "noise, % of the sinogram's maximum (trained at 0)",
}[task]
figures.curves(
    LEVELS,
    grown,
    x_label=axis,
    y_label="grey values",
    title=f"{title}, other noise: error and error bars",
    height=360,
    alt="Root mean square error and the mean standard deviations of both methods "
    "against the noise of the measurement.",
)

# %% [markdown]
# ## Plainly
#
# - **MC dropout** costs no training, and $T$ reconstructions in use. The magnitude of the variance is set by the dropout rate; its spatial pattern mainly mirrors the network's activations.
#   Never compare two of its maps with different masks.
# - **Mean-variance** costs a training and hardly anything in use. Its variance is a regression like any other: right on average for images like those it has learnt from; as
#   wrong as any other regression where the input is new.
# - In the terms of {cite:t}`kendall2017`: mean-variance estimates the uncertainty of the *data*, dropout that of the *weights*. An estimate of both is their sum.
# - Derive the loss yourself; do not copy the printed formula: one sign made the variance meaningless, one factor made it three times too small.
#
# ## Claims

# %%
claim(
    "outside the changed square u changes less with the same masks than with fresh",
    outside["same masks"][-1] < outside["fresh masks"][-1],
    at_least="smoke",
)
claim(
    "the printed loss is least at a variance of 1, whatever the error",
    abs(lowest["as printed, |s|"]) < 0.06,
    at_least="smoke",
)

# %%
optimum = {label: torch.tensor(s).exp() / square for label, s in lowest.items()}
claim(
    "the derived loss is least at the squared error, the code's at a third of it",
    abs(optimum["derived"] - 1) < 0.06
    and abs(optimum["as in the code, λ = 3"] * 3.0 - 1) < 0.06,
    at_least="smoke",
)

# %%
same, fresh = follows["same masks"], follows["fresh masks"]
if T >= 64:
    claim(
        "two draws of the masks agree as the formula says, within 0.1",
        all(abs(p - q) < 0.1 for p, q in zip(agree[2:], predicted[2:])),
    )
    claim(
        "16 passes with the same masks follow the change better than all passes with "
        "fresh ones",
        same[counts.index(16)] > fresh[-1] + 0.05,
    )
worse = db["one pass"] < db["the whole network"]
claim("one pass is worse than the whole network", worse)

# %%
ours, threefold, printed = (live_scores[label] for label in FORMS)
claim(
    "live: the derived loss gives variances of the right size",
    0.7 < ours["mean z²"] < 1.5,
)
r = "correlation with |error|"
claim(
    "live: factor 3 gives variances a third of that, and the same map",
    2.6 < threefold["mean z²"] / ours["mean z²"] < 3.4
    and abs(threefold[r] - ours[r]) < 0.05,
)
whole_scale = printed["mean std"] > 0.5
claim("live: the printed loss gives bars as wide as the grey scale", whole_scale)

# %%
of_dropout = follow["MC dropout"]
if penalty == 1 and task == "denoising":
    claim(
        "mean-variance: 95 % bars hold between 90 and 99 % of the pixels",
        0.90 < scores["mean-variance, all layers"]["coverage of 95 %"] < 0.99,
    )
claim(
    "MC dropout: 95 % bars hold less than 90 %",
    scores["MC dropout"]["coverage of 95 %"] < 0.90,
)
claim(
    "MC dropout's map follows what the network computes more than the error",
    of_dropout[computed[0]].low > of_dropout["|error|"].high,
)

# %%
of_second = follow["mean-variance, all layers"]
if task == "denoising":
    claim(
        "the map of a second output follows the error, MC dropout's hardly does",
        of_dropout["|error|"].high < 0.1 < of_second["|error|"].low,
    )
    times = {key: values[-1] / values[2] for key, values in grown.items()}
    claim(
        "at twice the noise the error more than doubles, the bars of both methods do "
        "not",
        times["root mean square error"] > 2
        and times["std, MC dropout"] < 1.8
        and times["std, mean-variance"] < 1.8,
    )

# %% [markdown]
# ## Exercises
#
# **1.** Put dropout of fraction $p$ in front of *one* linear layer, $z = \sum_k w_k x_k$. What is the variance of $z$ over the masks? Check it with
# `MCDropout`. Where is $u$ large, and why is MC dropout's map of a denoiser a map of noise?

# %% tags=["hide-cell"]
p = 0.2
linear = torch.nn.Conv2d(6, 1, 1, bias=False)
with torch.no_grad():
    linear.weight.copy_(
        torch.randn(1, 6, 1, 1, generator=profiles.generator(seed, "exercise 1"))
    )
values = torch.rand(
    1, 6, 20, 20, generator=profiles.generator(seed, "exercise 1 values")
)
toy = torch.nn.Sequential(layers.Dropout(p), linear).requires_grad_(False).eval()
toy_masks = profiles.generator(seed, "exercise 1 masks")
u_toy = dropout.MCDropout(toy, 2000, toy_masks, batch=200).predict(values).spread
squares = (linear.weight.square() * values.square()).sum(1, keepdim=True)
by_hand = p / (1 - p) * squares
assert abs((u_toy / by_hand).mean().item() - 1) < 0.02
print(
    "p / (1 - p) sum of (w x)^2: u is large where many values are large, right or "
    "wrong. It grows with p, for the same network"
)

# %% [markdown]
# **2.** A network was trained with $\lambda = 3$. Correct its error bars without training.

# %% tags=["hide-cell"]
short = live["as in the code, λ = 3"][0]
before = bars(short.predict(x_in))
short.variance.bias += torch.tensor(
    3.0
).log()  # s + log 3: every variance three times as large
repaired = bars(short.predict(x_in))
assert abs(repaired["mean z²"] * 3 / before["mean z²"] - 1) < 0.01
assert abs(repaired[r] - before[r]) < 1e-4
print(
    f"add log 3 to the bias: mean z² {before['mean z²']:.2f} → "
    f"{repaired['mean z²']:.2f}; the pattern stays as it was"
)

# %% [markdown]
# **3.** Give MC dropout's bars the right length by one factor, found on *validation* images. Does it hold on test images? What does it not correct?

# %% tags=["hide-cell"]
check = estimator.predict(learn_in)
factor = ((check.mean - learn_x).square().mean() / check.spread.mean()).sqrt().item()
half = factor * (by_dropout.upper - by_dropout.mean)
longer = by_dropout._replace(lower=by_dropout.mean - half, upper=by_dropout.mean + half)
old, new = scores["MC dropout"], bars(longer)
assert new[r] == old[r]
if standard:
    assert new["coverage of 95 %"] > old["coverage of 95 %"]
covered = f"{old['coverage of 95 %']:.2f} → {new['coverage of 95 %']:.2f}"
print(
    f"times {factor:.1f}: coverage {covered}, Winkler's score "
    f"{old['Winkler, 95 %']:.3f} → {new['Winkler, 95 %']:.3f}. Bars are still long and "
    "short in the wrong places: the correlation with |error| has not moved"
)

# %% [markdown]
# ## References
#
# Dropout: {cite:t}`srivastava2014`; in use: {cite:t}`gal2016`. Mean and variance: {cite:t}`nix1994`; both together: {cite:t}`kendall2017`.
# Both beside interval networks: {cite:t}`oala2021`. The denoiser: {cite:t}`zhang2017`; the U-Net: {cite:t}`ronneberger2015`.
